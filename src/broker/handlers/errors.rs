//! The one place where our errors become Kafka's.

use crate::broker::fetch::session::SessionError;
use crate::broker::route::PartitionError;
use crate::cluster::ClusterError;
use crate::storage::{AppendError, ReadError};
use crate::wire::batch::{BatchError, ErrorClass};
use crate::wire::kafka::ErrorCode;

impl From<&PartitionError> for ErrorCode {
    fn from(error: &PartitionError) -> Self {
        match error {
            PartitionError::NotHere => ErrorCode::NotLeaderOrFollower,
            PartitionError::Offline => ErrorCode::KafkaStorageError,
            PartitionError::TimedOut => ErrorCode::RequestTimedOut,
            PartitionError::LeaderEpochFenced => ErrorCode::FencedLeaderEpoch,
            PartitionError::LeaderEpochUnknown => ErrorCode::UnknownLeaderEpoch,
            PartitionError::Append(error) => match error {
                AppendError::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
                AppendError::StaleProducerEpoch => ErrorCode::InvalidProducerEpoch,
                AppendError::Invalid => ErrorCode::CorruptMessage,
                AppendError::TooLargeForSegment => ErrorCode::RecordListTooLarge,
                AppendError::GivenUp => ErrorCode::RequestTimedOut,
                AppendError::Closed => ErrorCode::NotLeaderOrFollower,
                AppendError::Offline | AppendError::Full => ErrorCode::KafkaStorageError,
            },
            PartitionError::Read(error) => match error {
                ReadError::OutOfRange => ErrorCode::OffsetOutOfRange,
                ReadError::Corrupt => ErrorCode::CorruptMessage,
                ReadError::Offline => ErrorCode::KafkaStorageError,
                ReadError::Closed => ErrorCode::NotLeaderOrFollower,
            },
        }
    }
}

impl From<&BatchError> for ErrorCode {
    fn from(error: &BatchError) -> Self {
        match error.class() {
            ErrorClass::Corrupt => ErrorCode::CorruptMessage,
            ErrorClass::TooLarge => ErrorCode::MessageTooLarge,
            ErrorClass::InvalidTimestamp => ErrorCode::InvalidTimestamp,
            ErrorClass::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
            ErrorClass::InvalidRecord => ErrorCode::InvalidRecord,
        }
    }
}

impl From<SessionError> for ErrorCode {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
            SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
            SessionError::TopicIdMismatch => ErrorCode::FetchSessionTopicIdError,
        }
    }
}

impl From<&ClusterError> for ErrorCode {
    fn from(error: &ClusterError) -> Self {
        match error {
            ClusterError::Refused(error) => error.code(),
            // The directory of the metadata log is out of service, or full.
            ClusterError::NoSpace | ClusterError::Closed => ErrorCode::KafkaStorageError,
        }
    }
}
