//! What a read asks for.

use bytes::Bytes;

use crate::storage::ahead::Batches;

/// A cold read takes at least this much: a reader usually goes on.
const READ_BYTES_MIN: usize = 128 << 10;
/// A cold read takes at most this much at once, unless one batch is larger.
pub(super) const READ_BYTES_MAX: usize = 1 << 20;

/// A request for batches.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub offset: i64,
    pub bytes_max: usize,
    pub whole_first: bool,
    /// Whether the next request may go on here: who reads thousands of logs in turn is long in coming back.
    pub comes_back: bool,
}

impl Wanted {
    pub fn new(offset: i64, bytes_max: usize, whole_first: bool) -> Self {
        Self {
            offset,
            bytes_max,
            whole_first,
            comes_back: true,
        }
    }

    /// Bytes to read for it.
    pub fn read_bytes(&self) -> u64 {
        self.bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX) as u64
    }

    /// The first batch is larger than what is wanted.
    pub fn none(&self) -> Batches {
        Batches {
            bytes: Bytes::new(),
            next_offset: self.offset,
        }
    }
}
