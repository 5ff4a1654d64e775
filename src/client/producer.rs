//! The producer: records in, batches out, an acknowledgement for each record.
//!
//! Per partition one batch is on its way and one is filling, so batches grow by themselves as the broker gets slower, and
//! retries keep the order. With idempotence (the default) every batch is numbered and a retried one is stored once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::sync::{Budget, Notify};
use crate::io::{Env, Queue};
use crate::wire::batch::{Codec, Header};

use super::cluster::Client;
use super::error::ClientError;
use super::lane::{Delivered, Delivery, Identity, Lane};
use super::partitioner::partition_of_key;
use super::sender;

/// Who must have a batch before it counts as delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// Nobody: offsets are not known, losses not noticed.
    None,
    Leader,
    All,
}

impl Acks {
    pub fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ProducerOptions {
    pub acks: Acks,
    /// Numbers batches so that a retry is stored once (needs `Acks::All`).
    pub idempotent: bool,
    pub codec: Codec,
    /// How long an open batch waits for more records.
    pub linger_ms: u64,
    /// Uncompressed bytes of a batch; a larger record is a batch of its own.
    pub batch_bytes_max: usize,
    /// Batch bytes per request.
    pub request_bytes_max: usize,
    /// Bytes of all unacknowledged records.
    pub memory_bytes: u64,
    /// How long a record is retried.
    pub delivery_ms_max: u64,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            codec: Codec::None,
            linger_ms: 0,
            batch_bytes_max: 256 << 10,
            request_bytes_max: 4 << 20,
            memory_bytes: 32 << 20,
            delivery_ms_max: 120_000,
        }
    }
}

/// A record to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'r> {
    pub key: Option<&'r [u8]>,
    pub value: Option<&'r [u8]>,
    pub headers: &'r [Header<'r>],
    /// Milliseconds since 1970; now, if absent.
    pub timestamp_ms: Option<i64>,
}

impl NewRecord<'_> {
    /// An upper bound of its bytes within a batch.
    pub fn bytes_max(&self) -> usize {
        let of = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) + 5;
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.key.len() + 5 + of(header.value))
            .sum();
        of(self.key) + of(self.value) + headers + 30
    }
}

pub(super) type SharedLane = Rc<RefCell<Lane>>;

pub(super) struct State<E: Env> {
    pub client: Client<E>,
    pub options: ProducerOptions,
    /// By topic and partition.
    pub lanes: RefCell<BTreeMap<Rc<str>, BTreeMap<i32, SharedLane>>>,
    /// There may be something to send.
    pub work: Notify,
    /// A batch was closed or settled.
    pub progress: Notify,
    pub identity: Cell<Option<Identity>>,
    /// How many wait for open batches to go out at once.
    pub urgent: Cell<u32>,
    pub closing: Cell<bool>,
    pub refreshing: Cell<bool>,
    memory: Rc<Budget>,
    /// Records without a key go to one partition until its batch is closed (KIP-480): its index modulo the count.
    sticky: Cell<u32>,
}

impl<E: Env> State<E> {
    pub fn all_lanes(&self) -> Vec<SharedLane> {
        self.lanes
            .borrow()
            .values()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    pub fn move_sticky(&self) {
        self.sticky.set(self.sticky.get().wrapping_add(1));
    }

    fn lane(&self, topic: &str, partition: i32) -> SharedLane {
        if let Some(lane) = self.lanes.borrow().get(topic).and_then(|lanes| lanes.get(&partition)) {
            return lane.clone();
        }
        let mut lanes = self.lanes.borrow_mut();
        let name: Rc<str> = lanes
            .get_key_value(topic)
            .map_or_else(|| topic.into(), |(name, _)| name.clone());
        let lane = Lane::new(
            name.clone(),
            partition,
            self.options.codec,
            self.options.batch_bytes_max,
        );
        let lane = Rc::new(RefCell::new(lane));
        lanes.entry(name).or_default().insert(partition, lane.clone());
        lane
    }

    async fn partition_count(&self, topic: &str) -> Result<i32, ClientError> {
        let known = self
            .client
            .metadata()
            .topics
            .get(topic)
            .map_or(0, |topic| topic.partitions.len());
        let count = if known > 0 {
            known
        } else {
            self.client.topic(topic).await?.partitions.len()
        };
        match i32::try_from(count) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(ClientError::Invalid(format!("topic {topic} has {count} partitions"))),
        }
    }
}

/// Counts one waiter that wants open batches sent now.
struct Urgency<'s>(&'s Cell<u32>);

impl<'s> Urgency<'s> {
    fn new(urgent: &'s Cell<u32>) -> Self {
        urgent.set(urgent.get() + 1);
        Self(urgent)
    }
}

impl Drop for Urgency<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Sends records. Dropping it sends what was appended and then stops.
pub struct Producer<E: Env>(Rc<State<E>>);

impl<E: Env> Drop for Producer<E> {
    fn drop(&mut self) {
        self.0.closing.set(true);
        self.0.work.notify();
    }
}

impl<E: Env> Producer<E> {
    pub fn new(client: Client<E>, options: ProducerOptions) -> Result<Self, ClientError> {
        if options.idempotent && options.acks != Acks::All {
            return Err(ClientError::Invalid("idempotence needs acks=all".into()));
        }
        let env = client.env().clone();
        let state = Rc::new(State {
            memory: Budget::new(options.memory_bytes),
            client,
            options,
            lanes: RefCell::default(),
            work: Notify::default(),
            progress: Notify::default(),
            identity: Cell::new(None),
            urgent: Cell::new(0),
            closing: Cell::new(false),
            refreshing: Cell::new(false),
            sticky: Cell::new(env.random() as u32),
        });
        env.spawn(Queue::Foreground, sender::run(state.clone()));
        Ok(Self(state))
    }

    /// Takes `record` into a batch, waiting while memory or the partition's open batch is full. Records of one caller to
    /// one partition are stored in the order of its calls. Without a partition the key decides, as in Kafka's Java client.
    pub async fn append(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &NewRecord<'_>,
    ) -> Result<Delivery, ClientError> {
        let state = &self.0;
        let bytes = record.bytes_max() as u64;
        let mut memory = match state.memory.try_acquire(bytes) {
            Some(permit) => permit,
            None => {
                let _urgency = Urgency::new(&state.urgent);
                state.work.notify();
                state.memory.acquire(bytes).await
            }
        };
        loop {
            let chosen = match (partition, record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_of_key(key, state.partition_count(topic).await?),
                (None, None) => (state.sticky.get() % state.partition_count(topic).await? as u32) as i32,
            };
            let progress = state.progress.notified();
            let lane = state.lane(topic, chosen);
            let env = state.client.env();
            let idle = lane.borrow().is_idle();
            let pushed = lane.borrow_mut().push(record, env.now(), env.wall_ms(), memory)?;
            match pushed {
                Ok(delivery) => {
                    let full =
                        state.options.linger_ms == 0 || lane.borrow().due(u64::MAX).is_some_and(|due| due <= env.now());
                    if idle || full {
                        state.work.notify();
                    }
                    return Ok(delivery);
                }
                Err(permit) => memory = permit,
            }
            state.work.notify();
            progress.await;
        }
    }

    /// Appends `record` and waits for its acknowledgement.
    pub async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &NewRecord<'_>,
    ) -> Result<Delivered, ClientError> {
        self.append(topic, partition, record).await?.wait().await
    }

    /// Sends what was appended and waits until all of it is acknowledged or given up.
    pub async fn flush(&self) {
        let _urgency = Urgency::new(&self.0.urgent);
        self.0.work.notify();
        self.0
            .progress
            .until(|| self.0.all_lanes().iter().all(|lane| lane.borrow().is_idle()))
            .await;
    }
}
