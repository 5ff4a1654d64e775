//! What the scrub asks of a partition: which segments there are to read, and how far.

use bytes::Bytes;

use super::Partition;
use super::log::{Log, State};
use crate::io::Env;
use crate::storage::segment::ClosedSegment;
use crate::storage::state::PartitionState;

fn is_readable<E: Env>(log: &Log<E>) -> bool {
    matches!(log.state, State::Serving | State::Stopping)
}

impl<E: Env> Partition<E> {
    /// Whether its files are there to be read. (Of a damaged partition the start has told.)
    pub(in crate::storage) fn is_readable(&self) -> bool {
        is_readable(&self.log.borrow())
    }

    /// The first closed segment that begins at `offset` or later and is above the log start.
    pub(in crate::storage) fn closed_from(&self, offset: i64) -> Option<ClosedSegment> {
        let log = self.log.borrow();
        let after = log.closed.partition_point(|s| s.base < offset);
        let mut rest = log.closed.iter().skip(after).filter(|_| is_readable(&log));
        rest.find(|s| s.next_offset > log.ends.log_start).copied()
    }

    /// The segments that are not closed.
    pub(in crate::storage) fn open_bases(&self) -> Vec<i64> {
        self.log.borrow().open.iter().map(|s| s.base).collect()
    }

    /// An open segment as far as its sums and indexes describe it; `tail` is what its file lacks of that. `None` once it is closed,
    /// and while nothing of it is stored.
    pub(in crate::storage) fn described(&self, base: i64) -> Option<PartitionState> {
        let log = self.log.borrow();
        let open = log.open.iter().find(|s| s.base == base)?;
        if !is_readable(&log) || open.stored == 0 {
            return None;
        }
        let tail = log.tail.slices(base, open.stored, open.built.position.max(open.stored));
        Some(PartitionState {
            id: self.owner.partition,
            log_start: log.ends.log_start,
            boundary: open.built,
            stored: open.stored,
            tail: Bytes::from(tail.concat()),
            reach: open.built.offset,
            damaged: false,
            build: open.build.clone(),
            epochs: log.epochs.clone(),
            producers: Default::default(),
        })
    }
}
