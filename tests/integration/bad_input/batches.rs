//! Spoilt record batches and topic names: refused with the code that Kafka gives, and nothing of them is ever read.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest};

use super::connections::{GROWTH_BYTES_MAX, assert_bounded};
use super::honest::{Honest, batch, fetch_request, produce, topic_name};
use super::samples::{list_offsets, metadata_of};
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, Peer, peer};
use crate::harness::connection::Connection;

const NONE: i16 = 0;
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC: i16 = 17;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// Positions in the header of a batch (format 2).
const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const RECORD_COUNT: usize = 57;

/// A valid batch of two records, spoilt; its CRC is made right again, so that only the planted fault is there.
fn spoilt(spoil: impl Fn(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::from(&batch(&[b"spoilt one", b"spoilt two"])[..]);
    spoil(&mut bytes);
    if bytes.len() > ATTRIBUTES {
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
        bytes[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.freeze()
}

fn put(bytes: &mut BytesMut, position: usize, value: i32) {
    bytes[position..position + 4].copy_from_slice(&value.to_be_bytes());
}

#[test]
fn a_wrong_crc_is_corrupt() {
    let broker = Broker::start("bad-crc");
    create_topic(&broker, "victim", 1, &[]);
    let mut connection = Connection::open(&broker.address());
    let good = batch(&[b"one", b"two"]);
    // Every bit of what the CRC covers and of the CRC itself, a bit per byte.
    for position in CRC..good.len() {
        let mut bad = BytesMut::from(&good[..]);
        bad[position] ^= 1 << (position % 8);
        let (error, _) = produce(&mut connection, "victim", bad.freeze());
        assert_eq!(error, CORRUPT_MESSAGE, "byte {position} is wrong");
    }
    assert_eq!(
        produce(&mut connection, "victim", good),
        (NONE, 0),
        "nothing was appended before"
    );
}

/// What is wrong, Kafka's code for it, and the bytes.
fn malformed(good: &Bytes) -> Vec<(&'static str, i16, Bytes)> {
    let invalid = INVALID_RECORD;
    vec![
        ("no bytes", invalid, Bytes::new()),
        ("less than a header", invalid, good.slice(..40)),
        ("cut in the records", invalid, good.slice(..good.len() - 1)),
        ("two batches", invalid, [&good[..], &good[..]].concat().into()),
        ("magic 1", invalid, spoilt(|bytes| bytes[MAGIC] = 1)),
        ("magic 3", CORRUPT_MESSAGE, spoilt(|bytes| bytes[MAGIC] = 3)),
        ("magic -1", CORRUPT_MESSAGE, spoilt(|bytes| bytes[MAGIC] = 0xff)),
        (
            "a length of zero",
            CORRUPT_MESSAGE,
            spoilt(|bytes| put(bytes, LENGTH, 0)),
        ),
        (
            "a negative length",
            CORRUPT_MESSAGE,
            spoilt(|bytes| put(bytes, LENGTH, -1)),
        ),
        (
            "a length beyond the bytes",
            invalid,
            spoilt(|bytes| put(bytes, LENGTH, i32::MAX)),
        ),
        ("no records", invalid, spoilt(|bytes| put(bytes, RECORD_COUNT, 0))),
        (
            "a negative count of records",
            invalid,
            spoilt(|bytes| put(bytes, RECORD_COUNT, -1)),
        ),
        (
            "more offsets than records",
            invalid,
            spoilt(|bytes| put(bytes, LAST_OFFSET_DELTA, 5)),
        ),
        (
            "a control batch",
            invalid,
            spoilt(|bytes| bytes[ATTRIBUTES + 1] |= 0x20),
        ),
        (
            "a codec that nobody knows",
            UNSUPPORTED_COMPRESSION_TYPE,
            spoilt(|bytes| bytes[ATTRIBUTES + 1] |= 0x07),
        ),
        (
            "a batch beyond max.message.bytes",
            MESSAGE_TOO_LARGE,
            batch(&[&[0; 1_100_000]]),
        ),
    ]
}

#[test]
fn malformed_batches_are_refused() {
    let broker = Broker::start("bad-batches");
    create_topic(&broker, "victim", 1, &[]);
    let mut honest = Honest::new(&broker);
    let mut connection = Connection::open(&broker.address());
    let good = batch(&[b"one", b"two"]);
    let before = broker.resident_bytes();
    let mut wrong = Vec::new();
    for (what, mut expected, records) in malformed(&good) {
        // Two of them find Kafka unprepared (UNKNOWN_SERVER_ERROR).
        let surprises = ["a length beyond the bytes", "a codec that nobody knows"];
        if peer() == Peer::Kafka && surprises.contains(&what) {
            expected = -1;
        }
        let (error, _) = produce(&mut connection, "victim", records);
        println!("{what}: error {error}");
        if error != expected {
            wrong.push(format!("{what}: error {error}, expected {expected}"));
        }
        honest.is_served();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_bounded(&broker, before, GROWTH_BYTES_MAX);
    assert_eq!(
        produce(&mut connection, "victim", good.clone()),
        (NONE, 0),
        "nothing was appended before"
    );
    let response = connection.call(11, &fetch_request("victim", 0, 1 << 20));
    let records = response.responses[0].partitions[0]
        .records
        .clone()
        .expect("there is a batch");
    assert_eq!(records[CRC..], good[CRC..], "what was accepted is kept as it was sent");
}

#[test]
fn bad_topic_names_are_refused_and_never_made() {
    let broker = Broker::start("bad-names");
    let mut connection = Connection::open(&broker.address());
    let long = "x".repeat(250);
    let very_long = "y".repeat(32_000);
    for name in ["", ".", "..", "with space", "slash/ed", "nul\0", "ä", &long, &very_long] {
        let shown = &name[..name.len().min(20)];
        let response = connection.call(9, &metadata_of(name));
        assert_eq!(response.topics[0].error_code, INVALID_TOPIC, "Metadata with {shown:?}");
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        let response = connection.call(5, &request);
        assert_eq!(
            response.topics[0].error_code, INVALID_TOPIC,
            "CreateTopics with {shown:?}"
        );
        let of_nobody = UNKNOWN_TOPIC_OR_PARTITION;
        let (error, _) = produce(&mut connection, name, batch(&[b"one"]));
        assert_eq!(error, of_nobody, "Produce to {shown:?}");
        let response = connection.call(11, &fetch_request(name, 0, 1 << 20));
        assert_eq!(
            response.responses[0].partitions[0].error_code, of_nobody,
            "Fetch of {shown:?}"
        );
        let response = connection.call(5, &list_offsets(name));
        assert_eq!(
            response.topics[0].partitions[0].error_code, of_nobody,
            "ListOffsets of {shown:?}"
        );
        let delete = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(10_000);
        let response = connection.call(4, &delete);
        assert_eq!(response.responses[0].error_code, of_nobody, "DeleteTopics of {shown:?}");
    }
    let longest = "z".repeat(249);
    create_topic(&broker, &longest, 1, &[]);
    let all = connection.call(9, &MetadataRequest::default().with_topics(None));
    let names: Vec<_> = all
        .topics
        .iter()
        .map(|topic| topic.name.as_ref().expect("named").to_string())
        .collect();
    assert_eq!(names, [longest], "only the good name made a topic");
}
