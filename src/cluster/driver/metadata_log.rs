//! The metadata log's file: opened and replayed, appended to durably, rewritten when it has grown.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::base::buffer::block_floor;
use crate::base::planted::{Bug, planted};
use crate::cluster::image::Image;
use crate::cluster::log_format::{
    COMMIT_BYTES_MAX, CONFIRMATION_BYTES, Corruption, FORMAT_VERSION, FormatError, SLACK_BYTES, check_length,
    confirmation_position, push_commit, scan, sealed_file,
};
use crate::cluster::record::Record;
use crate::io::{Durability, Env, OpenOptions, read_file, take_place, write_all_at, write_beside};
use crate::storage::is_passing;

pub(super) const FILE_NAME: &str = "ringtail-metadata.log";
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Below this a file is not worth rewriting.
const COMPACTED_BYTES_MIN: u64 = 256 << 10;
/// A file is rewritten when it is this many times as long as when it was last written whole.
const GROWTH_MAX: u64 = 4;
/// So far ahead of its commits the file has its space, so that those do not fail for want of it.
const ROOM_BYTES: u64 = 1 << 20;

/// The path of the log in `metadata.log.dir`.
pub fn metadata_log_path(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

/// Why the metadata log cannot be used.
#[derive(Debug)]
pub enum LogError {
    Io {
        path: PathBuf,
        error: io::Error,
    },
    Corrupt {
        path: PathBuf,
        corruption: Corruption,
    },
    /// Written by a newer version.
    Newer {
        path: PathBuf,
        version: u32,
    },
    /// A write or flush failed before: what the file holds is not known, nothing more goes into it.
    Fenced,
    /// The commit or the file would be too large.
    TooLarge,
    /// There is no space for more commits; nothing was changed.
    NoSpace,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Corrupt { path, corruption } => write!(f, "{} is corrupt at {corruption}", path.display()),
            Self::Newer { path, version } => {
                write!(
                    f,
                    "{} has the format {version}, which a newer version wrote",
                    path.display()
                )
            }
            Self::Fenced => f.write_str("the metadata log failed before"),
            Self::TooLarge => f.write_str("the metadata log is full"),
            Self::NoSpace => f.write_str("there is no space for the metadata log"),
        }
    }
}

/// What a stopped broker's log is like.
#[derive(Debug)]
pub struct VerifiedLog {
    pub path: PathBuf,
    pub bytes: u64,
    /// Where it is bad, and how.
    pub problem: Option<(u64, String)>,
    /// Where a commit was cut short: the next start erases it.
    pub torn: Option<u64>,
}

/// What the log of `directory` says there is; `None` if it is not there or not good. Nothing is changed.
pub async fn read_image<E: Env>(env: &E, directory: &Path) -> Option<Image> {
    let content = read_file(env, &metadata_log_path(directory), FILE_BYTES_MAX as usize)
        .await
        .ok()?;
    let mut image = Image::default();
    let tail = scan(&content, |record| image.apply(&record)).ok()?;
    check_length(&content, &tail).is_ok().then_some(image)
}

/// Verifies the log of `directory`; `None` if there is none. Nothing is changed.
pub async fn verify_metadata_log<E: Env>(env: &E, directory: &Path) -> io::Result<Option<VerifiedLog>> {
    let path = metadata_log_path(directory);
    let content = match read_file(env, &path, FILE_BYTES_MAX as usize).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => content?,
    };
    let mut verified = VerifiedLog {
        path,
        bytes: content.len() as u64,
        problem: None,
        torn: None,
    };
    match scan(&content, |_| ()).and_then(|tail| check_length(&content, &tail).map(|()| tail)) {
        Ok(tail) => {
            let behind = content.get(tail.end as usize..).unwrap_or_default();
            let is_torn = behind.iter().any(|&byte| byte != 0);
            verified.torn = is_torn.then_some(tail.end);
        }
        Err(FormatError::Corrupt(corruption)) => {
            let what = format!("expected {}, found {}", corruption.expected, corruption.found);
            verified.problem = Some((corruption.position, what));
        }
        Err(FormatError::Newer(version)) => {
            let what = format!("it has the format {version}, which a newer version wrote");
            verified.problem = Some((0, what));
        }
    }
    Ok(Some(verified))
}

/// The open log. Appends need `&mut self` until they are durable, so that only the last commit can be torn.
pub struct MetadataLog<E: Env> {
    env: E,
    path: PathBuf,
    file: E::File,
    salt: u64,
    /// Of the next commit.
    sequence: u64,
    /// Byte behind the last commit.
    position: u64,
    /// The file's size: behind `position` it reads as zeros.
    allocated: u64,
    /// Length at which the file is written anew.
    compaction_at: u64,
    /// Nothing but confirmations follows the last commit.
    confirmed: bool,
    fenced: bool,
}

impl<E: Env> MetadataLog<E> {
    /// Makes a log that holds `records`, durably: after a crash there is all of it or none.
    pub async fn create(env: &E, directory: &Path, records: &[Record]) -> Result<Self, LogError> {
        let path = metadata_log_path(directory);
        Written::beside(env, path, 0, records.iter().cloned())
            .await?
            .take_place()
            .await
    }

    /// Opens the log of `directory` and replays it. A commit torn by a crash is erased, durably, and what is left is
    /// made durable before anyone sees it. `None` if there is no log. Errors: it is corrupt, newer, or unreadable.
    pub async fn open(env: &E, directory: &Path) -> Result<Option<(Self, Image)>, LogError> {
        let path = metadata_log_path(directory);
        let io = |error| LogError::Io {
            path: path.clone(),
            error,
        };
        let content = match read_file(env, &path, FILE_BYTES_MAX as usize).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content.map_err(io)?,
        };
        let mut image = Image::default();
        let scanned = scan(&content, |record| image.apply(&record));
        let scanned = scanned.and_then(|tail| check_length(&content, &tail).map(|()| tail));
        let tail = scanned.map_err(|error| match error {
            FormatError::Corrupt(corruption) => LogError::Corrupt {
                path: path.clone(),
                corruption,
            },
            FormatError::Newer(version) => LogError::Newer {
                path: path.clone(),
                version,
            },
        })?;
        let file = env.open(&path, WRITE).await.map_err(io)?;
        let behind = content.get(tail.end as usize..).unwrap_or_default();
        let allocated = content.len() as u64;
        if behind.iter().any(|&byte| byte != 0) {
            env.zero(&file, tail.end, behind.len() as u64).await.map_err(io)?;
        }
        // The last commit's flush may have failed: its pages then read as written, and no flush brings them to the device any more.
        let last = block_floor(tail.last);
        let again = Bytes::copy_from_slice(&content[last as usize..tail.end as usize]);
        let written = write_all_at(env, &file, again, last, Durability::Cached).await;
        written.map_err(io)?;
        env.flush(&file).await.map_err(io)?;
        let mut log = Self {
            env: env.clone(),
            path,
            file,
            salt: tail.header.salt,
            sequence: tail.sequence,
            position: tail.end,
            allocated,
            compaction_at: match tail.header.version {
                FORMAT_VERSION => compaction_at(tail.header.sealed_bytes),
                _ => 0,
            },
            confirmed: tail.confirmed,
            fenced: false,
        };
        log.confirm().await?;
        Ok(Some((log, image)))
    }

    /// Bytes that commits may take without asking the disk.
    pub fn room(&self) -> u64 {
        self.allocated.saturating_sub(self.position)
    }

    /// Has room ahead of the commands that will want it; without space for it those are told.
    pub async fn make_room_ahead(&mut self) -> Result<(), LogError> {
        if self.room() >= ROOM_BYTES / 2 {
            return Ok(());
        }
        match self.make_room(ROOM_BYTES / 2).await {
            Err(LogError::NoSpace | LogError::TooLarge) => Ok(()),
            made => made,
        }
    }

    /// Has room for commits of `bytes`, and for some more where there is space for those.
    pub async fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        let needed = self.position.saturating_add(bytes);
        if self.fenced {
            return Err(LogError::Fenced);
        }
        if needed > FILE_BYTES_MAX {
            return Err(LogError::TooLarge);
        }
        let mut result = Ok(());
        for end in [needed.saturating_add(ROOM_BYTES).min(FILE_BYTES_MAX), needed] {
            if end <= self.allocated {
                return Ok(());
            }
            result = self
                .env
                .allocate(&self.file, self.allocated, end - self.allocated)
                .await;
            if result.is_ok() {
                // Its size is on the device before a commit relies on it.
                if let Err(error) = self.env.flush(&self.file).await {
                    self.fenced = true;
                    let path = self.path.clone();
                    return Err(LogError::Io { path, error });
                }
                self.allocated = end;
                return Ok(());
            }
        }
        result.map_err(|error| match is_passing(&error) {
            true => LogError::NoSpace,
            false => LogError::Io {
                path: self.path.clone(),
                error,
            },
        })
    }

    /// Appends `records` as one commit: all of them or none are there after a crash, all once this returns.
    pub async fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        debug_assert!(!records.is_empty(), "a commit without records is a confirmation");
        self.commit(records, self.position).await?;
        self.confirmed = false;
        Ok(())
    }

    /// Writes that all commits so far were durable, so that damage to the last of them cannot pass for a torn one.
    pub async fn confirm(&mut self) -> Result<(), LogError> {
        if !self.confirmed {
            self.commit(&[], confirmation_position(self.position)).await?;
            self.confirmed = true;
        }
        Ok(())
    }

    async fn commit(&mut self, records: &[Record], position: u64) -> Result<(), LogError> {
        if self.fenced {
            return Err(LogError::Fenced);
        }
        let mut frame = Vec::new();
        push_commit(&mut frame, self.salt, self.sequence, records);
        let end = position + frame.len() as u64;
        if frame.len() > COMMIT_BYTES_MAX || end > FILE_BYTES_MAX {
            return Err(LogError::TooLarge);
        }
        if end + SLACK_BYTES > self.allocated {
            let more = if records.is_empty() {
                SLACK_BYTES
            } else {
                CONFIRMATION_BYTES + SLACK_BYTES
            };
            self.make_room(end - self.position + more).await?;
        }
        // Fenced until it is known what the file holds: also when this future is dropped on the way.
        self.fenced = true;
        let written = async {
            write_all_at(&self.env, &self.file, Bytes::from(frame), position, Durability::Cached).await?;
            if planted(Bug::MetadataUnflushed) {
                return Ok(());
            }
            self.env.flush(&self.file).await
        };
        written.await.map_err(|error| LogError::Io {
            path: self.path.clone(),
            error,
        })?;
        self.position = end;
        self.sequence += 1;
        self.fenced = false;
        Ok(())
    }

    /// Whether the file has grown enough to be rewritten.
    pub fn wants_compaction(&self) -> bool {
        self.position >= self.compaction_at
    }

    /// Rewrites the file as `image`, which must be what all commits so far add up to. Without the space for that it goes on as it
    /// is, until it has grown some more.
    pub async fn compact(&mut self, image: &Image) -> Result<(), LogError> {
        if self.fenced {
            return Err(LogError::Fenced);
        }
        match Written::beside(&self.env, self.path.clone(), self.sequence, image.records()).await {
            Ok(written) => {
                self.fenced = true;
                *self = written.take_place().await?;
            }
            Err(LogError::NoSpace | LogError::TooLarge) => {
                tracing::warn!(file = %self.path.display(), "the metadata log cannot be rewritten for now: it grows on");
                self.compaction_at = self.position + COMPACTED_BYTES_MIN;
            }
            Err(error) => {
                self.fenced = true;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// When a file that is so long when it is written whole is to be written anew. Long before it may grow no more.
fn compaction_at(sealed_bytes: u64) -> u64 {
    let half = (FILE_BYTES_MAX / 2).max(sealed_bytes + FILE_BYTES_MAX / 16);
    COMPACTED_BYTES_MIN.max(sealed_bytes.saturating_mul(GROWTH_MAX).min(half))
}

/// A whole log that lies, durably, beside the place where it is to be.
struct Written<E: Env> {
    log: MetadataLog<E>,
    temporary: PathBuf,
}

impl<E: Env> Written<E> {
    async fn beside(
        env: &E,
        path: PathBuf,
        sequence: u64,
        records: impl Iterator<Item = Record>,
    ) -> Result<Self, LogError> {
        let salt = env.random();
        let (mut content, sequence) = sealed_file(salt, sequence, records);
        let bytes = content.len() as u64;
        content.resize(content.len() + SLACK_BYTES as usize, 0);
        if bytes > FILE_BYTES_MAX {
            return Err(LogError::TooLarge);
        }
        let written = write_beside(env, &path, Bytes::from(content)).await;
        let (temporary, file) = written.map_err(|error| match is_passing(&error) {
            true => LogError::NoSpace,
            false => LogError::Io {
                path: path.clone(),
                error,
            },
        })?;
        let log = MetadataLog {
            env: env.clone(),
            path,
            file,
            salt,
            sequence,
            position: bytes,
            allocated: bytes + SLACK_BYTES,
            compaction_at: compaction_at(bytes),
            confirmed: true,
            fenced: false,
        };
        Ok(Self { log, temporary })
    }

    async fn take_place(self) -> Result<MetadataLog<E>, LogError> {
        let Self { log, temporary } = self;
        match take_place(&log.env, &temporary, &log.path).await {
            Ok(()) => Ok(log),
            Err(error) => Err(LogError::Io { path: log.path, error }),
        }
    }
}

const WRITE: OpenOptions = OpenOptions {
    create: false,
    ..OpenOptions::CREATE
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_rewritten_at_four_times_its_length_and_long_before_the_limit() {
        assert_eq!(compaction_at(100), COMPACTED_BYTES_MIN);
        assert_eq!(compaction_at(1 << 20), 4 << 20);
        assert_eq!(compaction_at(300 << 20), 512 << 20);
        assert_eq!(compaction_at(700 << 20), 764 << 20);
    }
}
