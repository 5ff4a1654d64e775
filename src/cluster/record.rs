//! What happened to the cluster, as facts. The on-disk form is `metadata.fbs`.

use std::collections::BTreeMap;

use crate::base::ids::TopicId;

use super::ids::DirectoryId;

/// Options that were set on one resource, by name.
pub type Configs = BTreeMap<String, String>;

/// One fact. A set of configs is always the whole set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    ClusterCreated {
        cluster_id: String,
        node_id: i32,
    },
    /// A directory is known, and where it was seen last.
    DirectoryRegistered {
        id: DirectoryId,
        path: String,
    },
    TopicCreated {
        id: TopicId,
        name: String,
        /// The directory of each partition.
        partitions: Vec<DirectoryId>,
        configs: Configs,
    },
    PartitionsAdded {
        topic: TopicId,
        /// The index of the first one.
        first: i32,
        partitions: Vec<DirectoryId>,
    },
    TopicDeleted {
        topic: TopicId,
    },
    TopicConfigsSet {
        topic: TopicId,
        configs: Configs,
    },
    /// Of one broker, or of all when there is no id.
    BrokerConfigsSet {
        node_id: Option<i32>,
        configs: Configs,
    },
    /// Producer ids below `end` are given out.
    ProducerIdsAllocated {
        end: i64,
    },
}

impl Record {
    /// About how many bytes it takes in the log.
    pub fn bytes_estimate(&self) -> usize {
        let configs = |configs: &Configs| {
            configs
                .iter()
                .map(|(name, value)| 40 + name.len() + value.len())
                .sum::<usize>()
        };
        128 + match self {
            Self::ClusterCreated { cluster_id, .. } => cluster_id.len(),
            Self::DirectoryRegistered { path, .. } => path.len(),
            Self::TopicCreated {
                name,
                partitions,
                configs: set,
                ..
            } => name.len() + 16 * partitions.len() + configs(set),
            Self::PartitionsAdded { partitions, .. } => 16 * partitions.len(),
            Self::TopicConfigsSet { configs: set, .. } | Self::BrokerConfigsSet { configs: set, .. } => configs(set),
            Self::TopicDeleted { .. } | Self::ProducerIdsAllocated { .. } => 0,
        }
    }
}
