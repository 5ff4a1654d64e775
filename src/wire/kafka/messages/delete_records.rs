use super::*;

messages! {
    /// Asks to delete records below given offsets (KIP-107).
    api(key 21, versions 0..=2, flexible 2)
    struct DeleteRecordsRequest<'a> {
        topics: List<'a, DeleteRecordsTopic<'a>>;
        timeout_ms: i32;
    }

    struct DeleteRecordsTopic<'a> {
        name: Str<'a>;
        partitions: List<'a, DeleteRecordsPartition>;
    }

    struct DeleteRecordsPartition {
        partition_index: i32;
        /// The new start of the log; -1 for the high watermark.
        offset: i64;
    }
}

messages! {
    /// Where the logs start now.
    api(key 21, versions 0..=2, flexible 2)
    struct DeleteRecordsResponse<'a> {
        throttle_time_ms: i32;
        topics: List<'a, DeleteRecordsTopicResult<'a>>;
    }

    struct DeleteRecordsTopicResult<'a> {
        name: Str<'a>;
        partitions: List<'a, DeleteRecordsPartitionResult>;
    }

    struct DeleteRecordsPartitionResult {
        partition_index: i32;
        low_watermark: i64;
        error_code: i16;
    }
}
