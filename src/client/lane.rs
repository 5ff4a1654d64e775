//! One partition of one producer: the batch that is open, and the one that is on its way.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::base::sync::{Notify, Permit};
use crate::io::Monotonic;
use crate::wire::batch::{BatchBuilder, BatchOptions, Codec, Header};

use super::error::ClientError;
use super::producer::NewRecord;

/// Where a record went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivered {
    pub partition: i32,
    /// `None` with acks=0, and where the broker no longer knows (a duplicate of an old batch).
    pub offset: Option<i64>,
    /// The broker's time where the topic uses LogAppendTime.
    pub append_time_ms: Option<i64>,
}

/// What became of a batch: base offset and append time, as the broker gave them.
type Outcome = Result<(i64, i64), ClientError>;

/// Shared by all records of a batch.
#[derive(Default)]
struct Fate {
    outcome: RefCell<Option<Outcome>>,
    settled: Notify,
}

/// The future fate of one record. Dropping it does not take the record back.
pub struct Delivery {
    fate: Rc<Fate>,
    partition: i32,
    index: i32,
}

impl Delivery {
    /// Waits until the record is acknowledged or given up.
    pub async fn wait(self) -> Result<Delivered, ClientError> {
        self.fate.settled.until(|| self.fate.outcome.borrow().is_some()).await;
        let outcome = self.fate.outcome.borrow().clone();
        let (base_offset, append_time) = outcome.expect("`until` saw an outcome, which is never taken back")?;
        Ok(Delivered {
            partition: self.partition,
            offset: (base_offset >= 0).then(|| base_offset + i64::from(self.index)),
            append_time_ms: (append_time >= 0).then_some(append_time),
        })
    }

    pub fn is_settled(&self) -> bool {
        self.fate.outcome.borrow().is_some()
    }
}

/// The producer id and epoch under which batches are numbered; a new `generation` begins numbering anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub generation: u64,
    pub producer_id: i64,
    pub epoch: i16,
}

/// A finished batch: its bytes never change, however often they are sent.
pub struct Batch {
    pub bytes: Bytes,
    /// When it is given up.
    pub deadline: Monotonic,
    pub in_flight: bool,
    pub attempts: u32,
    /// Not to be sent again before.
    pub not_before: Monotonic,
    /// The identity's generation it is numbered under.
    pub generation: Option<u64>,
    fate: Rc<Fate>,
    _memory: Vec<Permit>,
}

impl Batch {
    fn settle(self, outcome: Outcome) {
        *self.fate.outcome.borrow_mut() = Some(outcome);
        self.fate.settled.notify();
    }
}

pub struct Lane {
    pub topic: Rc<str>,
    pub partition: i32,
    pub sending: Option<Batch>,
    builder: BatchBuilder,
    bytes_max: usize,
    full: bool,
    opened_at: Monotonic,
    fate: Rc<Fate>,
    memory: Vec<Permit>,
    numbering: Option<(u64, i32)>,
}

impl Lane {
    pub fn new(topic: Rc<str>, partition: i32, codec: Codec, bytes_max: usize) -> Self {
        Self {
            topic,
            partition,
            sending: None,
            builder: BatchBuilder::new(BatchOptions {
                codec,
                ..BatchOptions::default()
            }),
            bytes_max,
            full: false,
            opened_at: Monotonic(0),
            fate: Rc::default(),
            memory: Vec::new(),
            numbering: None,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.sending.is_none() && self.builder.record_count() == 0
    }

    /// Adds `record` to the open batch, or gives its memory back when the batch has no room for it.
    pub fn push(
        &mut self,
        record: &NewRecord<'_>,
        now: Monotonic,
        wall_ms: i64,
        memory: Permit,
    ) -> Result<Result<Delivery, Permit>, ClientError> {
        let first = self.builder.record_count() == 0;
        if !first && self.builder.plain_bytes() + record.bytes_max() > self.bytes_max {
            self.full = true;
        }
        if self.full {
            return Ok(Err(memory));
        }
        let headers: &[Header<'_>] = record.headers;
        self.builder
            .push(
                record.timestamp_ms.unwrap_or(wall_ms),
                record.key,
                record.value,
                headers,
            )
            .map_err(|error| ClientError::Invalid(error.to_string()))?;
        if first {
            self.opened_at = now;
        }
        self.full = self.builder.plain_bytes() >= self.bytes_max;
        self.memory.push(memory);
        let index = self.builder.record_count() - 1;
        Ok(Ok(Delivery {
            fate: self.fate.clone(),
            partition: self.partition,
            index,
        }))
    }

    /// When the open batch may be closed; `None` while it is empty or another one is on its way.
    pub fn due(&self, linger_ms: u64) -> Option<Monotonic> {
        if self.sending.is_some() || self.builder.record_count() == 0 {
            return None;
        }
        Some(if self.full {
            self.opened_at
        } else {
            self.opened_at.plus_ms(linger_ms)
        })
    }

    /// Finishes the open batch and makes it the one to be sent, numbered under `identity` if there is one.
    pub fn close_batch(&mut self, identity: Option<Identity>, delivery_ms: u64) -> Result<(), ClientError> {
        assert!(self.sending.is_none(), "two batches of a partition on their way");
        let count = self.builder.record_count();
        let options = self.builder.options_mut();
        if let Some(identity) = identity {
            let next = self
                .numbering
                .filter(|(generation, _)| *generation == identity.generation)
                .map_or(0, |n| n.1);
            options.producer_id = identity.producer_id;
            options.producer_epoch = identity.epoch;
            options.base_sequence = next;
            // Sequences wrap from 2^31 - 1 to 0.
            self.numbering = Some((
                identity.generation,
                (i64::from(next) + i64::from(count)) as i32 & i32::MAX,
            ));
        }
        let bytes = self.builder.finish().map(Bytes::copy_from_slice);
        let batch = Batch {
            bytes: bytes.clone().unwrap_or_default(),
            deadline: self.opened_at.plus_ms(delivery_ms),
            in_flight: false,
            attempts: 0,
            not_before: Monotonic(0),
            generation: identity.map(|identity| identity.generation),
            fate: std::mem::take(&mut self.fate),
            _memory: std::mem::take(&mut self.memory),
        };
        self.full = false;
        match bytes {
            Ok(_) => {
                self.sending = Some(batch);
                Ok(())
            }
            Err(error) => {
                let error = ClientError::Invalid(error.to_string());
                batch.settle(Err(error.clone()));
                Err(error)
            }
        }
    }

    /// Ends the batch on its way.
    pub fn settle(&mut self, outcome: Outcome) {
        if let Some(batch) = self.sending.take() {
            batch.settle(outcome);
        }
    }

    /// Gives up everything, sent or not.
    pub fn fail_all(&mut self, error: &ClientError) {
        self.settle(Err(error.clone()));
        if self.builder.record_count() > 0 {
            self.builder.clear();
            self.full = false;
            self.memory.clear();
            let fate = std::mem::take(&mut self.fate);
            *fate.outcome.borrow_mut() = Some(Err(error.clone()));
            fate.settled.notify();
        }
    }
}
