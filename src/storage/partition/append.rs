//! Appending: decide, take a place, copy once, and answer when the class's end has passed.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Partition;
use super::line::Waiting;
use super::log::{Ack, Log, State};
use crate::base::buffer::{BLOCK_BYTES, block_floor};
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, planted};
use crate::base::sync::{OneshotReceiver, OneshotSender, oneshot};
use crate::io::{Env, Queue};
use crate::storage::cursor::Cursor;
use crate::storage::journal::rows::Row;
use crate::storage::memory::{RUN_MAX, UNIT_BYTES};
use crate::storage::options::{DurabilityClass, TimestampType};
use crate::storage::producers::{Producers, Sequenced, Verdict};
use crate::storage::tail::{ChunkPlace, TailChunk};
use crate::storage::{AppendError, Appended};
use crate::wire::batch::{BatchHeader, HEADER_BYTES, patch, patch_append_time};

/// A segment's positions and relative offsets must fit Kafka's signed 32 bits.
const RELATIVE_MAX: i64 = i32::MAX as i64;

/// What an append lacks before it can take its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lack {
    Segment,
    Space,
    Memory,
    /// The disk is too far behind.
    Storing,
}

/// The place of an append in the line of those that wait; it is left on drop, with the batch, and with those of the same
/// producer behind it.
struct InLine<E: Env> {
    partition: Rc<Partition<E>>,
    ticket: u64,
}

impl<E: Env> Drop for InLine<E> {
    fn drop(&mut self) {
        let left = self.partition.log.borrow_mut().waiting.leave(self.ticket);
        left.into_iter()
            .for_each(|waiting| waiting.answer.send(Err(AppendError::GivenUp)));
    }
}

/// The answer to an append: there, or to come when the class's end has passed the batch. Dropping it does not undo the append, but takes a
/// batch that still waits for its place out of the line.
pub enum Appending<E: Env> {
    Known(Result<Appended, AppendError>),
    Waits(Awaited<E>),
}

/// An answer to come.
pub struct Awaited<E: Env> {
    answer: OneshotReceiver<Result<Appended, AppendError>>,
    _in_line: Option<InLine<E>>,
}

impl<E: Env> Future for Appending<E> {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Known(answer) => Poll::Ready(*answer),
            Self::Waits(awaited) => {
                let answer = Pin::new(&mut awaited.answer).poll(cx);
                answer.map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
            }
        }
    }
}

enum Admission {
    Appended(Appended),
    /// A retry of a batch that ends at this offset.
    Duplicate(Appended, i64),
    Refused(AppendError),
    Lacks(Lack),
}

/// What an admitted append comes to.
enum Outcome {
    Known(Result<Appended, AppendError>),
    /// That, when the high watermark has passed `end`.
    Due {
        appended: Appended,
        end: i64,
    },
}

impl<E: Env> Partition<E> {
    /// Appends one validated batch. The order of the calls is the order of the offsets.
    pub fn append(self: &Rc<Self>, batch: Bytes) -> Appending<E> {
        let mut log = self.log.borrow_mut();
        let admission = log.waiting.is_empty().then(|| self.admit(&mut log, &batch));
        let published = self.advance(&mut log);
        let appending = match admission {
            None | Some(Admission::Lacks(_)) => {
                let (sender, answer) = oneshot();
                let ticket = log.waiting.join(Waiting { batch, answer: sender });
                let _in_line = Some(InLine {
                    partition: self.clone(),
                    ticket,
                });
                Appending::Waits(Awaited { answer, _in_line })
            }
            Some(decided) => match Self::outcome(&log, decided) {
                Outcome::Known(answer) => Appending::Known(answer),
                Outcome::Due { appended, end } => {
                    let (sender, answer) = oneshot();
                    Self::owe(&mut log, end, appended, sender);
                    Appending::Waits(Awaited { answer, _in_line: None })
                }
            },
        };
        let must_wait = !log.waiting.is_empty() && !std::mem::replace(&mut log.admitting, true);
        drop(log);
        if must_wait {
            self.env.spawn(Queue::Foreground, self.clone().admit_waiting());
        }
        self.tell(published);
        self.go_on();
        appending
    }

    /// What is to be answered; the caller keeps what lacks something.
    fn outcome(log: &Log<E>, admission: Admission) -> Outcome {
        let (appended, end) = match admission {
            Admission::Appended(appended) => (appended, log.appended.offset),
            Admission::Duplicate(appended, end) => (appended, end),
            Admission::Refused(error) => return Outcome::Known(Err(error)),
            Admission::Lacks(_) => unreachable!("the caller keeps what lacks something"),
        };
        match end <= log.visible.offset {
            true => Outcome::Known(Ok(appended)),
            false => Outcome::Due { appended, end },
        }
    }

    /// Leaves an ack that answers when `end` has passed.
    fn owe(log: &mut Log<E>, end: i64, appended: Appended, answer: OneshotSender<Result<Appended, AppendError>>) {
        // A duplicate may wait for less than an append before it.
        let place = log.acks.partition_point(|ack| ack.end <= end);
        log.acks.insert(place, Ack { end, appended, answer });
    }

    fn admit(self: &Rc<Self>, log: &mut Log<E>, batch: &Bytes) -> Admission {
        match log.state {
            State::Serving if self.directory.health().is_fenced() => return Admission::Refused(AppendError::Offline),
            State::Serving => {}
            State::Closed | State::Stopping => return Admission::Refused(AppendError::Closed),
            State::Offline | State::Damaged => return Admission::Refused(AppendError::Offline),
        }
        let Ok(header) = BatchHeader::parse(batch) else {
            return Admission::Refused(AppendError::Invalid);
        };
        if header.total_bytes() != batch.len() {
            return Admission::Refused(AppendError::Invalid);
        }
        let sequenced = Sequenced::of(&header);
        match sequenced.map_or(Verdict::Append, |batch| log.producers.judge(&batch)) {
            Verdict::Append => {}
            Verdict::Duplicate(first) => {
                mark(Mark::Duplicate);
                // The time that the log gave the batch, as the first answer said.
                let append_time_ms = match log.options.timestamp_type {
                    TimestampType::LogAppendTime => first.time_ms,
                    TimestampType::CreateTime => -1,
                };
                let appended = Appended {
                    base_offset: first.base_offset + i64::from(planted(Bug::DuplicateAtWrongOffset)),
                    append_time_ms,
                    log_start: log.ends.log_start,
                };
                return Admission::Duplicate(appended, first.last_offset + 1);
            }
            Verdict::OutOfOrder => return Admission::Refused(AppendError::OutOfOrderSequence),
            Verdict::StaleEpoch => return Admission::Refused(AppendError::StaleProducerEpoch),
        }
        let segment_max = log.options.segment_bytes.max(BLOCK_BYTES as u64);
        if batch.len() as u64 > segment_max.min(self.directory.batch_bytes_max()) {
            return Admission::Refused(AppendError::TooLargeForSegment);
        }
        if self.directory.is_full() {
            mark(Mark::Full);
            return Admission::Refused(AppendError::Full);
        }
        let now_ms = self.env.wall_ms();
        if must_roll(log, &header, now_ms) && !self.roll(log) {
            return Admission::Lacks(Lack::Segment);
        }
        let end = log.appended.position + batch.len() as u64;
        if end > log.active().allocated {
            return Admission::Lacks(Lack::Space);
        }
        if let Err(lack) = self.make_room(log, end) {
            return Admission::Lacks(lack);
        }
        Admission::Appended(self.place(log, batch, &header, sequenced, now_ms))
    }

    /// Copies the batch to the end of the log.
    fn place(
        &self,
        log: &mut Log<E>,
        batch: &Bytes,
        header: &BatchHeader,
        sequenced: Option<Sequenced>,
        now_ms: i64,
    ) -> Appended {
        let at = log.appended;
        let mut head = [0; HEADER_BYTES];
        head.copy_from_slice(&batch[..HEADER_BYTES]);
        let mut append_time_ms = -1;
        if log.options.timestamp_type == TimestampType::LogAppendTime {
            patch_append_time(&mut head, now_ms);
            append_time_ms = now_ms;
        }
        patch(&mut head, at.offset, log.epoch);
        log.tail.append(at, &[&head, &batch[HEADER_BYTES..]]);
        let next = at.offset + i64::from(header.last_offset_delta()) + 1;
        log.appended = Cursor {
            segment: at.segment,
            position: at.position + batch.len() as u64,
            offset: next,
        };
        log.ends.advance(|e| (e.appended, e.written) = (next, next));
        if let Some(sequenced) = sequenced {
            let before = log.producers.count();
            log.producers.apply(&sequenced, at.offset, next - 1, now_ms);
            self.directory
                .note_producers(log.producers.count().saturating_sub(before));
        }
        let epoch = log.epoch;
        log.epochs.note(epoch, at.offset);
        let active = log.active_mut();
        if active.build.first_append_ms == 0 {
            active.build.first_append_ms = now_ms;
        }
        if log.options.durability == DurabilityClass::Flushed {
            log.journal_target = log.appended;
        }
        self.directory.note_appended(batch.len() as u64);
        Appended {
            base_offset: at.offset,
            append_time_ms,
            log_start: log.ends.log_start,
        }
    }

    /// Goes on in the segment that was made ready; `false` if there is none.
    fn roll(&self, log: &mut Log<E>) -> bool {
        let end = log.appended;
        let Some(next) = log.next_segment.take_if(|next| next.base == end.offset) else {
            return false;
        };
        mark(Mark::Roll);
        if planted(Bug::ForgetProducersAtRoll) {
            log.producers = Producers::default();
        }
        log.active_mut().end = Some(end);
        log.notes.push(Row::Rolled {
            owner: self.owner,
            segment: end.segment,
            bytes: end.position,
            next_offset: end.offset,
        });
        log.open.push_back(self.fresh_segment(next));
        log.appended = Cursor::segment_start(end.offset);
        log.run = log.run.min(4);
        true
    }

    /// Chunks up to position `end` of the active segment.
    fn make_room(self: &Rc<Self>, log: &mut Log<E>, end: u64) -> Result<(), Lack> {
        loop {
            let at = log.appended;
            let start = log.tail.capacity_end(at.segment).unwrap_or(block_floor(at.position));
            if start >= end {
                return Ok(());
            }
            if log.options.durability == DurabilityClass::Written && self.directory.is_behind() {
                return Err(Lack::Storing);
            }
            assert!(
                log.tail.capacity_end(at.segment).is_some() || start == at.position,
                "a partial block is preloaded"
            );
            let wanted = ((end - start).div_ceil(UNIT_BYTES as u64) as usize).next_power_of_two();
            let run = log.run.max(wanted).min(RUN_MAX);
            let place = ChunkPlace {
                owner: self.owner,
                segment: at.segment,
                start,
            };
            let Some(chunk) = self.directory.take_chunk(run, &place.encode()) else {
                // Nothing is held while waiting: others may need just this.
                log.tail.pop_empty();
                return Err(Lack::Memory);
            };
            log.tail.push(TailChunk::new(at.segment, start, chunk), &[]);
            log.run = (log.run * 2).min(RUN_MAX);
        }
    }

    /// What an append that had to wait for its place is followed by.
    pub(super) fn after_append(self: &Rc<Self>) {
        self.publish();
        self.go_on();
    }

    /// What there is to be done for a log that has grown.
    fn go_on(self: &Rc<Self>) {
        self.ask_journal();
        self.store_full_chunks();
        self.extend_ahead();
        self.directory.bound_producers();
    }

    /// Admits what waits, in order, getting what it lacks.
    async fn admit_waiting(self: Rc<Self>) {
        loop {
            let (ticket, lack) = {
                let mut log = self.log.borrow_mut();
                let Some((ticket, batch)) = log.waiting.first().map(|(ticket, batch)| (ticket, batch.clone())) else {
                    log.admitting = false;
                    return;
                };
                match self.admit(&mut log, &batch) {
                    Admission::Lacks(lack) => (ticket, Some(lack)),
                    decided => {
                        let first = log.waiting.remove(ticket).expect("it is the first");
                        match Self::outcome(&log, decided) {
                            Outcome::Known(answer) => first.answer.send(answer),
                            Outcome::Due { appended, end } => Self::owe(&mut log, end, appended, first.answer),
                        }
                        (ticket, None)
                    }
                }
            };
            self.after_append();
            let Some(lack) = lack else { continue };
            if planted(Bug::LostWakeUp) && lack == Lack::Memory {
                return;
            }
            if let Err(error) = self.provide(lack).await {
                let first = self.log.borrow_mut().waiting.remove(ticket);
                if let Some(first) = first {
                    first.answer.send(Err(error));
                }
            }
        }
    }
}

fn must_roll<E: Env>(log: &Log<E>, header: &BatchHeader, now_ms: i64) -> bool {
    let at = log.appended;
    if at.position == 0 {
        return false;
    }
    let active = log.active();
    let end = at.position + header.total_bytes() as u64;
    let aged = active.build.first_append_ms > 0
        && now_ms.saturating_sub(active.build.first_append_ms) >= log.options.segment_ms;
    let relative = at.offset + i64::from(header.last_offset_delta()) - active.base;
    end > log.options.segment_bytes || aged || relative >= RELATIVE_MAX || end as i64 >= RELATIVE_MAX
}
