//! The life of a connection: bytes out, bytes in, and its ends.

use std::io;
use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Endpoint, Network, NetworkEvent, Received, Route, Segment, Sent, VecDeque};
use crate::io::sim::core::{Completion, Core, Event};

impl Endpoint {
    pub(super) fn new(process: usize, route: Route) -> Self {
        Self {
            process,
            route,
            inbox: VecDeque::new(),
            unread: 0,
            inbox_bytes: 0,
            ended: false,
            reset: false,
            shut: false,
            receive: None,
            send: None,
        }
    }

    /// Fails what is pending.
    fn cancel(&mut self, error: io::ErrorKind) {
        if let Some((into, done)) = self.receive.take() {
            done.set((Err(error.into()), into));
        }
        if let Some((pieces, done)) = self.send.take() {
            done.set((Err(error.into()), pieces));
        }
    }
}

impl Network {
    pub(in crate::io::sim) fn receive(&mut self, core: &Core, id: u64, into: BytesMut) -> Rc<Completion<Received>> {
        let done = Completion::new();
        match self.endpoints.get_mut(&id) {
            None => done.set((Err(io::ErrorKind::NotConnected.into()), into)),
            Some(endpoint) => {
                assert!(
                    endpoint.receive.is_none(),
                    "two receives in flight on one connection ({})",
                    core.place()
                );
                assert!(
                    into.capacity() > into.len(),
                    "a receive into a buffer without room ({})",
                    core.place()
                );
                endpoint.receive = Some((into, done.clone()));
                self.poke_soon(core, id);
            }
        }
        done
    }

    pub(in crate::io::sim) fn send(&mut self, core: &Core, id: u64, pieces: Vec<Bytes>) -> Rc<Completion<Sent>> {
        let done = Completion::new();
        match self.endpoints.get_mut(&id) {
            None => done.set((Err(io::ErrorKind::NotConnected.into()), pieces)),
            Some(endpoint) => {
                assert!(
                    endpoint.send.is_none(),
                    "two sends in flight on one connection ({})",
                    core.place()
                );
                endpoint.send = Some((pieces, done.clone()));
                self.poke_soon(core, id);
            }
        }
        done
    }

    fn poke_soon(&self, core: &Core, id: u64) {
        let delay = core.network.within(&core.options.network.latency_local);
        core.schedule_in(delay, Event::Network(NetworkEvent::Poke(id)));
    }

    /// Puts a segment on its way, behind all that left before it.
    pub(super) fn transmit(&mut self, core: &Core, route: Route, segment: Segment) {
        let latency = self.latency(core, route.from_host, route.to_host);
        let last = self.last_arrival.entry(route.to).or_default();
        *last = (core.now() + latency).max(*last + 1);
        core.schedule_at(*last, Event::Network(NetworkEvent::Arrive(route, segment)));
    }

    pub(super) fn on_arrival(&mut self, core: &Core, route: Route, segment: Segment) {
        let behind = self.held.iter().any(|(held, _)| held.to == route.to);
        if behind || self.is_blocked(route.from_host, route.to_host) {
            self.held.push((route, segment));
            return;
        }
        let refuses = self.endpoints.get(&route.to).is_none_or(|e| e.shut || e.reset);
        if refuses {
            if matches!(segment, Segment::Data(_)) && !self.dark.contains(&route.to_host) {
                self.transmit(core, route.reversed(), Segment::Reset);
            }
            return;
        }
        let Some(endpoint) = self.endpoints.get_mut(&route.to) else {
            return;
        };
        match segment {
            Segment::Data(data) => {
                endpoint.inbox_bytes += data.len();
                endpoint.inbox.push_back(data);
            }
            Segment::End => endpoint.ended = true,
            Segment::Reset => endpoint.reset = true,
        }
        self.poke(core, route.to);
    }

    /// Completes what can be completed on this end.
    pub(super) fn poke(&mut self, core: &Core, id: u64) {
        self.poke_receive(core, id);
        self.poke_send(core, id);
    }

    fn poke_receive(&mut self, core: &Core, id: u64) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some((mut into, done)) = endpoint.receive.take() else {
            return;
        };
        let mut room = (into.capacity() - into.len()).min(endpoint.inbox_bytes);
        if room == 0 {
            if endpoint.reset {
                done.set((Err(io::ErrorKind::ConnectionReset.into()), into));
            } else if endpoint.ended || endpoint.shut {
                done.set((Ok(0), into));
            } else {
                endpoint.receive = Some((into, done));
            }
            return;
        }
        if room > 1 && core.network.chance(core.options.network.split_ppm) {
            room = 1 + core.network.below(room as u64 - 1) as usize;
        }
        let mut left = room;
        while left > 0
            && let Some(first) = endpoint.inbox.front_mut()
        {
            let step = left.min(first.len());
            into.put_slice(&first[..step]);
            first.advance(step);
            left -= step;
            if first.is_empty() {
                endpoint.inbox.pop_front();
            }
        }
        endpoint.inbox_bytes -= room;
        endpoint.unread -= room;
        let peer = endpoint.route.to;
        done.set((Ok(room), into));
        // The window opened: the peer may go on.
        if self.endpoints.get(&peer).is_some_and(|peer| peer.send.is_some()) {
            self.poke_soon(core, peer);
        }
    }

    fn poke_send(&mut self, core: &Core, id: u64) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some((pieces, done)) = endpoint.send.take() else {
            return;
        };
        let route = endpoint.route;
        if endpoint.reset || endpoint.shut {
            let kind = if endpoint.reset {
                io::ErrorKind::ConnectionReset
            } else {
                io::ErrorKind::BrokenPipe
            };
            return done.set((Err(kind.into()), pieces));
        }
        let total: usize = pieces.iter().map(Bytes::len).sum();
        // A peer that is gone takes all; the answer will be a reset, or silence.
        let unread = self.endpoints.get(&route.to).map_or(0, |peer| peer.unread);
        let mut count = total.min(core.options.network.window_bytes.saturating_sub(unread));
        if count == 0 && total > 0 {
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.send = Some((pieces, done));
            }
            return;
        }
        if count > 1 && core.network.chance(core.options.network.split_ppm) {
            count = 1 + core.network.below(count as u64 - 1) as usize;
        }
        let mut data = BytesMut::with_capacity(count);
        for piece in &pieces {
            let step = piece.len().min(count - data.len());
            data.put_slice(&piece[..step]);
        }
        if let Some(peer) = self.endpoints.get_mut(&route.to) {
            peer.unread += count;
        }
        if count > 0 {
            self.transmit(core, route, Segment::Data(data.freeze()));
        }
        done.set((Ok(count), pieces));
    }

    /// Both directions end; pending operations complete.
    pub(in crate::io::sim) fn shutdown(&mut self, core: &Core, id: u64) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        if !endpoint.shut {
            endpoint.shut = true;
            let (route, broken) = (endpoint.route, endpoint.reset);
            if !broken {
                self.transmit(core, route, Segment::End);
            }
            self.poke_soon(core, id);
        }
    }

    /// The last handle is gone. Unread bytes turn the end into a reset, as in Linux.
    pub(in crate::io::sim) fn close_stream(&mut self, core: &Core, id: u64) {
        self.last_arrival.remove(&id);
        let Some(mut endpoint) = self.endpoints.remove(&id) else {
            return;
        };
        endpoint.cancel(io::ErrorKind::ConnectionAborted);
        // An end that broke has nothing more to say.
        if !endpoint.shut && !endpoint.reset {
            let clean = endpoint.inbox.is_empty();
            let segment = if clean { Segment::End } else { Segment::Reset };
            self.transmit(core, endpoint.route, segment);
        }
    }

    /// The connection breaks at this end, without a word to the other.
    pub(super) fn abort(&mut self, core: &Core, id: u64, error: io::ErrorKind) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            core.trace(4, id);
            endpoint.reset = true;
            endpoint.inbox.clear();
            endpoint.unread -= endpoint.inbox_bytes;
            endpoint.inbox_bytes = 0;
            endpoint.cancel(error);
        }
    }
}
