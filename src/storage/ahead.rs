//! What is read before it is asked for: batches where a reader that goes on will ask next, verified as any that are read.
//!
//! A window belongs to whoever asks first at its offset. A reader that came by one has another behind the next, so that the disk goes
//! on while he takes what he got. Room for windows is bounded, and none is made at the cost of another that
//! may still be asked for: with more readers than there is room for some have windows, and nothing is read twice.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::ids::PartitionId;
use crate::base::sync::{Budget, Permit, Signal};
use crate::io::Monotonic;

/// A window that nobody asked for in so long makes room for others.
const ABANDONED_AFTER_MS: u64 = 2_000;
/// After so long it goes by itself.
const KEPT_MS: u64 = 30_000;

/// Where a window begins: an offset of a log.
pub type Place = (PartitionId, i64);

/// Whole batches, the first of which holds the offset that they were read for, and what follows them.
#[derive(Clone, Default, Debug)]
pub struct Batches {
    pub bytes: Bytes,
    pub next_offset: i64,
}

/// Batches that are there, or on their way.
pub struct Window {
    since: Monotonic,
    read: Signal,
    /// How many more are to follow it.
    followers: Cell<u32>,
    batches: RefCell<Option<Batches>>,
    room: RefCell<Permit>,
}

/// The windows of a shard's part of a directory.
pub struct Windows {
    by_place: RefCell<BTreeMap<Place, Rc<Window>>>,
    room: Rc<Budget>,
}

impl Windows {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            by_place: RefCell::default(),
            room: Budget::new(bytes_max),
        }
    }

    /// Whether a window is there, which so many are to follow; where the first of those begins, if that is known already.
    pub fn lead(&self, place: Place, followers: u32) -> Option<Option<i64>> {
        let by_place = self.by_place.borrow();
        let window = by_place.get(&place)?;
        window.followers.set(window.followers.get().max(followers));
        Some(window.next_offset().filter(|_| followers > 0 && self.has_plenty()))
    }

    /// Whether a reader may have more than one window: others find room for one each.
    fn has_plenty(&self) -> bool {
        self.room.used() < self.room.limit() / 2
    }

    /// A window to be read, unless there is one or no room for it, and how many are to follow it. `fill` is to be called.
    pub fn begin(&self, place: Place, bytes: u64, followers: u32, now: Monotonic) -> Option<Rc<Window>> {
        if self.by_place.borrow().contains_key(&place) {
            return None;
        }
        let room = self.room.try_acquire(bytes).or_else(|| {
            self.forget_older(ABANDONED_AFTER_MS, now);
            self.room.try_acquire(bytes)
        })?;
        let window = Rc::new(Window {
            since: now,
            followers: Cell::new(followers),
            read: Signal::default(),
            batches: RefCell::default(),
            room: RefCell::new(room),
        });
        self.by_place.borrow_mut().insert(place, window.clone());
        Some(window)
    }

    /// Gives back what readers left; to be called now and then.
    pub fn sweep(&self, now: Monotonic) {
        self.forget_older(KEPT_MS, now);
    }

    fn forget_older(&self, ms: u64, now: Monotonic) {
        let mut by_place = self.by_place.borrow_mut();
        by_place.retain(|_, window| now.ms_since(window.since) < ms);
    }

    /// What was read for a window. Nothing, where that failed or found a batch larger than there is room for: whoever asks reads by
    /// himself, and is told why. Where a window that is to follow begins, and how many behind that.
    pub fn fill(&self, window: &Window, read: Option<Batches>) -> Option<(i64, u32)> {
        let mut room = window.room.borrow_mut();
        let batches = read.filter(|batches| {
            let more = (batches.bytes.len() as u64).saturating_sub(room.units());
            let fits = more == 0 || self.room.try_acquire(more).is_some();
            if fits {
                let bytes = room.units() + more;
                room.resize(bytes);
            }
            fits
        });
        if batches.is_none() {
            room.resize(0);
        }
        let next = batches.as_ref().map(|batches| batches.next_offset);
        window.batches.replace(batches);
        window.read.raise();
        let followers = window.followers.get().checked_sub(1)?;
        next.filter(|_| self.has_plenty()).map(|next| (next, followers))
    }

    /// Forgets the window there and what follows it: their reader has no use for them.
    pub fn forget_from(&self, place: Place) {
        let mut next = Some(place.1);
        while let Some(window) = next.and_then(|offset| self.claim((place.0, offset))) {
            next = window.next_offset();
        }
    }

    /// Gives the window away.
    pub fn claim(&self, place: Place) -> Option<Rc<Window>> {
        self.by_place.borrow_mut().remove(&place)
    }

    /// Takes back what is left of a window, to be asked for next.
    pub fn put_back(&self, place: Place, window: Rc<Window>) {
        self.by_place.borrow_mut().insert(place, window);
    }

    /// The partition is no more.
    pub fn forget(&self, partition: PartitionId) {
        self.by_place.borrow_mut().retain(|place, _| place.0 != partition);
    }
}

impl Window {
    /// Waits for it to be read.
    pub async fn batches(&self) -> Option<Batches> {
        self.read.raised().await;
        self.batches.borrow().clone()
    }

    /// Where what follows it begins, once it is read.
    pub fn next_offset(&self) -> Option<i64> {
        self.batches.borrow().as_ref().map(|batches| batches.next_offset)
    }

    /// Leaves what was not given out.
    pub fn leave(&self, rest: Bytes) {
        if let Some(batches) = &mut *self.batches.borrow_mut() {
            batches.bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;

    fn place(index: i32, offset: i64) -> Place {
        let topic = TopicId([1; 16]);
        (PartitionId { topic, index }, offset)
    }

    #[test]
    fn none_is_made_at_the_cost_of_one_that_may_be_asked_for() {
        let windows = Windows::new(100);
        let begin = |index, ms| windows.begin(place(index, 7), 50, 0, Monotonic(0).plus_ms(ms));
        assert!(begin(0, 0).is_some());
        assert!(begin(0, 1).is_none(), "there is one");
        assert!(begin(1, 1_000).is_some());
        assert!(begin(2, ABANDONED_AFTER_MS - 1).is_none(), "no room");
        assert!(begin(2, ABANDONED_AFTER_MS).is_some(), "the first was not asked for");
        assert!(windows.claim(place(0, 7)).is_none());
        drop(windows.claim(place(1, 7)).expect("still there"));
        assert!(begin(3, ABANDONED_AFTER_MS).is_some(), "its room is free");
        windows.forget(place(3, 0).0);
        assert!(windows.claim(place(3, 7)).is_none());
        let since = Monotonic(0).plus_ms(ABANDONED_AFTER_MS);
        windows.sweep(since.plus_ms(KEPT_MS - 1));
        assert!(!windows.by_place.borrow().is_empty());
        windows.sweep(since.plus_ms(KEPT_MS));
        assert!(windows.by_place.borrow().is_empty(), "nobody came");
    }

    #[test]
    fn windows_that_follow_each_other_are_forgotten_together() {
        let windows = Windows::new(100);
        let batches = |next_offset| {
            let bytes = Bytes::from_static(b"batches");
            Some(Batches { bytes, next_offset })
        };
        for (index, offset) in [(0, 7), (0, 9), (0, 20), (1, 9)] {
            let window = windows.begin(place(index, offset), 10, 1, Monotonic(0)).expect("room");
            assert_eq!(windows.fill(&window, batches(offset + 2)), Some((offset + 2, 0)));
        }
        windows.forget_from(place(0, 7));
        assert!(windows.claim(place(0, 7)).is_none() && windows.claim(place(0, 9)).is_none());
        assert!(windows.claim(place(0, 20)).is_some() && windows.claim(place(1, 9)).is_some());
    }

    #[test]
    fn a_batch_larger_than_its_window_counts_as_it_is_and_without_room_is_not_kept() {
        let windows = Windows::new(100);
        let begin = |index, bytes| windows.begin(place(index, 0), bytes, 0, Monotonic(0));
        let fill = |window: &Rc<Window>, bytes: &'static [u8]| {
            let next_offset = 1;
            let bytes = Bytes::from_static(bytes);
            windows.fill(window, Some(Batches { bytes, next_offset }));
            window.batches.borrow().is_some()
        };
        let (large, second) = (begin(0, 10).expect("room"), begin(1, 10).expect("room"));
        assert!(fill(&large, &[0; 80]));
        assert!(!fill(&second, &[0; 21]));
        assert!(begin(2, 21).is_none());
        let third = begin(2, 20).expect("what was not kept takes no room");
        windows.fill(&third, None);
        drop((windows.claim(place(0, 0)), large));
        assert!(begin(3, 100).is_some(), "nor what failed");
    }
}
