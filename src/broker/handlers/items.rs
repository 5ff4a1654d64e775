//! How many items a request names. Each costs the broker more than it costs the client to name it, so there is a bound.

use crate::wire::kafka::messages::*;

/// More in one request are not a client's: the bookkeeping would outweigh the frame many times.
pub const ITEMS_MAX: usize = 100_000;

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
