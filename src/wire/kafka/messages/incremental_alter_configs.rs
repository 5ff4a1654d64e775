use super::*;

messages! {
    /// Asks to change some configs and leave the others (KIP-339).
    api(key 44, versions 0..=1, flexible 1)
    struct IncrementalAlterConfigsRequest<'a> {
        resources: List<'a, AlterConfigsResource<'a>>;
        validate_only: bool;
    }

    struct AlterConfigsResource<'a> {
        /// 2: topic; 4: broker; 8: broker logger.
        resource_type: i8;
        resource_name: Str<'a>;
        configs: List<'a, AlterableConfig<'a>>;
    }

    struct AlterableConfig<'a> {
        name: Str<'a>;
        /// 0: set; 1: delete; 2: append; 3: subtract.
        config_operation: i8;
        value: Option<Str<'a>> [null(0)] = Some(Str::default());
    }
}

messages! {
    /// What became of the resources to be changed.
    api(key 44, versions 0..=1, flexible 1)
    struct IncrementalAlterConfigsResponse<'a> {
        throttle_time_ms: i32;
        responses: List<'a, AlterConfigsResourceResponse<'a>>;
    }

    struct AlterConfigsResourceResponse<'a> {
        error_code: i16;
        error_message: Option<Str<'a>> [null(0)] = Some(Str::default());
        resource_type: i8;
        resource_name: Str<'a>;
    }
}
