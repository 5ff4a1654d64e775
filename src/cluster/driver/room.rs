//! Whether there is space for what commands ask for, before they are decided: in the metadata log for their records, in the
//! directories for their partitions. So a full disk refuses a command, and nothing that was decided fails for it.

use std::path::PathBuf;

use super::controller::ClusterError;
use super::metadata_log::MetadataLog;
use crate::cluster::command::DecideError;
use crate::cluster::ids::DirectoryId;
use crate::cluster::log_format::{CONFIRMATION_BYTES, SLACK_BYTES, push_commit};
use crate::cluster::record::Record;
use crate::io::Env;
use crate::storage::EXTEND_BYTES_MIN;

/// Why a command is not decided.
pub(super) enum Undecided {
    Failed(ClusterError),
    /// The log has no room for its records, so many bytes.
    Lacks(u64),
}

/// The records of a command, and what they take.
pub(super) struct Pending {
    pub records: Vec<Record>,
    /// Bytes in the log, at most.
    charged: u64,
    /// Bytes of new partitions.
    promised: u64,
}

impl Pending {
    pub fn new(records: Vec<Record>, promised: u64) -> Self {
        let mut alone = Vec::new();
        push_commit(&mut alone, 0, 0, &records);
        // Padding may differ in a commit with others; and a confirmation may follow.
        let charged = alone.len() as u64 + 64 + CONFIRMATION_BYTES;
        Self {
            records,
            charged,
            promised,
        }
    }
}

/// What one commit takes.
#[derive(Default)]
pub(super) struct Batch {
    pub records: Vec<Record>,
    /// Commands.
    pub count: u64,
    pub charged: u64,
    pub promised: u64,
}

impl Batch {
    pub fn add(&mut self, pending: Pending) {
        self.records.extend(pending.records);
        self.count += 1;
        self.charged += pending.charged;
        self.promised += pending.promised;
    }
}

/// The log's room, less what was decided and is not in it yet.
#[derive(Default)]
pub(super) struct Room {
    bytes: u64,
    pub charged: u64,
    /// Bytes of partitions that were decided on and are not made yet.
    pub promised: u64,
    /// A command waits for so much.
    pub wanted: Option<u64>,
    /// How often it was asked for, and whether the last time was in vain.
    pub tries: u64,
    pub is_refused: bool,
}

impl Room {
    pub fn of<E: Env>(log: &MetadataLog<E>) -> Self {
        let mut room = Self::default();
        room.give_back(0, 0, log);
        room
    }

    /// Counts a command's records in. Error: the bytes that they lack.
    pub fn take(&mut self, pending: &Pending) -> Result<(), u64> {
        if self.charged + pending.charged > self.bytes {
            return Err(pending.charged + CONFIRMATION_BYTES + SLACK_BYTES);
        }
        self.charged += pending.charged;
        self.promised += pending.promised;
        Ok(())
    }

    /// These are in the log, the partitions made.
    pub fn give_back<E: Env>(&mut self, charged: u64, promised: u64, log: &MetadataLog<E>) {
        self.charged -= charged;
        self.promised -= promised;
        self.bytes = log.room().saturating_sub(CONFIRMATION_BYTES + SLACK_BYTES);
    }
}

/// Bytes that directories have for new partitions, above the reserve. One that could not be asked is not in it, and takes all.
#[derive(Default)]
pub(super) struct Spaces(Vec<(DirectoryId, PathBuf, u64)>);

impl Spaces {
    pub fn add(&mut self, id: DirectoryId, path: PathBuf, bytes: u64) {
        self.0.push((id, path, bytes));
    }

    /// Those of `online` with space for one partition; all of them if none has: what is then decided is told from `check`.
    pub fn with_some(&self, online: &[DirectoryId], promised: u64) -> Vec<DirectoryId> {
        let is_full = |id| {
            let found = self.0.iter().find(|(known, ..)| known == id);
            found.is_some_and(|(.., bytes)| *bytes < promised + EXTEND_BYTES_MIN)
        };
        let some: Vec<_> = online.iter().filter(|id| !is_full(*id)).copied().collect();
        if some.is_empty() { online.to_vec() } else { some }
    }

    /// The bytes that the new partitions of `records` take. Error: a directory that gets some has no space for all of them:
    /// directories may share a disk.
    pub fn check(&self, records: &[Record], promised: u64) -> Result<u64, DecideError> {
        let mut all: Vec<DirectoryId> = Vec::new();
        for record in records {
            if let Record::TopicCreated { partitions, .. } | Record::PartitionsAdded { partitions, .. } = record {
                all.extend(partitions);
            }
        }
        let count = all.len() as u64;
        for (id, path, bytes) in &self.0 {
            if all.contains(id) && promised + count * EXTEND_BYTES_MIN > *bytes {
                let text = format!(
                    "{} has no space for {count} more partitions of {} KiB each above ringtail.reserve.bytes: {bytes} bytes are left.",
                    path.display(),
                    EXTEND_BYTES_MIN >> 10
                );
                return Err(DecideError::NoSpace(text));
            }
        }
        Ok(count * EXTEND_BYTES_MIN)
    }
}
