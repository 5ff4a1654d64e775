//! The same in the native protocol.

use std::collections::BTreeMap;

use bytes::Bytes;
use flatbuffers::{UnionWIPOffset, WIPOffset};

use super::{ANSWER_MS_MAX, Found, Parcel, Place, Reads, Want, silent_on};
use crate::base::ids::TopicId;
use crate::client::admin::{ListedOffset, OffsetSpec};
use crate::client::cluster::Leader;
use crate::client::connection::Connection;
use crate::client::error::ClientError;
use crate::client::metadata::{Broker, Metadata, Partition, Topic, error_of};
use crate::client::producer::Acks;
use crate::client::reader::ReaderOptions;
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::native::{Builder, Malformed, Parts, Payload, begin_request, fb, read_answer};

/// A request in the making: its kind and body.
type Ask = (fb::Ask, WIPOffset<UnionWIPOffset>);

/// The pieces of a request's frame.
fn frame(builder: Builder, id: u64, ask: Ask, payload: &[Bytes]) -> Result<Vec<Bytes>, ClientError> {
    let payload_bytes = payload.iter().map(Bytes::len).sum();
    let begin = begin_request(builder, id, ask.0, ask.1, payload_bytes);
    let begin = begin.map_err(|error| ClientError::Invalid(error.to_string()))?;
    let mut pieces = vec![begin];
    pieces.extend_from_slice(payload);
    Ok(pieces)
}

/// A received answer.
struct Told<'c> {
    parts: Parts,
    address: &'c str,
}

impl Told<'_> {
    fn malformed(&self, cause: impl ToString) -> ClientError {
        ClientError::Malformed {
            address: self.address.to_owned(),
            cause: cause.to_string(),
        }
    }

    /// The answer, unless it says that nothing was done.
    fn read(&self, what: &str) -> Result<fb::Answer<'_>, ClientError> {
        let answer = read_answer(&self.parts.header).map_err(|error| self.malformed(error))?;
        match answer.told_as_failure() {
            None => Ok(answer),
            Some(failure) => Err(ClientError::refused(what, failure.error(), Some(failure.text()))),
        }
    }

    /// The answer is of another kind than what was asked.
    fn strange(&self) -> ClientError {
        self.malformed("the answer is not to what was asked")
    }
}

async fn ask<'c, E: Env>(
    connection: &'c Connection<E>,
    what: &'static str,
    builder: Builder,
    ask: Ask,
    payload: &[Bytes],
) -> Result<Told<'c>, ClientError> {
    let answer = connection.exchange(what, |id| frame(builder, id, ask, payload)).await?;
    let address = connection.address();
    let malformed = |error: Malformed| ClientError::Malformed {
        address: address.to_owned(),
        cause: error.to_string(),
    };
    Ok(Told {
        parts: Parts::of(answer).map_err(malformed)?,
        address,
    })
}

pub async fn metadata<E: Env>(
    connection: &Connection<E>,
    topics: Option<&[&str]>,
    may_create: bool,
) -> Result<Metadata, ClientError> {
    let mut builder = Builder::new();
    let names = topics.map(|topics| {
        let names: Vec<_> = topics.iter().map(|name| builder.create_string(name)).collect();
        builder.create_vector(&names)
    });
    let args = fb::DescribeArgs {
        topics: names,
        may_create,
    };
    let body = fb::Describe::create(&mut builder, &args).as_union_value();
    let told = ask(connection, "Describe", builder, (fb::Ask::Describe, body), &[]).await?;
    let answer = told.read("ask for metadata")?;
    let described = answer.told_as_described().ok_or_else(|| told.strange())?;
    let broker = |node: fb::Node<'_>| Broker {
        node_id: node.id(),
        host: node.host().to_owned(),
        port: node.port(),
        rack: node.rack().map(str::to_owned),
    };
    let brokers = described.nodes().iter().map(broker);
    Ok(Metadata {
        cluster_id: described.cluster_id().map(str::to_owned),
        controller_id: (described.controller() >= 0).then(|| described.controller()),
        brokers: brokers.map(|broker| (broker.node_id, broker)).collect(),
        topics: described
            .topics()
            .iter()
            .map(|topic| (topic.name().unwrap_or_default().to_owned(), topic_of(&topic)))
            .collect(),
        request_bytes_max: Some(described.frame_bytes_max() as usize),
    })
}

fn topic_of(topic: &fb::Topic<'_>) -> Topic {
    let partition = |(index, partition): (usize, &fb::PartitionOf)| Partition {
        index: index as i32,
        leader: (partition.leader() >= 0).then(|| partition.leader()),
        leader_epoch: partition.leader_epoch(),
        // Of replicas the leader alone is told.
        replicas: (partition.leader() >= 0)
            .then(|| partition.leader())
            .into_iter()
            .collect(),
        isr: (partition.leader() >= 0)
            .then(|| partition.leader())
            .into_iter()
            .collect(),
        offline: Vec::new(),
        error: error_of(partition.error()),
    };
    let partitions = topic.partitions().into_iter().flatten().enumerate();
    Topic {
        name: topic.name().unwrap_or_default().to_owned(),
        id: topic.id().map_or(TopicId::ZERO, TopicId::from),
        is_internal: topic.is_internal(),
        partitions: partitions.map(partition).collect(),
        error: error_of(topic.error()),
    }
}

pub async fn produce<E: Env>(
    connection: &Connection<E>,
    acks: Acks,
    parcels: &[Parcel<'_>],
) -> Result<Vec<Place>, ClientError> {
    let mut builder = Builder::with_capacity(128 + 24 * parcels.len());
    let append = |parcel: &Parcel<'_>| {
        let bytes = parcel.batch.len() as u32;
        fb::Append::new(&parcel.leader.topic_id.into(), parcel.partition, bytes)
    };
    let appends: Vec<_> = parcels.iter().map(append).collect();
    let args = fb::ProduceArgs {
        acks: acks.code() as i8,
        timeout_ms: ANSWER_MS_MAX,
        batches: Some(builder.create_vector(&appends)),
    };
    let body = fb::Produce::create(&mut builder, &args).as_union_value();
    let request = (fb::Ask::Produce, body);
    let payload: Vec<Bytes> = parcels.iter().map(|parcel| parcel.batch.clone()).collect();
    if acks == Acks::None {
        let told = connection.exchange_nothing("Produce", |id| frame(builder, id, request, &payload));
        told.await?;
        return Ok(parcels.iter().map(|_| Ok((-1, -1))).collect());
    }
    let told = ask(connection, "Produce", builder, request, &payload).await?;
    let answer = told.read("produce")?;
    let produced = answer.told_as_produced().ok_or_else(|| told.strange())?;
    let results = produced.results();
    let refusals = produced.refusals().into_iter().flatten();
    let texts: BTreeMap<u32, &str> = refusals.map(|refusal| (refusal.index(), refusal.text())).collect();
    let place = |(index, parcel): (usize, &Parcel<'_>)| {
        if index >= results.len() {
            return Err(silent_on(connection, format!("{}-{}", parcel.topic, parcel.partition)));
        }
        place_of(results.get(index), texts.get(&(index as u32)).copied())
    };
    Ok(parcels.iter().enumerate().map(place).collect())
}

fn place_of(result: &fb::Appended, text: Option<&str>) -> Place {
    match ErrorCode::from_code(result.error()) {
        Some(ErrorCode::None) => Ok((result.base_offset(), result.append_time_ms())),
        // Stored by an earlier attempt, at an offset the broker no longer remembers.
        Some(ErrorCode::DuplicateSequenceNumber) => Ok((-1, -1)),
        _ => Err(ClientError::refused("produce", result.error(), text)),
    }
}

pub async fn fetch<E: Env>(
    connection: &Connection<E>,
    options: &ReaderOptions,
    wants: &[Want<'_>],
) -> Result<Reads, ClientError> {
    let mut builder = Builder::with_capacity(128 + 40 * wants.len());
    let position = |want: &Want<'_>| {
        let (topic, bytes_max) = (want.leader.topic_id.into(), options.partition_bytes_max);
        fb::Position::new(&topic, want.partition, want.leader.epoch, want.offset, bytes_max, -1)
    };
    let positions: Vec<_> = wants.iter().map(position).collect();
    let args = fb::FetchArgs {
        wait_ms: options.wait_ms_max,
        bytes_min: options.bytes_min,
        bytes_max: options.bytes_max,
        positions: Some(builder.create_vector(&positions)),
    };
    let body = fb::Fetch::create(&mut builder, &args).as_union_value();
    let told = ask(connection, "Fetch", builder, (fb::Ask::Fetch, body), &[]).await?;
    let answer = told.read("fetch")?;
    let fetched = answer.told_as_fetched().ok_or_else(|| told.strange())?;
    let parts = fetched.parts();
    if parts.len() < wants.len() {
        return Err(silent_on(connection, "all that was asked for".to_owned()));
    }
    let mut payload = Payload::new(told.parts.payload.clone());
    let mut reads = Vec::with_capacity(wants.len());
    for (part, want) in parts.iter().zip(wants) {
        let batches = payload.take(part.bytes()).map_err(|error| told.malformed(error))?;
        let checked = ClientError::check(part.error(), || want.what(), None);
        reads.push(checked.map(|()| Found {
            high_watermark: part.high_watermark(),
            log_start: part.log_start(),
            batches,
        }));
    }
    Ok(reads)
}

pub async fn list_offsets<E: Env>(
    connection: &Connection<E>,
    topic: &str,
    partitions: &[(i32, Leader)],
    spec: OffsetSpec,
) -> Result<BTreeMap<i32, ListedOffset>, ClientError> {
    let mut builder = Builder::with_capacity(128 + 32 * partitions.len());
    let query = |(index, leader): &(i32, Leader)| {
        fb::TimeQuery::new(&leader.topic_id.into(), *index, leader.epoch, spec.timestamp())
    };
    let queries: Vec<_> = partitions.iter().map(query).collect();
    let args = fb::FindOffsetsArgs {
        queries: Some(builder.create_vector(&queries)),
    };
    let body = fb::FindOffsets::create(&mut builder, &args).as_union_value();
    let told = ask(connection, "FindOffsets", builder, (fb::Ask::FindOffsets, body), &[]).await?;
    let answer = told.read("list offsets")?;
    let found = answer.told_as_found_offsets().ok_or_else(|| told.strange())?.found();
    if found.len() < partitions.len() {
        return Err(silent_on(connection, format!("all partitions of {topic}")));
    }
    let mut offsets = BTreeMap::new();
    for (result, (index, _)) in found.iter().zip(partitions) {
        ClientError::check(result.error(), || format!("list offsets of {topic}-{index}"), None)?;
        let listed = ListedOffset::of(result.offset(), result.timestamp_ms(), result.leader_epoch());
        offsets.insert(*index, listed);
    }
    Ok(offsets)
}

pub async fn new_producer<E: Env>(connection: &Connection<E>) -> Result<(i64, i16), ClientError> {
    let mut builder = Builder::new();
    let body = fb::NewProducer::create(&mut builder, &fb::NewProducerArgs::default()).as_union_value();
    let told = ask(connection, "NewProducer", builder, (fb::Ask::NewProducer, body), &[]).await?;
    let answer = told.read("get a producer id")?;
    let producer = answer.told_as_producer().ok_or_else(|| told.strange())?;
    ClientError::check(producer.error(), || "get a producer id".into(), None)?;
    Ok((producer.producer_id(), producer.producer_epoch()))
}
