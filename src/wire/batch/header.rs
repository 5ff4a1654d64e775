//! The 61-byte header, parsed once into plain integers whose arithmetic cannot overflow.

use super::codec::Codec;
use super::crc::concatenate;
use super::{HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, field};
use std::fmt;

const ATTRIBUTE_CODEC_MASK: u16 = 0b111;
pub(super) const ATTRIBUTE_APPEND_TIME: u16 = 1 << 3;
pub(super) const ATTRIBUTE_TRANSACTIONAL: u16 = 1 << 4;
pub(super) const ATTRIBUTE_CONTROL: u16 = 1 << 5;
pub(super) const ATTRIBUTE_DELETE_HORIZON: u16 = 1 << 6;

/// Whose clock the timestamps are from: attribute bit 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Each record carries the producer's time.
    CreateTime,
    /// The broker's time of the append, in `max_timestamp`, holds for every record.
    LogAppendTime,
}

/// Why bytes are not the header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    Incomplete { bytes_found: usize },
    /// Not format v2.
    Magic(u8),
    /// `batch_length` is shorter than the rest of a header.
    Length(i32),
    /// Negative, or the next offset would not fit `i64`.
    Offsets { base_offset: i64, last_offset_delta: i32 },
}

/// A batch header. Field names and meanings are Kafka's (`docs/format-batch.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    base_offset: i64,
    total_bytes: usize,
    partition_leader_epoch: i32,
    crc: u32,
    attributes: u16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may be longer or hold only the header.
    /// Looks at the header alone: neither the CRC nor the presence of the records is checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(HeaderError::Incomplete {
                bytes_found: bytes.len(),
            });
        };
        if raw[field::MAGIC] != MAGIC {
            return Err(HeaderError::Magic(raw[field::MAGIC]));
        }
        let batch_length = i32::from_be_bytes(at(raw, field::BATCH_LENGTH));
        let total_bytes = match usize::try_from(batch_length) {
            Ok(length) if length >= HEADER_BYTES - LENGTH_PREFIX_BYTES => length + LENGTH_PREFIX_BYTES,
            _ => return Err(HeaderError::Length(batch_length)),
        };
        let base_offset = i64::from_be_bytes(at(raw, field::BASE_OFFSET));
        let last_offset_delta = i32::from_be_bytes(at(raw, field::LAST_OFFSET_DELTA));
        let fits = base_offset
            .checked_add(i64::from(last_offset_delta))
            .is_some_and(|last| last < i64::MAX);
        if base_offset < 0 || last_offset_delta < 0 || !fits {
            return Err(HeaderError::Offsets {
                base_offset,
                last_offset_delta,
            });
        }
        Ok(Self {
            base_offset,
            total_bytes,
            partition_leader_epoch: i32::from_be_bytes(at(raw, field::LEADER_EPOCH)),
            crc: u32::from_be_bytes(at(raw, field::CRC)),
            attributes: u16::from_be_bytes(at(raw, field::ATTRIBUTES)),
            last_offset_delta,
            base_timestamp: i64::from_be_bytes(at(raw, field::BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(at(raw, field::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(at(raw, field::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(at(raw, field::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(at(raw, field::BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(at(raw, field::RECORD_COUNT)),
        })
    }

    /// Offset of the batch's first record (≥ 0).
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Bytes of the whole batch: `batch_length` + 12, at least [`HEADER_BYTES`].
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// The length field as stored: bytes after itself.
    pub fn batch_length(&self) -> usize {
        self.total_bytes - LENGTH_PREFIX_BYTES
    }

    /// Epoch of the leader that appended the batch; -1 from a producer.
    pub fn partition_leader_epoch(&self) -> i32 {
        self.partition_leader_epoch
    }

    /// The stored CRC-32C.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The CRC-32C of what `crc` is of with this batch behind it, when the batch's own CRC is right: its records are not looked at
    /// again. What became of them since is found by who sums up the bytes.
    pub fn extend_crc(&self, crc: u32) -> u32 {
        let mut uncovered = [0; field::ATTRIBUTES];
        uncovered[field::BASE_OFFSET..][..8].copy_from_slice(&self.base_offset.to_be_bytes());
        uncovered[field::BATCH_LENGTH..][..4].copy_from_slice(&(self.batch_length() as u32).to_be_bytes());
        uncovered[field::LEADER_EPOCH..][..4].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        uncovered[field::MAGIC] = MAGIC;
        uncovered[field::CRC..][..4].copy_from_slice(&self.crc.to_be_bytes());
        concatenate(
            crc32c::crc32c_append(crc, &uncovered),
            self.crc,
            self.total_bytes - uncovered.len(),
        )
    }

    /// The attribute bits as stored, unknown ones included.
    pub fn attributes(&self) -> u16 {
        self.attributes
    }

    /// The codec of the records, or its number when it is unknown.
    pub fn codec(&self) -> Result<Codec, u8> {
        let number = (self.attributes & ATTRIBUTE_CODEC_MASK) as u8;
        Codec::from_number(number).ok_or(number)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & ATTRIBUTE_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// When compaction may drop the batch's tombstones (KIP-534); it replaces the base timestamp.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & ATTRIBUTE_DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Offset of the last record minus `base_offset` (≥ 0). Kept by compaction, which lowers `record_count`.
    pub fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after this batch: the base of the next one in a log without holes.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Milliseconds since 1970 that the records' deltas are added to; -1 for none.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The greatest timestamp of the records, as the header says; -1 for none.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// -1 (any negative number) for a producer without idempotence.
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    pub fn producer_epoch(&self) -> i16 {
        self.producer_epoch
    }

    /// Sequence of the first record; -1 without a producer id and in control batches.
    pub fn base_sequence(&self) -> i32 {
        self.base_sequence
    }

    /// Sequence of the last record. Sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }

    /// Records the batch says it holds: 0 after compaction removed them all; anything, even negative, before validation.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }
}

/// `N` bytes of the header at a constant position; the header's length is in the type.
fn at<const N: usize>(raw: &[u8; HEADER_BYTES], position: usize) -> [u8; N] {
    *raw[position..].first_chunk().expect("fields end within the header")
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Incomplete { bytes_found } => {
                write!(f, "batch header needs {HEADER_BYTES} bytes, {bytes_found} present")
            }
            HeaderError::Magic(magic) => write!(f, "batch magic is {magic}, not {MAGIC}"),
            HeaderError::Length(length) => write!(f, "batch length {length} is shorter than a header"),
            HeaderError::Offsets {
                base_offset,
                last_offset_delta,
            } => {
                write!(
                    f,
                    "batch offsets overflow: base {base_offset}, last delta {last_offset_delta}"
                )
            }
        }
    }
}

impl std::error::Error for HeaderError {}
