//! The verdict on a batch from a client: header and CRC always, records when the topic or the operator asks.

use super::codec::{Codec, DecodeLimits};
use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, HeaderError, TimestampType};
use super::records::RecordReader;
use super::{HEADER_BYTES, NONE, field};

/// The topic's and the request's rules for one produced batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `max.message.bytes`: bytes of the batch as received, header included.
    pub batch_bytes_max: usize,
    pub timestamp: TimestampRule,
    pub records: RecordChecks,
    /// False for Produce below version 7, whose clients may not use zstd.
    pub zstd_allowed: bool,
    /// Cost of the record checks. [`RecordChecks::HeaderOnly`] takes from it how many records a compressed payload may hold.
    pub decode: DecodeLimits,
}

/// `message.timestamp.type` and the bounds that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampRule {
    /// Producers' times, if not older than `before_ms_max` nor further ahead than `after_ms_max` of `now_ms`. Judged by base and max
    /// timestamp of the header, and by each record's own when records are checked. -1 (no timestamp) passes.
    CreateTime {
        now_ms: i64,
        before_ms_max: i64,
        after_ms_max: i64,
    },
    /// The broker's time replaces whatever the batch says.
    LogAppendTime,
}

impl TimestampRule {
    /// CreateTime without bounds.
    pub const ANY: TimestampRule = TimestampRule::CreateTime {
        now_ms: 0,
        before_ms_max: i64::MAX,
        after_ms_max: i64::MAX,
    };

    fn admits(&self, timestamp: i64) -> bool {
        match *self {
            TimestampRule::CreateTime {
                now_ms,
                before_ms_max,
                after_ms_max,
            } => {
                timestamp == NONE
                    || (now_ms.saturating_sub(timestamp) <= before_ms_max
                        && timestamp.saturating_sub(now_ms) <= after_ms_max)
            }
            TimestampRule::LogAppendTime => true,
        }
    }
}

/// How deep a produced batch is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordChecks {
    /// Header and CRC: no decompression.
    HeaderOnly,
    /// Every record's structure, offsets and timestamps.
    Structure,
    /// Also that every record has a key: compacted topics.
    StructureAndKeys,
}

/// What a walk over the records found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    /// The greatest timestamp of the records; -1 when none has one.
    pub timestamp_max: i64,
    /// Offset of the first record with that timestamp, minus the base offset.
    pub timestamp_max_offset_delta: i32,
    pub decompressed_bytes: u64,
}

/// One whole batch, fit to be appended.
#[derive(Clone, Copy, Debug)]
pub struct ValidBatch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
    summary: Option<RecordsSummary>,
}

impl<'a> ValidBatch<'a> {
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch as received.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What the records hold, when [`Limits::records`] asked for it.
    pub fn summary(&self) -> Option<&RecordsSummary> {
        self.summary.as_ref()
    }
}

/// Judges what a Produce request carries for one partition. The order of the checks is Kafka's, so that a batch wrong in two ways gets
/// the answer clients expect.
pub fn validate_produce<'a>(bytes: &'a [u8], limits: &Limits) -> Result<ValidBatch<'a>, BatchError> {
    validate_produce_counted(bytes, limits, &mut 0)
}

/// The same; adds to `decoded_bytes` what was decompressed, whatever the verdict.
pub fn validate_produce_counted<'a>(
    bytes: &'a [u8],
    limits: &Limits,
    decoded_bytes: &mut u64,
) -> Result<ValidBatch<'a>, BatchError> {
    let header = match BatchHeader::parse(bytes) {
        Err(error @ HeaderError::Offsets { .. }) => return Err(damage(bytes).unwrap_or(error.into())),
        parsed => parsed?,
    };
    let total_bytes = header.total_bytes();
    if bytes.len() < total_bytes {
        return Err(BatchError::Incomplete {
            bytes_needed: total_bytes,
            bytes_found: bytes.len(),
        });
    }
    if bytes.len() > total_bytes {
        return Err(BatchError::ManyBatches {
            bytes_trailing: bytes.len() - total_bytes,
        });
    }
    if header.base_offset() != 0 {
        return Err(BatchError::BaseOffset(header.base_offset()));
    }
    if total_bytes > limits.batch_bytes_max {
        return Err(BatchError::TooLarge {
            bytes: total_bytes,
            bytes_max: limits.batch_bytes_max,
        });
    }
    let found = crc32c::crc32c(&bytes[field::ATTRIBUTES..]);
    if found != header.crc() {
        return Err(BatchError::Crc {
            expected: header.crc(),
            found,
        });
    }
    let codec = header.codec().map_err(BatchError::Codec)?;
    if codec == Codec::Zstd && !limits.zstd_allowed {
        return Err(BatchError::CodecForVersion);
    }
    check_header(&header, limits)?;
    let summary = match limits.records {
        RecordChecks::HeaderOnly => {
            check_room(&header, codec, &limits.decode)?;
            None
        }
        checks => {
            let mut reader = RecordReader::new(&header, bytes, &limits.decode)?;
            let keys_required = checks == RecordChecks::StructureAndKeys;
            let walked = walk(&mut reader, &limits.timestamp, keys_required);
            *decoded_bytes += match &walked {
                Ok(_) if codec == Codec::None => 0,
                Ok(summary) => summary.decompressed_bytes,
                Err(_) => reader.decoded_bytes(),
            };
            Some(walked?)
        }
    };
    Ok(ValidBatch { header, bytes, summary })
}

/// The wrong check sum of bytes whose header makes no sense: damage on the way explains more than a nonsensical client.
fn damage(bytes: &[u8]) -> Option<BatchError> {
    let expected = u32::from_be_bytes(*bytes.get(field::CRC..)?.first_chunk()?);
    let found = crc32c::crc32c(bytes.get(field::ATTRIBUTES..)?);
    (expected != found).then_some(BatchError::Crc { expected, found })
}

/// Length, attributes, timestamp delta, offset delta, key length, value length, count of headers: a byte each.
const RECORD_BYTES_MIN: u64 = 7;

/// The most records that `payload_bytes` have room for. A claim above it would burn offsets that no record has.
fn record_count_max(payload_bytes: usize, codec: Codec, decode: &DecodeLimits) -> u64 {
    let plain_bytes = match codec {
        Codec::None => payload_bytes as u64,
        packed => (payload_bytes as u64 * packed.ratio_max()).min(decode.budget(payload_bytes)),
    };
    plain_bytes / RECORD_BYTES_MIN
}

/// What a walk over the records would find, as far as their bytes tell.
fn check_room(header: &BatchHeader, codec: Codec, decode: &DecodeLimits) -> Result<(), BatchError> {
    let record_count = header.record_count();
    let record_count_max = record_count_max(header.total_bytes() - HEADER_BYTES, codec, decode);
    if i64::from(record_count) as u64 > record_count_max {
        return Err(BatchError::RecordRoom {
            record_count,
            record_count_max,
        });
    }
    Ok(())
}

fn check_header(header: &BatchHeader, limits: &Limits) -> Result<(), BatchError> {
    let (record_count, last_offset_delta) = (header.record_count(), header.last_offset_delta());
    if record_count <= 0 || i64::from(last_offset_delta) + 1 != i64::from(record_count) {
        return Err(BatchError::RecordCount {
            record_count,
            last_offset_delta,
        });
    }
    if header.is_control() {
        return Err(BatchError::ControlBatch);
    }
    if header.has_producer_id() {
        if header.base_sequence() < 0 {
            return Err(BatchError::Sequence(header.base_sequence()));
        }
        if header.producer_epoch() < 0 {
            return Err(BatchError::ProducerEpoch(header.producer_epoch()));
        }
    } else if header.is_transactional() {
        return Err(BatchError::TransactionalWithoutProducer);
    }
    if header.total_bytes() == HEADER_BYTES {
        return Err(BatchError::Record {
            index: 0,
            fault: RecordFault::Truncated,
        });
    }
    if limits.timestamp == TimestampRule::LogAppendTime {
        return Ok(());
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::TimestampType);
    }
    // With a delete horizon the base is no record's time.
    let base = (header.delete_horizon_ms().is_none()).then_some(header.base_timestamp());
    for timestamp in base.into_iter().chain([header.max_timestamp()]) {
        if !limits.timestamp.admits(timestamp) {
            return Err(BatchError::Timestamp {
                timestamp,
                record_index: None,
            });
        }
    }
    Ok(())
}

/// Walks all records of a produced batch: structure, offset deltas 0, 1, 2 …, timestamps, keys if `keys_required`.
/// Memory stays constant: keys and values are skipped as they are decompressed.
pub fn check_records(
    header: &BatchHeader,
    batch: &[u8],
    decode: &DecodeLimits,
    timestamps: &TimestampRule,
    keys_required: bool,
) -> Result<RecordsSummary, BatchError> {
    walk(
        &mut RecordReader::new(header, batch, decode)?,
        timestamps,
        keys_required,
    )
}

fn walk(
    reader: &mut RecordReader<'_>,
    timestamps: &TimestampRule,
    keys_required: bool,
) -> Result<RecordsSummary, BatchError> {
    let mut summary = RecordsSummary {
        timestamp_max: NONE,
        timestamp_max_offset_delta: 0,
        decompressed_bytes: 0,
    };
    let mut record_index = 0;
    while let Some(head) = reader.next_head()? {
        if head.offset_delta != record_index {
            let fault = RecordFault::OffsetDelta(head.offset_delta);
            return Err(BatchError::Record {
                index: record_index,
                fault,
            });
        }
        if keys_required && !head.has_key {
            return Err(BatchError::KeyMissing { record_index });
        }
        if !timestamps.admits(head.timestamp) {
            return Err(BatchError::Timestamp {
                timestamp: head.timestamp,
                record_index: Some(record_index),
            });
        }
        if head.timestamp > summary.timestamp_max {
            summary.timestamp_max = head.timestamp;
            summary.timestamp_max_offset_delta = head.offset_delta;
        }
        record_index += 1;
    }
    summary.decompressed_bytes = reader.decompressed_bytes();
    Ok(summary)
}
