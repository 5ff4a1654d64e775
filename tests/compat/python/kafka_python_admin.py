"""Topics made, described, widened and deleted through kafka-python's admin client.

usage: kafka_python_admin.py HOST:PORT
"""
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import TopicAlreadyExistsError

address = sys.argv[1]


def eventually(what, condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(what)


admin = KafkaAdminClient(bootstrap_servers=address)
new = NewTopic(name='managed', num_partitions=2, replication_factor=1, topic_configs={'retention.ms': '3600000'})
admin.create_topics([new])
try:
    admin.create_topics([new])
    raise AssertionError('a topic is made twice')
except TopicAlreadyExistsError:
    pass
eventually('the topic is listed', lambda: 'managed' in admin.list_topics())
configs = str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, 'managed')]))
assert '3600000' in configs and 'retention.ms' in configs, configs
admin.create_partitions({'managed': NewPartitions(total_count=4)})
consumer = KafkaConsumer(bootstrap_servers=address)
eventually('four partitions', lambda: consumer.partitions_for_topic('managed') == {0, 1, 2, 3})
consumer.close()
admin.describe_cluster()
admin.delete_topics(['managed'])
eventually('the topic is gone', lambda: 'managed' not in admin.list_topics())
admin.close()
print('ok')
