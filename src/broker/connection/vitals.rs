//! The deadlines of a shard's connections: each connection notes what it waits for, one sweep a second ends those that
//! waited too long. So a request costs two stores, not two timers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::sync::{Holder, Notify, Signal};
use crate::broker::{Memory, Pressure};
use crate::io::{Env, Monotonic};

/// How long a connection may take, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `connections.max.idle.ms`: nothing asked, nothing owed.
    pub idle_ms: u64,
    /// From the first byte of a frame to its last.
    pub frame_ms: u64,
    /// A send that makes no progress.
    pub send_ms: u64,
    /// Either of the two while the shard's memory for it is short.
    pub pressed_ms: u64,
}

/// What one connection is waiting for.
pub struct Vitals {
    holder: Holder,
    last_request: Cell<Monotonic>,
    frame_began: Cell<Option<Monotonic>>,
    /// The same, whether or not the reader has paused since.
    frame_first: Cell<Option<Monotonic>>,
    send_began: Cell<Option<Monotonic>>,
    /// Since when a whole request waits for its connection's own earlier ones.
    held_up: Cell<Option<Monotonic>>,
    in_flight: Cell<usize>,
    is_beginning: Cell<bool>,
    given_up: Signal,
}

/// Why a connection was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overdue {
    Idle,
    Frame,
    Send,
    /// Its half frame holds memory that others wait for.
    FramePressed,
    /// Its unread answers do.
    SendPressed,
    /// Its whole request does, behind one that waits.
    RequestPressed,
}

/// The time of a frame at which its reader stopped receiving.
pub struct Paused {
    elapsed_ns: u64,
}

impl Vitals {
    pub fn new(holder: Holder) -> Self {
        Self {
            holder,
            last_request: Cell::default(),
            frame_began: Cell::default(),
            frame_first: Cell::default(),
            send_began: Cell::default(),
            held_up: Cell::default(),
            in_flight: Cell::default(),
            is_beginning: Cell::default(),
            given_up: Signal::default(),
        }
    }

    /// A whole request arrived.
    pub fn request(&self, now: Monotonic) {
        self.last_request.set(now);
        self.frame_began.set(None);
        self.frame_first.set(None);
    }

    /// Some bytes of a request are there, but not all.
    pub fn partial_frame(&self, now: Monotonic) {
        if self.frame_began.get().is_none() {
            self.frame_began.set(Some(now));
        }
        if self.frame_first.get().is_none() {
            self.frame_first.set(Some(now));
        }
    }

    /// The reader stops receiving on its own account: a frame's time does not run meanwhile.
    pub fn pause_reading(&self, now: Monotonic) -> Paused {
        let began = self.frame_began.take().unwrap_or(now);
        Paused {
            elapsed_ns: now.0.saturating_sub(began.0),
        }
    }

    /// It receives again: the frame has taken as long as when it stopped.
    pub fn resume_reading(&self, paused: Paused, now: Monotonic) {
        self.frame_began
            .set(Some(Monotonic(now.0.saturating_sub(paused.elapsed_ns))));
    }

    pub fn send_begins(&self, now: Monotonic) {
        self.send_began.set(Some(now));
    }

    pub fn send_ends(&self, now: Monotonic) {
        self.send_began.set(None);
        self.last_request.set(now);
    }

    /// A whole request holds memory, and waits for an earlier one of its connection.
    pub fn request_held_up(&self, now: Monotonic) {
        self.held_up.set(Some(now));
    }

    /// A request is being dispatched, and held up no longer.
    pub fn request_begins(&self) {
        self.held_up.set(None);
        self.is_beginning.set(true);
    }

    /// It has its place among the `count` in flight.
    pub fn request_begun(&self, count: usize) {
        self.is_beginning.set(false);
        self.set_in_flight(count);
    }

    pub fn is_beginning(&self) -> bool {
        self.is_beginning.get()
    }

    /// Requests begun and not yet answered.
    pub fn set_in_flight(&self, count: usize) {
        self.in_flight.set(count);
    }

    /// Ends the connection, whatever it is doing.
    pub fn give_up(&self) {
        self.given_up.raise();
    }

    /// Completes when the connection is to end.
    pub async fn given_up(&self) {
        self.given_up.raised().await;
    }

    /// A connection that is owed nothing.
    pub fn is_idle(&self) -> bool {
        self.in_flight.get() == 0 && !self.is_beginning.get() && self.send_began.get().is_none()
    }

    pub fn overdue(&self, now: Monotonic, patience: &Patience, pressure: Pressure) -> Option<Overdue> {
        let waited = |since: Option<Monotonic>, ms: u64| since.is_some_and(|since| now.ms_since(since) >= ms);
        if waited(self.send_began.get(), patience.send_ms) {
            return Some(Overdue::Send);
        }
        if waited(self.frame_began.get(), patience.frame_ms) {
            return Some(Overdue::Frame);
        }
        // Behind a send that stands still, requests are held, too.
        if (pressure.responses || pressure.requests) && waited(self.send_began.get(), patience.pressed_ms) {
            return Some(Overdue::SendPressed);
        }
        if pressure.requests && waited(self.frame_first.get(), patience.pressed_ms) {
            return Some(Overdue::FramePressed);
        }
        if pressure.requests && waited(self.held_up.get(), patience.pressed_ms) {
            return Some(Overdue::RequestPressed);
        }
        let idle = self.is_idle() && self.frame_began.get().is_none();
        (idle && now.ms_since(self.last_request.get()) >= patience.idle_ms).then_some(Overdue::Idle)
    }
}

type Open<E> = (<E as Env>::Stream, Rc<Vitals>);

/// The open connections of one shard.
pub struct Registry<E: Env> {
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, Open<E>>>,
    emptied: Notify,
}

/// A connection's entry; leaves on drop.
pub struct Registration<E: Env> {
    registry: Rc<Registry<E>>,
    key: u64,
}

impl<E: Env> Default for Registry<E> {
    fn default() -> Self {
        Self {
            next: Cell::new(0),
            open: RefCell::default(),
            emptied: Default::default(),
        }
    }
}

impl<E: Env> Registry<E> {
    pub fn register(self: &Rc<Self>, stream: E::Stream, vitals: Rc<Vitals>) -> Registration<E> {
        let key = self.next.get();
        self.next.set(key + 1);
        self.open.borrow_mut().insert(key, (stream, vitals));
        Registration {
            registry: self.clone(),
            key,
        }
    }

    pub fn open_count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Completes when no connection is open.
    pub async fn empty(&self) {
        self.emptied.until(|| self.open.borrow().is_empty()).await;
    }

    /// Ends the connections that are overdue; their tasks see the end and leave.
    pub fn sweep(&self, env: &E, patience: &Patience, memory: &Memory) {
        let now = env.now();
        let pressure = memory.pressure();
        for (key, (stream, vitals)) in self.open.borrow().iter() {
            let pressure = match pressure {
                Pressure {
                    requests: false,
                    responses: false,
                } => pressure,
                _ => memory.pressure_on(vitals.holder, pressure),
            };
            if let Some(why) = vitals.overdue(now, patience, pressure) {
                tracing::debug!(connection = key, ?why, "connection given up");
                end(env, stream, vitals);
            }
        }
    }

    /// Ends the connections that are owed nothing.
    pub fn shutdown_idle(&self, env: &E) {
        let open = self.open.borrow();
        open.values()
            .filter(|(_, vitals)| vitals.is_idle())
            .for_each(|(stream, vitals)| end(env, stream, vitals));
    }

    /// Ends all connections.
    pub fn shutdown_all(&self, env: &E) {
        self.open
            .borrow()
            .values()
            .for_each(|(stream, vitals)| end(env, stream, vitals));
    }
}

fn end<E: Env>(env: &E, stream: &E::Stream, vitals: &Vitals) {
    vitals.give_up();
    env.shutdown(stream);
}

impl<E: Env> Drop for Registration<E> {
    fn drop(&mut self) {
        self.registry.open.borrow_mut().remove(&self.key);
        if self.registry.open_count() == 0 {
            self.registry.emptied.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        idle_ms: 1000,
        frame_ms: 100,
        send_ms: 50,
        pressed_ms: 20,
    };

    const RELAXED: Pressure = Pressure {
        requests: false,
        responses: false,
    };

    fn at(ms: u64) -> Monotonic {
        Monotonic(0).plus_ms(ms)
    }

    #[test]
    fn a_slow_frame_is_overdue_even_while_bytes_trickle_in() {
        let vitals = Vitals::new(Holder(0));
        vitals.partial_frame(at(10));
        vitals.partial_frame(at(90));
        assert_eq!(vitals.overdue(at(109), &PATIENCE, RELAXED), None);
        assert_eq!(vitals.overdue(at(110), &PATIENCE, RELAXED), Some(Overdue::Frame));
        vitals.request(at(110));
        assert_eq!(vitals.overdue(at(300), &PATIENCE, RELAXED), None);
    }

    #[test]
    fn a_frame_keeps_the_time_it_took_over_the_pauses_of_its_reader() {
        let vitals = Vitals::new(Holder(0));
        vitals.partial_frame(at(10));
        let paused = vitals.pause_reading(at(60));
        assert_eq!(vitals.overdue(at(500), &PATIENCE, RELAXED), None);
        vitals.resume_reading(paused, at(500));
        vitals.partial_frame(at(501));
        assert_eq!(vitals.overdue(at(549), &PATIENCE, RELAXED), None);
        assert_eq!(vitals.overdue(at(550), &PATIENCE, RELAXED), Some(Overdue::Frame));
    }

    #[test]
    fn a_peer_that_does_not_read_is_overdue_after_the_last_progress() {
        let vitals = Vitals::new(Holder(0));
        vitals.send_begins(at(0));
        vitals.send_begins(at(40));
        assert_eq!(vitals.overdue(at(89), &PATIENCE, RELAXED), None);
        assert_eq!(vitals.overdue(at(90), &PATIENCE, RELAXED), Some(Overdue::Send));
    }

    #[test]
    fn a_connection_that_is_owed_an_answer_is_not_idle() {
        let vitals = Vitals::new(Holder(0));
        vitals.request(at(0));
        vitals.set_in_flight(1);
        assert_eq!(vitals.overdue(at(5000), &PATIENCE, RELAXED), None);
        vitals.set_in_flight(0);
        assert_eq!(vitals.overdue(at(5000), &PATIENCE, RELAXED), Some(Overdue::Idle));
    }

    #[test]
    fn who_holds_memory_that_others_wait_for_has_less_time() {
        let vitals = Vitals::new(Holder(0));
        let short_of = |requests, responses| Pressure { requests, responses };
        vitals.partial_frame(at(10));
        let _paused = vitals.pause_reading(at(11));
        assert_eq!(vitals.overdue(at(29), &PATIENCE, short_of(true, true)), None);
        assert_eq!(vitals.overdue(at(30), &PATIENCE, short_of(false, true)), None);
        let why = vitals.overdue(at(30), &PATIENCE, short_of(true, false));
        assert_eq!(why, Some(Overdue::FramePressed), "a pause does not help");
        vitals.request(at(30));
        vitals.send_begins(at(40));
        let why = vitals.overdue(at(60), &PATIENCE, short_of(false, true));
        assert_eq!(why, Some(Overdue::SendPressed));
        vitals.send_ends(at(60));
        vitals.request_held_up(at(70));
        assert_eq!(vitals.overdue(at(90), &PATIENCE, short_of(false, true)), None);
        let why = vitals.overdue(at(90), &PATIENCE, short_of(true, false));
        assert_eq!(why, Some(Overdue::RequestPressed));
        vitals.request_begins();
        assert_eq!(vitals.overdue(at(90), &PATIENCE, short_of(true, false)), None);
    }

    #[test]
    fn a_connection_whose_request_is_being_dispatched_is_not_idle() {
        let vitals = Vitals::new(Holder(0));
        vitals.request_begins();
        vitals.set_in_flight(0);
        assert!(!vitals.is_idle(), "an earlier answer was sent meanwhile");
        vitals.request_begun(1);
        vitals.set_in_flight(0);
        assert!(vitals.is_idle());
    }
}
