//! Pages of files, held in pipes until a socket takes them: a sendfile in two halves, the first of which says what will be sent.
//!
//! What was spliced into a pipe stays as it is: the kernel may take the pages out of its cache, but the pipe keeps them, and so
//! does the socket that they are spliced into. So nothing is read when they are sent, however late that is.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::buffer::{BLOCK_BYTES, Pinned};
use crate::io::{PINNED_BYTES_MAX, Unpinned};

/// Pipes of all shards together, empty or not; a full one holds 1 MiB. The kernel lets an ordinary user have 64 of this size
/// (pipe-user-pages-soft): half of that.
const PIPES_MAX: usize = 32;
/// On x86-64 and aarch64; libc has no name for it yet.
const SYS_CACHESTAT: libc::c_long = 451;

/// A pipe has a slot for each page.
const PIPE_BYTES: libc::c_int = 1 << 20;

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// The pipes of a process.
#[derive(Default)]
pub(super) struct Pipes {
    empty: Mutex<Vec<Ends>>,
    count: AtomicUsize,
    tried: OnceLock<bool>,
}

/// A pipe with pages in it.
struct Held {
    ends: Option<Ends>,
    /// Bytes in it.
    bytes: AtomicUsize,
    pipes: Arc<Pipes>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.bytes.load(Ordering::Relaxed) == 0);
        if let Some(ends) = ends {
            self.pipes.empty().push(ends);
        } else {
            // Closed, with what nobody took.
            self.pipes.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Held {
    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("taken in drop only")
    }
}

impl Pipes {
    fn empty(&self) -> std::sync::MutexGuard<'_, Vec<Ends>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty pipe; `None` when all are in use, or the kernel gives none of the size.
    fn take(self: &Arc<Self>) -> Option<Held> {
        let known = self.empty().pop();
        let ends = match known {
            Some(ends) => ends,
            None => {
                let made = match self.count.fetch_add(1, Ordering::Relaxed) < PIPES_MAX {
                    true => new_pipe().ok(),
                    false => None,
                };
                if made.is_none() {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
                made?
            }
        };
        Some(Held {
            ends: Some(ends),
            bytes: AtomicUsize::new(0),
            pipes: self.clone(),
        })
    }

    /// Whether this kernel, and what it lets this user have, pins anything.
    pub(super) fn are_of_use(self: &Arc<Self>) -> bool {
        *self.tried.get_or_init(|| self.try_out().unwrap_or(false))
    }

    /// Pins a page of a file in memory.
    fn try_out(self: &Arc<Self>) -> io::Result<bool> {
        // SAFETY: the name is a string of C; the descriptor, if there is one, is fresh and ours alone.
        let file = unsafe {
            let fd = libc::memfd_create(c"ringtail-pin".as_ptr(), libc::MFD_CLOEXEC);
            check(fd.into())?;
            std::fs::File::from(OwnedFd::from_raw_fd(fd))
        };
        file.write_all_at(&[0; BLOCK_BYTES], 0)?;
        // SAFETY: a plain system call.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // The kernel counts in its own pages.
        Ok(page_bytes == BLOCK_BYTES as i64 && self.pin(file.as_raw_fd(), 0, BLOCK_BYTES).is_ok())
    }

    /// See [`Env::pin`](crate::io::Env::pin). Waits for a device only where a page goes in between.
    pub(super) fn pin(self: &Arc<Self>, file: RawFd, position: u64, bytes: usize) -> Result<Pinned, Unpinned> {
        if !(1..=PINNED_BYTES_MAX).contains(&bytes) {
            return Err(Unpinned::Refused);
        }
        if !is_resident(file, position, bytes) || !is_read(file, position, bytes) {
            return Err(Unpinned::Absent);
        }
        let held = self.take().ok_or(Unpinned::Refused)?;
        let mut at = libc::loff_t::try_from(position).map_err(|_| Unpinned::Refused)?;
        let mut filled = 0;
        while filled < bytes {
            let write = held.ends().write.as_raw_fd();
            // SAFETY: both descriptors are open, and the kernel writes the one offset, which outlives the call.
            let moved = unsafe {
                libc::splice(
                    file,
                    &mut at,
                    write,
                    null_mut(),
                    bytes - filled,
                    libc::SPLICE_F_NONBLOCK,
                )
            };
            filled += match usize::try_from(moved) {
                Ok(moved @ 1..) => moved,
                _ => return Err(Unpinned::Absent),
            };
            held.bytes.store(filled, Ordering::Relaxed);
        }
        Ok(Pinned::new(bytes, Arc::new(held)))
    }
}

fn new_pipe() -> io::Result<Ends> {
    let mut ends: [libc::c_int; 2] = [0; 2];
    // SAFETY: the kernel writes two descriptors into the array.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }.into())?;
    // SAFETY: both are fresh and ours alone.
    let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: the descriptor is open.
    let size = check(unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) }.into())?;
    match size < PIPE_BYTES as usize {
        true => Err(io::ErrorKind::OutOfMemory.into()),
        false => Ok(Ends { read, write }),
    }
}

fn check(result: i64) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Whether all pages of the range are in the page cache (cachestat, Linux 6.5).
fn is_resident(file: RawFd, position: u64, bytes: usize) -> bool {
    #[repr(C)]
    struct Range {
        offset: u64,
        bytes: u64,
    }
    /// Pages.
    #[repr(C)]
    #[derive(Default)]
    struct Told {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    let range = Range {
        offset: position,
        bytes: bytes as u64,
    };
    let mut told = Told::default();
    let (asked, into) = (std::ptr::from_ref(&range), std::ptr::from_mut(&mut told));
    // SAFETY: the kernel reads the one struct and writes the other; both are laid out as it has them, and outlive the call.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file, asked, into, 0) };
    let block = BLOCK_BYTES as u64;
    let pages = (position + bytes as u64).div_ceil(block) - position / block;
    result == 0 && told.cached >= pages
}

/// Whether pages of the range hold what the file does: the kernel shows those, too, that it is reading just now. It reads in order, so
/// some of them tell of the others.
fn is_read(file: RawFd, position: u64, bytes: usize) -> bool {
    const STEP_BYTES: usize = 32 * BLOCK_BYTES;
    let last = position + bytes as u64 - 1;
    (position..=last).step_by(STEP_BYTES).chain([last]).all(|at| {
        let mut byte = 0u8;
        let into = libc::iovec {
            iov_base: std::ptr::from_mut(&mut byte).cast(),
            iov_len: 1,
        };
        // SAFETY: the kernel reads the one vector and writes the one byte; both outlive the call.
        let read = unsafe { libc::preadv2(file, &into, 1, at as libc::off_t, libc::RWF_NOWAIT) };
        // Where a file system cannot tell, the splice waits.
        read == 1 || read < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EOPNOTSUPP)
    })
}

/// Moves bytes of a pipe into a socket, as many as it takes now. `WouldBlock`: none.
pub(super) fn send(pinned: &Pinned, socket: RawFd) -> io::Result<usize> {
    let held = pinned.held::<Held>().ok_or(io::ErrorKind::InvalidInput)?;
    if held.bytes.load(Ordering::Relaxed) < pinned.len() {
        // Sent by another handle: an empty pipe would look like a full socket for ever.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let read = held.ends().read.as_raw_fd();
    // The ring wants its sockets to block, and a splice asks nothing but the socket whether it may. Nothing is submitted to the
    // ring in between: what it has in flight has its own word for it.
    set_nonblocking(socket, true)?;
    // SAFETY: both descriptors are open; no memory is passed.
    let moved = unsafe {
        libc::splice(
            read,
            null_mut(),
            socket,
            null_mut(),
            pinned.len(),
            libc::SPLICE_F_NONBLOCK,
        )
    };
    let moved = check(moved as i64);
    set_nonblocking(socket, false)?;
    let moved = moved?;
    held.bytes.fetch_sub(moved, Ordering::Relaxed);
    Ok(moved)
}

fn set_nonblocking(socket: RawFd, yes: bool) -> io::Result<()> {
    let flags = libc::O_RDWR | if yes { libc::O_NONBLOCK } else { 0 };
    // SAFETY: the descriptor is open; no memory is passed.
    check(unsafe { libc::fcntl(socket, libc::F_SETFL, flags) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i / 3 + i / 1000) as u8).collect()
    }

    fn file_of(content: &[u8]) -> fs::File {
        let path = std::env::temp_dir().join(format!("ringtail-pipes-{}-{}", std::process::id(), content.len()));
        fs::write(&path, content).expect("written");
        let file = fs::File::open(&path).expect("opened");
        fs::remove_file(&path).expect("removed");
        file
    }

    fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        (near, listener.accept().expect("accepted").0)
    }

    #[test]
    fn what_is_pinned_is_sent_as_it_was_though_the_file_changes() {
        let pipes = Arc::new(Pipes::default());
        let bytes = content(3 * PINNED_BYTES_MAX);
        let file = file_of(&bytes);
        let (near, mut far) = sockets();
        for (from, count) in [(0, 1), (4095, 2), (777, PINNED_BYTES_MAX), (bytes.len() - 10, 10)] {
            let mut pinned = pipes
                .pin(file.as_raw_fd(), from as u64, count)
                .expect("all is in memory");
            let mut got = vec![0; count];
            let mut read = 0;
            while !pinned.is_empty() {
                let sent = send(&pinned, near.as_raw_fd()).expect("sent");
                pinned.advance(sent);
                far.read_exact(&mut got[read..read + sent]).expect("received");
                read += sent;
            }
            assert_eq!(got, bytes[from..from + count]);
        }
        assert_eq!(pipes.empty().len(), 1, "a drained pipe is used again");
    }

    #[test]
    fn nothing_is_pinned_that_is_not_all_there_or_is_too_much() {
        let pipes = Arc::new(Pipes::default());
        let bytes = content(2 * PINNED_BYTES_MAX);
        let file = file_of(&bytes);
        let pin = |from: usize, count| pipes.pin(file.as_raw_fd(), from as u64, count);
        let why = |from, count| pin(from, count).err();
        assert_eq!(why(0, PINNED_BYTES_MAX + 1), Some(Unpinned::Refused));
        assert_eq!(why(0, 0), Some(Unpinned::Refused));
        assert_eq!(why(bytes.len() - 10, 11), Some(Unpinned::Absent), "behind the end");
        let held: Vec<_> = (0..PIPES_MAX).map_while(|_| pin(0, 100).ok()).collect();
        assert_eq!(held.len(), PIPES_MAX);
        assert_eq!(why(0, 100), Some(Unpinned::Refused), "all pipes are in use");
        drop(held);
        assert_eq!(
            pipes.count.load(Ordering::Relaxed),
            0,
            "what nobody took is given up with its pipe"
        );
        assert!(pipes.are_of_use());
    }

    #[test]
    fn what_was_sent_by_another_handle_is_not_sent_again() {
        let pipes = Arc::new(Pipes::default());
        let file = file_of(&content(5000));
        let (near, _far) = sockets();
        let pinned = pipes.pin(file.as_raw_fd(), 0, 5000).expect("in memory");
        assert_eq!(send(&pinned, near.as_raw_fd()).expect("sent"), 5000);
        let again = send(&pinned, near.as_raw_fd()).expect_err("nothing is left");
        assert_eq!(again.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_full_socket_takes_nothing_and_stays_as_it_was() {
        let pipes = Arc::new(Pipes::default());
        let file = file_of(&content(PINNED_BYTES_MAX));
        let (near, _far) = sockets();
        let error = loop {
            let mut pinned = pipes.pin(file.as_raw_fd(), 0, PINNED_BYTES_MAX).expect("in memory");
            let full = loop {
                match send(&pinned, near.as_raw_fd()) {
                    Ok(sent) => pinned.advance(sent),
                    Err(error) => break Some(error),
                }
                if pinned.is_empty() {
                    break None;
                }
            };
            if let Some(error) = full {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        // SAFETY: the descriptor is open.
        let flags = unsafe { libc::fcntl(near.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }
}
