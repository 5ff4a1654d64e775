use super::*;

messages! {
    /// Asks to append record batches.
    api(key 0, versions 3..=13, flexible 9)
    struct ProduceRequest<'a> {
        transactional_id: Option<Str<'a>> [null(3)];
        /// 0: no answer; 1: the leader has it; -1: all in-sync replicas have it.
        acks: i16;
        timeout_ms: i32;
        topic_data: List<'a, TopicProduceData<'a>>;
    }

    struct TopicProduceData<'a> {
        name: Str<'a> [until(12)];
        topic_id: TopicId [since(13)];
        partition_data: List<'a, PartitionProduceData<'a>>;
    }

    struct PartitionProduceData<'a> {
        index: i32;
        records: Option<Records<'a>> [null(0)];
    }
}

messages! {
    /// Tells for each partition where its batch went.
    api(key 0, versions 3..=13, flexible 9)
    struct ProduceResponse<'a> {
        responses: List<'a, TopicProduceResponse<'a>>;
        throttle_time_ms: i32;
        /// Endpoints of the leaders named by `current_leader` (KIP-951).
        node_endpoints: List<'a, NodeEndpoint<'a>> [since(10), tag(0)];
    }

    struct TopicProduceResponse<'a> {
        name: Str<'a> [until(12)];
        topic_id: TopicId [since(13)];
        partition_responses: List<'a, PartitionProduceResponse<'a>>;
    }

    struct PartitionProduceResponse<'a> {
        index: i32;
        error_code: i16;
        base_offset: i64;
        /// The time of the append where the topic uses LogAppendTime, -1 otherwise.
        log_append_time_ms: i64 = -1;
        log_start_offset: i64 [since(5)] = -1;
        /// The records for which the batch was refused (KIP-467).
        record_errors: List<'a, BatchIndexAndErrorMessage<'a>> [since(8)];
        error_message: Option<Str<'a>> [since(8), null(8)];
        current_leader: LeaderIdAndEpoch [since(10), tag(0)];
    }

    struct BatchIndexAndErrorMessage<'a> {
        batch_index: i32;
        batch_index_error_message: Option<Str<'a>> [null(8)];
    }
}
