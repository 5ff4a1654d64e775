use super::*;

messages! {
    /// Asks which APIs, versions and features the broker has.
    api(key 18, versions 0..=4, flexible 3)
    struct ApiVersionsRequest<'a> {
        client_software_name: Str<'a> [since(3)];
        client_software_version: Str<'a> [since(3)];
    }
}

messages! {
    /// The APIs, versions and features of the broker.
    api(key 18, versions 0..=4, flexible 3)
    struct ApiVersionsResponse<'a> {
        error_code: i16;
        api_keys: List<'a, ApiVersion>;
        throttle_time_ms: i32 [since(1)];
        /// Below version 4 features with a `min_version` of 0 must be left out: older clients fail on them (KAFKA-17492).
        supported_features: List<'a, SupportedFeatureKey<'a>> [since(3), tag(0)];
        finalized_features_epoch: i64 [since(3), tag(1)] = -1;
        finalized_features: List<'a, FinalizedFeatureKey<'a>> [since(3), tag(2)];
        zk_migration_ready: bool [since(3), tag(3)];
    }

    struct ApiVersion {
        api_key: i16;
        min_version: i16;
        max_version: i16;
    }

    struct SupportedFeatureKey<'a> {
        name: Str<'a>;
        min_version: i16;
        max_version: i16;
    }

    struct FinalizedFeatureKey<'a> {
        name: Str<'a>;
        max_version_level: i16;
        min_version_level: i16;
    }
}
