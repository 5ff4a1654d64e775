//! The native protocol's requests: the same work as Kafka's, told in FlatBuffers (`wire::native`).
//!
//! A header is verified, then what it asks for goes the way of the Kafka API of the same meaning: room for the answer first, answers in
//! the order of the requests, produce requests overlapping. Errors of a partition are Kafka's codes, in its place of the answer.
//!
//! Not for: what appends, reads and look-ups do (`admission`, `fetch`, `route`).

mod describe;
mod fetch;
mod find_offsets;
mod produce;

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use flatbuffers::{UnionWIPOffset, WIPOffset};

use super::Broker;
use super::connection::{Client, Reply};
use super::dispatch::{Dispatched, LARGE_REQUEST_BYTES};
use super::handlers::init_producer_id::next_epoch;
use super::handlers::items::ITEMS_MAX;
use crate::base::buffer::Piece;
use crate::base::ids::TopicId;
use crate::base::soon::Soon;
use crate::base::sync::{Permit, Permits};
use crate::broker::catalog::Topic;
use crate::io::{Env, Monotonic};
use crate::wire::kafka::ErrorCode;
use crate::wire::native::{Builder, Malformed, Parts, TooLong, begin_answer, fb, read_request};

/// What an answer takes besides what is counted by item.
const ANSWER_BYTES: u64 = 512;
/// One request on its way.
struct Call<E: Env> {
    broker: Rc<Broker<E>>,
    client: Client,
    header: Bytes,
    payload: Bytes,
    began: Monotonic,
}

/// The body of an answer, with what stands behind its header.
struct Told {
    builder: Builder,
    kind: fb::Told,
    body: WIPOffset<UnionWIPOffset>,
    payload: Vec<Piece>,
}

impl Told {
    fn new(builder: Builder, kind: fb::Told, body: WIPOffset<UnionWIPOffset>) -> Self {
        Self {
            builder,
            kind,
            body,
            payload: Vec::new(),
        }
    }

    fn failure(code: ErrorCode, text: &str) -> Self {
        let mut builder = Builder::with_capacity(128);
        let args = fb::FailureArgs {
            error: code.code(),
            text: Some(builder.create_string(text)),
        };
        let body = fb::Failure::create(&mut builder, &args).as_union_value();
        Self::new(builder, fb::Told::Failure, body)
    }

    /// The frame that answers request `id`.
    fn frame(self, id: u64) -> Result<Vec<Piece>, TooLong> {
        let payload_bytes = self.payload.iter().map(Piece::len).sum();
        let begin = begin_answer(self.builder, id, self.kind, self.body, payload_bytes)?;
        let mut pieces = Vec::with_capacity(1 + self.payload.len());
        pieces.push(Piece::Bytes(begin));
        pieces.extend(self.payload);
        Ok(pieces)
    }
}

impl<E: Env> Call<E> {
    fn request(&self) -> Result<fb::Request<'_>, Reply> {
        read_request(&self.header).map_err(|error| self.refuse(&error))
    }

    /// What the list of the request holds, unless it is nobody's.
    fn count(&self, items: usize) -> Result<u64, Reply> {
        match items <= ITEMS_MAX {
            true => Ok(items as u64),
            false => Err(self.refuse(&format_args!("it names {items} items"))),
        }
    }

    fn refuse(&self, error: &dyn fmt::Display) -> Reply {
        refuse(&self.broker, &self.client, error);
        Reply::Close
    }

    async fn room(&self, bytes: u64) -> Option<Permit> {
        self.broker
            .memory
            .answer(self.client.reader(), ANSWER_BYTES + bytes)
            .await
    }

    async fn turn(&self) {
        self.broker.turns.turn(&self.broker.env, self.client.holder).await;
    }

    async fn turn_if_large(&self) {
        if self.header.len() > LARGE_REQUEST_BYTES {
            self.turn().await;
        }
    }

    /// The answer `told`, for which there is `room`; `held` is what its payload holds of the shard's memory.
    fn answer(&self, id: u64, told: Told, room: Option<Permit>, mut held: Permits) -> Reply {
        let pieces = match told.frame(id) {
            Ok(pieces) => pieces,
            Err(error) => {
                tracing::debug!(peer = %self.client.peer.address, %error, "a native answer");
                let text = "the answer does not fit into a frame: ask for less at once";
                match Told::failure(ErrorCode::MessageTooLarge, text).frame(id) {
                    Ok(pieces) => pieces,
                    Err(_) => return Reply::Close,
                }
            }
        };
        let bytes = pieces[0].len() as u64;
        held.push(self.broker.memory.made(self.client.reader(), room, bytes));
        Reply::Frame { pieces, held }
    }

    fn topic(&self, id: &fb::TopicId) -> Result<Rc<Topic>, ErrorCode> {
        let catalog = self.broker.catalog.borrow();
        catalog.by_id(TopicId::from(id)).ok_or(ErrorCode::UnknownTopicId)
    }
}

/// Notes that a connection ends for what it sent.
fn refuse<E: Env>(broker: &Broker<E>, client: &Client, error: &dyn fmt::Display) {
    tracing::debug!(peer = %client.peer.address, %error, "malformed native request");
    broker.metrics.requests_refused.add(1);
}

/// Begins the request in `frame`. Completes when every append it asks for has its place in its partition's log.
pub async fn begin<E: Env>(broker: &Rc<Broker<E>>, client: &Client, frame: Bytes) -> Dispatched {
    broker.metrics.requests.add(1);
    let refused = |error: Malformed| {
        refuse(broker, client, &error);
        Dispatched::close()
    };
    let parts = match Parts::of(frame) {
        Ok(parts) => parts,
        Err(error) => return refused(error),
    };
    if parts.header.len() > LARGE_REQUEST_BYTES {
        broker.turns.turn(&broker.env, client.holder).await;
    }
    let kind = match read_request(&parts.header) {
        Ok(request) => request.ask_type(),
        Err(error) => return refused(error),
    };
    let call = Call {
        broker: broker.clone(),
        client: client.clone(),
        header: parts.header,
        payload: parts.payload,
        began: broker.env.now(),
    };
    if kind == fb::Ask::Produce {
        return produce::begin(call).await;
    }
    Dispatched::alone(Soon::later(async move {
        call.turn_if_large().await;
        let answered = match kind {
            fb::Ask::Describe => describe::answer(&call).await,
            fb::Ask::Fetch => fetch::answer(&call).await,
            fb::Ask::FindOffsets => find_offsets::answer(&call).await,
            fb::Ask::NewProducer => new_producer(&call).await,
            _ => unknown(&call),
        };
        match answered {
            Ok(reply) | Err(reply) => reply,
        }
    }))
}

/// A request of a later version of the protocol, or of none.
fn unknown<E: Env>(call: &Call<E>) -> Result<Reply, Reply> {
    let told = Told::failure(ErrorCode::UnsupportedVersion, "this broker does not know the request");
    Ok(call.answer(call.request()?.id(), told, None, Permits::new()))
}

async fn new_producer<E: Env>(call: &Call<E>) -> Result<Reply, Reply> {
    let request = call.request()?;
    let asked = request.ask_as_new_producer();
    let (id, epoch) = asked.map_or((-1, -1), |asked| (asked.producer_id(), asked.producer_epoch()));
    let args = match next_epoch(&call.broker, id, epoch).await {
        Ok((producer_id, producer_epoch)) => fb::ProducerArgs {
            producer_id,
            producer_epoch,
            error: 0,
        },
        Err(code) => fb::ProducerArgs {
            error: code.code(),
            ..Default::default()
        },
    };
    let mut builder = Builder::with_capacity(128);
    let body = fb::Producer::create(&mut builder, &args).as_union_value();
    let told = Told::new(builder, fb::Told::Producer, body);
    Ok(call.answer(request.id(), told, None, Permits::new()))
}
