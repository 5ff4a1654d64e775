//! `ringtail log verify`: reads every byte of a stopped broker's directory and says what does not verify.
//!
//! Invariants
//! 1. Nothing is changed: files are opened for reading only (`OpenOptions::READ_DIRECT`, `READ`), but for the lock.
//! 2. Memory is bounded: logs are read in windows of a megabyte (or one batch); held whole are checkpoints, journals and
//!    the companions of one segment; problems are listed up to `PROBLEMS_MAX` and counted behind that.
//!
//! In: a directory and its id. Out: a [`Report`]. Not for: repair, or anything a running broker checks by itself as it reads
//! (`partition::read`).

mod active;
pub(super) mod partition;
mod segment;
mod top;

pub(super) use active::verify_described;
pub(super) use partition::verify_texts;
pub(super) use segment::{Checker, LogBytes, verify_closed};
pub(super) use top::verify_checkpoint;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use self::partition::Unproven;
use super::recovery::evidence::Evidence;
use super::{LOCK_FILE, LogDirectory, StorageError, Topics, Wanted};
use crate::base::ids::PartitionId;
use crate::io::{Env, lock_when_free};

/// Problems listed one by one.
pub const PROBLEMS_MAX: usize = 10_000;

/// What to verify.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyOptions {
    /// Only segments that are over: no checkpoint, journal or active segment, and a broker may be running.
    pub closed_only: bool,
}

/// What is known of a directory by others than the log store.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Whether a file at its top, by its name, belongs to the broker.
    pub is_file: fn(&str) -> bool,
    /// Which partitions there are. Where that is not known a folder that was damaged cannot be told from one that is new.
    pub topics: Option<&'a dyn Topics>,
}

/// Something that is not as it was written, or should not be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub file: PathBuf,
    /// The byte in the file, where there is one to name.
    pub position: Option<u64>,
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.position {
            Some(position) => write!(f, "{}: byte {position}: {}", self.file.display(), self.what),
            None => write!(f, "{}: {}", self.file.display(), self.what),
        }
    }
}

/// What was read and found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    /// Problems behind the listed ones.
    pub problems_more: u64,
    /// What nobody of ours wrote, or left behind: no harm.
    pub notes: Vec<Problem>,
    pub partitions: u64,
    pub segments: u64,
    pub batches: u64,
    pub files: u64,
    /// Bytes of all files read.
    pub bytes: u64,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn problem(&mut self, file: &Path, position: impl Into<Option<u64>>, what: impl Into<String>) {
        if self.problems.len() == PROBLEMS_MAX {
            self.problems_more += 1;
            return;
        }
        self.problems.push(Problem {
            file: file.to_owned(),
            position: position.into(),
            what: what.into(),
        });
    }

    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.problems.extend(other.problems);
        self.notes.extend(other.notes);
        self.problems_more += other.problems_more;
        self.partitions += other.partitions;
        self.segments += other.segments;
        self.batches += other.batches;
        self.files += other.files;
        self.bytes += other.bytes;
    }

    fn note(&mut self, file: &Path, what: impl Into<String>) {
        if self.notes.len() < PROBLEMS_MAX {
            self.notes.push(Problem {
                file: file.to_owned(),
                position: None,
                what: what.into(),
            });
        }
    }
}

/// Who reads along: called after each piece of a log.
pub trait Pace {
    /// Returns when the next piece is to be read; an error ends the reading.
    fn turn(&mut self, report: &Report) -> impl Future<Output = io::Result<()>>;
}

/// As fast as it goes.
struct Unpaced<'a, E, F> {
    env: &'a E,
    progress: F,
}

impl<E: Env, F: FnMut(&Report)> Pace for Unpaced<'_, E, F> {
    async fn turn(&mut self, report: &Report) -> io::Result<()> {
        (self.progress)(report);
        self.env.yield_now().await;
        Ok(())
    }
}

/// Verifies a directory; `progress` is called with the report as it grows. One that a broker has locked is refused, unless only
/// closed segments are asked for.
pub async fn verify<E: Env>(
    env: &E,
    directory: &LogDirectory,
    options: VerifyOptions,
    surroundings: Surroundings<'_>,
    progress: impl FnMut(&Report),
) -> Result<Report, StorageError> {
    let path = &directory.path;
    let named = |e: io::Error| StorageError(format!("{}: {e}", path.display()));
    let entries = env.list(path).await.map_err(named)?;
    let is_locked = entries.iter().any(|entry| entry.name == LOCK_FILE) && !options.closed_only;
    let _lock = match is_locked {
        true => Some(lock_when_free(env, &path.join(LOCK_FILE)).await.map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::WouldBlock => {
                    "a broker is running on it: stop it, or verify the closed segments alone".to_owned()
                }
                _ => error.to_string(),
            };
            StorageError(format!("{}: {message}", path.display()))
        })?),
        false => None,
    };
    let mut report = Report::default();
    let mut pace = Unpaced { env, progress };
    let mut evidence = None;
    if !options.closed_only {
        evidence = Some(
            top::verify_top(env, directory, &entries, surroundings.is_file, &mut report)
                .await
                .map_err(named)?,
        );
    }
    let mut folders: Vec<&str> = entries
        .iter()
        .filter(|e| e.is_directory)
        .map(|e| e.name.as_str())
        .collect();
    folders.sort_unstable();
    let mut unknown = Vec::new();
    for name in folders {
        let folder = path.join(name);
        let evidence = evidence.as_mut();
        let done = partition::verify_folder(env, &folder, name, evidence, surroundings, &mut report, &mut pace).await;
        match done {
            Ok(Some(unproven)) => unknown.push((unproven, folder)),
            Ok(None) => {}
            Err(error) => report.problem(&folder, None, format!("cannot be read: {error}")),
        }
        (pace.progress)(&report);
    }
    if let Some(evidence) = &evidence {
        name_missing(evidence, &unknown, path, surroundings, &mut report);
    }
    Ok(report)
}

/// Tells partitions that the directory's evidence knows and that have no folder, with the folder that may be theirs.
fn name_missing(
    evidence: &Evidence,
    unknown: &[(Unproven, PathBuf)],
    path: &Path,
    surroundings: Surroundings<'_>,
    report: &mut Report,
) {
    let exists = |id: PartitionId| surroundings.topics.map(|topics| topics.wanted(id) == Wanted::Yes);
    let is_new = |folder: &Unproven| folder.id().and_then(exists) == Some(true);
    for id in evidence.ids() {
        let missing = format!("partition {} of topic {} has no folder", id.index, id.topic);
        let folder = unknown
            .iter()
            .find(|(folder, _)| folder.index == id.index && !is_new(folder));
        let (file, what) = match folder {
            Some((_, folder)) => (
                folder.join("partition.metadata"),
                format!("names nothing that is known, and {missing}"),
            ),
            None => (path.to_owned(), missing),
        };
        match exists(id) {
            Some(true) => report.problem(&file, None, what),
            Some(false) => {}
            None => report.note(
                &file,
                format!("{what} (the metadata log would tell whether its topic was deleted)"),
            ),
        }
    }
}
