//! Which bytes of a segment were read before, and how. What is read once comes from the device past the page cache, so that a reader of
//! everything drives nothing out of it; what is read again comes through the cache, and is sent from there ever after. What went into the
//! cache in vain, as it was gone when somebody came for it, is read past the cache twice before it goes through it again, then four times,
//! then eight.
//!
//! Not for: whether pages still are in the cache (`Env::pin` knows).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of one kind that are remembered of a segment; readers go through it in order, so there are few.
const RANGES_MAX: usize = 64;

/// Losses that count.
const LOSSES_MAX: u32 = 3;

/// Where rows of the sums stand, and the sum of that as it was read. Rows are not summed up themselves: what they say of bytes that
/// verified is known to be so only while they are the rows that the bytes verified by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowsId {
    /// A block of the `.sums`.
    pub page: u64,
    pub crc: u32,
}

impl RowsId {
    /// Of rows that have not been written yet, behind those that end at this position and offset.
    pub fn in_memory((position, offset): (u64, i64)) -> Self {
        Self {
            page: u64::MAX,
            crc: crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), &offset.to_le_bytes()),
        }
    }
}

/// How bytes came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Through {
    /// From the device.
    Direct,
    /// Through the page cache, where they are now.
    Cache,
}

/// What was read and verified of a segment, since its descriptors are open.
#[derive(Default)]
pub struct Warmth {
    /// What was read once at least, twice, and so on, since the cache was filled in vain.
    read: RefCell<Vec<Ranges>>,
    /// How often that was, since something was sent from it.
    losses: Cell<u32>,
    /// Something was sent from the cache since it lost something.
    was_of_use: Cell<bool>,
    /// What came through the page cache, by the page of its rows.
    cached: RefCell<BTreeMap<u64, (u32, Ranges)>>,
}

impl Warmth {
    /// Whether all of the range was read as often as it takes to be worth the cache.
    pub fn was_read(&self, range: &Range<u64>) -> bool {
        let enough = self.read.borrow();
        enough
            .get(self.reads_before() - 1)
            .is_some_and(|read| read.covers(range))
    }

    fn reads_before(&self) -> usize {
        1 << self.losses.get().min(LOSSES_MAX)
    }

    /// Whether all of the range was read through the page cache, and verified by these rows.
    pub fn is_cached(&self, rows: RowsId, range: &Range<u64>) -> bool {
        let cached = self.cached.borrow();
        let known = cached.get(&rows.page);
        known.is_some_and(|(crc, ranges)| *crc == rows.crc && ranges.covers(range))
    }

    /// Whether nothing was.
    pub fn is_cold(&self) -> bool {
        self.cached.borrow().is_empty()
    }

    /// The range was read, and verified by these rows.
    pub fn note(&self, rows: RowsId, range: Range<u64>, through: Through) {
        let mut read = self.read.borrow_mut();
        let times = self.reads_before();
        if through == Through::Cache || read.len() < times {
            read.resize_with(times, Ranges::default);
        }
        match through {
            Through::Direct => {
                let next = read.iter_mut().find(|read| !read.covers(&range));
                next.into_iter().for_each(|read| read.insert(range.clone()));
            }
            Through::Cache => read.iter_mut().for_each(|read| read.insert(range.clone())),
        }
        drop(read);
        if through == Through::Cache {
            let mut cached = self.cached.borrow_mut();
            let (crc, ranges) = cached.entry(rows.page).or_default();
            if *crc != rows.crc {
                (*crc, *ranges) = (rows.crc, Ranges::default());
            }
            ranges.insert(range);
        }
    }

    /// The page cache has not all of what was read through it. Where some went, more will have gone.
    pub fn has_gone(&self) {
        self.cached.borrow_mut().clear();
        if !self.was_of_use.replace(false) {
            self.read.borrow_mut().clear();
            self.losses.set(self.losses.get().saturating_add(1));
        }
    }

    /// Something was sent from the page cache.
    pub fn was_there(&self) {
        self.was_of_use.set(true);
        self.losses.set(0);
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

    const ROWS: RowsId = RowsId { page: 3, crc: 77 };

    #[test]
    fn what_goes_out_of_the_cache_again_and_again_is_read_past_it() {
        let warmth = Warmth::default();
        assert!(warmth.is_cold() && !warmth.was_read(&(0..10)));
        warmth.note(ROWS, 0..10, Through::Direct);
        assert!(warmth.is_cold() && warmth.was_read(&(0..10)) && !warmth.is_cached(ROWS, &(0..10)));
        warmth.note(ROWS, 0..20, Through::Cache);
        assert!(!warmth.is_cold() && warmth.is_cached(ROWS, &(5..20)));
        for times in [2, 4, 8, 8] {
            warmth.has_gone();
            assert!(warmth.is_cold() && !warmth.is_cached(ROWS, &(5..20)));
            for _ in 0..times {
                assert!(!warmth.was_read(&(0..20)));
                warmth.note(ROWS, 0..10, Through::Direct);
                warmth.note(ROWS, 10..20, Through::Direct);
            }
            assert!(warmth.was_read(&(0..20)) && !warmth.was_read(&(0..21)));
            warmth.note(ROWS, 0..20, Through::Cache);
            assert!(warmth.was_read(&(0..20)) && warmth.is_cached(ROWS, &(0..20)));
        }
        warmth.was_there();
        warmth.has_gone();
        assert!(warmth.is_cold() && warmth.was_read(&(0..20)), "it was of use");
        warmth.has_gone();
        assert!(!warmth.was_read(&(0..20)), "since then it was not");
    }

    #[test]
    fn what_verified_by_rows_that_are_others_now_is_not_known() {
        let warmth = Warmth::default();
        warmth.note(ROWS, 0..10, Through::Cache);
        let (elsewhere, changed) = (RowsId { page: 4, ..ROWS }, RowsId { crc: 78, ..ROWS });
        assert!(!warmth.is_cached(elsewhere, &(0..10)) && !warmth.is_cached(changed, &(0..10)));
        warmth.note(changed, 10..20, Through::Cache);
        assert!(warmth.is_cached(changed, &(10..20)) && !warmth.is_cached(changed, &(0..10)));
        assert!(!warmth.is_cached(ROWS, &(0..10)));
    }
}
