//! Wake-ups between tasks of one shard. Single-threaded by type (`Rc`): what crosses shards goes through `mailbox`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// "Something changed, look again": wakes every waiter that registered before the call. A waiter that is dropped leaves
/// nothing behind.
#[derive(Default)]
pub struct Notify {
    generation: Cell<u64>,
    waiters: RefCell<Waiters>,
}

/// The wakers of one generation, by slot.
#[derive(Default)]
struct Waiters {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// Completes at the first `notify` after it was made.
pub struct Notified<'a> {
    notify: &'a Notify,
    seen: u64,
    /// Valid while the generation is `seen`.
    slot: Option<usize>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.notify.generation.get() != self.seen {
            return Poll::Ready(());
        }
        let mut waiters = self.notify.waiters.borrow_mut();
        let slot = *self.slot.get_or_insert_with(|| {
            waiters.free.pop().unwrap_or_else(|| {
                waiters.slots.push(None);
                waiters.slots.len() - 1
            })
        });
        match &mut waiters.slots[slot] {
            Some(waker) => waker.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        if self.notify.generation.get() == self.seen {
            let mut waiters = self.notify.waiters.borrow_mut();
            waiters.slots[slot] = None;
            waiters.free.push(slot);
        }
    }
}

impl Notify {
    /// Wakes all current waiters.
    pub fn notify(&self) {
        self.generation.set(self.generation.get() + 1);
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        waiters.slots.into_iter().flatten().for_each(Waker::wake);
    }

    /// Completes at the first `notify` after this call (not after the first poll: no wake-up is missed in between).
    pub fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            seen: self.generation.get(),
            slot: None,
        }
    }

    /// Waits until `condition` holds, looking again at every `notify`.
    pub async fn until(&self, mut condition: impl FnMut() -> bool) {
        loop {
            let changed = self.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}

/// A flag that is raised once and stays up.
#[derive(Default)]
pub struct Signal {
    raised: Cell<bool>,
    changed: Notify,
}

impl Signal {
    pub fn raise(&self) {
        self.raised.set(true);
        self.changed.notify();
    }

    pub fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// Completes when the flag is up.
    pub async fn raised(&self) {
        self.changed.until(|| self.raised.get()).await;
    }
}

struct OneshotState<T> {
    value: Option<T>,
    closed: bool,
    waker: Option<Waker>,
}

/// The sending half of a single value; dropping it unsent ends the receiver with `None`.
pub struct OneshotSender<T>(Rc<RefCell<OneshotState<T>>>);

/// The receiving half: a future of `Some(value)`, or `None` when the sender went away.
pub struct OneshotReceiver<T>(Rc<RefCell<OneshotState<T>>>);

pub fn oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
    let state = Rc::new(RefCell::new(OneshotState {
        value: None,
        closed: false,
        waker: None,
    }));
    (OneshotSender(state.clone()), OneshotReceiver(state))
}

impl<T> OneshotSender<T> {
    pub fn send(self, value: T) {
        self.0.borrow_mut().value = Some(value);
    }
}

impl<T> Drop for OneshotSender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.borrow_mut();
            state.closed = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for OneshotReceiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.borrow_mut();
        if let Some(value) = state.value.take() {
            return Poll::Ready(Some(value));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A budget of units (bytes, slots) of one shard: `acquire` waits until enough is free; the permit gives back on drop.
pub struct Budget {
    limit: u64,
    used: Cell<u64>,
    /// Callers of `acquire` that are not served yet.
    waiting: Cell<usize>,
    /// A `try_acquire` failed since `was_short` was called last.
    refused: Cell<bool>,
    freed: Notify,
}

/// Units taken from a `Budget`.
pub struct Permit {
    budget: Rc<Budget>,
    units: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Rc<Self> {
        Rc::new(Self {
            limit,
            used: Cell::new(0),
            waiting: Cell::new(0),
            refused: Cell::new(false),
            freed: Notify::default(),
        })
    }

    pub fn used(&self) -> u64 {
        self.used.get()
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `units` if they are free now. A request above the whole limit is served when nothing else is out, so that
    /// one oversized but allowed item cannot wait for ever.
    pub fn try_acquire(self: &Rc<Self>, units: u64) -> Option<Permit> {
        let used = self.used.get();
        if used != 0 && used.saturating_add(units) > self.limit {
            self.refused.set(true);
            return None;
        }
        self.used.set(used.saturating_add(units));
        Some(Permit {
            budget: self.clone(),
            units,
        })
    }

    /// Whether somebody waits for units, or found too few free since the last call.
    pub fn was_short(&self) -> bool {
        self.refused.take() || self.waiting.get() > 0
    }

    pub async fn acquire(self: &Rc<Self>, units: u64) -> Permit {
        if let Some(permit) = self.try_acquire(units) {
            return permit;
        }
        let _waiting = Waiting::in_line(&self.waiting);
        loop {
            let freed = self.freed.notified();
            if let Some(permit) = self.try_acquire(units) {
                return permit;
            }
            freed.await;
        }
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
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.units);
        self.budget.freed.notify();
    }
}

/// The first of two futures to finish; the other is dropped.
pub async fn race<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let mut a = std::pin::pin!(a);
    let mut b = std::pin::pin!(b);
    poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(value),
        Poll::Pending => b.as_mut().poll(cx),
    })
    .await
}

/// Runs the futures side by side in the calling task; results come in the order of the inputs.
pub async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|f| Some(Box::pin(f))).collect();
    let mut results: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut waiting = false;
        for (slot, result) in pending.iter_mut().zip(&mut results) {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => {
                    *result = Some(value);
                    *slot = None;
                }
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn a_waiter_given_up_leaves_no_waker_behind() {
        let notify = Notify::default();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            assert!(pin!(notify.notified()).poll(&mut cx).is_pending());
        }
        assert_eq!(notify.waiters.borrow().slots.len(), 1);
        let mut before = pin!(notify.notified());
        assert!(before.as_mut().poll(&mut cx).is_pending());
        notify.notify();
        let mut after = pin!(notify.notified());
        assert!(after.as_mut().poll(&mut cx).is_pending());
        assert!(before.poll(&mut cx).is_ready());
        assert_eq!(notify.waiters.borrow().slots.iter().flatten().count(), 1);
    }
}
