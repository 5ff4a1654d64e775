//! Wake-ups between and within tasks of one shard. Single-threaded by type (`Rc`): what crosses shards goes through
//! `mailbox`. Only wakers may cross by type, hence the locks around those of `join_all`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

pub use super::budget::{Budget, Holder, Permit, Permits};

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

/// Joins of more futures go through `Wakes`; fewer are polled together.
const TOGETHER_MAX: usize = 16;

/// Runs the futures side by side in the calling task; results come in the order of the inputs.
///
/// However many they are, they hold few references of the task. A wake-up costs a poll of the future it is for, not of all.
pub async fn join_all<F: Future>(mut futures: Vec<F>) -> Vec<F::Output> {
    if futures.len() <= 1 {
        return match futures.pop() {
            Some(only) => vec![only.await],
            None => Vec::new(),
        };
    }
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut pending: Vec<_> = futures.into_iter().map(|f| Some(Box::pin(f))).collect();
    if pending.len() <= TOGETHER_MAX {
        poll_fn(|cx| {
            let mut open = false;
            for (slot, result) in pending.iter_mut().zip(&mut results) {
                open |= !poll_slot(slot, result, cx);
            }
            if open { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    } else {
        let mut open = pending.len();
        let wakes = Wakes::new(open);
        poll_fn(|cx| {
            for place in wakes.take(cx) {
                let (slot, result) = (&mut pending[place.index], &mut results[place.index]);
                let waker = Waker::from(place);
                let before = slot.is_some();
                if poll_slot(slot, result, &mut Context::from_waker(&waker)) && before {
                    open -= 1;
                }
            }
            if open > 0 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
    results.into_iter().flatten().collect()
}

/// The same for so many as are known beforehand.
pub async fn join_each<F: Future, const COUNT: usize>(futures: [F; COUNT]) -> [F::Output; COUNT] {
    let results = join_all(Vec::from(futures)).await;
    let one_each = |_| unreachable!("a result of each");
    results.try_into().unwrap_or_else(one_each)
}

/// Runs the futures, at most `count_max` side by side, the next one made when one is done; results come in the order of the
/// inputs.
pub async fn join_few<F: Future>(count_max: usize, futures: impl ExactSizeIterator<Item = F>) -> Vec<F::Output> {
    let results: RefCell<Vec<Option<F::Output>>> = RefCell::new((0..futures.len()).map(|_| None).collect());
    let lines = count_max.min(futures.len());
    let futures = RefCell::new(futures.enumerate());
    let line = || async {
        loop {
            let Some((place, future)) = futures.borrow_mut().next() else {
                return;
            };
            let result = future.await;
            results.borrow_mut()[place] = Some(result);
        }
    };
    join_all((0..lines).map(|_| line()).collect()).await;
    results.into_inner().into_iter().flatten().collect()
}

/// Whether the future in `slot` is done; its result goes to `result`.
fn poll_slot<F: Future>(slot: &mut Option<Pin<Box<F>>>, result: &mut Option<F::Output>, cx: &mut Context<'_>) -> bool {
    let Some(future) = slot else { return true };
    let Poll::Ready(value) = future.as_mut().poll(cx) else {
        return false;
    };
    *result = Some(value);
    *slot = None;
    true
}

/// Many wakers within one task that together hold one reference of it. Each names its place.
pub struct Wakes(Mutex<Woken>);

struct Woken {
    places: Vec<Arc<Place>>,
    /// There from when the task looks until the first wake-up.
    task: Option<Waker>,
}

/// One waker of `Wakes`.
pub struct Place {
    /// Gone with the join, whatever wakers outlive it.
    of: Weak<Wakes>,
    index: usize,
    /// Lies in `Woken::places`.
    woken: AtomicBool,
}

impl Wakes {
    /// All of the `count` places are woken.
    pub fn new(count: usize) -> Arc<Self> {
        let wakes = Arc::new(Self(Mutex::new(Woken {
            places: Vec::with_capacity(count),
            task: None,
        })));
        let place = |index| Place {
            of: Arc::downgrade(&wakes),
            index,
            woken: AtomicBool::new(true),
        };
        wakes
            .lock()
            .places
            .extend((0..count).map(|index| Arc::new(place(index))));
        wakes
    }

    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places woken since the last call; the next one to be wakes the task of `cx`.
    pub fn take(&self, cx: &Context<'_>) -> Vec<Arc<Place>> {
        let mut woken = self.lock();
        woken.task = Some(cx.waker().clone());
        let places = std::mem::take(&mut woken.places);
        // From here on a wake-up asks for another poll.
        places
            .iter()
            .for_each(|place| place.woken.store(false, Ordering::Release));
        places
    }
}

impl Place {
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(wakes) = self.of.upgrade() else { return };
        let task = {
            let mut woken = wakes.lock();
            woken.places.push(self);
            woken.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    /// A task's waker that counts its references and wake-ups.
    struct Counting(std::sync::atomic::AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_join_of_many_holds_few_references_of_its_task_and_polls_only_what_was_woken() {
        const COUNT: usize = 100_000;
        let task = Arc::new(Counting(Default::default()));
        let waker = Waker::from(task.clone());
        let mut cx = Context::from_waker(&waker);
        let polls = Cell::new(0);
        let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..COUNT).map(|_| oneshot::<usize>()).unzip();
        let counted = |receiver: OneshotReceiver<usize>| {
            let mut receiver = receiver;
            let polls = &polls;
            poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                Pin::new(&mut receiver).poll(cx)
            })
        };
        let mut join = pin!(join_all(receivers.into_iter().map(counted).collect()));
        assert!(join.as_mut().poll(&mut cx).is_pending());
        assert!(Arc::strong_count(&task) < 10, "{}", Arc::strong_count(&task));
        assert_eq!(polls.take(), COUNT);
        // Two wake-ups before the task looks: it is woken once.
        senders.pop().expect("there are many").send(COUNT - 1);
        senders.pop().expect("there are many").send(COUNT - 2);
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert!(join.as_mut().poll(&mut cx).is_pending());
        assert_eq!(polls.take(), 2);
        senders
            .into_iter()
            .enumerate()
            .for_each(|(index, sender)| sender.send(index));
        let Poll::Ready(found) = join.poll(&mut cx) else {
            panic!("all are sent")
        };
        assert!(found.into_iter().flatten().eq(0..COUNT));
    }

    #[test]
    fn a_join_of_few_has_no_more_than_those_under_way_and_keeps_the_order() {
        let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..10).map(|_| oneshot::<usize>()).unzip();
        let begun = Cell::new(0);
        let futures = receivers.into_iter().inspect(|_| {
            begun.set(begun.get() + 1);
        });
        let mut join = pin!(join_few(3, futures));
        let mut cx = Context::from_waker(Waker::noop());
        for (done, index) in (0..10).rev().enumerate() {
            assert!(join.as_mut().poll(&mut cx).is_pending());
            assert!(begun.get() <= 3 + done, "{}", begun.get());
            senders.pop().expect("one for each").send(index);
        }
        let Poll::Ready(found) = join.poll(&mut cx) else {
            panic!("all are sent")
        };
        assert!(found.into_iter().flatten().eq(0..10));
    }

    #[test]
    fn a_join_given_up_holds_no_task() {
        let task = Arc::new(Counting(Default::default()));
        let waker = Waker::from(task.clone());
        let notify = Rc::new(Notify::default());
        let mut join = Box::pin(join_all((0..100).map(|_| notify.notified()).collect()));
        assert!(join.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        notify.notify();
        drop(join);
        assert_eq!(Arc::strong_count(&task), 2);
    }

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
