//! The metadata log's file: opened and replayed, appended to durably, rewritten when it has grown.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::cluster::image::Image;
use crate::cluster::log_format::{COMMIT_BYTES_MAX, Corruption, FormatError, push_commit, scan, sealed_file};
use crate::cluster::record::Record;
use crate::io::{Durability, Env, OpenOptions, read_file, replace_file, write_all_at};

pub(super) const FILE_NAME: &str = "ringtail-metadata.log";
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Below this a file is not worth rewriting.
const COMPACTED_BYTES_MIN: u64 = 256 << 10;
/// A file is rewritten when it is this many times as long as when it was last written whole.
const GROWTH_MAX: u64 = 4;

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
        }
    }
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
    /// The file's length when it was last written whole.
    compacted_bytes: u64,
    /// Nothing but confirmations follows the last commit.
    confirmed: bool,
    fenced: bool,
}

impl<E: Env> MetadataLog<E> {
    /// Makes a log that holds `records`, durably: after a crash there is all of it or none.
    pub async fn create(env: &E, directory: &Path, records: &[Record]) -> Result<Self, LogError> {
        let path = metadata_log_path(directory);
        Self::write_whole(env, path, 0, records.iter().cloned()).await
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
        let tail = scan(&content, |record| image.apply(&record)).map_err(|error| match error {
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
        if content.len() as u64 > tail.end {
            env.truncate(&file, tail.end).await.map_err(io)?;
        }
        env.flush(&file).await.map_err(io)?;
        let mut log = Self {
            env: env.clone(),
            path,
            file,
            salt: tail.header.salt,
            sequence: tail.sequence,
            position: tail.end,
            compacted_bytes: tail.header.sealed_bytes,
            confirmed: tail.confirmed,
            fenced: false,
        };
        log.confirm().await?;
        Ok(Some((log, image)))
    }

    /// Appends `records` as one commit: all of them or none are there after a crash, all once this returns.
    pub async fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        debug_assert!(!records.is_empty(), "a commit without records is a confirmation");
        self.commit(records).await?;
        self.confirmed = false;
        Ok(())
    }

    /// Writes that all commits so far were durable, so that damage to the last of them cannot pass for a torn one.
    pub async fn confirm(&mut self) -> Result<(), LogError> {
        if !self.confirmed {
            self.commit(&[]).await?;
            self.confirmed = true;
        }
        Ok(())
    }

    async fn commit(&mut self, records: &[Record]) -> Result<(), LogError> {
        if self.fenced {
            return Err(LogError::Fenced);
        }
        let mut frame = Vec::new();
        push_commit(&mut frame, self.salt, self.sequence, records);
        let end = self.position + frame.len() as u64;
        if frame.len() > COMMIT_BYTES_MAX || end > FILE_BYTES_MAX {
            return Err(LogError::TooLarge);
        }
        // Fenced until it is known what the file holds: also when this future is dropped on the way.
        self.fenced = true;
        let written = async {
            write_all_at(
                &self.env,
                &self.file,
                Bytes::from(frame),
                self.position,
                Durability::Cached,
            )
            .await?;
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
        self.position >= COMPACTED_BYTES_MIN.max(self.compacted_bytes.saturating_mul(GROWTH_MAX))
    }

    /// Rewrites the file as `image`, which must be what all commits so far add up to.
    pub async fn compact(&mut self, image: &Image) -> Result<(), LogError> {
        if self.fenced {
            return Err(LogError::Fenced);
        }
        self.fenced = true;
        *self = Self::write_whole(&self.env, self.path.clone(), self.sequence, image.records()).await?;
        Ok(())
    }

    async fn write_whole(
        env: &E,
        path: PathBuf,
        sequence: u64,
        records: impl Iterator<Item = Record>,
    ) -> Result<Self, LogError> {
        let salt = env.random();
        let (content, sequence) = sealed_file(salt, sequence, records);
        let bytes = content.len() as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(LogError::TooLarge);
        }
        let io = |error| LogError::Io {
            path: path.clone(),
            error,
        };
        replace_file(env, &path, Bytes::from(content)).await.map_err(io)?;
        let file = env.open(&path, WRITE).await.map_err(io)?;
        Ok(Self {
            env: env.clone(),
            path,
            file,
            salt,
            sequence,
            position: bytes,
            compacted_bytes: bytes,
            confirmed: true,
            fenced: false,
        })
    }
}

const WRITE: OpenOptions = OpenOptions {
    write: true,
    create: false,
    exclusive: false,
    direct: false,
};
