//! The request to stop: by a signal, by a shard, or because a shard failed. Every shard can wait for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

#[derive(Default)]
struct Waiters {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

#[derive(Default)]
struct Shared {
    requested: AtomicBool,
    waiters: Mutex<Waiters>,
}

/// A flag that is raised once and that tasks of any shard can wait for.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

impl Stop {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn request(&self) {
        self.0.requested.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// Completes when the stop is or was requested.
    pub fn requested(&self) -> StopRequested {
        let mut waiters = self.lock();
        waiters.next += 1;
        StopRequested {
            stop: self.clone(),
            id: waiters.next,
        }
    }
}

pub struct StopRequested {
    stop: Stop,
    id: u64,
}

impl Future for StopRequested {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiters = self.stop.lock();
        // Under the lock, which `request` takes after raising the flag.
        if self.stop.is_requested() {
            return Poll::Ready(());
        }
        waiters.wakers.insert(self.id, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for StopRequested {
    fn drop(&mut self) {
        let waker = self.stop.lock().wakers.remove(&self.id);
        drop(waker);
    }
}

/// Turns SIGTERM and SIGINT into a stop request while it lives; a second signal ends the process at once.
pub(super) struct Signals {
    /// Readable when the thread shall end.
    end: File,
    thread: Option<JoinHandle<()>>,
    mask_before: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals for the calling thread and for those it starts afterwards: to be called before any other thread
    /// of the process exists.
    pub(super) fn watch(stop: Stop) -> io::Result<Self> {
        // SAFETY: all-zero is a valid `sigset_t` to be overwritten.
        let (mut watched, mut mask_before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: the sets outlive the calls, and the signal numbers are valid.
        unsafe {
            libc::sigemptyset(&mut watched);
            libc::sigaddset(&mut watched, libc::SIGTERM);
            libc::sigaddset(&mut watched, libc::SIGINT);
            libc::pthread_sigmask(libc::SIG_BLOCK, &watched, &mut mask_before);
        }
        // SAFETY: the set outlives the call.
        let signals = new_file(unsafe { libc::signalfd(-1, &watched, libc::SFD_CLOEXEC) })?;
        // SAFETY: a plain system call.
        let end = new_file(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
        let ended = end.try_clone()?;
        let name = "ringtail-signals".to_owned();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || watch(&signals, &ended, &stop))?;
        Ok(Self {
            end,
            thread: Some(thread),
            mask_before,
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let one = 1u64.to_ne_bytes();
        if io::Write::write_all(&mut self.end, &one).is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
        // SAFETY: the set was filled by `pthread_sigmask`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask_before, std::ptr::null_mut()) };
    }
}

fn new_file(fd: libc::c_int) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller just got this descriptor from the kernel.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn watch(signals: &File, ended: &File, stop: &Stop) {
    loop {
        let mut ready = [signals, ended].map(|file| libc::pollfd {
            fd: file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: two entries that outlive the call.
        if unsafe { libc::poll(ready.as_mut_ptr(), 2, -1) } < 0 {
            continue;
        }
        if ready[1].revents != 0 {
            return;
        }
        let mut told = [0; std::mem::size_of::<libc::signalfd_siginfo>()];
        let mut reader = signals;
        if io::Read::read_exact(&mut reader, &mut told).is_err() {
            return;
        }
        if stop.is_requested() {
            // The user insists. What was acknowledged is safe by design.
            std::process::exit(130);
        }
        stop.request();
    }
}
