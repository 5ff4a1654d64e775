//! One client's connection: bytes in, frames off, requests dispatched in order, answers out in the order of the requests.
//!
//! One task per connection runs a reader and a writer side by side. The reader splits frames off the receive buffer
//! (`inbound`) and dispatches each once there is room for it; the writer polls the answers (`replies`) and sends them.
//! Produce requests overlap; any other request is answered before a later one begins, as Kafka's clients expect.
//!
//! Invariants
//! 1. Answers leave in the order of the requests (`replies::Replies` is the only queue; tested there).
//! 2. What is in flight is bounded per connection (`Replies::room`) and per shard (`Memory::request`): past a bound the
//!    reader stops receiving, so TCP stops the client.
//! 3. Bytes of an incomplete frame are at most twice what arrived plus one step, or, where memory is plentiful, as many as the frame
//!    before it had (`Inbound::wants`; tested there), between frames a step and a quarter (`Inbound::next`), and all but the first 4 KiB are counted before they are there (`make_room`).
//! 4. A stop begins no further request and ends a connection when its last answer is sent (`write`).
//! 5. Nothing waits for a peer for ever: `vitals` ends what is overdue, sooner when it holds memory that others wait for.
//!
//! Not for: what a request means (`dispatch`, `native`), which shard serves the connection (`shard`).

mod inbound;
mod replies;
mod vitals;

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use bytes::{Buf, Bytes};

use self::inbound::{Inbound, Next, STEP_BYTES_MIN, Wants};
use self::replies::{Batch, Replies};
pub use self::replies::{Bounds, Reply};
use self::vitals::Vitals;
pub use self::vitals::{Patience, Registry};
use super::Broker;
use super::dispatch::{self, Dispatched};
use super::memory::{Reader, Room, holder_of};
use super::native;
use crate::base::buffer::{Piece, Pinned};
use crate::base::planted::{Bug, planted};
use crate::base::soon::Soon;
use crate::base::sync::{Holder, race};
use crate::io::Env;
use crate::wire::Protocol;

/// Pieces handed to one send: below the kernel's limit for a gathering write.
const SEND_PIECES: usize = 512;
/// About so many bytes are handed to one send: the kernel copies them on this core before anybody else runs (4 MB at once kept
/// others waiting for 5 ms on loopback).
const SEND_BYTES: usize = 256 << 10;

/// Who is on the other side.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// Index into the configured listeners: decides which endpoints the client is told.
    pub listener: usize,
    /// What that listener speaks.
    pub protocol: Protocol,
}

/// What requests know of the connection that they came on.
#[derive(Clone)]
pub struct Client {
    pub peer: Peer,
    pub holder: Holder,
    /// Bytes of answers that it took off our hands, its kernel's and ours included.
    sent_bytes: Rc<Cell<u64>>,
}

/// A peer that was sent so much has read some of it: two sockets do not hold as much on their own.
const PROVEN_BYTES: u64 = 16 << 20;

impl Client {
    fn new(peer: Peer) -> Self {
        Self {
            holder: holder_of(&peer.address),
            peer,
            sent_bytes: Rc::default(),
        }
    }

    /// How its answers are counted.
    pub fn reader(&self) -> Reader {
        Reader {
            holder: self.holder,
            is_proven: self.sent_bytes.get() >= PROVEN_BYTES,
        }
    }
}

struct Connection<E: Env> {
    broker: Rc<Broker<E>>,
    stream: E::Stream,
    client: Client,
    replies: Replies,
    vitals: Rc<Vitals>,
}

/// Serves a connection until either side ends it.
pub async fn serve<E: Env>(broker: Rc<Broker<E>>, stream: E::Stream, peer: Peer) {
    let client = Client::new(peer);
    let vitals = Rc::new(Vitals::new(client.holder));
    vitals.request(broker.env.now());
    let _registration = broker.connections.register(stream.clone(), vitals.clone());
    let connection = Connection {
        replies: Replies::new(broker.bounds),
        broker,
        stream,
        client,
        vitals,
    };
    connection.broker.metrics.connections_opened.add(1);
    let given_up = async {
        connection.vitals.given_up().await;
        Ok(())
    };
    // Pinned here: a race keeps what it is given twice, and there may be tens of thousands of connections.
    let (read, write) = (pin!(connection.read()), pin!(connection.write()));
    let outcome = race(race(read, write), given_up).await;
    if let Err(error) = outcome {
        tracing::debug!(peer = %connection.client.peer.address, %error, "connection failed");
    }
    connection.broker.env.shutdown(&connection.stream);
    connection.broker.metrics.connections_closed.add(1);
}

impl<E: Env> Connection<E> {
    /// Reads and dispatches until the peer ends its side. Completes with the connection; what is to end it later is left to
    /// the writer.
    async fn read(&self) -> io::Result<()> {
        let mut inbound = Inbound::new(self.client.peer.protocol, self.broker.limits.frame_bytes_max);
        let mut room = Room::default();
        while !self.broker.stopping.is_raised() {
            match inbound.next() {
                Err(error) => {
                    tracing::debug!(peer = %self.client.peer.address, %error, "bad frame");
                    self.owe_close();
                    return pending().await;
                }
                Ok(Next::Frame(frame)) => {
                    self.vitals.request(self.broker.env.now());
                    if !self.take(frame, &mut room).await {
                        return pending().await;
                    }
                }
                Ok(Next::Needs(needs)) => {
                    if self.receive(&mut inbound, needs, &mut room).await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
        self.owe_close();
        pending().await
    }

    /// Dispatches one request when there is room for it; `false` when no further one is to be read.
    async fn take(&self, frame: Bytes, room: &mut Room) -> bool {
        let bytes = frame.len();
        let held = self.broker.memory.request(self.client.holder, room, bytes as u64).await;
        if self.replies.is_alone() {
            self.vitals.request_held_up(self.broker.env.now());
        }
        self.replies.room(bytes).await;
        if self.broker.stopping.is_raised() {
            return true;
        }
        self.vitals.request_begins();
        let Dispatched { reply, alone, last } = match self.client.peer.protocol {
            Protocol::Kafka => dispatch::begin(&self.broker, &self.client, frame).await,
            Protocol::Native => native::begin(&self.broker, &self.client, frame).await,
        };
        self.replies.push(reply, Some(held), bytes, alone);
        self.vitals.request_begun(self.replies.len());
        !last
    }

    /// Receives once: how many bytes, 0 when the peer ended its side. `room` pays for the buffer.
    async fn receive(&self, inbound: &mut Inbound, needs: usize, room: &mut Room) -> io::Result<usize> {
        let broker = &self.broker;
        if inbound.buffered_bytes() > 0 {
            self.vitals.partial_frame(broker.env.now());
        }
        let bytes = self.make_room(inbound, needs, room).await;
        let buffer = inbound.lend(bytes);
        room.settle(counted_bytes(inbound.allocated_bytes()));
        let (received, buffer) = broker.env.receive(&self.stream, buffer).await;
        let received = received?;
        inbound.restore(buffer, received);
        broker.metrics.received_bytes.add(received as u64);
        Ok(received)
    }

    /// How large a buffer may be made for `needs` bytes more: as large as it would like to be while memory is plentiful,
    /// otherwise as large as it has to be, once there is room for that. 0: it stays as it is.
    async fn make_room(&self, inbound: &mut Inbound, needs: usize, room: &mut Room) -> usize {
        let (memory, holder) = (&self.broker.memory, self.client.holder);
        if !memory.is_plentiful() || room.counted_bytes() < counted_bytes(inbound.allocated_bytes()) {
            // A buffer that may wait for long, or one that nobody has counted: it was made with the overdraft.
            inbound.give_back();
        }
        let Some(Wants {
            least_bytes,
            wished_bytes,
        }) = inbound.wants(needs)
        else {
            return 0;
        };
        if memory.try_widen(holder, room, counted_bytes(wished_bytes)) {
            return wished_bytes;
        }
        let counted = counted_bytes(least_bytes);
        if !memory.try_grow(holder, room, counted) {
            let paused = self.vitals.pause_reading(self.broker.env.now());
            memory.grow(holder, room, counted).await;
            self.vitals.resume_reading(paused, self.broker.env.now());
        }
        least_bytes
    }

    fn owe_close(&self) {
        self.replies.push(Soon::Known(Reply::Close), None, 0, false);
    }

    async fn write(&self) -> io::Result<()> {
        loop {
            let Batch {
                pieces,
                bytes,
                held,
                close,
            } = self.replies.next().await;
            self.vitals.set_in_flight(self.replies.len());
            self.send(pieces).await?;
            self.broker.metrics.sent_bytes.add(bytes as u64);
            let sent = &self.client.sent_bytes;
            sent.set(sent.get().saturating_add(bytes as u64));
            match planted(Bug::PermitLeaked) {
                true => std::mem::forget(held),
                false => drop(held),
            }
            let is_done = self.replies.is_empty() && !self.vitals.is_beginning();
            let stopped = self.broker.stopping.is_raised() && is_done;
            if close || stopped {
                return Ok(());
            }
        }
    }

    /// Sends all of `pieces`; each operation of bytes that makes progress, and each pinned piece, renews the peer's time.
    async fn send(&self, pieces: Vec<Piece>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Bytes(piece) => bytes.push(piece),
                Piece::Pinned(pinned) => {
                    self.send_bytes(mem::take(&mut bytes)).await?;
                    self.send_pinned(pinned).await?;
                }
            }
        }
        self.send_bytes(bytes).await?;
        self.vitals.send_ends(self.broker.env.now());
        Ok(())
    }

    async fn send_pinned(&self, mut pinned: Pinned) -> io::Result<()> {
        // Once: a splice moves what the socket takes just now, a send of bytes all it can.
        self.vitals.send_begins(self.broker.env.now());
        while !pinned.is_empty() {
            match self.broker.env.send_pinned(&self.stream, &pinned).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => {
                    pinned.advance(sent);
                    self.broker.metrics.sent_pinned_bytes.add(sent as u64);
                }
            }
        }
        Ok(())
    }

    async fn send_bytes(&self, mut pieces: Vec<Bytes>) -> io::Result<()> {
        while !pieces.is_empty() {
            let later = split_off(&mut pieces);
            while !pieces.is_empty() {
                self.vitals.send_begins(self.broker.env.now());
                let (sent, mut back) = self.broker.env.send(&self.stream, pieces).await;
                let sent = sent?;
                if sent == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                skip(&mut back, sent);
                pieces = back;
            }
            pieces = later;
        }
        Ok(())
    }
}

/// Leaves what one operation is to send, and returns the rest. No operation is of nothing: that would be taken for an end.
fn split_off(pieces: &mut Vec<Bytes>) -> Vec<Bytes> {
    pieces.retain(|piece| !piece.is_empty());
    let (mut count, mut bytes) = (0, 0);
    while count < pieces.len().min(SEND_PIECES) && bytes < SEND_BYTES {
        bytes += pieces[count].len();
        count += 1;
    }
    let mut later = pieces.split_off(count);
    if let (Some(last), Some(surplus)) = (pieces.last_mut(), bytes.checked_sub(SEND_BYTES))
        && surplus > 0
    {
        later.insert(0, last.split_off(last.len() - surplus));
    }
    later
}

/// What a receive buffer counts for: a small one comes with the connection.
fn counted_bytes(buffer_bytes: usize) -> u64 {
    if buffer_bytes > STEP_BYTES_MIN {
        buffer_bytes as u64
    } else {
        0
    }
}

/// Drops the first `bytes` of `pieces`, and with them the buffers that are done.
fn skip(pieces: &mut Vec<Bytes>, mut bytes: usize) {
    let mut done = 0;
    for piece in pieces.iter_mut() {
        let step = bytes.min(piece.len());
        piece.advance(step);
        bytes -= step;
        if !piece.is_empty() {
            break;
        }
        done += 1;
    }
    assert_eq!(bytes, 0, "more sent than asked");
    pieces.drain(..done);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimEnv;

    #[test]
    fn a_send_is_of_few_bytes_and_of_few_pieces() {
        let sends = |sizes: &[usize]| {
            let mut pieces: Vec<_> = sizes.iter().map(|bytes| Bytes::from(vec![7; *bytes])).collect();
            let mut sends = Vec::new();
            while !pieces.is_empty() {
                let later = split_off(&mut pieces);
                sends.push(pieces.iter().map(Bytes::len).collect::<Vec<_>>());
                pieces = later;
            }
            sends
        };
        assert_eq!(sends(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(sends(&[5, SEND_BYTES]), [vec![5, SEND_BYTES - 5], vec![5]]);
        assert_eq!(sends(&[SEND_BYTES, 1]), [vec![SEND_BYTES], vec![1]]);
        assert_eq!(sends(&[0, SEND_BYTES, 0]), [vec![SEND_BYTES]]);
        assert_eq!(
            sends(&[2 * SEND_BYTES + 3, 4]),
            [vec![SEND_BYTES], vec![SEND_BYTES], vec![3, 4]]
        );
        assert_eq!(sends(&[1; SEND_PIECES + 2]), [vec![1; SEND_PIECES], vec![1; 2]]);
    }

    fn size_of_future<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Most are quiet.
    #[test]
    fn a_connection_takes_little_memory_of_its_own() {
        let bytes = size_of_future(serve::<SimEnv>);
        assert!(bytes <= 6 << 10, "{bytes}");
    }

    #[test]
    fn a_partial_send_goes_on_where_it_ended() {
        let mut pieces: Vec<Bytes> = ["abc", "", "de", "fgh"]
            .map(|s| Bytes::from_static(s.as_bytes()))
            .into();
        skip(&mut pieces, 4);
        assert_eq!(pieces.concat(), b"efgh");
        skip(&mut pieces, 1);
        assert_eq!(pieces.len(), 1);
        skip(&mut pieces, 3);
        assert!(pieces.is_empty());
    }
}
