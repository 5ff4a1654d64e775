//! Time within a batch: what ListOffsets asks once the index has named the batch.

use super::codec::DecodeLimits;
use super::error::BatchError;
use super::header::{BatchHeader, TimestampType};
use super::records::RecordReader;

/// `(timestamp, offset)` of the first record at or after `target_ms` whose offset is at least `min_offset`.
///
/// `batch` starts with a whole batch. In LogAppendTime batches every record has the batch's max timestamp. The header is believed where
/// it rules the batch out; records are decoded, and no further than the answer, only where it does not decide.
pub fn offset_for_time(
    batch: &[u8],
    target_ms: i64,
    min_offset: i64,
    limits: &DecodeLimits,
) -> Result<Option<(i64, i64)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp() < target_ms || header.last_offset() < min_offset || header.record_count() == 0 {
        return Ok(None);
    }
    let every_offset_present = i64::from(header.record_count()) == i64::from(header.last_offset_delta()) + 1;
    if header.timestamp_type() == TimestampType::LogAppendTime && every_offset_present {
        return Ok(Some((header.max_timestamp(), header.base_offset().max(min_offset))));
    }
    let mut reader = RecordReader::new(&header, batch, limits)?;
    while let Some(head) = reader.next_head()? {
        if head.timestamp >= target_ms && head.offset >= min_offset {
            return Ok(Some((head.timestamp, head.offset)));
        }
    }
    Ok(None)
}

/// `(timestamp, offset)` of the record with the greatest timestamp, the first of equals: ListOffsets(-3), KIP-734.
///
/// For LogAppendTime, where all are equal, Kafka answers the batch's last offset. `None` when no record has a timestamp.
pub fn max_timestamp_offset(batch: &[u8], limits: &DecodeLimits) -> Result<Option<(i64, i64)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp() < 0 || header.record_count() == 0 {
        return Ok(None);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(Some((header.max_timestamp(), header.last_offset())));
    }
    let mut greatest: Option<(i64, i64)> = None;
    let mut reader = RecordReader::new(&header, batch, limits)?;
    while let Some(head) = reader.next_head()? {
        if head.timestamp >= 0 && greatest.is_none_or(|(timestamp, _)| head.timestamp > timestamp) {
            greatest = Some((head.timestamp, head.offset));
            if head.timestamp == header.max_timestamp() {
                break;
            }
        }
    }
    Ok(greatest)
}
