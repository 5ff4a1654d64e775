//! The state of one partition's log: what is where. Pure but for the file handles it keeps.

use std::collections::VecDeque;

use super::line::Line;
use super::settle::Round;
use crate::base::planted::{Bug, planted};
use crate::base::sync::OneshotSender;
use crate::io::Env;
use crate::storage::cursor::{Cursor, Ends};
use crate::storage::epochs::Epochs;
use crate::storage::journal::rows::Row;
use crate::storage::options::{DurabilityClass, LogOptions};
use crate::storage::producers::Producers;
use crate::storage::segment::{ClosedSegment, OpenSegment};
use crate::storage::state::PartitionState;
use crate::storage::tail::Tail;
use crate::storage::{AppendError, Appended, EXTEND_BYTES_MIN};

/// Why a partition does not serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Serving,
    /// Reads only: the store is about to close.
    Stopping,
    /// Its directory is out of service.
    Offline,
    /// Bytes below its durable end are missing or wrong: recovery said so.
    Damaged,
    /// Deleted, or the store stops.
    Closed,
}

/// The answer that an append waits for.
pub struct Ack {
    /// The end that must pass.
    pub end: i64,
    pub appended: Appended,
    pub answer: OneshotSender<Result<Appended, AppendError>>,
}

/// A segment's file made ahead of the roll.
pub struct NextSegment<E: Env> {
    pub base: i64,
    pub file: E::File,
    pub allocated: u64,
}

/// One partition's log.
pub struct Log<E: Env> {
    pub state: State,
    pub options: LogOptions,
    /// The class that the topic asks for; the one in `options` follows when all is durable.
    pub wanted_class: DurabilityClass,
    pub epoch: i32,
    pub ends: Ends,
    /// The log start that the journal is asked to have; readers are told when it has it.
    pub asked_log_start: i64,
    /// The place of `ends.appended`.
    pub appended: Cursor,
    /// The place of `ends.durable`.
    pub durable: Cursor,
    /// The place of the high watermark.
    pub visible: Cursor,
    /// Up to here the journal has the bytes, or the commit in flight brings them.
    pub journaled: Cursor,
    /// Up to here the journal is asked to have them.
    pub journal_target: Cursor,
    pub in_journal_queue: bool,
    pub in_commit: Option<Cursor>,
    /// Rows to go into the next commit.
    pub notes: Vec<Row>,
    pub closed: VecDeque<ClosedSegment>,
    /// Never empty; the last takes appends.
    pub open: VecDeque<OpenSegment<E>>,
    /// The file made ready for the next roll.
    pub next_segment: Option<NextSegment<E>>,
    pub tail: Tail,
    /// Units of the next chunk.
    pub run: usize,
    /// Bytes of the next extension of the segment's file.
    pub step_bytes: u64,
    pub extending: bool,
    pub storing: bool,
    pub admitting: bool,
    pub waiting: Line,
    pub acks: VecDeque<Ack>,
    pub producers: Producers,
    pub epochs: Epochs,
    /// Places where readers of cold segments will probably go on.
    pub readers: VecDeque<Cursor>,
    pub round: Round,
    /// The state of a damaged partition, which checkpoints carry on unchanged.
    pub frozen: Option<PartitionState>,
}

impl<E: Env> Log<E> {
    /// A log as recovery found it: all ends are one.
    pub fn opened(
        state: PartitionState,
        frozen: Option<PartitionState>,
        closed: Vec<ClosedSegment>,
        active: OpenSegment<E>,
        tail: Tail,
        epoch: i32,
        options: LogOptions,
    ) -> Self {
        let end = state.boundary;
        Self {
            state: if frozen.is_some() {
                State::Damaged
            } else {
                State::Serving
            },
            wanted_class: options.durability,
            options,
            epoch,
            ends: Ends::at(state.log_start.min(end.offset), end.offset),
            asked_log_start: state.log_start,
            appended: end,
            durable: end,
            visible: end,
            journaled: end,
            journal_target: end,
            in_journal_queue: false,
            in_commit: None,
            notes: Vec::new(),
            closed: closed.into(),
            open: VecDeque::from([active]),
            next_segment: None,
            tail,
            run: 1,
            step_bytes: EXTEND_BYTES_MIN,
            extending: false,
            storing: false,
            admitting: false,
            waiting: Line::default(),
            acks: VecDeque::new(),
            producers: state.producers,
            epochs: state.epochs,
            readers: VecDeque::new(),
            round: Round::default(),
            frozen,
        }
    }

    pub fn active(&self) -> &OpenSegment<E> {
        self.open.back().expect("a log has an active segment")
    }

    pub fn active_mut(&mut self) -> &mut OpenSegment<E> {
        self.open.back_mut().expect("a log has an active segment")
    }

    /// The end of what a reader may see.
    pub fn class_end(&self) -> Cursor {
        match self.options.durability {
            DurabilityClass::Flushed if planted(Bug::AcknowledgeBeforeFlush) => self.appended,
            DurabilityClass::Flushed => self.durable,
            DurabilityClass::Written => self.appended,
        }
    }

    /// Moves the high watermark to the class's end; `true` if it moved.
    pub fn advance_visible(&mut self) -> bool {
        let end = self.class_end();
        let moved = end.offset > self.visible.offset;
        if moved {
            self.visible = end;
        }
        moved
    }

    /// The acks whose end has been passed, in order.
    pub fn due_acks(&mut self) -> Vec<Ack> {
        let due = self
            .acks
            .iter()
            .take_while(|ack| ack.end <= self.visible.offset + i64::from(planted(Bug::DurableOffByOne)))
            .count();
        self.acks.drain(..due).collect()
    }

    /// An open segment, by its base.
    pub fn open_segment(&mut self, base: i64) -> &mut OpenSegment<E> {
        let segment = self.open.iter_mut().find(|segment| segment.base == base);
        segment.expect("a segment is open until it is finished")
    }

    /// The segment to be stored first.
    pub fn oldest_open(&self) -> &OpenSegment<E> {
        self.open.front().expect("a log has an active segment")
    }

    /// Bytes that could be in segments and are not: those of full chunks, and of segments that ended.
    pub fn queued_bytes(&self) -> u64 {
        let unstored = self.open.iter().map(|segment| {
            let end = segment.end.unwrap_or(self.appended).position;
            end.saturating_sub(segment.stored)
        });
        let last = self.tail.back().filter(|chunk| chunk.segment == self.appended.segment);
        let filling = last.map_or(0, |chunk| {
            self.appended
                .position
                .saturating_sub(chunk.start.max(self.active().stored))
        });
        unstored.sum::<u64>().saturating_sub(filling)
    }

    /// The end of `segment`'s bytes in the log so far.
    pub fn segment_end(&self, segment: i64) -> u64 {
        if segment == self.appended.segment {
            return self.appended.position;
        }
        let open = self
            .open
            .iter()
            .find(|s| s.base == segment)
            .and_then(|s| s.end)
            .map(|end| end.position);
        open.or_else(|| self.closed_segment(segment).map(|s| s.bytes))
            .unwrap_or(0)
    }

    /// Where a segment before the active one ended.
    pub fn end_of(&self, segment: i64) -> Option<Cursor> {
        let open = self.open.iter().find(|s| s.base == segment).and_then(|s| s.end);
        open.or_else(|| {
            self.closed_segment(segment).map(|s| Cursor {
                segment,
                position: s.bytes,
                offset: s.next_offset,
            })
        })
    }

    pub fn closed_segment(&self, base: i64) -> Option<ClosedSegment> {
        let index = self.closed.partition_point(|s| s.base < base);
        self.closed.get(index).copied().filter(|s| s.base == base)
    }

    pub fn closed_segment_mut(&mut self, base: i64) -> Option<&mut ClosedSegment> {
        let index = self.closed.partition_point(|s| s.base < base);
        self.closed.get_mut(index).filter(|s| s.base == base)
    }

    /// The base of the segment that holds `offset`.
    pub fn segment_of(&self, offset: i64) -> Option<i64> {
        if let Some(open) = self.open.iter().rev().find(|s| s.base <= offset) {
            return Some(open.base);
        }
        let after = self.closed.partition_point(|s| s.base <= offset);
        after.checked_sub(1).map(|i| self.closed[i].base)
    }

    /// Bytes of all segments.
    pub fn stored_bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|s| s.bytes).sum();
        closed
            + self
                .open
                .iter()
                .map(|s| s.end.map_or(self.appended.position, |end| end.position))
                .sum::<u64>()
    }
}
