//! A client that does everything right, and expects the same of the broker.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, FetchRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use crate::harness::admin::create_topic;
use crate::harness::broker::Broker;
use crate::harness::connection::Connection;

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}

/// One valid batch with these values.
pub fn batch(values: &[&[u8]]) -> Bytes {
    let record = |(offset, value): (usize, &&[u8])| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: offset as i64,
        // The encoder begins a new batch where sequences do not follow; the batch itself keeps the first one.
        sequence: offset as i32 - 1,
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Default::default(),
    };
    let records: Vec<Record> = values.iter().enumerate().map(record).collect();
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut batch, &records, &options).expect("a batch can be encoded");
    batch.freeze()
}

/// A produce request with these bytes as the records of partition 0.
pub fn produce_request(topic: &str, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

/// Produces with these bytes as the records; gives the error code and the base offset.
pub fn produce(connection: &mut Connection, topic: &str, records: Bytes) -> (i16, i64) {
    let response = connection.call(9, &produce_request(topic, records));
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// Asks partition 0 of a topic for what is there from an offset on, without waiting.
pub fn fetch_request(topic: &str, offset: i64, bytes_max: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(bytes_max)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

const TOPIC: &str = "honest";

pub struct Honest {
    connection: Connection,
    next_offset: i64,
}

impl Honest {
    pub fn new(broker: &Broker) -> Honest {
        create_topic(broker, TOPIC, 1, &[]);
        let mut honest = Honest {
            connection: Connection::open(&broker.address()),
            next_offset: 0,
        };
        honest.is_served();
        honest
    }

    /// Produces a record and reads it back, on the connection it has had from the beginning.
    ///
    /// # Panics
    /// If anything is not as it should be.
    pub fn is_served(&mut self) {
        let value = format!("honest {}", self.next_offset);
        let answer = produce(&mut self.connection, TOPIC, batch(&[value.as_bytes()]));
        assert_eq!(
            answer,
            (0, self.next_offset),
            "the honest client's record has its offset"
        );
        let response = self
            .connection
            .call(11, &fetch_request(TOPIC, self.next_offset, 1 << 20));
        let partition = &response.responses[0].partitions[0];
        assert_eq!(
            (partition.error_code, partition.high_watermark),
            (0, self.next_offset + 1)
        );
        let records = partition.records.as_ref().expect("there is a record");
        let found = records.windows(value.len()).any(|window| window == value.as_bytes());
        assert!(found, "the honest client reads its record");
        self.next_offset += 1;
    }
}
