//! `Env` as a shard of a simulated process sees it. Operations are submitted when the method is called, not at the first
//! poll of its future.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::core::{Completion, Event, Wait};
use super::disk::{Action, DiskCounters, LockToken, Outcome, Reply, Request};
use super::network::{Closed, ClosedQueue, StreamHandle, host_address};
use super::world::Shared;
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES, Pinned, Region};
use crate::io::{DirectoryEntry, Durability, Env, Monotonic, OpenOptions, PINNED_BYTES_MAX, Queue, Unpinned};

/// One shard of one process of a `World`.
#[derive(Clone)]
pub struct SimEnv {
    pub(super) shared: Rc<Shared>,
    pub(super) host: usize,
    pub(super) process: usize,
    pub(super) shard: usize,
}

struct FileHandle {
    host: usize,
    process: usize,
    inode: u64,
    direct: bool,
    write: bool,
    /// What reads of a cached file found and left in memory, by block.
    pages: Option<RefCell<Pages>>,
    path: Rc<Path>,
    closed: ClosedQueue,
}

type Pages = BTreeMap<u64, Rc<[u8]>>;

impl Drop for FileHandle {
    fn drop(&mut self) {
        let (host, inode) = (self.host, self.inode);
        self.closed.push(Closed::File { host, inode });
    }
}

#[derive(Clone)]
pub struct SimFile(Rc<FileHandle>);

pub struct SimListener {
    id: u64,
    closed: ClosedQueue,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.closed.push(Closed::Listener(self.id));
    }
}

#[derive(Clone)]
pub struct SimStream(Rc<StreamHandle>);

/// A stream between two shards.
pub struct SimDetached(StreamHandle);

#[derive(Clone)]
pub struct SimLock(Arc<LockToken>);

impl SimEnv {
    pub fn host(&self) -> usize {
        self.host
    }

    pub fn shard(&self) -> usize {
        self.shard
    }

    /// What the disk of this host was asked for so far.
    pub fn disk_counters(&self) -> DiskCounters {
        self.shared.disks.borrow()[self.host].counters
    }

    fn is_alive(&self) -> bool {
        self.shared.is_alive(self.process)
    }

    fn submit(&self, request: Request) -> Wait<Reply> {
        if !self.is_alive() {
            return Wait(Completion::new());
        }
        let mut disks = self.shared.disks.borrow_mut();
        Wait(disks[self.host].submit(&self.shared.core, request))
    }

    fn submit_path(&self, path: &Path, action: Action) -> impl Future<Output = io::Result<Outcome>> + 'static + use<> {
        let reply = self.submit(Request {
            process: self.process,
            shard: self.shard,
            path: path.into(),
            direct: false,
            action,
            caller: None,
            buffer: None,
        });
        async { reply.await.result }
    }

    fn submit_file(
        &self,
        file: &SimFile,
        action: Action,
        caller: Option<Bytes>,
        buffer: Option<AlignedBuf>,
    ) -> Wait<Reply> {
        assert_eq!(
            (file.0.host, file.0.process),
            (self.host, self.process),
            "a file of another process is used"
        );
        self.submit(Request {
            process: self.process,
            shard: self.shard,
            path: file.0.path.clone(),
            direct: file.0.direct,
            action,
            caller,
            buffer,
        })
    }

    fn shape(&self, file: &SimFile, action: Action) -> impl Future<Output = io::Result<()>> + 'static + use<> {
        let reply: io::Result<Wait<Reply>> = if file.0.write {
            Ok(self.submit_file(file, action, None, None))
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        };
        async { reply?.await.result.map(drop) }
    }

    fn barrier(&self) -> u64 {
        self.shared.disks.borrow()[self.host].barrier()
    }

    fn file(&self, inode: u64, path: Rc<Path>, options: OpenOptions) -> SimFile {
        self.shared.disks.borrow_mut()[self.host].opened(inode);
        SimFile(Rc::new(FileHandle {
            host: self.host,
            process: self.process,
            inode,
            direct: options.direct,
            write: options.write,
            pages: options.cached.then(RefCell::default),
            path,
            closed: self.shared.closed.clone(),
        }))
    }
}

/// What is left to be sent of bytes that a simulated environment pinned.
pub fn rest_of(pinned: &Pinned) -> Bytes {
    let held: &Bytes = pinned.held().expect("pinned by a simulated environment");
    held.slice(held.len() - pinned.len()..)
}

/// The bytes of a range, if all of them were read.
fn held_pages(pages: &Pages, position: u64, bytes: usize) -> Option<Bytes> {
    let block = BLOCK_BYTES as u64;
    let (first, end) = (position / block, (position + bytes as u64).div_ceil(block));
    let mut found = Vec::new();
    for number in first..end {
        let page = pages.get(&number)?;
        if page.len() < BLOCK_BYTES && number + 1 < end {
            return None;
        }
        found.extend_from_slice(page);
    }
    let skip = (position - first * block) as usize;
    (skip + bytes <= found.len()).then(|| Bytes::from(found).slice(skip..skip + bytes))
}

/// Keeps what was read at `position`; of a block that the end of the file cuts, or a short read, as much as there is.
fn keep_pages(pages: &mut Pages, position: u64, read: &[u8]) {
    assert!(
        position.is_multiple_of(BLOCK_BYTES as u64),
        "a cached read at {position}"
    );
    for (block, number) in read.chunks(BLOCK_BYTES).zip(position / BLOCK_BYTES as u64..) {
        if pages.get(&number).is_none_or(|known| known.len() <= block.len()) {
            pages.insert(number, block.into());
        }
    }
}

fn unexpected() -> io::Error {
    io::Error::other("the simulated disk answered another operation")
}

fn count(outcome: Outcome) -> io::Result<u64> {
    match outcome {
        Outcome::Count(count) => Ok(count),
        _ => Err(unexpected()),
    }
}

impl Env for SimEnv {
    type File = SimFile;
    type Listener = SimListener;
    type Stream = SimStream;
    type Detached = SimDetached;
    type Lock = SimLock;

    fn now(&self) -> Monotonic {
        Monotonic(self.shared.core.now())
    }

    fn wall_ms(&self) -> i64 {
        self.shared.wall_ms(self.host)
    }

    fn boot_id(&self) -> u128 {
        self.shared.disks.borrow()[self.host].boot_id()
    }

    fn give_back_memory(&self) {}

    fn random(&self) -> u64 {
        self.shared.core.application.next()
    }

    fn spawn(&self, _queue: Queue, task: impl Future<Output = ()> + 'static) {
        if self.is_alive() {
            self.shared.executor.spawn(self.process, false, task);
        }
    }

    fn sleep_until(&self, deadline: Monotonic) -> impl Future<Output = ()> + 'static {
        let done = Completion::new();
        if self.is_alive() {
            self.shared.core.schedule_at(deadline.0, Event::Timer(done.clone()));
        }
        Wait(done)
    }

    fn yield_now(&self) -> impl Future<Output = ()> {
        let mut yielded = false;
        poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = io::Result<SimFile>> {
        let action = Action::Open {
            path: path.into(),
            options,
        };
        let opened = self.submit_path(path, action);
        let path = path.into();
        async move {
            match opened.await? {
                Outcome::Inode(inode) => Ok(self.file(inode, path, options)),
                _ => Err(unexpected()),
            }
        }
    }

    fn write_at(
        &self,
        file: &SimFile,
        data: Bytes,
        position: u64,
        durability: Durability,
    ) -> impl Future<Output = io::Result<usize>> + 'static {
        let reply: io::Result<Wait<Reply>> = if file.0.write {
            let action = Action::Write {
                inode: file.0.inode,
                position,
                data: Bytes::copy_from_slice(&data),
                device: durability == Durability::Device,
            };
            Ok(self.submit_file(file, action, Some(data), None))
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        };
        async { reply?.await.result.and_then(count).map(|count| count as usize) }
    }

    fn read_at(
        &self,
        file: &SimFile,
        into: AlignedBuf,
        position: u64,
    ) -> impl Future<Output = (io::Result<usize>, AlignedBuf)> + 'static {
        let action = Action::Read {
            inode: file.0.inode,
            position,
            bytes: into.capacity(),
        };
        let reply = self.submit_file(file, action, None, Some(into));
        let file = file.clone();
        async move {
            let reply = reply.await;
            let mut buffer = reply.buffer.expect("a read's reply carries its buffer back");
            let result = reply.result.and_then(count).map(|count| count as usize);
            if result.is_err() {
                buffer.set_len(0);
            }
            if let Some(pages) = &file.0.pages {
                keep_pages(&mut pages.borrow_mut(), position, &buffer);
            }
            (result, buffer)
        }
    }

    fn can_pin(&self) -> bool {
        true
    }

    fn pin(&self, file: &SimFile, position: u64, bytes: usize) -> Result<Pinned, Unpinned> {
        let Some(pages) = &file.0.pages else {
            return Err(Unpinned::Refused);
        };
        let (disk, options) = (&self.shared.core.disk, &self.shared.core.options.disk);
        if disk.chance(options.evict_ppm) {
            pages.borrow_mut().clear();
        }
        if !(1..=PINNED_BYTES_MAX).contains(&bytes) || disk.chance(options.refuse_pin_ppm) {
            return Err(Unpinned::Refused);
        }
        let held = held_pages(&pages.borrow(), position, bytes).ok_or(Unpinned::Absent)?;
        Ok(Pinned::new(bytes, Arc::new(held)))
    }

    fn flush(&self, file: &SimFile) -> impl Future<Output = io::Result<()>> + 'static {
        let action = Action::Flush {
            inode: file.0.inode,
            before: self.barrier(),
        };
        let reply = self.submit_file(file, action, None, None);
        async { reply.await.result.map(drop) }
    }

    fn size(&self, file: &SimFile) -> impl Future<Output = io::Result<u64>> + 'static {
        let inode = file.0.inode;
        let reply = self.submit_file(file, Action::Size { inode }, None, None);
        async { reply.await.result.and_then(count) }
    }

    fn allocate(&self, file: &SimFile, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inode = file.0.inode;
        self.shape(file, Action::Allocate { inode, position, bytes })
    }

    fn zero(&self, file: &SimFile, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inode = file.0.inode;
        self.shape(file, Action::Zero { inode, position, bytes })
    }

    fn truncate(&self, file: &SimFile, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inode = file.0.inode;
        self.shape(file, Action::Truncate { inode, bytes })
    }

    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        let done = self.submit_path(path, Action::CreateDirectory { path: path.into() });
        async { done.await.map(drop) }
    }

    fn remove_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        let done = self.submit_path(path, Action::RemoveDirectory { path: path.into() });
        async { done.await.map(drop) }
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> {
        let action = Action::Rename {
            from: from.into(),
            to: to.into(),
        };
        let done = self.submit_path(from, action);
        async { done.await.map(drop) }
    }

    fn unlink(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        let done = self.submit_path(path, Action::Unlink { path: path.into() });
        async { done.await.map(drop) }
    }

    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirectoryEntry>>> {
        let done = self.submit_path(path, Action::List { path: path.into() });
        async {
            match done.await? {
                Outcome::Entries(entries) => Ok(entries),
                _ => Err(unexpected()),
            }
        }
    }

    fn flush_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        let action = Action::FlushDirectory {
            path: path.into(),
            before: self.barrier(),
        };
        let done = self.submit_path(path, action);
        async { done.await.map(drop) }
    }

    fn flush_file_system(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        let before = self.barrier();
        let done = self.submit_path(path, Action::FlushFileSystem { before });
        async { done.await.map(drop) }
    }

    fn free_bytes(&self, path: &Path) -> impl Future<Output = io::Result<u64>> {
        let done = self.submit_path(path, Action::FreeBytes);
        async { done.await.and_then(count) }
    }

    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<SimLock>> {
        let done = self.submit_path(path, Action::Lock { path: path.into() });
        async {
            match done.await? {
                Outcome::Lock(token) => Ok(SimLock(token)),
                _ => Err(unexpected()),
            }
        }
    }

    fn hold(&self, lock: SimLock) -> io::Result<()> {
        self.shared.disks.borrow_mut()[self.host].hold(&lock.0, self.shard);
        Ok(())
    }

    fn map_found(&self, path: &Path, bytes: usize) -> impl Future<Output = io::Result<Arc<Region>>> {
        self.map(path, bytes)
    }

    fn map(&self, path: &Path, bytes: usize) -> impl Future<Output = io::Result<Arc<Region>>> {
        let action = Action::Map {
            path: path.into(),
            bytes,
        };
        let done = self.submit_path(path, action);
        async {
            match done.await? {
                Outcome::Region(region) => Ok(region),
                _ => Err(unexpected()),
            }
        }
    }

    fn listen(&self, address: SocketAddr) -> io::Result<SimListener> {
        let mut network = self.shared.network.borrow_mut();
        let id = network.listen(&self.shared.core, self.process, self.host, address)?;
        let closed = self.shared.closed.clone();
        Ok(SimListener { id, closed })
    }

    fn local_address(&self, listener: &SimListener) -> io::Result<SocketAddr> {
        self.shared.network.borrow().local_address(listener.id)
    }

    fn accept(&self, listener: &SimListener) -> impl Future<Output = io::Result<(SimStream, SocketAddr)>> {
        let accepted = Wait(self.shared.network.borrow_mut().accept(listener.id));
        async {
            let (handle, peer) = accepted.await?;
            Ok((SimStream(Rc::new(handle)), peer))
        }
    }

    fn detach(&self, stream: SimStream) -> SimDetached {
        match Rc::try_unwrap(stream.0) {
            Ok(handle) => SimDetached(handle),
            Err(_) => panic!("a stream with clones is detached ({})", self.shared.core.place()),
        }
    }

    fn attach(&self, stream: SimDetached) -> SimStream {
        assert_eq!(
            stream.0.process, self.process,
            "a stream of another process is attached"
        );
        SimStream(Rc::new(stream.0))
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimStream>> {
        let mut network = self.shared.network.borrow_mut();
        let connected = Wait(network.connect(&self.shared.core, self.process, self.host, address));
        async { Ok(SimStream(Rc::new(connected.await?))) }
    }

    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> {
        let known = self
            .shared
            .host_names
            .borrow()
            .get(host)
            .map(|host| host_address(*host));
        let address = match host {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            _ => known.or_else(|| host.trim_matches(['[', ']']).parse().ok()),
        };
        async move {
            let address = address.ok_or(io::ErrorKind::NotFound)?;
            Ok(vec![SocketAddr::new(address, port)])
        }
    }

    fn receive(
        &self,
        stream: &SimStream,
        into: BytesMut,
    ) -> impl Future<Output = (io::Result<usize>, BytesMut)> + 'static {
        let mut network = self.shared.network.borrow_mut();
        Wait(network.receive(&self.shared.core, stream.0.endpoint, into))
    }

    fn send(
        &self,
        stream: &SimStream,
        pieces: Vec<Bytes>,
    ) -> impl Future<Output = (io::Result<usize>, Vec<Bytes>)> + 'static {
        let mut network = self.shared.network.borrow_mut();
        Wait(network.send(&self.shared.core, stream.0.endpoint, pieces))
    }

    fn send_pinned(&self, stream: &SimStream, pinned: &Pinned) -> impl Future<Output = io::Result<usize>> + 'static {
        let sent = self.send(stream, vec![rest_of(pinned)]);
        async { sent.await.0 }
    }

    fn shutdown(&self, stream: &SimStream) {
        let mut network = self.shared.network.borrow_mut();
        network.shutdown(&self.shared.core, stream.0.endpoint);
    }
}
