use super::*;

messages! {
    /// Asks for record batches from given offsets, within a session (KIP-227) or without.
    api(key 1, versions 4..=18, flexible 12)
    struct FetchRequest<'a> {
        cluster_id: Option<Str<'a>> [since(12), null(12), tag(0)];
        replica_id: i32 [until(14)] = -1;
        replica_state: ReplicaState [since(15), tag(1)];
        max_wait_ms: i32;
        min_bytes: i32;
        max_bytes: i32 = i32::MAX;
        /// 0: read uncommitted; 1: read committed.
        isolation_level: i8;
        session_id: i32 [since(7)];
        session_epoch: i32 [since(7)] = -1;
        topics: List<'a, FetchTopic<'a>>;
        forgotten_topics_data: List<'a, ForgottenTopic<'a>> [since(7)];
        rack_id: Str<'a> [since(11)];
    }

    struct ReplicaState {
        replica_id: i32 = -1;
        replica_epoch: i64 = -1;
    }

    struct FetchTopic<'a> {
        topic: Str<'a> [until(12)];
        topic_id: TopicId [since(13)];
        partitions: List<'a, FetchPartition>;
    }

    struct FetchPartition {
        partition: i32;
        current_leader_epoch: i32 [since(9)] = -1;
        fetch_offset: i64;
        last_fetched_epoch: i32 [since(12)] = -1;
        log_start_offset: i64 [since(5)] = -1;
        partition_max_bytes: i32;
        replica_directory_id: TopicId [since(17), tag(0)];
        /// The high watermark that the replica knows (KIP-1166).
        high_watermark: i64 [since(18), tag(1)] = i64::MAX;
    }

    struct ForgottenTopic<'a> {
        topic: Str<'a> [until(12)];
        topic_id: TopicId [since(13)];
        partitions: List<'a, i32>;
    }
}

messages! {
    /// Brings record batches.
    api(key 1, versions 4..=18, flexible 12)
    struct FetchResponse<'a> {
        throttle_time_ms: i32;
        error_code: i16 [since(7)];
        session_id: i32 [since(7)];
        responses: List<'a, FetchableTopicResponse<'a>>;
        /// Endpoints of the leaders named by `current_leader` (KIP-951).
        node_endpoints: List<'a, NodeEndpoint<'a>> [since(16), tag(0)];
    }

    struct FetchableTopicResponse<'a> {
        topic: Str<'a> [until(12)];
        topic_id: TopicId [since(13)];
        partitions: List<'a, PartitionData<'a>>;
    }

    struct PartitionData<'a> {
        partition_index: i32;
        error_code: i16;
        high_watermark: i64;
        last_stable_offset: i64 = -1;
        log_start_offset: i64 [since(5)] = -1;
        /// Where the fetcher's log parts from the leader's (KIP-595).
        diverging_epoch: EpochEndOffset [since(12), tag(0)];
        current_leader: LeaderIdAndEpoch [since(12), tag(1)];
        snapshot_id: SnapshotId [since(12), tag(2)];
        aborted_transactions: Option<List<'a, AbortedTransaction>> [null(4)];
        preferred_read_replica: i32 [since(11)] = -1;
        /// Kafka sends an empty payload, never null, where there is nothing: so does the default.
        records: Option<Records<'a>> [null(0)] = Some(Records::default());
    }

    struct EpochEndOffset {
        epoch: i32 = -1;
        end_offset: i64 = -1;
    }

    struct SnapshotId {
        end_offset: i64 = -1;
        epoch: i32 = -1;
    }

    struct AbortedTransaction {
        producer_id: i64;
        first_offset: i64;
    }
}
