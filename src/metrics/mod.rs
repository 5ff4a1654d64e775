//! What a shard counts of its own work. Plain cells: one shard writes, and reads them, alone.
//!
//! Invariants
//! 1. Counters never go back (`Counter::add` takes an unsigned step).
//!
//! Not for: exposition, sums over shards (their reader asks each shard).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hdrhistogram::Histogram;

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(Cell<u64>);

impl Counter {
    pub fn add(&self, step: u64) {
        self.0.set(self.0.get() + step);
    }

    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// Latencies in microseconds, two digits, up to an hour.
pub struct Latency(RefCell<Histogram<u64>>);

const LATENCY_US_MAX: u64 = 3_600_000_000;

impl Default for Latency {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("1 to an hour in 2 digits is a valid range");
        Self(RefCell::new(histogram))
    }
}

impl Latency {
    pub fn record_us(&self, us: u64) {
        self.0.borrow_mut().saturating_record(us);
    }

    pub fn count(&self) -> u64 {
        self.0.borrow().len()
    }

    /// The latency in microseconds that `quantile` (0 to 1) of all stayed at or below.
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        self.0.borrow().value_at_quantile(quantile)
    }
}

/// What the scrub of a shard read.
#[derive(Default, Debug)]
pub struct ScrubMetrics {
    pub bytes: Counter,
    /// Closed segments read whole.
    pub segments: Counter,
    /// Passes over a directory that came to their end.
    pub passes: Counter,
    /// Damaged places, each counted once per start.
    pub problems: Counter,
}

/// The numbers of one shard.
#[derive(Default)]
pub struct Metrics {
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    pub connections_refused: Counter,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    /// Those of them that went out of the page cache, copied by nobody.
    pub sent_pinned_bytes: Counter,
    pub requests: Counter,
    /// Requests that were malformed or unknown: their connections were closed.
    pub requests_refused: Counter,
    /// Bytes of batches handed to the log.
    pub produced_bytes: Counter,
    /// Bytes of batches given to consumers.
    pub fetched_bytes: Counter,
    /// From a whole request to its answer.
    pub produce: Latency,
    /// Fetches that did not wait for data are included with those that did.
    pub fetch: Latency,
    pub scrub: Rc<ScrubMetrics>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_two_digits_and_never_fail() {
        let latency = Latency::default();
        (1..=1000).for_each(|us| latency.record_us(us));
        latency.record_us(u64::MAX);
        assert_eq!(latency.count(), 1001);
        assert!((495..=505).contains(&latency.quantile_us(0.5)));
    }
}
