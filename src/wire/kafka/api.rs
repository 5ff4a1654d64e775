//! The APIs that the broker serves. The one table from which requests are dispatched and ApiVersions is answered.

use super::error_code::ErrorCode;
use super::list::List;
use super::message::Message;
use super::messages::*;

/// One row: an API and the versions of it that are served.
#[derive(Debug, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    pub name: &'static str,
    /// The first and the last version served.
    pub version_min: i16,
    pub version_max: i16,
    /// The first version that ApiVersions declares: lower than `version_min` where clients take a missing old version
    /// for a missing feature (KAFKA-18659).
    pub advertised_min: i16,
    /// The first version with flexible messages and headers.
    pub flexible_from: i16,
}

/// Work that is the same for the requests of all APIs: what the fuzzer and dumps do. Handlers match on [`ApiKey`] instead.
pub trait RequestVisitor<'a> {
    type Output;
    fn visit<Q: Message<'a>>(self) -> Self::Output;
}

/// A request's type with another lifetime, if it has one.
macro_rules! request_of {
    ($other:lifetime, $request:ident) => {
        $request
    };
    ($other:lifetime, $request:ident $lifetime:lifetime) => {
        $request<$other>
    };
}

macro_rules! apis {
    ($($name:ident = $key:literal: $request:ident $(<$lifetime:lifetime>)?, $response:ty $(, advertised from $advertised:literal)?;)*) => {
        /// The keys of the served APIs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        /// Every served API, in order of the keys.
        pub const APIS: &[Api] = &[$(Api {
            key: ApiKey::$name,
            name: stringify!($name),
            version_min: <$request$(<$lifetime>)? as Message>::VERSION_MIN,
            version_max: <$request$(<$lifetime>)? as Message>::VERSION_MAX,
            advertised_min: (const { [$($advertised,)? <$request$(<$lifetime>)? as Message>::VERSION_MIN] })[0],
            flexible_from: <$request$(<$lifetime>)? as Message>::FLEXIBLE_FROM,
        },)*];

        $(const _: () = {
            assert!(<$request$(<$lifetime>)? as Message>::API_KEY == $key && <$response as Message>::API_KEY == $key);
            assert!(<$request$(<$lifetime>)? as Message>::VERSION_MIN == <$response as Message>::VERSION_MIN);
            assert!(<$request$(<$lifetime>)? as Message>::VERSION_MAX == <$response as Message>::VERSION_MAX);
            assert!(<$request$(<$lifetime>)? as Message>::FLEXIBLE_FROM == <$response as Message>::FLEXIBLE_FROM);
        };)*

        /// Calls the visitor with the request type of `key`.
        pub fn visit_request<'a, V: RequestVisitor<'a>>(key: ApiKey, visitor: V) -> V::Output {
            match key {
                $(ApiKey::$name => visitor.visit::<request_of!('a, $request $($lifetime)?)>(),)*
            }
        }

        /// Calls the visitor with the types of every served API.
        #[cfg(test)]
        pub(super) fn visit_apis(visitor: &mut impl super::tests::ApiVisitor) {
            $(visitor.visit::<$request$(<$lifetime>)?, $response>(
                Api::by_key($key).expect("every row of the table is found"),
            );)*
        }
    };
}

apis! {
    Produce = 0: ProduceRequest<'static>, ProduceResponse<'static>, advertised from 0;
    Fetch = 1: FetchRequest<'static>, FetchResponse<'static>;
    ListOffsets = 2: ListOffsetsRequest<'static>, ListOffsetsResponse<'static>;
    Metadata = 3: MetadataRequest<'static>, MetadataResponse<'static>;
    ApiVersions = 18: ApiVersionsRequest<'static>, ApiVersionsResponse<'static>;
    CreateTopics = 19: CreateTopicsRequest<'static>, CreateTopicsResponse<'static>;
    DeleteTopics = 20: DeleteTopicsRequest<'static>, DeleteTopicsResponse<'static>;
    InitProducerId = 22: InitProducerIdRequest<'static>, InitProducerIdResponse;
    OffsetForLeaderEpoch = 23: OffsetForLeaderEpochRequest<'static>, OffsetForLeaderEpochResponse<'static>;
    DescribeConfigs = 32: DescribeConfigsRequest<'static>, DescribeConfigsResponse<'static>;
    CreatePartitions = 37: CreatePartitionsRequest<'static>, CreatePartitionsResponse<'static>;
    DescribeCluster = 60: DescribeClusterRequest, DescribeClusterResponse<'static>;
    DescribeTopicPartitions = 75: DescribeTopicPartitionsRequest<'static>, DescribeTopicPartitionsResponse<'static>;
}

const _: () = {
    let mut index = 1;
    while index < APIS.len() {
        assert!(
            (APIS[index - 1].key as i16) < APIS[index].key as i16,
            "the table is in order of the keys"
        );
        index += 1;
    }
};

impl Api {
    /// The served API of this key.
    pub fn by_key(key: i16) -> Option<&'static Api> {
        APIS.binary_search_by_key(&key, |api| api.key as i16)
            .ok()
            .map(|index| &APIS[index])
    }

    /// Whether requests of `version` are served.
    pub fn serves(&self, version: i16) -> bool {
        (self.version_min..=self.version_max).contains(&version)
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

/// The answer to ApiVersions: the table as it is advertised. Features are the caller's.
pub fn api_versions() -> ApiVersionsResponse<'static> {
    ApiVersionsResponse {
        api_keys: APIS.iter().map(advertised).collect(),
        ..Default::default()
    }
}

/// The answer to ApiVersions in a version that is not served, to be encoded in version 0: clients learn from it what to
/// ask with.
pub fn unsupported_api_versions() -> ApiVersionsResponse<'static> {
    let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions);
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.into(),
        api_keys: own.map(advertised).collect::<List<'_, ApiVersion>>(),
        ..Default::default()
    }
}

fn advertised(api: &Api) -> ApiVersion {
    ApiVersion {
        api_key: api.key as i16,
        min_version: api.advertised_min,
        max_version: api.version_max,
    }
}
