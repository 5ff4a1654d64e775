//! What can be asked of the cluster, and what comes back.

use std::fmt;
use std::ops::Range;

use crate::base::ids::TopicId;
use crate::config::BrokerConfig;
use crate::wire::kafka::ErrorCode;

use super::ids::DirectoryId;
use super::record::Record;

/// A wish. What is random in it was drawn by the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    CreateTopic(CreateTopic),
    DeleteTopic(TopicRef),
    CreatePartitions(CreatePartitions),
    SetTopicConfigs(SetTopicConfigs),
    SetBrokerConfigs(SetBrokerConfigs),
    /// A block of [`super::PRODUCER_ID_BLOCK`] ids.
    AllocateProducerIds,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTopic {
    /// Random, see [`super::random_topic_id`].
    pub id: TopicId,
    pub name: String,
    /// -1 = the broker's default.
    pub partition_count: i32,
    /// -1 = the broker's default.
    pub replication_factor: i16,
    /// Manual: (partition, its brokers). Empty = the broker's choice.
    pub assignments: Vec<(i32, Vec<i32>)>,
    pub configs: Vec<(String, Option<String>)>,
    /// Answer only.
    pub validate_only: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatePartitions {
    pub topic: String,
    /// Partitions in all, afterwards.
    pub count: i32,
    /// The brokers of each new partition; `None` = the broker's choice.
    pub assignments: Option<Vec<Vec<i32>>>,
    pub validate_only: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetTopicConfigs {
    pub topic: String,
    pub change: ConfigChange,
    pub validate_only: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetBrokerConfigs {
    /// `None` = all brokers.
    pub node_id: Option<i32>,
    pub change: ConfigChange,
    pub validate_only: bool,
}

/// How a set of configs changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    /// To these (AlterConfigs).
    Replace(Vec<(String, Option<String>)>),
    /// One by one (IncrementalAlterConfigs, KIP-339).
    Incremental(Vec<ConfigOperation>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigOperation {
    pub name: String,
    pub kind: ConfigOperationKind,
    pub value: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigOperationKind {
    Set,
    Delete,
    /// Adds items to a list.
    Append,
    /// Takes items from a list.
    Subtract,
}

impl ConfigOperationKind {
    /// From IncrementalAlterConfigs' code.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// What a decision depends on besides image and command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub config: &'a BrokerConfig,
    /// Directories that take new partitions.
    pub directories: &'a [DirectoryId],
}

/// Facts to make durable, and the answer for afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    pub records: Vec<Record>,
    pub response: Response,
}

/// The answer to a command that was carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// With `validate_only` the id is zero.
    TopicCreated {
        id: TopicId,
        partition_count: i32,
        replication_factor: i16,
    },
    TopicDeleted {
        id: TopicId,
        name: String,
    },
    PartitionsCreated {
        count: i32,
    },
    ConfigsSet,
    ProducerIds(Range<i64>),
}

/// Why a command is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecideError {
    InvalidTopicName(String),
    TopicExists(String),
    UnknownTopic(String),
    UnknownTopicId(TopicId),
    TopicDeletionDisabled,
    InvalidPartitions(String),
    InvalidReplicationFactor(String),
    InvalidReplicaAssignment(String),
    InvalidConfig(String),
    InvalidRequest(String),
    PolicyViolation(String),
    /// No directory is online.
    NoDirectory,
    /// No space for the partitions; it may be tried again.
    NoSpace(String),
}

impl DecideError {
    /// The protocol's error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
            Self::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            Self::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
            Self::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
            Self::InvalidConfig(_) => ErrorCode::InvalidConfig,
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::PolicyViolation(_) => ErrorCode::PolicyViolation,
            Self::NoDirectory | Self::NoSpace(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl fmt::Display for DecideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TopicExists(name) => write!(f, "Topic '{name}' already exists."),
            Self::UnknownTopic(name) => write!(f, "There is no topic '{name}'."),
            Self::UnknownTopicId(id) => write!(f, "There is no topic with the id {id}."),
            Self::TopicDeletionDisabled => f.write_str("Topics are not deleted here: delete.topic.enable is false."),
            Self::NoDirectory => f.write_str("No log directory is online."),
            Self::InvalidTopicName(text)
            | Self::InvalidPartitions(text)
            | Self::InvalidReplicationFactor(text)
            | Self::InvalidReplicaAssignment(text)
            | Self::InvalidConfig(text)
            | Self::InvalidRequest(text)
            | Self::NoSpace(text)
            | Self::PolicyViolation(text) => f.write_str(text),
        }
    }
}
