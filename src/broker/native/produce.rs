//! Produce: the batches behind the header, each to its partition. `acks` means what it means in Kafka.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Call, Told};
use crate::base::sync::{Permit, Permits};
use crate::broker::admission::{Admission, Admitted, Refusal, append};
use crate::broker::connection::Reply;
use crate::broker::dispatch::Dispatched;
use crate::broker::route::{Outcomes, PartitionError};
use crate::io::Env;
use crate::storage::Appended;
use crate::wire::kafka::ErrorCode;
use crate::wire::native::{Builder, Malformed, Payload, fb};

/// What the answer says of a batch at most: its result and why it was refused.
const ITEM_BYTES: u64 = 320;

/// Texts of one answer; more refusals have their codes alone.
const TEXTS_BYTES_MAX: usize = 1 << 20;

/// A verified request: its answers in the making, and the batches to append.
struct Plan {
    id: u64,
    acks: i8,
    timeout_ms: u64,
    /// Of each batch; `Ok`: the next of the appends, in order.
    admitted: SmallVec<[Result<(), Refusal>; 1]>,
    appends: Admitted,
    room: Option<Permit>,
}

pub async fn begin<E: Env>(mut call: Call<E>) -> Dispatched {
    let plan = match plan(&call).await {
        Ok(plan) => plan,
        Err(reply) => return Dispatched::last(reply),
    };
    // What is placed needs the request no more: its buffer takes the next one.
    (call.header, call.payload) = (Bytes::new(), Bytes::new());
    let (broker, began) = (call.broker.clone(), call.began);
    let (id, acks, admitted, room) = (plan.id, plan.acks, plan.admitted, plan.room);
    let answer = move |outcomes: Outcomes| {
        if acks == 0 {
            let failed = outcomes.iter().any(Result::is_err) || admitted.iter().any(Result::is_err);
            return if failed { Reply::Close } else { Reply::Nothing };
        }
        call.answer(id, told(&admitted, outcomes), room, Permits::new())
    };
    Dispatched::overlapping(append(broker, plan.appends, began, plan.timeout_ms, answer).await)
}

async fn plan<E: Env>(call: &Call<E>) -> Result<Plan, Reply> {
    call.turn_if_large().await;
    let request = call.request()?;
    let Some(produce) = request.ask_as_produce() else {
        return Err(Reply::Close);
    };
    let batches = produce.batches();
    let items = call.count(batches.len())?;
    let room = call.room(items * ITEM_BYTES).await;
    let whole = match produce.acks() {
        -1..=1 => Ok(()),
        _ => Err(ErrorCode::InvalidRequiredAcks),
    };
    // Before anything is checked: of a request that is cut off nothing is carried out.
    let bytes: u64 = batches.iter().map(|batch| u64::from(batch.bytes())).sum();
    if bytes != call.payload.len() as u64 {
        return Err(call.refuse(&Malformed::Payload));
    }
    let mut payload = Payload::new(call.payload.clone());
    let mut admission = Admission::new(&call.broker, call.began, true);
    let mut admitted = SmallVec::with_capacity(batches.len());
    for batch in batches {
        let records = payload.take(batch.bytes()).map_err(|error| call.refuse(&error))?;
        let topic = call.topic(batch.topic());
        if admission.takes_long(topic.as_deref().ok(), &records) {
            call.turn().await;
        }
        let one = whole
            .and(topic.as_ref().map_err(|code| *code))
            .map_err(Refusal::from)
            .and_then(|topic| admission.admit(topic, batch.partition(), &records, &records));
        admitted.push(one);
    }
    Ok(Plan {
        id: request.id(),
        acks: produce.acks(),
        timeout_ms: u64::from(produce.timeout_ms()),
        admitted,
        appends: admission.admitted(),
        room,
    })
}

fn told(admitted: &[Result<(), Refusal>], appended: Outcomes) -> Told {
    let mut appended = appended.into_iter();
    let mut builder = Builder::with_capacity(128 + 32 * admitted.len());
    let mut refusals = Vec::new();
    let mut results = Vec::with_capacity(admitted.len());
    for (index, admitted) in admitted.iter().enumerate() {
        results.push(match admitted {
            Ok(()) => result(appended.next().unwrap_or(Err(PartitionError::NotHere))),
            Err(refusal) => {
                if let Some(text) = refusal
                    .message
                    .as_ref()
                    .filter(|_| builder.unfinished_data().len() < TEXTS_BYTES_MAX)
                {
                    let text = Some(builder.create_string(bounded(text)));
                    let index = index as u32;
                    refusals.push(fb::Refusal::create(&mut builder, &fb::RefusalArgs { index, text }));
                }
                failed(refusal.code)
            }
        });
    }
    let args = fb::ProducedArgs {
        results: Some(builder.create_vector(&results)),
        refusals: (!refusals.is_empty()).then(|| builder.create_vector(&refusals)),
    };
    let body = fb::Produced::create(&mut builder, &args).as_union_value();
    Told::new(builder, fb::Told::Produced, body)
}

/// What is told of a refusal at most: the room for the answer was taken before there was one.
fn bounded(text: &str) -> &str {
    const TEXT_BYTES_MAX: usize = 240;
    let mut ends = (0..=text.len().min(TEXT_BYTES_MAX)).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

fn result(appended: Result<Appended, PartitionError>) -> fb::Appended {
    match appended {
        Ok(appended) => fb::Appended::new(appended.base_offset, appended.append_time_ms, appended.log_start, 0),
        Err(error) => failed(ErrorCode::from(&error)),
    }
}

fn failed(code: ErrorCode) -> fb::Appended {
    fb::Appended::new(-1, -1, -1, code.code())
}
