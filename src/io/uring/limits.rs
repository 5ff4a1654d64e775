//! What the machine allows this process, asked before it is relied upon.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::sockets;

/// A limit that the kernel holds a process to: what is in force, and how far it may be raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceLimit {
    pub now: u64,
    pub most: u64,
}

/// The word of a `setrlimit` family call for "no limit".
pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

/// `linux/magic.h`; libc has no name for it.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<ResourceLimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one `rlimit` that outlives the call.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ResourceLimit {
        now: limit.rlim_cur,
        most: limit.rlim_max,
    })
}

/// Descriptors that may be open.
pub fn open_files() -> io::Result<ResourceLimit> {
    limit(libc::RLIMIT_NOFILE)
}

/// Raises the descriptors that may be open as far as it goes; what is in force then.
pub fn raise_open_files() -> io::Result<u64> {
    let most = open_files()?.most;
    let raised = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: the kernel reads one `rlimit` that outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(most)
}

/// Bytes of memory that may be locked.
pub fn locked_memory_bytes() -> io::Result<ResourceLimit> {
    limit(libc::RLIMIT_MEMLOCK)
}

fn kernel_word(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Such as `6.12.1`.
pub fn kernel_release() -> io::Result<String> {
    kernel_word("/proc/sys/kernel/osrelease")
}

pub fn host_name() -> io::Result<String> {
    kernel_word("/proc/sys/kernel/hostname")
}

/// The kernel's switch: 0 allows io_uring to all, 1 to privileged processes, 2 to none. `None` on kernels without it.
pub fn uring_disabled() -> Option<u32> {
    kernel_word("/proc/sys/kernel/io_uring_disabled").ok()?.parse().ok()
}

/// The clock that the kernel reads time from, such as `tsc`.
pub fn clock_source() -> io::Result<String> {
    kernel_word("/sys/devices/system/clocksource/clocksource0/current_clocksource")
}

/// Whether what is written under `path` stays in memory, whoever flushes it.
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid `statfs`.
    let mut told: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated string in, one `statfs` out; both outlive the call.
    if unsafe { libc::statfs(path.as_ptr(), &mut told) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(matches!(told.f_type as i64, libc::TMPFS_MAGIC | RAMFS_MAGIC))
}

/// Whether `address` can be listened on. Shards share their port (SO_REUSEPORT), with which another process of the same
/// user could be overlooked: this asks without.
pub fn probe_listen(address: SocketAddr) -> io::Result<()> {
    sockets::probe(address)
}
