//! What a client knows of the cluster: brokers, topics, leaders. An owned, ordered copy of a Metadata answer.

use std::collections::BTreeMap;

use crate::base::ids::TopicId;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub node_id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    /// The node that leads it, if one does now.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline: Vec<i32>,
    pub error: Option<ErrorCode>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub is_internal: bool,
    /// In order of the index.
    pub partitions: Vec<Partition>,
    pub error: Option<ErrorCode>,
}

/// Topics that were not asked for are absent, whether they exist or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub cluster_id: Option<String>,
    pub controller_id: Option<i32>,
    pub brokers: BTreeMap<i32, Broker>,
    pub topics: BTreeMap<String, Topic>,
    /// A request is not to be longer, where the broker tells.
    pub request_bytes_max: Option<usize>,
}

pub(super) fn error_of(code: i16) -> Option<ErrorCode> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => None,
        Some(code) => Some(code),
        None => Some(ErrorCode::UnknownServerError),
    }
}

impl Partition {
    fn of(partition: &MetadataResponsePartition<'_>) -> Self {
        Self {
            index: partition.partition_index,
            leader: (partition.leader_id >= 0).then_some(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.iter().collect(),
            isr: partition.isr_nodes.iter().collect(),
            offline: partition.offline_replicas.iter().collect(),
            error: error_of(partition.error_code),
        }
    }
}

impl Topic {
    fn of(topic: &MetadataResponseTopic<'_>) -> Self {
        let mut partitions: Vec<Partition> = topic
            .partitions
            .iter()
            .map(|partition| Partition::of(&partition))
            .collect();
        partitions.sort_by_key(|partition| partition.index);
        Self {
            name: topic.name.as_deref().unwrap_or_default().to_owned(),
            id: topic.topic_id,
            is_internal: topic.is_internal,
            partitions,
            error: error_of(topic.error_code),
        }
    }

    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.index == index)
    }
}

impl Metadata {
    pub(super) fn of(answer: &MetadataResponse<'_>) -> Self {
        let brokers = answer.brokers.iter().map(|broker| Broker {
            node_id: broker.node_id,
            host: broker.host.clone().into_owned(),
            port: u16::try_from(broker.port).unwrap_or(0),
            rack: broker.rack.as_deref().map(str::to_owned),
        });
        let topics = answer.topics.iter().map(|topic| Topic::of(&topic));
        Self {
            cluster_id: answer.cluster_id.as_deref().map(str::to_owned),
            controller_id: (answer.controller_id >= 0).then_some(answer.controller_id),
            brokers: brokers.map(|broker| (broker.node_id, broker)).collect(),
            topics: topics.map(|topic| (topic.name.clone(), topic)).collect(),
            request_bytes_max: None,
        }
    }

    /// Takes over what `newer` says; topics it does not speak of stay.
    pub(super) fn merge(&mut self, newer: &Metadata) {
        self.cluster_id.clone_from(&newer.cluster_id);
        self.controller_id = newer.controller_id;
        self.request_bytes_max = newer.request_bytes_max;
        self.brokers.clone_from(&newer.brokers);
        for (name, topic) in &newer.topics {
            self.topics.insert(name.clone(), topic.clone());
        }
    }
}
