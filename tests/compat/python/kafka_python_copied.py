"""The producer and the consumer that people copy from the first page they find: topic `test`, no group, nothing configured.

usage: kafka_python_copied.py HOST:PORT
"""
import sys
import threading

from kafka import KafkaConsumer, KafkaProducer

address = sys.argv[1]

# A topic that nobody made: the producer makes it.
producer = KafkaProducer(bootstrap_servers=address)
for i in range(100):
    producer.send('test', b'message %d' % i)
producer.flush()

# Reading from the beginning.
consumer = KafkaConsumer('test', bootstrap_servers=address, auto_offset_reset='earliest')
values = {}
for message in consumer:
    values.setdefault(message.partition, []).append(message)
    if sum(map(len, values.values())) == 100:
        break
for messages in values.values():
    assert [message.offset for message in messages] == list(range(len(messages))), 'offsets are dense'
numbers = sorted(int(message.value.split()[1]) for messages in values.values() for message in messages)
assert numbers == list(range(100)), numbers
consumer.close()

# Reading what comes from now on: the copied form to the letter.
consumer = KafkaConsumer('test', bootstrap_servers=address)
while not consumer.assignment():
    consumer.poll(timeout_ms=50)
start = {partition: consumer.position(partition) for partition in consumer.assignment()}
assert sum(start.values()) == 100, start


def send_later():
    for i in range(100, 120):
        producer.send('test', b'message %d' % i)
    producer.flush()


sender = threading.Thread(target=send_later)
sender.start()
later = []
for message in consumer:
    later.append(int(message.value.split()[1]))
    if len(later) == 20:
        break
sender.join()
assert sorted(later) == list(range(100, 120)), later
consumer.close()
producer.close()
print('ok')
