use super::*;

/// The authorized operations of a resource, where they were not asked for.
pub const OPERATIONS_UNKNOWN: i32 = i32::MIN;

messages! {
    /// Asks for brokers, topics and partition leaders.
    api(key 3, versions 0..=13, flexible 9)
    struct MetadataRequest<'a> {
        /// Null asks for all topics; so does an empty array in version 0.
        topics: Option<List<'a, MetadataRequestTopic<'a>>> [null(1)] = Some(List::default());
        allow_auto_topic_creation: bool [since(4)] = true;
        include_cluster_authorized_operations: bool [since(8), until(10)];
        include_topic_authorized_operations: bool [since(8)];
    }

    struct MetadataRequestTopic<'a> {
        topic_id: TopicId [since(10)];
        name: Option<Str<'a>> [null(10)] = Some(Str::default());
    }
}

messages! {
    /// Brokers, topics and partition leaders.
    api(key 3, versions 0..=13, flexible 9)
    struct MetadataResponse<'a> {
        throttle_time_ms: i32 [since(3)];
        brokers: List<'a, MetadataResponseBroker<'a>>;
        cluster_id: Option<Str<'a>> [since(2), null(2)];
        controller_id: i32 [since(1)] = -1;
        topics: List<'a, MetadataResponseTopic<'a>>;
        cluster_authorized_operations: i32 [since(8), until(10)] = OPERATIONS_UNKNOWN;
        error_code: i16 [since(13)];
    }

    struct MetadataResponseBroker<'a> {
        node_id: i32;
        host: Str<'a>;
        port: i32;
        rack: Option<Str<'a>> [since(1), null(1)];
    }

    struct MetadataResponseTopic<'a> {
        error_code: i16;
        /// Null only in the answer to an unknown topic id.
        name: Option<Str<'a>> [null(12)] = Some(Str::default());
        topic_id: TopicId [since(10)];
        is_internal: bool [since(1)];
        partitions: List<'a, MetadataResponsePartition<'a>>;
        topic_authorized_operations: i32 [since(8)] = OPERATIONS_UNKNOWN;
    }

    struct MetadataResponsePartition<'a> {
        error_code: i16;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 [since(7)] = -1;
        replica_nodes: List<'a, i32>;
        isr_nodes: List<'a, i32>;
        offline_replicas: List<'a, i32> [since(5)];
    }
}
