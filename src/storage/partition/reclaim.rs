//! Memory given back: chunks that are stored, and tails moved together.

use super::Partition;
use super::log::State;
use crate::base::buffer::block_floor;
use crate::base::coverage::{Mark, mark};
use crate::io::Env;
use crate::storage::memory::UNIT_BYTES;
use crate::storage::options::DurabilityClass;
use crate::storage::tail::{ChunkPlace, TailChunk};

impl<E: Env> Partition<E> {
    /// Notes that the partition stands in its directory's row of those to take memory from; `false` if it does already.
    pub(in crate::storage) fn enter_evictable(&self) -> bool {
        !self.evictable.replace(true)
    }

    /// Gives the memory of the oldest chunk back, if its batches are all stored and indexed.
    pub(in crate::storage) fn evict_oldest(&self) -> Evicted {
        let Ok(mut log) = self.log.try_borrow_mut() else {
            return Evicted::Busy;
        };
        let oldest = log.oldest_open();
        // Of what is built, whole blocks are stored, and chunks are whole blocks.
        let (segment, end) = (oldest.base, oldest.built.position);
        assert!(block_floor(end) <= oldest.stored, "what goes is stored");
        // What the journal is still to take comes from here, stored or not.
        let journaled = (log.journaled.segment, log.journaled.position);
        let asked = (log.journal_target.segment, log.journal_target.position) > journaled;
        let evictable = log.tail.front().is_some_and(|chunk| {
            let needed = asked && (chunk.segment, chunk.capacity_end()) > journaled;
            let stored = chunk.segment < segment
                || (chunk.segment == segment && chunk.capacity_end() <= end && chunk.end() == chunk.capacity_end());
            stored && !needed
        });
        if evictable && log.tail.pop_front().is_some() {
            Evicted::Chunk
        } else {
            self.evictable.set(false);
            Evicted::Nothing
        }
    }

    /// Moves what the tail must keep to as few units as hold it, if that at least halves its memory; gives the rest back. What a
    /// reader finds no more in memory it reads from the segment.
    pub(in crate::storage) fn shrink_tail(&self) -> bool {
        let Ok(mut log) = self.log.try_borrow_mut() else {
            return false;
        };
        let (active, end) = (log.oldest_open(), log.appended);
        let whole = log.open.len() == 1 && log.tail.front().is_some_and(|chunk| chunk.segment == active.base);
        if !whole || log.state != State::Serving || log.tail.end() != Some(end.position) {
            return false;
        }
        let (boundary, mut from) = (active.built, active.built.position);
        let asked = (log.journal_target.segment, log.journal_target.position);
        let behind = asked > (log.journaled.segment, log.journaled.position);
        if log.options.durability == DurabilityClass::Flushed || behind {
            from = match log.journaled.segment == active.base {
                true => from.min(log.journaled.position),
                false => 0,
            };
        }
        let start = block_floor(from);
        if !log.tail.holds(active.base, start) {
            return false;
        }
        let units = (end.position - start).div_ceil(UNIT_BYTES as u64) as usize;
        if units * 2 * UNIT_BYTES > log.tail.capacity() {
            return false;
        }
        let mut chunks = Vec::new();
        let mut position = start;
        while position < end.position {
            let place = ChunkPlace {
                owner: self.owner,
                segment: active.base,
                start: position,
            };
            let left = (end.position - position).div_ceil(UNIT_BYTES as u64) as usize;
            let run = 1 << left.ilog2();
            let Some(chunk) = self.directory.take_reserved(run, &place.encode()) else {
                return false;
            };
            chunks.push(TailChunk::new(active.base, position, chunk));
            position = chunks.last().map_or(position, TailChunk::capacity_end);
        }
        mark(Mark::TailShrunk);
        let stored = active.stored;
        log.tail.move_to(chunks, boundary);
        log.tail.note_stored(boundary.segment, 0, stored);
        log.run = 1;
        true
    }
}

/// What a partition gave back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::storage) enum Evicted {
    Chunk,
    /// Its oldest chunk is needed: it leaves the row until it stores more.
    Nothing,
    /// The log is in use: its own append asks for the memory.
    Busy,
}
