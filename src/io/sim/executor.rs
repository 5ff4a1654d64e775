//! Tasks and the order in which they run. A waker is an id and a shared ready list, so it may cross threads by type; all
//! futures stay on the one thread of the world.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::core::Core;
use super::options::Schedule;

type ReadyList = Arc<Mutex<VecDeque<Arc<TaskWaker>>>>;

struct TaskWaker {
    slot: usize,
    /// Tells a task from an earlier one in the same slot, whose wakers may live on.
    generation: u64,
    queued: AtomicBool,
    ready: ReadyList,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let ready = self.ready.clone();
            ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self);
        }
    }
}

/// Wakers of one task. The real environment counts more; so many are a leak, or a wait that costs a poll of everything for each wake-up.
const TASK_WAKERS_MAX: usize = i16::MAX as usize;

type BoxedTask = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    process: usize,
    root: bool,
    /// Taken out while it is polled.
    future: Option<BoxedTask>,
    waker: Arc<TaskWaker>,
}

#[derive(Default)]
struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<usize>,
    generation: u64,
}

/// What came of running one task.
pub(super) enum Ran {
    Nothing,
    Polled,
    /// A root task of this process returned.
    RootEnded {
        process: usize,
    },
}

#[derive(Default)]
pub(super) struct Executor {
    tasks: RefCell<Tasks>,
    ready: ReadyList,
    /// Woken tasks of paused processes.
    parked: RefCell<Vec<Arc<TaskWaker>>>,
}

impl Executor {
    pub(super) fn spawn(&self, process: usize, root: bool, future: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.generation += 1;
        let slot = tasks.free.pop().unwrap_or(tasks.slots.len());
        let waker = Arc::new(TaskWaker {
            slot,
            generation: tasks.generation,
            queued: AtomicBool::new(false),
            ready: self.ready.clone(),
        });
        let task = Task {
            process,
            root,
            future: Some(Box::pin(future)),
            waker: waker.clone(),
        };
        if slot == tasks.slots.len() {
            tasks.slots.push(Some(task));
        } else {
            tasks.slots[slot] = Some(task);
        }
        waker.wake();
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn pick(&self, core: &Core) -> Option<Arc<TaskWaker>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match core.options.schedule {
            Schedule::Fifo => ready.pop_front(),
            Schedule::Random => {
                let index = core.schedule.below(ready.len() as u64) as usize;
                ready.swap_remove_back(index)
            }
        }
    }

    /// Polls one ready task, if there is one.
    pub(super) fn run_one(&self, core: &Core, paused: impl Fn(usize) -> bool) -> Ran {
        let Some(waker) = self.pick(core) else {
            return Ran::Nothing;
        };
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            match tasks.slots.get_mut(waker.slot).and_then(Option::as_mut) {
                Some(task) if task.waker.generation == waker.generation => {
                    if paused(task.process) {
                        self.parked.borrow_mut().push(waker);
                        return Ran::Polled;
                    }
                    task.future.take().map(|future| (future, task.process))
                }
                _ => None,
            }
        };
        waker.queued.store(false, Ordering::Relaxed);
        let Some((mut future, process)) = taken else {
            return Ran::Polled;
        };
        core.trace(1, waker.generation);
        let handle = Waker::from(waker.clone());
        let done = match future.as_mut().poll(&mut Context::from_waker(&handle)) {
            Poll::Ready(()) => {
                drop(future);
                true
            }
            Poll::Pending => {
                self.put_back(&waker, future);
                false
            }
        };
        assert!(
            Arc::strong_count(&waker) <= TASK_WAKERS_MAX,
            "a task with more wakers than one has use for"
        );
        core.pass(core.options.poll_ns);
        if done && self.remove(&waker) {
            return Ran::RootEnded { process };
        }
        Ran::Polled
    }

    fn put_back(&self, waker: &TaskWaker, future: BoxedTask) {
        let mut tasks = self.tasks.borrow_mut();
        match tasks.slots[waker.slot].as_mut() {
            Some(task) if task.waker.generation == waker.generation => task.future = Some(future),
            _ => {
                drop(tasks);
                drop(future);
            }
        }
    }

    /// Forgets a finished task; true if it was a root.
    fn remove(&self, waker: &TaskWaker) -> bool {
        let mut tasks = self.tasks.borrow_mut();
        let slot = &mut tasks.slots[waker.slot];
        if slot
            .as_ref()
            .is_none_or(|task| task.waker.generation != waker.generation)
        {
            return false;
        }
        let root = slot.take().is_some_and(|task| task.root);
        tasks.free.push(waker.slot);
        root
    }

    /// Takes all tasks of `process` out; the caller drops them (which runs destructors that may come back here).
    pub(super) fn take_tasks(&self, process: usize) -> Vec<BoxedTask> {
        let mut tasks = self.tasks.borrow_mut();
        let mut taken = Vec::new();
        for slot in 0..tasks.slots.len() {
            if tasks.slots[slot].as_ref().is_some_and(|task| task.process == process) {
                taken.extend(tasks.slots[slot].take().and_then(|task| task.future));
                tasks.free.push(slot);
            }
        }
        taken
    }

    /// Lets the parked tasks compete again.
    pub(super) fn unpark(&self) {
        let parked = self.parked.take();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.extend(parked);
    }
}
