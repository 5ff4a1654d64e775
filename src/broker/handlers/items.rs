//! How many items a request names. Each costs the broker more than it costs the client to name it, so there is a bound.

use std::collections::BTreeSet;

use crate::base::ids::PartitionId;
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

/// A request that is a list of things to be done.
pub trait Items {
    /// Topics, partitions and configs that it names.
    fn items(&self) -> usize;
}

macro_rules! items {
    ($($request:ident: |$it:ident| $count:expr;)*) => {
        $(impl Items for $request<'_> {
            fn items(&self) -> usize {
                let $it = self;
                $count
            }
        })*
    };
}

items! {
    FetchRequest: |it| {
        let wanted: usize = it.topics.iter().map(|topic| 1 + topic.partitions.len()).sum();
        wanted + it.forgotten_topics_data.iter().map(|topic| 1 + topic.partitions.len()).sum::<usize>()
    };
    ListOffsetsRequest: |it| it.topics.iter().map(|topic| 1 + topic.partitions.len()).sum();
    MetadataRequest: |it| it.topics.as_ref().map_or(0, |topics| topics.len());
    ApiVersionsRequest: |_it| 0;
    CreateTopicsRequest: |it| {
        let count = |topic: CreatableTopic<'_>| 1 + topic.assignments.len() + topic.configs.len();
        it.topics.iter().map(count).sum()
    };
    DeleteTopicsRequest: |it| it.topics.len() + it.topic_names.len();
    InitProducerIdRequest: |_it| 0;
    OffsetForLeaderEpochRequest: |it| it.topics.iter().map(|topic| 1 + topic.partitions.len()).sum();
    DescribeConfigsRequest: |it| {
        let keys = |resource: DescribeConfigsResource<'_>| resource.configuration_keys.map_or(0, |keys| keys.len());
        it.resources.iter().map(|resource| 1 + keys(resource)).sum()
    };
    CreatePartitionsRequest: |it| {
        let assigned = |topic: CreatePartitionsTopic<'_>| topic.assignments.map_or(0, |assignments| assignments.len());
        it.topics.iter().map(|topic| 1 + assigned(topic)).sum()
    };
    DescribeTopicPartitionsRequest: |it| it.topics.len();
}

impl Items for DescribeClusterRequest {
    fn items(&self) -> usize {
        0
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
