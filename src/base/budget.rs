//! Budgets of bytes or slots of one shard, and how several holders share one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use super::sync::Notify;

/// A budget of units (bytes, slots) of one shard: `acquire` waits until enough is free; the permit gives back on drop.
///
/// Units taken in the name of a holder are shared: a holder gets no more than what is left beside it (a dynamic threshold, as
/// switches use for their buffers). One holder alone so gets half of all, n of them an nth part of all but one more such part,
/// and that one is there for whoever comes next.
pub struct Budget {
    limit: u64,
    used: Cell<u64>,
    by_holder: RefCell<BTreeMap<Holder, u64>>,
    /// What is taken here is taken there, too.
    part_of: Option<Rc<Budget>>,
    /// Callers of `acquire` that are not served yet.
    waiting: Cell<usize>,
    /// A `try_acquire` failed since `was_short` was called last.
    refused: Cell<bool>,
    freed: Notify,
}

/// In whose name units are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder(pub u128);

/// Units taken from a `Budget`.
pub struct Permit {
    budget: Rc<Budget>,
    units: u64,
    holder: Option<Holder>,
    of_whole: Option<Box<Permit>>,
}

impl Budget {
    pub fn new(limit: u64) -> Rc<Self> {
        Rc::new(Self::with(limit, None))
    }

    /// A budget whose units are also the `whole` one's.
    pub fn part_of(whole: &Rc<Budget>, limit: u64) -> Rc<Self> {
        Rc::new(Self::with(limit, Some(whole.clone())))
    }

    fn with(limit: u64, part_of: Option<Rc<Budget>>) -> Self {
        Self {
            limit,
            used: Cell::new(0),
            by_holder: RefCell::default(),
            part_of,
            waiting: Cell::new(0),
            refused: Cell::new(false),
            freed: Notify::default(),
        }
    }

    pub fn used(&self) -> u64 {
        self.used.get()
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn held_by(&self, holder: Holder) -> u64 {
        self.by_holder.borrow().get(&holder).copied().unwrap_or(0)
    }

    /// Whether `holder` has a good part of what it may have while so much is left.
    pub fn is_greedy(&self, holder: Holder) -> bool {
        self.held_by(holder).saturating_mul(2) > self.limit.saturating_sub(self.used.get())
    }

    /// Takes `units` if they are free now. A request above the whole limit is served when nothing else is out, so that
    /// one oversized but allowed item cannot wait for ever.
    pub fn try_acquire(self: &Rc<Self>, units: u64) -> Option<Permit> {
        self.try_take(None, units)
    }

    /// The same in the name of `holder`, who gets its share of what is left.
    pub fn try_acquire_for(self: &Rc<Self>, holder: Holder, units: u64) -> Option<Permit> {
        self.try_take(Some(holder), units)
    }

    /// Takes `units` for `holder` whether or not they are free.
    pub fn overdraw(self: &Rc<Self>, holder: Holder, units: u64) -> Permit {
        let of_whole = self
            .part_of
            .as_ref()
            .map(|whole| Box::new(whole.overdraw(holder, units)));
        self.take(Some(holder), units, of_whole)
    }

    /// The most that `holder` could have now: beyond all bounds when nothing is out.
    pub fn offer(&self, holder: Holder) -> u64 {
        let whole = self.part_of.as_ref().map_or(u64::MAX, |whole| whole.offer(holder));
        let own = match self.used.get() {
            0 => u64::MAX,
            used => self.limit.saturating_sub(used).saturating_sub(self.held_by(holder)),
        };
        own.min(whole)
    }

    /// Whether `holder` could have `units` now.
    pub fn has_room(&self, holder: Holder, units: u64) -> bool {
        let whole = self.part_of.as_ref();
        self.fits(Some(holder), units) && whole.is_none_or(|whole| whole.has_room(holder, units))
    }

    fn try_take(self: &Rc<Self>, holder: Option<Holder>, units: u64) -> Option<Permit> {
        let taken = self.fits(holder, units).then(|| match &self.part_of {
            Some(whole) => whole.try_take(holder, units).map(|permit| Some(Box::new(permit))),
            None => Some(None),
        });
        match taken.flatten() {
            Some(of_whole) => Some(self.take(holder, units, of_whole)),
            None => {
                self.refused.set(true);
                None
            }
        }
    }

    fn fits(&self, holder: Option<Holder>, units: u64) -> bool {
        let used = self.used.get();
        let free = self.limit.saturating_sub(used);
        let held = holder.map_or(0, |holder| self.held_by(holder));
        used == 0 || (units <= free && (held == 0 || held.saturating_add(units) <= free))
    }

    fn take(self: &Rc<Self>, holder: Option<Holder>, units: u64, of_whole: Option<Box<Permit>>) -> Permit {
        self.count(holder, 0, units);
        Permit {
            budget: self.clone(),
            units,
            holder,
            of_whole,
        }
    }

    /// Counts `now` units where there were `before`.
    fn count(&self, holder: Option<Holder>, before: u64, now: u64) {
        self.used.set((self.used.get() - before).saturating_add(now));
        let Some(holder) = holder else { return };
        let mut by_holder = self.by_holder.borrow_mut();
        let held = by_holder.entry(holder).or_insert(0);
        *held = (*held - before).saturating_add(now);
        if *held == 0 {
            by_holder.remove(&holder);
        }
    }

    /// Whether somebody waits for units, or found too few free since the last call.
    pub fn was_short(&self) -> bool {
        self.refused.take() || self.waiting.get() > 0
    }

    /// Whether somebody waits for units.
    pub fn is_awaited(&self) -> bool {
        self.waiting.get() > 0
    }

    pub async fn acquire(self: &Rc<Self>, units: u64) -> Permit {
        self.wait_for(None, units).await
    }

    pub async fn acquire_for(self: &Rc<Self>, holder: Holder, units: u64) -> Permit {
        self.wait_for(Some(holder), units).await
    }

    fn wait_for(self: &Rc<Self>, holder: Option<Holder>, units: u64) -> impl Future<Output = Permit> + use<> {
        let budget = self.clone();
        async move {
            if let Some(permit) = budget.try_take(holder, units) {
                return permit;
            }
            let _waiting = Waiting::in_line(&budget.waiting);
            loop {
                let freed = budget.whole().freed.notified();
                let freed_here = budget.freed.notified();
                if let Some(permit) = budget.try_take(holder, units) {
                    return permit;
                }
                super::sync::race(freed, freed_here).await;
            }
        }
    }

    /// The budget that this one is a part of in the end, or itself.
    fn whole(&self) -> &Budget {
        self.part_of.as_ref().map_or(self, |whole| whole.whole())
    }
}

/// Counts a waiter until it is served or gives up.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn in_line(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Permit {
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Adds the units of another permit of the same budget and holder.
    pub fn absorb(&mut self, mut other: Permit) {
        assert!(Rc::ptr_eq(&self.budget, &other.budget) && self.holder == other.holder);
        self.units += std::mem::take(&mut other.units);
        match (&mut self.of_whole, other.of_whole.take()) {
            (Some(own), Some(whole)) => own.absorb(*whole),
            (_, whole) => drop(whole),
        }
    }

    /// Makes it `units`, now that they are known. More than before is taken whether or not it is free.
    pub fn resize(&mut self, units: u64) {
        if let Some(of_whole) = &mut self.of_whole {
            of_whole.resize(units);
        }
        self.budget.count(self.holder, self.units, units);
        let shrinks = units < self.units;
        self.units = units;
        if shrinks {
            self.budget.freed.notify();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.count(self.holder, self.units, 0);
        self.budget.freed.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const ONE: Holder = Holder(1);
    const OTHER: Holder = Holder(2);

    fn greedy(budget: &Rc<Budget>, holder: Holder) -> Vec<Permit> {
        std::iter::from_fn(|| budget.try_acquire_for(holder, 1)).collect()
    }

    #[test]
    fn a_holder_gets_no_more_than_is_left_beside_it() {
        let budget = Budget::new(120);
        let one = greedy(&budget, ONE);
        assert_eq!(one.len(), 60);
        let other = greedy(&budget, OTHER);
        assert_eq!((other.len(), budget.offer(OTHER), budget.offer(Holder(3))), (30, 0, 30));
        assert!(budget.is_greedy(ONE) && !budget.is_greedy(Holder(3)));
        drop(one);
        assert_eq!(greedy(&budget, OTHER).len(), 30, "what is given back counts again");
        drop(other);
        assert!(budget.by_holder.borrow().is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_part_takes_of_the_whole_and_waits_for_either() {
        let whole = Budget::new(100);
        let part = Budget::part_of(&whole, 30);
        let mut held = part.try_acquire(30).expect("both are free");
        assert_eq!((part.offer(ONE), whole.offer(ONE)), (0, 70));
        assert!(part.try_acquire(1).is_none(), "the part is used up");
        held.resize(10);
        assert_eq!((part.offer(ONE), whole.offer(ONE)), (20, 90));
        let rest = whole.try_acquire(85).expect("free");
        let mut cx = Context::from_waker(Waker::noop());
        let mut waits = pin!(part.acquire(15));
        assert!(waits.as_mut().poll(&mut cx).is_pending(), "the whole is used up");
        assert!(part.was_short());
        drop(rest);
        let Poll::Ready(permit) = waits.as_mut().poll(&mut cx) else {
            panic!("there is room in both")
        };
        drop((permit, held));
        assert_eq!((part.used(), whole.used()), (0, 0));
    }

    #[test]
    fn more_than_there_is_may_be_taken_and_is_counted() {
        let whole = Budget::new(10);
        let part = Budget::part_of(&whole, 5);
        let over = part.overdraw(ONE, 20);
        assert_eq!((part.offer(OTHER), whole.offer(OTHER), whole.used()), (0, 0, 20));
        drop(over);
        assert_eq!((part.used(), whole.used()), (0, 0));
    }
}
