//! Start: the metadata log found or made, every directory judged, new ones formatted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::cluster::identity::{
    Fate, Found, IdentityError, META_PROPERTIES, META_PROPERTIES_BYTES_MAX, MetaProperties, OfflineReason, plan,
};
use crate::cluster::ids::DirectoryId;
use crate::cluster::image::{Cluster, Image};
use crate::cluster::log_format::Corruption;
use crate::cluster::record::Record;
use crate::config::BrokerConfig;
use crate::io::{Env, read_file, replace_file};

use super::controller::random_topic_id;
use super::metadata_log::{FILE_NAME, LogError, MetadataLog, metadata_log_path};

/// One of `log.dirs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    pub path: PathBuf,
    pub state: DirectoryState,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryState {
    Online(DirectoryId),
    Offline(OfflineReason),
}

impl Directory {
    /// Its id when it is online.
    pub fn online(&self) -> Option<DirectoryId> {
        match self.state {
            DirectoryState::Online(id) => Some(id),
            DirectoryState::Offline(_) => None,
        }
    }
}

/// What start found or made.
pub struct Opened<E: Env> {
    pub log: MetadataLog<E>,
    pub image: Image,
    pub cluster: Cluster,
    /// In the order of `log.dirs`.
    pub directories: Vec<Directory>,
}

/// Why the broker does not start; one line.
#[derive(Debug)]
pub enum StartError {
    Log(LogError),
    Identity(IdentityError),
    Io { path: PathBuf, error: io::Error },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::Identity(error) => error.fmt(f),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for StartError {}

impl From<LogError> for StartError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Opens the metadata log and the directories; makes them on the first start. The caller holds the lock of each directory
/// that exists, or is alone otherwise. Every crash on the way leaves a state that the next start goes on from: the log
/// is there before anything is formatted, `meta.properties` before its record.
pub async fn open_cluster<E: Env>(env: &E, config: &BrokerConfig) -> Result<Opened<E>, StartError> {
    let directories = &config.directories;
    let mut found = Vec::with_capacity(directories.data.len());
    for path in &directories.data {
        found.push((path.display().to_string(), look(env, path).await));
    }
    let node_id = config.identity.node_id;
    let (mut log, mut image) = match MetadataLog::open(env, &directories.metadata).await? {
        Some(opened) => opened,
        None => create_log(env, &directories.metadata, node_id, &found).await?,
    };
    let cluster = image
        .cluster()
        .cloned()
        .ok_or_else(|| without_cluster(&directories.metadata))?;
    if cluster.node_id != node_id {
        let error = IdentityError::NodeId {
            configured: node_id,
            recorded: cluster.node_id,
        };
        return Err(StartError::Identity(error));
    }
    let fates = plan(&found, &image, &cluster).map_err(StartError::Identity)?;
    let mut opened = Vec::with_capacity(fates.len());
    let mut records = Vec::new();
    for (path, fate) in directories.data.iter().zip(fates) {
        let (state, to_register) = match fate {
            Fate::Online { id, to_register } => (DirectoryState::Online(id), to_register),
            Fate::Format => (DirectoryState::Online(format(env, path, &cluster).await?), true),
            Fate::Offline(reason) => {
                tracing::error!("{} is offline: {reason}", path.display());
                (DirectoryState::Offline(reason), false)
            }
        };
        let directory = Directory {
            path: path.clone(),
            state,
        };
        if let Some(id) = directory.online().filter(|_| to_register) {
            records.push(Record::DirectoryRegistered {
                id,
                path: path.display().to_string(),
            });
        }
        opened.push(directory);
    }
    if !records.is_empty() {
        log.append(&records).await?;
        records.iter().for_each(|record| image.apply(record));
        log.confirm().await?;
    }
    log.make_room_ahead().await?;
    Ok(Opened {
        log,
        image,
        cluster,
        directories: opened,
    })
}

/// Every log begins with the record of its cluster.
fn without_cluster(directory: &Path) -> StartError {
    let found = "none".into();
    let corruption = Corruption {
        position: 0,
        expected: "the record of the cluster",
        found,
    };
    StartError::Log(LogError::Corrupt {
        path: metadata_log_path(directory),
        corruption,
    })
}

/// The first start: nothing may be there that belongs to a cluster.
async fn create_log<E: Env>(
    env: &E,
    directory: &Path,
    node_id: i32,
    found: &[(String, Found)],
) -> Result<(MetadataLog<E>, Image), StartError> {
    for (path, content) in found {
        if let Found::Formatted(meta) = content {
            let log = metadata_log_path(directory).display().to_string();
            let error = IdentityError::LogMissing {
                path: path.clone(),
                cluster_id: meta.cluster_id.clone(),
                log,
            };
            return Err(StartError::Identity(error));
        }
    }
    plan(found, &Image::default(), &Cluster { id: "".into(), node_id }).map_err(StartError::Identity)?;
    create_directories(env, directory).await?;
    let cluster_id = random_topic_id(env).to_string();
    let record = Record::ClusterCreated { cluster_id, node_id };
    let log = MetadataLog::create(env, directory, std::slice::from_ref(&record)).await?;
    let mut image = Image::default();
    image.apply(&record);
    Ok((log, image))
}

/// The id of a formatted log directory, for commands on a stopped broker's data. Errors: one line for the operator.
pub async fn read_directory_id<E: Env>(env: &E, path: &Path) -> Result<[u8; 16], String> {
    let problem = match look(env, path).await {
        Found::Formatted(meta) => return Ok(meta.directory_id.0),
        Found::Absent => "there is no such directory".into(),
        Found::Blank | Found::Strange(_) => format!("it has no {META_PROPERTIES}: not a log directory"),
        Found::Malformed(problem) => format!("{META_PROPERTIES}: {problem}"),
        Found::Unreadable(problem) => problem,
    };
    Err(format!("{}: {problem}", path.display()))
}

/// Whether a file at the top of a log directory, by its name, is one of the cluster's.
pub fn is_broker_file(name: &str) -> bool {
    name == META_PROPERTIES || name.starts_with(FILE_NAME)
}

/// What stands in `path`.
async fn look<E: Env>(env: &E, path: &Path) -> Found {
    match read_file(env, &path.join(META_PROPERTIES), META_PROPERTIES_BYTES_MAX).await {
        Ok(content) => {
            let text = str::from_utf8(&content).map_err(|_| "it is no text".to_owned());
            return match text.and_then(MetaProperties::decode) {
                Ok(meta) => Found::Formatted(meta),
                Err(problem) => Found::Malformed(problem),
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Found::Malformed(error.to_string()),
        Err(error) => return Found::Unreadable(error.to_string()),
    }
    match env.list(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Absent,
        Err(error) => Found::Unreadable(error.to_string()),
        Ok(entries) => {
            let stranger = entries
                .into_iter()
                .find(|entry| entry.is_directory && entry.name != "lost+found");
            stranger.map_or(Found::Blank, |entry| Found::Strange(entry.name))
        }
    }
}

async fn format<E: Env>(env: &E, path: &Path, cluster: &Cluster) -> Result<DirectoryId, StartError> {
    create_directories(env, path).await?;
    let directory_id = DirectoryId(random_topic_id(env).0);
    let meta = MetaProperties {
        cluster_id: cluster.id.to_string(),
        node_id: cluster.node_id,
        directory_id,
    };
    let file = path.join(META_PROPERTIES);
    match replace_file(env, &file, Bytes::from(meta.encode())).await {
        Ok(()) => Ok(directory_id),
        Err(error) => Err(StartError::Io { path: file, error }),
    }
}

/// Makes `path` and what is missing above it, durably.
async fn create_directories<E: Env>(env: &E, path: &Path) -> Result<(), StartError> {
    let mut missing = Vec::new();
    let mut at = Some(path);
    while let Some(directory) = at.filter(|directory| !directory.as_os_str().is_empty()) {
        match env.list(directory).await {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(directory),
            Err(error) => {
                return Err(StartError::Io {
                    path: directory.into(),
                    error,
                });
            }
        }
        at = directory.parent();
    }
    for directory in missing.into_iter().rev() {
        let made = match env.create_directory(directory).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => env.flush_directory(parent(directory)).await,
        };
        made.map_err(|error| StartError::Io {
            path: directory.into(),
            error,
        })?;
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
