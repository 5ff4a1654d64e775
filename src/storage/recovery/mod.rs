//! From what a start finds on the disk to logs that can be served. Runs once per directory, before any shard opens it.
//!
//! | found | taken as |
//! |---|---|
//! | no base checkpoint | a new directory: start 0 |
//! | base of start S | everything of older starts is garbage; shard checkpoints and journals of S are newer than the base |
//! | a shard checkpoint that does not verify | the one before it, whose journal is still there |
//! | no checkpoint of a shard verifies | the base checkpoint and the whole journal; if that does not reach back so far, the start is refused |
//! | a journal with a bad commit before a good one | corruption: the start is refused, nothing is changed |
//! | a folder whose partition nobody wants, and nothing of ours knows | not looked into: it is set aside as it is |
//! | a folder that names a partition whose folder has another name | it is left as it is |
//! | two folders of one partition, where names are not known (`ringtail log seal`) | one is a copy: refused, nothing is changed |
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

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::evidence::Evidence;
use self::leftovers::{Topics, Wanted};
use self::walk::{Segments, Walked};
use super::directory::{arena_prefix, leader_epoch};
use super::health::{Health, is_full, is_passing};
use super::state::{Checkpoint, OwnFile, PartitionState, base_name};
use super::{LogDirectory, StorageError};
use crate::base::coverage::{Mark, mark};
use crate::base::ids::{PartitionId, TopicId};
use crate::base::planted::{Bug, planted};
use crate::base::sync::join_all;
use crate::io::{Env, Monotonic, read_file, replace_file};

/// Partitions recovered side by side.
const SIDE_BY_SIDE: usize = 128;
/// With so much free the files of earlier starts may stay for a while.
const AMPLE_BYTES: u64 = 4 << 30;

/// A partition as recovery left it.
#[derive(Clone)]
pub(super) struct Found {
    pub state: PartitionState,
    pub segments: Segments,
}

/// One directory, ready to be opened by all shards.
pub struct RecoveredDirectory {
    pub place: LogDirectory,
    /// This start's number in the directory.
    pub start: u64,
    pub health: Health,
    found: Mutex<BTreeMap<PartitionId, Found>>,
    missing: BTreeSet<PartitionId>,
    /// The folder of each partition found.
    folders: BTreeMap<PartitionId, PathBuf>,
    /// Folders of partitions that were not recovered: deleted ones, and strangers' that are as they were.
    leftovers: Vec<(PartitionId, PathBuf)>,
    /// Files of earlier starts, of which the new base tells all: journals, checkpoints, arenas.
    superseded: Mutex<Vec<PathBuf>>,
}

impl RecoveredDirectory {
    /// Takes out what was found of a partition.
    pub(super) fn take(&self, id: PartitionId) -> Option<Found> {
        self.found().remove(&id)
    }

    /// Gives back what could not be opened.
    pub(super) fn put_back(&self, found: Found) {
        self.found().insert(found.state.id, found);
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Removes the files of earlier starts. What a crash leaves of them means nothing, and goes at the next start.
    pub async fn remove_superseded<E: Env>(&self, env: &E) -> io::Result<()> {
        let files = std::mem::take(&mut *self.superseded.lock().unwrap_or_else(PoisonError::into_inner));
        for file in files {
            match env.unlink(&file).await {
                // What somebody else put among the arenas only they can remove.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    tracing::warn!(file = %file.display(), %error, "a file of an earlier start stays");
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let flushed = env.flush_directory(&self.place.path).await;
        if let Err(error) = &flushed
            && !is_passing(error)
        {
            // It covered the names that others gave meanwhile, and no later flush makes up for it.
            self.health
                .fence(&self.place.path.display().to_string(), "flushing its names", error);
        }
        flushed
    }

    /// Partitions recovered that nobody has opened, with their folders.
    pub(super) fn unopened(&self) -> Vec<(PartitionId, PathBuf)> {
        let found = self.found();
        let folder = |id: &PartitionId| Some((*id, self.folders.get(id)?.clone()));
        found.keys().filter_map(folder).collect()
    }

    /// Folders of partitions that were not recovered.
    pub(super) fn leftovers(&self) -> &[(PartitionId, PathBuf)] {
        &self.leftovers
    }
}

/// All log directories of the broker, recovered.
pub struct Recovered {
    pub directories: Vec<Arc<RecoveredDirectory>>,
}

/// Recovers the directories, all at once. The caller holds their locks. A partition that `topics` do not know is recovered
/// only if checkpoints, journal or memory of the directory do.
pub async fn recover<E: Env>(
    env: &E,
    directories: &[LogDirectory],
    arena_directory: &Path,
    topics: impl Topics,
) -> Result<Arc<Recovered>, StorageError> {
    let each = directories.iter().map(async |place| {
        let named = |e: io::Error| StorageError(format!("{}: recovery: {e}", place.path.display()));
        let recovered = recover_directory(env, place, arena_directory, &topics).await;
        recovered.map(Arc::new).map_err(named)
    });
    let recovered: Result<Vec<_>, StorageError> = join_all(each.collect()).await.into_iter().collect();
    recovered.map(|directories| Arc::new(Recovered { directories }))
}

impl Recovered {
    /// Removes what earlier starts left where the new one may be short of its space.
    pub async fn make_room<E: Env>(&self, env: &E, arena_directory: &Path) -> Result<(), StorageError> {
        for directory in &self.directories {
            let path = &directory.place.path;
            let failed = |e: io::Error| StorageError(format!("{}: {e}", path.display()));
            let free = env.free_bytes(path).await.map_err(failed)?;
            let memory = env.free_bytes(arena_directory).await.map_err(failed)?;
            if free.min(memory) < AMPLE_BYTES {
                directory.remove_superseded(env).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes what earlier starts left.
    pub async fn remove_superseded<E: Env>(&self, env: &E) {
        for directory in &self.directories {
            if let Err(error) = directory.remove_superseded(env).await {
                tracing::warn!(directory = %directory.place.path.display(), %error, "files of earlier starts stay until the next one");
            }
        }
    }
}

/// Recovers, and on a full disk once more in the space of the journal files that hold nothing.
async fn recover_directory<E: Env>(
    env: &E,
    place: &LogDirectory,
    arenas: &Path,
    topics: &dyn Topics,
) -> io::Result<RecoveredDirectory> {
    let mut spare = Vec::new();
    match recover_in_space(env, place, arenas, topics, &mut spare).await {
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
            recover_in_space(env, place, arenas, topics, &mut Vec::new()).await
        }
        done => done,
    }
}

/// How long the parts of a recovery took, for the operator.
struct Phases {
    began: Monotonic,
    text: String,
}

impl Phases {
    fn begin<E: Env>(env: &E) -> Self {
        Self {
            began: env.now(),
            text: String::new(),
        }
    }

    fn end<E: Env>(&mut self, env: &E, phase: &str) {
        let now = env.now();
        let separator = if self.text.is_empty() { "" } else { ", " };
        self.text += &format!("{separator}{phase} {} ms", now.ms_since(self.began));
        self.began = now;
    }
}

/// Recovers in the space there is. `spare` gets the names of files that could make more of it.
async fn recover_in_space<E: Env>(
    env: &E,
    place: &LogDirectory,
    arenas: &Path,
    topics: &dyn Topics,
    spare: &mut Vec<String>,
) -> io::Result<RecoveredDirectory> {
    let path = &place.path;
    let mut phases = Phases::begin(env);
    let listed = list_directory(env, path).await?;
    let (own, folders, unfinished) = (listed.own, listed.folders, listed.unfinished);
    let governing = governing_start(&own)?;
    let start = governing.map_or(0, |start| start + 1);
    let mut evidence = Evidence::default();
    let mut found = Ok(Vec::new());
    let reading = async {
        if let Some(governing) = governing {
            evidence.read_base(env, path, governing, &place.id).await?;
            evidence.read_shards(env, path, governing, &own).await?;
            let prefix = arena_prefix(&place.id, governing);
            let read = evidence.read_arenas(env, arenas, &prefix).await;
            read.map_err(|error| of_arenas(arenas, error))?;
        }
        Ok(())
    };
    let finding = async {
        found = find_partitions(env, path, &folders).await;
        Ok(())
    };
    // What the process before wrote is flushed meanwhile: there is less to wait for at the end.
    let flushing = env.flush_file_system(path);
    together([Box::pin(reading), Box::pin(finding), Box::pin(flushing)]).await?;
    let (found, leftovers) = sort_out(path, found?, &evidence, topics)?;
    // Not before all could be read: a start that is refused changes nothing.
    remove_deleted(env, path, &folders).await?;
    phases.end(env, "reading");
    spare.append(&mut evidence.spare);
    let names: BTreeMap<PartitionId, PathBuf> = found.iter().map(|(id, name)| (*id, path.join(name))).collect();
    let mut walked = find_ends(env, path, found, &mut evidence).await?;
    phases.end(env, "ends");
    env.flush_file_system(path).await?;
    for (name, _) in own.iter().filter(|_| planted(Bug::RemoveBeforeBase)) {
        env.unlink(&path.join(name)).await?;
    }
    write_base(env, place, start, &walked).await?;
    phases.end(env, "flush");
    // From here on the base tells all.
    erase_behind_all(env, &names, &mut walked).await?;
    env.flush_file_system(path).await?;
    phases.end(env, "erasure");
    let damaged = walked.iter().any(|walked| walked.state.damaged);
    let restored_bytes: u64 = walked.iter().map(|walked| walked.restored).sum();
    let mut superseded = superseded(env, path, start, &own, damaged).await?;
    superseded.extend(unfinished.iter().map(|name| path.join(name)));
    let left = arenas_of(env, arenas, &place.id).await;
    superseded.extend(left.map_err(|error| of_arenas(arenas, error))?);
    tracing::info!(directory = %path.display(), partitions = walked.len(), restored_bytes, took = phases.text, "recovered");
    let missing: BTreeSet<PartitionId> = evidence.ids().collect();
    Ok(RecoveredDirectory {
        place: place.clone(),
        start,
        health: Health::default(),
        found: Mutex::new(walked.into_iter().map(Walked::found).collect()),
        leftovers: without_lost(leftovers, &missing, topics),
        missing,
        folders: names,
        superseded: Mutex::new(superseded),
    })
}

/// What stands at the top of a log directory.
#[derive(Default)]
struct Listed {
    /// The broker's own files.
    own: Vec<(String, OwnFile)>,
    /// Those that never got their name.
    unfinished: Vec<String>,
    folders: Vec<String>,
}

async fn list_directory<E: Env>(env: &E, path: &Path) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for entry in env.list(path).await? {
        let is_unfinished = entry.name.strip_suffix(".tmp").and_then(OwnFile::parse).is_some();
        match OwnFile::parse(&entry.name) {
            Some(file) if !entry.is_directory => listed.own.push((entry.name, file)),
            None if entry.is_directory => listed.folders.push(entry.name),
            None if is_unfinished => listed.unfinished.push(entry.name),
            _ => {}
        }
    }
    Ok(listed)
}

/// The start whose base checkpoint is the newest; `None` for a new directory.
fn governing_start(own: &[(String, OwnFile)]) -> io::Result<Option<u64>> {
    let bases = own.iter().filter(|(_, f)| matches!(f, OwnFile::Base { .. }));
    let governing = bases.map(|(_, f)| f.start()).max();
    // A start has its base before it has anything else.
    let newest = own.iter().map(|(_, f)| f.start()).max();
    if let Some(newest) = newest.filter(|newest| Some(*newest) > governing) {
        let message = format!(
            "{} is missing, and its start left journals or checkpoints: restore it, or move them away to lose what they hold",
            base_name(newest)
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(governing)
}

/// Finds the ends of all partitions.
async fn find_ends<E: Env>(
    env: &E,
    path: &Path,
    found: Vec<(PartitionId, String)>,
    evidence: &mut Evidence,
) -> io::Result<Vec<Walked<E>>> {
    let partitions = found.len();
    let left = RefCell::new((found, evidence));
    let next = || {
        let (found, evidence) = &mut *left.borrow_mut();
        let (id, folder) = found.pop()?;
        Some((path.join(folder), evidence.of(id)))
    };
    let walkers = (0..SIDE_BY_SIDE.min(partitions)).map(|_| async {
        let mut ended = Vec::new();
        while let Some((folder, evidence)) = next() {
            ended.push(walk::recover_partition(env, folder, evidence).await?);
        }
        Ok(ended)
    });
    let each: io::Result<Vec<Vec<Walked<E>>>> = join_all(walkers.collect()).await.into_iter().collect();
    let mut ended: Vec<Walked<E>> = each?.into_iter().flatten().collect();
    ended.sort_by_key(|walked| walked.state.id);
    Ok(ended)
}

/// Makes what lies behind the ends of all logs read as zeros; damaged ones stay as they are.
async fn erase_behind_all<E: Env>(
    env: &E,
    folders: &BTreeMap<PartitionId, PathBuf>,
    walked: &mut [Walked<E>],
) -> io::Result<()> {
    let partitions = walked.len();
    let left = RefCell::new(walked.iter_mut().filter(|walked| !walked.state.damaged));
    let erasers = (0..SIDE_BY_SIDE.min(partitions)).map(|_| async {
        loop {
            let Some(walked) = left.borrow_mut().next() else {
                return Ok(());
            };
            if let Some(folder) = folders.get(&walked.state.id) {
                walk::erase_behind(env, folder, walked).await?;
            }
        }
    });
    join_all(erasers.collect()).await.into_iter().collect()
}

async fn write_base<E: Env>(env: &E, place: &LogDirectory, start: u64, walked: &[Walked<E>]) -> io::Result<()> {
    let mut encoded = Vec::new();
    walked.iter().for_each(|walked| walked.state.encode(&mut encoded));
    let content = Checkpoint::encode(place.id, OwnFile::Base { start }, 0, walked.len() as u32, &encoded);
    replace_file(env, &place.path.join(base_name(start)), Bytes::from(content)).await
}

/// The folders to recover, and those that are left as they are.
#[expect(clippy::type_complexity, reason = "two lists, named where they are taken")]
fn sort_out(
    path: &Path,
    mut found: Vec<(PartitionId, String)>,
    evidence: &Evidence,
    topics: &dyn Topics,
) -> io::Result<(Vec<(PartitionId, String)>, Vec<(PartitionId, PathBuf)>)> {
    found.retain(|(id, name)| {
        let is_misnamed = topics.is_misnamed(name, *id) && !planted(Bug::MisnamedFolderTaken);
        if is_misnamed {
            let file = path.join(name).join("partition.metadata");
            tracing::error!(file = %file.display(), "it names a topic that has another name than the folder (partition {} of topic {}): left as it is", id.index, id.topic);
        }
        !is_misnamed
    });
    found.sort();
    let is_strange = |id| topics.wanted(id) == Wanted::Unknown && !evidence.knows(id);
    for pair in found.windows(2) {
        let [(id, name), (other, copy)] = pair else { continue };
        if id == other && !is_strange(*id) {
            let message = format!(
                "the partition.metadata of {} and of {} name the same partition ({} of topic {}): one is a copy, move it out of \
                 the log directory",
                path.join(name).display(),
                path.join(copy).display(),
                id.index,
                id.topic
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    let is_ours = |(id, _): &(PartitionId, String)| topics.wanted(*id) != Wanted::Deleted && !is_strange(*id);
    let (ours, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_ours);
    let others = others.into_iter().map(|(id, name)| (id, path.join(name)));
    Ok((ours, others.collect()))
}

/// The leftovers but for those that may be what a partition misses, under a topic id that rot has made: they stay as they are.
fn without_lost(
    leftovers: Vec<(PartitionId, PathBuf)>,
    missing: &BTreeSet<PartitionId>,
    topics: &dyn Topics,
) -> Vec<(PartitionId, PathBuf)> {
    let is_lost = |(id, folder): &(PartitionId, PathBuf)| {
        let mut candidates = missing
            .iter()
            .filter(|lost| lost.index == id.index && topics.wanted(**lost) == Wanted::Yes);
        let lost = candidates.next().filter(|_| topics.wanted(*id) == Wanted::Unknown);
        if let Some(lost) = lost {
            let file = folder.join("partition.metadata");
            tracing::error!(file = %file.display(), "it names a topic that nobody knows, and a folder of partition {} of topic {} is missing: left as it is", lost.index, lost.topic);
        }
        lost.is_some()
    };
    leftovers.into_iter().filter(|leftover| !is_lost(leftover)).collect()
}

/// Folders that hold a partition, by the topic id in their `partition.metadata`.
pub(super) async fn find_partitions<E: Env>(
    env: &E,
    path: &Path,
    folders: &[String],
) -> io::Result<Vec<(PartitionId, String)>> {
    let left = RefCell::new(folders.iter());
    let finders = (0..SIDE_BY_SIDE.min(folders.len())).map(|_| async {
        let mut found = Vec::new();
        loop {
            let Some(name) = left.borrow_mut().next() else {
                return Ok(found);
            };
            found.extend(find_partition(env, path, name).await?.map(|id| (id, name.clone())));
        }
    });
    let each: io::Result<Vec<Vec<(PartitionId, String)>>> = join_all(finders.collect()).await.into_iter().collect();
    Ok(each?.into_iter().flatten().collect())
}

/// Removes the folders of deleted partitions.
async fn remove_deleted<E: Env>(env: &E, path: &Path, folders: &[String]) -> io::Result<()> {
    for name in folders.iter().filter(|name| leftovers::is_doomed(name)) {
        mark(Mark::LeftoversRemoved);
        leftovers::remove_folder(env, &path.join(name)).await?;
    }
    Ok(())
}

/// The partition that a folder holds, by the `partition.metadata` in it.
async fn find_partition<E: Env>(env: &E, path: &Path, name: &str) -> io::Result<Option<PartitionId>> {
    let Some(index) = name.rsplit_once('-').and_then(|(_, index)| index.parse::<i32>().ok()) else {
        return Ok(None);
    };
    let topic = match read_file(env, &path.join(name).join("partition.metadata"), 4096).await {
        Ok(text) => topic_id(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if topic.is_none() {
        let file = path.join(name).join("partition.metadata");
        tracing::error!(file = %file.display(), "it is not as it is written: the folder is left alone");
    }
    Ok(topic.map(|topic| PartitionId { topic, index }))
}

/// The topic id in a `partition.metadata`.
pub fn topic_id(metadata: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(metadata).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    // Nothing in it has a check sum: it is taken only as it is always written.
    TopicId::parse(text.strip_prefix("version: 0\ntopic_id: ")?)
}

/// An error of the directory of the arenas, which is not the one recovered.
fn of_arenas(arenas: &Path, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("ringtail.arena.dir {}: {error}", arenas.display()),
    )
}

/// The memory that processes before left.
async fn arenas_of<E: Env>(env: &E, arenas: &Path, id: &[u8; 16]) -> io::Result<Vec<PathBuf>> {
    let any_start = arena_prefix(id, 0);
    let prefix = any_start.trim_end_matches('0');
    let found = env.list(arenas).await?.into_iter();
    let ours = found.filter(|entry| entry.name.starts_with(prefix));
    Ok(ours.map(|entry| arenas.join(entry.name)).collect())
}

/// What the new base makes superfluous. Journals stay, renamed, when a partition is damaged: they may hold what it lacks.
async fn superseded<E: Env>(
    env: &E,
    path: &Path,
    start: u64,
    own: &[(String, OwnFile)],
    damaged: bool,
) -> io::Result<Vec<PathBuf>> {
    let mut superseded = Vec::new();
    for (name, file) in own.iter().filter(|(_, file)| file.start() < start) {
        if damaged && matches!(file, OwnFile::Journal { .. }) {
            env.rename(&path.join(name), &path.join(format!("damaged-{name}")))
                .await?;
        } else {
            superseded.push(path.join(name));
        }
    }
    if damaged {
        env.flush_directory(path).await?;
    }
    Ok(superseded)
}

/// Several things at once; all are done, or failed, before it returns.
async fn together<const N: usize>(parts: [Pin<Box<dyn Future<Output = io::Result<()>> + '_>>; N]) -> io::Result<()> {
    join_all(parts.into()).await.into_iter().collect()
}
