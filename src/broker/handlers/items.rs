//! How many items a request names. Each costs the broker more than it costs the client to name it, so there is a bound.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::PartitionId;
use crate::broker::fetch::session::Sessions;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::*;

/// More in one request are not a client's: the bookkeeping would outweigh the frame many times.
pub const ITEMS_MAX: usize = 100_000;

/// The partitions that a request has named so far. A few are compared one by one, and cost no allocation.
#[derive(Default)]
pub struct Named {
    few: [Option<PartitionId>; Self::FEW],
    many: BTreeSet<PartitionId>,
}

impl Named {
    const FEW: usize = 16;

    /// Whether `id` is named for the first time.
    pub fn insert(&mut self, id: PartitionId) -> bool {
        for place in &mut self.few {
            match place {
                Some(named) if *named == id => return false,
                Some(_) => {}
                None => {
                    *place = Some(id);
                    return true;
                }
            }
        }
        self.many.insert(id)
    }
}

/// Topics that one request creates, grows or deletes: each is a command of its own. As many as Kafka's controller takes records of
/// one request (`MAX_RECORDS_PER_USER_OP`).
pub const TOPICS_MAX: usize = 10_000;

/// Commands of one request that are carried out side by side: they become durable in few commits.
pub const COMMANDS_MAX: usize = 64;

/// Why a command of a request is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotDone {
    NamedAgain,
    TooMany,
}

impl NotDone {
    pub fn code(self) -> ErrorCode {
        match self {
            Self::NamedAgain => ErrorCode::InvalidRequest,
            Self::TooMany => ErrorCode::PolicyViolation,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::NamedAgain => "The request names the topic more than once.",
            Self::TooMany => "One request creates, deletes or changes at most 10000 topics.",
        }
    }
}

/// Parts what is asked of topics: what is to be carried out, and the rest with why it is not. Of a topic that is named more than once
/// there is one answer for all mentions, as Kafka gives.
pub fn to_be_done<T, K: Ord>(asked: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> (Vec<T>, Vec<(T, NotDone)>) {
    let mut places: BTreeMap<K, usize> = BTreeMap::new();
    let mut once: Vec<(T, bool)> = Vec::new();
    for topic in asked {
        match places.entry(key(&topic)) {
            Entry::Occupied(known) => once[*known.get()].1 = false,
            Entry::Vacant(place) => {
                place.insert(once.len());
                once.push((topic, true));
            }
        }
    }
    let (mut done, mut rest) = (Vec::new(), Vec::new());
    for (topic, is_once) in once {
        match is_once {
            false => rest.push((topic, NotDone::NamedAgain)),
            true if done.len() < TOPICS_MAX => done.push(topic),
            true => rest.push((topic, NotDone::TooMany)),
        }
    }
    (done, rest)
}

/// A request that is a list of things to be done.
pub trait Items {
    /// What an item takes at most, in the answer and while that is made, beyond what the request says of it.
    const ITEM_BYTES: usize;

    /// Topics, partitions and configs that it names.
    fn items(&self) -> usize;

    /// What the answer takes at most, unless the request is one whose answer is made again; `bytes` is what the request takes.
    fn answer_bytes(&self, items: usize, bytes: usize, _sessions: &Sessions) -> usize {
        // Names come once, and in the text of an error.
        items * Self::ITEM_BYTES + items.min(1) * 2 * bytes
    }
}

/// What the answer says of a topic that was created: every option.
const CREATED_BYTES: usize = 4 << 10;
/// Of one that was deleted by its id: its name.
const DELETED_BYTES: usize = 512;

macro_rules! items {
    ($($request:ident, $bytes:literal: |$it:ident| $count:expr;)*) => {
        $(impl Items for $request<'_> {
            const ITEM_BYTES: usize = $bytes;

            fn items(&self) -> usize {
                let $it = self;
                $count
            }
        })*
    };
}

items! {
    ListOffsetsRequest, 448: |it| it.topics.iter().map(|topic| 1 + topic.partitions.len()).sum();
    MetadataRequest, 256: |it| it.topics.as_ref().map_or(0, |topics| topics.len());
    ApiVersionsRequest, 0: |_it| 0;
    InitProducerIdRequest, 0: |_it| 0;
    OffsetForLeaderEpochRequest, 320: |it| it.topics.iter().map(|topic| 1 + topic.partitions.len()).sum();
    DescribeConfigsRequest, 448: |it| {
        let keys = |resource: DescribeConfigsResource<'_>| resource.configuration_keys.map_or(0, |keys| keys.len());
        it.resources.iter().map(|resource| 1 + keys(resource)).sum()
    };
    CreatePartitionsRequest, 512: |it| {
        let assigned = |topic: CreatePartitionsTopic<'_>| topic.assignments.map_or(0, |assignments| assignments.len());
        it.topics.iter().map(|topic| 1 + assigned(topic)).sum()
    };
    DescribeTopicPartitionsRequest, 128: |it| it.topics.len();
}

impl Items for DescribeClusterRequest {
    const ITEM_BYTES: usize = 0;

    fn items(&self) -> usize {
        0
    }
}

impl Items for ProduceRequest<'_> {
    /// With the text of an error.
    const ITEM_BYTES: usize = 320;

    fn items(&self) -> usize {
        self.topic_data.iter().map(|topic| 1 + topic.partition_data.len()).sum()
    }

    fn answer_bytes(&self, items: usize, _bytes: usize, _sessions: &Sessions) -> usize {
        let names = self.topic_data.iter().map(|topic| topic.name.len());
        items * Self::ITEM_BYTES + names.sum::<usize>()
    }
}

impl Items for FetchRequest<'_> {
    const ITEM_BYTES: usize = 128;

    fn items(&self) -> usize {
        let wanted: usize = self.topics.iter().map(|topic| 1 + topic.partitions.len()).sum();
        let forgotten = self
            .forgotten_topics_data
            .iter()
            .map(|topic| 1 + topic.partitions.len());
        wanted + forgotten.sum::<usize>()
    }

    /// Without the batches, which are counted when they are read.
    fn answer_bytes(&self, items: usize, bytes: usize, sessions: &Sessions) -> usize {
        let (known, name_bytes) = sessions.size_of(self.session_id);
        (items + known) * Self::ITEM_BYTES + items.min(1) * bytes + name_bytes
    }
}

impl Items for CreateTopicsRequest<'_> {
    const ITEM_BYTES: usize = 256;

    fn items(&self) -> usize {
        let count = |topic: CreatableTopic<'_>| 1 + topic.assignments.len() + topic.configs.len();
        self.topics.iter().map(count).sum()
    }

    fn answer_bytes(&self, items: usize, bytes: usize, _sessions: &Sessions) -> usize {
        self.topics.len().min(TOPICS_MAX) * CREATED_BYTES + items * Self::ITEM_BYTES + 2 * bytes
    }
}

impl Items for DeleteTopicsRequest<'_> {
    const ITEM_BYTES: usize = 256;

    fn items(&self) -> usize {
        self.topics.len() + self.topic_names.len()
    }

    fn answer_bytes(&self, items: usize, bytes: usize, _sessions: &Sessions) -> usize {
        items.min(TOPICS_MAX) * DELETED_BYTES + items * Self::ITEM_BYTES + 2 * bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;

    #[test]
    fn a_partition_is_named_once_however_many_there_are() {
        let mut named = Named::default();
        let id = |index| PartitionId {
            topic: TopicId([1; 16]),
            index,
        };
        for index in 0..100 {
            assert!(named.insert(id(index)));
            assert!((0..=index).all(|index| !named.insert(id(index))));
        }
    }
}
