//! Budgets of bytes or slots of one shard, and how several holders share one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

/// A budget of units (bytes, slots) of one shard: `acquire` waits until enough is free; the permit gives back on drop.
///
/// Units taken in the name of a holder are shared: a holder gets no more than what is left beside it (a dynamic threshold, as
/// switches use for their buffers). One holder alone so gets half of all, n of them an nth part of all but one more such part,
/// and that one is there for whoever comes next.
///
/// Whoever waits is given its units when they become free, and woken then: a permit that ends costs a look at those who wait,
/// not a wake-up of each. Holders take turns at what becomes free.
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
    /// Who waits for units of this budget or of a part of it.
    line: RefCell<Line>,
    /// Nobody is served before the first in line.
    is_ordered: bool,
}

/// Who waits, in the order in which they are looked at: by rounds, in each of which a holder has one place.
#[derive(Default)]
struct Line {
    waiters: BTreeMap<Place, Rc<Waiter>>,
    holders: BTreeMap<Option<Holder>, Rounds>,
    /// That of the last one who was served.
    round: u64,
    tickets: u64,
}

/// A round, and a number that rises.
type Place = (u64, u64);

/// What a holder has in a line.
#[derive(Default)]
struct Rounds {
    waiters: usize,
    next: u64,
}

struct Waiter {
    budget: Rc<Budget>,
    holder: Option<Holder>,
    units: u64,
    granted: Cell<Option<Permit>>,
    waker: Cell<Option<Waker>>,
}

/// Completes when the units are granted. Leaves the line when it is dropped.
struct Granted {
    waiter: Rc<Waiter>,
    place: Place,
}

/// In whose name units are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Holder(pub u128);

/// Units taken from a `Budget`.
pub struct Permit {
    budget: Rc<Budget>,
    units: u64,
    holder: Option<Holder>,
}

/// What is held for one thing: mostly one permit.
pub type Permits = SmallVec<[Permit; 1]>;

impl Budget {
    pub fn new(limit: u64) -> Rc<Self> {
        Rc::new(Self::with(limit, None, false))
    }

    /// A budget of which those who wait get theirs in order, however much the first one asks for.
    pub fn in_order(limit: u64) -> Rc<Self> {
        Rc::new(Self::with(limit, None, true))
    }

    /// A budget whose units are also the `whole` one's.
    pub fn part_of(whole: &Rc<Budget>, limit: u64) -> Rc<Self> {
        Rc::new(Self::with(limit, Some(whole.clone()), false))
    }

    fn with(limit: u64, part_of: Option<Rc<Budget>>, is_ordered: bool) -> Self {
        Self {
            limit,
            used: Cell::new(0),
            by_holder: RefCell::default(),
            part_of,
            waiting: Cell::new(0),
            refused: Cell::new(false),
            line: RefCell::default(),
            is_ordered,
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
        self.take(Some(holder), units)
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
        self.is_free(Some(holder), units)
    }

    fn is_free(&self, holder: Option<Holder>, units: u64) -> bool {
        let whole = self.part_of.as_ref();
        self.fits(holder, units) && whole.is_none_or(|whole| whole.is_free(holder, units))
    }

    fn try_take(self: &Rc<Self>, holder: Option<Holder>, units: u64) -> Option<Permit> {
        let taken = self.take_free(holder, units);
        if taken.is_none() {
            self.refused.set(true);
        }
        taken
    }

    fn take_free(self: &Rc<Self>, holder: Option<Holder>, units: u64) -> Option<Permit> {
        self.is_free(holder, units).then(|| self.take(holder, units))
    }

    fn fits(&self, holder: Option<Holder>, units: u64) -> bool {
        let used = self.used.get();
        let free = self.limit.saturating_sub(used);
        let held = holder.map_or(0, |holder| self.held_by(holder));
        used == 0 || (units <= free && (held == 0 || held.saturating_add(units) <= free))
    }

    fn take(self: &Rc<Self>, holder: Option<Holder>, units: u64) -> Permit {
        self.count(holder, 0, units);
        Permit {
            budget: self.clone(),
            units,
            holder,
        }
    }

    /// Counts `now` units where there were `before`, here and in the whole.
    fn count(&self, holder: Option<Holder>, before: u64, now: u64) {
        if let Some(whole) = &self.part_of {
            whole.count(holder, before, now);
        }
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
            let is_passing = budget.is_ordered && !budget.line.borrow().waiters.is_empty();
            if !is_passing && let Some(permit) = budget.try_take(holder, units) {
                return permit;
            }
            Granted::wait(budget, holder, units).await
        }
    }

    /// The budget that this one is a part of in the end, or itself.
    fn whole(&self) -> &Budget {
        self.part_of.as_ref().map_or(self, |whole| whole.whole())
    }

    /// Gives what is free to those who wait, as far as it goes.
    fn serve(&self) {
        if self.line.borrow().waiters.is_empty() {
            return;
        }
        let mut served = Vec::new();
        for (place, waiter) in &self.line.borrow().waiters {
            if let Some(permit) = waiter.budget.take_free(waiter.holder, waiter.units) {
                waiter.granted.set(Some(permit));
                served.push((*place, waiter.clone()));
            } else if self.is_ordered {
                break;
            }
        }
        for (place, waiter) in served {
            self.line.borrow_mut().serve(place);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Line {
    fn push(&mut self, waiter: Rc<Waiter>) -> Place {
        let rounds = self.holders.entry(waiter.holder).or_default();
        let place = (rounds.next.max(self.round), self.tickets);
        rounds.waiters += 1;
        rounds.next = place.0 + 1;
        self.tickets += 1;
        self.waiters.insert(place, waiter);
        place
    }

    fn serve(&mut self, place: Place) {
        self.round = self.round.max(place.0);
        self.remove(place);
    }

    fn remove(&mut self, place: Place) {
        let Some(waiter) = self.waiters.remove(&place) else {
            return;
        };
        if let Some(rounds) = self.holders.get_mut(&waiter.holder) {
            rounds.waiters -= 1;
            if rounds.waiters == 0 {
                self.holders.remove(&waiter.holder);
            }
        }
    }
}

impl Granted {
    fn wait(budget: Rc<Budget>, holder: Option<Holder>, units: u64) -> Self {
        budget.waiting.set(budget.waiting.get() + 1);
        let waiter = Rc::new(Waiter {
            budget,
            holder,
            units,
            granted: Cell::default(),
            waker: Cell::default(),
        });
        let place = waiter.budget.whole().line.borrow_mut().push(waiter.clone());
        Self { waiter, place }
    }
}

impl Future for Granted {
    type Output = Permit;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        match self.waiter.granted.take() {
            Some(permit) => Poll::Ready(permit),
            None => {
                self.waiter.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let budget = &self.waiter.budget;
        budget.waiting.set(budget.waiting.get() - 1);
        let whole = budget.whole();
        whole.line.borrow_mut().remove(self.place);
        if whole.is_ordered {
            // It may have kept those behind it waiting.
            whole.serve();
        }
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
    }

    /// Makes it `units`, now that they are known. More than before is taken whether or not it is free.
    pub fn resize(&mut self, units: u64) {
        self.budget.count(self.holder, self.units, units);
        if units < std::mem::replace(&mut self.units, units) {
            self.budget.whole().serve();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.count(self.holder, self.units, 0);
        self.budget.whole().serve();
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

    /// How often a task was woken.
    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    type Waits = Pin<Box<dyn Future<Output = Permit>>>;

    /// Waits for units in a task of its own.
    fn wait(waits: impl Future<Output = Permit> + 'static) -> (std::sync::Arc<Woken>, Waits) {
        let (woken, mut waits): (std::sync::Arc<Woken>, Waits) = (Default::default(), Box::pin(waits));
        let waker = Waker::from(woken.clone());
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        (woken, waits)
    }

    fn wait_for(budget: &Rc<Budget>, holder: Holder, units: u64) -> (std::sync::Arc<Woken>, Waits) {
        let budget = budget.clone();
        wait(async move { budget.acquire_for(holder, units).await })
    }

    fn woken<T>(all: &[(std::sync::Arc<Woken>, T)]) -> Vec<usize> {
        let count = |(woken, _): &(std::sync::Arc<Woken>, T)| woken.0.load(std::sync::atomic::Ordering::Relaxed);
        all.iter().map(count).collect()
    }

    #[test]
    fn a_permit_that_ends_wakes_those_who_get_its_units_and_no_others() {
        let budget = Budget::new(10);
        let mut held: Vec<_> = (0..5).map(|_| budget.try_acquire(2).expect("free")).collect();
        let mut all: Vec<_> = (0..100).map(|holder| wait_for(&budget, Holder(holder), 3)).collect();
        held.pop();
        assert_eq!(woken(&all).iter().sum::<usize>(), 0, "two are free");
        held.pop();
        assert_eq!(woken(&all)[..3], [1, 0, 0]);
        assert_eq!(woken(&all).iter().sum::<usize>(), 1);
        // One that leaves with what it was given hands it on.
        drop(all.remove(0));
        assert_eq!(woken(&all)[..3], [1, 0, 0]);
        drop(all);
        assert_eq!((budget.used(), budget.is_awaited()), (6, false));
        drop(held);
        assert!(budget.used() == 0 && budget.line.borrow().holders.is_empty());
    }

    #[test]
    fn holders_take_turns_whoever_waits_more_often() {
        let budget = Budget::new(1);
        let mut held = budget.try_acquire_for(ONE, 1);
        let mut all: Vec<_> = [ONE, ONE, ONE, OTHER, ONE, OTHER]
            .iter()
            .map(|holder| wait_for(&budget, *holder, 1))
            .collect();
        let mut order = Vec::new();
        while !all.is_empty() {
            drop(held.take());
            let next = woken(&all)
                .iter()
                .position(|count| *count > 0)
                .expect("somebody is next");
            let (woken, mut waits) = all.remove(next);
            let waker = Waker::from(woken);
            let Poll::Ready(permit) = waits.as_mut().poll(&mut Context::from_waker(&waker)) else {
                panic!("it has its unit")
            };
            order.push(permit.holder);
            held = Some(permit);
        }
        assert_eq!(order, [ONE, OTHER, ONE, OTHER, ONE, ONE].map(Some));
    }

    #[test]
    fn where_order_is_kept_small_ones_do_not_pass_a_large_one() {
        for (is_ordered, passes) in [(false, 1), (true, 0)] {
            let budget = Rc::new(Budget::with(10, None, is_ordered));
            let mut held: Vec<_> = (0..10).map(|_| budget.try_acquire(1).expect("free")).collect();
            let units = [10, 1];
            let mut all: Vec<_> = units.map(|units| wait_for(&budget, ONE, units)).into();
            held.pop();
            assert_eq!(woken(&all), [0, passes]);
            if is_ordered {
                all.push(wait_for(&budget, ONE, 1));
                drop(all.remove(0));
                assert_eq!(woken(&all), [1, 0], "what kept them waiting is gone");
            }
        }
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
