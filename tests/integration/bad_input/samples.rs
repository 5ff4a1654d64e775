//! A valid request of every kind the broker offers, in every version both sides know.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Message, Request, StrBytes};

use super::honest::{batch, fetch_request, produce_request, topic_name};
use crate::harness::connection::{Connection, frame};

/// The versions the broker offers, by key.
pub fn offered(address: &str) -> BTreeMap<i16, (i16, i16)> {
    let response = Connection::open(address).call(0, &ApiVersionsRequest::default());
    assert_eq!(response.error_code, 0);
    response
        .api_keys
        .iter()
        .map(|api| (api.api_key, (api.min_version, api.max_version)))
        .collect()
}

pub struct Sample {
    pub key: i16,
    pub version: i16,
    pub frame: BytesMut,
    /// The oldest or the newest version: enough where every byte is tried.
    pub is_edge: bool,
    /// Reads an answer to the end.
    pub decode: fn(Bytes, i16) -> Result<(), String>,
}

/// Decodes a whole answer frame to a request of type `R`.
fn decode<R: Request>(mut answer: Bytes, version: i16) -> Result<(), String> {
    answer.advance(4);
    if R::Response::header_version(version) > 0 {
        answer.advance(1);
    }
    R::Response::decode(&mut answer, version).map_err(|error| error.to_string())?;
    if answer.has_remaining() {
        Err(format!("{} bytes too many", answer.remaining()))
    } else {
        Ok(())
    }
}

struct Samples {
    offered: BTreeMap<i16, (i16, i16)>,
    samples: Vec<Sample>,
}

impl Samples {
    /// `request` makes the request for a version: some fields exist in some versions only.
    fn add<R: Request + Message>(&mut self, request: impl Fn(i16) -> R) {
        let Some(&(offered_min, offered_max)) = self.offered.get(&R::KEY) else {
            return;
        };
        let (min, max) = (offered_min.max(R::VERSIONS.min), offered_max.min(R::VERSIONS.max));
        for version in min..=max {
            self.samples.push(Sample {
                key: R::KEY,
                version,
                frame: frame(1, version, &request(version)),
                is_edge: version == min || version == max,
                decode: decode::<R>,
            });
        }
    }
}

/// All requests are about `topic`; none of them makes, widens or deletes a topic.
pub fn samples(address: &str, topic: &str) -> Vec<Sample> {
    let metadata = Connection::open(address).call(12, &metadata_of(topic));
    let topic_id = metadata.topics[0].topic_id;
    let mut samples = Samples {
        offered: offered(address),
        samples: Vec::new(),
    };
    samples.add(|version| {
        let mut request = produce_request(topic, batch(&[b"one", b"two"]));
        if version >= 13 {
            request.topic_data[0].name = Default::default();
            request.topic_data[0].topic_id = topic_id;
        }
        request
    });
    samples.add(|version| {
        let mut request = fetch_request(topic, 0, 1 << 20);
        if version >= 13 {
            request.topics[0].topic = Default::default();
            request.topics[0].topic_id = topic_id;
        }
        request
    });
    samples.add(|_| list_offsets(topic));
    samples.add(|_| metadata_of(topic));
    samples.add(|_| ApiVersionsRequest::default().with_client_software_name(StrBytes::from_static_str("tests")));
    samples.add(|_| InitProducerIdRequest::default().with_transaction_timeout_ms(1000));
    samples.add(|_| create_topics());
    samples.add(|_| DeleteTopicsRequest::default().with_timeout_ms(1000));
    samples.add(|_| create_partitions(topic));
    samples.add(|_| describe_configs(topic));
    samples.add(|_| DescribeClusterRequest::default());
    samples.add(|_| {
        let topic = TopicRequest::default().with_name(topic_name(topic));
        DescribeTopicPartitionsRequest::default()
            .with_topics(vec![topic])
            .with_response_partition_limit(10)
    });
    samples.add(|_| offset_for_leader_epoch(topic));
    assert!(
        samples.samples.len() >= 20,
        "the broker offers what the tests are about"
    );
    samples.samples
}

pub fn metadata_of(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(true)
}

pub fn list_offsets(topic: &str) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_current_leader_epoch(-1)
        .with_timestamp(-1);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic])
}

fn create_topics() -> CreateTopicsRequest {
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("retention.ms"))
        .with_value(Some(StrBytes::from_static_str("1000")));
    let topic = CreatableTopic::default()
        .with_name(topic_name("only-checked"))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1000)
        .with_validate_only(true)
}

fn create_partitions(topic: &str) -> CreatePartitionsRequest {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(topic))
        .with_count(3);
    CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1000)
        .with_validate_only(true)
}

fn describe_configs(topic: &str) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_string(topic.to_string()))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str("retention.ms")]));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

fn offset_for_leader_epoch(topic: &str) -> OffsetForLeaderEpochRequest {
    let partition = OffsetForLeaderPartition::default()
        .with_current_leader_epoch(-1)
        .with_leader_epoch(0);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    OffsetForLeaderEpochRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic])
}
