//! librdkafka (as the crate `rdkafka` builds it): the client under most languages' clients.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::admin::{AdminOptions, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, Timestamp, TopicPartitionList};

use crate::harness::admin::{admin, block_on, client, create_topic};
use crate::harness::broker::Broker;
use crate::harness::{HANGS, wait_for};

/// Notes where each record went.
#[derive(Default)]
struct Deliveries(Mutex<Vec<Result<(i32, i64), RDKafkaErrorCode>>>);

#[derive(Clone, Default)]
struct Notes(Arc<Deliveries>);

impl ClientContext for Notes {}

impl ProducerContext for Notes {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let note = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().expect("a delivery fails with a code")),
        };
        self.0.0.lock().expect("no thread panics with the lock").push(note);
    }
}

fn producer(config: &ClientConfig) -> (BaseProducer<Notes>, Notes) {
    let notes = Notes::default();
    (
        config
            .create_with_context(notes.clone())
            .expect("a producer can be made"),
        notes,
    )
}

/// Waits for all answers, and gives them in order.
fn flush(producer: &BaseProducer<Notes>, notes: &Notes) -> Vec<Result<(i32, i64), RDKafkaErrorCode>> {
    producer.flush(HANGS).expect("every record is answered");
    std::mem::take(&mut *notes.0.0.lock().expect("no thread panics with the lock"))
}

fn consumer(broker: &Broker, topic: &str, partition: i32, offset: Offset) -> BaseConsumer {
    let mut config = client(broker);
    config
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true");
    config
        .set("auto.offset.reset", "error")
        .set("fetch.error.backoff.ms", "20");
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, partition, offset)
        .expect("a valid offset");
    consumer.assign(&assignment).expect("partitions can be assigned");
    consumer
}

#[test]
fn idempotent_producer_gets_dense_offsets() {
    let broker = Broker::start("librdkafka-idempotent");
    create_topic(&broker, "dense", 4, &[]);
    let (producer, notes) = producer(client(&broker).set("enable.idempotence", "true").set("linger.ms", "1"));
    const COUNT: i64 = 20_000;
    for i in 0..COUNT {
        let payload = i.to_string();
        let record = BaseRecord::<(), str>::to("dense")
            .partition((i % 4) as i32)
            .payload(&payload);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("the queue holds them");
        producer.poll(Duration::ZERO);
    }
    let mut delivered: Vec<(i32, i64)> = flush(&producer, &notes)
        .into_iter()
        .map(|result| result.expect("delivered"))
        .collect();
    delivered.sort_unstable();
    let expected: Vec<(i32, i64)> = (0..4)
        .flat_map(|p| (0..COUNT / 4).map(move |offset| (p, offset)))
        .collect();
    assert!(delivered == expected, "every record has its own offset, without a gap");

    for partition in 0..4 {
        let consumer = consumer(&broker, "dense", partition, Offset::Beginning);
        for offset in 0..COUNT / 4 {
            let message = consumer
                .poll(HANGS)
                .expect("records are there")
                .expect("and can be read");
            let value = (offset * 4 + i64::from(partition)).to_string();
            assert_eq!((message.offset(), message.payload()), (offset, Some(value.as_bytes())));
        }
    }
}

#[test]
fn acks_zero_one_and_all() {
    let broker = Broker::start("librdkafka-acks");
    for acks in ["0", "1", "all"] {
        let topic = format!("acks-{acks}");
        create_topic(&broker, &topic, 1, &[]);
        let (producer, notes) = producer(client(&broker).set("acks", acks));
        for i in 0..500 {
            let payload = format!("{acks} {i}");
            let record = BaseRecord::<(), str>::to(&topic).partition(0).payload(&payload);
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .expect("the queue holds them");
        }
        let delivered = flush(&producer, &notes);
        assert_eq!(delivered.len(), 500);
        assert!(delivered.iter().all(Result::is_ok), "acks={acks}: {delivered:?}");
        if acks != "0" {
            let offsets: Vec<i64> = delivered
                .iter()
                .map(|result| result.expect("checked above").1)
                .collect();
            assert_eq!(offsets, (0..500).collect::<Vec<i64>>(), "acks={acks}");
        }
        let consumer = consumer(&broker, &topic, 0, Offset::Beginning);
        for i in 0..500 {
            let message = consumer
                .poll(HANGS)
                .expect("records are there")
                .expect("and can be read");
            assert_eq!(message.payload(), Some(format!("{acks} {i}").as_bytes()));
        }
    }
}

#[test]
fn keys_headers_timestamps_nulls_and_large_records() {
    let broker = Broker::start("librdkafka-fields");
    create_topic(&broker, "fields", 1, &[]);
    let (producer, notes) = producer(client(&broker).set("message.max.bytes", "1100000"));
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "a",
            value: Some("1"),
        })
        .insert(Header {
            key: "a",
            value: Some("2"),
        })
        .insert(Header::<&str> {
            key: "none",
            value: None,
        });
    let large = vec![0x5a; 1_000_000];
    producer
        .send(
            BaseRecord::to("fields")
                .key("k")
                .payload("v")
                .timestamp(1_234_567_890_123)
                .headers(headers),
        )
        .map_err(|(error, _)| error)
        .expect("queued");
    producer
        .send(BaseRecord::<str, str>::to("fields").key("only a key"))
        .map_err(|(error, _)| error)
        .expect("queued");
    producer
        .send(BaseRecord::<(), [u8]>::to("fields").payload(&large))
        .map_err(|(error, _)| error)
        .expect("queued");
    let delivered = flush(&producer, &notes);
    assert!(delivered.iter().all(Result::is_ok), "{delivered:?}");

    let consumer = consumer(&broker, "fields", 0, Offset::Beginning);
    let next = || {
        consumer
            .poll(HANGS)
            .expect("records are there")
            .expect("and can be read")
            .detach()
    };
    let first = next();
    assert_eq!((first.key(), first.payload()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!(first.timestamp(), Timestamp::CreateTime(1_234_567_890_123));
    let headers: Vec<_> = first
        .headers()
        .expect("headers are kept")
        .iter()
        .map(|h| (h.key, h.value))
        .collect();
    assert_eq!(
        headers,
        [("a", Some(&b"1"[..])), ("a", Some(&b"2"[..])), ("none", None)]
    );
    let second = next();
    assert_eq!((second.key(), second.payload()), (Some(&b"only a key"[..]), None));
    let third = next();
    assert!(third.payload() == Some(&large[..]), "a record of 1 MB comes back whole");
}

#[test]
fn log_append_time_is_the_brokers() {
    let broker = Broker::start("librdkafka-append-time");
    create_topic(&broker, "stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let (producer, notes) = producer(&client(&broker));
    let record = BaseRecord::<(), str>::to("stamped").payload("x").timestamp(1_000);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    assert_eq!(flush(&producer, &notes), [Ok((0, 0))]);
    let consumer = consumer(&broker, "stamped", 0, Offset::Beginning);
    let message = consumer
        .poll(HANGS)
        .expect("the record is there")
        .expect("and can be read");
    let Timestamp::LogAppendTime(time) = message.timestamp() else {
        panic!("{:?}", message.timestamp())
    };
    let now = Timestamp::now().to_millis().expect("now has a value");
    assert!(
        (now - time).abs() < HANGS.as_millis() as i64,
        "append time {time}, now {now}"
    );
}

#[test]
fn too_large_a_record_is_refused() {
    let broker = Broker::start("librdkafka-too-large");
    create_topic(&broker, "small", 1, &[("max.message.bytes", "1000")]);
    let (producer, notes) = producer(&client(&broker));
    let record = BaseRecord::<(), [u8]>::to("small").payload(&[1; 5000][..]);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    assert_eq!(flush(&producer, &notes), [Err(RDKafkaErrorCode::MessageSizeTooLarge)]);
    let record = BaseRecord::<(), [u8]>::to("small").payload(&[1; 500][..]);
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    assert_eq!(flush(&producer, &notes), [Ok((0, 0))]);
}

#[test]
fn offsets_by_time_and_watermarks() {
    let broker = Broker::start("librdkafka-times");
    create_topic(&broker, "times", 1, &[]);
    for codec in ["none", "zstd"] {
        let (producer, notes) = producer(client(&broker).set("compression.type", codec).set("linger.ms", "20"));
        for i in 0..100 {
            let base = if codec == "none" { 1_000_000 } else { 2_000_000 };
            let record = BaseRecord::<(), str>::to("times")
                .payload("a payload that compresses")
                .timestamp(base + i * 10);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        assert!(flush(&producer, &notes).iter().all(Result::is_ok));
    }
    let consumer = consumer(&broker, "times", 0, Offset::Beginning);
    assert_eq!(consumer.fetch_watermarks("times", 0, HANGS), Ok((0, 200)));
    for (time, expected) in [
        (0, Offset::Offset(0)),
        (1_000_000, Offset::Offset(0)),
        (1_000_001, Offset::Offset(1)),
        (1_000_500, Offset::Offset(50)),
        (1_000_991, Offset::Offset(100)),
        (2_000_333, Offset::Offset(134)),
        (2_000_990, Offset::Offset(199)),
        (2_000_991, Offset::End),
    ] {
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset("times", 0, Offset::Offset(time))
            .expect("a valid time");
        let answer = consumer
            .offsets_for_times(asked, HANGS)
            .expect("ListOffsets is answered");
        assert_eq!(
            answer.elements()[0].offset(),
            expected,
            "first record at or after {time}"
        );
    }
}

#[test]
fn a_waiting_consumer_gets_what_comes_later() {
    let broker = Broker::start("librdkafka-tail");
    create_topic(&broker, "tail", 1, &[]);
    let consumer = consumer(&broker, "tail", 0, Offset::Beginning);
    assert!(
        consumer.poll(Duration::from_millis(300)).is_none(),
        "the topic is empty"
    );
    let (producer, notes) = producer(&client(&broker));
    for i in 0..50 {
        let payload = i.to_string();
        producer
            .send(BaseRecord::<(), str>::to("tail").payload(&payload))
            .map_err(|(e, _)| e)
            .expect("queued");
        assert_eq!(flush(&producer, &notes), [Ok((0, i))]);
        let message = consumer
            .poll(HANGS)
            .expect("the record comes")
            .expect("and can be read");
        assert_eq!((message.offset(), message.payload()), (i, Some(payload.as_bytes())));
    }
}

#[test]
fn out_of_range_is_an_error_at_once() {
    let broker = Broker::start("librdkafka-range");
    create_topic(&broker, "short", 1, &[]);
    let consumer = consumer(&broker, "short", 0, Offset::Offset(10));
    let error = wait_for("the error", || match consumer.poll(Duration::from_millis(100)) {
        Some(Err(KafkaError::MessageConsumption(code))) => Some(code),
        Some(other) => panic!("{other:?}"),
        None => None,
    });
    assert_eq!(
        error,
        RDKafkaErrorCode::AutoOffsetReset,
        "auto.offset.reset=error says so"
    );
}

#[test]
fn topics_are_made_widened_described_and_deleted() {
    let broker = Broker::start("librdkafka-admin");
    let admin = admin(&broker);
    let options = AdminOptions::new();
    let new = NewTopic::new("kept", 2, TopicReplication::Fixed(1)).set("retention.ms", "86400000");
    assert_eq!(
        block_on(admin.create_topics([&new], &options)).expect("answered"),
        [Ok("kept".into())]
    );
    let again = block_on(admin.create_topics([&new], &options)).expect("answered");
    assert_eq!(again, [Err(("kept".to_string(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let unknown = NewTopic::new("odd", 1, TopicReplication::Fixed(1)).set("dummy.doesntexist", "1");
    let refused = block_on(admin.create_topics([&unknown], &options)).expect("answered");
    assert_eq!(refused, [Err(("odd".to_string(), RDKafkaErrorCode::InvalidConfig))]);
    let bad_name = NewTopic::new("not a name", 1, TopicReplication::Fixed(1));
    let refused = block_on(admin.create_topics([&bad_name], &options)).expect("answered");
    assert_eq!(
        refused,
        [Err(("not a name".to_string(), RDKafkaErrorCode::InvalidTopic))]
    );

    let wider = block_on(admin.create_partitions([&NewPartitions::new("kept", 5)], &options)).expect("answered");
    assert_eq!(wider, [Ok("kept".into())]);
    let narrower = block_on(admin.create_partitions([&NewPartitions::new("kept", 3)], &options)).expect("answered");
    assert_eq!(
        narrower,
        [Err(("kept".to_string(), RDKafkaErrorCode::InvalidPartitions))]
    );
    let partition_count = || {
        let metadata = admin
            .inner()
            .fetch_metadata(Some("kept"), HANGS)
            .expect("Metadata is answered");
        metadata.topics()[0].partitions().len()
    };
    wait_for("five partitions", || (partition_count() == 5).then_some(()));

    let described = block_on(admin.describe_configs([&ResourceSpecifier::Topic("kept")], &options)).expect("answered");
    let resource = described[0].as_ref().expect("the topic is there");
    let retention = resource.get("retention.ms").expect("every option is told");
    assert_eq!(
        (retention.value.as_deref(), &retention.source),
        (Some("86400000"), &ConfigSource::DynamicTopic)
    );
    let cleanup = resource.get("cleanup.policy").expect("every option is told");
    assert_eq!(
        (cleanup.value.as_deref(), &cleanup.source),
        (Some("delete"), &ConfigSource::Default)
    );

    assert_eq!(
        block_on(admin.delete_topics(&["kept"], &options)).expect("answered"),
        [Ok("kept".into())]
    );
    let missing = block_on(admin.delete_topics(&["kept"], &options)).expect("answered");
    assert_eq!(
        missing,
        [Err(("kept".to_string(), RDKafkaErrorCode::UnknownTopicOrPartition))]
    );
    wait_for("the topic to be gone", || {
        let all = admin.inner().fetch_metadata(None, HANGS).expect("Metadata is answered");
        all.topics().iter().all(|topic| topic.name() != "kept").then_some(())
    });
    assert_eq!(
        block_on(admin.create_topics([&new], &options)).expect("answered"),
        [Ok("kept".into())]
    );
    let consumer = consumer(&broker, "kept", 0, Offset::Beginning);
    let fresh = wait_for("the new topic's first partition", || {
        consumer.fetch_watermarks("kept", 0, HANGS).ok()
    });
    assert_eq!(fresh, (0, 0), "a topic made again is empty");
}
