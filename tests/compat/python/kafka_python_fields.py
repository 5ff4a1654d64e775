"""Keys, headers, timestamps, codecs, positions and look-ups by time through kafka-python.

usage: kafka_python_fields.py HOST:PORT TOPIC CODEC…   (the topic is there and has one partition)
"""
import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

address, topic, codecs = sys.argv[1], sys.argv[2], sys.argv[3:]
partition = TopicPartition(topic, 0)
sent = []
for codec in codecs:
    producer = KafkaProducer(
        bootstrap_servers=address, acks='all', linger_ms=20, compression_type=None if codec == 'none' else codec
    )
    futures = []
    for i in range(200):
        value = b'%s %d ' % (codec.encode(), i) + b'x' * (i % 50)
        timestamp = 1_000_000 + len(sent) * 10
        headers = [('codec', codec.encode()), ('i', b'%d' % i)]
        sent.append((b'key%d' % i, value, headers, timestamp))
        futures.append(producer.send(topic, key=b'key%d' % i, value=value, headers=headers, timestamp_ms=timestamp))
    producer.flush()
    offsets = [future.get(timeout=60).offset for future in futures]
    assert offsets == list(range(len(sent) - 200, len(sent))), offsets
    producer.close()

consumer = KafkaConsumer(bootstrap_servers=address, check_crcs=True)
consumer.assign([partition])
consumer.seek_to_beginning(partition)
got = []
for message in consumer:
    assert message.offset == len(got), (message.offset, len(got))
    got.append((message.key, message.value, list(message.headers), message.timestamp))
    if len(got) == len(sent):
        break
assert got == sent
assert consumer.beginning_offsets([partition]) == {partition: 0}
assert consumer.end_offsets([partition]) == {partition: len(sent)}
for time, offset in [(0, 0), (1_000_000, 0), (1_000_001, 1), (1_000_000 + 10 * 150, 150)]:
    found = consumer.offsets_for_times({partition: time})[partition]
    assert found.offset == offset, (time, found)
assert consumer.offsets_for_times({partition: 1_000_000 + 10 * len(sent)})[partition] is None
consumer.seek(partition, 150)
assert next(consumer).offset == 150
consumer.close()
print('ok')
