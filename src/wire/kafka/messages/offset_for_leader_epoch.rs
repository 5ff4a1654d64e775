use super::*;

messages! {
    /// Asks where leader epochs end (KIP-101, KIP-320).
    api(key 23, versions 2..=4, flexible 4)
    struct OffsetForLeaderEpochRequest<'a> {
        /// -1 from a consumer; -2, as in the versions without it, from who does not say.
        replica_id: i32 [since(3)] = -2;
        topics: List<'a, OffsetForLeaderTopic<'a>>;
    }

    struct OffsetForLeaderTopic<'a> {
        topic: Str<'a>;
        partitions: List<'a, OffsetForLeaderPartition>;
    }

    struct OffsetForLeaderPartition {
        partition: i32;
        current_leader_epoch: i32 = -1;
        leader_epoch: i32;
    }
}

messages! {
    /// Where leader epochs end.
    api(key 23, versions 2..=4, flexible 4)
    struct OffsetForLeaderEpochResponse<'a> {
        throttle_time_ms: i32;
        topics: List<'a, OffsetForLeaderTopicResult<'a>>;
    }

    struct OffsetForLeaderTopicResult<'a> {
        topic: Str<'a>;
        partitions: List<'a, LeaderEpochEnd>;
    }

    /// Kafka calls it EpochEndOffset, as it does another struct of Fetch.
    struct LeaderEpochEnd {
        error_code: i16;
        partition: i32;
        leader_epoch: i32 = -1;
        end_offset: i64 = -1;
    }
}
