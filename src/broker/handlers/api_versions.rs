//! ApiVersions (KIP-35, KIP-511): what is served. No features are finalized: transactions come without `transaction.version`.

use crate::broker::dispatch::Call;
use crate::io::Env;
use crate::wire::kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::kafka::{ErrorCode, api_versions};

pub async fn handle<E: Env>(call: &Call<E>, request: ApiVersionsRequest<'_>) -> ApiVersionsResponse<'static> {
    let mut response = api_versions();
    if call.version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        response.error_code = ErrorCode::InvalidRequest.into();
        response.api_keys = Vec::new().into();
    }
    response
}

/// Letters, digits, dots and hyphens, with a letter or digit at both ends (KIP-511).
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn software_names_are_kip_511_names() {
        assert!(
            ["librdkafka", "apache-kafka-java", "4.0.0-rc1", "x"]
                .into_iter()
                .all(is_name)
        );
        assert!(["", "-a", "a.", "a b", "ä"].into_iter().all(|name| !is_name(name)));
    }
}
