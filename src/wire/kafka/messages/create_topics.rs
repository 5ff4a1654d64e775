use super::*;

messages! {
    /// Asks to create topics.
    api(key 19, versions 2..=7, flexible 5)
    struct CreateTopicsRequest<'a> {
        topics: List<'a, CreatableTopic<'a>>;
        timeout_ms: i32 = 60_000;
        validate_only: bool;
    }

    struct CreatableTopic<'a> {
        name: Str<'a>;
        /// -1 for the broker's default (since version 4), or when there are assignments.
        num_partitions: i32;
        /// -1 likewise.
        replication_factor: i16;
        assignments: List<'a, CreatableReplicaAssignment<'a>>;
        configs: List<'a, CreatableTopicConfig<'a>>;
    }

    struct CreatableReplicaAssignment<'a> {
        partition_index: i32;
        broker_ids: List<'a, i32>;
    }

    struct CreatableTopicConfig<'a> {
        name: Str<'a>;
        value: Option<Str<'a>> [null(0)] = Some(Str::default());
    }
}

messages! {
    /// What became of the topics to be created.
    api(key 19, versions 2..=7, flexible 5)
    struct CreateTopicsResponse<'a> {
        throttle_time_ms: i32;
        topics: List<'a, CreatableTopicResult<'a>>;
    }

    struct CreatableTopicResult<'a> {
        name: Str<'a>;
        topic_id: TopicId [since(7)];
        error_code: i16;
        error_message: Option<Str<'a>> [null(0)];
        /// Set when the client may not see the configs.
        topic_config_error_code: i16 [since(5), tag(0)];
        num_partitions: i32 [since(5)] = -1;
        replication_factor: i16 [since(5)] = -1;
        configs: Option<List<'a, CreatableTopicConfigs<'a>>> [since(5), null(5)] = Some(List::default());
    }

    struct CreatableTopicConfigs<'a> {
        name: Str<'a>;
        value: Option<Str<'a>> [null(5)] = Some(Str::default());
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
    }
}
