//! Which bytes of a segment were read before, and how. What is read once comes from the device past the page cache, so that a reader of
//! everything drives nothing out of it; what is read again comes through the cache, and is sent from there ever after.
//!
//! Not for: whether pages still are in the cache (`Env::pin` knows).

use std::cell::RefCell;
use std::ops::Range;

/// Ranges of one kind that are remembered of a segment; readers go through it in order, so there are few.
const RANGES_MAX: usize = 64;

/// What was read and verified of a segment, since its descriptors are open.
#[derive(Default)]
pub struct Warmth {
    direct: RefCell<Ranges>,
    cached: RefCell<Ranges>,
}

/// How bytes came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Through {
    /// From the device.
    Direct,
    /// Through the page cache, where they are now.
    Cache,
}

impl Warmth {
    /// Whether all of the range was read before.
    pub fn was_read(&self, range: &Range<u64>) -> bool {
        self.direct.borrow().covers(range) || self.cached.borrow().covers(range)
    }

    /// Whether all of the range was read through the page cache.
    pub fn is_cached(&self, range: &Range<u64>) -> bool {
        self.cached.borrow().covers(range)
    }

    /// Whether nothing was.
    pub fn is_cold(&self) -> bool {
        self.cached.borrow().0.is_empty()
    }

    /// The range was read, and verified.
    pub fn note(&self, range: Range<u64>, through: Through) {
        match through {
            Through::Direct => self.direct.borrow_mut().insert(range),
            Through::Cache => self.cached.borrow_mut().insert(range),
        }
    }

    /// The page cache has not all of what was read through it.
    pub fn has_gone(&self, range: Range<u64>) {
        // Where some went, more will have gone.
        self.cached.borrow_mut().0.clear();
        self.note(range, Through::Direct);
    }
}

/// Ranges that neither overlap nor touch, in order.
#[derive(Default)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    fn covers(&self, range: &Range<u64>) -> bool {
        let after = self.0.partition_point(|known| known.start <= range.start);
        after.checked_sub(1).is_some_and(|at| range.end <= self.0[at].end)
    }

    fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|known| known.end < range.start);
        let to = self.0.partition_point(|known| known.start <= range.end);
        let joined = match self.0.get(from..to) {
            Some([]) | None => range,
            Some([first, ..]) => first.start.min(range.start)..self.0[to - 1].end.max(range.end),
        };
        self.0.splice(from..to, [joined.clone()]);
        if self.0.len() > RANGES_MAX {
            // Read here and there: nothing is made of that.
            self.0.clear();
            self.0.push(joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = Ranges::default();
        for range in [10..20, 40..50, 20..30, 45..46, 0..0] {
            ranges.insert(range);
        }
        assert_eq!(ranges.0, [10..30, 40..50]);
        assert!(ranges.covers(&(10..30)) && ranges.covers(&(12..13)) && ranges.covers(&(49..50)));
        assert!(
            !ranges.covers(&(9..11))
                && !ranges.covers(&(29..31))
                && !ranges.covers(&(20..45))
                && !ranges.covers(&(50..51))
        );
        ranges.insert(25..42);
        assert_eq!(ranges.0, vec![10..50; 1]);
        ranges.insert(0..100);
        assert_eq!(ranges.0, vec![0..100; 1]);
    }

    #[test]
    fn who_reads_here_and_there_is_not_remembered_for_ever() {
        let mut ranges = Ranges::default();
        for at in 0..=RANGES_MAX as u64 {
            ranges.insert(10 * at..10 * at + 1);
        }
        assert_eq!(ranges.0, vec![640..641; 1]);
    }

    #[test]
    fn what_went_out_of_the_cache_was_read_all_the_same() {
        let warmth = Warmth::default();
        assert!(warmth.is_cold() && !warmth.was_read(&(0..10)));
        warmth.note(0..10, Through::Direct);
        assert!(warmth.is_cold() && warmth.was_read(&(0..10)) && !warmth.is_cached(&(0..10)));
        warmth.note(0..20, Through::Cache);
        assert!(!warmth.is_cold() && warmth.is_cached(&(5..20)));
        warmth.has_gone(5..20);
        assert!(warmth.is_cold() && !warmth.is_cached(&(5..20)) && warmth.was_read(&(5..20)));
    }
}
