//! The topics as handlers need them: found by name and by id, options resolved.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::ids::{PartitionId, TopicId};
use crate::wire::batch::TimestampRule;

/// One topic.
#[derive(Clone, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partition_count: i32,
    pub produce: ProduceRules,
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
    /// The id of partition `index`, if there is one.
    pub fn partition(&self, index: i32) -> Option<PartitionId> {
        (0..self.partition_count)
            .contains(&index)
            .then_some(PartitionId { topic: self.id, index })
    }

    pub fn is_internal(&self) -> bool {
        matches!(
            &*self.name,
            "__consumer_offsets" | "__transaction_state" | "__share_group_state"
        )
    }
}

/// All topics; each shard has its own copy, which the controller's changes keep equal.
#[derive(Default)]
pub struct Catalog {
    by_name: BTreeMap<Arc<str>, Rc<Topic>>,
    by_id: BTreeMap<TopicId, Rc<Topic>>,
}

impl Catalog {
    /// Adds a topic, or replaces what was known of it.
    pub fn put(&mut self, topic: Topic) {
        let topic = Rc::new(topic);
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }

    pub fn remove(&mut self, id: TopicId) -> Option<Rc<Topic>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        Some(topic)
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

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
