//! From a frame to the handler of its API, and from the handler's response to a frame.

use std::rc::Rc;

use bytes::Bytes;

use super::Broker;
use super::connection::{Client, Reply, ReplyFuture};
use super::handlers::items::{ITEMS_MAX, Items};
use super::handlers::*;
use crate::base::sync::Permit;
use crate::io::{Env, Monotonic};
use crate::wire::kafka::{
    Api, ApiKey, DecodeError, Decoder, EncodeError, Measured, Message, RequestError, RequestHeader, encode_response,
    unsupported_api_versions,
};

/// A request of more than this takes its turn with others of the kind: it may name thousands of things to be looked up.
const LARGE_REQUEST_BYTES: usize = 16 << 10;

/// A request that has begun.
pub struct Dispatched {
    pub reply: ReplyFuture,
    /// No later request of the connection begins before the answer is known.
    pub alone: bool,
    /// The connection takes no further requests.
    pub last: bool,
}

impl Dispatched {
    pub fn overlapping(reply: ReplyFuture) -> Self {
        Self {
            reply,
            alone: false,
            last: false,
        }
    }

    fn alone(reply: ReplyFuture) -> Self {
        Self {
            reply,
            alone: true,
            last: false,
        }
    }

    pub fn close() -> Self {
        Self {
            reply: Box::pin(async { Reply::Close }),
            alone: false,
            last: true,
        }
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
}

impl<E: Env> Call<E> {
    /// The request, or the end of its connection.
    fn decode<'a, M: Message<'a> + Items>(&'a self) -> Result<M, Reply> {
        let mut decoder = Decoder::new(&self.body);
        let request = M::decode_from(&mut decoder, self.version).map_err(|error| self.refuse(error))?;
        match request.items() {
            0..=ITEMS_MAX => Ok(request),
            items => Err(self.refuse_items(items)),
        }
    }

    /// The frame of `response`, once there is room for it beside what it holds already.
    pub async fn answer<'a, M: Message<'a>>(&self, response: &M, mut held: Vec<Permit>) -> Reply {
        let measured = match Measured::response(self.version, self.correlation_id, response) {
            Ok(measured) => measured,
            Err(error) => return self.fail(error),
        };
        let (memory, reader) = (&self.broker.memory, self.client.reader());
        let bytes = measured.copied_bytes() as u64;
        held.push(match held.is_empty() {
            true => memory.answer(reader, bytes).await,
            false => memory.add_answer(reader, bytes),
        });
        self.framed(measured.encode(), held)
    }

    /// The same if there is room in `room`, or at all. Errors: the bytes to wait for; what they are for is better made again than
    /// kept meanwhile.
    fn try_answer<'a, M: Message<'a>>(&self, response: &M, room: Option<Permit>) -> Result<Reply, u64> {
        let measured = match Measured::response(self.version, self.correlation_id, response) {
            Ok(measured) => measured,
            Err(error) => return Ok(self.fail(error)),
        };
        let bytes = measured.copied_bytes() as u64;
        let held = match room {
            Some(mut room) if room.units() >= bytes => {
                room.resize(bytes);
                Some(room)
            }
            _ => self.broker.memory.try_answer(self.client.reader(), bytes),
        };
        match held {
            Some(held) => Ok(self.framed(measured.encode(), vec![held])),
            None => Err(bytes),
        }
    }

    fn framed(&self, encoded: Result<Vec<Bytes>, EncodeError>, held: Vec<Permit>) -> Reply {
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
    pub fn refuse(&self, error: DecodeError) -> Reply {
        let peer = self.client.peer.address;
        tracing::debug!(%peer, api = self.api.name, version = self.version, %error, "malformed request");
        self.broker.metrics.requests_refused.add(1);
        Reply::Close
    }

    /// The end of a connection whose request names too many `items`.
    pub fn refuse_items(&self, items: usize) -> Reply {
        tracing::debug!(peer = %self.client.peer.address, api = self.api.name, items, "too many items in one request");
        self.broker.metrics.requests_refused.add(1);
        Reply::Close
    }

    /// Microseconds since the request was whole.
    pub fn elapsed_us(&self) -> u64 {
        self.broker.env.now().0.saturating_sub(self.began.0) / 1000
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
        let held = broker.memory.try_answer(client.reader(), bytes).into_iter().collect();
        return Dispatched::alone(Box::pin(async { Reply::Frame { pieces, held } }));
    }
    tracing::debug!(peer = %client.peer.address, %error, "request refused");
    broker.metrics.requests_refused.add(1);
    Dispatched::close()
}

/// The table: API → how its requests run → handler.
///
/// `alone` requests are answered before the next one begins; so are `holding` ones, whose answers hold memory already, and
/// `wide` ones, whose answers may be far larger than they are; `staged` ones bring their own two stages.
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
    (@alone $call:ident, $request:ident, $handler:path) => {
        Dispatched::alone(Box::pin(async move {
            $call.turn_if_large().await;
            let request = match $call.decode() {
                Ok(request) => request,
                Err(refused) => return refused,
            };
            let response = $handler(&$call, request).await;
            $call.answer(&response, Vec::new()).await
        }))
    };
    (@holding $call:ident, $request:ident, $handler:path) => {
        Dispatched::alone(Box::pin(async move {
            $call.turn_if_large().await;
            let request = match $call.decode() {
                Ok(request) => request,
                Err(refused) => return refused,
            };
            let (response, held) = $handler(&$call, request).await;
            $call.answer(&response, held).await
        }))
    };
    (@wide $call:ident, $request:ident, $handler:path) => {
        Dispatched::alone(Box::pin(async move {
            let mut room = None;
            loop {
                $call.turn().await;
                let request = match $call.decode() {
                    Ok(request) => request,
                    Err(refused) => return refused,
                };
                let response = $handler(&$call, request).await;
                let bytes = match $call.try_answer(&response, room.take()) {
                    Ok(reply) => return reply,
                    Err(bytes) => bytes,
                };
                drop(response);
                room = Some($call.broker.memory.answer($call.client.reader(), bytes).await);
            }
        }))
    };
}

routes! {
    Produce: staged ProduceRequest => produce::begin;
    Fetch: holding FetchRequest => fetch::handle;
    ListOffsets: alone ListOffsetsRequest => list_offsets::handle;
    Metadata: wide MetadataRequest => metadata::handle;
    ApiVersions: alone ApiVersionsRequest => api_versions::handle;
    CreateTopics: alone CreateTopicsRequest => create_topics::handle;
    DeleteTopics: alone DeleteTopicsRequest => delete_topics::handle;
    InitProducerId: alone InitProducerIdRequest => init_producer_id::handle;
    OffsetForLeaderEpoch: alone OffsetForLeaderEpochRequest => offset_for_leader_epoch::handle;
    DescribeConfigs: wide DescribeConfigsRequest => describe_configs::handle;
    CreatePartitions: alone CreatePartitionsRequest => create_partitions::handle;
    DescribeCluster: alone DescribeClusterRequest => describe_cluster::handle;
    DescribeTopicPartitions: wide DescribeTopicPartitionsRequest => describe_topic_partitions::handle;
}
