//! Why something a client was asked to do did not happen.

use std::fmt;

use crate::wire::kafka::{DecodeError, EncodeError, ErrorCode};

/// Cheap to clone: all records of a failed batch share one.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientError {
    /// No connection to `address` could be made.
    Connect { address: String, cause: String },
    /// The connection ended with the request unanswered: what it did is unknown.
    Disconnected { address: String, cause: String },
    /// No answer in time: what the request did is unknown.
    Timeout { what: &'static str, after_ms: u64 },
    /// The answer is not what the protocol says. The connection was closed.
    Malformed { address: String, cause: String },
    /// The broker has no version of the API that this client has too.
    Unsupported {
        api: &'static str,
        broker: Option<(i16, i16)>,
    },
    /// The native protocol has no such request.
    NotNative { api: &'static str },
    /// The broker refused.
    Refused {
        what: String,
        code: ErrorCode,
        message: Option<String>,
    },
    /// The broker named an error that this client does not know.
    UnknownCode { what: String, code: i16 },
    /// What was asked cannot be encoded or is too large.
    Invalid(String),
    /// A batch that was read does not verify.
    Corrupt {
        topic: String,
        partition: i32,
        offset: i64,
        cause: String,
    },
    /// The client was closed.
    Closed,
}

impl ClientError {
    /// The error of a non-zero `code`; `what` is a clause such as "create topic x".
    pub fn refused(what: impl Into<String>, code: i16, message: Option<&str>) -> Self {
        match ErrorCode::from_code(code) {
            Some(code) => Self::Refused {
                what: what.into(),
                code,
                message: message.map(str::to_owned),
            },
            None => Self::UnknownCode {
                what: what.into(),
                code,
            },
        }
    }

    /// `Ok` for code 0, otherwise the refusal.
    pub fn check(code: i16, what: impl FnOnce() -> String, message: Option<&str>) -> Result<(), Self> {
        if code == 0 {
            Ok(())
        } else {
            Err(Self::refused(what(), code, message))
        }
    }

    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::Timeout { .. } => true,
            Self::Refused { code, .. } => code.retriable(),
            _ => false,
        }
    }

    /// Whether the cause may be that leaders or brokers moved.
    pub fn is_stale_metadata(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::Timeout { .. } => true,
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::ReplicaNotAvailable
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::InconsistentTopicId
                    | ErrorCode::NotController
                    | ErrorCode::ListenerNotFound
            ),
            _ => false,
        }
    }

    pub(super) fn decode(address: &str, api: &str, error: DecodeError) -> Self {
        Self::Malformed {
            address: address.to_owned(),
            cause: format!("{api}: {error}"),
        }
    }

    pub(super) fn encode(api: &str, error: EncodeError) -> Self {
        Self::Invalid(format!("{api}: {error}"))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { address, cause } => write!(f, "cannot connect to {address}: {cause}"),
            Self::Disconnected { address, cause } => write!(f, "the connection to {address} ended: {cause}"),
            Self::Timeout { what, after_ms } => write!(f, "no answer to {what} after {after_ms} ms"),
            Self::Malformed { address, cause } => write!(f, "{address} sent a malformed answer: {cause}"),
            Self::Unsupported { api, broker: None } => write!(f, "the broker does not serve {api}"),
            Self::Unsupported {
                api,
                broker: Some((min, max)),
            } => {
                write!(
                    f,
                    "the broker serves {api} in versions {min} to {max}, none of which this client has"
                )
            }
            Self::NotNative { api } => write!(
                f,
                "{api} is not in the native protocol: ask a listener of Kafka's protocol (`listeners`)"
            ),
            Self::Refused {
                what,
                code,
                message: None,
            } => write!(f, "{what}: {code}"),
            Self::Refused {
                what,
                code,
                message: Some(message),
            } => write!(f, "{what}: {code}: {message}"),
            Self::UnknownCode { what, code } => write!(f, "{what}: error code {code}"),
            Self::Invalid(what) => f.write_str(what),
            Self::Corrupt {
                topic,
                partition,
                offset,
                cause,
            } => {
                write!(f, "{topic}-{partition} at offset {offset} does not verify: {cause}")
            }
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for ClientError {}
