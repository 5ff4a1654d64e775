use super::*;

messages! {
    /// Asks to delete topics: by name, since version 6 also by id.
    api(key 20, versions 1..=6, flexible 4)
    struct DeleteTopicsRequest<'a> {
        topics: List<'a, DeleteTopicState<'a>> [since(6)];
        topic_names: List<'a, Str<'a>> [until(5)];
        timeout_ms: i32;
    }

    struct DeleteTopicState<'a> {
        name: Option<Str<'a>> [null(6)];
        topic_id: TopicId;
    }
}

messages! {
    /// What became of the topics to be deleted.
    api(key 20, versions 1..=6, flexible 4)
    struct DeleteTopicsResponse<'a> {
        throttle_time_ms: i32;
        responses: List<'a, DeletableTopicResult<'a>>;
    }

    struct DeletableTopicResult<'a> {
        /// Null only in the answer to an unknown topic id.
        name: Option<Str<'a>> [null(6)] = Some(Str::default());
        topic_id: TopicId [since(6)];
        error_code: i16;
        error_message: Option<Str<'a>> [since(5), null(5)];
    }
}
