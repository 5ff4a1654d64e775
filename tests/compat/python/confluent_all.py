"""confluent-kafka: produce with delivery reports, consume by assignment, the admin client.

usage: confluent_all.py HOST:PORT
"""
import sys
import time

from confluent_kafka import Consumer, KafkaException, OFFSET_BEGINNING, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec

address = sys.argv[1]
admin = AdminClient({'bootstrap.servers': address})


def eventually(what, condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(what)


new = NewTopic('confluent', num_partitions=3, replication_factor=1, config={'segment.bytes': '1048576'})
admin.create_topics([new])['confluent'].result(60)
try:
    admin.create_topics([new])['confluent'].result(60)
    raise AssertionError('a topic is made twice')
except KafkaException as error:
    assert error.args[0].name() == 'TOPIC_ALREADY_EXISTS', error
eventually('three partitions', lambda: len(admin.list_topics('confluent').topics['confluent'].partitions) == 3)

delivered = []


def on_delivery(error, message):
    assert error is None, error
    delivered.append((message.partition(), message.offset(), message.value()))


producer = Producer({'bootstrap.servers': address, 'enable.idempotence': True, 'compression.type': 'lz4'})
for i in range(3000):
    key, value, headers = b'%d' % (i % 7), b'value %d' % i, {'i': b'%d' % i}
    producer.produce('confluent', key=key, value=value, headers=headers, on_delivery=on_delivery)
    producer.poll(0)
assert producer.flush(120) == 0
assert len(delivered) == 3000

settings = {'bootstrap.servers': address, 'group.id': 'unused', 'enable.auto.commit': False, 'check.crcs': True}
consumer = Consumer(settings)
consumer.assign([TopicPartition('confluent', partition, OFFSET_BEGINNING) for partition in range(3)])
got = []
while len(got) < 3000:
    message = consumer.poll(120)
    assert message is not None, 'nothing comes'
    assert message.error() is None, message.error()
    got.append((message.partition(), message.offset(), message.value()))
assert sorted(got) == sorted(delivered)
for partition in range(3):
    low, high = consumer.get_watermark_offsets(TopicPartition('confluent', partition), timeout=60)
    assert (low, high) == (0, sum(1 for found in got if found[0] == partition))
consumer.close()

resource = ConfigResource(ConfigResource.Type.TOPIC, 'confluent')
configs = admin.describe_configs([resource])[resource].result(60)
assert configs['segment.bytes'].value == '1048576', configs['segment.bytes']
assert configs['segment.bytes'].is_default is False and configs['cleanup.policy'].is_default is True
latest = admin.list_offsets({TopicPartition('confluent', 0): OffsetSpec.latest()})
assert all(future.result(60).offset == sum(1 for found in got if found[0] == 0) for future in latest.values())
described = admin.describe_cluster().result(60)
assert len(described.nodes) == 1 and described.cluster_id, described
admin.create_partitions([NewPartitions('confluent', 5)])['confluent'].result(60)
eventually('five partitions', lambda: len(admin.list_topics('confluent').topics['confluent'].partitions) == 5)
admin.delete_topics(['confluent'])['confluent'].result(60)
eventually('the topic is gone', lambda: 'confluent' not in admin.list_topics().topics)
print('ok')
