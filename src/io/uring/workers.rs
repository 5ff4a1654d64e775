//! Threads for calls that block: two per directory, one for what belongs to none, one for name resolution.
//!
//! A shard hands a call over through a bounded queue and is woken through its `Waker`; nothing polls.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use super::names::Flusher;

/// Calls that wait for one thread; further ones wait in their futures.
const JOBS_QUEUED_MAX: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Tasks that found the queue full.
    waiting: Vec<Waker>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                let waiting = std::mem::take(&mut queue.waiting);
                drop(queue);
                waiting.into_iter().for_each(Waker::wake);
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A handle to one such thread.
#[derive(Clone)]
pub(super) struct Worker(Arc<Shared>);

impl Worker {
    fn start(name: &str) -> io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || own.run())?;
        Ok((Self(shared), thread))
    }

    /// Runs `action` on the thread. It is queued now if there is room, else when the future is polled; once queued it
    /// runs even if the future is dropped.
    pub(super) fn call<T, F>(&self, action: F) -> Call<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let answer = Arc::new(Mutex::new(Answer::Waiting(None)));
        let promise = Promise(answer.clone());
        let job: Job = Box::new(move || promise.keep(action()));
        let mut call = Call {
            worker: self.clone(),
            unsent: Some(job),
            answer,
        };
        call.send(None);
        call
    }

    /// Runs `action` on the thread, some time. Not bounded by the queue: for closing what is open, which is bounded.
    pub(super) fn defer(&self, action: impl FnOnce() + Send + 'static) {
        let mut queue = self.0.lock();
        if !queue.closed {
            queue.jobs.push_back(Box::new(action));
            self.0.arrived.notify_one();
            return;
        }
        drop(queue);
        action();
    }

    fn close(&self) {
        self.0.lock().closed = true;
        self.0.arrived.notify_all();
    }
}

enum Answer<T> {
    Waiting(Option<Waker>),
    Ready(io::Result<T>),
    Taken,
}

fn lock<T>(answer: &Mutex<Answer<T>>) -> MutexGuard<'_, Answer<T>> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side of an answer: a promise dropped unkept is an error for the caller, never a hang.
struct Promise<T>(Arc<Mutex<Answer<T>>>);

impl<T> Promise<T> {
    fn keep(self, result: io::Result<T>) {
        self.settle(result);
    }

    fn settle(&self, result: io::Result<T>) {
        let mut answer = lock(&self.0);
        if let Answer::Waiting(waker) = &mut *answer {
            let waker = waker.take();
            *answer = Answer::Ready(result);
            drop(answer);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Err(io::Error::other("the thread that runs blocking calls has ended")));
    }
}

/// The future of a call.
pub(super) struct Call<T> {
    worker: Worker,
    unsent: Option<Job>,
    answer: Arc<Mutex<Answer<T>>>,
}

impl<T> Call<T> {
    /// Queues the job if that is still to do; `waker` is called when there may be room.
    fn send(&mut self, waker: Option<&Waker>) {
        let Some(job) = self.unsent.take() else { return };
        let mut queue = self.worker.0.lock();
        if queue.closed {
            // Dropping the job breaks its promise, which is the answer.
            drop(queue);
            drop(job);
        } else if queue.jobs.len() < JOBS_QUEUED_MAX {
            queue.jobs.push_back(job);
            self.worker.0.arrived.notify_one();
        } else {
            queue.waiting.extend(waker.cloned());
            self.unsent = Some(job);
        }
    }
}

impl<T> Future for Call<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.send(Some(cx.waker()));
        let mut answer = lock(&self.answer);
        match std::mem::replace(&mut *answer, Answer::Taken) {
            Answer::Ready(result) => Poll::Ready(result),
            Answer::Waiting(_) => {
                *answer = Answer::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            Answer::Taken => unreachable!("polled after the end"),
        }
    }
}

impl<T> Unpin for Call<T> {}

/// The threads of a directory.
struct Directory {
    path: PathBuf,
    flusher: Arc<Flusher>,
    calls: Worker,
    /// Nothing else waits for a flush of the whole file system, which takes long.
    flushes: Worker,
}

/// All such threads of a runtime, shared by its shards.
pub(super) struct Workers {
    /// The longest prefix of a path wins.
    directories: RwLock<Vec<Directory>>,
    common: Worker,
    resolver: Worker,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    pub(super) fn start(directories: &[PathBuf]) -> io::Result<Arc<Self>> {
        let (common, thread) = Worker::start("ringtail-files")?;
        // Not joined: a resolver that hangs must not hold up the end of the process.
        let (resolver, _detached) = Worker::start("ringtail-names")?;
        let workers = Arc::new(Self {
            directories: RwLock::default(),
            common,
            resolver,
            threads: Mutex::new(vec![thread]),
        });
        for directory in directories {
            workers.add(directory)?;
        }
        Ok(workers)
    }

    /// Gives all paths that begin with `directory` threads of their own.
    pub(super) fn add(&self, directory: &Path) -> io::Result<()> {
        let mut directories = self.directories.write().unwrap_or_else(PoisonError::into_inner);
        if directories.iter().any(|known| known.path == directory) {
            return Ok(());
        }
        let number = directories.len();
        let (calls, calling) = Worker::start(&format!("ringtail-dir-{number}"))?;
        let (flushes, flushing) = Worker::start(&format!("ringtail-sync-{number}"))?;
        directories.push(Directory {
            path: directory.to_owned(),
            flusher: Arc::new(Flusher::of(directory)),
            calls,
            flushes,
        });
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.extend([calling, flushing]);
        Ok(())
    }

    /// The thread for `path`, which is compared as spelled.
    pub(super) fn of(&self, path: &Path) -> Worker {
        self.pick(path, |directory| &directory.calls)
    }

    /// The thread that flushes the file system of `path`.
    pub(super) fn flushing_of(&self, path: &Path) -> Worker {
        self.pick(path, |directory| &directory.flushes)
    }

    /// What flushes `path`, if that is one of the directories with threads of their own.
    pub(super) fn flusher(&self, path: &Path) -> Option<Arc<Flusher>> {
        let directories = self.directories.read().unwrap_or_else(PoisonError::into_inner);
        let known = directories.iter().find(|known| known.path == path);
        known.map(|directory| directory.flusher.clone())
    }

    fn pick(&self, path: &Path, worker: impl Fn(&Directory) -> &Worker) -> Worker {
        let directories = self.directories.read().unwrap_or_else(PoisonError::into_inner);
        let matching = directories.iter().filter(|known| path.starts_with(&known.path));
        let longest = matching.max_by_key(|known| known.path.components().count());
        longest.map_or(&self.common, worker).clone()
    }

    pub(super) fn resolver(&self) -> &Worker {
        &self.resolver
    }

    /// Ends the threads once they have run all that was queued.
    pub(super) fn stop(&self) {
        self.common.close();
        self.resolver.close();
        for directory in &*self.directories.read().unwrap_or_else(PoisonError::into_inner) {
            directory.calls.close();
            directory.flushes.close();
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked broke its promises already.
            let _ = thread.join();
        }
    }
}
