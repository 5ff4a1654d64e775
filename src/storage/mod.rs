//! The log: partitions of one shard, their segments, the journal and the arena that make an append last.
//!
//! In: validated record batches, in the order of the calls. Out: offsets when the durability class's end has passed them,
//! and batches below the high watermark. See `docs/ARCHITECTURE.md` for the five ends and the two classes.
//!
//! Not for: the wire protocol, which partition lives where, who may read.

mod ahead;
mod build;
mod codec;
mod cold;
mod cursor;
mod directory;
mod epochs;
#[doc(hidden)]
pub mod formats;
mod growing;
mod health;
mod index;
mod journal;
mod memory;
mod options;
mod partition;
mod producers;
mod recovery;
mod scrub;
mod seal;
mod segment;
mod state;
mod store;
mod sums;
mod tail;
pub mod verify;
mod warm;

pub use cursor::Ends;
pub use health::is_passing;
pub use options::{CleanupPolicy, DurabilityClass, LogOptions, TimestampType};
pub use partition::{Appending, Partition, WantedBatches};
pub use recovery::leftovers::{Topics, Wanted, clear_leftovers};
pub use recovery::{Recovered, RecoveredDirectory, recover};
pub use scrub::ScrubOptions;
pub use seal::{Sealed, seal};
pub use store::Store;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::buffer::Pinned;
use crate::base::ids::PartitionId;

/// The first and smallest extension of a segment's file.
pub const EXTEND_BYTES_MIN: u64 = 64 << 10;
/// What the name of a deleted partition's folder ends with.
const DELETED_SUFFIX: &str = "-delete";
/// What the name of a folder ends with that was in the way of a new partition; Kafka uses the same.
const STRAY_SUFFIX: &str = "-stray";
/// Locked by whoever uses a log directory.
pub const LOCK_FILE: &str = ".lock";

/// The name of a partition's folder, as Kafka has it.
pub fn folder_name(topic: &str, index: i32) -> String {
    format!("{topic}-{index}")
}

/// What opening a partition needs to know.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    pub id: PartitionId,
    /// For the folder's name (`<topic>-<index>`) and the operator's log lines; identity is `id`.
    pub topic_name: Arc<str>,
    /// Index into the configured `log.dirs`.
    pub directory: usize,
    pub options: LogOptions,
}

/// A log directory and its `directory.id`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogDirectory {
    pub path: PathBuf,
    pub id: [u8; 16],
}

/// What a broker tells its store at start.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `log.dirs`; the locks are held.
    pub directories: Vec<LogDirectory>,
    /// `ringtail.arena.dir`.
    pub arena_directory: PathBuf,
    /// This shard's part of `ringtail.memory.bytes`.
    pub memory_bytes: u64,
    /// `ringtail.journal.bytes`, per shard and directory.
    pub journal_bytes: u64,
    /// Free space below which produce is refused.
    pub reserve_bytes: u64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// Producers that the logs of this shard remember together.
    pub producer_count_max: usize,
    /// `log.retention.check.interval.ms`.
    pub retention_check_ms: u64,
    pub shard: usize,
    pub shards: usize,
}

/// The answer to an append whose class's end has passed it (or to a retried duplicate of one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub base_offset: i64,
    /// Set on topics with `message.timestamp.type=LogAppendTime`, else -1.
    pub append_time_ms: i64,
    pub log_start: i64,
}

/// Why an append was refused or its fate is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// The sequence does not follow the producer's last one → OUT_OF_ORDER_SEQUENCE_NUMBER.
    OutOfOrderSequence,
    /// An older epoch of the producer → INVALID_PRODUCER_EPOCH.
    StaleProducerEpoch,
    /// Not one whole batch → CORRUPT_MESSAGE.
    Invalid,
    /// Larger than a segment may be → RECORD_LIST_TOO_LARGE.
    TooLargeForSegment,
    /// The asker, or that of an earlier batch of the same producer, waits no more; nothing was appended → REQUEST_TIMED_OUT.
    GivenUp,
    /// The partition is being deleted or its shard is stopping → NOT_LEADER_OR_FOLLOWER.
    Closed,
    /// The directory is out of service → KAFKA_STORAGE_ERROR.
    Offline,
    /// The directory has less free space than its reserve → KAFKA_STORAGE_ERROR (retriable).
    Full,
}

/// Why a read found nothing to give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// Below the log start or above the high watermark → OFFSET_OUT_OF_RANGE.
    OutOfRange,
    /// Bytes below the durable watermark do not verify → CORRUPT_MESSAGE.
    Corrupt,
    /// → KAFKA_STORAGE_ERROR.
    Offline,
    /// → NOT_LEADER_OR_FOLLOWER.
    Closed,
}

/// Whole batches, as they go on the wire.
#[derive(Clone, Debug, Default)]
pub struct LogSlice {
    pub pieces: Vec<Bytes>,
    /// In place of `pieces`: what can only be sent.
    pub pinned: Vec<Pinned>,
    pub bytes: usize,
}

/// A record's place in time: the answer to a look-up by timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOffset {
    pub timestamp_ms: i64,
    pub offset: i64,
    pub leader_epoch: i32,
}

/// Why opening, creating or deleting failed; names the file and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorageError(pub String);

impl std::fmt::Display for StorageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StorageError {}

/// Why a partition could not be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// There was no space or no descriptor for it: it may be opened later.
    Passing(StorageError),
    Failed(StorageError),
}

impl OpenError {
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Passing(_))
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Passing(error) | Self::Failed(error)) = self;
        error.fmt(f)
    }
}

impl std::error::Error for OpenError {}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests;
