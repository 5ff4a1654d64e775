//! Memory given back: chunks that are stored, tails moved together, and segments ended early so that nothing stays behind.

use std::rc::Rc;

use super::Partition;
use super::append::Lack;
use super::log::State;
use crate::base::buffer::block_floor;
use crate::base::coverage::{Mark, mark};
use crate::io::{Durability, Env};
use crate::storage::memory::UNIT_BYTES;
use crate::storage::options::DurabilityClass;
use crate::storage::tail::{ChunkPlace, TailChunk};

/// A log is idle when nothing was appended for so long.
const IDLE_MS: i64 = 1000;

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
        let (segment, built) = (log.oldest_open().base, log.oldest_open().built);
        // What the journal is still to take comes from here, stored or not.
        let journaled = (log.journaled.segment, log.journaled.position);
        let asked = (log.journal_target.segment, log.journal_target.position) > journaled;
        let evictable = log.tail.front().is_some_and(|chunk| {
            let needed = asked && (chunk.segment, chunk.capacity_end()) > journaled;
            let stored = chunk.segment < segment
                || (chunk.segment == segment
                    && chunk.capacity_end() <= built.position
                    && chunk.end() == chunk.capacity_end());
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
        let (boundary, mut from) = (active.built, active.built.position.min(active.stored));
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

    /// Whether going on in a new segment would give memory back: nothing was appended for a while, and still there is much in
    /// memory, as when the last batch is large and its last bytes do not fill a block.
    pub(in crate::storage) fn may_roll_idle(&self) -> bool {
        let Ok(log) = self.log.try_borrow() else { return false };
        let idle = self.env.wall_ms().saturating_sub(log.last_append_ms) >= IDLE_MS;
        let durable = log.options.durability == DurabilityClass::Written || log.durable.offset == log.appended.offset;
        let quiet = !log.admitting && log.waiting.is_empty() && log.state == State::Serving;
        let much = log.tail.capacity() > UNIT_BYTES && log.appended.position > 0 && log.open.len() == 1;
        idle && durable && quiet && much
    }

    /// Ends the segment of an idle log, so that all of it is stored and nothing of it need be in memory.
    pub(in crate::storage) async fn roll_idle(self: Rc<Self>) {
        if !self.may_roll_idle() || std::mem::replace(&mut self.log.borrow_mut().admitting, true) {
            return;
        }
        let end = self.log.borrow().appended;
        // What fails here is told to the next append that needs it.
        if self.provide(Lack::Segment).await.is_ok() {
            let rolled = {
                let mut log = self.log.borrow_mut();
                log.appended.offset == end.offset && log.state == State::Serving && self.roll(&mut log)
            };
            if rolled {
                mark(Mark::IdleRolled);
                self.ask_journal();
                // An error has fenced the directory.
                let _ = self.store_to(end, Durability::Cached).await;
            }
        }
        self.admit_waiting().await;
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
