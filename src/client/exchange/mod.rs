//! What producer and reader ask of a broker, in whichever protocol its connection speaks.

mod kafka;
mod native;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::admin::{ListedOffset, OffsetSpec};
use super::cluster::Leader;
use super::connection::Connection;
use super::error::ClientError;
use super::metadata::Metadata;
use super::producer::Acks;
use super::reader::ReaderOptions;
use crate::io::Env;
use crate::wire::Protocol;

/// What the broker may take to answer a produce request: it counts from the request, unlike the client's own timeout.
const ANSWER_MS_MAX: u32 = 20_000;

/// A batch on its way to the leader of its partition.
pub struct Parcel<'p> {
    pub topic: &'p str,
    pub leader: Leader,
    pub partition: i32,
    pub batch: Bytes,
}

/// Where a batch went: its offset and the log's time of it, -1 where they are not known.
pub type Place = Result<(i64, i64), ClientError>;

/// A partition to be read from an offset on.
pub struct Want<'w> {
    pub topic: &'w str,
    pub leader: Leader,
    pub partition: i32,
    pub offset: i64,
}

impl Want<'_> {
    fn what(&self) -> String {
        format!("fetch {}-{}", self.topic, self.partition)
    }
}

/// What was read of one.
pub struct Found {
    pub high_watermark: i64,
    pub log_start: i64,
    pub batches: Bytes,
}

pub type Reads = Vec<Result<Found, ClientError>>;

/// Brokers, leaders, and topics (all of them for `None`).
pub async fn metadata<E: Env>(
    connection: &Connection<E>,
    topics: Option<&[&str]>,
    may_create: bool,
) -> Result<Metadata, ClientError> {
    match connection.protocol() {
        Protocol::Kafka => kafka::metadata(connection, topics, may_create).await,
        Protocol::Native => native::metadata(connection, topics, may_create).await,
    }
}

/// Sends batches to one leader and gives for each where it went, in their order.
pub async fn produce<E: Env>(
    connection: &Connection<E>,
    acks: Acks,
    parcels: &[Parcel<'_>],
) -> Result<Vec<Place>, ClientError> {
    match connection.protocol() {
        Protocol::Kafka => kafka::produce(connection, acks, parcels).await,
        Protocol::Native => native::produce(connection, acks, parcels).await,
    }
}

/// Reads partitions of one leader, in the order of `wants`.
pub async fn fetch<E: Env>(
    connection: &Connection<E>,
    options: &ReaderOptions,
    wants: &[Want<'_>],
) -> Result<Reads, ClientError> {
    match connection.protocol() {
        Protocol::Kafka => kafka::fetch(connection, options, wants).await,
        Protocol::Native => native::fetch(connection, options, wants).await,
    }
}

/// The offsets at `spec` of partitions that one broker leads, each with its leader.
pub async fn list_offsets<E: Env>(
    connection: &Connection<E>,
    topic: &str,
    partitions: &[(i32, Leader)],
    spec: OffsetSpec,
) -> Result<BTreeMap<i32, ListedOffset>, ClientError> {
    match connection.protocol() {
        Protocol::Kafka => kafka::list_offsets(connection, topic, partitions, spec).await,
        Protocol::Native => native::list_offsets(connection, topic, partitions, spec).await,
    }
}

/// A new producer's id and epoch.
pub async fn new_producer<E: Env>(connection: &Connection<E>) -> Result<(i64, i16), ClientError> {
    match connection.protocol() {
        Protocol::Kafka => kafka::new_producer(connection).await,
        Protocol::Native => native::new_producer(connection).await,
    }
}

/// An answer that leaves out something of what was asked.
fn silent_on<E: Env>(connection: &Connection<E>, what: String) -> ClientError {
    ClientError::Malformed {
        address: connection.address().to_owned(),
        cause: format!("the answer does not speak of {what}"),
    }
}
