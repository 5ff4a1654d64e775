//! From a frame to the handler of its API, and from the handler's response to a frame.
//!
//! Whatever an API does, room for its answer comes first: an estimate by what the request names (`Items::answer_bytes`), a permit
//! for that, then the handler, then the permit is made what the answer is. Where no request says how large its answer will be,
//! an answer that there is no room for is made again when there is.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;

use super::Broker;
use super::connection::{Client, Reply};
use super::handlers::items::{ITEMS_MAX, Items};
use super::handlers::*;
use crate::base::buffer::Piece;
use crate::base::soon::Soon;
use crate::base::sync::{Permit, Permits};
use crate::io::{Env, Monotonic};
use crate::wire::kafka::{
    Api, ApiKey, DecodeError, Decoder, EncodeError, Measured, Message, RequestError, RequestHeader, encode_response,
    unsupported_api_versions,
};

/// A request of more than this takes its turn with others of the kind: it may name thousands of things to be looked up.
pub const LARGE_REQUEST_BYTES: usize = 16 << 10;

/// A request that has begun.
pub struct Dispatched {
    pub reply: Soon<Reply>,
    /// No later request of the connection begins before the answer is known.
    pub alone: bool,
    /// The connection takes no further requests.
    pub last: bool,
}

impl Dispatched {
    pub fn overlapping(reply: Soon<Reply>) -> Self {
        Self {
            reply,
            alone: false,
            last: false,
        }
    }

    pub fn alone(reply: Soon<Reply>) -> Self {
        Self {
            reply,
            alone: true,
            last: false,
        }
    }

    /// `reply` to the last request of its connection.
    pub fn last(reply: Reply) -> Self {
        Self {
            reply: Soon::Known(reply),
            alone: false,
            last: true,
        }
    }

    pub fn close() -> Self {
        Self::last(Reply::Close)
    }
}

/// One request on its way through its handler.
pub struct Call<E: Env> {
    pub broker: Rc<Broker<E>>,
    pub client: Client,
    pub api: &'static Api,
    pub version: i16,
    correlation_id: i32,
    /// The request without its header.
    pub body: Bytes,
    pub began: Monotonic,
    /// What its answer holds of the shard's memory besides its own frame.
    held: Cell<Permits>,
}

impl<E: Env> Call<E> {
    /// The request and what its answer may take, or the end of its connection.
    pub fn decode<'a, M: Message<'a> + Items>(&'a self) -> Result<(M, u64), Reply> {
        let mut decoder = Decoder::new(&self.body);
        let request = M::decode_from(&mut decoder, self.version).map_err(|error| self.refuse(error))?;
        let items = request.items();
        if items > ITEMS_MAX {
            return Err(self.refuse_items(items));
        }
        let bytes = request.answer_bytes(items, decoder.position(), &self.broker.sessions.borrow());
        Ok((request, bytes as u64))
    }

    /// Room for an answer of `bytes`, for as long as it takes; none for a small one.
    pub async fn room(&self, bytes: u64) -> Option<Permit> {
        self.broker.memory.answer(self.client.reader(), bytes).await
    }

    /// The answer holds these, too, until it is sent.
    pub fn hold(&self, permits: Permits) {
        self.held.set(permits);
    }

    /// The frame of `response`, for which there is `room`.
    pub fn answer<'a, M: Message<'a>>(&self, response: &M, room: Option<Permit>) -> Reply {
        let measured = match Measured::response(self.version, self.correlation_id, response) {
            Ok(measured) => measured,
            Err(error) => return self.fail(error),
        };
        let bytes = measured.copied_bytes() as u64;
        let made = self.broker.memory.made(self.client.reader(), room, bytes);
        self.framed(measured.encode(), made)
    }

    /// The same if it fits into `room`, or there is room now. Errors: the bytes to wait for; what they are for is better made again
    /// than kept meanwhile.
    fn try_answer<'a, M: Message<'a>>(&self, response: &M, room: Option<Permit>) -> Result<Reply, u64> {
        let measured = match Measured::response(self.version, self.correlation_id, response) {
            Ok(measured) => measured,
            Err(error) => return Ok(self.fail(error)),
        };
        let bytes = measured.copied_bytes() as u64;
        let (memory, reader) = (&self.broker.memory, self.client.reader());
        match memory.made_or_now(reader, room, bytes) {
            Some(made) => Ok(self.framed(measured.encode(), made)),
            None => Err(bytes),
        }
    }

    fn framed(&self, encoded: Result<Vec<Piece>, EncodeError>, made: Permit) -> Reply {
        let mut held = self.held.take();
        held.push(made);
        match encoded {
            Ok(pieces) => Reply::Frame { pieces, held },
            Err(error) => self.fail(error),
        }
    }

    fn fail(&self, error: EncodeError) -> Reply {
        tracing::warn!(api = self.api.name, version = self.version, %error, "response cannot be encoded");
        Reply::Close
    }

    /// Completes when a piece of work that may take long is next.
    pub async fn turn(&self) {
        self.broker.turns.turn(&self.broker.env, self.client.holder).await;
    }

    /// The same if the request is so large that the work may take long.
    async fn turn_if_large(&self) {
        if self.body.len() > LARGE_REQUEST_BYTES {
            self.turn().await;
        }
    }

    /// The end of a connection whose request cannot be read.
    fn refuse(&self, error: DecodeError) -> Reply {
        let peer = self.client.peer.address;
        tracing::debug!(%peer, api = self.api.name, version = self.version, %error, "malformed request");
        self.broker.metrics.requests_refused.add(1);
        Reply::Close
    }

    /// The end of a connection whose request names too many `items`.
    fn refuse_items(&self, items: usize) -> Reply {
        tracing::debug!(peer = %self.client.peer.address, api = self.api.name, items, "too many items in one request");
        self.broker.metrics.requests_refused.add(1);
        Reply::Close
    }
}

/// Begins the request in `frame`. Completes when every append it asks for has its place in its partition's log.
pub async fn begin<E: Env>(broker: &Rc<Broker<E>>, client: &Client, frame: Bytes) -> Dispatched {
    broker.metrics.requests.add(1);
    let mut decoder = Decoder::new(&frame);
    let (header, api) = match RequestHeader::decode(&mut decoder) {
        Ok(decoded) => decoded,
        Err(error) => return misdirected(broker, client, error),
    };
    let call = Call {
        broker: broker.clone(),
        client: client.clone(),
        api,
        version: header.api_version,
        correlation_id: header.correlation_id,
        body: frame.slice(decoder.position()..),
        began: broker.env.now(),
        held: Cell::default(),
    };
    tracing::trace!(api = api.name, version = call.version, peer = %client.peer.address, "request");
    route(call).await
}

/// A request that has no handler: only ApiVersions is answered in a version that the client may understand.
fn misdirected<E: Env>(broker: &Broker<E>, client: &Client, error: RequestError) -> Dispatched {
    if let RequestError::UnsupportedVersion {
        api, correlation_id, ..
    } = error
        && api.key == ApiKey::ApiVersions
        && let Ok(pieces) = encode_response(0, correlation_id, &unsupported_api_versions())
    {
        let bytes = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let pieces = pieces.into_iter().map(Piece::Bytes).collect();
        let held = broker.memory.try_answer(client.reader(), bytes).into_iter().collect();
        return Dispatched::alone(Soon::Known(Reply::Frame { pieces, held }));
    }
    tracing::debug!(peer = %client.peer.address, %error, "request refused");
    broker.metrics.requests_refused.add(1);
    Dispatched::close()
}

/// The table: API → how its requests run → handler.
///
/// `once`: carried out when there is room for the answer, which is no larger than its estimate. `again`: made again when it is.
/// Both are answered before the next request begins. `staged`: brings its own two stages.
macro_rules! routes {
    ($($key:ident: $kind:ident $request:ident => $handler:path;)*) => {
        async fn route<E: Env>(call: Call<E>) -> Dispatched {
            match call.api.key {
                $(ApiKey::$key => routes!(@$kind call, $request, $handler),)*
            }
        }
    };
    (@staged $call:ident, $request:ident, $handler:path) => {
        $handler($call).await
    };
    (@once $call:ident, $request:ident, $handler:path) => {
        Dispatched::alone(Soon::later(async move {
            $call.turn_if_large().await;
            let (request, bytes) = match $call.decode() {
                Ok(decoded) => decoded,
                Err(refused) => return refused,
            };
            let room = $call.room(bytes).await;
            let response = $handler(&$call, request).await;
            $call.answer(&response, room)
        }))
    };
    (@again $call:ident, $request:ident, $handler:path) => {
        Dispatched::alone(Soon::later(async move {
            let mut bytes_min = 0;
            loop {
                $call.turn_if_large().await;
                let (request, bytes) = match $call.decode() {
                    Ok(decoded) => decoded,
                    Err(refused) => return refused,
                };
                let room = $call.room(bytes.max(bytes_min)).await;
                $call.turn().await;
                let response = $handler(&$call, request).await;
                match $call.try_answer(&response, room) {
                    Ok(reply) => return reply,
                    Err(bytes) => bytes_min = bytes,
                }
            }
        }))
    };
}

routes! {
    Produce: staged ProduceRequest => produce::begin;
    Fetch: once FetchRequest => fetch::handle;
    ListOffsets: once ListOffsetsRequest => list_offsets::handle;
    Metadata: again MetadataRequest => metadata::handle;
    ApiVersions: once ApiVersionsRequest => api_versions::handle;
    CreateTopics: once CreateTopicsRequest => create_topics::handle;
    DeleteTopics: once DeleteTopicsRequest => delete_topics::handle;
    InitProducerId: once InitProducerIdRequest => init_producer_id::handle;
    OffsetForLeaderEpoch: once OffsetForLeaderEpochRequest => offset_for_leader_epoch::handle;
    DescribeConfigs: again DescribeConfigsRequest => describe_configs::handle;
    CreatePartitions: once CreatePartitionsRequest => create_partitions::handle;
    DescribeCluster: once DescribeClusterRequest => describe_cluster::handle;
    DescribeTopicPartitions: again DescribeTopicPartitionsRequest => describe_topic_partitions::handle;
}
