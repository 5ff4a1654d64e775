//! From batches that a client sent to appends: who checks them, whatever protocol they came in.
//!
//! A batch stays where it lies in the request's frame. What is admitted is handed over by `append`, which completes when every append
//! has its place in its log; the future it gives completes when all are acknowledged, late or given up.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;

use super::Broker;
use super::catalog::Topic;
use super::handlers::items::Named;
use super::lateness::DirectoryBytes;
use super::route::{Append, Appends, Outcomes, PartitionError};
use crate::base::soon::Soon;
use crate::base::sync::race;
use crate::io::{Env, Monotonic};
use crate::wire::batch::{
    BatchError, BatchHeader, Codec, DecodeLimits, Limits, RecordChecks, validate_produce_counted,
};
use crate::wire::kafka::ErrorCode;

/// What the batches of one request may decompress to while they are checked.
const DECODED_BYTES_MAX: u64 = 512 << 20;
/// Partitions of one request that are checked in one go.
const CHECKED_AT_ONCE: usize = 1000;

/// Why a batch does not reach its log.
pub struct Refusal {
    pub code: ErrorCode,
    pub message: Option<Cow<'static, str>>,
    pub record_index: Option<i32>,
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

/// The batches of one request while they are checked.
pub struct Admission<'b, E: Env> {
    broker: &'b Broker<E>,
    began: Monotonic,
    zstd_allowed: bool,
    now_ms: i64,
    /// Partitions so far.
    count: usize,
    named: Named,
    decoded_bytes: u64,
    admitted: Admitted,
}

/// What was admitted, in order.
#[derive(Default)]
pub struct Admitted {
    appends: Appends,
    /// The directory of each append, and its bytes.
    parts: DirectoryBytes,
}

impl<'b, E: Env> Admission<'b, E> {
    pub fn new(broker: &'b Broker<E>, began: Monotonic, zstd_allowed: bool) -> Self {
        Self {
            broker,
            began,
            zstd_allowed,
            now_ms: broker.env.wall_ms(),
            count: 0,
            named: Named::default(),
            decoded_bytes: 0,
            admitted: Admitted::default(),
        }
    }

    /// Counts a partition; whether to wait for a turn before it is checked: after many, and where a batch has to be decompressed.
    pub fn takes_long(&mut self, topic: Option<&Topic>, records: &[u8]) -> bool {
        self.count += 1;
        let is_packed = || BatchHeader::parse(records).is_ok_and(|header| header.codec() != Ok(Codec::None));
        self.count.is_multiple_of(CHECKED_AT_ONCE)
            || (topic.is_some_and(|topic| topic.produce.keys_required) && is_packed())
    }

    /// Checks the batch of one partition; `records` are a part of `frame`.
    pub fn admit(&mut self, topic: &Topic, index: i32, frame: &Bytes, records: &[u8]) -> Result<(), Refusal> {
        let (id, directory) = topic
            .partition(index)
            .zip(topic.directory(index))
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if !self.named.insert(id) {
            return Err(Refusal::NAMED_AGAIN);
        }
        let (lateness, is_awaited) = (&self.broker.lateness, self.broker.memory.is_awaited());
        if lateness.refuses(directory, records.len() as u64, is_awaited, self.began) {
            return Err(ErrorCode::RequestTimedOut.into());
        }
        let rules = &topic.produce;
        let mut limits = Limits {
            batch_bytes_max: rules.batch_bytes_max,
            timestamp: rules.timestamps(self.now_ms),
            records: RecordChecks::HeaderOnly,
            zstd_allowed: self.zstd_allowed,
            decode: DecodeLimits::default(),
        };
        if rules.keys_required {
            if self.decoded_bytes > DECODED_BYTES_MAX {
                return Err(Refusal::DECODED_TOO_MUCH);
            }
            limits.records = RecordChecks::StructureAndKeys;
            let left = DECODED_BYTES_MAX - self.decoded_bytes;
            limits.decode.decompressed_bytes_max = limits.decode.decompressed_bytes_max.min(left);
        }
        let verdict = validate_produce_counted(records, &limits, &mut self.decoded_bytes);
        if rules.keys_required && self.decoded_bytes > DECODED_BYTES_MAX {
            return Err(Refusal::DECODED_TOO_MUCH);
        }
        let valid = verdict?;
        if valid.header().is_transactional() {
            // There are no transactions yet: no producer can have begun one.
            return Err(ErrorCode::InvalidTxnState.into());
        }
        let batch = frame.slice_ref(valid.bytes());
        self.admitted.parts.push((directory, batch.len() as u64));
        self.admitted.appends.push(Append { id, batch });
        Ok(())
    }

    pub fn admitted(self) -> Admitted {
        self.admitted
    }
}

/// Takes what was admitted to its logs. Completes when every append has its place; the outcomes, one of each, in order, are what `answer`
/// makes something of.
pub async fn append<E: Env, T: 'static>(
    broker: Rc<Broker<E>>,
    admitted: Admitted,
    began: Monotonic,
    timeout_ms: u64,
    answer: impl FnOnce(Outcomes) -> T + 'static,
) -> Soon<T> {
    let Admitted { appends, parts } = admitted;
    let bytes: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    broker.metrics.produced_bytes.add(bytes);
    let held = broker.lateness.hold(parts, began);
    let count = appends.len();
    match broker.router.append(appends, began.plus_ms(timeout_ms)).await {
        Soon::Known(outcomes) => {
            broker.metrics.produce.record_us(broker.env.now().us_since(began));
            Soon::Known(answer(outcomes))
        }
        acknowledged => Soon::later(async move {
            let given_up = async {
                held.given_up(&broker.env, &broker.memory).await;
                (0..count).map(|_| Err(PartitionError::TimedOut)).collect()
            };
            let outcomes = race(acknowledged, given_up).await;
            broker.metrics.produce.record_us(broker.env.now().us_since(began));
            answer(outcomes)
        }),
    }
}
