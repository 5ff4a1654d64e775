//! A partition as a member of journal commits.

use std::io;
use std::rc::Rc;

use super::Partition;
use super::log::{Log, State};
use crate::base::buffer::block_floor;
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, either};
use crate::io::{Durability, Env};
use crate::storage::cursor::Cursor;
use crate::storage::journal::rows::{Range, Row};
use crate::storage::journal::writer::{CommitBuilder, Member};

/// From this many bytes on, what one partition adds to a commit goes straight to its segment instead of through the
/// journal: written once. (Below it, one write for all partitions beats one for each.)
const DIRECT_BYTES_MIN: u64 = 128 << 10;

impl<E: Env> Partition<E> {
    /// Gets into the journal's queue if there is anything to commit.
    pub(super) fn ask_journal(self: &Rc<Self>) {
        {
            let mut log = self.log.borrow_mut();
            let (target, journaled) = (log.journal_target, log.journaled);
            let behind = (journaled.segment, journaled.position) < (target.segment, target.position);
            let wanted = behind || !log.notes.is_empty();
            if !wanted || log.in_journal_queue || log.in_commit.is_some() {
                return;
            }
            log.in_journal_queue = true;
        }
        self.directory.journal().enqueue(self.clone());
    }

    /// One segment's part of `[journaled, target)`.
    fn collect_segment(
        self: &Rc<Self>,
        log: &Log<E>,
        from: Cursor,
        end: u64,
        next_offset: i64,
        commit: &mut CommitBuilder,
    ) -> bool {
        let segment = from.segment;
        let rolled = log.appended.segment != segment;
        let direct_end = match end - from.position >= DIRECT_BYTES_MIN {
            true if rolled => end,
            true => block_floor(end),
            false => from.position,
        };
        if !commit.has_room((end - direct_end) as usize, 2) {
            return false;
        }
        if direct_end > from.position {
            self.collect_direct(log, from, direct_end, next_offset, commit);
        }
        if end > direct_end {
            let pieces = log.tail.slices(segment, direct_end, end);
            let held: usize = pieces.iter().map(|piece| piece.len()).sum();
            assert_eq!(held as u64, end - direct_end, "what is to be journaled is in memory");
            let payload = commit.payload(&pieces);
            let at = Range {
                segment,
                position: direct_end,
                bytes: (end - direct_end) as u32,
                next_offset,
            };
            commit.row(&Row::Append {
                owner: self.owner,
                at,
                payload,
            });
        }
        true
    }

    /// Bytes that go to the segment beside the commit.
    fn collect_direct(
        self: &Rc<Self>,
        log: &Log<E>,
        from: Cursor,
        end: u64,
        next_offset: i64,
        commit: &mut CommitBuilder,
    ) {
        mark(Mark::DirectPath);
        let Cursor { segment, position, .. } = from;
        let at = Range {
            segment,
            position,
            bytes: (end - position) as u32,
            next_offset,
        };
        commit.row(&Row::Extent { owner: self.owner, at });
        // What the background stored of it before is not flushed yet (the topic was `written` until now).
        let begun = log
            .open
            .iter()
            .find(|s| s.base == segment)
            .is_none_or(|s| s.stored > position);
        let partition = self.clone();
        commit.beside(Box::pin(async move {
            let target = Cursor {
                segment,
                position: end,
                offset: 0,
            };
            let durability = either(Bug::FlushWrongFile, Durability::Cached, Durability::Device);
            let stored = partition.store_blocks(target, durability).await;
            if stored.is_err() {
                return partition.excuse();
            }
            if begun {
                partition.directory.flush_file_system().await
            } else {
                Ok(())
            }
        }));
    }

    /// A store that did not come to its end is fine when the partition was deleted: a store that stops closes its partitions
    /// behind the last commit.
    fn excuse(&self) -> io::Result<()> {
        match self.log.borrow().state {
            State::Closed => Ok(()),
            _ => Err(io::Error::other("a segment write failed")),
        }
    }
}

impl<E: Env> Member for Partition<E> {
    fn collect(self: Rc<Self>, commit: &mut CommitBuilder) -> bool {
        let mut log = self.log.borrow_mut();
        if !commit.has_room(0, log.notes.len() + 2) {
            return false;
        }
        log.in_journal_queue = false;
        log.notes.drain(..).for_each(|note| commit.row(&note));
        let target = log.journal_target;
        let mut from = log.journaled;
        while (from.segment, from.position) < (target.segment, target.position) {
            let (end, next) = if from.segment == target.segment {
                (target.position, target)
            } else {
                // Gone altogether (retention deleted it): what is open is what is left to commit.
                let oldest = Cursor::segment_start(log.oldest_open().base);
                let end = log.end_of(from.segment);
                end.map_or((from.position, oldest), |end| {
                    (end.position, Cursor::segment_start(end.offset))
                })
            };
            if end > from.position && !self.collect_segment(&log, from, end, next.offset, commit) {
                break;
            }
            from = next;
        }
        // A `written` log may be stored beyond what the journal was asked for.
        let whole = (from.segment, from.position) >= (target.segment, target.position);
        log.in_journal_queue = !whole;
        log.journaled = from;
        log.in_commit = Some(from);
        whole
    }

    fn committed(self: Rc<Self>) {
        {
            let mut log = self.log.borrow_mut();
            let Some(end) = log.in_commit.take() else { return };
            if end.offset > log.durable.offset {
                log.durable = end;
                log.ends.advance(|e| e.durable = end.offset);
            }
        }
        self.publish();
        self.ask_journal();
        self.store_full_chunks();
    }

    fn failed(self: Rc<Self>) {
        self.close(true);
    }
}
