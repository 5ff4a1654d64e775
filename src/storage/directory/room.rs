//! How many producers the logs of a directory remember together. A client may bring a new producer id with every batch, to
//! every partition.

use std::cell::Cell;

use super::ShardDirectory;
use crate::io::Env;
use crate::storage::StoreOptions;
use crate::storage::producers::evicted_until_ms;

/// The bound, and a count that is never below the truth.
pub(super) struct ProducerRoom {
    count_max: usize,
    /// Not lowered when producers expire or partitions go: it is counted again before anything is evicted.
    count: Cell<usize>,
}

impl ProducerRoom {
    pub(super) fn of(options: &StoreOptions) -> Self {
        let count_max = options.producer_count_max / options.directories.len().max(1);
        Self {
            count_max: count_max.max(1),
            count: Cell::new(0),
        }
    }
}

impl<E: Env> ShardDirectory<E> {
    /// A log remembers so many producers more.
    pub fn note_producers(&self, added: usize) {
        self.producers.count.set(self.producers.count.get() + added);
    }

    /// Has the longest idle producers forgotten if there are too many. A tenth more than must go do, so that the look at all
    /// of them is rare. Unknown producers may go on with any sequence: only the retries of those forgotten are no longer told
    /// apart. No log may be in use.
    pub fn bound_producers(&self) {
        let count_max = self.producers.count_max;
        if self.producers.count.get() <= count_max {
            return;
        }
        let members = self.members();
        let mut times_ms = Vec::new();
        members
            .iter()
            .for_each(|member| member.producer_times_ms(&mut times_ms));
        let mut count = times_ms.len();
        if count > count_max {
            let mut surplus = count - (count_max - count_max / 10);
            let until_ms = evicted_until_ms(&mut times_ms, surplus);
            for member in &members {
                let evicted = member.evict_producers(surplus, until_ms);
                surplus -= evicted;
                count -= evicted;
            }
        }
        self.producers.count.set(count);
    }
}
