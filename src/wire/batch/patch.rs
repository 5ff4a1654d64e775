//! What a leader changes in a batch: the two fields outside of the CRC, and for LogAppendTime two inside.

use super::header::ATTRIBUTE_APPEND_TIME;
use super::{HEADER_BYTES, LENGTH_PREFIX_BYTES, crc, field};

/// Writes the assigned base offset and the leader's epoch. Neither is covered by the CRC.
///
/// `header` starts at the batch and holds at least its header; panics otherwise (the caller validated the batch).
pub fn patch(header: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(header.len() >= HEADER_BYTES, "patching needs a whole header");
    header[field::BASE_OFFSET..][..8].copy_from_slice(&base_offset.to_be_bytes());
    header[field::LEADER_EPOCH..][..4].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes the batch LogAppendTime at `now_ms`: readers then take `now_ms` for every record. Sets timestamp type and max timestamp and
/// updates the CRC, in time logarithmic in the batch's length: only the header is touched, so this works while (or after) the records
/// are copied. The stored CRC must have been right.
///
/// Panics when `header` is shorter than a header.
pub fn patch_append_time(header: &mut [u8], now_ms: i64) {
    assert!(header.len() >= HEADER_BYTES, "patching needs a whole header");
    const CHANGED: std::ops::Range<usize> = field::ATTRIBUTES..field::PRODUCER_ID;
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let total_bytes = word(header, field::BATCH_LENGTH) as usize + LENGTH_PREFIX_BYTES;
    let before = crc32c::crc32c(&header[CHANGED]);

    let attributes = u16::from_be_bytes([header[field::ATTRIBUTES], header[field::ATTRIBUTES + 1]]);
    let attributes = attributes | ATTRIBUTE_APPEND_TIME;
    header[field::ATTRIBUTES..][..2].copy_from_slice(&attributes.to_be_bytes());
    header[field::MAX_TIMESTAMP..][..8].copy_from_slice(&now_ms.to_be_bytes());

    let after = crc32c::crc32c(&header[CHANGED]);
    let bytes_after = total_bytes.saturating_sub(CHANGED.end);
    let crc = crc::replace_prefix(word(header, field::CRC), before, after, bytes_after);
    header[field::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
}
