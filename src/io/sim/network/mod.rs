//! The network: hosts by address, listeners, and connections of two byte streams each, in order, without loss but with
//! delay, splits, windows, partitions and resets, as TCP shows them to a program.
//!
//! Host `h` has the address `host_address(h)` besides loopback. A partition stops segments on their way; they arrive
//! after it is healed (TCP sends again), or never if the connection is gone by then.
//!
//! Invariants
//! 1. Bytes of one direction arrive in order: a segment is never scheduled before its predecessor (`transmit`).
//! 2. One receive and one send at most are in flight on a connection (`receive`, `send` assert it): two would be
//!    served in no defined order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::core::{Completion, Core, Event};

mod stream;

/// A handle whose last owner is gone; the world closes the thing itself between two steps.
#[derive(Clone, Copy)]
pub(super) enum Closed {
    File { host: usize, inode: u64 },
    Stream(u64),
    Listener(u64),
}

/// Closed handles on their way to the world; also reached from other shards' destructors.
#[derive(Clone, Default)]
pub(super) struct ClosedQueue(Arc<Mutex<Vec<Closed>>>);

impl ClosedQueue {
    pub(super) fn push(&self, closed: Closed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(closed);
    }

    pub(super) fn take(&self) -> Vec<Closed> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Owns one end of a connection.
pub struct StreamHandle {
    pub(super) endpoint: u64,
    pub(super) process: usize,
    closed: ClosedQueue,
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.closed.push(Closed::Stream(self.endpoint));
    }
}

pub(super) type Received = (io::Result<usize>, BytesMut);
pub(super) type Sent = (io::Result<usize>, Vec<Bytes>);
pub(super) type Accepted = io::Result<(StreamHandle, SocketAddr)>;
pub(super) type Connected = io::Result<StreamHandle>;

/// What travels.
pub(super) enum Segment {
    Data(Bytes),
    /// The sender will send no more.
    End,
    Reset,
}

/// A direction of a connection.
#[derive(Clone, Copy)]
pub(super) struct Route {
    from: u64,
    from_host: usize,
    to: u64,
    to_host: usize,
}

impl Route {
    fn reversed(self) -> Self {
        Self {
            from: self.to,
            from_host: self.to_host,
            to: self.from,
            to_host: self.from_host,
        }
    }
}

pub(super) enum NetworkEvent {
    Arrive(Route, Segment),
    /// Look whether pending operations of this end can go on.
    Poke(u64),
    Connect(u64),
    Connected(u64, Connected),
}

struct Endpoint {
    process: usize,
    route: Route,
    inbox: VecDeque<Bytes>,
    /// Bytes in `inbox` and on the way to it: what the sender's window is measured on.
    unread: usize,
    inbox_bytes: usize,
    ended: bool,
    reset: bool,
    shut: bool,
    receive: Option<(BytesMut, Rc<Completion<Received>>)>,
    send: Option<(Vec<Bytes>, Rc<Completion<Sent>>)>,
}

struct Listener {
    process: usize,
    host: usize,
    address: SocketAddr,
    backlog: VecDeque<(StreamHandle, SocketAddr)>,
    acceptors: VecDeque<Rc<Completion<Accepted>>>,
}

struct Attempt {
    process: usize,
    host: usize,
    address: SocketAddr,
    deadline: u64,
    done: Rc<Completion<Connected>>,
}

#[derive(Default)]
pub(super) struct Network {
    pub(super) closed: ClosedQueue,
    endpoints: BTreeMap<u64, Endpoint>,
    listeners: BTreeMap<u64, Listener>,
    attempts: BTreeMap<u64, Attempt>,
    /// When the last segment to an endpoint arrives.
    last_arrival: BTreeMap<u64, u64>,
    /// Segments that a partition stopped.
    held: Vec<(Route, Segment)>,
    blocked: BTreeSet<(usize, usize)>,
    refusing: BTreeSet<usize>,
    /// Hosts without power: they do not even answer with a reset.
    dark: BTreeSet<usize>,
    /// What segments between two hosts (the smaller one first) take longer.
    delays: BTreeMap<(usize, usize), Range<u64>>,
    next: u64,
}

/// The address of a host.
pub fn host_address(host: usize) -> IpAddr {
    let host = host as u32;
    IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + host))
}

fn host_of(address: IpAddr, own: usize, hosts: usize) -> Option<usize> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(own);
    }
    (0..hosts).find(|host| host_address(*host) == address)
}

impl Network {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_blocked(&self, from: usize, to: usize) -> bool {
        from != to && self.blocked.contains(&(from, to))
    }

    // Listening and connecting.

    pub(super) fn listen(&mut self, core: &Core, process: usize, host: usize, at: SocketAddr) -> io::Result<u64> {
        if host_of(at.ip(), host, core.options.hosts) != Some(host) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        // Shards of one process share a port, processes do not.
        let mut others = self
            .listeners
            .values()
            .filter(|l| (l.host, l.process == process) == (host, false));
        if others.any(|listener| listener.address.port() == at.port()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let id = self.id();
        let mut address = at;
        if at.port() == 0 {
            address.set_port(self.free_port(host));
        }
        let listener = Listener {
            process,
            host,
            address,
            backlog: VecDeque::new(),
            acceptors: VecDeque::new(),
        };
        self.listeners.insert(id, listener);
        Ok(id)
    }

    fn free_port(&self, host: usize) -> u16 {
        let used = |port: u16| {
            (self.listeners.values()).any(|listener| listener.host == host && listener.address.port() == port)
        };
        (40_000..=u16::MAX)
            .find(|port| !used(*port))
            .expect("a test has fewer than 25,000 listeners")
    }

    pub(super) fn local_address(&self, listener: u64) -> io::Result<SocketAddr> {
        let listener = self.listeners.get(&listener).ok_or(io::ErrorKind::NotConnected)?;
        Ok(listener.address)
    }

    pub(super) fn accept(&mut self, listener: u64) -> Rc<Completion<Accepted>> {
        let done = Completion::new();
        if let Some(listener) = self.listeners.get_mut(&listener) {
            match listener.backlog.pop_front() {
                Some(connection) => done.set(Ok(connection)),
                None => listener.acceptors.push_back(done.clone()),
            }
        }
        done
    }

    pub(super) fn connect(
        &mut self,
        core: &Core,
        process: usize,
        host: usize,
        address: SocketAddr,
    ) -> Rc<Completion<Connected>> {
        let done = Completion::new();
        let id = self.id();
        let attempt = Attempt {
            process,
            host,
            address,
            deadline: core.now() + core.options.network.connect_timeout,
            done: done.clone(),
        };
        self.attempts.insert(id, attempt);
        let to = host_of(address.ip(), host, core.options.hosts);
        let latency = self.latency(core, host, to.unwrap_or(usize::MAX));
        core.schedule_in(latency, Event::Network(NetworkEvent::Connect(id)));
        done
    }

    fn latency(&self, core: &Core, from: usize, to: usize) -> u64 {
        let options = &core.options.network;
        let (usual, delay) = match from == to {
            true => (&options.latency_local, None),
            false => (&options.latency, self.delays.get(&(from.min(to), from.max(to)))),
        };
        core.network.within(usual) + delay.map_or(0, |delay| core.network.within(delay))
    }

    /// A connection request reached its host, or a partition.
    fn on_connect(&mut self, core: &Core, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (from, address) = (attempt.host, attempt.address);
        let host = host_of(address.ip(), from, core.options.hosts);
        let unreachable = host
            .is_none_or(|host| self.is_blocked(from, host) || self.is_blocked(host, from) || self.dark.contains(&host));
        let Some(host) = host.filter(|_| !unreachable) else {
            if core.now() >= attempt.deadline {
                let attempt = self.attempts.remove(&id);
                attempt
                    .into_iter()
                    .for_each(|a| a.done.set(Err(io::ErrorKind::TimedOut.into())));
            } else {
                let at = (core.now() + core.options.network.connect_timeout / 8).min(attempt.deadline);
                core.schedule_at(at, Event::Network(NetworkEvent::Connect(id)));
            }
            return;
        };
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        match self.pick_listener(core, host, address) {
            Some(listener) => self.establish(core, attempt, host, listener),
            None => {
                let refused = Err(io::ErrorKind::ConnectionRefused.into());
                attempt.done.set(refused);
            }
        }
    }

    fn pick_listener(&self, core: &Core, host: usize, address: SocketAddr) -> Option<u64> {
        if self.refusing.contains(&host) {
            return None;
        }
        let fits = |listener: &Listener| {
            let ip = listener.address.ip();
            listener.host == host
                && listener.address.port() == address.port()
                && listener.backlog.len() < core.options.network.backlog
                && (ip.is_unspecified() || ip == address.ip() || (ip.is_loopback() && address.ip().is_loopback()))
        };
        let fitting: Vec<u64> = (self.listeners.iter())
            .filter(|(_, listener)| fits(listener))
            .map(|(id, _)| *id)
            .collect();
        let index = core.network.below(fitting.len() as u64) as usize;
        fitting.get(index).copied()
    }

    fn establish(&mut self, core: &Core, attempt: Attempt, host: usize, listener: u64) {
        let (client, server) = (self.id(), self.id());
        let route = Route {
            from: client,
            from_host: attempt.host,
            to: server,
            to_host: host,
        };
        let Some(process) = self.listeners.get(&listener).map(|listener| listener.process) else {
            return;
        };
        self.endpoints.insert(client, Endpoint::new(attempt.process, route));
        self.endpoints.insert(server, Endpoint::new(process, route.reversed()));
        let source = if attempt.host == host && attempt.address.ip().is_loopback() {
            attempt.address.ip()
        } else {
            host_address(attempt.host)
        };
        let peer = SocketAddr::new(source, 10_000 + (client % 30_000) as u16);
        let accepted = (self.handle(server, process), peer);
        if let Some(listener) = self.listeners.get_mut(&listener) {
            match listener.acceptors.pop_front() {
                Some(done) => done.set(Ok(accepted)),
                None => listener.backlog.push_back(accepted),
            }
        }
        let id = self.id();
        let connected = self.handle(client, attempt.process);
        let latency = self.latency(core, attempt.host, host);
        self.attempts.insert(id, attempt);
        let event = NetworkEvent::Connected(id, Ok(connected));
        self.last_arrival.insert(client, core.now() + latency);
        core.schedule_in(latency, Event::Network(event));
    }

    fn handle(&self, endpoint: u64, process: usize) -> StreamHandle {
        StreamHandle {
            endpoint,
            process,
            closed: self.closed.clone(),
        }
    }

    pub(super) fn on_event(&mut self, core: &Core, event: NetworkEvent) {
        core.trace(3, self.next);
        match event {
            NetworkEvent::Arrive(route, segment) => self.on_arrival(core, route, segment),
            NetworkEvent::Poke(endpoint) => self.poke(core, endpoint),
            NetworkEvent::Connect(id) => self.on_connect(core, id),
            NetworkEvent::Connected(id, handle) => {
                if let Some(attempt) = self.attempts.remove(&id) {
                    attempt.done.set(handle);
                }
            }
        }
    }

    pub(super) fn close_listener(&mut self, id: u64) {
        // Connections in the backlog are closed by their handles.
        self.listeners.remove(&id);
    }

    // Faults.

    pub(super) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    /// Lifts partitions; what they held starts again.
    pub(super) fn heal(&mut self, core: &Core, lifts: impl Fn(usize, usize) -> bool) {
        self.blocked.retain(|(from, to)| !lifts(*from, *to));
        for (route, segment) in std::mem::take(&mut self.held) {
            if self.is_blocked(route.from_host, route.to_host) {
                self.held.push((route, segment));
            } else {
                self.transmit(core, route, segment);
            }
        }
    }

    pub(super) fn set_refusing(&mut self, host: usize, refuses: bool) {
        if refuses {
            self.refusing.insert(host);
        } else {
            self.refusing.remove(&host);
        }
    }

    pub(super) fn set_delay(&mut self, a: usize, b: usize, delay: Range<u64>) {
        match delay.is_empty() {
            true => drop(self.delays.remove(&(a.min(b), a.max(b)))),
            false => drop(self.delays.insert((a.min(b), a.max(b)), delay)),
        }
    }

    pub(super) fn set_dark(&mut self, host: usize, dark: bool) {
        if dark {
            self.dark.insert(host);
        } else {
            self.dark.remove(&host);
        }
    }

    /// Ends the connections between two hosts: resets both sides, or only makes one side forget (half-open).
    pub(super) fn drop_connections(&mut self, core: &Core, a: usize, b: usize, half_open: bool) -> usize {
        let between = |endpoint: &&Endpoint| endpoint.route.from_host == a && endpoint.route.to_host == b;
        let routes: Vec<Route> = self
            .endpoints
            .values()
            .filter(between)
            .map(|endpoint| endpoint.route)
            .collect();
        for route in &routes {
            self.abort(core, route.from, io::ErrorKind::ConnectionReset);
            if !half_open {
                self.abort(core, route.to, io::ErrorKind::ConnectionReset);
            }
        }
        routes.len()
    }

    /// The kernel closes what a dead process had; after a power cut nobody does.
    pub(super) fn remove_process(&mut self, core: &Core, process: usize, silent: bool) {
        self.attempts.retain(|_, attempt| attempt.process != process);
        self.listeners.retain(|_, listener| listener.process != process);
        let owned = |(id, endpoint): (&u64, &Endpoint)| (endpoint.process == process).then_some(*id);
        let ids: Vec<u64> = self.endpoints.iter().filter_map(owned).collect();
        for id in ids {
            let Some(endpoint) = self.endpoints.remove(&id) else {
                continue;
            };
            if !silent && !endpoint.shut {
                let clean = endpoint.inbox.is_empty() && core.network.coin();
                let segment = if clean { Segment::End } else { Segment::Reset };
                self.transmit(core, endpoint.route, segment);
            }
        }
    }
}
