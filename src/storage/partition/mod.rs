//! One partition's driver: what its log decides, done.
//!
//! Invariants
//! 1. The five ends move in one place and in order (`Ends::advance`).
//! 2. A block of a segment is written once, whole (`store` writes from `stored`, block-aligned, which only rises); what is
//!    behind it lies in the arena, and in the journal or a checkpoint as far as it is durable.
//! 3. An answer leaves when the high watermark has passed its end (`Log::due_acks`), and a reader sees nothing above it.
//! 4. One task stores at a time (`store_turn`), one admits at a time (`Log::admitting`), appends keep the order of the calls.
//!
//! Not for: which shard or directory a partition lives on; recovery.

mod ahead;
mod append;
mod by_time;
mod commit;
mod complaints;
mod cut_out;
mod line;
mod log;
mod lookup;
mod pinned;
mod read;
mod reclaim;
mod retain;
mod scrub;
mod settle;
mod store;
mod wanted;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

pub use append::Appending;
use complaints::Complaints;
use log::{Ack, Log, NextSegment, State};
pub(super) use reclaim::Evicted;
pub use wanted::WantedBatches;

use super::build::{SegmentBuild, SegmentIdentity};
use super::cursor::{Cursor, Ends};
use super::directory::ShardDirectory;
use super::journal::rows::Owner;
use super::options::{DurabilityClass, LogOptions};
use super::segment::OpenSegment;
use super::state::PartitionState;
use super::tail::{ChunkPlace, Tail, TailChunk};
use super::{AppendError, StorageError};
use crate::base::buffer::block_floor;
use crate::base::ids::PartitionId;
use crate::base::sync::{Budget, Notify};
use crate::io::{Env, Queue};
use crate::storage::segment::ClosedSegment;
use std::cell::{Cell, RefCell};

/// One partition's log on this shard.
pub struct Partition<E: Env> {
    env: E,
    directory: Rc<ShardDirectory<E>>,
    owner: Owner,
    topic_name: Arc<str>,
    folder: PathBuf,
    log: RefCell<Log<E>>,
    advanced: Notify,
    store_turn: Rc<Budget>,
    /// A commit waits for the turn.
    hurry: Notify,
    /// A segment's file takes writes, or its size changes: the kernel hands a write beside a change of size to a worker thread.
    file_turn: Rc<Budget>,
    /// It stands in the directory's row of partitions to take memory from.
    evictable: Cell<bool>,
    /// What the directory counts of this log's full chunks.
    queued: Cell<u64>,
    complaints: Complaints,
}

/// What the high watermark's move brings.
#[must_use]
struct Published {
    moved: bool,
    due: Vec<Ack>,
}

/// What opening found on the disk, beyond the state that recovery gives.
pub(super) struct Opened<E: Env> {
    pub folder: PathBuf,
    pub closed: Vec<ClosedSegment>,
    /// The active segment's file, and its size.
    pub file: E::File,
    pub allocated: u64,
}

impl<E: Env> Partition<E> {
    /// Takes up a log where `state` says it ends.
    pub(super) fn attach(
        env: E,
        directory: Rc<ShardDirectory<E>>,
        topic_name: Arc<str>,
        options: LogOptions,
        state: PartitionState,
        opened: Opened<E>,
    ) -> Result<Rc<Self>, StorageError> {
        let owner = Owner {
            partition: state.id,
            generation: directory.generation(),
        };
        let end = state.boundary;
        let frozen = state.damaged.then(|| state.clone());
        let mut tail = Tail::default();
        let start = block_floor(end.position);
        if end.position > start && frozen.is_none() {
            let place = ChunkPlace {
                owner,
                segment: end.segment,
                start,
            };
            let Some(chunk) = directory.take_chunk(1, &place.encode()) else {
                return Err(StorageError(
                    "ringtail.memory.bytes is too small for the partitions' tails".into(),
                ));
            };
            tail.push(TailChunk::new(end.segment, start, chunk), &state.tail);
        }
        let active = OpenSegment {
            base: end.segment,
            file: opened.file,
            allocated: opened.allocated,
            end: None,
            stored: start,
            built: end,
            whole: end,
            build: state.build.clone(),
        };
        let epoch = directory.leader_epoch();
        let log = Log::opened(state, frozen, opened.closed, active, tail, epoch, options);
        let (log, advanced) = (RefCell::new(log), Notify::default());
        Ok(Rc::new(Self {
            env,
            directory,
            owner,
            topic_name,
            folder: opened.folder,
            log,
            advanced,
            store_turn: Budget::new(1),
            hurry: Notify::default(),
            file_turn: Budget::new(1),
            evictable: Cell::new(false),
            queued: Cell::new(0),
            complaints: Complaints::default(),
        }))
    }

    pub fn id(&self) -> PartitionId {
        self.owner.partition
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub fn topic_name(&self) -> &Arc<str> {
        &self.topic_name
    }

    pub fn ends(&self) -> Ends {
        self.log.borrow().ends
    }

    /// The end of what may be read.
    pub fn high_watermark(&self) -> i64 {
        self.log.borrow().visible.offset
    }

    /// The epoch that new batches are stamped with.
    pub fn leader_epoch(&self) -> i32 {
        self.log.borrow().epoch
    }

    /// The largest epoch not above `epoch` and its end offset (KIP-320), or `epoch` itself where it was deleted; `None` when there is none.
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        let log = self.log.borrow();
        if epoch >= log.epoch && log.epochs.latest() != Some(log.epoch) {
            return (epoch == log.epoch).then_some((epoch, log.visible.offset));
        }
        log.epochs.end_of(epoch, log.visible.offset)
    }

    /// Wakes when the high watermark or the log start moved, or the partition closed.
    pub fn advanced(&self) -> &Notify {
        &self.advanced
    }

    /// Bytes that the partition's segments hold.
    pub fn stored_bytes(&self) -> u64 {
        self.log.borrow().stored_bytes()
    }

    /// New options from now on.
    pub fn set_options(self: &Rc<Self>, options: LogOptions) {
        let mut log = self.log.borrow_mut();
        let before = log.options.durability;
        log.wanted_class = options.durability;
        let becomes_flushed = before == DurabilityClass::Written && options.durability == DurabilityClass::Flushed;
        log.options = options;
        if becomes_flushed {
            // The class changes when all that was `written` is durable (`settle::become_flushed`).
            log.options.durability = DurabilityClass::Written;
            self.env.spawn(Queue::Background, self.clone().become_flushed());
        }
    }

    /// Whether the directory is out of service: another shard may have found that before this one.
    pub fn is_offline(&self) -> bool {
        self.log.borrow().state == State::Offline || self.directory.health().is_fenced()
    }

    /// Whether recovery found that durable bytes are missing or wrong.
    pub fn is_damaged(&self) -> bool {
        self.log.borrow().state == State::Damaged
    }

    fn fresh_segment(&self, next: NextSegment<E>) -> OpenSegment<E> {
        let NextSegment { base, file, allocated } = next;
        let identity = SegmentIdentity {
            partition: self.owner.partition,
            base,
            uid: self.env.random(),
        };
        let start = Cursor::segment_start(base);
        OpenSegment {
            base,
            file,
            allocated,
            end: None,
            stored: 0,
            built: start,
            whole: start,
            build: SegmentBuild::new(identity),
        }
    }

    /// Moves the high watermark, answers what was waiting for it and wakes readers.
    fn publish(&self) {
        let published = self.advance(&mut self.log.borrow_mut());
        self.tell(published);
    }

    /// Moves the high watermark.
    fn advance(&self, log: &mut Log<E>) -> Published {
        self.count_queued(log);
        Published {
            moved: log.advance_visible(),
            due: log.due_acks(),
        }
    }

    /// Tells those who wait for the high watermark, once the log may be looked at again.
    fn tell(&self, published: Published) {
        for ack in published.due {
            ack.answer.send(Ok(ack.appended));
        }
        if published.moved {
            self.advanced.notify();
        }
    }

    /// Tells the directory what the disk is to take of this log.
    fn count_queued(&self, log: &Log<E>) {
        let queued = match (log.state, log.options.durability) {
            (State::Serving, DurabilityClass::Written) => log.queued_bytes(),
            _ => 0,
        };
        self.directory.count_queued(self.queued.replace(queued), queued);
    }

    /// Closes the partition and waits until nothing of it is at work any more.
    pub(super) async fn end(&self) {
        self.close(false);
        // Whoever stores now comes to its end, and whoever stands in line behind it (a task that counts as `storing`) finds
        // the log closed: the turn must not be kept from them.
        drop(self.store_turn.acquire(1).await);
        loop {
            let quiet = {
                let log = self.log.borrow();
                !(log.admitting || log.extending || log.storing)
            };
            if quiet {
                return;
            }
            self.env.sleep_until(self.env.now().plus_ms(1)).await;
        }
    }

    /// Takes no more appends, while reads and settling go on: the store is about to close.
    pub(super) fn refuse_appends(&self) {
        let waiting = {
            let mut log = self.log.borrow_mut();
            if log.state == State::Serving {
                log.state = State::Stopping;
            }
            self.count_queued(&log);
            log.waiting.take_all()
        };
        waiting.for_each(|waiting| waiting.answer.send(Err(AppendError::Closed)));
    }

    /// A failed write or allocation: the end of the directory, unless it was only the partition's own end.
    fn failed_at(&self, doing: &str, error: &std::io::Error) {
        if self.log.borrow().state != State::Closed {
            self.directory.fence(doing, error);
        }
    }

    /// Ends the partition: everything that waits is answered with an error.
    pub(super) fn close(&self, offline: bool) {
        let (acks, waiting) = {
            let mut log = self.log.borrow_mut();
            log.state = if offline { State::Offline } else { State::Closed };
            self.count_queued(&log);
            (std::mem::take(&mut log.acks), log.waiting.take_all())
        };
        let error = if offline {
            AppendError::Offline
        } else {
            AppendError::Closed
        };
        acks.into_iter().for_each(|ack| ack.answer.send(Err(error)));
        waiting.for_each(|waiting| waiting.answer.send(Err(error)));
        self.advanced.notify();
    }
}
