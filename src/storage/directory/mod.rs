//! One shard's part of one log directory: its journal, its tail memory, and the work behind the appends.
//!
//! Invariants
//! 1. `settle` counts bytes as settled only after the file system was flushed behind their writes.
//! 2. A journal file is used again only when the two newest checkpoints need none of its commits (`settle::checkpoint`).
//! 3. After a failed write or flush nothing of the directory is acknowledged (`fence`).
//!
//! Not for: what a single log does (`partition`), starting up (`recovery`).

mod pace;
mod reading;
mod room;
mod settle;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};

pub use self::pace::Pace;
use self::pace::Writes;
use self::reading::Reading;
use super::build::BATCH_BYTES_MAX;
use super::health::{Health, OPEN_RETRY_MS, is_full};
use super::journal::writer::{CommitBuilder, Journal, JournalPlace, Member};
use super::memory::{TailMemory, UNIT_BYTES};
use super::partition::{Evicted, Partition};
use super::scrub::{Pass, ScrubOptions};
use super::{LogDirectory, StorageError, StoreOptions};
use crate::base::buffer::{Chunk, ChunkIdentity};
use crate::base::coverage::{Mark, mark};
use crate::base::ids::PartitionId;
use crate::base::planted::{Bug, planted};
use crate::base::sync::{Notify, OneshotSender, oneshot, race};
use crate::io::{Env, Queue, is_exhausted};
use crate::metrics::ScrubMetrics;

/// Settling rounds that the opening of a partition waits for, when memory is short.
const SETTLE_ROUNDS_FOR_A_CHUNK: usize = 8;
/// What all shards of a directory may have in chunks that are being filled, and in full ones that the disk has not taken: a start
/// after a kill writes both before it serves.
const FILLING_BYTES_MAX: usize = 64 << 20;
const QUEUED_BYTES_MAX: usize = 512 << 20;
/// While the directory is full, free space is looked at this often.
pub const FULL_CHECK_MS: u64 = 1000;

/// One shard's part of one log directory.
pub struct ShardDirectory<E: Env> {
    env: E,
    place: LogDirectory,
    shard: usize,
    shards: usize,
    start: u64,
    health: Health,
    reserve_bytes: u64,
    producer_expiration_ms: i64,
    producers: room::ProducerRoom,
    retention_check_ms: u64,
    memory: Rc<TailMemory<E>>,
    journal: Rc<Journal<E>>,
    /// The store owns them.
    partitions: RefCell<BTreeMap<PartitionId, Weak<Partition<E>>>>,
    evictable: RefCell<VecDeque<Weak<Partition<E>>>>,
    writes: Writes,
    reading: Reading<E>,
    full: Cell<bool>,
    appended_bytes: Cell<u64>,
    queued_bytes: Cell<u64>,
    settled: settle::Progress,
    wake: Notify,
    stopping: Cell<bool>,
    running: Cell<usize>,
    ended: Notify,
}

impl<E: Env> ShardDirectory<E> {
    /// Opens journal and memory and starts the background work.
    pub(super) async fn open(
        env: E,
        place: LogDirectory,
        options: &StoreOptions,
        start: u64,
        health: Health,
    ) -> Result<Rc<Self>, StorageError> {
        let named = |doing: &str, e: io::Error| StorageError(format!("{}: {doing}: {e}", place.path.display()));
        let prefix = format!("{}-{}", arena_prefix(&place.id, start), options.shard);
        let bytes = (options.memory_bytes / 2 / options.directories.len() as u64) as usize;
        let memory = TailMemory::open(env.clone(), options.arena_directory.clone(), prefix, bytes)
            .await
            .map_err(|e| named("tail memory in ringtail.arena.dir", e))?;
        let journal_place = JournalPlace {
            directory: place.path.clone(),
            directory_id: place.id,
            start,
            shard: options.shard as u32,
            bytes_max: options.journal_bytes,
        };
        let journal = Journal::open(env.clone(), journal_place, health.clone())
            .await
            .map_err(|e| named("journal", e))?;
        let directory = Rc::new(Self {
            env,
            place,
            shard: options.shard,
            shards: options.shards.max(1),
            start,
            health,
            reserve_bytes: options.reserve_bytes,
            producer_expiration_ms: options.producer_expiration_ms,
            producers: room::ProducerRoom::of(options),
            retention_check_ms: options.retention_check_ms.max(1),
            memory,
            journal,
            partitions: RefCell::default(),
            evictable: RefCell::default(),
            writes: Writes::default(),
            reading: Reading::new(options),
            full: Cell::new(false),
            appended_bytes: Cell::new(0),
            queued_bytes: Cell::new(0),
            settled: settle::Progress::default(),
            wake: Notify::default(),
            stopping: Cell::new(false),
            running: Cell::new(3),
            ended: Notify::default(),
        });
        directory.env.spawn(Queue::Background, directory.clone().settle_loop());
        directory.env.spawn(Queue::Background, directory.clone().watch_space());
        directory
            .env
            .spawn(Queue::Background, directory.clone().retention_loop());
        Ok(directory)
    }

    /// The generation of the logs opened now: rows of earlier starts do not count.
    pub fn generation(&self) -> u64 {
        self.start
    }

    /// Rises at every start of the directory, so that clients can tell what a power cut took.
    pub fn leader_epoch(&self) -> i32 {
        leader_epoch(self.start)
    }

    pub(super) fn place(&self) -> &LogDirectory {
        &self.place
    }

    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    pub(super) fn shards(&self) -> usize {
        self.shards
    }

    pub fn path(&self) -> &Path {
        &self.place.path
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub fn fence(&self, doing: &str, error: &io::Error) {
        self.health.fence(&self.place.path.display().to_string(), doing, error);
        for partition in self.members() {
            partition.close(true);
        }
    }

    pub fn journal(&self) -> &Rc<Journal<E>> {
        &self.journal
    }

    /// The turns of writes to segments.
    pub fn writes(&self) -> &Writes {
        &self.writes
    }

    /// Somebody waits for memory: the next round is for all logs, and whoever waits to store calmly does so no more.
    fn hurry(&self) {
        self.settled.urge();
        self.writes.hurry();
    }

    /// How what is to be stored goes to the segments just now.
    pub fn pace(&self) -> Pace {
        let is_awaited = self.settled.is_urged() || self.journal.is_starved() || self.stopping.get();
        Pace::of(self.queued_bytes.get(), self.queued_bytes_max(), is_awaited)
    }

    pub(super) fn add(&self, partition: &Rc<Partition<E>>) {
        self.partitions
            .borrow_mut()
            .insert(partition.id(), Rc::downgrade(partition));
        self.note_producers(partition.producer_count());
        self.bound_producers();
    }

    pub(super) fn remove(&self, id: PartitionId) {
        self.partitions.borrow_mut().remove(&id);
    }

    pub(super) fn members(&self) -> Vec<Rc<Partition<E>>> {
        self.partitions.borrow().values().filter_map(Weak::upgrade).collect()
    }

    /// Memory for the tail of a log; gives back what is stored elsewhere when none is free.
    pub fn take_chunk(&self, run: usize, identity: &ChunkIdentity) -> Option<Chunk> {
        // A partition's last chunk stays until it is full: all of them together must fit.
        let filling = (self.memory.bytes_max() / 4).min(FILLING_BYTES_MAX / self.shards);
        let fair = filling / UNIT_BYTES / self.partitions.borrow().len().max(1);
        let run = run.min(fair.max(1));
        loop {
            if let Some(chunk) = self.memory.take(run, identity) {
                return Some(chunk);
            }
            if !self.evict() {
                return None;
            }
        }
    }

    /// A partition has `now` bytes in full chunks that the disk has not taken, instead of `before`.
    pub fn count_queued(&self, before: u64, now: u64) {
        self.queued_bytes.set(self.queued_bytes.get() + now - before);
    }

    /// Whether the disk is so far behind that nothing more is taken for it.
    pub fn is_behind(&self) -> bool {
        self.queued_bytes.get() >= self.queued_bytes_max()
    }

    fn queued_bytes_max(&self) -> u64 {
        (self.memory.bytes_max() / 2).min(QUEUED_BYTES_MAX / self.shards) as u64
    }

    /// Waits until something more may be stored.
    pub async fn await_stored(&self) {
        let changed = self.memory.changed().notified();
        let deadline = self.env.now().plus_ms(20);
        race(changed, self.env.sleep_until(deadline)).await;
    }

    /// Waits until a chunk can be had; an error when all memory holds blocks that are not whole yet.
    pub async fn ensure_chunk(self: &Rc<Self>) -> io::Result<()> {
        let mut rounds = 0;
        while !self.memory.has_room() {
            if self.memory.grow_now().await? || self.evict() || self.evict_any() {
                continue;
            }
            self.hurry();
            // Others may take what a round makes free.
            if rounds == SETTLE_ROUNDS_FOR_A_CHUNK || self.settle(true).await.is_err() {
                let message = "ringtail.memory.bytes is too small for the tails of so many partitions";
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
            }
            self.journal_barrier().await;
            rounds += 1;
        }
        Ok(())
    }

    /// Gives back the oldest chunk of the partition that has waited longest with one.
    fn evict(&self) -> bool {
        let waiting = self.evictable.borrow().len();
        for _ in 0..waiting {
            let Some(oldest) = self.evictable.borrow_mut().pop_front() else {
                break;
            };
            let Some(partition) = oldest.upgrade() else { continue };
            match partition.evict_oldest() {
                Evicted::Chunk => {
                    self.evictable.borrow_mut().push_back(oldest);
                    mark(Mark::MemoryEvicted);
                    return true;
                }
                Evicted::Nothing => {}
                Evicted::Busy => self.evictable.borrow_mut().push_back(oldest),
            }
        }
        false
    }

    /// The same among all partitions: a chunk may have become free to go without a word, as when the journal took what it
    /// still wanted of it.
    fn evict_any(&self) -> bool {
        let members = self.members();
        let found = members
            .iter()
            .find(|partition| matches!(partition.evict_oldest(), Evicted::Chunk));
        if let Some(partition) = found {
            mark(Mark::MemoryEvicted);
            self.note_evictable(partition);
            return true;
        }
        // What is left are tails that are not whole blocks, or not whole batches: idle ones may hold much more than those.
        members.iter().any(|partition| partition.shrink_tail())
    }

    /// Tail memory for moving a tail together.
    pub fn take_reserved(&self, run: usize, identity: &ChunkIdentity) -> Option<Chunk> {
        self.memory.take_reserved(run, identity)
    }

    /// The partition may have chunks that are stored now.
    pub fn note_evictable(&self, partition: &Rc<Partition<E>>) {
        if partition.enter_evictable() {
            self.evictable.borrow_mut().push_back(Rc::downgrade(partition));
        }
        self.memory.changed().notify();
    }

    /// Waits until tail memory may be free again: added, stored or given back.
    pub async fn free_memory(&self) {
        if self.evict() || self.evict_any() {
            return;
        }
        let changed = self.memory.changed().notified();
        self.hurry();
        self.wake.notify();
        let deadline = self.env.now().plus_ms(20);
        race(changed, self.env.sleep_until(deadline)).await;
    }

    pub fn note_appended(&self, bytes: u64) {
        self.appended_bytes.set(self.appended_bytes.get() + bytes);
        if self
            .settled
            .is_due(self.appended_bytes.get(), self.memory.bytes_max() as u64)
        {
            self.wake.notify();
        }
    }

    /// No larger batch is taken: a few must fit into the tail memory side by side, and whoever reads it back must believe its size.
    pub fn batch_bytes_max(&self) -> u64 {
        (self.memory.bytes_max() / 4).min(BATCH_BYTES_MAX) as u64
    }

    /// Whether produce is refused for lack of space.
    pub fn is_full(&self) -> bool {
        self.full.get()
    }

    pub fn note_full(&self) {
        if !self.full.replace(true) {
            tracing::warn!(directory = %self.place.path.display(), "less space is free than ringtail.reserve.bytes asks for: produce is refused until there is more");
        }
    }

    /// Produce is refused until the next look at the space, for want of it or of a descriptor.
    pub fn note_passing(&self, error: &io::Error) {
        if is_full(error) {
            self.note_full();
        } else if !self.full.replace(true) {
            tracing::warn!(directory = %self.place.path.display(), %error, "produce is refused until that is over");
        }
    }

    /// For lack of space or descriptors something was left in memory, and in the journal as far as it is durable: the next round
    /// stores it.
    pub fn note_unstored(&self, error: &io::Error) {
        self.note_passing(error);
        self.settled.urge();
    }

    /// Makes everything written to the file system durable; waits while nothing can be opened for that.
    pub async fn flush_file_system(&self) -> io::Result<()> {
        loop {
            if planted(Bug::SettleUnflushed) {
                return Ok(());
            }
            match self.env.flush_file_system(&self.place.path).await {
                Err(_) if planted(Bug::RetryFailedFlush) => {}
                Err(error) if is_exhausted(&error) => {
                    self.note_passing(&error);
                    self.env.sleep_until(self.env.now().plus_ms(OPEN_RETRY_MS)).await;
                }
                // It may have been under way when another shard's failed, which leaves nothing for it to find.
                Ok(()) if self.health.is_fenced() => return Err(io::Error::other("the directory is out of service")),
                flushed => return flushed,
            }
        }
    }

    /// Looks at the free space; below the reserve produce is refused, above it taken up again. Also gives back what was read ahead of
    /// readers who left.
    async fn watch_space(self: Rc<Self>) {
        while !self.stopping.get() && !self.health.is_fenced() {
            if let Ok(free) = self.env.free_bytes(&self.place.path).await {
                if free < self.reserve_bytes {
                    self.note_full();
                } else if self.full.replace(false) {
                    mark(Mark::SpaceBack);
                    tracing::info!(directory = %self.place.path.display(), "there is space again: produce goes on");
                }
            }
            self.reading.windows.sweep(self.env.now());
            let deadline = self.env.now().plus_ms(FULL_CHECK_MS);
            race(self.ended.notified(), self.env.sleep_until(deadline)).await;
        }
        if self.health.is_fenced() {
            // By another shard, perhaps: what waits for this one's partitions is answered.
            self.members().iter().for_each(|partition| partition.close(true));
        }
        self.end_task();
    }

    /// Deletes what the topics' retention lets go, every `log.retention.check.interval.ms`.
    async fn retention_loop(self: Rc<Self>) {
        loop {
            let deadline = self.env.now().plus_ms(self.retention_check_ms);
            while self.env.now() < deadline && !self.stopping.get() {
                race(self.ended.notified(), self.env.sleep_until(deadline)).await;
            }
            if self.stopping.get() || self.health.is_fenced() {
                return self.end_task();
            }
            for partition in self.members() {
                partition.retain().await;
                self.env.yield_now().await;
            }
        }
    }

    /// Producers whose last append was before this have expired.
    pub fn producers_expire_before_ms(&self) -> i64 {
        self.env.wall_ms().saturating_sub(self.producer_expiration_ms)
    }

    /// Starts the scrub of this shard's part of the directory.
    pub(super) fn scrub(self: &Rc<Self>, options: ScrubOptions, metrics: Rc<ScrubMetrics>) {
        if options.bytes_per_second == 0 {
            return;
        }
        self.running.set(self.running.get() + 1);
        let directory = self.clone();
        self.env.spawn(Queue::Background, async move {
            Pass::run(directory.env.clone(), directory.clone(), options, metrics).await;
            directory.end_task();
        });
    }

    /// Whether background work is to end.
    pub(super) fn is_over(&self) -> bool {
        self.stopping.get() || self.health.is_fenced()
    }

    /// Wakes when background work is to end.
    pub(super) fn ending(&self) -> &Notify {
        &self.ended
    }

    fn end_task(&self) {
        self.running.set(self.running.get() - 1);
        self.ended.notify();
    }

    /// What cold readers share.
    pub fn reading(&self) -> &Reading<E> {
        &self.reading
    }

    /// Waits until everything that was asked of the journal is durable (or the directory is out of service).
    pub async fn journal_barrier(&self) {
        let (sender, receiver) = oneshot();
        let barrier = Rc::new(Barrier(RefCell::new(Some(sender))));
        self.journal.enqueue(barrier.clone());
        receiver.await;
    }

    /// Settles everything, writes a last checkpoint and stops the background work.
    pub(super) async fn close(self: &Rc<Self>) -> Result<(), StorageError> {
        self.stopping.set(true);
        self.wake.notify();
        self.ended.notify();
        self.ended.until(|| self.running.get() == 0).await;
        let failed = || {
            let why = match self.health.is_fenced() {
                true => "closed while out of service",
                false => "closed on a full disk: the next start takes the rest from journal and arena",
            };
            StorageError(format!("{}: {why}", self.place.path.display()))
        };
        if self.health.is_fenced() {
            self.journal.stop().await;
            return Err(failed());
        }
        self.members().iter().for_each(|partition| partition.refuse_appends());
        let settled = self.settle(true).await;
        // What a commit still takes from the partitions goes to their segments: they close behind the last one.
        self.journal.stop().await;
        self.members().iter().for_each(|partition| partition.close(false));
        settled.map_err(|()| failed())?;
        self.memory.remove_files().await;
        Ok(())
    }
}

/// The leader epoch of all batches appended during a start.
pub fn leader_epoch(start: u64) -> i32 {
    i32::try_from(start).unwrap_or(i32::MAX)
}

/// The beginning of the names of a directory's arenas.
pub fn arena_prefix(directory_id: &[u8; 16], start: u64) -> String {
    let id: String = directory_id.iter().map(|b| format!("{b:02x}")).collect();
    format!("ringtail-{id}-{start}")
}

struct Barrier(RefCell<Option<OneshotSender<()>>>);

impl Member for Barrier {
    fn collect(self: Rc<Self>, _commit: &mut CommitBuilder) -> bool {
        true
    }

    fn committed(self: Rc<Self>) {
        if let Some(sender) = self.0.borrow_mut().take() {
            sender.send(());
        }
    }

    fn failed(self: Rc<Self>) {
        self.0.borrow_mut().take();
    }
}
