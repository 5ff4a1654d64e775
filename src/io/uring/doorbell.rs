//! Who wakes a shard's tasks, and the shard where it waits.
//!
//! A sleep of glommio's costs a dozen system calls. So a shard with nothing to run first waits in one, its own `io_uring_enter`, for a
//! short while, of which glommio does not know. The wakers of all tasks are therefore ours: on the shard's own thread they count what is
//! to be run; from another one they leave a call, which the driver takes at its next turn, and end its wait or its sleep. A call to a shard
//! that runs costs no system call.
//!
//! Invariants
//! 1. A shard that waits in its ring has no task to run, but for those of glommio's own and the one that starts and ends the shard.
//! 2. A shard that waits or sleeps has no call to take, or was rung since it began to. (Who calls leaves the call, then looks whether the
//!    shard waits; the shard says that it waits, then looks for calls.)

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use super::ring::new_eventfd;

/// The doorbell of the shard that runs on the thread that made it.
pub(super) struct Doorbell {
    thread: usize,
    /// Tasks that were woken and have not been polled since. Only this thread counts.
    runnable: AtomicUsize,
    calls: Mutex<Calls>,
    /// Whether there are any, for a look without the lock.
    is_called: AtomicBool,
    /// Whether the shard waits in its ring and was not rung since.
    is_waiting: AtomicBool,
    /// The ring polls it. (Of no use to a shard that sleeps: where the write of an eventfd completes a poll, the kernel signals the ring's
    /// own eventfd only milliseconds later.)
    eventfd: OwnedFd,
}

#[derive(Default)]
struct Calls {
    /// Tasks that other threads woke.
    tasks: Vec<Arc<Announcer>>,
    /// The driver, while it sleeps and was not woken since.
    sleeper: Option<Waker>,
    /// Nobody takes calls any more.
    closed: bool,
}

/// A number that no two running threads share.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| ptr::from_ref(mark) as usize)
}

impl Doorbell {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            thread: this_thread(),
            runnable: AtomicUsize::new(0),
            calls: Mutex::default(),
            is_called: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
            eventfd: new_eventfd(libc::EFD_NONBLOCK)?,
        }))
    }

    /// Readable when it was rung while the shard waited.
    pub(super) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Whether no task is to be run.
    pub(super) fn is_quiet(&self) -> bool {
        self.runnable.load(Ordering::Relaxed) == 0
    }

    /// From here on a call writes the eventfd, until `end_wait`; `false` if there is one already.
    pub(super) fn begin_wait(&self) -> bool {
        self.is_waiting.store(true, Ordering::SeqCst);
        !self.is_called.load(Ordering::SeqCst)
    }

    pub(super) fn end_wait(&self) {
        self.is_waiting.store(false, Ordering::SeqCst);
    }

    /// From here on a call wakes the driver, until `end_sleep`; `false` if there is one already.
    pub(super) fn begin_sleep(&self, driver: &Waker) -> bool {
        let mut calls = self.lock();
        if calls.tasks.is_empty() {
            calls.sleeper = Some(driver.clone());
        }
        calls.tasks.is_empty()
    }

    pub(super) fn end_sleep(&self) {
        let sleeper = self.lock().sleeper.take();
        drop(sleeper);
    }

    /// Takes the ring off the eventfd; whether it was rung.
    pub(super) fn hush(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: the kernel writes the eight bytes, which outlive the call.
        let read = unsafe { libc::read(self.eventfd(), (&raw mut count).cast(), 8) };
        read == 8
    }

    /// Wakes the tasks that other threads called for; how many.
    pub(super) fn take_calls(&self) -> usize {
        if !self.is_called.load(Ordering::SeqCst) {
            return 0;
        }
        self.is_called.store(false, Ordering::SeqCst);
        let tasks = mem::take(&mut self.lock().tasks);
        for task in &tasks {
            task.wake_from(CALLED);
        }
        tasks.len()
    }

    /// No task is left that could be called.
    pub(super) fn close(&self) {
        let left = {
            let mut calls = self.lock();
            calls.closed = true;
            (mem::take(&mut calls.tasks), calls.sleeper.take())
        };
        drop(left);
    }

    /// A new task, to be run.
    pub(super) fn task(self: &Arc<Self>) -> Announced {
        self.count(1);
        Announced {
            doorbell: self.clone(),
            waker: None,
        }
    }

    fn count(&self, more: isize) {
        debug_assert_eq!(self.thread, this_thread());
        let runnable = self.runnable.load(Ordering::Relaxed);
        let runnable = runnable
            .checked_add_signed(more)
            .expect("a task begins once for each wake-up");
        self.runnable.store(runnable, Ordering::Relaxed);
    }

    fn call(&self, task: Arc<Announcer>) {
        let sleeper = {
            let mut calls = self.lock();
            if calls.closed {
                return;
            }
            calls.tasks.push(task);
            self.is_called.store(true, Ordering::SeqCst);
            // Under the lock, which a shard takes before it sleeps: what this write completes would keep quiet what comes behind it.
            if self.is_waiting.swap(false, Ordering::SeqCst) {
                let one = 1u64;
                // SAFETY: the kernel reads the eight bytes. It fails only where the count is at its limit: it is rung then.
                unsafe { libc::write(self.eventfd(), (&raw const one).cast(), 8) };
            }
            calls.sleeper.take()
        };
        sleeper.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task whose wake-ups are counted.
pub(super) struct Announced {
    doorbell: Arc<Doorbell>,
    waker: Option<(Arc<Announcer>, Waker)>,
}

impl Announced {
    /// Before each poll: the waker for it. `inner` is the same each time.
    pub(super) fn begins(&mut self, inner: &Waker) -> &Waker {
        let doorbell = &self.doorbell;
        let (announcer, waker) = self.waker.get_or_insert_with(|| {
            let announcer = Arc::new(Announcer {
                doorbell: doorbell.clone(),
                state: AtomicU8::new(ANNOUNCED),
                inner: inner.clone(),
            });
            let waker = Waker::from(announcer.clone());
            (announcer, waker)
        });
        if announcer.state.swap(WAITING, Ordering::SeqCst) == ANNOUNCED {
            doorbell.count(-1);
        }
        waker
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let state = match &self.waker {
            Some((announcer, _)) => announcer.state.swap(OVER, Ordering::SeqCst),
            None => ANNOUNCED,
        };
        if state == ANNOUNCED {
            self.doorbell.count(-1);
        }
    }
}

/// Polled, and not woken since.
const WAITING: u8 = 0;
/// Woken by another thread; the driver will see.
const CALLED: u8 = 1;
/// Counted as to be run.
const ANNOUNCED: u8 = 2;
/// No more to be polled.
const OVER: u8 = 3;

struct Announcer {
    doorbell: Arc<Doorbell>,
    state: AtomicU8,
    inner: Waker,
}

impl Announcer {
    fn moves(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Wakes the task, on its own thread, if its state is still this one.
    fn wake_from(&self, state: u8) {
        if self.moves(state, ANNOUNCED) {
            self.doorbell.count(1);
            self.inner.wake_by_ref();
        }
    }
}

impl Wake for Announcer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.doorbell.thread == this_thread() {
            // Nobody may rely on a call: its caller may not have got to leave it, and a ring that failed takes none.
            self.wake_from(WAITING);
            self.wake_from(CALLED);
        } else if self.moves(WAITING, CALLED) {
            self.doorbell.call(self.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A task that was polled and waits.
    fn waiting(doorbell: &Arc<Doorbell>) -> (Announced, Waker) {
        let mut task = doorbell.task();
        let waker = task.begins(Waker::noop()).clone();
        (task, waker)
    }

    fn wake_elsewhere(waker: Waker) {
        thread::spawn(move || waker.wake()).join().expect("it wakes");
    }

    #[test]
    fn a_task_is_to_be_run_from_its_first_wake_up_to_its_next_poll() {
        let doorbell = Doorbell::new().expect("an eventfd");
        assert!(doorbell.is_quiet());
        let mut task = doorbell.task();
        assert!(!doorbell.is_quiet(), "it was never polled");
        let waker = task.begins(Waker::noop()).clone();
        assert!(doorbell.is_quiet(), "it waits");
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert!(!doorbell.is_quiet());
        task.begins(Waker::noop());
        assert!(doorbell.is_quiet(), "two wake-ups are one poll");
    }

    #[test]
    fn a_task_that_ended_is_not_to_be_run() {
        let doorbell = Doorbell::new().expect("an eventfd");
        for woken in [None, Some(false), Some(true)] {
            let (task, waker) = waiting(&doorbell);
            match woken {
                Some(true) => wake_elsewhere(waker.clone()),
                Some(false) => waker.wake_by_ref(),
                None => {}
            }
            drop(task);
            waker.wake_by_ref();
            wake_elsewhere(waker);
            doorbell.take_calls();
            assert!(doorbell.is_quiet());
        }
        drop(doorbell.task());
        assert!(doorbell.is_quiet(), "it was dropped before it was polled");
    }

    #[test]
    fn who_calls_while_the_shard_waits_rings_once() {
        let doorbell = Doorbell::new().expect("an eventfd");
        let mut tasks = [doorbell.task(), doorbell.task(), doorbell.task()];
        let wakers = tasks.each_mut().map(|task| task.begins(Waker::noop()).clone());
        let [first, second, third] = wakers;
        wake_elsewhere(first.clone());
        assert!(!doorbell.hush(), "it does not wait");
        assert!(!doorbell.begin_wait(), "there is a call already");
        doorbell.end_wait();
        assert_eq!(doorbell.take_calls(), 1);
        assert!(!doorbell.is_quiet());
        tasks[0].begins(Waker::noop());

        assert!(doorbell.begin_wait());
        wake_elsewhere(second.clone());
        assert!(doorbell.hush());
        wake_elsewhere(second);
        wake_elsewhere(third);
        assert!(!doorbell.hush(), "once is enough");
        assert_eq!(doorbell.take_calls(), 2, "two tasks, one of them woken twice");
    }

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_calls_while_the_shard_sleeps_wakes_its_driver_once() {
        let doorbell = Doorbell::new().expect("an eventfd");
        let driver = Arc::new(Woken(AtomicUsize::new(0)));
        let mut tasks = [doorbell.task(), doorbell.task()];
        let [first, second] = tasks.each_mut().map(|task| task.begins(Waker::noop()).clone());
        assert!(doorbell.begin_sleep(&driver.clone().into()));
        wake_elsewhere(first.clone());
        wake_elsewhere(second);
        assert_eq!(driver.0.load(Ordering::SeqCst), 1);
        assert!(!doorbell.hush(), "that one is for a wait");
        doorbell.end_sleep();
        assert!(!doorbell.begin_sleep(&driver.clone().into()), "there are calls already");
        assert_eq!(doorbell.take_calls(), 2);

        tasks[0].begins(Waker::noop());
        assert!(doorbell.begin_sleep(&driver.clone().into()));
        doorbell.end_sleep();
        wake_elsewhere(first);
        assert_eq!(driver.0.load(Ordering::SeqCst), 1, "it does not sleep");
    }

    #[test]
    fn a_task_that_was_called_is_woken_on_its_own_thread_all_the_same() {
        let doorbell = Doorbell::new().expect("an eventfd");
        let (mut task, waker) = waiting(&doorbell);
        wake_elsewhere(waker.clone());
        assert!(doorbell.is_quiet(), "the call was not taken yet");
        waker.wake_by_ref();
        assert!(!doorbell.is_quiet());
        task.begins(Waker::noop());
        assert_eq!(doorbell.take_calls(), 1);
        assert!(doorbell.is_quiet(), "it was polled since");
    }

    #[test]
    fn nobody_is_kept_by_a_doorbell_that_is_closed() {
        let doorbell = Doorbell::new().expect("an eventfd");
        let (mut task, waker) = waiting(&doorbell);
        wake_elsewhere(waker.clone());
        doorbell.close();
        task.begins(Waker::noop());
        wake_elsewhere(waker);
        drop(task);
        assert_eq!(Arc::strong_count(&doorbell), 1);
    }
}
