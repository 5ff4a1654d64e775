//! Open files: direct I/O and cached reads through the ring, everything that may block on the directory's thread.

use std::fs;
use std::future::Future;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use io_uring::{opcode, types};

use super::driver::Core;
use super::extents::{ExtentStarts, starts_in};
use super::ops::{Keep, Operation};
use super::workers::Worker;
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES};
use crate::io::{Durability, OpenOptions, opening, too_large};

/// The most that one read or write moves: the kernel's own bound, in whole blocks.
const TRANSFER_BYTES_MAX: usize = 0x7fff_f000;

/// Who may read and write what is created, less the umask: an operator's tools of the same group may read it, nobody else.
pub(super) const MODE: u32 = 0o640;

/// An open file. Closed, on its directory's thread, when the last clone and the last operation are gone.
#[derive(Clone)]
pub struct File(Arc<OpenFile>);

struct OpenFile {
    /// `None` only while being dropped.
    file: Option<fs::File>,
    direct: bool,
    cached: bool,
    worker: Worker,
    /// Of a file for direct writes.
    extents: Mutex<ExtentStarts>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Closing the last handle of an unlinked file frees its blocks, which takes time.
            self.worker.defer(move || drop(file));
        }
    }
}

impl File {
    fn get(&self) -> &fs::File {
        self.0.file.as_ref().expect("taken in drop only")
    }

    fn extents(&self) -> MutexGuard<'_, ExtentStarts> {
        self.0.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn extent_starts(&self) -> Vec<u64> {
        self.extents().known().to_vec()
    }

    fn fd(&self) -> RawFd {
        self.get().as_raw_fd()
    }

    /// The descriptor of a file whose pages may be pinned.
    pub(super) fn cached_fd(&self) -> Option<RawFd> {
        self.0.cached.then(|| self.fd())
    }

    /// Runs `action` with this file on the directory's thread.
    fn call<T, F>(&self, action: F) -> impl Future<Output = io::Result<T>> + 'static
    where
        T: Send + 'static,
        F: FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    {
        let file = self.clone();
        self.0.worker.call(move || action(file.get()))
    }

    pub(super) fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        self.call(fs::File::sync_data)
    }

    pub(super) fn size(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        self.call(|file| Ok(file.metadata()?.len()))
    }

    pub(super) fn truncate(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.call(move |file| file.set_len(bytes))
    }

    pub(super) fn allocate(&self, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let file = self.clone();
        self.0.worker.call(move || {
            fallocate(file.get(), 0, position, bytes)?;
            if file.0.direct {
                // The lock is not held over the question: shards ask for it at every write.
                let found = starts_in(file.get(), position, bytes);
                file.extents().learn(position, found);
            }
            Ok(())
        })
    }

    pub(super) fn zero(&self, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.call(move |file| zero(file, position, bytes))
    }
}

pub(super) fn open(
    worker: Worker,
    path: &Path,
    options: OpenOptions,
) -> impl Future<Output = io::Result<File>> + 'static {
    let path = path.to_owned();
    let keeper = worker.clone();
    worker.call(move || {
        let mut how = fs::OpenOptions::new();
        how.read(true).write(options.write).create(options.create);
        how.create_new(options.create && options.exclusive);
        how.mode(MODE);
        how.custom_flags(if options.direct { libc::O_DIRECT } else { 0 });
        let file = how.open(&path).map_err(opening)?;
        let mut extents = ExtentStarts::default();
        if options.direct && options.write {
            extents.learn(0, starts_in(&file, 0, file.metadata()?.len()));
        }
        Ok(File(Arc::new(OpenFile {
            file: Some(file),
            direct: options.direct,
            cached: options.cached,
            worker: keeper,
            extents: Mutex::new(extents),
        })))
    })
}

pub(super) fn read_whole(path: &Path, bytes_max: usize) -> io::Result<Bytes> {
    let mut file = fs::File::open(path).map_err(opening)?;
    let size = file.metadata()?.len();
    if size > bytes_max as u64 {
        return Err(too_large(path, size, bytes_max));
    }
    let mut content = Vec::with_capacity(size as usize + 1);
    file.by_ref().take(size).read_to_end(&mut content)?;
    Ok(content.into())
}

fn assert_aligned(address: *const u8, bytes: usize, position: u64) {
    assert!(
        (address as usize).is_multiple_of(BLOCK_BYTES)
            && bytes.is_multiple_of(BLOCK_BYTES)
            && position.is_multiple_of(BLOCK_BYTES as u64),
        "direct I/O of {bytes} bytes at {position} from {address:p} is not whole aligned blocks"
    );
}

/// One write, begun by this call.
pub(super) fn write_at(
    core: &Rc<Core>,
    file: &File,
    data: Bytes,
    position: u64,
    durability: Durability,
) -> impl Future<Output = io::Result<usize>> + 'static {
    let write = if file.0.direct {
        Either::Ring(submit_parts(core, file, data, position, durability))
    } else {
        Either::Thread(file.call(move |file| write_buffered(file, &data, position, durability)))
    };
    async move {
        match write {
            Either::Ring((first, rest)) => {
                let mut written = first.await.count()?;
                for (at, operation) in rest {
                    // An error counts also behind a short part: what failed is never written again as if nothing had been.
                    let count = operation.await.count()?;
                    written += if written == at { count } else { 0 };
                }
                Ok(written)
            }
            Either::Thread(call) => call.await,
        }
    }
}

enum Either<R, T> {
    Ring(R),
    Thread(T),
}

/// A write as one operation for each extent that it touches; those behind the first with where in `data` they begin.
fn submit_parts(
    core: &Rc<Core>,
    file: &File,
    mut data: Bytes,
    position: u64,
    durability: Durability,
) -> (Operation, Vec<(usize, Operation)>) {
    let cut = |at: usize, bytes| file.extents().cut(position + at as u64, bytes);
    let Some(bytes) = cut(0, data.len()) else {
        return (submit_write(core, file, data, position, durability), Vec::new());
    };
    let first = submit_write(core, file, data.split_to(bytes), position, durability);
    let (mut at, mut rest) = (bytes, Vec::new());
    while !data.is_empty() {
        let part = data.split_to(cut(at, data.len()).unwrap_or(data.len()));
        let bytes = part.len();
        rest.push((at, submit_write(core, file, part, position + at as u64, durability)));
        at += bytes;
    }
    (first, rest)
}

fn submit_write(core: &Rc<Core>, file: &File, data: Bytes, position: u64, durability: Durability) -> Operation {
    assert_aligned(data.as_ptr(), data.len(), position);
    let bytes = data.len().min(TRANSFER_BYTES_MAX) as u32;
    let flags = match durability {
        Durability::Cached => 0,
        Durability::Device => libc::RWF_DSYNC,
    };
    let entry = opcode::Write::new(types::Fd(file.fd()), data.as_ptr(), bytes)
        .offset(position)
        .rw_flags(flags as _)
        .build();
    let keep = Keep::Write {
        _file: file.clone(),
        _data: data,
    };
    // SAFETY: `keep` owns the data, which does not move with the handle, and the descriptor.
    unsafe { core.submit(entry, keep) }
}

fn write_buffered(file: &fs::File, data: &[u8], position: u64, durability: Durability) -> io::Result<usize> {
    let written = file.write_at(data, position)?;
    if durability == Durability::Device {
        file.sync_data()?;
    }
    Ok(written)
}

/// One read, begun by this call.
pub(super) fn read_at(
    core: &Rc<Core>,
    file: &File,
    into: AlignedBuf,
    position: u64,
) -> impl Future<Output = (io::Result<usize>, AlignedBuf)> + 'static {
    let read = if file.0.direct || file.0.cached {
        Either::Ring(submit_read(core, file, into, position))
    } else {
        Either::Thread(file.call(move |file| Ok(read_buffered(file, into, position))))
    };
    async move {
        match read {
            Either::Ring(operation) => {
                let outcome = operation.await;
                let count = outcome.count();
                let Keep::Read { mut into, .. } = outcome.keep else {
                    unreachable!("a read keeps its buffer")
                };
                into.set_len(*count.as_ref().unwrap_or(&0));
                (count, into)
            }
            // The call itself fails only when its thread is gone, and the buffer with it.
            Either::Thread(call) => call.await.unwrap_or_else(|error| (Err(error), AlignedBuf::new(0))),
        }
    }
}

fn submit_read(core: &Rc<Core>, file: &File, mut into: AlignedBuf, position: u64) -> Operation {
    let (address, capacity) = (into.as_mut_ptr(), into.capacity());
    assert_aligned(address, capacity, position);
    let bytes = capacity.min(TRANSFER_BYTES_MAX) as u32;
    let entry = opcode::Read::new(types::Fd(file.fd()), address, bytes)
        .offset(position)
        .build();
    let keep = Keep::Read {
        _file: file.clone(),
        into,
    };
    // SAFETY: `keep` owns the buffer, which does not move with the handle, and the descriptor.
    unsafe { core.submit(entry, keep) }
}

fn read_buffered(file: &fs::File, mut into: AlignedBuf, position: u64) -> (io::Result<usize>, AlignedBuf) {
    into.set_len(into.capacity());
    let count = file.read_at(&mut into, position);
    into.set_len(*count.as_ref().unwrap_or(&0));
    (count, into)
}

pub(super) fn fallocate(file: &fs::File, mode: libc::c_int, position: u64, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let out_of_range = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let position = libc::off_t::try_from(position).map_err(out_of_range)?;
    let bytes = libc::off_t::try_from(bytes).map_err(out_of_range)?;
    loop {
        // SAFETY: the descriptor is open; no memory is passed.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, position, bytes) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

/// Zeros by the cheapest way that the file system has: zeroed extents, a hole, or written zeros.
fn zero(file: &fs::File, position: u64, bytes: u64) -> io::Result<()> {
    for mode in [libc::FALLOC_FL_ZERO_RANGE, libc::FALLOC_FL_PUNCH_HOLE] {
        match fallocate(file, mode | libc::FALLOC_FL_KEEP_SIZE, position, bytes) {
            Err(error) if is_unsupported(&error) => {}
            result => return result,
        }
    }
    // Through a second, buffered descriptor, as the range need not be aligned.
    let buffered = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(opening)?;
    let end = file.metadata()?.len().min(position.saturating_add(bytes));
    let zeros = [0; 16 * BLOCK_BYTES];
    let mut at = position;
    while at < end {
        let step = (end - at).min(zeros.len() as u64);
        buffered.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}
