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
//! 3. Bytes of an incomplete frame are at most twice what arrived plus one step (`Inbound::lend`; tested there).
//! 4. A stop begins no further request and ends a connection when its last answer is sent (`write`).
//! 5. Nothing waits for a peer for ever: `vitals` ends what is overdue, sooner when it holds memory that others wait for.
//!
//! Not for: what a request means (`dispatch`), which shard serves the connection (`shard`).

mod inbound;
mod replies;
mod vitals;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Buf, Bytes};

use self::inbound::{Inbound, Next};
use self::replies::{Batch, Replies};
pub use self::replies::{Bounds, Reply, ReplyFuture};
use self::vitals::Vitals;
pub use self::vitals::{Patience, Registry};
use super::dispatch::{self, Dispatched};
use super::{Broker, Memory};
use crate::base::planted::{Bug, planted};
use crate::base::sync::{Permit, race};
use crate::io::Env;

/// Pieces handed to one send: below the kernel's limit for a gathering write.
const SEND_PIECES: usize = 512;

/// Who is on the other side.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// Index into the configured listeners: decides which endpoints the client is told.
    pub listener: usize,
}

struct Connection<E: Env> {
    broker: Rc<Broker<E>>,
    stream: E::Stream,
    peer: Peer,
    replies: Replies,
    vitals: Rc<Vitals>,
}

/// Serves a connection until either side ends it.
pub async fn serve<E: Env>(broker: Rc<Broker<E>>, stream: E::Stream, peer: Peer) {
    let vitals = Rc::new(Vitals::default());
    vitals.request(broker.env.now());
    let _registration = broker.connections.register(stream.clone(), vitals.clone());
    let connection = Connection {
        replies: Replies::new(broker.bounds),
        broker,
        stream,
        peer,
        vitals,
    };
    connection.broker.metrics.connections_opened.add(1);
    let given_up = async {
        connection.vitals.given_up().await;
        Ok(())
    };
    let outcome = race(race(connection.read(), connection.write()), given_up).await;
    if let Err(error) = outcome {
        tracing::debug!(peer = %connection.peer.address, %error, "connection failed");
    }
    connection.broker.env.shutdown(&connection.stream);
    connection.broker.metrics.connections_closed.add(1);
}

impl<E: Env> Connection<E> {
    /// Reads and dispatches until the peer ends its side. Completes with the connection; what is to end it later is left to
    /// the writer.
    async fn read(&self) -> io::Result<()> {
        let mut inbound = Inbound::new(self.broker.limits.frame_bytes_max);
        let mut held = Vec::new();
        while !self.broker.stopping.is_raised() {
            match inbound.next() {
                Err(error) => {
                    tracing::debug!(peer = %self.peer.address, %error, "bad frame");
                    self.owe_close();
                    return pending().await;
                }
                Ok(Next::Frame(frame)) => {
                    self.vitals.request(self.broker.env.now());
                    if !self.take(frame, std::mem::take(&mut held)).await {
                        return pending().await;
                    }
                }
                Ok(Next::Needs(needs)) => {
                    if self.receive(&mut inbound, needs, &mut held).await? == 0 {
                        return Ok(());
                    }
                }
            }
        }
        self.owe_close();
        pending().await
    }

    /// Dispatches one request when there is room for it; `false` when no further one is to be read.
    async fn take(&self, frame: Bytes, mut held: Vec<Permit>) -> bool {
        let bytes = frame.len();
        let covered: u64 = held.iter().map(Permit::units).sum();
        if let Some(missing) = (bytes as u64).checked_sub(covered).filter(|missing| *missing > 0) {
            held.push(self.broker.memory.request(missing).await);
        }
        self.replies.room(bytes).await;
        let Dispatched { reply, alone, last } = dispatch::begin(&self.broker, &self.peer, frame).await;
        self.replies.push(reply, held, bytes, alone);
        self.vitals.set_in_flight(self.replies.len());
        !last
    }

    /// Receives once: how many bytes, 0 when the peer ended its side. `held` pays for what a large frame makes the buffer grow by.
    async fn receive(&self, inbound: &mut Inbound, needs: usize, held: &mut Vec<Permit>) -> io::Result<usize> {
        let broker = &self.broker;
        if inbound.buffered_bytes() > Memory::UNCOUNTED_BYTES {
            let growth = inbound.growth_bytes(needs) as u64;
            if growth > 0 {
                self.vitals.reading_paused();
                held.push(broker.memory.request(growth).await);
            }
        }
        if inbound.buffered_bytes() > 0 {
            self.vitals.partial_frame(broker.env.now());
        }
        let (received, buffer) = broker.env.receive(&self.stream, inbound.lend(needs)).await;
        let received = received?;
        inbound.restore(buffer, received);
        broker.metrics.received_bytes.add(received as u64);
        Ok(received)
    }

    fn owe_close(&self) {
        self.replies
            .push(Box::pin(async { Reply::Close }), Vec::new(), 0, false);
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
            match planted(Bug::PermitLeaked) {
                true => std::mem::forget(held),
                false => drop(held),
            }
            let stopped = self.broker.stopping.is_raised() && self.replies.is_empty();
            if close || stopped {
                return Ok(());
            }
        }
    }

    /// Sends all of `pieces`; each operation that makes progress renews the peer's time.
    async fn send(&self, mut pieces: Vec<Bytes>) -> io::Result<()> {
        while !pieces.is_empty() {
            let later = pieces.split_off(pieces.len().min(SEND_PIECES));
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
        self.vitals.send_ends(self.broker.env.now());
        Ok(())
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
