//! Work on the partitions of this shard.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use smallvec::{SmallVec, smallvec};

use super::plan::{Place, Plan, partition_outcome};
use super::watched::Watched;
use super::*;
use crate::base::soon::Soon;
use crate::base::sync::{Budget, Holder, Notify, Permit, Permits, Signal, join_all, join_few, race};
use crate::broker::directories::Offline;
use crate::storage::{Appending, Partition, Store};

/// The partitions of one shard.
pub struct Local<E: Env> {
    env: E,
    members: Members<E>,
    /// What reads hold of the shard's memory.
    reads: Rc<Budget>,
    /// The part of it that is for readers who have not shown yet that they read.
    unproven: Rc<Budget>,
    /// For small reads while that is used up.
    reserve: Rc<Budget>,
    /// Those are done one at a time: how much the first batch holds shows when it is read.
    reserve_turn: Rc<Budget>,
    /// The same for those by other shards.
    foreign_turn: Rc<Budget>,
    /// Beats as long as the shard serves: one timer for the deadlines of all appends.
    beat: Rc<Notify>,
    /// Raised when the shard stops: waiting reads answer with what there is.
    stopping: Rc<Signal>,
}

/// The partitions, as requests find them.
struct Members<E: Env> {
    store: Rc<Store<E>>,
    /// Those that could not be opened, those of other shards with them.
    offline: Arc<Offline>,
}

impl<E: Env> Clone for Members<E> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            offline: self.offline.clone(),
        }
    }
}

impl<E: Env> Members<E> {
    fn partition(&self, id: PartitionId, leader_epoch: i32) -> Result<Rc<Partition<E>>, PartitionError> {
        let Some(partition) = self.store.partition(id) else {
            return Err(match self.offline.contains(id) {
                true => PartitionError::Offline,
                false => PartitionError::NotHere,
            });
        };
        if partition.is_offline() {
            return Err(PartitionError::Offline);
        }
        match leader_epoch {
            epoch if epoch < 0 || epoch == partition.leader_epoch() => Ok(partition),
            epoch if epoch < partition.leader_epoch() => Err(PartitionError::LeaderEpochFenced),
            _ => Err(PartitionError::LeaderEpochUnknown),
        }
    }

    /// A partition that may be asked about its log. Of a damaged one nobody knows where it ends: what recovery found of it would be
    /// taken for a truncation.
    fn readable(&self, id: PartitionId, leader_epoch: i32) -> Result<Rc<Partition<E>>, PartitionError> {
        let partition = self.partition(id, leader_epoch)?;
        match partition.is_damaged() {
            true => Err(PartitionError::Read(ReadError::Corrupt)),
            false => Ok(partition),
        }
    }
}

/// What the reserve is of the memory for reads.
const RESERVE_PART: u64 = 8;
const RESERVE_BYTES_MAX: u64 = 16 << 20;
/// A read from the reserve, but for a first batch that is larger: a socket's buffer takes it, whether or not the peer reads.
pub(super) const SHORT_READ_BYTES: usize = 64 << 10;

/// Look-ups of one request that are under way.
const LOOKUPS_MAX: usize = 8;
/// Queries of one request that are sorted out in one go.
const SORTED_AT_ONCE: usize = 1000;

impl<E: Env> Local<E> {
    pub fn new(
        env: E,
        store: Rc<Store<E>>,
        offline: Arc<Offline>,
        (reads, unproven): (Rc<Budget>, Rc<Budget>),
    ) -> Self {
        Self {
            env,
            members: Members { store, offline },
            reserve: Budget::new((reads.limit() / RESERVE_PART).min(RESERVE_BYTES_MAX)),
            reserve_turn: Budget::new(1),
            foreign_turn: Budget::new(1),
            reads,
            unproven,
            beat: Rc::default(),
            stopping: Rc::default(),
        }
    }

    /// Counts what another shard has read, and gives up what there is no room for; the place of the first such outcome.
    pub fn keep(&self, reader: Reader, outcomes: &mut [ReadOutcome], held: &mut Permits) -> Option<usize> {
        let bytes: usize = outcomes.iter().map(ReadOutcome::bytes).sum();
        if bytes == 0 {
            return None;
        }
        if let Some(all) = self.reads_of(reader).try_acquire_for(reader.holder, bytes as u64) {
            held.push(all);
            return None;
        }
        let mut given_up = None;
        for (place, outcome) in outcomes.iter_mut().enumerate() {
            match outcome.bytes() {
                0 => {}
                bytes => match self.reads_of(reader).try_acquire_for(reader.holder, bytes as u64) {
                    Some(permit) => held.push(permit),
                    None => {
                        outcome.give_up_bytes();
                        given_up.get_or_insert(place);
                    }
                },
            }
        }
        given_up
    }

    /// While memory is short: the turn of one read by another shard, which holds what it reads before it is counted.
    pub async fn foreign_turn(&self, reader: Reader) -> Permit {
        self.foreign_turn.acquire_for(reader.holder, 1).await
    }

    /// The budget that what `reader` is to have counts in.
    fn reads_of(&self, reader: Reader) -> &Rc<Budget> {
        if reader.is_proven { &self.reads } else { &self.unproven }
    }

    /// Waits for room for `bytes` that another shard has read. A first batch may be larger than what is asked of the reserve:
    /// whoever comes next waits for it, nobody waits for room that others take first.
    pub async fn hold(&self, reader: Reader, bytes: u64) -> Permit {
        match self.reads_of(reader).try_acquire_for(reader.holder, bytes) {
            Some(permit) => permit,
            None => {
                let short = bytes.min(SHORT_READ_BYTES as u64);
                let mut permit = self.reserve.acquire_for(reader.holder, short).await;
                permit.resize(bytes);
                permit
            }
        }
    }

    /// What another shard may read for this one: what there is room for, and a little always.
    pub fn room_bytes(&self, reader: Reader) -> usize {
        usize::try_from(self.reads_of(reader).offer(reader.holder))
            .unwrap_or(usize::MAX)
            .max(SHORT_READ_BYTES)
    }

    pub fn env(&self) -> &E {
        &self.env
    }

    pub fn stopping(&self) -> &Rc<Signal> {
        &self.stopping
    }

    pub fn store(&self) -> &Rc<Store<E>> {
        &self.members.store
    }

    /// Looks for appends whose time is over; to be called now and then.
    pub fn beat(&self) {
        self.beat.notify();
    }

    /// The partition is this shard's, but could not be opened.
    pub fn set_offline(&self, id: PartitionId) {
        self.members.offline.insert(id);
    }

    /// Whether the partition is this shard's and could not be opened.
    pub fn is_offline(&self, id: PartitionId) -> bool {
        self.members.offline.contains(id)
    }

    /// The partition is no more, or is open now.
    pub fn forget(&self, id: PartitionId) {
        self.members.offline.remove(id);
    }

    /// Appends in the order of `items`, now; the acknowledgements are waited for until the first beat after `deadline`.
    pub fn append(&self, items: Appends, deadline: Monotonic) -> Soon<Outcomes> {
        let appends: SmallVec<[Result<Appending<E>, PartitionError>; 1]> = items
            .into_iter()
            .map(|item| {
                let partition = self.members.partition(item.id, -1);
                partition.map(|partition| partition.append(item.batch))
            })
            .collect();
        if let Some(known) = appends.iter().map(known).collect() {
            return Soon::Known(known);
        }
        let (env, beat) = (self.env.clone(), self.beat.clone());
        Soon::later(async move {
            let until_over = |append: Result<Appending<E>, PartitionError>| {
                let (env, beat) = (&env, &beat);
                async move {
                    let acknowledged = async { Some(append?.await.map_err(PartitionError::Append)).transpose() };
                    race(acknowledged, async {
                        over(env, beat, deadline).await;
                        Ok(None)
                    })
                    .await?
                    .ok_or(PartitionError::TimedOut)
                }
            };
            let mut appends = appends.into_iter();
            match (appends.next(), appends.len()) {
                (Some(only), 0) => smallvec![until_over(only).await],
                (first, _) => join_all(first.into_iter().chain(appends).map(until_over).collect())
                    .await
                    .into(),
            }
        })
    }

    /// The outcomes in the order of the items, and what they hold of the shard's memory.
    pub fn read(
        &self,
        request: ReadRequest,
        cancel: Rc<Signal>,
    ) -> impl Future<Output = (Vec<ReadOutcome>, Permit)> + use<E> {
        let (env, stopping) = (self.env.clone(), self.stopping.clone());
        let holder = request.reader.holder;
        let budget = self.reads_of(request.reader).clone();
        let (reserve, turn) = (self.reserve.clone(), self.reserve_turn.clone());
        let places: Vec<_> = request.items.iter().map(|item| self.place(item)).collect();
        async move {
            if places.iter().all(Result::is_ok) {
                let ended = [&*cancel, &*stopping];
                wait_for_bytes(&env, &places, &request, ended).await;
            }
            let reads_max = request.reads_max();
            // As much as there is room for, unless that is next to nothing.
            let offered = usize::try_from(budget.offer(holder)).unwrap_or(usize::MAX);
            let bytes_max = request.bytes_max.min(offered.max(SHORT_READ_BYTES));
            let plan = Plan::of(&places, bytes_max);
            if let Some(held) = budget.try_acquire_for(holder, plan.bytes) {
                plan.read_ahead();
                return plan.carry_out(reads_max, held).await;
            }
            // Memory is short, perhaps because others do not read their answers: a little now, not all later.
            let _turn = turn.acquire_for(holder, 1).await;
            let plan = Plan::of(&places, request.bytes_max.min(SHORT_READ_BYTES));
            let held = reserve.acquire_for(holder, plan.bytes).await;
            plan.carry_out(reads_max, held).await
        }
    }

    fn place(&self, item: &ReadItem) -> Result<Place<E>, ReadOutcome> {
        let partition = self
            .members
            .readable(item.id, item.epochs.leader)
            .map_err(ReadOutcome::failed)?;
        let diverging = match item.epochs.last_fetched {
            epoch if epoch < 0 => None,
            epoch => match partition.epoch_end(epoch) {
                Some((found, end)) if found == epoch && end >= item.offset => None,
                Some((epoch, end_offset)) => Some(EpochEnd { epoch, end_offset }),
                None => return Err(partition_outcome(&partition, Err(ReadError::OutOfRange), None)),
            },
        };
        if diverging.is_some() {
            return Err(partition_outcome(&partition, Ok(LogSlice::default()), diverging));
        }
        if item.offset < partition.ends().log_start || item.offset > partition.high_watermark() {
            return Err(partition_outcome(&partition, Err(ReadError::OutOfRange), None));
        }
        Ok(Place {
            partition,
            offset: item.offset,
            bytes_max: item.bytes_max,
        })
    }

    /// The answers in the order of the queries; equal ones have one look-up, and a few are under way at a time.
    pub fn offsets(
        &self,
        queries: Vec<OffsetQuery>,
        holder: Holder,
    ) -> impl Future<Output = Vec<Result<TimedOffset, PartitionError>>> + use<E> {
        let (env, members) = (self.env.clone(), self.members.clone());
        async move {
            let readable = |query: &OffsetQuery| members.readable(query.id, query.leader_epoch);
            let (order, lookups) = each_once(&env, queries, readable).await;
            let lookups = lookups
                .into_iter()
                .map(|(at, partition)| offset_at(partition, at, holder));
            let found = join_few(LOOKUPS_MAX, lookups).await;
            order.into_iter().map(|place| found[place].clone()).collect()
        }
    }

    pub fn epochs(&self, queries: Vec<EpochQuery>) -> Vec<Result<EpochEnd, PartitionError>> {
        let none = EpochEnd {
            epoch: -1,
            end_offset: -1,
        };
        queries
            .into_iter()
            .map(|query| {
                let partition = self.members.readable(query.id, query.leader_epoch)?;
                let found = partition.epoch_end(query.epoch);
                Ok(found.map_or(none, |(epoch, end_offset)| EpochEnd { epoch, end_offset }))
            })
            .collect()
    }

    /// Starts a request of another shard: appends are in place when this returns, the future brings the answer. `None` for
    /// what is not about partitions.
    pub fn execute(&self, request: Request, cancel: &Rc<Signal>) -> Result<Soon<Reply>, Request> {
        let cancel = cancel.clone();
        Ok(match request {
            Request::Append(items, deadline) => match self.append(items, deadline) {
                Soon::Known(outcomes) => Soon::Known(Reply::Append(outcomes)),
                appends => Soon::later(async move { Reply::Append(until(&cancel, appends).await) }),
            },
            Request::Read(request) => {
                let read = self.read(request, cancel);
                // What was read is the asking shard's to count from here on.
                Soon::later(async { Reply::Read(read.await.0) })
            }
            Request::Offsets(queries, holder) => {
                let offsets = self.offsets(queries, holder);
                Soon::later(async move { Reply::Offsets(until(&cancel, offsets).await) })
            }
            Request::Epochs(queries) => Soon::Known(Reply::Epochs(self.epochs(queries))),
            other @ (Request::Command(_) | Request::Apply(_)) => return Err(other),
        })
    }
}

/// The outcome of an append, if it is known.
fn known<E: Env>(append: &Result<Appending<E>, PartitionError>) -> Option<Result<Appended, PartitionError>> {
    match append {
        Ok(Appending::Known(answer)) => Some(answer.map_err(PartitionError::Append)),
        Ok(Appending::Waits(_)) => None,
        Err(error) => Some(Err(error.clone())),
    }
}

/// What `work` finds; nothing once nobody waits for it, and then the work is dropped.
async fn until<T: Default>(cancel: &Signal, work: impl Future<Output = T>) -> T {
    let given_up = async {
        cancel.raised().await;
        T::default()
    };
    race(work, given_up).await
}

/// Completes at the first beat from `deadline` on.
async fn over<E: Env>(env: &E, beat: &Notify, deadline: Monotonic) {
    loop {
        beat.notified().await;
        if env.now() >= deadline {
            return;
        }
    }
}

/// Waits until the places together have `bytes_min` to read, the time is over, or the asker has enough.
async fn wait_for_bytes<E: Env>(
    env: &E,
    places: &[Result<Place<E>, ReadOutcome>],
    request: &ReadRequest,
    ended: [&Signal; 2],
) {
    let deadline = env.now().plus_ms(request.wait_ms);
    let mut told = 0;
    let mut is_enough = |readable: usize| {
        let parts = request.parts.as_ref();
        parts.map_or(readable, |parts| parts.tell(&mut told, readable)) >= request.bytes_min
    };
    let all = places.iter().flatten();
    let readable = all.clone().map(|place| place.readable_bytes(request.bytes_min));
    let is_over = request.wait_ms == 0 || ended.iter().any(|signal| signal.is_raised());
    if is_enough(readable.sum()) || is_over {
        return;
    }
    let mut ends = pin!(race(ended[0].raised(), ended[1].raised()));
    let mut time_over = Box::pin(env.sleep_until(deadline));
    let all: Vec<_> = all.collect();
    let mut watched = Watched::new(all.iter().map(|place| place.partition.advanced()), |index| {
        all[index].readable_bytes(request.bytes_min)
    });
    poll_fn(|cx| {
        let is_over = ends.as_mut().poll(cx).is_ready() || time_over.as_mut().poll(cx).is_ready();
        match is_over || is_enough(watched.sum(cx)) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// The queries without repetitions, with what `find` has for each, and the place of every one among them. Other tasks of the shard run
/// while many are sorted out.
async fn each_once<E: Env, T>(
    env: &E,
    queries: Vec<OffsetQuery>,
    find: impl Fn(&OffsetQuery) -> T,
) -> (Vec<usize>, Vec<(OffsetAt, T)>) {
    let mut places: BTreeMap<OffsetQuery, usize> = BTreeMap::new();
    let mut found = Vec::new();
    let mut order = Vec::with_capacity(queries.len());
    for (count, query) in queries.into_iter().enumerate() {
        if count % SORTED_AT_ONCE == SORTED_AT_ONCE - 1 {
            env.yield_now().await;
        }
        order.push(*places.entry(query).or_insert_with_key(|query| {
            found.push((query.at, find(query)));
            found.len() - 1
        }));
    }
    (order, found)
}

async fn offset_at<E: Env>(
    partition: Result<Rc<Partition<E>>, PartitionError>,
    at: OffsetAt,
    holder: Holder,
) -> Result<TimedOffset, PartitionError> {
    let partition = partition?;
    let here = |offset| TimedOffset {
        timestamp_ms: -1,
        offset,
        leader_epoch: partition.leader_epoch(),
    };
    let found = match at {
        OffsetAt::Latest => Some(here(partition.high_watermark())),
        OffsetAt::Earliest => {
            let log_start = partition.ends().log_start;
            let epoch = first_epoch(&partition, log_start);
            Some(TimedOffset {
                leader_epoch: epoch,
                ..here(log_start)
            })
        }
        OffsetAt::Tiered => None,
        OffsetAt::MaxTimestamp => partition.max_timestamp(holder).await.map_err(PartitionError::Read)?,
        OffsetAt::Time(target_ms) => {
            let found = partition.offset_for_time(holder, target_ms).await;
            found.map_err(PartitionError::Read)?
        }
    };
    Ok(found.unwrap_or(NO_OFFSET))
}

/// The epoch that holds `offset`: the first one that ends behind it.
fn first_epoch<E: Env>(partition: &Partition<E>, offset: i64) -> i32 {
    let current = partition.leader_epoch();
    let mut epoch = current;
    // Epochs rise by one at each start of the broker; the walk ends at the first that lies before `offset`.
    while let Some((found, end)) = partition.epoch_end(epoch - 1) {
        if end <= offset || found >= epoch {
            break;
        }
        epoch = found;
    }
    epoch
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::base::ids::TopicId;
    use crate::io::Queue;
    use crate::io::sim::{Options, Schedule, World};

    /// Otherwise a few requests of tens of thousands of queries keep everybody else from a shard for a second.
    #[test]
    fn others_run_while_many_queries_are_sorted_out() {
        let options = Options {
            schedule: Schedule::Fifo,
            ..Options::default()
        };
        World::new(1, options).block_on(0, |env| async move {
            let (rounds, others) = (Rc::new(Cell::new(0)), env.clone());
            let counted = rounds.clone();
            env.spawn(Queue::Foreground, async move {
                loop {
                    counted.set(counted.get() + 1);
                    others.yield_now().await;
                }
            });
            let query = |number: usize| OffsetQuery {
                id: PartitionId {
                    topic: TopicId::ZERO,
                    index: 0,
                },
                leader_epoch: -1,
                at: OffsetAt::Time(number as i64 % 4000),
            };
            let queries: Vec<_> = (0..10 * SORTED_AT_ONCE).map(query).collect();
            let (order, found) = each_once(&env, queries, |query| query.at).await;
            assert!((9..=11).contains(&rounds.get()), "{}", rounds.get());
            assert_eq!(found.len(), 4000);
            for (number, place) in order.into_iter().enumerate() {
                let at = OffsetAt::Time(number as i64 % 4000);
                assert_eq!(found[place], (at, at));
            }
        });
    }
}
