//! TCP through the ring.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use io_uring::{opcode, types};

use super::driver::{Core, yield_once};
use super::limits;
use super::ops::{Keep, Operation};
use super::pipes;
use crate::base::buffer::Pinned;

/// Connections that the kernel keeps for us to accept (it takes the smaller of this and net.core.somaxconn).
const BACKLOG: libc::c_int = 4096;

/// Pieces of one send: IOV_MAX.
const PIECES_MAX: usize = 1024;

/// IORING_RECVSEND_POLL_FIRST: do not try at once, wait for data.
const POLL_FIRST: u16 = 1;

/// A descriptor that operations and handles share; closed with the last of them.
pub(super) struct Socket {
    fd: OwnedFd,
    /// The last receive left nothing behind, so the next one would find nothing.
    drained: Cell<bool>,
}

impl Socket {
    fn new(fd: OwnedFd) -> Rc<Self> {
        Rc::new(Self {
            fd,
            drained: Cell::new(false),
        })
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.fd.as_raw_fd())
    }
}

pub struct Listener(Rc<Socket>);

/// A connection; clones share it.
#[derive(Clone)]
pub struct Stream(Rc<Socket>);

/// A connection between two shards.
pub struct Detached(OwnedFd);

#[cfg(test)]
impl Detached {
    pub(super) fn is_undelayed(&self) -> bool {
        let mut value: libc::c_int = 0;
        let mut bytes = mem::size_of::<libc::c_int>() as libc::socklen_t;
        let into = std::ptr::from_mut(&mut value).cast();
        // SAFETY: the kernel writes one int that outlives the call.
        check(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_NODELAY,
                into,
                &mut bytes,
            )
        })
        .is_ok_and(|_| value != 0)
    }
}

/// A socket address as the kernel writes it.
pub(super) struct Peer {
    storage: libc::sockaddr_storage,
    bytes: libc::socklen_t,
}

impl Peer {
    fn empty() -> Box<Self> {
        Box::new(Self {
            // SAFETY: all-zero is a valid `sockaddr_storage`.
            storage: unsafe { mem::zeroed() },
            bytes: mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t,
        })
    }

    fn new(address: SocketAddr) -> Box<Self> {
        let mut peer = Self::empty();
        match address {
            SocketAddr::V4(v4) => peer.set(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => peer.set(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            }),
        }
        peer
    }

    fn set<T>(&mut self, address: T) {
        assert!(mem::size_of::<T>() <= mem::size_of::<libc::sockaddr_storage>());
        self.bytes = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: `T` is one of the `sockaddr_*` types, for which the storage is large and aligned enough.
        unsafe { std::ptr::from_mut(&mut self.storage).cast::<T>().write(address) }
    }

    fn get(&self) -> io::Result<SocketAddr> {
        let storage = std::ptr::from_ref(&self.storage);
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says which type was stored.
                let v4 = unsafe { &*storage.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says which type was stored.
                let v6 = unsafe { &*storage.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Ok(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            family => Err(io::Error::other(format!("address family {family} is not IP"))),
        }
    }
}

/// The scatter list of a send.
pub(super) struct Message {
    header: libc::msghdr,
    pieces: Vec<libc::iovec>,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            // SAFETY: all-zero is a valid `msghdr`.
            header: unsafe { mem::zeroed() },
            pieces: Vec::new(),
        }
    }
}

impl Message {
    /// Points at `pieces`, which have to outlive the operation. The header is at home in a box, so it does not move.
    fn point_at(&mut self, pieces: &[Bytes]) {
        self.pieces.clear();
        let pieces = pieces.iter().take(PIECES_MAX).map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        });
        self.pieces.extend(pieces);
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = self.pieces.len() as _;
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn new_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: a plain system call.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: fresh and ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(fd)
}

fn set_option(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let bytes = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads one int that outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(&value).cast(), bytes) })
        .map(drop)
}

/// A socket that has `address`, beside others of this user if it is `shared`.
fn bound(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let fd = new_socket(address)?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, shared.into())?;
    if address.is_ipv6() {
        let only_v6 = libc::c_int::from(!address.ip().is_unspecified());
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only_v6)?;
    }
    let peer = Peer::new(address);
    let storage = std::ptr::from_ref(&peer.storage).cast();
    // SAFETY: the address outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), storage, peer.bytes) })?;
    Ok(fd)
}

/// Whether `address` can be had alone. It is not listened on for that: whoever connected would be reset.
pub(super) fn probe(address: SocketAddr) -> io::Result<()> {
    bound(address, false).map(drop)
}

pub(super) fn listen(address: SocketAddr) -> io::Result<Listener> {
    // Accepted connections inherit TCP_NODELAY.
    let fd = bound(address, true)?;
    // SAFETY: the descriptor is open.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(Listener(Socket::new(fd)))
}

pub(super) fn local_address(listener: &Listener) -> io::Result<SocketAddr> {
    let mut own = Peer::empty();
    let storage = std::ptr::from_mut(&mut own.storage).cast();
    // SAFETY: the kernel writes at most `bytes` into the storage; both outlive the call.
    check(unsafe { libc::getsockname(listener.0.fd.as_raw_fd(), storage, &mut own.bytes) })?;
    own.get()
}

pub(super) async fn accept(core: &Rc<Core>, listener: &Listener) -> io::Result<(Stream, SocketAddr)> {
    let mut peer = Peer::empty();
    let storage = std::ptr::from_mut(&mut peer.storage).cast();
    let entry = opcode::Accept::new(listener.0.fd(), storage, &mut peer.bytes)
        .flags(libc::SOCK_CLOEXEC)
        .build();
    let keep = Keep::Accept {
        _listener: listener.0.clone(),
        peer,
    };
    // SAFETY: `keep` owns the boxed address and the listening socket.
    let outcome = unsafe { core.submit(entry, keep) }.await;
    let fd = outcome.count()? as libc::c_int;
    // SAFETY: the kernel just gave us this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if is_one_of_the_last(fd.as_raw_fd(), listener.0.fd.as_raw_fd(), limits::open_files()?.now) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    let Keep::Accept { peer, .. } = outcome.keep else {
        unreachable!("an accept keeps the address")
    };
    Ok((Stream(Socket::new(fd)), peer.get()?))
}

/// Whether an accepted connection is to be given up because files may want its descriptor: a quarter of those that were free
/// when listening began. A new descriptor has the lowest free number, so all below it are taken.
fn is_one_of_the_last(accepted: libc::c_int, listener: libc::c_int, limit: u64) -> bool {
    let (accepted, listener) = (accepted as u64, listener as u64);
    accepted >= limit - limit.saturating_sub(listener) / 4
}

pub(super) async fn connect(core: &Rc<Core>, address: SocketAddr) -> io::Result<Stream> {
    let stream = Socket::new(new_socket(address)?);
    let peer = Peer::new(address);
    let storage = std::ptr::from_ref(&peer.storage).cast();
    let entry = opcode::Connect::new(stream.fd(), storage, peer.bytes).build();
    let keep = Keep::Connect { stream, _peer: peer };
    // SAFETY: `keep` owns the boxed address and the socket.
    let outcome = unsafe { core.submit(entry, keep) }.await;
    outcome.count()?;
    let Keep::Connect { stream, .. } = outcome.keep else {
        unreachable!("a connect keeps the socket")
    };
    Ok(Stream(stream))
}

pub(super) fn detach(stream: Stream) -> Detached {
    let socket = Rc::into_inner(stream.0).expect("a connection is detached while it has one handle and no operation");
    Detached(socket.fd)
}

pub(super) fn attach(stream: Detached) -> Stream {
    Stream(Socket::new(stream.0))
}

/// One receive, begun by this call.
pub(super) fn receive(
    core: &Rc<Core>,
    stream: &Stream,
    mut into: BytesMut,
) -> impl Future<Output = (io::Result<usize>, BytesMut)> + 'static {
    let spare = into.spare_capacity_mut();
    assert!(!spare.is_empty(), "nothing to receive into");
    let bytes = spare.len().min(i32::MAX as usize) as u32;
    let first = if stream.0.drained.get() { POLL_FIRST } else { 0 };
    let entry = opcode::Recv::new(stream.0.fd(), spare.as_mut_ptr().cast(), bytes)
        .ioprio(first)
        .build();
    let keep = Keep::Receive {
        stream: stream.0.clone(),
        into,
    };
    // SAFETY: `keep` owns the socket and the buffer, whose memory does not move with the handle.
    let operation = unsafe { core.submit(entry, keep) };
    async move {
        let outcome = operation.await;
        let (count, more) = (outcome.count(), io_uring::cqueue::sock_nonempty(outcome.flags));
        let Keep::Receive { stream, mut into } = outcome.keep else {
            unreachable!("a receive keeps its buffer")
        };
        stream.drained.set(!more);
        if let Ok(received) = count {
            let filled = into.len() + received;
            assert!(filled <= into.capacity());
            // SAFETY: the kernel wrote `received` bytes behind the old length, within the capacity.
            unsafe { into.set_len(filled) }
        }
        (count, into)
    }
}

/// One send, begun by this call. The kernel goes on by itself after a short one (MSG_WAITALL).
pub(super) fn send(
    core: &Rc<Core>,
    stream: &Stream,
    pieces: Vec<Bytes>,
) -> impl Future<Output = (io::Result<usize>, Vec<Bytes>)> + 'static {
    let operation = submit_send(core, stream, pieces);
    let core = core.clone();
    async move {
        let outcome = operation.await;
        let count = outcome.count();
        let Keep::Send { pieces, message, .. } = outcome.keep else {
            unreachable!("a send keeps its pieces")
        };
        if let Some(message) = message {
            core.give_back_message(message);
        }
        (count, pieces)
    }
}

fn submit_send(core: &Rc<Core>, stream: &Stream, pieces: Vec<Bytes>) -> Operation {
    const FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    let (entry, message) = match pieces.as_slice() {
        [piece] => {
            let bytes = piece.len().min(i32::MAX as usize) as u32;
            let send = opcode::Send::new(stream.0.fd(), piece.as_ptr(), bytes).flags(FLAGS);
            (send.build(), None)
        }
        _ => {
            let mut message = core.take_message();
            message.point_at(&pieces);
            let send = opcode::SendMsg::new(stream.0.fd(), &message.header).flags(FLAGS as u32);
            (send.build(), Some(message))
        }
    };
    let keep = Keep::Send {
        _stream: stream.0.clone(),
        pieces,
        message,
    };
    // SAFETY: `keep` owns the socket, the boxed message with its list, and the pieces, whose bytes do not move.
    unsafe { core.submit(entry, keep) }
}

/// Splices what a pipe holds into the socket, once the socket takes any of it.
pub(super) async fn send_pinned(core: Rc<Core>, stream: Stream, pinned: Pinned) -> io::Result<usize> {
    // A peer that takes all at once does not keep others from their turn.
    yield_once().await;
    loop {
        match pipes::send(&pinned, stream.0.fd.as_raw_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            sent => return sent,
        }
        let entry = opcode::PollAdd::new(stream.0.fd(), libc::POLLOUT as u32).build();
        let keep = Keep::Poll {
            _stream: stream.0.clone(),
        };
        // SAFETY: `keep` owns the socket; no memory is passed.
        unsafe { core.submit(entry, keep) }.await.count()?;
    }
}

pub(super) fn shutdown(stream: &Stream) {
    // SAFETY: the descriptor is open. An error means that the connection is already gone.
    unsafe { libc::shutdown(stream.0.fd.as_raw_fd(), libc::SHUT_RDWR) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_left_to_files() {
        assert!(!is_one_of_the_last(41, 40, 1024));
        assert!(!is_one_of_the_last(777, 40, 1024));
        assert!(is_one_of_the_last(778, 40, 1024));
        assert!(!is_one_of_the_last(1 << 20, 40, limits::UNLIMITED));
        // The limit was lowered since: whatever can be opened is left to files.
        assert!(is_one_of_the_last(20, 40, 20));
    }
}
