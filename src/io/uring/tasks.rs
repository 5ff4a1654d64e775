//! The tasks of a shard, so that its end can drop them all (glommio would leak those that still wait), and so that a panic
//! in one ends the shard in order (unwinding through a glommio executor aborts).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::doorbell::Doorbell;
use super::driver::yield_once;

/// What a panic was called with.
pub(super) type Panic = Box<dyn Any + Send>;

fn poll_caught<T>(task: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Result<Poll<T>, Panic> {
    // After a panic nothing of the shard is used again, except to be dropped.
    catch_unwind(AssertUnwindSafe(|| task.poll(cx)))
}

pub(super) struct Tasks {
    doorbell: Arc<Doorbell>,
    /// The first panic of a task, and who waits for it.
    panic: RefCell<Option<Panic>>,
    watcher: RefCell<Option<Waker>>,
    /// The waker of each task that was polled; holes are reused.
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    running: Cell<usize>,
    ending: Cell<bool>,
}

impl Tasks {
    pub(super) fn new(doorbell: Arc<Doorbell>) -> Rc<Self> {
        Rc::new(Self {
            doorbell,
            panic: RefCell::default(),
            watcher: RefCell::default(),
            wakers: RefCell::default(),
            free: RefCell::default(),
            running: Cell::default(),
            ending: Cell::default(),
        })
    }

    /// `task`, which ends early when `end` is called.
    pub(super) fn supervise(
        self: &Rc<Self>,
        task: impl Future<Output = ()> + 'static,
    ) -> impl Future<Output = ()> + 'static {
        let place = Place::take(self);
        let mut announced = self.doorbell.task();
        async move {
            let mut task = std::pin::pin!(task);
            let mut known = false;
            poll_fn(|cx| {
                let waker = announced.begins(cx.waker());
                if place.tasks.ending.get() {
                    return Poll::Ready(());
                }
                if !known {
                    place.tasks.wakers.borrow_mut()[place.index] = Some(waker.clone());
                    known = true;
                }
                poll_caught(task.as_mut(), &mut Context::from_waker(waker)).unwrap_or_else(|panic| {
                    place.tasks.fail(panic);
                    Poll::Ready(())
                })
            })
            .await;
        }
    }

    /// Ends the shard's main task with `panic`.
    pub(super) fn fail(&self, panic: Panic) {
        self.panic.borrow_mut().get_or_insert(panic);
        let watcher = self.watcher.borrow_mut().take();
        watcher.into_iter().for_each(Waker::wake);
    }

    /// `main`, cut short by a panic of its own or of any task.
    pub(super) fn watch<T, M: Future<Output = T>>(
        self: &Rc<Self>,
        main: M,
    ) -> impl Future<Output = Result<T, Panic>> + use<T, M> {
        let mut announced = self.doorbell.task();
        let tasks = self.clone();
        async move {
            let mut main = std::pin::pin!(main);
            poll_fn(|cx| {
                let waker = announced.begins(cx.waker());
                if let Some(panic) = tasks.panic.borrow_mut().take() {
                    return Poll::Ready(Err(panic));
                }
                *tasks.watcher.borrow_mut() = Some(waker.clone());
                match poll_caught(main.as_mut(), &mut Context::from_waker(waker)) {
                    Ok(polled) => polled.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            })
            .await
        }
    }

    /// Drops all tasks.
    pub(super) async fn end(&self) {
        self.ending.set(true);
        let wakers: Vec<_> = self.wakers.borrow_mut().iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
        while self.running.get() > 0 {
            yield_once().await;
        }
        self.watcher.borrow_mut().take();
        self.doorbell.close();
    }
}

/// A running task's entry.
struct Place {
    tasks: Rc<Tasks>,
    index: usize,
}

impl Place {
    fn take(tasks: &Rc<Tasks>) -> Self {
        tasks.running.set(tasks.running.get() + 1);
        let free = tasks.free.borrow_mut().pop();
        let index = free.unwrap_or_else(|| {
            let mut wakers = tasks.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        Self {
            tasks: tasks.clone(),
            index,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waker = self.tasks.wakers.borrow_mut()[self.index].take();
        drop(waker);
        self.tasks.free.borrow_mut().push(self.index);
        self.tasks.running.set(self.tasks.running.get() - 1);
    }
}
