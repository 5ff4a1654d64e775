use super::*;

messages! {
    /// Asks for offsets by timestamp, or by one of the special values below zero.
    api(key 2, versions 1..=11, flexible 6)
    struct ListOffsetsRequest<'a> {
        /// -1 from a client.
        replica_id: i32;
        isolation_level: i8 [since(2)];
        topics: List<'a, ListOffsetsTopic<'a>>;
        /// How long to wait for an answer from remote storage.
        timeout_ms: i32 [since(10)];
    }

    struct ListOffsetsTopic<'a> {
        name: Str<'a>;
        partitions: List<'a, ListOffsetsPartition>;
    }

    struct ListOffsetsPartition {
        partition_index: i32;
        current_leader_epoch: i32 [since(4)] = -1;
        timestamp: i64;
    }
}

messages! {
    /// Offsets, timestamps and epochs found.
    api(key 2, versions 1..=11, flexible 6)
    struct ListOffsetsResponse<'a> {
        throttle_time_ms: i32 [since(2)];
        topics: List<'a, ListOffsetsTopicResponse<'a>>;
    }

    struct ListOffsetsTopicResponse<'a> {
        name: Str<'a>;
        partitions: List<'a, ListOffsetsPartitionResponse>;
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32;
        error_code: i16;
        timestamp: i64 = -1;
        offset: i64 = -1;
        leader_epoch: i32 [since(4)] = -1;
    }
}

/// The values of `timestamp` that ask for a place instead of a time.
pub mod list_offsets_timestamp {
    /// The end of the log: the high watermark, or the last stable offset.
    pub const LATEST: i64 = -1;
    /// The start of the log.
    pub const EARLIEST: i64 = -2;
    /// The record with the largest timestamp (KIP-734), since version 7.
    pub const MAX_TIMESTAMP: i64 = -3;
    /// The start of what is on local disks (KIP-405), since version 8.
    pub const EARLIEST_LOCAL: i64 = -4;
    /// The end of what is in remote storage (KIP-1005), since version 9.
    pub const LATEST_TIERED: i64 = -5;
    /// The start of what is not yet in remote storage (KIP-1023), since version 11.
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}
