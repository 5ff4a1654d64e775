//! Which failed reads were told of lately: readers ask again and again.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::io::Monotonic;

/// A place is told of once in so long.
const INTERVAL_MS: u64 = 10_000;
/// Of so many places; of others only the scrub tells.
const PLACES_MAX: usize = 64;

/// Places of one log, by segment and position, each with when it may be told of again.
#[derive(Default)]
pub(super) struct Complaints(RefCell<BTreeMap<(i64, u64), Monotonic>>);

impl Complaints {
    /// Whether what was met at `place` gets a line in the log.
    pub(super) fn is_due(&self, now: Monotonic, place: (i64, u64)) -> bool {
        let mut told = self.0.borrow_mut();
        told.retain(|_, until| *until > now);
        if told.len() >= PLACES_MAX || told.contains_key(&place) {
            return false;
        }
        told.insert(place, now.plus_ms(INTERVAL_MS));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_of_once_in_a_while_and_others_at_once() {
        let complaints = Complaints::default();
        let at = |ms: u64, position: u64| complaints.is_due(Monotonic(ms * 1_000_000), (7, position));
        assert!(at(0, 1) && at(0, 2) && !at(0, 1) && !at(9_999, 2));
        assert!(at(10_000, 1), "time has passed");
        let many = (100..1_000).filter(|position| at(10_001, *position)).count();
        assert!(many < PLACES_MAX, "no more than are remembered");
    }
}
