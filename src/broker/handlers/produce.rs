//! Produce: validates each batch, hands it to its partition, answers when all are acknowledged.
//!
//! Both acks=1 and acks=all answer when the durability class's end has passed the batch, or with REQUEST_TIMED_OUT when that
//! takes longer than the request's `timeout_ms`; an append that has its place stands, one that still waits for room is
//! given up. It is answered sooner where the directory is late and holds too much memory (`broker::lateness`). acks=0 has no
//! answer; any error closes the connection, which is the only way to tell the client.

use std::borrow::Cow;
use std::sync::Arc;

use crate::base::ids::TopicId;
use crate::base::sync::{Permit, race};
use crate::broker::catalog::Topic;
use crate::broker::connection::Reply;
use crate::broker::dispatch::{Call, Dispatched};
use crate::broker::handlers::items::Named;
use crate::broker::route::{Append, PartitionError};
use crate::cluster::DirectoryId;
use crate::io::Env;
use crate::storage::Appended;
use crate::wire::batch::{
    BatchError, BatchHeader, Codec, DecodeLimits, Limits, RecordChecks, validate_produce_counted,
};
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Records};

/// What the batches of one request may decompress to while they are checked.
const DECODED_BYTES_MAX: u64 = 512 << 20;

/// What is to be told of one topic.
struct TopicAnswer {
    name: Arc<str>,
    id: TopicId,
    partitions: Vec<PartitionAnswer>,
}

struct PartitionAnswer {
    index: i32,
    /// `Ok`: the next of the appends, in order.
    admitted: Result<(), Refusal>,
}

/// Why a batch does not reach its log.
struct Refusal {
    code: ErrorCode,
    message: Option<Cow<'static, str>>,
    record_index: Option<i32>,
}

impl Refusal {
    /// Java's producer sends what is too large in parts; to others the code is final.
    const DECODED_TOO_MUCH: Self = Self {
        code: ErrorCode::MessageTooLarge,
        message: Some(Cow::Borrowed(
            "The batches of one request decompress to more than 512 MiB.",
        )),
        record_index: None,
    };
    const NAMED_AGAIN: Self = Self {
        code: ErrorCode::InvalidRequest,
        message: Some(Cow::Borrowed("The request names the partition more than once.")),
        record_index: None,
    };
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
            record_index: None,
        }
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        Self {
            code: (&error).into(),
            message: Some(error.to_string().into()),
            record_index: error.record_index(),
        }
    }
}

/// A decoded request: its answers in the making, and the batches to append.
struct Plan {
    acks: i16,
    timeout_ms: u64,
    topics: Vec<TopicAnswer>,
    appends: Vec<Append>,
    /// The directory of each append, and its bytes.
    parts: Vec<(DirectoryId, u64)>,
    /// For the answer.
    room: Option<Permit>,
}

/// What the partitions of a request have in common while they are checked.
struct Checked {
    /// Partitions so far.
    count: usize,
    now_ms: i64,
    named: Named,
    decoded_bytes: u64,
}

pub async fn begin<E: Env>(call: Call<E>) -> Dispatched {
    let plan = match plan(&call).await {
        Ok(plan) => plan,
        Err(reply) => {
            return Dispatched {
                last: true,
                ..Dispatched::overlapping(Box::pin(async { reply }))
            };
        }
    };
    let Plan {
        acks,
        timeout_ms,
        topics,
        appends,
        parts,
        room,
    } = plan;
    let bytes: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    call.broker.metrics.produced_bytes.add(bytes);
    let held = call.broker.lateness.hold(parts, call.began);
    let count = appends.len();
    let acknowledged = call.broker.router.append(appends, call.began.plus_ms(timeout_ms)).await;
    Dispatched::overlapping(Box::pin(async move {
        let appended = race(acknowledged, async {
            held.given_up(&call.broker.env, &call.broker.memory).await;
            (0..count).map(|_| Err(PartitionError::TimedOut)).collect()
        });
        let appended = appended.await;
        drop(held);
        call.broker.metrics.produce.record_us(call.elapsed_us());
        if acks == 0 {
            let failed = appended.iter().any(Result::is_err)
                || topics
                    .iter()
                    .any(|topic| topic.partitions.iter().any(|p| p.admitted.is_err()));
            return if failed { Reply::Close } else { Reply::Nothing };
        }
        call.answer(&response(&topics, appended), room)
    }))
}

async fn plan<E: Env>(call: &Call<E>) -> Result<Plan, Reply> {
    let (request, bytes) = call.decode::<ProduceRequest<'_>>()?;
    let room = call.room(bytes).await;
    let mut plan = Plan {
        acks: request.acks,
        timeout_ms: u64::try_from(request.timeout_ms).unwrap_or(0),
        topics: Vec::new(),
        appends: Vec::new(),
        parts: Vec::new(),
        room,
    };
    let whole = match request.acks {
        -1..=1 => Ok(()),
        _ => Err(ErrorCode::InvalidRequiredAcks),
    };
    let mut checked = Checked {
        count: 0,
        now_ms: call.broker.env.wall_ms(),
        named: Named::default(),
        decoded_bytes: 0,
    };
    for data in &request.topic_data {
        let topic = find_topic(call, &data);
        let mut answer = TopicAnswer {
            name: topic
                .as_ref()
                .map_or_else(|_| (&*data.name).into(), |topic| topic.name.clone()),
            id: data.topic_id,
            partitions: Vec::with_capacity(data.partition_data.len()),
        };
        for partition in &data.partition_data {
            let index = partition.index;
            checked.count += 1;
            if takes_long(topic.as_deref().ok(), &partition, checked.count) {
                call.turn().await;
            }
            let admitted = whole
                .and(topic.as_ref().map_err(|code| *code))
                .map_err(Refusal::from)
                .and_then(|topic| admit(call, topic, partition, &mut checked));
            let admitted = admitted.map(|(directory, append)| {
                plan.parts.push((directory, append.batch.len() as u64));
                plan.appends.push(append);
            });
            answer.partitions.push(PartitionAnswer { index, admitted });
        }
        plan.topics.push(answer);
    }
    Ok(plan)
}

/// Partitions of one request that are checked in one go.
const CHECKED_AT_ONCE: usize = 1000;

/// Whether to wait for a turn before the check of the `count`th partition: after many, and where a batch has to be decompressed.
fn takes_long(topic: Option<&Topic>, partition: &PartitionProduceData<'_>, count: usize) -> bool {
    let is_packed = || {
        let records = partition
            .records
            .as_ref()
            .and_then(Records::as_wire)
            .unwrap_or_default();
        BatchHeader::parse(records).is_ok_and(|header| header.codec() != Ok(Codec::None))
    };
    count.is_multiple_of(CHECKED_AT_ONCE) || (topic.is_some_and(|topic| topic.produce.keys_required) && is_packed())
}

fn find_topic<E: Env>(call: &Call<E>, data: &TopicProduceData<'_>) -> Result<std::rc::Rc<Topic>, ErrorCode> {
    let catalog = call.broker.catalog.borrow();
    match call.version {
        ..13 => catalog.by_name(&data.name).ok_or(ErrorCode::UnknownTopicOrPartition),
        _ => catalog.by_id(data.topic_id).ok_or(ErrorCode::UnknownTopicId),
    }
}

/// Checks one partition's batch; it stays where it lies in the request's frame.
fn admit<E: Env>(
    call: &Call<E>,
    topic: &Topic,
    partition: PartitionProduceData<'_>,
    checked: &mut Checked,
) -> Result<(DirectoryId, Append), Refusal> {
    let (id, directory) = topic
        .partition(partition.index)
        .zip(topic.directory(partition.index))
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !checked.named.insert(id) {
        return Err(Refusal::NAMED_AGAIN);
    }
    let records = partition
        .records
        .as_ref()
        .and_then(Records::as_wire)
        .unwrap_or_default();
    let (lateness, is_awaited) = (&call.broker.lateness, call.broker.memory.is_awaited());
    if lateness.refuses(directory, records.len() as u64, is_awaited, call.began) {
        return Err(ErrorCode::RequestTimedOut.into());
    }
    let rules = &topic.produce;
    let mut limits = Limits {
        batch_bytes_max: rules.batch_bytes_max,
        timestamp: rules.timestamps(checked.now_ms),
        records: RecordChecks::HeaderOnly,
        zstd_allowed: call.version >= 7,
        decode: DecodeLimits::default(),
    };
    if rules.keys_required {
        if checked.decoded_bytes > DECODED_BYTES_MAX {
            return Err(Refusal::DECODED_TOO_MUCH);
        }
        limits.records = RecordChecks::StructureAndKeys;
        let left = DECODED_BYTES_MAX - checked.decoded_bytes;
        limits.decode.decompressed_bytes_max = limits.decode.decompressed_bytes_max.min(left);
    }
    let verdict = validate_produce_counted(records, &limits, &mut checked.decoded_bytes);
    if rules.keys_required && checked.decoded_bytes > DECODED_BYTES_MAX {
        return Err(Refusal::DECODED_TOO_MUCH);
    }
    let valid = verdict?;
    if valid.header().is_transactional() {
        // There are no transactions yet: no producer can have begun one.
        return Err(ErrorCode::InvalidTxnState.into());
    }
    let batch = call.body.slice_ref(valid.bytes());
    Ok((directory, Append { id, batch }))
}

fn response(topics: &[TopicAnswer], appended: Vec<Result<Appended, PartitionError>>) -> ProduceResponse<'_> {
    let mut appended = appended.into_iter();
    let responses = topics.iter().map(|topic| TopicProduceResponse {
        name: (&*topic.name).into(),
        topic_id: topic.id,
        partition_responses: topic
            .partitions
            .iter()
            .map(|partition| match &partition.admitted {
                Ok(()) => appended_response(partition.index, appended.next()),
                Err(refusal) => refused_response(partition.index, refusal),
            })
            .collect(),
    });
    ProduceResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn appended_response(
    index: i32,
    appended: Option<Result<Appended, PartitionError>>,
) -> PartitionProduceResponse<'static> {
    match appended.unwrap_or(Err(PartitionError::NotHere)) {
        Ok(appended) => PartitionProduceResponse {
            index,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.append_time_ms,
            log_start_offset: appended.log_start,
            ..Default::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: ErrorCode::from(&error).into(),
            base_offset: -1,
            ..Default::default()
        },
    }
}

fn refused_response(index: i32, refusal: &Refusal) -> PartitionProduceResponse<'_> {
    let record_errors = refusal.record_index.map(|batch_index| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: refusal.message.as_deref().map(Into::into),
    });
    PartitionProduceResponse {
        index,
        error_code: refusal.code.into(),
        base_offset: -1,
        record_errors: record_errors.into_iter().collect(),
        error_message: refusal.message.as_deref().map(Into::into),
        ..Default::default()
    }
}
