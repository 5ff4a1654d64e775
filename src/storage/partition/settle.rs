//! A partition's part in a settling round, in three steps: begin (what is the target), snapshot (what was stored), finish
//! (the file system was flushed behind it).

use std::rc::Rc;

use bytes::Bytes;

use super::Partition;
use super::log::{Log, State};
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, either};
use crate::io::{Durability, Env};
use crate::storage::cursor::Cursor;
use crate::storage::directory::FULL_CHECK_MS;
use crate::storage::journal::rows::Row;
use crate::storage::options::DurabilityClass;
use crate::storage::producers::Producers;
use crate::storage::state::PartitionState;

/// A round in progress, as far as one partition goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Bytes below this are to be stored, as far as whole blocks go.
    target: Cursor,
    /// The boundary that the segment's sums had reached when the flush began, the one that was stored, and the block-aligned end of
    /// what was.
    boundary: Cursor,
    whole: Cursor,
    stored: u64,
}

impl<E: Env> Partition<E> {
    /// Sets the round's target; `false` if nothing is to be done. `flushed` partitions take part only with `everything`:
    /// the journal has what they have not settled.
    pub(in crate::storage) fn begin_settling(&self, everything: bool) -> bool {
        let mut log = self.log.borrow_mut();
        let target = match log.options.durability {
            DurabilityClass::Flushed => log.durable,
            DurabilityClass::Written => log.appended,
        };
        if !everything && log.options.durability == DurabilityClass::Flushed {
            return false;
        }
        let news = target.offset > log.round.target.offset;
        log.round.target = target;
        news && matches!(log.state, State::Serving | State::Stopping)
    }

    /// The round came to nothing: the next one has all of it for news.
    pub(in crate::storage) fn abandon_round(&self) {
        self.log.borrow_mut().round.target = Cursor::default();
    }

    pub(in crate::storage) async fn store_for_settling(self: &Rc<Self>) -> Result<(), ()> {
        let target = {
            let log = self.log.borrow();
            if log.frozen.is_some() {
                return Ok(());
            }
            log.round.target
        };
        self.store_to(target, Durability::Cached).await
    }

    /// Producers that the log remembers.
    pub(in crate::storage) fn producer_count(&self) -> usize {
        self.log.borrow().producers.count()
    }

    /// Adds when each of them last appended.
    pub(in crate::storage) fn producer_times_ms(&self, times_ms: &mut Vec<i64>) {
        times_ms.extend(self.log.borrow().producers.last_times_ms());
    }

    /// Forgets up to `count_max` producers idle since `until_ms`; how many those were.
    pub(in crate::storage) fn evict_producers(&self, count_max: usize, until_ms: i64) -> usize {
        self.log.borrow_mut().producers.evict(count_max, until_ms)
    }

    /// Notes what is stored now and, for a checkpoint, encodes the state to go into it.
    pub(in crate::storage) fn snapshot(&self, checkpoint: Option<&mut Vec<u8>>) {
        let mut log = self.log.borrow_mut();
        let expired = self.directory.producers_expire_before_ms();
        log.producers.expire(expired);
        let oldest = log.oldest_open();
        let (boundary, whole, stored) = (oldest.built, oldest.whole, oldest.stored);
        log.round = Round {
            boundary,
            whole,
            stored,
            ..log.round
        };
        if let Some(out) = checkpoint {
            match &log.frozen {
                Some(frozen) => frozen.encode(out),
                None => self.state(&log).encode(out),
            }
        }
    }

    fn state(&self, log: &Log<E>) -> PartitionState {
        let Round {
            target,
            boundary,
            stored,
            ..
        } = log.round;
        // All segments below the target's were finished; the tail ends at the target, or at the boundary if storing went
        // further since.
        let end = if target.segment == boundary.segment {
            target.position.max(boundary.position)
        } else {
            boundary.position
        };
        let tail = log.tail.slices(boundary.segment, stored, end.max(stored)).concat();
        PartitionState {
            id: self.owner.partition,
            log_start: log.asked_log_start,
            boundary,
            stored,
            tail: Bytes::from(tail),
            reach: if target.segment == boundary.segment {
                target.offset.max(boundary.offset)
            } else {
                boundary.offset
            },
            damaged: log.state == State::Damaged,
            build: log.oldest_open().build.clone(),
            epochs: log.epochs.clone(),
            producers: either(
                Bug::ForgetProducersAtCheckpoint,
                Producers::default(),
                log.producers.clone(),
            ),
        }
    }

    /// What the snapshot noted is on the device: records it, and journals the partial block of a `written` log so that a
    /// power cut takes no more than the last round.
    pub(in crate::storage) fn finish_settling(self: &Rc<Self>) {
        {
            let mut log = self.log.borrow_mut();
            if !matches!(log.state, State::Serving | State::Stopping) {
                return;
            }
            // A checkpoint has what `boundary` is ahead of `whole`, but this round may write none.
            let Round {
                target, whole, stored, ..
            } = log.round;
            if whole.offset > log.durable.offset {
                log.durable = whole;
            }
            let (durable, settled) = (log.durable.offset, whole.offset.max(log.ends.settled));
            log.ends.advance(|e| {
                e.durable = durable;
                e.settled = settled.min(durable);
            });
            // Only the newest counts.
            log.notes.retain(|note| !matches!(note, Row::Settled { .. }));
            log.notes.push(Row::Settled {
                owner: self.owner,
                to: whole,
            });
            if log.options.durability == DurabilityClass::Written {
                if (whole.segment, stored) > (log.journaled.segment, log.journaled.position) {
                    log.journaled = Cursor {
                        segment: whole.segment,
                        position: stored,
                        offset: whole.offset,
                    };
                }
                // Where storing went on meanwhile, memory may have been given back: the next round has it.
                if log.tail.holds(log.journaled.segment, log.journaled.position) {
                    if target.offset > log.journaled.offset {
                        mark(Mark::WrittenTailJournaled);
                    }
                    log.journal_target = target;
                }
            }
        }
        self.ask_journal();
    }

    /// Makes everything durable in the segment, then lets the journal take up from there.
    pub(super) async fn become_flushed(self: Rc<Self>) {
        loop {
            let target = self.log.borrow().appended;
            if self.store_to(target, Durability::Cached).await.is_ok() {
                break;
            }
            if !matches!(self.log.borrow().state, State::Serving | State::Stopping) {
                return;
            }
            // No space.
            self.env.sleep_until(self.env.now().plus_ms(FULL_CHECK_MS)).await;
        }
        // Nothing more is stored until the journal has taken up: what follows `stored` is in memory, and only there.
        let _turn = self.store_turn.acquire(1).await;
        let (whole, stored) = {
            let log = self.log.borrow();
            (log.oldest_open().whole, log.oldest_open().stored)
        };
        if let Err(error) = self.directory.flush_file_system().await {
            return self.directory.fence("flushing the file system", &error);
        }
        {
            let mut log = self.log.borrow_mut();
            mark(Mark::BecameFlushed);
            log.options.durability = log.wanted_class;
            if (whole.segment, stored) > (log.journaled.segment, log.journaled.position) {
                log.journaled = Cursor {
                    segment: whole.segment,
                    position: stored,
                    offset: whole.offset,
                };
            }
            if whole.offset > log.durable.offset {
                log.durable = whole;
                log.ends.advance(|e| e.durable = whole.offset);
            }
            log.journal_target = log.appended;
        }
        self.after_append();
    }
}
