//! The events of a history, and the few rules for writing one down.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// A partition, numbered by whoever records the history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Partition(pub u32);

/// One producer session: one producer id, as far as the broker can tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Producer(pub u32);

/// One consumer, or whoever asks for marks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Reader(pub u32);

/// What a test puts into a payload to know it again: unique for the whole history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Record {
    pub producer: Producer,
    pub sequence: u64,
}

/// What a reader found at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Content {
    Record(Record),
    /// A control record: takes an offset, belongs to no producer's send.
    Control,
    /// Bytes that no test wrote, by their hash.
    Foreign(u64),
}

/// An offset that a broker reports about a partition and that may only grow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// The high watermark: the offset behind the last readable record.
    End,
    LastStable,
    LogStart,
}

/// Something a client did or saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A send is about to begin. Exactly one of the next three answers it.
    Sent { partition: Partition, record: Record },
    /// The broker acknowledged the record at this offset. (A send with acks=0 is answered by `Indeterminate`.)
    Acked { record: Record, offset: u64 },
    /// The broker refused it for certain: it must never be readable.
    Refused { record: Record },
    /// Nobody knows: it may be readable, or become so.
    Indeterminate { record: Record },
    /// The reader asks for this offset next.
    Seeked {
        reader: Reader,
        partition: Partition,
        offset: u64,
    },
    Read {
        reader: Reader,
        partition: Partition,
        offset: u64,
        content: Content,
    },
    /// Since its last `Seeked` the reader has read all of `[start, end)`: the judgement of what is lost rests on it. It comes after the
    /// faults, and the last one per partition counts.
    ReadThrough {
        reader: Reader,
        partition: Partition,
        start: u64,
        end: u64,
    },
    /// The reader is about to ask for a mark; `MarkSeen` is the answer.
    MarkAsked {
        reader: Reader,
        partition: Partition,
        mark: Mark,
    },
    MarkSeen {
        reader: Reader,
        partition: Partition,
        mark: Mark,
        offset: u64,
    },
    /// The power went, and the log's class promises less than the device: what was acknowledged or read, or stood below an end that was
    /// told, within `window` before may be gone, a suffix of the log and nothing else. What answers a question from before the cut, but
    /// comes after it, says nothing: it is recorded as `Indeterminate`, or not at all. Readers are put anew (`Seeked`).
    Cut { partition: Partition, window: Duration },
    /// After all its cuts so far the log went on at this offset (the end of the last leader epoch before them): nothing below it is gone,
    /// everything at or above it was written since.
    Kept { partition: Partition, end: u64 },
    /// All faults are over; every send, open or later, is to be answered within this time.
    Healed { answer_within: Duration },
}

/// A history, in the order of real time. See the crate's page for what the order means.
#[derive(Default)]
pub struct History {
    events: Vec<(Duration, Event)>,
    idempotent: HashSet<Producer>,
    open: HashMap<Record, bool>,
}

impl History {
    pub fn new() -> History {
        History::default()
    }

    /// Declares that this producer is idempotent: rule 7 holds for it. Others may duplicate and reorder on retries.
    pub fn idempotent(&mut self, producer: Producer) {
        self.idempotent.insert(producer);
    }

    pub fn is_idempotent(&self, producer: Producer) -> bool {
        self.idempotent.contains(&producer)
    }

    /// An empty history with the same declarations.
    pub(crate) fn like(&self) -> History {
        History {
            idempotent: self.idempotent.clone(),
            ..History::default()
        }
    }

    /// Writes an event down. `at` counts from any fixed moment.
    ///
    /// # Panics
    /// If time goes back, a record is sent twice, or an answer has no open send: then the recording test is wrong, not the broker.
    pub fn push(&mut self, at: Duration, event: Event) {
        let last = self.events.last().map_or(Duration::ZERO, |(last, _)| *last);
        assert!(
            at >= last,
            "a history goes forward in time: {event:?} at {at:?} behind {last:?}"
        );
        match event {
            Event::Sent { record, .. } => {
                assert!(self.open.insert(record, true).is_none(), "{record:?} is sent twice");
            }
            Event::Acked { record, .. } | Event::Refused { record } | Event::Indeterminate { record } => {
                let was_open = self.open.insert(record, false);
                assert_eq!(was_open, Some(true), "{event:?} answers no open send");
            }
            _ => {}
        }
        self.events.push((at, event));
    }

    /// Writes a `Kept` down right behind its cut, whose end somebody will ask for later: the place to `tell` it at.
    pub fn push_untold(&mut self, at: Duration, partition: Partition) -> usize {
        self.push(
            at,
            Event::Kept {
                partition,
                end: u64::MAX,
            },
        );
        self.events.len() - 1
    }

    /// The end that `push_untold` left open.
    ///
    /// # Panics
    /// If there is no `Kept` at `place`.
    pub fn tell(&mut self, place: usize, kept: u64) {
        match &mut self.events[place].1 {
            Event::Kept { end, .. } => *end = kept,
            event => panic!("{event:?} is told an end"),
        }
    }

    /// Sends that have no answer yet: whoever ends a history turns them into `Indeterminate`, or lets rule 9 judge them.
    pub fn open_sends(&self) -> impl Iterator<Item = Record> + '_ {
        self.open.iter().filter(|(_, open)| **open).map(|(record, _)| *record)
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }

    pub fn timed(&self) -> &[(Duration, Event)] {
        &self.events
    }
}
