//! One raw io_uring instance: set-up, submission, completion, and the eventfd that says "look at me".

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, squeue};

/// Slots for files that stay open as long as the ring has work (`hold`).
const HELD_FILES_MAX: u32 = 64;

/// A completion as the kernel told it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completed {
    pub user_data: u64,
    pub result: i32,
    pub flags: u32,
}

/// What the ring did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Operations handed over (cancellations included).
    pub operations: u64,
    /// Times the driver waited in the ring.
    pub waits: u64,
    /// Times the driver went to sleep.
    pub parks: u64,
}

pub(super) struct Ring {
    // Before `ring`: fields drop in order, and this one needs the descriptor.
    registered: RegisteredRing,
    ring: IoUring,
    enter_flags: EnterFlags,
    /// Entries that found the submission queue full, in order.
    waiting: VecDeque<squeue::Entry>,
    eventfd: OwnedFd,
    held: u32,
    pub(super) counters: RingCounters,
}

impl Ring {
    /// A ring of the calling thread, with `entries` submission slots and four times as many for completions.
    pub(super) fn new(entries: u32) -> io::Result<Self> {
        let mut ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(entries.saturating_mul(4))
            .dontfork()
            .build(entries)
            .map_err(explain_setup)?;
        if !ring.params().is_feature_nodrop() {
            return Err(io::Error::other(
                "io_uring of this kernel may drop completions (no FEAT_NODROP)",
            ));
        }
        let eventfd = new_eventfd(0)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        ring.submitter().register_files_sparse(HELD_FILES_MAX)?;
        let registered = RegisteredRing::new(ring.as_raw_fd())?;
        ring.completion().disable_eventfd();
        let mut enter_flags = EnterFlags::GETEVENTS;
        enter_flags.set(EnterFlags::NO_IOWAIT, ring.params().is_feature_no_iowait());
        Ok(Self {
            registered,
            ring,
            enter_flags,
            waiting: VecDeque::new(),
            eventfd,
            held: 0,
            counters: RingCounters::default(),
        })
    }

    /// The descriptor that becomes readable when there is something to reap and `announce(true)` was called.
    pub(super) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Queues `entry` for the next `enter`. A full queue is submitted at once, as waiting would not empty it.
    ///
    /// # Safety
    /// All memory and descriptors that `entry` names stay valid until its completion was reaped.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.counters.operations += 1;
        self.waiting.push_back(entry);
        self.fill();
        if !self.waiting.is_empty() && self.enter_with(EnterFlags::empty(), None).is_ok() {
            self.fill();
        }
    }

    /// Moves waiting entries to the submission queue while there is room.
    fn fill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.waiting.front() {
            // SAFETY: `push` was promised that what the entry names stays valid.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Whether an `enter` would achieve something: entries to submit, or completions the kernel holds back (those it
    /// defers only if its flag for them is believed).
    pub(super) fn wants_enter(&mut self, believes_taskrun: bool) -> bool {
        let queue = self.ring.submission();
        let deferred = believes_taskrun && queue.taskrun();
        !queue.is_empty() || deferred || queue.cq_overflow() || !self.waiting.is_empty()
    }

    /// Submits what is queued and lets the kernel post completions.
    pub(super) fn enter(&mut self) -> io::Result<usize> {
        self.fill();
        self.enter_with(self.enter_flags, None)
    }

    /// The same, and waits for a completion, no longer than `longest`.
    pub(super) fn wait(&mut self, longest: Duration) -> io::Result<usize> {
        self.fill();
        self.counters.waits += 1;
        self.enter_with(self.enter_flags, Some(longest))
    }

    fn enter_with(&mut self, flags: EnterFlags, longest: Option<Duration>) -> io::Result<usize> {
        let queued = self.ring.submission().len() as u32;
        self.counters.enters += 1;
        let entered = match longest {
            None => self.registered.enter(queued, flags),
            Some(longest) => self.registered.enter_and_wait(queued, flags, longest),
        };
        match entered {
            Ok(count) => Ok(count),
            // Interrupted, the time is over, or completions have to be reaped first: the next turn comes again.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY | libc::ENOMEM)
                ) =>
            {
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn next(&mut self) -> Option<Completed> {
        self.ring.completion().next().map(|entry| Completed {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        })
    }

    /// Switches the eventfd on before sleeping and off after it.
    pub(super) fn announce(&mut self, on: bool) {
        let queue = self.ring.completion();
        if on {
            self.counters.parks += 1;
            queue.enable_eventfd();
        } else {
            queue.disable_eventfd();
        }
    }

    /// Makes the ring itself hold the open file behind `file` until `release_files`, or until its last request is done
    /// when the process dies.
    pub(super) fn hold_file(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        if self.held == HELD_FILES_MAX {
            return Err(io::Error::other("more held files than the ring has slots"));
        }
        self.ring
            .submitter()
            .register_files_update(self.held, &[file.as_raw_fd()])?;
        self.held += 1;
        Ok(())
    }

    /// Lets go of the held files. Only when nothing is in flight.
    pub(super) fn release_files(&mut self) -> io::Result<()> {
        if self.held > 0 {
            self.ring.submitter().unregister_files()?;
            self.held = 0;
        }
        Ok(())
    }
}

/// The ring's own descriptor in this thread's table of registered rings, which saves the look-up of each enter. The
/// `io-uring` crate keeps such an index for the life of one `Submitter` only, so the two calls are made here.
struct RegisteredRing {
    ring: RawFd,
    index: u32,
}

/// `struct io_uring_rsrc_update` of the kernel.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// `struct io_uring_getevents_arg` of the kernel.
#[repr(C)]
struct GetEvents {
    signals: u64,
    signals_bytes: u32,
    reserved: u32,
    timeout: u64,
}

const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;

impl RegisteredRing {
    fn new(ring: RawFd) -> io::Result<Self> {
        let mut update = RingUpdate {
            offset: u32::MAX,
            reserved: 0,
            data: ring as u64,
        };
        Self::call(ring, REGISTER_RING_FDS, &mut update)?;
        Ok(Self {
            ring,
            index: update.offset,
        })
    }

    fn call(ring: RawFd, operation: libc::c_uint, update: &mut RingUpdate) -> io::Result<()> {
        // SAFETY: the kernel reads and writes one `RingUpdate`, which outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, operation, update as *mut _, 1) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// io_uring_enter that waits for nothing; the count of submitted entries.
    fn enter(&self, submit: u32, flags: EnterFlags) -> io::Result<usize> {
        // SAFETY: no argument is passed by pointer.
        unsafe { self.call_enter(submit, 0, flags, ptr::null(), 0) }
    }

    /// io_uring_enter that waits for a completion; fails with ETIME when there is none in time and nothing was submitted.
    fn enter_and_wait(&self, submit: u32, flags: EnterFlags, longest: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: longest.as_secs() as libc::time_t,
            tv_nsec: longest.subsec_nanos().into(),
        };
        let argument = GetEvents {
            signals: 0,
            signals_bytes: 0,
            reserved: 0,
            timeout: &raw const timeout as u64,
        };
        let bytes = size_of::<GetEvents>();
        // SAFETY: the argument, and the time it points to, are laid out as the kernel has them and outlive the call.
        unsafe {
            self.call_enter(
                submit,
                1,
                flags | EnterFlags::EXT_ARG,
                (&raw const argument).cast(),
                bytes,
            )
        }
    }

    /// # Safety
    /// `argument` is null, or points to as many bytes of what `flags` say it is. (What the queued entries name is valid by the
    /// contract of `push`.)
    unsafe fn call_enter(
        &self,
        submit: u32,
        want: u32,
        flags: EnterFlags,
        argument: *const libc::c_void,
        argument_bytes: usize,
    ) -> io::Result<usize> {
        let flags = (flags | EnterFlags::REGISTERED_RING).bits();
        // SAFETY: see above.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.index,
                submit,
                want,
                flags,
                argument,
                argument_bytes,
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

impl Drop for RegisteredRing {
    fn drop(&mut self) {
        let mut update = RingUpdate {
            offset: self.index,
            reserved: 0,
            data: 0,
        };
        // Without it the thread would keep the ring alive to its end. Nothing to do if it fails.
        let _ = Self::call(self.ring, UNREGISTER_RING_FDS, &mut update);
    }
}

/// A fresh eventfd; `flags` besides that it is closed on exec.
pub(super) fn new_eventfd(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fresh and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn explain_setup(error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EINVAL) => "the kernel is older than 6.1",
        Some(libc::EPERM) => "io_uring is forbidden here (sysctl kernel.io_uring_disabled, or a seccomp filter)",
        Some(libc::ENOSYS) => "the kernel has no io_uring",
        Some(libc::ENOMEM) => "locked memory is exhausted (ulimit -l)",
        _ => "io_uring_setup failed",
    };
    io::Error::new(error.kind(), format!("{hint}: {error}"))
}
