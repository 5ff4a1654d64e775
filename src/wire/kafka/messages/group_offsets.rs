//! The offsets that a group commits and fetches.

use super::*;

messages! {
    /// Asks to commit offsets.
    api(key 8, versions 2..=10, flexible 8)
    struct OffsetCommitRequest<'a> {
        group_id: Str<'a>;
        generation_id_or_member_epoch: i32 = -1;
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>> [since(7), null(7)];
        retention_time_ms: i64 [until(4)] = -1;
        topics: List<'a, OffsetCommitRequestTopic<'a>>;
    }

    struct OffsetCommitRequestTopic<'a> {
        name: Str<'a> [until(9)];
        topic_id: TopicId [since(10)];
        partitions: List<'a, OffsetCommitRequestPartition<'a>>;
    }

    struct OffsetCommitRequestPartition<'a> {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 [since(6)] = -1;
        committed_metadata: Option<Str<'a>> [null(0)] = Some(Str::default());
    }
}

messages! {
    /// What became of the offsets to be committed.
    api(key 8, versions 2..=10, flexible 8)
    struct OffsetCommitResponse<'a> {
        throttle_time_ms: i32 [since(3)];
        topics: List<'a, OffsetCommitResponseTopic<'a>>;
    }

    struct OffsetCommitResponseTopic<'a> {
        name: Str<'a> [until(9)];
        topic_id: TopicId [since(10)];
        partitions: List<'a, OffsetCommitResponsePartition>;
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32;
        error_code: i16;
    }
}

messages! {
    /// Asks for committed offsets, since version 8 of several groups.
    api(key 9, versions 1..=10, flexible 6)
    struct OffsetFetchRequest<'a> {
        group_id: Str<'a> [until(7)];
        /// Null asks for all.
        topics: Option<List<'a, OffsetFetchRequestTopic<'a>>> [until(7), null(2)] = Some(List::default());
        groups: List<'a, OffsetFetchRequestGroup<'a>> [since(8)];
        /// Whether to refuse while transactions hold uncommitted offsets (KIP-447).
        require_stable: bool [since(7)];
    }

    struct OffsetFetchRequestTopic<'a> {
        name: Str<'a>;
        partition_indexes: List<'a, i32>;
    }

    struct OffsetFetchRequestGroup<'a> {
        group_id: Str<'a>;
        member_id: Option<Str<'a>> [since(9), null(9)];
        member_epoch: i32 [since(9)] = -1;
        /// Null asks for all.
        topics: Option<List<'a, OffsetFetchRequestTopics<'a>>> [null(8)] = Some(List::default());
    }

    struct OffsetFetchRequestTopics<'a> {
        name: Str<'a> [until(9)];
        topic_id: TopicId [since(10)];
        partition_indexes: List<'a, i32>;
    }
}

messages! {
    /// The committed offsets.
    api(key 9, versions 1..=10, flexible 6)
    struct OffsetFetchResponse<'a> {
        throttle_time_ms: i32 [since(3)];
        topics: List<'a, OffsetFetchResponseTopic<'a>> [until(7)];
        error_code: i16 [since(2), until(7)];
        groups: List<'a, OffsetFetchResponseGroup<'a>> [since(8)];
    }

    struct OffsetFetchResponseTopic<'a> {
        name: Str<'a>;
        partitions: List<'a, OffsetFetchResponsePartition<'a>>;
    }

    struct OffsetFetchResponseGroup<'a> {
        group_id: Str<'a>;
        topics: List<'a, OffsetFetchResponseTopics<'a>>;
        error_code: i16;
    }

    struct OffsetFetchResponseTopics<'a> {
        name: Str<'a> [until(9)];
        topic_id: TopicId [since(10)];
        partitions: List<'a, OffsetFetchResponsePartition<'a>>;
    }

    struct OffsetFetchResponsePartition<'a> {
        partition_index: i32;
        /// -1 where none is committed.
        committed_offset: i64;
        committed_leader_epoch: i32 [since(5)] = -1;
        metadata: Option<Str<'a>> [null(0)] = Some(Str::default());
        error_code: i16;
    }
}
