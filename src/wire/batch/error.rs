//! Why a batch is refused. The broker turns an [`ErrorClass`] into Kafka's code; nothing here knows codes.

use super::MAGIC;
use super::header::HeaderError;
use std::fmt;

/// What is wrong with a batch that came from a client or from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than one batch needs.
    Incomplete { bytes_needed: usize, bytes_found: usize },
    /// The header cannot be a v2 batch's.
    Header(HeaderError),
    /// Bytes follow the one batch a partition may carry per request.
    ManyBatches { bytes_trailing: usize },
    /// Larger than `max.message.bytes` as received.
    TooLarge { bytes: usize, bytes_max: usize },
    /// CRC-32C over the bytes from the attributes to the end.
    Crc { expected: u32, found: u32 },
    /// A client's batch starts at offset 0; the log assigns the real one.
    BaseOffset(i64),
    /// `last_offset_delta + 1 == record_count > 0` does not hold.
    RecordCount { record_count: i32, last_offset_delta: i32 },
    /// More records than the payload has bytes for, decompressed as far as its codec can.
    RecordRoom { record_count: i32, record_count_max: u64 },
    /// Only the broker writes control batches.
    ControlBatch,
    /// A producer id without a sequence.
    Sequence(i32),
    /// A producer id without an epoch.
    ProducerEpoch(i16),
    /// Transactional without a producer id.
    TransactionalWithoutProducer,
    /// Codec number 5 to 7.
    Codec(u8),
    /// zstd through a Produce version below 7.
    CodecForVersion,
    /// Outside `message.timestamp.before.max.ms` / `after.max.ms`. `record_index` is set when the records were walked.
    Timestamp { timestamp: i64, record_index: Option<i32> },
    /// A producer claims LogAppendTime on a CreateTime topic.
    TimestampType,
    /// A record of a compacted topic has no key.
    KeyMissing { record_index: i32 },
    /// Record number `index` is malformed (or the payload as a whole, with the index that was being read).
    Record { index: i32, fault: RecordFault },
}

/// What is wrong with one record or with the payload that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// The payload ends inside a record.
    Truncated,
    /// A varint longer than its type, or a length below -1 (below 0 where null is not allowed).
    Varint,
    /// The record's parts do not add up to its length.
    Length,
    /// An offset delta outside of the batch, not above the one before, or (from clients) not the record's index.
    OffsetDelta(i32),
    /// The base timestamp plus the delta does not fit.
    Timestamp,
    /// Bytes are left after the last declared record.
    Trailing,
    /// The codec's own framing or content is damaged.
    Decompression,
    /// More decompressed bytes than [`DecodeLimits`](super::DecodeLimits) allows.
    DecompressionLimit,
}

/// The answer a client gets, one to one with Kafka's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// CORRUPT_MESSAGE (2)
    Corrupt,
    /// MESSAGE_TOO_LARGE (10)
    TooLarge,
    /// INVALID_TIMESTAMP (32)
    InvalidTimestamp,
    /// UNSUPPORTED_COMPRESSION_TYPE (76)
    UnsupportedCompression,
    /// INVALID_RECORD (87)
    InvalidRecord,
}

impl BatchError {
    /// The class that decides the client's error code.
    pub fn class(&self) -> ErrorClass {
        match self {
            BatchError::Crc { .. } | BatchError::Header(HeaderError::Length(_)) => ErrorClass::Corrupt,
            BatchError::TooLarge { .. } => ErrorClass::TooLarge,
            BatchError::Timestamp { .. } | BatchError::TimestampType => ErrorClass::InvalidTimestamp,
            BatchError::Codec(_) | BatchError::CodecForVersion => ErrorClass::UnsupportedCompression,
            // Formats that are older are known (and refused), others are noise: so Kafka tells them apart.
            BatchError::Header(HeaderError::Magic(magic)) if *magic > MAGIC => ErrorClass::Corrupt,
            // A client that cannot be decompressed sent damaged data with a matching CRC; Kafka calls that corrupt too.
            BatchError::Record {
                fault: RecordFault::Decompression,
                ..
            } => ErrorClass::Corrupt,
            BatchError::Incomplete { .. }
            | BatchError::Header(_)
            | BatchError::ManyBatches { .. }
            | BatchError::BaseOffset(_)
            | BatchError::RecordCount { .. }
            | BatchError::RecordRoom { .. }
            | BatchError::ControlBatch
            | BatchError::Sequence(_)
            | BatchError::ProducerEpoch(_)
            | BatchError::TransactionalWithoutProducer
            | BatchError::KeyMissing { .. }
            | BatchError::Record { .. } => ErrorClass::InvalidRecord,
        }
    }

    /// The record the error is about, for `record_errors` of a Produce response (KIP-467).
    pub fn record_index(&self) -> Option<i32> {
        match self {
            BatchError::Timestamp { record_index, .. } => *record_index,
            BatchError::KeyMissing { record_index } => Some(*record_index),
            BatchError::Record { index, .. } => Some(*index),
            _ => None,
        }
    }
}

impl From<HeaderError> for BatchError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Incomplete { bytes_found } => BatchError::Incomplete {
                bytes_needed: super::HEADER_BYTES,
                bytes_found,
            },
            other => BatchError::Header(other),
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Incomplete {
                bytes_needed,
                bytes_found,
            } => {
                write!(f, "batch needs {bytes_needed} bytes, {bytes_found} present")
            }
            BatchError::Header(error) => write!(f, "{error}"),
            BatchError::ManyBatches { bytes_trailing } => {
                write!(f, "{bytes_trailing} bytes follow the one batch allowed per partition")
            }
            BatchError::TooLarge { bytes, bytes_max } => {
                write!(f, "batch of {bytes} bytes exceeds the limit of {bytes_max}")
            }
            BatchError::Crc { expected, found } => {
                write!(f, "batch CRC is {found:#010x}, header says {expected:#010x}")
            }
            BatchError::BaseOffset(offset) => write!(f, "base offset of a produced batch is {offset}, not 0"),
            BatchError::RecordCount {
                record_count,
                last_offset_delta,
            } => {
                write!(
                    f,
                    "record count {record_count} does not match last offset delta {last_offset_delta}"
                )
            }
            BatchError::RecordRoom {
                record_count,
                record_count_max,
            } => {
                write!(
                    f,
                    "record count {record_count}, but the payload has room for {record_count_max}"
                )
            }
            BatchError::ControlBatch => f.write_str("clients may not write control batches"),
            BatchError::Sequence(sequence) => write!(f, "sequence {sequence} with a producer id"),
            BatchError::ProducerEpoch(epoch) => write!(f, "producer epoch {epoch} with a producer id"),
            BatchError::TransactionalWithoutProducer => f.write_str("transactional batch without a producer id"),
            BatchError::Codec(codec) => write!(f, "unknown compression codec {codec}"),
            BatchError::CodecForVersion => f.write_str("zstd needs a newer version of the request"),
            BatchError::Timestamp {
                timestamp,
                record_index: None,
            } => {
                write!(f, "timestamp {timestamp} is out of range")
            }
            BatchError::Timestamp {
                timestamp,
                record_index: Some(index),
            } => {
                write!(f, "timestamp {timestamp} of record {index} is out of range")
            }
            BatchError::TimestampType => f.write_str("producers may not set the timestamp type LogAppendTime"),
            BatchError::KeyMissing { record_index } => {
                write!(f, "record {record_index} has no key, which a compacted topic requires")
            }
            BatchError::Record { index, fault } => write!(f, "record {index}: {fault}"),
        }
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordFault::Truncated => f.write_str("the payload ends inside the record"),
            RecordFault::Varint => f.write_str("malformed varint or negative length"),
            RecordFault::Length => f.write_str("parts do not add up to the record's length"),
            RecordFault::OffsetDelta(delta) => write!(f, "offset delta {delta} is out of order or range"),
            RecordFault::Timestamp => f.write_str("timestamp overflows"),
            RecordFault::Trailing => f.write_str("bytes follow the last record"),
            RecordFault::Decompression => f.write_str("compressed data is damaged"),
            RecordFault::DecompressionLimit => f.write_str("decompressed data exceeds the limit"),
        }
    }
}

impl std::error::Error for BatchError {}
