//! Produce: validates each batch, hands it to its partition, answers when all are acknowledged.
//!
//! Both acks=1 and acks=all answer when the durability class's end has passed the batch, or with REQUEST_TIMED_OUT when that
//! takes longer than the request's `timeout_ms`; an append that has its place stands, one that still waits for room is
//! given up. It is answered sooner where the directory is late and holds too much memory (`broker::lateness`). acks=0 has no
//! answer; any error closes the connection, which is the only way to tell the client.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::base::ids::TopicId;
use crate::base::sync::Permit;
use crate::broker::admission::{Admission, Admitted, Refusal, append};
use crate::broker::catalog::Topic;
use crate::broker::connection::Reply;
use crate::broker::dispatch::{Call, Dispatched};
use crate::broker::route::{Outcomes, PartitionError};
use crate::io::Env;
use crate::storage::Appended;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Records};

/// What is to be told of one topic.
struct TopicAnswer {
    name: Arc<str>,
    id: TopicId,
    partitions: SmallVec<[PartitionAnswer; 1]>,
}

struct PartitionAnswer {
    index: i32,
    /// `Ok`: the next of the appends, in order.
    admitted: Result<(), Refusal>,
}

/// A decoded request: its answers in the making, and the batches to append.
struct Plan {
    acks: i16,
    timeout_ms: u64,
    topics: SmallVec<[TopicAnswer; 1]>,
    admitted: Admitted,
    /// For the answer.
    room: Option<Permit>,
}

pub async fn begin<E: Env>(mut call: Call<E>) -> Dispatched {
    let plan = match plan(&call).await {
        Ok(plan) => plan,
        Err(reply) => return Dispatched::last(reply),
    };
    let Plan {
        acks,
        timeout_ms,
        topics,
        admitted,
        room,
    } = plan;
    // What is placed needs the request no more: its buffer takes the next one.
    call.body = Bytes::new();
    let (broker, began) = (call.broker.clone(), call.began);
    let answer = move |outcomes: Outcomes| {
        if acks == 0 {
            let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
            let failed = outcomes.iter().any(Result::is_err) || partitions.any(|p| p.admitted.is_err());
            return if failed { Reply::Close } else { Reply::Nothing };
        }
        call.answer(&response(&topics, outcomes), room)
    };
    Dispatched::overlapping(append(broker, admitted, began, timeout_ms, answer).await)
}

async fn plan<E: Env>(call: &Call<E>) -> Result<Plan, Reply> {
    let (request, bytes) = call.decode::<ProduceRequest<'_>>()?;
    let room = call.room(bytes).await;
    let whole = match request.acks {
        -1..=1 => Ok(()),
        _ => Err(ErrorCode::InvalidRequiredAcks),
    };
    let mut topics = SmallVec::new();
    let mut admission = Admission::new(&call.broker, call.began, call.version >= 7);
    for data in &request.topic_data {
        let topic = find_topic(call, &data);
        let mut answer = TopicAnswer {
            name: topic
                .as_ref()
                .map_or_else(|_| (&*data.name).into(), |topic| topic.name.clone()),
            id: data.topic_id,
            partitions: SmallVec::with_capacity(data.partition_data.len()),
        };
        for partition in &data.partition_data {
            let index = partition.index;
            let records = partition
                .records
                .as_ref()
                .and_then(Records::as_wire)
                .unwrap_or_default();
            if admission.takes_long(topic.as_deref().ok(), records) {
                call.turn().await;
            }
            let admitted = whole
                .and(topic.as_ref().map_err(|code| *code))
                .map_err(Refusal::from)
                .and_then(|topic| admission.admit(topic, index, &call.body, records));
            answer.partitions.push(PartitionAnswer { index, admitted });
        }
        topics.push(answer);
    }
    Ok(Plan {
        acks: request.acks,
        timeout_ms: u64::try_from(request.timeout_ms).unwrap_or(0),
        topics,
        admitted: admission.admitted(),
        room,
    })
}

fn find_topic<E: Env>(call: &Call<E>, data: &TopicProduceData<'_>) -> Result<std::rc::Rc<Topic>, ErrorCode> {
    let catalog = call.broker.catalog.borrow();
    match call.version {
        ..13 => catalog.by_name(&data.name).ok_or(ErrorCode::UnknownTopicOrPartition),
        _ => catalog.by_id(data.topic_id).ok_or(ErrorCode::UnknownTopicId),
    }
}

fn response(topics: &[TopicAnswer], appended: Outcomes) -> ProduceResponse<'_> {
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
