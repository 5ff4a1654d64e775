//! From a frame to the handler of its API, and from the handler's response to a frame.

use std::rc::Rc;

use bytes::Bytes;

use super::Broker;
use super::connection::{Peer, Reply, ReplyFuture};
use super::handlers::items::{ITEMS_MAX, Items};
use super::handlers::*;
use crate::base::sync::Permit;
use crate::io::{Env, Monotonic};
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{
    Api, ApiKey, DecodeError, Decoder, Message, RequestError, RequestHeader, encode_response, unsupported_api_versions,
};

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

/// What a request needs of the cluster's authorizer, by resource and operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authorization {
    /// Served to anyone.
    None,
    DescribeCluster,
    DescribeConfigs,
    DescribeTopic,
    ReadTopic,
    WriteTopic,
    CreateTopic,
    DeleteTopic,
    AlterTopic,
    /// IdempotentWrite on the cluster, or Write on any topic; Write on the transactional id.
    IdempotentWrite,
}

/// One request on its way through its handler.
pub struct Call<E: Env> {
    pub broker: Rc<Broker<E>>,
    pub peer: Peer,
    pub api: &'static Api,
    pub version: i16,
    correlation_id: i32,
    /// The request without its header.
    pub body: Bytes,
    pub began: Monotonic,
}

impl<E: Env> Call<E> {
    /// The request frame of `response`.
    pub fn answer<'a, M: Message<'a>>(&self, response: &M, held: Vec<Permit>) -> Reply {
        match encode_response(self.version, self.correlation_id, response) {
            Ok(pieces) => Reply::Frame { pieces, held },
            Err(error) => {
                tracing::warn!(api = self.api.name, version = self.version, %error, "response cannot be encoded");
                Reply::Close
            }
        }
    }

    /// The end of a connection whose request cannot be read.
    pub fn refuse(&self, error: DecodeError) -> Reply {
        let peer = self.peer.address;
        tracing::debug!(%peer, api = self.api.name, version = self.version, %error, "malformed request");
        self.broker.metrics.requests_refused.add(1);
        Reply::Close
    }

    /// The end of a connection whose request names too many `items`.
    pub fn refuse_items(&self, items: usize) -> Reply {
        tracing::debug!(peer = %self.peer.address, api = self.api.name, items, "too many items in one request");
        self.broker.metrics.requests_refused.add(1);
        Reply::Close
    }

    /// Microseconds since the request was whole.
    pub fn elapsed_us(&self) -> u64 {
        self.broker.env.now().0.saturating_sub(self.began.0) / 1000
    }
}

/// Begins the request in `frame`. Completes when every append it asks for has its place in its partition's log.
pub async fn begin<E: Env>(broker: &Rc<Broker<E>>, peer: &Peer, frame: Bytes) -> Dispatched {
    broker.metrics.requests.add(1);
    let mut decoder = Decoder::new(&frame);
    let (header, api) = match RequestHeader::decode(&mut decoder) {
        Ok(decoded) => decoded,
        Err(error) => return misdirected(broker, peer, error),
    };
    let call = Call {
        broker: broker.clone(),
        peer: peer.clone(),
        api,
        version: header.api_version,
        correlation_id: header.correlation_id,
        body: frame.slice(decoder.position()..),
        began: broker.env.now(),
    };
    tracing::trace!(api = api.name, version = call.version, peer = %peer.address, "request");
    route(call).await
}

/// A request that has no handler: only ApiVersions is answered in a version that the client may understand.
fn misdirected<E: Env>(broker: &Broker<E>, peer: &Peer, error: RequestError) -> Dispatched {
    if let RequestError::UnsupportedVersion {
        api, correlation_id, ..
    } = error
        && api.key == ApiKey::ApiVersions
        && let Ok(pieces) = encode_response(0, correlation_id, &unsupported_api_versions())
    {
        let held = Vec::new();
        return Dispatched::alone(Box::pin(async { Reply::Frame { pieces, held } }));
    }
    tracing::debug!(peer = %peer.address, %error, "request refused");
    broker.metrics.requests_refused.add(1);
    Dispatched::close()
}

/// The table: API → how its requests run → handler → what its caller must be allowed.
///
/// `alone` requests are answered before the next one begins; `staged` ones bring their own two stages.
macro_rules! routes {
    ($($key:ident: $kind:ident $request:ident => $handler:path, $authorization:ident;)*) => {
        async fn route<E: Env>(call: Call<E>) -> Dispatched {
            match call.api.key {
                $(ApiKey::$key => routes!(@$kind call, $request, $handler),)*
            }
        }

        /// What the caller of an API must be allowed.
        pub fn authorization(key: ApiKey) -> Authorization {
            match key {
                $(ApiKey::$key => Authorization::$authorization,)*
            }
        }
    };
    (@staged $call:ident, $request:ident, $handler:path) => {
        $handler($call).await
    };
    (@alone $call:ident, $request:ident, $handler:path) => {
        Dispatched::alone(Box::pin(async move {
            let mut decoder = Decoder::new(&$call.body);
            match $request::decode(&mut decoder, $call.version) {
                Ok(request) if request.items() > ITEMS_MAX => $call.refuse_items(request.items()),
                Ok(request) => $call.answer(&$handler(&$call, request).await, Vec::new()),
                Err(error) => $call.refuse(error),
            }
        }))
    };
    (@holding $call:ident, $request:ident, $handler:path) => {
        Dispatched::alone(Box::pin(async move {
            let mut decoder = Decoder::new(&$call.body);
            match $request::decode(&mut decoder, $call.version) {
                Ok(request) if request.items() > ITEMS_MAX => $call.refuse_items(request.items()),
                Ok(request) => {
                    let (response, held) = $handler(&$call, request).await;
                    $call.answer(&response, held)
                }
                Err(error) => $call.refuse(error),
            }
        }))
    };
}

routes! {
    Produce: staged ProduceRequest => produce::begin, WriteTopic;
    Fetch: holding FetchRequest => fetch::handle, ReadTopic;
    ListOffsets: alone ListOffsetsRequest => list_offsets::handle, DescribeTopic;
    Metadata: alone MetadataRequest => metadata::handle, DescribeTopic;
    ApiVersions: alone ApiVersionsRequest => api_versions::handle, None;
    CreateTopics: alone CreateTopicsRequest => create_topics::handle, CreateTopic;
    DeleteTopics: alone DeleteTopicsRequest => delete_topics::handle, DeleteTopic;
    InitProducerId: alone InitProducerIdRequest => init_producer_id::handle, IdempotentWrite;
    OffsetForLeaderEpoch: alone OffsetForLeaderEpochRequest => offset_for_leader_epoch::handle, DescribeTopic;
    DescribeConfigs: alone DescribeConfigsRequest => describe_configs::handle, DescribeConfigs;
    CreatePartitions: alone CreatePartitionsRequest => create_partitions::handle, AlterTopic;
    DescribeCluster: alone DescribeClusterRequest => describe_cluster::handle, DescribeCluster;
    DescribeTopicPartitions: alone DescribeTopicPartitionsRequest => describe_topic_partitions::handle, DescribeTopic;
}
