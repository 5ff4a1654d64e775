//! The reader: partitions by offset, one long poll per leader, batches as they come.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use crate::base::sync::{Notify, race};
use crate::io::{Env, Monotonic, Queue};
use crate::wire::batch::{DecodeLimits, Record, RecordReader, ScanOptions, StopReason, scan};
use crate::wire::kafka::ErrorCode;

use super::admin::{Admin, OffsetSpec};
use super::cluster::{Client, Leader, Purpose};
use super::error::ClientError;
use super::exchange::{self, Found, Want};

/// Where to begin reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    Offset(i64),
    Place(OffsetSpec),
}

#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// How long a broker holds a fetch back while it has less than `bytes_min`.
    pub wait_ms_max: u32,
    pub bytes_min: u32,
    /// Per request (the first batch comes whole, however large).
    pub bytes_max: u32,
    pub partition_bytes_max: u32,
    /// Whether the CRC of each batch is checked.
    pub crc_check: bool,
    /// Where to go on when the position is out of range; without it that is an error.
    pub reset: Option<OffsetSpec>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            wait_ms_max: 500,
            bytes_min: 1,
            bytes_max: 32 << 20,
            partition_bytes_max: 1 << 20,
            crc_check: true,
            reset: None,
        }
    }
}

/// Whole batches of one partition; `position` is the first offset that was asked for.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub topic: Rc<str>,
    pub partition: i32,
    pub position: i64,
    /// The offset after the last one here.
    pub next_position: i64,
    pub high_watermark: i64,
    pub log_start: i64,
    /// RecordBatch v2 back to back; the last may be cut.
    pub batches: Bytes,
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Fetched {
    /// Calls `visit` with each record from `position` on, in order, without copying. Control records are left out.
    pub fn for_each(&self, mut visit: impl FnMut(&Record<'_>)) -> Result<(), ClientError> {
        let options = ScanOptions {
            crc_check: false,
            batch_bytes_max: usize::MAX,
        };
        for batch in scan(&self.batches, options).map_while(Result::ok) {
            if batch.header.is_control() || batch.header.next_offset() <= self.position {
                continue;
            }
            let corrupt = |error: &dyn std::fmt::Display| self.corrupt(batch.header.base_offset(), error);
            let mut records =
                RecordReader::new(&batch.header, batch.bytes, &DecodeLimits::default()).map_err(|e| corrupt(&e))?;
            while let Some(record) = records.next_record().map_err(|e| corrupt(&e))? {
                if record.offset >= self.position {
                    visit(&record);
                }
            }
        }
        Ok(())
    }

    pub fn records(&self) -> Result<Vec<OwnedRecord>, ClientError> {
        let mut records = Vec::new();
        self.for_each(|record| {
            let header =
                |header: crate::wire::batch::Header<'_>| (header.key.to_vec(), header.value.map(<[u8]>::to_vec));
            records.push(OwnedRecord {
                offset: record.offset,
                timestamp_ms: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers().map(header).collect(),
            });
        })?;
        Ok(records)
    }

    fn corrupt(&self, offset: i64, cause: &dyn std::fmt::Display) -> ClientError {
        ClientError::Corrupt {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset,
            cause: cause.to_string(),
        }
    }

    /// Walks the batches once: where they end, or what is wrong with them.
    fn check(&mut self, crc_check: bool) -> Result<(), ClientError> {
        for batch in scan(
            &self.batches,
            ScanOptions {
                crc_check,
                batch_bytes_max: usize::MAX,
            },
        ) {
            match batch {
                Ok(batch) => self.next_position = self.next_position.max(batch.header.next_offset()),
                Err(stop) => match stop.reason {
                    // The broker cuts the answer where the limit is.
                    StopReason::Incomplete { .. } if stop.position > 0 => break,
                    reason => return Err(self.corrupt(self.next_position, &format!("{reason:?}"))),
                },
            }
        }
        if self.next_position == self.position && !self.batches.is_empty() {
            return Err(self.corrupt(self.position, &"the batches end before the offset asked for"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Cursor {
    topic: Rc<str>,
    partition: i32,
    at: StartAt,
    attempts: u32,
    not_before: Monotonic,
    fetching: bool,
}

struct State<E: Env> {
    client: Client<E>,
    options: ReaderOptions,
    cursors: RefCell<Vec<Cursor>>,
    /// At most what one fetch per leader brings: no new one begins while something is here.
    ready: RefCell<VecDeque<Result<Fetched, ClientError>>>,
    fetching: RefCell<BTreeSet<i32>>,
    locating: Cell<bool>,
    turn: Cell<usize>,
    changed: Notify,
}

/// Reads partitions, beginning at their start places.
pub struct Reader<E: Env>(Rc<State<E>>);

impl<E: Env> Reader<E> {
    /// Nothing is asked yet. Each of `partitions` is a topic, an index and where to begin.
    pub fn new(client: Client<E>, partitions: &[(&str, i32, StartAt)], options: ReaderOptions) -> Self {
        let cursor = |(topic, partition, at): &(&str, i32, StartAt)| Cursor {
            topic: (*topic).into(),
            partition: *partition,
            at: *at,
            attempts: 0,
            not_before: Monotonic(0),
            fetching: false,
        };
        Self(Rc::new(State {
            client,
            options,
            cursors: RefCell::new(partitions.iter().map(cursor).collect()),
            ready: RefCell::default(),
            fetching: RefCell::default(),
            locating: Cell::new(false),
            turn: Cell::new(0),
            changed: Notify::default(),
        }))
    }

    /// The next batches of some partition; `None` when nothing came within `wait_ms`. Transient failures are retried
    /// quietly; what is returned as an error concerns one partition, which is asked again at the next call.
    pub async fn poll(&self, wait_ms: u64) -> Result<Option<Fetched>, ClientError> {
        let state = &self.0;
        let env = state.client.env();
        let end = env.now().plus_ms(wait_ms);
        loop {
            let changed = state.changed.notified();
            let next = state.ready.borrow_mut().pop_front();
            // Ask for more while the caller works on this one.
            let again = state.begin_fetches(env.now());
            if let Some(next) = next {
                return next.map(Some);
            }
            if env.now() >= end {
                return Ok(None);
            }
            race(changed, env.sleep_until(again.map_or(end, |again| again.min(end)))).await;
        }
    }

    /// The next offset to be handed out of a partition, once it is known.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let unread = self
            .0
            .ready
            .borrow()
            .iter()
            .flatten()
            .find(|f| &*f.topic == topic && f.partition == partition)
            .map(|f| f.position);
        let cursors = self.0.cursors.borrow();
        let cursor = cursors
            .iter()
            .find(|cursor| &*cursor.topic == topic && cursor.partition == partition)?;
        match cursor.at {
            StartAt::Offset(offset) => Some(unread.unwrap_or(offset)),
            StartAt::Place(_) => None,
        }
    }
}

impl<E: Env> State<E> {
    /// Starts one fetch per leader that has none under way. Gives when a waiting partition may be asked again.
    fn begin_fetches(self: &Rc<Self>, now: Monotonic) -> Option<Monotonic> {
        if !self.ready.borrow().is_empty() {
            return None;
        }
        let mut again: Option<Monotonic> = None;
        let mut fetches: BTreeMap<i32, Vec<(usize, Leader)>> = BTreeMap::new();
        let mut lost = false;
        for (index, cursor) in self
            .cursors
            .borrow_mut()
            .iter_mut()
            .enumerate()
            .filter(|(_, cursor)| !cursor.fetching)
        {
            if cursor.not_before > now {
                again = Some(again.map_or(cursor.not_before, |again| again.min(cursor.not_before)));
                continue;
            }
            let leader = self.client.leader_known(&cursor.topic, cursor.partition);
            match (leader, cursor.at) {
                (Some(leader), StartAt::Offset(_)) if !self.fetching.borrow().contains(&leader.node_id) => {
                    cursor.fetching = true;
                    fetches.entry(leader.node_id).or_default().push((index, leader));
                }
                (Some(_), StartAt::Offset(_)) => {}
                _ => lost = true,
            }
        }
        let env = self.client.env();
        for (node_id, mut members) in fetches {
            // Another partition is first each time: none starves behind full ones.
            self.turn.set(self.turn.get().wrapping_add(1));
            let first = self.turn.get() % members.len();
            members.rotate_left(first);
            self.fetching.borrow_mut().insert(node_id);
            env.spawn(Queue::Foreground, self.clone().fetch(node_id, members));
        }
        if lost && !self.locating.replace(true) {
            env.spawn(Queue::Foreground, self.clone().locate());
        }
        again
    }

    /// Finds leaders and turns start places into offsets, for all partitions that lack them.
    async fn locate(self: Rc<Self>) {
        let now = self.client.env().now();
        let count = self.cursors.borrow().len();
        for index in 0..count {
            let cursor = self.cursors.borrow()[index].clone();
            let known = self.client.leader_known(&cursor.topic, cursor.partition).is_some();
            if cursor.fetching || cursor.not_before > now || known && matches!(cursor.at, StartAt::Offset(_)) {
                continue;
            }
            let found = match cursor.at {
                StartAt::Offset(offset) => self
                    .client
                    .leader(&cursor.topic, cursor.partition)
                    .await
                    .map(|_| offset),
                StartAt::Place(spec) => self.offset_at(&cursor, spec).await,
            };
            match found {
                Ok(offset) => self.cursors.borrow_mut()[index].at = StartAt::Offset(offset),
                Err(error) => self.failed(index, error),
            }
        }
        self.locating.set(false);
        self.changed.notify();
    }

    async fn offset_at(&self, cursor: &Cursor, spec: OffsetSpec) -> Result<i64, ClientError> {
        let admin = Admin::new(self.client.clone());
        let partition = cursor.partition;
        let found = admin.list_offsets(&cursor.topic, &[partition], spec).await?;
        if let Some(offset) = found.get(&partition).and_then(|listed| listed.offset) {
            return Ok(offset);
        }
        // No record is that late: what comes next is.
        let latest = admin
            .list_offsets(&cursor.topic, &[partition], OffsetSpec::Latest)
            .await?;
        Ok(latest.get(&partition).and_then(|listed| listed.offset).unwrap_or(0))
    }

    /// Schedules a partition anew; an error that waiting does not mend goes to the caller.
    fn failed(&self, index: usize, error: ClientError) {
        let mut cursors = self.cursors.borrow_mut();
        let cursor = &mut cursors[index];
        if error.is_stale_metadata() {
            self.client.forget(&cursor.topic);
        }
        if error.code() == Some(ErrorCode::OffsetOutOfRange)
            && let Some(reset) = self.options.reset
        {
            cursor.at = StartAt::Place(reset);
            return;
        }
        cursor.not_before = self.client.backoff_end(cursor.attempts);
        cursor.attempts = cursor.attempts.saturating_add(1);
        if !error.is_retriable() || error.code() == Some(ErrorCode::CorruptMessage) {
            self.ready.borrow_mut().push_back(Err(error));
        }
    }

    async fn fetch(self: Rc<Self>, node_id: i32, members: Vec<(usize, Leader)>) {
        let cursors: Vec<Cursor> = members
            .iter()
            .map(|(index, _)| self.cursors.borrow()[*index].clone())
            .collect();
        let outcome = self.exchange(node_id, &members, &cursors).await;
        for (place, (index, _)) in members.iter().enumerate() {
            self.cursors.borrow_mut()[*index].fetching = false;
            let result = match &outcome {
                Ok(results) => results[place].clone(),
                Err(error) => Err(error.clone()),
            };
            match result {
                Err(error) => self.failed(*index, error),
                Ok(fetched) => {
                    let cursor = &mut self.cursors.borrow_mut()[*index];
                    cursor.attempts = 0;
                    cursor.at = StartAt::Offset(fetched.next_position);
                    if !fetched.batches.is_empty() {
                        self.ready.borrow_mut().push_back(Ok(fetched));
                    }
                }
            }
        }
        self.fetching.borrow_mut().remove(&node_id);
        self.changed.notify();
    }

    async fn exchange(
        &self,
        node_id: i32,
        members: &[(usize, Leader)],
        cursors: &[Cursor],
    ) -> Result<Vec<Result<Fetched, ClientError>>, ClientError> {
        let connection = self.client.connection(node_id, Purpose::Fetch).await?;
        let want = |((_, leader), cursor): (&(usize, Leader), &Cursor)| {
            let StartAt::Offset(offset) = cursor.at else {
                let what = format!("fetch {}-{} before its place is known", cursor.topic, cursor.partition);
                return Err(ClientError::Invalid(what));
            };
            Ok((*leader, offset))
        };
        let places = members.iter().zip(cursors).map(want);
        let places: Vec<(Leader, i64)> = places.collect::<Result<_, _>>()?;
        let wants: Vec<Want<'_>> = places
            .iter()
            .zip(cursors)
            .map(|((leader, offset), cursor)| Want {
                topic: &cursor.topic,
                leader: *leader,
                partition: cursor.partition,
                offset: *offset,
            })
            .collect();
        let reads = exchange::fetch(&connection, &self.options, &wants).await?;
        let whole = reads.into_iter().zip(cursors.iter().zip(&places));
        Ok(whole
            .map(|(read, (cursor, (_, offset)))| self.take(cursor, *offset, read?))
            .collect())
    }

    fn take(&self, cursor: &Cursor, position: i64, found: Found) -> Result<Fetched, ClientError> {
        let mut fetched = Fetched {
            topic: cursor.topic.clone(),
            partition: cursor.partition,
            position,
            next_position: position,
            high_watermark: found.high_watermark,
            log_start: found.log_start,
            batches: found.batches,
        };
        fetched.check(self.options.crc_check)?;
        Ok(fetched)
    }
}
