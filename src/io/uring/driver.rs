//! The task that drives a shard's ring, and what the operations of the shard share.
//!
//! A turn submits all that the tasks queued since the last one and reaps what is complete: one `io_uring_enter` for both.
//! Between turns the other tasks of the shard run, so their submissions batch. With nothing to do the driver spins for a
//! while (a knob), then waits in the ring for a moment (`doorbell`), then switches the ring's eventfd on, looks once more, and sleeps in
//! a glommio read of that eventfd.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;
use io_uring::{opcode, squeue, types};

use super::doorbell::Doorbell;
use super::ops::{After, Keep, Key, Operation, Slots};
use super::ring::{Completed, Ring, RingCounters};
use super::sockets::Message;

/// The user data of cancellations, whose own completions mean nothing. No slot gets that far.
const CANCELLATION: u64 = u64::MAX;

/// The user data of the poll of the doorbell.
const DOORBELL: u64 = u64::MAX - 1;

/// The longest wait in the ring.
const WAIT_MAX: Duration = Duration::from_millis(1);

/// So long after a sleep the driver sleeps again before it waits: glommio looks at its timers in a sleep, or when it preempts (5 ms). A timer
/// so is late by this and a wait at most.
const WAITS_FOR_MAX: Duration = Duration::from_millis(2);

/// Completions handled before other tasks get the core again.
const REAPED_PER_TURN_MAX: usize = 1024;

/// The kernel raises its flag of deferred work after it has queued the work, and nothing lowers it again where an enter ran the work
/// in between. A flag that outlives so many enters in a row is such a one: the driver sleeps in spite of it. (Work that comes while the
/// eventfd is on rings the bell besides.)
const FRUITLESS_ROUNDS_MAX: u32 = 8;

/// Spins that may fail in a row before the driver stops trying.
const SPIN_CREDIT_MAX: i32 = 8;

/// Sleeps without a spin before it tries again.
const SPIN_PENALTY: i32 = 16;

/// The ring of a shard and the operations on it. Single-threaded by type.
pub(super) struct Core {
    /// `None` once the shard is over.
    ring: RefCell<Option<Ring>>,
    slots: RefCell<Slots>,
    /// The driver, when it sleeps.
    parked: RefCell<Option<Waker>>,
    stage: Cell<Stage>,
    /// Scatter lists for reuse.
    #[expect(
        clippy::vec_box,
        reason = "the kernel knows a message by its address, so it keeps its box"
    )]
    messages: RefCell<Vec<Box<Message>>>,
    spin: Duration,
    doorbell: Arc<Doorbell>,
    /// Whether the ring polls the doorbell.
    listens: Cell<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Running,
    /// No new operations; the driver ends when none is in flight.
    Draining,
}

const MESSAGES_KEPT_MAX: usize = 64;

impl Core {
    pub(super) fn new(ring_entries: u32, spin: Duration, doorbell: Arc<Doorbell>) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            ring: RefCell::new(Some(Ring::new(ring_entries)?)),
            slots: RefCell::default(),
            parked: RefCell::default(),
            stage: Cell::new(Stage::Running),
            messages: RefCell::default(),
            spin,
            doorbell,
            listens: Cell::new(false),
        }))
    }

    pub(super) fn with_slots<T>(&self, action: impl FnOnce(&mut Slots) -> T) -> T {
        action(&mut self.slots.borrow_mut())
    }

    /// Queues `entry`, to go out with the next turn of the driver, and keeps `keep` until its completion. When the shard
    /// is over the operation is complete at once, as cancelled.
    ///
    /// # Safety
    /// Every pointer and descriptor in `entry` is owned by `keep`, and stays valid when `keep` is moved.
    pub(super) unsafe fn submit(self: &Rc<Self>, entry: squeue::Entry, keep: Keep) -> Operation {
        let key = self.with_slots(|slots| slots.insert(keep));
        match &mut *self.ring.borrow_mut() {
            // SAFETY: the slot keeps `keep` until the completion.
            Some(ring) if self.stage.get() == Stage::Running => unsafe { ring.push(entry.user_data(key.user_data())) },
            _ => {
                let after = self.with_slots(|slots| slots.complete(key.user_data(), -libc::ECANCELED, 0));
                after.run();
            }
        }
        self.nudge();
        Operation::new(self.clone(), key)
    }

    /// Asks the kernel to end an operation early. It completes either way.
    pub(super) fn cancel(&self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.user_data())
            .build()
            .user_data(CANCELLATION);
        if let Some(ring) = &mut *self.ring.borrow_mut() {
            // SAFETY: a cancellation refers to no memory.
            unsafe { ring.push(entry) }
        }
        self.nudge();
    }

    /// Wakes the driver if it sleeps.
    fn nudge(&self) {
        let parked = self.parked.borrow_mut().take();
        parked.into_iter().for_each(Waker::wake);
    }

    pub(super) fn take_message(&self) -> Box<Message> {
        self.messages.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_back_message(&self, message: Box<Message>) {
        let mut messages = self.messages.borrow_mut();
        if messages.len() < MESSAGES_KEPT_MAX {
            messages.push(message);
        }
    }

    pub(super) fn hold_file(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        match &mut *self.ring.borrow_mut() {
            Some(ring) => ring.hold_file(file),
            None => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
        }
    }

    pub(super) fn counters(&self) -> RingCounters {
        self.ring
            .borrow()
            .as_ref()
            .map(|ring| ring.counters)
            .unwrap_or_default()
    }

    fn with_ring<T>(&self, action: impl FnOnce(&mut Ring) -> T) -> T {
        action(
            self.ring
                .borrow_mut()
                .as_mut()
                .expect("the ring lives as long as its driver"),
        )
    }

    /// Enters the ring if that is of use (or `forced`), and reaps. Whether anything happened.
    fn turn(&self, forced: bool) -> io::Result<bool> {
        let submitted = self.with_ring(|ring| {
            if forced || ring.wants_enter(true) {
                ring.enter()
            } else {
                Ok(0)
            }
        })?;
        Ok(submitted + self.reap() + self.doorbell.take_calls() > 0)
    }

    /// Has the ring complete something when the doorbell rings.
    fn listen(&self) {
        if !self.listens.replace(true) {
            let eventfd = types::Fd(self.doorbell.eventfd());
            let poll = opcode::PollAdd::new(eventfd, libc::POLLIN as u32).build();
            // SAFETY: no memory is named; the doorbell is as old as the ring and kept.
            self.with_ring(|ring| unsafe { ring.push(poll.user_data(DOORBELL)) });
        }
    }

    /// Waits in the ring until something is complete or the doorbell rings, a short while at most, if no task is to be run. Whether
    /// anything happened.
    fn wait(&self) -> io::Result<bool> {
        if !self.doorbell.is_quiet() {
            return Ok(false);
        }
        self.listen();
        let entered = match self.doorbell.begin_wait() {
            true => self.with_ring(|ring| ring.wait(WAIT_MAX)),
            false => Ok(0),
        };
        self.doorbell.end_wait();
        entered?;
        Ok(self.reap() + self.doorbell.take_calls() > 0)
    }

    /// Takes in what is complete.
    fn reap(&self) -> usize {
        let mut reaped = 0;
        while reaped < REAPED_PER_TURN_MAX {
            let Some(completed) = self.with_ring(Ring::next) else {
                break;
            };
            self.book(completed);
            reaped += 1;
        }
        reaped
    }

    fn book(&self, completed: Completed) {
        match completed.user_data {
            CANCELLATION => return,
            DOORBELL => {
                self.doorbell.hush();
                return self.listens.set(false);
            }
            _ => {}
        }
        let after: After =
            self.with_slots(|slots| slots.complete(completed.user_data, completed.result, completed.flags));
        // Outside the borrow: dropping buffers and sockets runs code of others.
        after.run();
    }

    fn has_work(&self, believes_flag: bool) -> bool {
        self.with_ring(|ring| ring.wants_enter(believes_flag))
    }

    fn is_drained(&self) -> bool {
        self.stage.get() == Stage::Draining && self.slots.borrow().in_flight() == 0
    }

    /// From here on there are no new operations, and all that do not write to a file are cancelled.
    pub(super) fn drain(&self) {
        for key in self.with_slots(|slots| slots.cancellable()) {
            self.cancel(key);
        }
        self.stage.set(Stage::Draining);
        self.nudge();
    }

    /// Ends the ring. Only after the driver did.
    pub(super) fn close(&self) -> io::Result<()> {
        let Some(mut ring) = self.ring.borrow_mut().take() else {
            return Ok(());
        };
        assert_eq!(self.slots.borrow().in_flight(), 0, "the driver drained the ring");
        ring.release_files()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Reached with operations in flight only when the shard unwinds from a panic: the kernel may still write to the
        // buffers, so they are never freed.
        if self.slots.borrow().in_flight() > 0 {
            std::mem::forget(self.slots.take());
        }
    }
}

/// Runs the ring until `drain` was called and everything in flight is complete. Fails only when the ring itself does.
pub(super) async fn drive(core: Rc<Core>) -> io::Result<()> {
    let mut bell = Bell::new(&core)?;
    let mut spin = Spin::new(core.spin);
    let mut slept_at = Instant::now();
    // Rounds in which the ring wanted to be entered and showed nothing then.
    let mut fruitless = 0;
    while !core.is_drained() {
        if core.turn(false)? {
            spin.found_work();
            yield_once().await;
        } else if spin.goes_on() {
            yield_once().await;
        } else if slept_at.elapsed() < WAITS_FOR_MAX && core.wait()? {
            spin.slept();
            yield_once().await;
        } else {
            let believes_flag = fruitless < FRUITLESS_ROUNDS_MAX;
            if sleep(&core, &mut bell, believes_flag).await? {
                slept_at = Instant::now();
                fruitless = 0;
            } else {
                fruitless += 1;
                // Without this no task would run until the ring shows something.
                yield_once().await;
            }
            spin.slept();
        }
    }
    Ok(())
}

/// Sleeps until the ring has completions or a task submits something; whether there was any sleep. With `believes_flag` not
/// while the ring says that there is deferred work.
async fn sleep(core: &Rc<Core>, bell: &mut Bell, believes_flag: bool) -> io::Result<bool> {
    let mut slept = false;
    core.with_ring(|ring| ring.announce(true));
    // What completed before the eventfd was on rang no bell, so look again; the kernel tells only of the first piece of
    // work it defers, which this enter runs.
    if !core.turn(true)? && !core.is_drained() {
        poll_fn(|cx| {
            let may_sleep = core.doorbell.begin_sleep(cx.waker());
            if !may_sleep || core.has_work(believes_flag) || core.is_drained() {
                return Poll::Ready(Ok(()));
            }
            *core.parked.borrow_mut() = Some(cx.waker().clone());
            slept = true;
            bell.poll(cx)
        })
        .await?;
        core.parked.borrow_mut().take();
        core.doorbell.end_sleep();
    }
    core.with_ring(|ring| ring.announce(false));
    Ok(slept)
}

type BellRead = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// The glommio side of the ring's eventfd. One read is outstanding at a time and outlives a sleep that a task ended. It is polled once,
/// and again when it woke the driver: glommio keeps a waker for each poll of it, and counts a task's wakers in 16 bits.
struct Bell {
    file: Rc<BufferedFile>,
    read: Option<(BellRead, Arc<Rung>)>,
}

/// Whether a read of the bell is to be polled.
struct Rung {
    is_rung: AtomicBool,
    driver: Waker,
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.is_rung.store(true, Ordering::Relaxed);
        self.driver.wake_by_ref();
    }
}

impl Bell {
    fn new(core: &Core) -> io::Result<Self> {
        let eventfd = core.with_ring(|ring| ring.eventfd());
        // SAFETY: `eventfd` is open as long as the ring.
        let copy = unsafe { libc::fcntl(eventfd, libc::F_DUPFD_CLOEXEC, 0) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that belongs to this file alone.
        let file = unsafe { BufferedFile::from_raw_fd(copy) };
        Ok(Self {
            file: Rc::new(file),
            read: None,
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let file = &self.file;
        let (read, rung) = self.read.get_or_insert_with(|| {
            let file = file.clone();
            let read = async move {
                file.read_at(0, 8)
                    .await
                    .map(drop)
                    .map_err(|error| io::Error::other(error.to_string()))
            };
            let rung = Rung {
                is_rung: AtomicBool::new(true),
                driver: cx.waker().clone(),
            };
            (Box::pin(read), Arc::new(rung))
        });
        if !rung.is_rung.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        let waker = Waker::from(rung.clone());
        let polled = read.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            self.read = None;
        }
        polled
    }
}

/// Decides whether an idle driver looks again or sleeps: it spins up to `limit`, and gives that up while spinning keeps
/// ending in sleep.
struct Spin {
    limit: Duration,
    idle_since: Option<Instant>,
    credit: i32,
}

impl Spin {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            idle_since: None,
            credit: SPIN_CREDIT_MAX,
        }
    }

    fn found_work(&mut self) {
        if self.idle_since.take().is_some() {
            self.credit = (self.credit + 1).min(SPIN_CREDIT_MAX);
        }
    }

    fn goes_on(&mut self) -> bool {
        if self.limit.is_zero() || self.credit < 0 {
            return false;
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        since.elapsed() < self.limit
    }

    fn slept(&mut self) {
        if self.limit.is_zero() {
            return;
        }
        match self.idle_since.take() {
            Some(_) if self.credit == 0 => self.credit = -SPIN_PENALTY,
            Some(_) => self.credit -= 1,
            // Slept without trying.
            None => self.credit += 1,
        }
    }
}

/// Lets the other tasks of the queue run first.
pub(super) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_without_a_spin_sleeps_at_once() {
        let mut spin = Spin::new(Duration::ZERO);
        assert!(!spin.goes_on());
        spin.slept();
        assert!(!spin.goes_on());
    }

    #[test]
    fn spins_end_in_time_and_are_given_up_while_they_find_nothing() {
        let limit = Duration::from_micros(200);
        let mut spin = Spin::new(limit);
        let began = Instant::now();
        while spin.goes_on() {}
        assert!(began.elapsed() >= limit);
        spin.slept();

        let mut spin = Spin::new(Duration::from_secs(3600));
        for _ in 0..=SPIN_CREDIT_MAX {
            assert!(spin.goes_on());
            spin.slept();
        }
        for _ in 0..SPIN_PENALTY {
            assert!(!spin.goes_on(), "it was in vain so often");
            spin.slept();
        }
        assert!(spin.goes_on(), "it is tried again");
        spin.found_work();
        assert!(spin.goes_on());
    }
}
