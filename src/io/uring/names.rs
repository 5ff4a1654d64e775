//! Directories, names, locks and mapped files: what runs on a directory's thread.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::files::{MODE, fallocate};
use crate::base::buffer::{BLOCK_BYTES, Region};
use crate::io::{DirectoryEntry, lacks_space, opening};

/// An exclusive lock of a directory: an open-file-description lock, so it is the open file that holds it, whatever
/// process or ring refers to that.
#[derive(Clone)]
pub struct Lock(Arc<fs::File>);

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(super) fn lock(path: &Path) -> io::Result<Lock> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)?;
    // SAFETY: all-zero is a valid `flock`: the whole file, and process 0 as open-file-description locks want it.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as _;
    range.l_whence = libc::SEEK_SET as _;
    // SAFETY: the kernel reads one `flock` that outlives the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) } == 0 {
        return Ok(Lock(Arc::new(file)));
    }
    let error = io::Error::last_os_error();
    if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) {
        return Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{} is locked", path.display()),
        ));
    }
    Err(error)
}

pub(super) fn list(path: &Path) -> io::Result<Vec<DirectoryEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(opening)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Unlinked since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        entries.push(DirectoryEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_directory: metadata.is_dir(),
            bytes: metadata.len(),
        });
    }
    Ok(entries)
}

fn open_directory(path: &Path) -> io::Result<fs::File> {
    let named = !path.as_os_str().is_empty();
    fs::File::open(if named { path } else { Path::new(".") }).map_err(opening)
}

pub(super) fn flush_directory(path: &Path) -> io::Result<()> {
    open_directory(path)?.sync_all()
}

fn flush_file_system_of(file: &fs::File) -> io::Result<()> {
    // SAFETY: the descriptor is open; no memory is passed.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// The descriptor by which a directory and its file system are flushed, kept open: the kernel tells each descriptor once of a
/// writeback that failed, and a fresh one nothing of what another was told. Shards share it, so after an error there is no
/// success any more.
#[derive(Default)]
pub(super) struct Flusher {
    file: Mutex<Option<Arc<fs::File>>>,
    failed: OnceLock<i32>,
}

impl Flusher {
    /// Opened now, if the directory is there yet, so that it hears of what fails from here on.
    pub(super) fn of(path: &Path) -> Self {
        let file = open_directory(path).ok().map(Arc::new);
        Self {
            file: Mutex::new(file),
            failed: OnceLock::new(),
        }
    }

    fn file(&self, path: &Path) -> io::Result<Arc<fs::File>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match &*file {
            Some(file) => Ok(file.clone()),
            None => Ok(file.insert(Arc::new(open_directory(path)?)).clone()),
        }
    }

    fn flush(&self, path: &Path, flush: impl FnOnce(&fs::File) -> io::Result<()>) -> io::Result<()> {
        let file = self.file(path)?;
        let flushed = flush(&file);
        let failed = match &flushed {
            Ok(()) => self.failed.get(),
            // Space for the names: it can be had later.
            Err(error) if lacks_space(error) => return flushed,
            Err(error) => Some(self.failed.get_or_init(|| error.raw_os_error().unwrap_or(libc::EIO))),
        };
        failed.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(*errno)))
    }

    pub(super) fn directory(&self, path: &Path) -> io::Result<()> {
        self.flush(path, fs::File::sync_all)
    }

    pub(super) fn file_system(&self, path: &Path) -> io::Result<()> {
        self.flush(path, flush_file_system_of)
    }
}

pub(super) fn flush_file_system(path: &Path) -> io::Result<()> {
    flush_file_system_of(&open_directory(path)?)
}

pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid `statvfs`.
    let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated string in, one `statvfs` out; both outlive the call.
    check(unsafe { libc::statvfs(path.as_ptr(), &mut told) })?;
    Ok(told.f_bavail.saturating_mul(told.f_frsize))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Mapped files lie where every user may look (`/dev/shm`), and hold records: they are for the broker's user alone.
const MAPPED_MODE: u32 = 0o600;

/// The memory of a new file comes in by so many bytes.
const BROUGHT_IN_BYTES: usize = 256 << 10;

/// Which file is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapped {
    /// One made for it; its pages come in at once.
    New,
    /// One that is there; its pages come in when they are touched.
    Found,
}

impl Mapped {
    /// Opens the file. Other users may put what they like under such a name, to have it written to, or believed.
    fn open(self, path: &Path) -> io::Result<fs::File> {
        let mut how = fs::OpenOptions::new();
        how.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
        if self == Self::New {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            how.create_new(true).mode(MAPPED_MODE);
        }
        let foreign = |what| io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {what}", path.display()));
        let file = how.open(path).map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => foreign("a link where a file of the broker belongs"),
            _ => opening(error),
        })?;
        let metadata = file.metadata()?;
        // SAFETY: asks for a number and cannot fail.
        let user = unsafe { libc::geteuid() };
        if !metadata.is_file() || metadata.uid() != user || metadata.nlink() != 1 {
            return Err(foreign("not a file of the broker's user alone"));
        }
        if metadata.mode() & 0o777 != MAPPED_MODE {
            file.set_permissions(fs::Permissions::from_mode(MAPPED_MODE))?;
        }
        Ok(file)
    }
}

/// Maps the first `bytes` of `path`, all of them backed by storage, so that no later store can fail.
pub(super) fn map(path: &Path, bytes: usize, mapped: Mapped) -> io::Result<Arc<Region>> {
    if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a mapping of {bytes} bytes is not whole blocks"),
        ));
    }
    let file = mapped.open(path)?;
    match mapped {
        Mapped::New => map_new(&file, bytes).inspect_err(|_| {
            // Others may do with what it got.
            let _ = fs::remove_file(path);
        }),
        Mapped::Found => map_found(&file, bytes),
    }
}

fn map_found(file: &fs::File, bytes: usize) -> io::Result<Arc<Region>> {
    let metadata = file.metadata()?;
    if metadata.len() != bytes as u64 || metadata.blocks() * 512 != bytes as u64 {
        // Grows the file, and fails where a store to a sparse file would kill the process. A whole one is not asked to be
        // whole: tmpfs looks at each page (40 ms per GiB, Linux 6.18).
        fallocate(file, 0, 0, bytes as u64)?;
    }
    Ok(map_file(file, bytes)?.0)
}

/// Gives the file its storage, so that no later store fails, and the mapping its pages, so that few fault. In steps, since a kernel that
/// is not preempted lets nobody else have this core in a call: 8 MiB at once kept its workers from completing writes for 4 ms.
fn map_new(file: &fs::File, bytes: usize) -> io::Result<Arc<Region>> {
    // Until the file has its storage nothing is touched.
    let (region, address) = map_file(file, bytes)?;
    for at in (0..bytes).step_by(BROUGHT_IN_BYTES) {
        let step = BROUGHT_IN_BYTES.min(bytes - at);
        fallocate(file, 0, at as u64, step as u64)?;
        // A third less CPU than with MAP_POPULATE, which looks at 16 pages again for each (tmpfs, Linux 6.18). A kernel without it
        // (before 5.14) brings them in when they are touched.
        // SAFETY: the range lies within the mapping, which the region keeps.
        unsafe { libc::madvise((address + at) as *mut libc::c_void, step, libc::MADV_POPULATE_WRITE) };
        std::thread::yield_now();
    }
    Ok(region)
}

/// A mapping of the whole file, and where it lies.
fn map_file(file: &fs::File, bytes: usize) -> io::Result<(Arc<Region>, usize)> {
    // SAFETY: a fresh shared mapping of an open file; the kernel picks the address.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let memory = NonNull::new(address.cast::<u8>()).expect("a mapping is not at address zero");
    let address = address as usize;
    let release = Box::new(move || {
        // SAFETY: the region was the only user of the mapping, and ends here.
        unsafe { libc::munmap(address as *mut libc::c_void, bytes) };
    });
    // SAFETY: `bytes` of page-aligned, readable and writable memory that only the region knows.
    let region = unsafe { Region::from_raw(memory, bytes, release) };
    Ok((Arc::new(region), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_that_failed_stays_failed_but_for_want_of_space() {
        let root = Path::new("/");
        let flusher = Flusher::of(root);
        let failing = |errno| flusher.flush(root, |_| Err(io::Error::from_raw_os_error(errno)));
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            assert!(failing(errno).is_err());
            assert!(flusher.flush(root, |_| Ok(())).is_ok(), "{errno}");
        }
        assert!(failing(libc::EIO).is_err());
        assert!(flusher.flush(root, |_| Ok(())).is_err());
    }
}
