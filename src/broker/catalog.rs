//! The topics as handlers need them: the cluster's image, with options resolved once instead of at every request.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::ids::{PartitionId, TopicId};
use crate::cluster::{self, DirectoryId, Image, Record};
use crate::config::{BrokerConfig, CompressionType, TimestampType, TopicOptions};
use crate::wire::batch::TimestampRule;

/// One topic.
#[derive(Clone, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partition_count: i32,
    pub produce: ProduceRules,
    /// Directories and own configs.
    pub image: Arc<cluster::Topic>,
}

/// What a produced batch must keep to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProduceRules {
    /// `max.message.bytes`
    pub batch_bytes_max: usize,
    /// `message.timestamp.type=LogAppendTime`
    pub append_time: bool,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_ms_max: i64,
    /// `cleanup.policy` has `compact`: every record needs a key.
    pub keys_required: bool,
    /// `compression.type=zstd`: clients that do not know zstd may not read.
    pub zstd_only: bool,
}

impl ProduceRules {
    fn new(options: &TopicOptions) -> Self {
        Self {
            batch_bytes_max: options.message_bytes_max as usize,
            append_time: options.timestamp_type == TimestampType::LogAppendTime,
            timestamp_before_ms_max: options.timestamp_before_ms_max,
            timestamp_after_ms_max: options.timestamp_after_ms_max,
            keys_required: options.cleanup_compact,
            zstd_only: options.compression_type == CompressionType::Zstd,
        }
    }

    pub fn timestamps(&self, now_ms: i64) -> TimestampRule {
        match self.append_time {
            true => TimestampRule::LogAppendTime,
            false => TimestampRule::CreateTime {
                now_ms,
                before_ms_max: self.timestamp_before_ms_max,
                after_ms_max: self.timestamp_after_ms_max,
            },
        }
    }
}

impl Topic {
    pub fn new(image: &Arc<cluster::Topic>, config: &BrokerConfig) -> Self {
        let own = image
            .configs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        Self {
            id: image.id,
            name: image.name.clone(),
            partition_count: i32::try_from(image.partitions.len()).unwrap_or(i32::MAX),
            produce: ProduceRules::new(&TopicOptions::new(own, config)),
            image: image.clone(),
        }
    }

    /// The directory that partition `index` lies in.
    pub fn directory(&self, index: i32) -> Option<DirectoryId> {
        self.image.partitions.get(usize::try_from(index).ok()?).copied()
    }

    /// The id of partition `index`, if there is one.
    pub fn partition(&self, index: i32) -> Option<PartitionId> {
        (0..self.partition_count)
            .contains(&index)
            .then_some(PartitionId { topic: self.id, index })
    }

    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let topic = self.id;
        (0..self.partition_count).map(move |index| PartitionId { topic, index })
    }

    pub fn is_internal(&self) -> bool {
        matches!(
            &*self.name,
            "__consumer_offsets" | "__transaction_state" | "__share_group_state"
        )
    }
}

/// All topics; each shard has its own copy, which the controller's records keep equal.
pub struct Catalog {
    image: Image,
    config: Arc<BrokerConfig>,
    by_name: BTreeMap<Arc<str>, Rc<Topic>>,
    by_id: BTreeMap<TopicId, Rc<Topic>>,
}

impl Catalog {
    pub fn new(image: Image, config: Arc<BrokerConfig>) -> Self {
        let mut catalog = Self {
            image,
            config,
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
        };
        catalog.resolve_all();
        catalog
    }

    /// The configuration in force, dynamic broker configs included.
    pub fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Brings one record in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::TopicCreated { id: topic, .. }
            | Record::PartitionsAdded { topic, .. }
            | Record::TopicConfigsSet { topic, .. } => {
                self.image.apply(record);
                self.resolve(*topic);
            }
            Record::TopicDeleted { topic } => {
                self.image.apply(record);
                if let Some(topic) = self.by_id.remove(topic) {
                    self.by_name.remove(&topic.name);
                }
            }
            Record::BrokerConfigsSet { .. } => {
                self.image.apply(record);
                self.resolve_all();
            }
            Record::ClusterCreated { .. }
            | Record::DirectoryRegistered { .. }
            | Record::ProducerIdsAllocated { .. } => {
                self.image.apply(record);
            }
        }
    }

    fn resolve(&mut self, id: TopicId) {
        if let Some(topic) = self.image.topic_by_id(id) {
            let topic = Rc::new(Topic::new(topic, &self.config));
            self.by_name.insert(topic.name.clone(), topic.clone());
            self.by_id.insert(id, topic);
        }
    }

    /// The broker's own options changed: so did every topic's defaults.
    fn resolve_all(&mut self) {
        let node_id = self.config.identity.node_id;
        let (of_all, of_this) = (
            self.image.broker_configs(None),
            self.image.broker_configs(Some(node_id)),
        );
        match self.config.with_dynamic(of_all, of_this) {
            Ok(config) => self.config = Arc::new(config),
            Err(errors) => tracing::error!(%errors, "dynamic broker configs are not applied"),
        }
        let topics: Vec<_> = self.image.topics().map(|topic| topic.id).collect();
        topics.into_iter().for_each(|id| self.resolve(id));
    }

    pub fn by_name(&self, name: &str) -> Option<Rc<Topic>> {
        self.by_name.get(name).cloned()
    }

    pub fn by_id(&self, id: TopicId) -> Option<Rc<Topic>> {
        self.by_id.get(&id).cloned()
    }

    /// All topics in order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Rc<Topic>> {
        self.by_name.values()
    }

    /// The topics from `name` on, in order of their names.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Rc<Topic>> {
        self.by_name
            .range::<str, _>((std::ops::Bound::Included(name), std::ops::Bound::Unbounded))
            .map(|(_, topic)| topic)
    }
}
