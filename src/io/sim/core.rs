//! What every part of a world shares: virtual time, the events to come, randomness and the trace. Nothing here is
//! borrowed across a call into other code, so any part may use it at any time.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::network::NetworkEvent;
use super::options::Options;
use super::random::{Rng, mix};

/// Something that happens at a point of virtual time.
pub(super) enum Event {
    Timer(Rc<Completion<()>>),
    /// An operation of a disk is done. `attempt` tells a rescheduled one from its earlier date.
    Disk {
        host: usize,
        operation: u64,
        attempt: u32,
    },
    Network(NetworkEvent),
}

struct Scheduled {
    at: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    // Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

pub(super) struct Core {
    pub(super) seed: u64,
    pub(super) options: Options,
    pub(super) schedule: Rng,
    pub(super) disk: Rng,
    pub(super) network: Rng,
    pub(super) application: Rng,
    /// Disk operations completed so far, on all hosts.
    pub(super) completions: Cell<u64>,
    now: Cell<u64>,
    sequence: Cell<u64>,
    io_pending: Cell<usize>,
    events: RefCell<BinaryHeap<Scheduled>>,
    trace: Cell<u64>,
}

impl Core {
    pub(super) fn new(seed: u64, options: Options) -> Self {
        Self {
            seed,
            options,
            schedule: Rng::new(seed, 1),
            disk: Rng::new(seed, 2),
            network: Rng::new(seed, 3),
            application: Rng::new(seed, 4),
            completions: Cell::new(0),
            now: Cell::new(1_000_000_000),
            sequence: Cell::new(0),
            io_pending: Cell::new(0),
            events: RefCell::default(),
            trace: Cell::new(0),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn pass(&self, ns: u64) {
        self.now.set(self.now.get() + ns);
    }

    /// Adds to the hash of everything that happened.
    pub(super) fn trace(&self, kind: u64, value: u64) {
        self.trace
            .set(mix(mix(self.trace.get(), kind), mix(self.now.get(), value)));
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    pub(super) fn schedule_at(&self, at: u64, event: Event) {
        if !matches!(event, Event::Timer(_)) {
            self.io_pending.set(self.io_pending.get() + 1);
        }
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        self.events.borrow_mut().push(Scheduled { at, sequence, event });
    }

    pub(super) fn schedule_in(&self, ns: u64, event: Event) {
        self.schedule_at(self.now() + ns, event);
    }

    /// Operations of disks and network that are under way.
    pub(super) fn io_pending(&self) -> usize {
        self.io_pending.get()
    }

    /// The earliest event if it is due by `until`; time moves there.
    pub(super) fn pop(&self, until: u64) -> Option<Event> {
        let mut events = self.events.borrow_mut();
        if events.peek()?.at > until {
            return None;
        }
        let next = events.pop()?;
        self.now.set(self.now.get().max(next.at));
        if !matches!(next.event, Event::Timer(_)) {
            self.io_pending.set(self.io_pending.get() - 1);
        }
        Some(next.event)
    }

    /// The seed and place of a failure, for the message of an assertion.
    pub(super) fn place(&self) -> String {
        format!(
            "seed {}, completion {}, {} ns",
            self.seed,
            self.completions.get(),
            self.now()
        )
    }
}

/// A value that arrives once. The waiting side may be dropped: the value is then lost, as a result nobody awaits is.
pub(super) struct Completion<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Completion<T> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            value: RefCell::new(None),
            waker: RefCell::new(None),
        })
    }

    pub(super) fn set(&self, value: T) {
        let old = self.value.replace(Some(value));
        assert!(old.is_none(), "an operation completed twice");
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waits for a `Completion`.
pub(super) struct Wait<T>(pub(super) Rc<Completion<T>>);

impl<T> Future for Wait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let value = self.0.value.take();
        match value {
            Some(value) => Poll::Ready(value),
            None => {
                let old = self.0.waker.replace(Some(cx.waker().clone()));
                drop(old);
                Poll::Pending
            }
        }
    }
}
