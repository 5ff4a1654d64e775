use super::*;

messages! {
    /// Asks for topics in pages (KIP-966).
    api(key 75, versions 0..=0, flexible 0)
    struct DescribeTopicPartitionsRequest<'a> {
        /// Empty asks for all topics.
        topics: List<'a, TopicRequest<'a>>;
        response_partition_limit: i32 = 2000;
        /// Where to go on.
        cursor: Option<Cursor<'a>> [null(0)];
    }

    struct TopicRequest<'a> {
        name: Str<'a>;
    }

    /// A place between two pages.
    struct Cursor<'a> {
        topic_name: Str<'a>;
        partition_index: i32;
    }
}

messages! {
    /// One page of topics.
    api(key 75, versions 0..=0, flexible 0)
    struct DescribeTopicPartitionsResponse<'a> {
        throttle_time_ms: i32;
        topics: List<'a, DescribeTopicPartitionsResponseTopic<'a>>;
        /// Where the next page begins; null after the last.
        next_cursor: Option<Cursor<'a>> [null(0)];
    }

    struct DescribeTopicPartitionsResponseTopic<'a> {
        error_code: i16;
        name: Option<Str<'a>> [null(0)] = Some(Str::default());
        topic_id: TopicId;
        is_internal: bool;
        partitions: List<'a, DescribeTopicPartitionsResponsePartition<'a>>;
        topic_authorized_operations: i32 = OPERATIONS_UNKNOWN;
    }

    struct DescribeTopicPartitionsResponsePartition<'a> {
        error_code: i16;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1;
        replica_nodes: List<'a, i32>;
        isr_nodes: List<'a, i32>;
        eligible_leader_replicas: Option<List<'a, i32>> [null(0)];
        last_known_elr: Option<List<'a, i32>> [null(0)];
        offline_replicas: List<'a, i32>;
    }
}
