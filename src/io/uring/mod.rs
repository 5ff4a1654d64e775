//! The real environment: one glommio executor per core, and inside it one raw io_uring ring for sockets and direct I/O.
//!
//! glommio runs tasks and timers; the ring is the data path, and wakes a shard that another thread has something for. A driver task
//! enters the ring once per turn, which submits everything the tasks queued since the last turn and reaps what is complete. What the
//! kernel would hand to a worker of its own (flush, allocate, truncate, names) runs on threads of the directory instead.
//! `docs/io-uring.md` tells what was measured.
//!
//! Invariants
//! 1. Memory and descriptors that the kernel may touch belong to a slot until the completion was reaped, whatever happens
//!    to the future (`ops::Slots::complete` is the only way out; `driver::Core::close` asserts that none is left).
//! 2. A completion is booked once (`ops::Slots::slot` asserts the generation).
//! 3. Direct I/O is whole aligned blocks (`files::assert_aligned`).
//! 4. A ring is entered by the thread that made it only (`Rc` by type; the kernel refuses others: SINGLE_ISSUER).
//! 5. A shard ends after its last write in flight (`driver::Core::drain`), a run after all blocking calls (`Workers::stop`).
//!
//! In: calls of [`Env`]. Out: completions, in no promised order. Operations begin when they are called, not when their
//! future is polled; those whose futures borrow (`open`, `accept`, `connect`, names) begin at the first poll. Dropping the
//! future of an accept, a connect, a receive, a pinned send or a read on the ring cancels it; a send or a write runs to its
//! end. A send that nobody waits for keeps its connection open until the peer took it: `shutdown` ends that.
//!
//! Not for: policy. `glommio`, `io_uring` and `libc` are named in this folder alone.

mod doorbell;
mod driver;
mod extents;
mod files;
pub mod limits;
mod machine;
mod names;
mod ops;
mod pipes;
mod ring;
mod runtime;
mod sockets;
mod stop;
mod tasks;
mod workers;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use glommio::timer::Timer;
use glommio::{Latency, Shares, Task, TaskQueueHandle};

use crate::base::buffer::{AlignedBuf, Pinned, Region};
use crate::io::{DirectoryEntry, Durability, Env, Monotonic, OpenOptions, Queue, Unpinned};

pub use files::File;
pub use machine::{cpus, memory_bytes, process_cpu_seconds, process_resident_bytes};
pub use names::Lock;
pub use ring::RingCounters;
pub use runtime::{Options, ShardPlacement, run, run_one};
pub use sockets::{Detached, Listener, Stream};
pub use stop::{Stop, StopRequested};

use doorbell::Doorbell;
use driver::Core;
use pipes::Pipes;
use runtime::Run;
use tasks::{Panic, Tasks};
use workers::{Call, Workers};

/// Every queue has a latency class: a wake-up from another thread (of the driver, where it sleeps) into a queue without one may wait for
/// 100 ms.
const FOREGROUND_LATENCY: Duration = Duration::from_millis(5);
const BACKGROUND_LATENCY: Duration = Duration::from_millis(10);
const FOREGROUND_SHARES: usize = 1000;
const BACKGROUND_SHARES: usize = 100;

/// The longest sleep of an executor. glommio 0.9 parks with runnable tasks when its preemption timer (or the eventfd of a
/// wake-up it has taken already) fires after it polled and before it ran the first task; a pending timer ends that sleep.
const SLEEP_MAX: Duration = Duration::from_millis(5);

/// Random words fetched from the kernel at a time.
const RANDOM_WORDS: usize = 32;

/// The tasks that every shard has.
struct Driver {
    /// Drives the ring; its end is the ring's.
    drive: Task<io::Result<()>>,
    /// See `SLEEP_MAX`.
    waker: Task<()>,
}

/// A shard's handle to the real world.
#[derive(Clone)]
pub struct UringEnv(Rc<Shard>);

struct Shard {
    core: Rc<Core>,
    tasks: Rc<Tasks>,
    workers: Arc<Workers>,
    pipes: Arc<Pipes>,
    stop: Stop,
    foreground: TaskQueueHandle,
    background: TaskQueueHandle,
    random: RefCell<Vec<u64>>,
    boot_id: u128,
    /// Keeps held locks for the life of the shard; the ring has its own references.
    held: RefCell<Vec<Lock>>,
}

impl UringEnv {
    /// Makes the world of the shard that runs on the calling executor, and its driver.
    fn start(run: &Run) -> io::Result<(Self, Driver)> {
        let executor = glommio::executor();
        let queue =
            |shares, latency, name| executor.create_task_queue(Shares::Static(shares), Latency::Matters(latency), name);
        let foreground = queue(FOREGROUND_SHARES, FOREGROUND_LATENCY, "foreground");
        let background = queue(BACKGROUND_SHARES, BACKGROUND_LATENCY, "background");
        let doorbell = Doorbell::new()?;
        let core = Core::new(run.options.ring_entries, run.spin, doorbell.clone())?;
        let driven = core.clone();
        let tasks = Tasks::new(doorbell);
        let watched = tasks.clone();
        let drive = async move {
            let driven = driver::drive(driven).await;
            if let Err(error) = &driven {
                watched.fail(Box::new(format!("the ring failed: {error}")));
            }
            driven
        };
        let wake = async {
            loop {
                Timer::new(SLEEP_MAX).await;
            }
        };
        let no_queue = |error: glommio::GlommioError<()>| io::Error::other(error.to_string());
        let driver = Driver {
            waker: glommio::spawn_local_into(wake, foreground).map_err(no_queue)?,
            drive: glommio::spawn_local_into(drive, foreground).map_err(no_queue)?,
        };
        let env = Self(Rc::new(Shard {
            core,
            tasks,
            workers: run.workers.clone(),
            pipes: run.pipes.clone(),
            stop: run.stop.clone(),
            foreground,
            background,
            random: RefCell::default(),
            boot_id: machine::boot_id(),
            held: RefCell::default(),
        }));
        Ok((env, driver))
    }

    /// Runs the shard's main task in the foreground queue.
    async fn run_main<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> Result<T, Panic> {
        glommio::spawn_local_into(self.0.tasks.watch(main), self.0.foreground)
            .expect("the queue was made in `start`")
            .await
    }

    /// Drops the shard's tasks, waits for writes in flight, cancels the rest, ends the ring.
    async fn finish(&self, driver: Driver) -> io::Result<()> {
        self.0.tasks.end().await;
        self.0.core.drain();
        let driven = driver.drive.await;
        driver.waker.cancel().await;
        driven?;
        let closed = self.0.core.close();
        self.0.held.borrow_mut().clear();
        closed
    }

    /// The request to stop that all shards of the run share.
    pub fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Gives all paths that begin with `directory` a thread of their own for calls that block. Known ones are left alone.
    pub fn add_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.workers.add(directory)
    }

    /// What the ring of this shard did so far.
    pub fn ring_counters(&self) -> RingCounters {
        self.0.core.counters()
    }

    /// Runs `action` on the thread of `path`'s directory.
    fn on_path<T, F>(&self, path: &Path, action: F) -> Call<T>
    where
        T: Send + 'static,
        F: FnOnce(&Path) -> io::Result<T> + Send + 'static,
    {
        let owned: PathBuf = path.to_owned();
        self.0.workers.of(path).call(move || action(&owned))
    }
}

impl Env for UringEnv {
    type File = File;
    type Listener = Listener;
    type Stream = Stream;
    type Detached = Detached;
    type Lock = Lock;

    fn now(&self) -> Monotonic {
        Monotonic(machine::monotonic_ns())
    }

    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }

    fn boot_id(&self) -> u128 {
        self.0.boot_id
    }

    fn give_back_memory(&self) {
        machine::trim_heap();
    }

    fn random(&self) -> u64 {
        let mut words = self.0.random.borrow_mut();
        if words.is_empty() {
            words.resize(RANDOM_WORDS, 0);
            machine::fill_random(&mut words);
        }
        words.pop().expect("filled above")
    }

    fn spawn(&self, queue: Queue, task: impl Future<Output = ()> + 'static) {
        let queue = match queue {
            Queue::Foreground => self.0.foreground,
            Queue::Background => self.0.background,
        };
        let task = self.0.tasks.supervise(task);
        glommio::spawn_local_into(task, queue)
            .expect("the queues were made in `start`")
            .detach();
    }

    fn sleep_until(&self, deadline: Monotonic) -> impl Future<Output = ()> + 'static {
        let wait_ns = deadline.0.saturating_sub(machine::monotonic_ns());
        async move {
            if wait_ns > 0 {
                Timer::new(Duration::from_nanos(wait_ns)).await;
            }
        }
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        driver::yield_once()
    }

    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = io::Result<File>> {
        files::open(self.0.workers.of(path), path, options)
    }

    fn write_at(
        &self,
        file: &File,
        data: Bytes,
        position: u64,
        durability: Durability,
    ) -> impl Future<Output = io::Result<usize>> + 'static {
        files::write_at(&self.0.core, file, data, position, durability)
    }

    fn read_at(
        &self,
        file: &File,
        into: AlignedBuf,
        position: u64,
    ) -> impl Future<Output = (io::Result<usize>, AlignedBuf)> + 'static {
        files::read_at(&self.0.core, file, into, position)
    }

    fn can_pin(&self) -> bool {
        self.0.pipes.are_of_use()
    }

    fn pin(&self, file: &File, position: u64, bytes: usize) -> Result<Pinned, Unpinned> {
        let file = file.cached_fd().ok_or(Unpinned::Refused)?;
        self.0.pipes.pin(file, position, bytes)
    }

    fn flush(&self, file: &File) -> impl Future<Output = io::Result<()>> + 'static {
        file.flush()
    }

    fn size(&self, file: &File) -> impl Future<Output = io::Result<u64>> + 'static {
        file.size()
    }

    fn allocate(&self, file: &File, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        file.allocate(position, bytes)
    }

    fn zero(&self, file: &File, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        file.zero(position, bytes)
    }

    fn truncate(&self, file: &File, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        file.truncate(bytes)
    }

    /// In one call: a start reads a small file of every partition.
    fn read_whole(&self, path: &Path, bytes_max: usize) -> impl Future<Output = io::Result<Bytes>> {
        self.on_path(path, move |path| files::read_whole(path, bytes_max))
    }

    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        self.on_path(path, |path| std::fs::create_dir(path))
    }

    fn remove_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        self.on_path(path, |path| std::fs::remove_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> {
        let to = to.to_owned();
        self.on_path(from, move |from| std::fs::rename(from, to))
    }

    fn unlink(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        self.on_path(path, |path| std::fs::remove_file(path))
    }

    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> {
        self.on_path(path, names::list)
    }

    fn flush_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        match self.0.workers.flusher(path) {
            Some(flusher) => self.on_path(path, move |path| flusher.directory(path)),
            None => self.on_path(path, names::flush_directory),
        }
    }

    fn flush_file_system(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        let (owned, flusher) = (path.to_owned(), self.0.workers.flusher(path));
        self.0.workers.flushing_of(path).call(move || match flusher {
            Some(flusher) => flusher.file_system(&owned),
            None => names::flush_file_system(&owned),
        })
    }

    fn free_bytes(&self, path: &Path) -> impl Future<Output = io::Result<u64>> {
        self.on_path(path, names::free_bytes)
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Lock>> {
        self.on_path(path, names::lock)
    }

    fn hold(&self, lock: Lock) -> io::Result<()> {
        self.0.core.hold_file(lock.as_fd())?;
        self.0.held.borrow_mut().push(lock);
        Ok(())
    }

    fn map(&self, path: &Path, bytes: usize) -> impl Future<Output = io::Result<Arc<Region>>> {
        self.on_path(path, move |path| names::map(path, bytes, names::Mapped::New))
    }

    fn map_found(&self, path: &Path, bytes: usize) -> impl Future<Output = io::Result<Arc<Region>>> {
        self.on_path(path, move |path| names::map(path, bytes, names::Mapped::Found))
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        sockets::listen(address)
    }

    fn local_address(&self, listener: &Listener) -> io::Result<SocketAddr> {
        sockets::local_address(listener)
    }

    fn accept(&self, listener: &Listener) -> impl Future<Output = io::Result<(Stream, SocketAddr)>> {
        sockets::accept(&self.0.core, listener)
    }

    fn detach(&self, stream: Stream) -> Detached {
        sockets::detach(stream)
    }

    fn attach(&self, stream: Detached) -> Stream {
        sockets::attach(stream)
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Stream>> {
        sockets::connect(&self.0.core, address)
    }

    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        let resolver = self.0.workers.resolver();
        resolver.call(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
    }

    fn receive(
        &self,
        stream: &Stream,
        into: BytesMut,
    ) -> impl Future<Output = (io::Result<usize>, BytesMut)> + 'static {
        sockets::receive(&self.0.core, stream, into)
    }

    fn send(
        &self,
        stream: &Stream,
        pieces: Vec<Bytes>,
    ) -> impl Future<Output = (io::Result<usize>, Vec<Bytes>)> + 'static {
        sockets::send(&self.0.core, stream, pieces)
    }

    fn send_pinned(&self, stream: &Stream, pinned: &Pinned) -> impl Future<Output = io::Result<usize>> + 'static {
        sockets::send_pinned(self.0.core.clone(), stream.clone(), pinned.clone())
    }

    fn shutdown(&self, stream: &Stream) {
        sockets::shutdown(stream);
    }
}
