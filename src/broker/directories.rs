//! The log directories as handlers see them: the leader epoch of their partitions, and whether they are in service.

use std::sync::Arc;

use super::catalog::Topic;
use crate::cluster::DirectoryId;
use crate::storage::{Recovered, RecoveredDirectory};

/// The directories that were recovered at this start; the same on every shard.
pub struct Directories(Vec<(DirectoryId, Arc<RecoveredDirectory>)>);

/// Who leads a partition, as clients are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// -1 for a partition of a directory that was lost before this start.
    pub epoch: i32,
    /// Whether this broker leads it: nobody does while its directory is out of service.
    pub is_led: bool,
}

impl Directories {
    pub fn new(recovered: &Recovered) -> Self {
        let named = |directory: &Arc<RecoveredDirectory>| (DirectoryId(directory.place.id), directory.clone());
        Self(recovered.directories.iter().map(named).collect())
    }

    /// Who leads partition `index` of `topic`.
    pub fn leadership(&self, topic: &Topic, index: i32) -> Leadership {
        let directory = topic.directory(index);
        // A broker has a handful of directories.
        let found = self.0.iter().find(|(id, _)| Some(*id) == directory);
        found.map_or(
            Leadership {
                epoch: -1,
                is_led: false,
            },
            |(_, directory)| Leadership {
                epoch: directory.leader_epoch(),
                is_led: directory.is_in_service(),
            },
        )
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (DirectoryId, &RecoveredDirectory)> {
        self.0.iter().map(|(id, directory)| (*id, &**directory))
    }
}
