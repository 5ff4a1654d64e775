//! A sum over many places that each change by themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::base::sync::{Notified, Notify, Wakes};

/// What the places of a long poll have together. A change costs a look at its place, not at all of them.
pub(super) struct Watched<'a, F> {
    places: Vec<Place<'a>>,
    /// What a place has now, by its index.
    count: F,
    sum: usize,
    wakes: Arc<Wakes>,
}

struct Place<'a> {
    notify: &'a Notify,
    changed: Option<Notified<'a>>,
    counted: usize,
}

impl<'a, F: Fn(usize) -> usize> Watched<'a, F> {
    /// Of places that each notify of their changes.
    pub fn new(notifies: impl Iterator<Item = &'a Notify>, count: F) -> Self {
        let place = |notify| Place {
            notify,
            changed: None,
            counted: 0,
        };
        let places: Vec<_> = notifies.map(place).collect();
        Self {
            wakes: Wakes::new(places.len()),
            places,
            count,
            sum: 0,
        }
    }

    /// The sum now. The next change wakes the task of `cx`.
    pub fn sum(&mut self, cx: &mut Context<'_>) -> usize {
        for woken in self.wakes.take(cx) {
            let index = woken.index();
            let place = &mut self.places[index];
            let changed = place.changed.insert(place.notify.notified());
            let waker = Waker::from(woken);
            // Nothing runs between this and the count: it is not ready.
            let _ = Pin::new(changed).poll(&mut Context::from_waker(&waker));
            let counted = (self.count)(index);
            self.sum = self.sum - place.counted + counted;
            place.counted = counted;
        }
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn a_change_costs_a_look_at_its_place() {
        const COUNT: usize = 1_000;
        let notifies: Vec<_> = (0..COUNT).map(|_| Notify::default()).collect();
        let (has, looks) = (RefCell::new(vec![1; COUNT]), Cell::new(0));
        let count = |index: usize| {
            looks.set(looks.get() + 1);
            has.borrow()[index]
        };
        let mut watched = Watched::new(notifies.iter(), count);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!((watched.sum(&mut cx), looks.take()), (COUNT, COUNT));
        for (index, bytes) in [(7, 100), (999, 0), (7, 1)] {
            let before = has.borrow().iter().sum::<usize>();
            let was = std::mem::replace(&mut has.borrow_mut()[index], bytes);
            notifies[index].notify();
            assert_eq!(watched.sum(&mut cx), before - was + bytes);
            assert_eq!((watched.sum(&mut cx), looks.take()), (before - was + bytes, 1));
        }
    }
}
