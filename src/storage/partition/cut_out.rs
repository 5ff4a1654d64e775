//! What of the bytes that were read is given out: whole batches, from the one that holds the offset on.

use bytes::Bytes;

use super::wanted::WantedBatches;
use crate::storage::ahead::Batches;
use crate::storage::build::BATCH_BYTES_MAX;
use crate::wire::batch::{ScanOptions, StopReason, scan};

/// What is given out of a buffer; a small part does not hold all of it while it waits to be sent.
pub(super) fn cut(bytes: &Bytes, from: usize, to: usize, next_offset: i64) -> Batches {
    let bytes = match (to - from) * 2 < bytes.len() {
        true => Bytes::copy_from_slice(&bytes[from..to]),
        false => bytes.slice(from..to),
    };
    Batches { bytes, next_offset }
}

/// Finds the whole batches to give out in bytes that begin at a boundary.
pub(super) struct CutOut {
    wanted: WantedBatches,
    /// What the next batch begins with: exactly, where rows of the sums cover the bytes, or not below it.
    expected: i64,
    /// The bytes verified as the rows say.
    has_rows: bool,
    pub first_base: Option<i64>,
    start: Option<usize>,
    end: usize,
    next_offset: i64,
    pub position: usize,
    /// The batch that holds the offset is there, and larger than is wanted.
    pub is_past_bytes_max: bool,
}

impl CutOut {
    pub fn new(wanted: WantedBatches, first_offset: Option<i64>) -> Self {
        Self {
            wanted,
            expected: first_offset.unwrap_or(0),
            has_rows: first_offset.is_some(),
            first_base: None,
            start: None,
            end: 0,
            next_offset: 0,
            position: 0,
            is_past_bytes_max: false,
        }
    }

    pub fn range(&self) -> Option<(usize, usize, i64)> {
        self.start.map(|start| (start, self.end, self.next_offset))
    }

    pub fn walk(&mut self, bytes: &[u8]) -> Option<StopReason> {
        let options = ScanOptions {
            crc_check: !self.has_rows,
            batch_bytes_max: BATCH_BYTES_MAX,
        };
        for batch in scan(bytes, options) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(stop) => {
                    self.position = stop.position;
                    return Some(stop.reason);
                }
            };
            let (base, next) = (batch.header.base_offset(), batch.header.next_offset());
            if base < self.expected || (self.has_rows && base > self.expected) {
                self.position = batch.position;
                let last_offset_delta = batch.header.last_offset_delta();
                return Some(StopReason::BadOffsets {
                    base_offset: base,
                    last_offset_delta,
                });
            }
            self.first_base.get_or_insert(base);
            self.expected = next;
            let end = batch.position + batch.bytes.len();
            self.position = end;
            if next <= self.wanted.offset {
                continue;
            }
            let start = self.start.unwrap_or(batch.position);
            let first = start == batch.position;
            if end - start > self.wanted.bytes_max && !(first && self.wanted.whole_first) {
                self.is_past_bytes_max = first;
                return None;
            }
            self.start = Some(start);
            (self.end, self.next_offset) = (end, next);
        }
        None
    }
}
