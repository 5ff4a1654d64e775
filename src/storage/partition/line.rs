//! The appends of one partition that wait for what they lack: a file, space, memory. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::base::sync::OneshotSender;
use crate::storage::{AppendError, Appended};
use crate::wire::batch::BatchHeader;

/// An append without a place in the log yet.
pub struct Waiting {
    pub batch: Bytes,
    pub answer: OneshotSender<Result<Appended, AppendError>>,
}

impl Waiting {
    /// Its producer, if it has one.
    fn producer(&self) -> Option<i64> {
        let header = BatchHeader::parse(&self.batch).ok()?;
        header.has_producer_id().then(|| header.producer_id())
    }
}

/// In the order of the calls; each has a ticket. Whatever is done costs the logarithm of its length.
#[derive(Default)]
pub struct Line {
    waiting: BTreeMap<u64, Waiting>,
    by_producer: BTreeSet<(i64, u64)>,
    next_ticket: u64,
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The ticket of what stands behind all others now.
    pub fn join(&mut self, waiting: Waiting) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.by_producer
            .extend(waiting.producer().map(|producer| (producer, ticket)));
        self.waiting.insert(ticket, waiting);
        ticket
    }

    pub fn first(&self) -> Option<(u64, &Bytes)> {
        let (ticket, waiting) = self.waiting.first_key_value()?;
        Some((*ticket, &waiting.batch))
    }

    pub fn remove(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(producer) = waiting.producer() {
            self.by_producer.remove(&(producer, ticket));
        }
        Some(waiting)
    }

    /// Takes an append out, if it is still there, and those of its producer behind it: none may go before one that will be sent
    /// again.
    pub fn leave(&mut self, ticket: u64) -> Vec<Waiting> {
        let Some(first) = self.remove(ticket) else {
            return Vec::new();
        };
        let behind = first
            .producer()
            .map(|producer| (producer, ticket)..(producer, u64::MAX));
        let tickets: Vec<u64> = behind
            .into_iter()
            .flat_map(|range| self.by_producer.range(range))
            .map(|(_, ticket)| *ticket)
            .collect();
        let mut left = vec![first];
        left.extend(tickets.into_iter().filter_map(|ticket| self.remove(ticket)));
        left
    }

    /// Everyone, in order; tickets given out mean nothing any more.
    pub fn take_all(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        self.by_producer.clear();
        std::mem::take(&mut self.waiting).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::oneshot;
    use crate::wire::batch::{BatchBuilder, BatchOptions};

    fn waiting(producer_id: i64, base_sequence: i32) -> Waiting {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 0 },
            base_sequence: if producer_id < 0 { -1 } else { base_sequence },
            ..Default::default()
        });
        builder.push(0, None, Some(b"x"), &[]).expect("a small record");
        Waiting {
            batch: Bytes::copy_from_slice(builder.finish().expect("a batch")),
            answer: oneshot().0,
        }
    }

    #[test]
    fn a_producer_leaves_with_what_it_sent_later_and_nothing_else() {
        let mut line = Line::default();
        let tickets = [(1, 0), (2, 0), (1, 1), (-1, 0), (2, 1), (1, 2), (-1, 1)];
        let tickets = tickets.map(|(producer, sequence)| line.join(waiting(producer, sequence)));
        assert_eq!(line.leave(tickets[2]).len(), 2, "producer 1 but for its first");
        assert_eq!(line.leave(tickets[5]).len(), 0, "it is gone");
        assert_eq!(
            line.leave(tickets[3]).len(),
            1,
            "without a producer there is nothing to keep in order"
        );
        assert!(line.remove(tickets[1]).is_some());
        assert_eq!(line.first().map(|(ticket, _)| ticket), Some(tickets[0]));
        assert_eq!(line.leave(tickets[0]).len(), 1);
        assert_eq!(line.by_producer.len(), 1);
        assert_eq!(line.take_all().count(), 2);
        assert!(line.is_empty() && line.by_producer.is_empty());
    }
}
