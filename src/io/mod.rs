//! The one seam between Ringtail and the world: clock, randomness, tasks, disk, sockets.
//!
//! Everything above is generic over [`Env`], at the level of ring operations: each is one submission with one completion.
//! `uring` is the real environment (glommio + a raw io-uring ring per shard), `sim` the simulated one (seeded, virtual time).
//!
//! Invariants
//! 1. A buffer handed to an operation is neither changed nor freed before the completion, even when the future is dropped
//!    (the environment keeps it; `sim` asserts it).
//! 2. Direct writes and reads are whole aligned blocks (both environments assert it).
//! 3. Writes in flight to one file never overlap (`sim` asserts it).
//!
//! Not for: policy. No retry, no cache, no protocol lives here.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::base::buffer::{AlignedBuf, BLOCK_BYTES, Pinned, Region};

pub mod console;
pub mod sim;
pub mod turns;
pub mod uring;

/// Nanoseconds of a clock that never goes back; its zero means nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }

    /// The same in microseconds.
    pub fn us_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

/// Which share of the core a task draws from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// Connections, appends, the journal: what a client waits for.
    Foreground,
    /// Settling, checkpoints, retention, scrubbing.
    Background,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    pub write: bool,
    /// Create if absent.
    pub create: bool,
    /// Fail with `AlreadyExists` if present (with `create`).
    pub exclusive: bool,
    /// O_DIRECT: aligned I/O on the ring. Without it the I/O is buffered and runs on the directory's thread.
    pub direct: bool,
    /// Reads go through the kernel's page cache and on the ring; what they left there can be pinned.
    pub cached: bool,
}

impl OpenOptions {
    pub const READ_DIRECT: Self = Self {
        write: false,
        create: false,
        exclusive: false,
        direct: true,
        cached: false,
    };
    pub const WRITE_DIRECT: Self = Self {
        write: true,
        create: false,
        exclusive: false,
        direct: true,
        cached: false,
    };
    pub const CREATE_DIRECT: Self = Self {
        write: true,
        create: true,
        exclusive: true,
        direct: true,
        cached: false,
    };
    pub const READ: Self = Self {
        write: false,
        create: false,
        exclusive: false,
        direct: false,
        cached: false,
    };
    pub const READ_CACHED: Self = Self {
        cached: true,
        ..Self::READ
    };
    pub const CREATE: Self = Self {
        write: true,
        create: true,
        exclusive: false,
        direct: false,
        cached: false,
    };
}

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
/// All of the process's descriptors are taken; for a fault, too.
pub const EMFILE: i32 = 24;

/// Nothing could be opened: descriptors, or the kernel's memory for one, are all taken. Nothing was begun, and it can be tried
/// again; of a write or a flush nothing of the kind is ever said.
#[derive(Debug)]
struct Exhausted(io::Error);

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing can be opened: {}", self.0)
    }
}

impl std::error::Error for Exhausted {}

/// An environment's error of opening something.
fn opening(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(ENOMEM | ENFILE | EMFILE) => io::Error::new(error.kind(), Exhausted(error)),
        _ => error,
    }
}

/// Whether all that failed is that nothing more could be opened for now.
pub fn is_exhausted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Exhausted>())
}

/// Whether all that failed is that there was no space, or none within the quota.
pub fn lacks_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a write's completion means "on the device".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Completed: handed to the device; a power cut may still lose it.
    Cached,
    /// RWF_DSYNC: data and what is needed to read it back are on the device.
    Device,
}

/// The most that is pinned at once: what fits into a pipe of 1 MiB, whatever its place in the file.
pub const PINNED_BYTES_MAX: usize = 255 * BLOCK_BYTES;

/// Why nothing was pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unpinned {
    /// Not all of it is in the page cache.
    Absent,
    /// As much is held already as may be, or no file and no number of bytes that can be.
    Refused,
}

/// What `list` tells of a directory entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryEntry {
    pub name: String,
    pub is_directory: bool,
    pub bytes: u64,
}

/// One shard's world. A clone is another handle to the same world; handles do not cross shards.
///
/// Futures of operations may be dropped: the operation itself then runs to its end and its result is lost.
pub trait Env: Clone + 'static {
    /// An open file; closed when the last clone is gone and nothing is in flight.
    type File: Clone + 'static;
    /// A listening socket.
    type Listener: 'static;
    /// A connected socket; a clone is another handle to the same connection.
    type Stream: Clone + 'static;
    /// A connected socket on its way to another shard: nothing is in flight on it.
    type Detached: Send + 'static;
    /// An exclusive lock of a directory; crosses shards.
    type Lock: Clone + Send + 'static;

    // Clock, randomness, tasks.

    fn now(&self) -> Monotonic;
    /// Milliseconds since 1970, which may jump.
    fn wall_ms(&self) -> i64;
    fn random(&self) -> u64;
    /// Gives memory that is free back to the machine: a start takes much for a moment.
    fn give_back_memory(&self);
    /// Tells this boot of the machine from all others: what a process left in memory, or handed to a file system without a
    /// flush, is whole only within one.
    fn boot_id(&self) -> u128;
    /// Runs `task` to its end on this shard.
    fn spawn(&self, queue: Queue, task: impl Future<Output = ()> + 'static);
    fn sleep_until(&self, deadline: Monotonic) -> impl Future<Output = ()> + 'static;
    /// Lets other tasks of the shard run.
    fn yield_now(&self) -> impl Future<Output = ()>;

    // Files. Paths are those of the process; threads of the directory run what would block.

    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = io::Result<Self::File>>;
    /// One write of `data` at `position`; may write less than asked (the caller goes on).
    fn write_at(
        &self,
        file: &Self::File,
        data: Bytes,
        position: u64,
        durability: Durability,
    ) -> impl Future<Output = io::Result<usize>> + 'static;
    /// One read into `into[..capacity]`; sets its length to what was read. Short at the end of the file.
    fn read_at(
        &self,
        file: &Self::File,
        into: AlignedBuf,
        position: u64,
    ) -> impl Future<Output = (io::Result<usize>, AlignedBuf)> + 'static;
    /// Whether `pin` ever succeeds here.
    fn can_pin(&self) -> bool;
    /// Holds `[position, position + bytes)` of a `cached` file in memory, at most `PINNED_BYTES_MAX`, to be sent by `send_pinned`.
    fn pin(&self, file: &Self::File, position: u64, bytes: usize) -> Result<Pinned, Unpinned>;
    /// fdatasync: data and size of this file are on the device.
    fn flush(&self, file: &Self::File) -> impl Future<Output = io::Result<()>> + 'static;
    /// The file's size in bytes.
    fn size(&self, file: &Self::File) -> impl Future<Output = io::Result<u64>> + 'static;
    /// Blocks for `[position, position + bytes)`, reading as zeros where nothing was written; the size grows to cover them.
    fn allocate(&self, file: &Self::File, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;
    /// Makes `[position, position + bytes)` read as zeros without changing the size.
    fn zero(&self, file: &Self::File, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;
    fn truncate(&self, file: &Self::File, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;
    /// The whole content of a small file, buffered; `InvalidData` above `bytes_max`.
    fn read_whole(&self, path: &Path, bytes_max: usize) -> impl Future<Output = io::Result<Bytes>> {
        read_in_steps(self, path, bytes_max)
    }

    // Names.

    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    fn remove_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;
    fn unlink(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>>;
    /// Makes the directory's entries durable.
    fn flush_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// syncfs of the file system that holds `path`: everything completed before is on the device, entries included.
    fn flush_file_system(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Bytes free for an ordinary user on the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> impl Future<Output = io::Result<u64>>;
    /// Takes the exclusive lock `path` (made if absent); `WouldBlock` when another process, or one of its unfinished
    /// writes, holds it.
    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::Lock>>;
    /// Ties the lock to this shard's ring: it lives as long as any write of this shard.
    fn hold(&self, lock: Self::Lock) -> io::Result<()>;
    /// Maps `path`, a file made for it, of `bytes`, populated, shared: what is stored there outlives the process but not a power
    /// cut. What was there under that name means nothing any more.
    fn map(&self, path: &Path, bytes: usize) -> impl Future<Output = io::Result<Arc<Region>>>;
    /// Maps a file of that size that is there, as `map` does, but its content is kept and its pages come when they are touched.
    /// `PermissionDenied` when it is not a file of this user alone.
    fn map_found(&self, path: &Path, bytes: usize) -> impl Future<Output = io::Result<Arc<Region>>>;

    // Sockets.

    /// Listens with SO_REUSEPORT and SO_REUSEADDR. IPv6 wildcard means dual-stack.
    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener>;
    fn local_address(&self, listener: &Self::Listener) -> io::Result<SocketAddr>;
    fn accept(&self, listener: &Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>>;
    /// Takes a fresh connection off this shard (nothing was sent, received or cloned yet) to `attach` it on another.
    fn detach(&self, stream: Self::Stream) -> Self::Detached;
    fn attach(&self, stream: Self::Detached) -> Self::Stream;
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>>;
    /// Receives into the spare capacity of `into` (which must not be empty); 0 means the peer ended its side.
    fn receive(
        &self,
        stream: &Self::Stream,
        into: BytesMut,
    ) -> impl Future<Output = (io::Result<usize>, BytesMut)> + 'static;
    /// Sends the pieces in order; may send less than all.
    fn send(
        &self,
        stream: &Self::Stream,
        pieces: Vec<Bytes>,
    ) -> impl Future<Output = (io::Result<usize>, Vec<Bytes>)> + 'static;
    /// Sends what is left of `pinned` in one operation, without a copy where that can be; may send less.
    fn send_pinned(&self, stream: &Self::Stream, pinned: &Pinned) -> impl Future<Output = io::Result<usize>> + 'static;
    /// Ends both directions: pending operations of the stream complete.
    fn shutdown(&self, stream: &Self::Stream);
}

/// Sends all of `pieces`, in as many operations as it takes.
pub async fn send_all<E: Env>(env: &E, stream: &E::Stream, mut pieces: Vec<Bytes>) -> io::Result<()> {
    loop {
        pieces.retain(|piece| !piece.is_empty());
        if pieces.is_empty() {
            return Ok(());
        }
        let (sent, back) = env.send(stream, pieces).await;
        let mut sent = sent?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        pieces = back;
        for piece in &mut pieces {
            let step = sent.min(piece.len());
            piece.advance(step);
            sent -= step;
        }
        assert_eq!(sent, 0, "more sent than asked");
    }
}

/// Writes all of `data` at `position`, in as many operations as it takes.
pub async fn write_all_at<E: Env>(
    env: &E,
    file: &E::File,
    mut data: Bytes,
    mut position: u64,
    durability: Durability,
) -> io::Result<()> {
    while !data.is_empty() {
        let written = env.write_at(file, data.clone(), position, durability).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data.advance(written);
        position += written as u64;
    }
    Ok(())
}

/// The first `bytes` of what lies from `position` (aligned, if the file is direct) on, in as many operations as it takes; less
/// only at the end of the file.
pub async fn read_up_to<E: Env>(env: &E, file: &E::File, position: u64, bytes: usize) -> io::Result<AlignedBuf> {
    let (read, mut buffer) = env.read_at(file, AlignedBuf::new(bytes), position).await;
    read?;
    while buffer.len() < bytes {
        let from = buffer.len() - buffer.len() % BLOCK_BYTES;
        let (read, more) = env
            .read_at(file, AlignedBuf::new(bytes - from), position + from as u64)
            .await;
        if read? + from <= buffer.len() {
            break;
        }
        buffer.set_len(from);
        let room = buffer.capacity() - from;
        buffer.extend(&more[..more.len().min(room)]);
    }
    buffer.set_len(buffer.len().min(bytes));
    Ok(buffer)
}

/// The whole content of a (small) file; `InvalidData` above `bytes_max`.
pub async fn read_file<E: Env>(env: &E, path: &Path, bytes_max: usize) -> io::Result<Bytes> {
    env.read_whole(path, bytes_max).await
}

fn too_large(path: &Path, size: u64, bytes_max: usize) -> io::Error {
    let message = format!("{} holds {size} bytes, expected at most {bytes_max}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
}

async fn read_in_steps<E: Env>(env: &E, path: &Path, bytes_max: usize) -> io::Result<Bytes> {
    let file = env.open(path, OpenOptions::READ).await?;
    let size = env.size(&file).await?;
    if size > bytes_max as u64 {
        return Err(too_large(path, size, bytes_max));
    }
    let mut content = BytesMut::with_capacity(size as usize);
    while (content.len() as u64) < size {
        let (read, buffer) = env
            .read_at(
                &file,
                AlignedBuf::new(size as usize - content.len()),
                content.len() as u64,
            )
            .await;
        if read? == 0 {
            break;
        }
        content.extend_from_slice(&buffer);
    }
    content.truncate(size as usize);
    Ok(content.freeze())
}

/// Puts `content` at `path` so that after a crash there is the old file or the whole new one: a temporary file beside it,
/// flushed, renamed, the directory flushed.
pub async fn replace_file<E: Env>(env: &E, path: &Path, content: Bytes) -> io::Result<()> {
    let (temporary, _) = write_beside(env, path, content).await?;
    take_place(env, &temporary, path).await
}

/// The first half of `replace_file`: the temporary file, flushed. Until its other half nothing is changed.
pub async fn write_beside<E: Env>(env: &E, path: &Path, content: Bytes) -> io::Result<(PathBuf, E::File)> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = env.open(&temporary, OpenOptions::CREATE).await?;
    env.truncate(&file, 0).await?;
    write_all_at(env, &file, content, 0, Durability::Cached).await?;
    env.flush(&file).await?;
    Ok((temporary, file))
}

/// The second half of `replace_file`.
pub async fn take_place<E: Env>(env: &E, temporary: &Path, path: &Path) -> io::Result<()> {
    env.rename(temporary, path).await?;
    env.flush_directory(path.parent().unwrap_or(Path::new("."))).await
}

/// How long, and how often, a lock that is held is asked for again.
const LOCK_WAIT_MS: u64 = 3000;
const LOCK_RETRY_MS: u64 = 5;

/// Takes a lock. A process that ended holds it until the kernel has ended its ring and its writes in flight have landed, so one
/// that is held is asked for again for a while (`WouldBlock` after that).
pub async fn lock_when_free<E: Env>(env: &E, path: &Path) -> io::Result<E::Lock> {
    let deadline = env.now().plus_ms(LOCK_WAIT_MS);
    loop {
        match env.lock(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && env.now() < deadline => {
                env.sleep_until(env.now().plus_ms(LOCK_RETRY_MS)).await;
            }
            locked => return locked,
        }
    }
}
