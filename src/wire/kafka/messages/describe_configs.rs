use super::*;

messages! {
    /// Asks for the configs of topics and brokers.
    api(key 32, versions 1..=4, flexible 4)
    struct DescribeConfigsRequest<'a> {
        resources: List<'a, DescribeConfigsResource<'a>>;
        include_synonyms: bool;
        include_documentation: bool [since(3)];
    }

    struct DescribeConfigsResource<'a> {
        /// 2: topic; 4: broker; 8: broker logger.
        resource_type: i8;
        resource_name: Str<'a>;
        /// Null asks for all.
        configuration_keys: Option<List<'a, Str<'a>>> [null(0)] = Some(List::default());
    }
}

messages! {
    /// The configs of topics and brokers.
    api(key 32, versions 1..=4, flexible 4)
    struct DescribeConfigsResponse<'a> {
        throttle_time_ms: i32;
        results: List<'a, DescribeConfigsResult<'a>>;
    }

    struct DescribeConfigsResult<'a> {
        error_code: i16;
        error_message: Option<Str<'a>> [null(0)] = Some(Str::default());
        resource_type: i8;
        resource_name: Str<'a>;
        configs: List<'a, DescribeConfigsResourceResult<'a>>;
    }

    struct DescribeConfigsResourceResult<'a> {
        name: Str<'a>;
        value: Option<Str<'a>> [null(0)] = Some(Str::default());
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
        synonyms: List<'a, DescribeConfigsSynonym<'a>>;
        config_type: i8 [since(3)];
        documentation: Option<Str<'a>> [since(3), null(0)] = Some(Str::default());
    }

    struct DescribeConfigsSynonym<'a> {
        name: Str<'a>;
        value: Option<Str<'a>> [null(0)] = Some(Str::default());
        source: i8;
    }
}
