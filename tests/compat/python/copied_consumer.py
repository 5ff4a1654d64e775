from kafka import KafkaConsumer

consumer = KafkaConsumer('test', auto_offset_reset='earliest')

for message in consumer:
    print(message.value.decode())
