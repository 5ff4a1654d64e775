use super::*;

messages! {
    /// Asks to give topics more partitions.
    api(key 37, versions 0..=3, flexible 2)
    struct CreatePartitionsRequest<'a> {
        topics: List<'a, CreatePartitionsTopic<'a>>;
        timeout_ms: i32;
        validate_only: bool;
    }

    struct CreatePartitionsTopic<'a> {
        name: Str<'a>;
        /// How many the topic shall have, those it has included.
        count: i32;
        /// Null leaves the placement to the broker.
        assignments: Option<List<'a, CreatePartitionsAssignment<'a>>> [null(0)] = Some(List::default());
    }

    struct CreatePartitionsAssignment<'a> {
        broker_ids: List<'a, i32>;
    }
}

messages! {
    /// What became of the topics to be given more partitions.
    api(key 37, versions 0..=3, flexible 2)
    struct CreatePartitionsResponse<'a> {
        throttle_time_ms: i32;
        results: List<'a, CreatePartitionsTopicResult<'a>>;
    }

    struct CreatePartitionsTopicResult<'a> {
        name: Str<'a>;
        error_code: i16;
        error_message: Option<Str<'a>> [null(0)];
    }
}
