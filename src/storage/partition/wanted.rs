//! What a read asks for.

use bytes::Bytes;

use crate::storage::ahead::Batches;

/// A cold read takes at least this much: a reader usually goes on.
const READ_BYTES_MIN: usize = 128 << 10;
/// A cold read takes at most this much at once, unless one batch is larger.
pub(super) const READ_BYTES_MAX: usize = 1 << 20;

/// A request for batches.
#[derive(Clone, Copy)]
pub struct WantedBatches {
    pub(super) offset: i64,
    pub(super) bytes_max: usize,
    pub(super) whole_first: bool,
    /// Whether the next request may go on here.
    pub(super) comes_back: bool,
}

impl WantedBatches {
    /// Batches from the one that holds `offset` on, at most `bytes_max` bytes; with `whole_first` the first batch comes whole even if it alone
    /// is larger (KIP-74).
    pub fn new(offset: i64, bytes_max: usize, whole_first: bool) -> Self {
        Self {
            offset,
            bytes_max,
            whole_first,
            comes_back: true,
        }
    }

    /// By somebody who reads so many logs in turn that he is long in coming back: nothing is read ahead here.
    pub fn in_passing(self) -> Self {
        Self {
            comes_back: false,
            ..self
        }
    }

    /// Bytes to read for it.
    pub(super) fn read_bytes(&self) -> u64 {
        self.bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX) as u64
    }

    /// The first batch is larger than what is wanted.
    pub(super) fn none(&self) -> Batches {
        Batches {
            bytes: Bytes::new(),
            next_offset: self.offset,
        }
    }
}
