//! Directories, names, locks and mapped files: what runs on a directory's thread.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use super::files::{MODE, fallocate};
use crate::base::buffer::{BLOCK_BYTES, Region};
use crate::io::DirectoryEntry;

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
    for entry in fs::read_dir(path)? {
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

pub(super) fn flush_directory(path: &Path) -> io::Result<()> {
    fs::File::open(if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    })?
    .sync_all()
}

pub(super) fn flush_file_system(path: &Path) -> io::Result<()> {
    let file = fs::File::open(path)?;
    // SAFETY: the descriptor is open; no memory is passed.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
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

/// When the pages of a mapping come in.
#[derive(Clone, Copy)]
pub(super) enum Populate {
    Now,
    Touched,
}

impl Populate {
    fn flag(self) -> libc::c_int {
        match self {
            Self::Now => libc::MAP_POPULATE,
            Self::Touched => 0,
        }
    }
}

/// Maps the first `bytes` of `path`, all of them backed by storage, so that no later store can fail.
pub(super) fn map(path: &Path, bytes: usize, populate: Populate) -> io::Result<Arc<Region>> {
    if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a mapping of {bytes} bytes is not whole blocks"),
        ));
    }
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MAPPED_MODE)
        .open(path)?;
    // Also of a file that was there; one of another user cannot be changed, and is not to be trusted with records.
    if file.metadata()?.mode() & 0o777 != MAPPED_MODE {
        file.set_permissions(fs::Permissions::from_mode(MAPPED_MODE))?;
    }
    let metadata = file.metadata()?;
    if metadata.len() != bytes as u64 || metadata.blocks() * 512 != bytes as u64 {
        // Grows the file, and fails where a store to a sparse file would kill the process. A whole one is not asked to be
        // whole: tmpfs looks at each page (40 ms per GiB, Linux 6.18).
        fallocate(&file, 0, 0, bytes as u64)?;
    }
    // SAFETY: a fresh shared mapping of an open file; the kernel picks the address.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | populate.flag(),
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
    Ok(Arc::new(unsafe { Region::from_raw(memory, bytes, release) }))
}
