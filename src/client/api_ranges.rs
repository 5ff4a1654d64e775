//! Which versions of which APIs a broker serves, and the choice among them.

use std::collections::BTreeMap;

use crate::wire::kafka::Message;
use crate::wire::kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::error::ClientError;

/// What one broker answered to ApiVersions.
#[derive(Clone, Debug, Default)]
pub struct ApiRanges(BTreeMap<i16, (i16, i16)>);

impl ApiRanges {
    pub fn of(answer: &ApiVersionsResponse<'_>) -> Self {
        Self(
            answer
                .api_keys
                .iter()
                .map(|api| (api.api_key, (api.min_version, api.max_version)))
                .collect(),
        )
    }

    /// The newest version of `M` that both sides have, not above `version_cap`.
    pub fn choose<'a, M: Message<'a>>(&self, version_cap: i16) -> Result<i16, ClientError> {
        let range = self.0.get(&M::API_KEY).copied();
        let unsupported = ClientError::Unsupported {
            api: M::NAME,
            broker: range,
        };
        let Some((min, max)) = range else {
            return Err(unsupported);
        };
        let version = max.min(M::VERSION_MAX).min(version_cap);
        if version < min || version < M::VERSION_MIN {
            Err(unsupported)
        } else {
            Ok(version)
        }
    }

    /// The version in which to ask again a broker that answered UNSUPPORTED_VERSION: it lists its own range (KIP-511).
    pub fn second_question(&self) -> i16 {
        self.choose::<ApiVersionsRequest<'_>>(i16::MAX).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kafka::messages::ProduceRequest;

    #[test]
    fn the_newest_common_version_is_chosen_or_none() {
        let choose = |min, max, cap| ApiRanges(BTreeMap::from([(0, (min, max))])).choose::<ProduceRequest<'_>>(cap);
        let newest = <ProduceRequest<'_> as Message>::VERSION_MAX;
        assert_eq!(choose(0, 99, i16::MAX), Ok(newest));
        assert_eq!(choose(0, 9, i16::MAX), Ok(9));
        assert_eq!(choose(0, 99, 12), Ok(12));
        assert!(choose(newest + 1, newest + 3, i16::MAX).is_err());
        assert!(choose(0, 2, i16::MAX).is_err(), "older than this client has");
        assert!(ApiRanges::default().choose::<ProduceRequest<'_>>(i16::MAX).is_err());
    }
}
