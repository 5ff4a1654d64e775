//! From what a start finds on the disk to logs that can be served. Runs once per directory, before any shard opens it.
//!
//! | found | taken as |
//! |---|---|
//! | no base checkpoint | a new directory: start 0 |
//! | base of start S | everything of older starts is garbage; shard checkpoints and journals of S are newer than the base |
//! | a shard checkpoint that does not verify | the one before it, whose journal is still there |
//! | no checkpoint of a shard verifies | the base checkpoint and the whole journal; if that does not reach back so far, the start is refused |
//! | a journal with a bad commit before a good one | corruption: the start is refused, nothing is changed |
//! | a partition that ends below what was durable | damaged: kept as it is, not served; the others go on |
//!
//! Invariants
//! 1. Nothing that tells anything is removed or erased before the new base is durable (`recover`); until then a crash repeats
//!    the same recovery.
//! 2. Every accepted byte is durable in its segment or in the base before the start serves.
//! 3. Behind every end the segment reads as zeros before the start serves, so nothing stale can follow new batches.
//!
//! The work is bounded by journals, arenas and what was appended since the last checkpoint, never by the bytes stored.

pub(super) mod evidence;
pub(super) mod leftovers;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use self::evidence::Evidence;
use super::directory::{arena_prefix, leader_epoch};
use super::health::{Health, is_full};
use super::state::{Checkpoint, OwnFile, PartitionState, base_name};
use super::{LogDirectory, StorageError};
use crate::base::coverage::{Mark, mark};
use crate::base::ids::{PartitionId, TopicId};
use crate::base::sync::join_all;
use crate::io::{Env, read_file, replace_file};

/// Partitions recovered side by side.
const SIDE_BY_SIDE: usize = 32;

/// One directory, ready to be opened by all shards.
pub struct RecoveredDirectory {
    pub place: LogDirectory,
    /// This start's number in the directory.
    pub start: u64,
    pub health: Health,
    states: Mutex<BTreeMap<PartitionId, PartitionState>>,
    missing: BTreeSet<PartitionId>,
    /// The folder of each partition found.
    folders: BTreeMap<PartitionId, PathBuf>,
}

impl RecoveredDirectory {
    /// Takes out what was found of a partition.
    pub(super) fn take(&self, id: PartitionId) -> Option<PartitionState> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Gives back what could not be opened.
    pub(super) fn put_back(&self, state: PartitionState) {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(state.id, state);
    }

    /// Whether checkpoint or journal know the partition, and no folder is there for it. (Those of deleted topics are, too.)
    pub(super) fn is_missing(&self, id: PartitionId) -> bool {
        self.missing.contains(&id)
    }

    /// The leader epoch of the partitions in it. It rises at every start, so that clients can tell what a power cut took.
    pub fn leader_epoch(&self) -> i32 {
        leader_epoch(self.start)
    }

    /// Whether no write or flush of any shard has failed since the start.
    pub fn is_in_service(&self) -> bool {
        !self.health.is_fenced()
    }

    /// Where a partition was found.
    pub(super) fn folder(&self, id: PartitionId) -> Option<&Path> {
        self.folders.get(&id).map(PathBuf::as_path)
    }

    /// Partitions found on the disk that nobody has opened.
    pub fn unopened(&self) -> Vec<PartitionId> {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .copied()
            .collect()
    }
}

/// All log directories of the broker, recovered.
pub struct Recovered {
    pub directories: Vec<Arc<RecoveredDirectory>>,
}

/// Recovers the directories, one after the other. The caller holds their locks.
pub async fn recover<E: Env>(
    env: &E,
    directories: &[LogDirectory],
    arena_directory: &Path,
) -> Result<Arc<Recovered>, StorageError> {
    let mut recovered = Vec::new();
    for place in directories {
        let named = |e: io::Error| StorageError(format!("{}: recovery: {e}", place.path.display()));
        let directory = recover_directory(env, place, arena_directory).await.map_err(named)?;
        recovered.push(Arc::new(directory));
    }
    Ok(Arc::new(Recovered { directories: recovered }))
}

/// Recovers, and on a full disk once more in the space of the journal files that hold nothing.
async fn recover_directory<E: Env>(env: &E, place: &LogDirectory, arenas: &Path) -> io::Result<RecoveredDirectory> {
    let mut spare = Vec::new();
    match recover_in_space(env, place, arenas, &mut spare).await {
        Err(error) if is_full(&error) && !spare.is_empty() => {
            tracing::warn!(directory = %place.path.display(), files = spare.len(), "the disk is full: recovery takes the space of unused journal files");
            for name in spare {
                match env.unlink(&place.path.join(name)).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            // Not all file systems have the space of an unlinked file at hand before.
            env.flush_file_system(&place.path).await?;
            recover_in_space(env, place, arenas, &mut Vec::new()).await
        }
        done => done,
    }
}

/// Recovers in the space there is. `spare` gets the names of files that could make more of it.
async fn recover_in_space<E: Env>(
    env: &E,
    place: &LogDirectory,
    arenas: &Path,
    spare: &mut Vec<String>,
) -> io::Result<RecoveredDirectory> {
    let path = &place.path;
    let mut own = Vec::new();
    let mut folders = Vec::new();
    for entry in env.list(path).await? {
        match OwnFile::parse(&entry.name) {
            Some(file) if !entry.is_directory => own.push((entry.name, file)),
            None if entry.is_directory => folders.push(entry.name),
            _ => {}
        }
    }
    let governing = own
        .iter()
        .filter(|(_, f)| matches!(f, OwnFile::Base { .. }))
        .map(|(_, f)| f.start())
        .max();
    if governing.is_none() && !own.is_empty() {
        let message =
            "journals or checkpoints, but no base checkpoint: restore it, or move them away to lose what they hold";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let start = governing.map_or(0, |start| start + 1);
    let mut evidence = Evidence::default();
    if let Some(governing) = governing {
        evidence.read_base(env, path, governing, &place.id).await?;
        evidence.read_shards(env, path, governing, &own).await?;
        evidence
            .read_arenas(env, arenas, &arena_prefix(&place.id, governing))
            .await?;
    }
    spare.append(&mut evidence.spare);
    let mut found = find_partitions(env, path, &folders).await?;
    let mut names = BTreeMap::new();
    let mut states = BTreeMap::new();
    while !found.is_empty() {
        let group = found.split_off(found.len().saturating_sub(SIDE_BY_SIDE));
        group
            .iter()
            .for_each(|(id, name)| drop(names.insert(*id, path.join(name))));
        let walks = group
            .into_iter()
            .map(|(id, folder)| walk::recover_partition(env, path.join(folder), evidence.of(id)));
        for state in join_all(walks.collect()).await {
            let state = state?;
            states.insert(state.id, state);
        }
    }
    env.flush_file_system(path).await?;
    write_base(env, place, start, &states).await?;
    erase_behind_all(env, &names, &states).await?;
    env.flush_file_system(path).await?;
    let damaged = states.values().any(|s| s.damaged);
    remove_old(env, path, arenas, &place.id, start, &own, damaged).await?;
    // The new journals may need just the space of the old ones.
    env.flush_directory(path).await?;
    Ok(RecoveredDirectory {
        place: place.clone(),
        start,
        health: Health::default(),
        states: Mutex::new(states),
        missing: evidence.ids().collect(),
        folders: names,
    })
}

/// Makes what lies behind the ends of all logs read as zeros; damaged ones stay as they are.
async fn erase_behind_all<E: Env>(
    env: &E,
    folders: &BTreeMap<PartitionId, PathBuf>,
    states: &BTreeMap<PartitionId, PartitionState>,
) -> io::Result<()> {
    for group in states.values().collect::<Vec<_>>().chunks(SIDE_BY_SIDE) {
        let erasures = group
            .iter()
            .filter(|s| !s.damaged)
            .map(|s| walk::erase_behind(env, folders.get(&s.id).cloned(), s));
        join_all(erasures.collect())
            .await
            .into_iter()
            .collect::<io::Result<()>>()?;
    }
    Ok(())
}

async fn write_base<E: Env>(
    env: &E,
    place: &LogDirectory,
    start: u64,
    states: &BTreeMap<PartitionId, PartitionState>,
) -> io::Result<()> {
    let mut encoded = Vec::new();
    states.values().for_each(|state| state.encode(&mut encoded));
    let content = Checkpoint::encode(place.id, start, 0, states.len() as u32, &encoded);
    replace_file(env, &place.path.join(base_name(start)), Bytes::from(content)).await
}

/// Folders that hold a partition, by the topic id in their `partition.metadata`; folders of deleted ones are removed.
pub(super) async fn find_partitions<E: Env>(
    env: &E,
    path: &Path,
    folders: &[String],
) -> io::Result<Vec<(PartitionId, String)>> {
    let mut found = Vec::new();
    for name in folders {
        if name.ends_with(super::DELETED_SUFFIX) {
            mark(Mark::LeftoversRemoved);
            leftovers::remove_folder(env, &path.join(name)).await?;
            continue;
        }
        let Some(index) = name.rsplit_once('-').and_then(|(_, index)| index.parse::<i32>().ok()) else {
            continue;
        };
        match read_file(env, &path.join(name).join("partition.metadata"), 4096).await {
            Ok(text) => match topic_id(&text) {
                Some(topic) => found.push((PartitionId { topic, index }, name.clone())),
                None => {
                    tracing::error!(folder = %path.join(name).display(), "partition.metadata is unreadable: left alone")
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The topic id in a `partition.metadata`.
pub(super) fn topic_id(metadata: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(metadata).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("topic_id:"))?;
    TopicId::parse(value.trim())
}

/// Removes what the new base makes superfluous. Journals stay, renamed, when a partition is damaged: they may hold what it
/// lacks.
async fn remove_old<E: Env>(
    env: &E,
    path: &Path,
    arenas: &Path,
    id: &[u8; 16],
    start: u64,
    own: &[(String, OwnFile)],
    damaged: bool,
) -> io::Result<()> {
    for (name, file) in own.iter().filter(|(_, file)| file.start() < start) {
        if damaged && matches!(file, OwnFile::Journal { .. }) {
            env.rename(&path.join(name), &path.join(format!("damaged-{name}")))
                .await?;
        } else {
            env.unlink(&path.join(name)).await?;
        }
    }
    let any_start = arena_prefix(id, 0);
    let prefix = any_start.trim_end_matches('0');
    for entry in env.list(arenas).await? {
        if entry.name.starts_with(prefix) {
            env.unlink(&arenas.join(entry.name)).await?;
        }
    }
    Ok(())
}
