//! The log directories as handlers see them: the leader epoch of their partitions, and whether those are in service.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::catalog::Topic;
use crate::base::ids::PartitionId;
use crate::cluster::DirectoryId;
use crate::storage::{Recovered, RecoveredDirectory};

/// The directories that were recovered at this start; the same on every shard.
pub struct Directories {
    recovered: Vec<(DirectoryId, Arc<RecoveredDirectory>)>,
    offline: Arc<Offline>,
}

/// Partitions that could not be opened. Each is its shard's to note, and any shard's to tell of.
#[derive(Default)]
pub struct Offline(Mutex<BTreeSet<PartitionId>>);

impl Offline {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<PartitionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, id: PartitionId) {
        self.lock().insert(id);
    }

    pub fn remove(&self, id: PartitionId) {
        self.lock().remove(&id);
    }

    pub fn contains(&self, id: PartitionId) -> bool {
        self.lock().contains(&id)
    }
}

/// Who leads a partition, as clients are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// -1 for a partition of a directory that was lost before this start.
    pub epoch: i32,
    /// Whether this broker leads it: nobody does while it or its directory is out of service.
    pub is_led: bool,
}

impl Directories {
    pub fn new(recovered: &Recovered, offline: Arc<Offline>) -> Self {
        let named = |directory: &Arc<RecoveredDirectory>| (DirectoryId(directory.place.id), directory.clone());
        Self {
            recovered: recovered.directories.iter().map(named).collect(),
            offline,
        }
    }

    /// Who leads partition `index` of `topic`.
    pub fn leadership(&self, topic: &Topic, index: i32) -> Leadership {
        let directory = topic.directory(index);
        let is_offline = || topic.partition(index).is_some_and(|id| self.offline.contains(id));
        // A broker has a handful of directories.
        let found = self.recovered.iter().find(|(id, _)| Some(*id) == directory);
        found.map_or(
            Leadership {
                epoch: -1,
                is_led: false,
            },
            |(_, directory)| Leadership {
                epoch: directory.leader_epoch(),
                is_led: directory.is_in_service() && !is_offline(),
            },
        )
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (DirectoryId, &RecoveredDirectory)> {
        self.recovered.iter().map(|(id, directory)| (*id, &**directory))
    }
}
