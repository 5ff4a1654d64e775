//! The same in Kafka's protocol, in the newest version that both sides have.

use std::collections::BTreeMap;

use super::{ANSWER_MS_MAX, Found, Parcel, Place, Reads, Want, silent_on};
use crate::base::ids::TopicId;
use crate::client::admin::{CHANGE_MS_MAX, ListedOffset, OffsetSpec};
use crate::client::cluster::Leader;
use crate::client::connection::{Answer, Connection};
use crate::client::error::ClientError;
use crate::client::metadata::Metadata;
use crate::client::producer::Acks;
use crate::client::reader::ReaderOptions;
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Message, Records, Str};

/// The first version of Produce and of Fetch that names topics by id.
const VERSION_WITH_IDS: i16 = 13;

/// The version of `M` for partitions of these leaders: one that names topics by id only if all ids are known.
fn version<'m, E: Env, M: Message<'m>>(
    connection: &Connection<E>,
    leaders: impl Iterator<Item = Leader>,
) -> Result<i16, ClientError> {
    let mut leaders = leaders;
    let cap = match leaders.any(|leader| leader.topic_id.is_zero()) {
        true => VERSION_WITH_IDS - 1,
        false => i16::MAX,
    };
    connection.version::<M>(cap)
}

pub async fn metadata<E: Env>(
    connection: &Connection<E>,
    topics: Option<&[&str]>,
    may_create: bool,
) -> Result<Metadata, ClientError> {
    let version = connection.version::<MetadataRequest<'_>>(i16::MAX)?;
    let named = |name: &&'_ str| MetadataRequestTopic {
        name: Some(Str::Owned((*name).to_owned())),
        ..Default::default()
    };
    let mut topics: Option<Vec<&str>> = topics.map(<[&str]>::to_vec);
    if version == 0 && topics.is_none() {
        // In version 0 "all" is the empty array, and there is no "none".
        topics = Some(Vec::new());
    }
    let request = MetadataRequest {
        topics: topics.map(|topics| topics.iter().map(named).collect()),
        allow_auto_topic_creation: may_create,
        ..Default::default()
    };
    let answer = connection.ask(&request, version).await?;
    let answer: MetadataResponse<'_> = answer.decode()?;
    ClientError::check(answer.error_code, || "ask for metadata".into(), None)?;
    Ok(Metadata::of(&answer))
}

pub async fn produce<E: Env>(
    connection: &Connection<E>,
    acks: Acks,
    parcels: &[Parcel<'_>],
) -> Result<Vec<Place>, ClientError> {
    let version = version::<E, ProduceRequest<'_>>(connection, parcels.iter().map(|parcel| parcel.leader))?;
    let request = ProduceRequest {
        acks: acks.code(),
        timeout_ms: ANSWER_MS_MAX as i32,
        topic_data: topic_data(parcels).into(),
        ..Default::default()
    };
    if acks == Acks::None {
        connection.tell(&request, version).await?;
        return Ok(parcels.iter().map(|_| Ok((-1, -1))).collect());
    }
    let answer = connection.ask(&request, version).await?;
    let answer: ProduceResponse<'_> = answer.decode()?;
    let mut places: BTreeMap<(String, TopicId, i32), Place> = BTreeMap::new();
    for topic in answer.responses.iter() {
        for result in topic.partition_responses.iter() {
            let key = (topic.name.clone().into_owned(), topic.topic_id, result.index);
            places.insert(key, place_of(&result));
        }
    }
    let by_id = version >= VERSION_WITH_IDS;
    let place = |parcel: &Parcel<'_>| {
        let key = if by_id {
            (String::new(), parcel.leader.topic_id, parcel.partition)
        } else {
            (parcel.topic.to_owned(), TopicId::ZERO, parcel.partition)
        };
        let missing = || Err(silent_on(connection, format!("{}-{}", parcel.topic, parcel.partition)));
        places.remove(&key).unwrap_or_else(missing)
    };
    Ok(parcels.iter().map(place).collect())
}

/// The batches by topic; parcels of one topic stand together.
fn topic_data<'t>(parcels: &[Parcel<'t>]) -> Vec<TopicProduceData<'t>> {
    let mut data: Vec<(&'t str, TopicId, Vec<PartitionProduceData<'t>>)> = Vec::new();
    for parcel in parcels {
        let partition = PartitionProduceData {
            index: parcel.partition,
            records: Some(Records::from(parcel.batch.clone())),
        };
        match data.last_mut() {
            Some((name, _, partitions)) if *name == parcel.topic => partitions.push(partition),
            _ => data.push((parcel.topic, parcel.leader.topic_id, vec![partition])),
        }
    }
    let topic = |(name, topic_id, partitions): (&'t str, TopicId, Vec<_>)| TopicProduceData {
        name: Str::Borrowed(name),
        topic_id,
        partition_data: partitions.into(),
    };
    data.into_iter().map(topic).collect()
}

fn place_of(result: &PartitionProduceResponse<'_>) -> Place {
    match ErrorCode::from_code(result.error_code) {
        Some(ErrorCode::None) => Ok((result.base_offset, result.log_append_time_ms)),
        // Stored by an earlier attempt, at an offset the broker no longer remembers.
        Some(ErrorCode::DuplicateSequenceNumber) => Ok((-1, -1)),
        _ => Err(ClientError::refused(
            "produce",
            result.error_code,
            result.error_message.as_deref(),
        )),
    }
}

pub async fn fetch<E: Env>(
    connection: &Connection<E>,
    options: &ReaderOptions,
    wants: &[Want<'_>],
) -> Result<Reads, ClientError> {
    let version = version::<E, FetchRequest<'_>>(connection, wants.iter().map(|want| want.leader))?;
    let answer = connection.ask(&fetch_request(options, wants), version).await?;
    let response: FetchResponse<'_> = answer.decode()?;
    ClientError::check(
        response.error_code,
        || format!("fetch from {}", connection.address()),
        None,
    )?;
    let mut reads: Vec<Option<Result<Found, ClientError>>> = wants.iter().map(|_| None).collect();
    for topic in response.responses.iter() {
        for data in topic.partitions.iter() {
            let same = |want: &Want<'_>| {
                let named = if version >= VERSION_WITH_IDS {
                    want.leader.topic_id == topic.topic_id
                } else {
                    want.topic == &*topic.topic
                };
                named && want.partition == data.partition_index
            };
            if let Some(place) = wants.iter().position(same) {
                reads[place] = Some(found(&wants[place], &data, &answer));
            }
        }
    }
    let missing = |want: &Want<'_>| silent_on(connection, format!("{}-{}", want.topic, want.partition));
    let whole = reads.into_iter().zip(wants);
    Ok(whole
        .map(|(read, want)| read.unwrap_or_else(|| Err(missing(want))))
        .collect())
}

fn fetch_request<'w>(options: &ReaderOptions, wants: &[Want<'w>]) -> FetchRequest<'w> {
    let mut topics: BTreeMap<&'w str, (TopicId, Vec<FetchPartition>)> = BTreeMap::new();
    for want in wants {
        let (_, partitions) = topics
            .entry(want.topic)
            .or_insert_with(|| (want.leader.topic_id, Vec::new()));
        partitions.push(FetchPartition {
            partition: want.partition,
            current_leader_epoch: want.leader.epoch,
            fetch_offset: want.offset,
            partition_max_bytes: options.partition_bytes_max as i32,
            ..Default::default()
        });
    }
    let topic = |(name, (topic_id, partitions)): (&'w str, (TopicId, Vec<FetchPartition>))| FetchTopic {
        topic: Str::Borrowed(name),
        topic_id,
        partitions: partitions.into(),
    };
    FetchRequest {
        replica_id: -1,
        max_wait_ms: options.wait_ms_max as i32,
        min_bytes: options.bytes_min as i32,
        max_bytes: options.bytes_max as i32,
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    }
}

fn found(want: &Want<'_>, data: &PartitionData<'_>, answer: &Answer) -> Result<Found, ClientError> {
    ClientError::check(data.error_code, || want.what(), None)?;
    let records = data.records.as_ref().and_then(|records| records.as_wire());
    Ok(Found {
        high_watermark: data.high_watermark,
        log_start: data.log_start_offset,
        batches: answer.share(records.unwrap_or_default()),
    })
}

pub async fn list_offsets<E: Env>(
    connection: &Connection<E>,
    topic: &str,
    partitions: &[(i32, Leader)],
    spec: OffsetSpec,
) -> Result<BTreeMap<i32, ListedOffset>, ClientError> {
    let ask = |(index, _): &(i32, Leader)| ListOffsetsPartition {
        partition_index: *index,
        timestamp: spec.timestamp(),
        ..Default::default()
    };
    let asked = ListOffsetsTopic {
        name: Str::Borrowed(topic),
        partitions: partitions.iter().map(ask).collect(),
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![asked].into(),
        timeout_ms: CHANGE_MS_MAX,
        ..Default::default()
    };
    let answer = connection.call(&request).await?;
    let answer: ListOffsetsResponse<'_> = answer.decode()?;
    let mut found = BTreeMap::new();
    for topic_response in answer.topics.iter() {
        for result in topic_response.partitions.iter() {
            let what = || format!("list offsets of {topic}-{}", result.partition_index);
            ClientError::check(result.error_code, what, None)?;
            let listed = ListedOffset::of(result.offset, result.timestamp, result.leader_epoch);
            found.insert(result.partition_index, listed);
        }
    }
    match partitions.iter().find(|(index, _)| !found.contains_key(index)) {
        None => Ok(found),
        Some((index, _)) => Err(silent_on(connection, format!("{topic}-{index}"))),
    }
}

pub async fn new_producer<E: Env>(connection: &Connection<E>) -> Result<(i64, i16), ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let answer = connection.call(&request).await?;
    let answer: InitProducerIdResponse = answer.decode()?;
    ClientError::check(answer.error_code, || "get a producer id".into(), None)?;
    Ok((answer.producer_id, answer.producer_epoch))
}
