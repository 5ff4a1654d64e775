//! Whose directory is this: `meta.properties`, and what to do with each directory at start.
//!
//! The table (`plan`), for a directory of `log.dirs`:
//! - it holds a valid `meta.properties` of this cluster and broker: online; a record follows if there was none or its path
//!   is another (a crash came between formatting and recording, or an operator moved the disk);
//! - it is blank or absent and no record speaks of its path, or the directory that did is here under another path:
//!   it is new and is formatted;
//! - it is blank or absent and the record of its path belongs to a directory that is nowhere else: its disk is gone or not
//!   mounted; offline, never formatted, or the partitions on it would come back empty;
//! - it cannot be read: offline;
//! - it belongs to someone else, or a newer version wrote it, or its id is another one's too: the broker does not start.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::parse_properties;

use super::ids::DirectoryId;
use super::image::{Cluster, Image};

/// The file's name.
pub(super) const META_PROPERTIES: &str = "meta.properties";
/// More is no `meta.properties`.
pub(super) const META_PROPERTIES_BYTES_MAX: usize = 64 << 10;
const VERSION: i64 = 1;
const SUM: &str = "#crc32c=";

/// What Kafka's brokers and tools find in each log directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: DirectoryId,
}

impl MetaProperties {
    /// The last line is a comment to Kafka, and to us the check sum of all before it.
    pub fn encode(&self) -> String {
        let text = format!(
            "#\nversion={VERSION}\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id
                .replace('\\', "\\\\")
                .replace('\n', "\\n")
                .replace('\r', "\\r"),
            self.node_id,
            self.directory_id
        );
        let sum = crc32c::crc32c(text.as_bytes());
        format!("{text}{SUM}{sum:08x}\n")
    }

    /// Errors: what is wrong, to go on after the file's name.
    pub fn decode(text: &str) -> Result<Self, String> {
        if let Some((covered, sum)) = text.rsplit_once(SUM)
            && sum != format!("{:08x}\n", crc32c::crc32c(covered.as_bytes()))
        {
            return Err("its lines do not match their check sum".into());
        }
        let lines = parse_properties(text).map_err(|error| error.to_string())?;
        let value = |key: &str| {
            let line = lines.iter().rev().find(|line| line.key == key);
            line.map(|line| line.value.trim())
                .ok_or_else(|| format!("it has no {key}"))
        };
        match value("version")?.parse::<i64>() {
            Ok(VERSION) => {}
            Ok(newer) if newer > VERSION => {
                return Err(format!("its version is {newer}, this program knows {VERSION}"));
            }
            _ => return Err(format!("its version is {:?}, expected {VERSION}", value("version")?)),
        }
        let node_id = value("node.id")?;
        let directory_id = value("directory.id")?;
        Ok(Self {
            cluster_id: value("cluster.id")?.to_owned(),
            node_id: node_id.parse().map_err(|_| format!("its node.id is {node_id:?}"))?,
            directory_id: DirectoryId::parse(directory_id)
                .ok_or_else(|| format!("its directory.id is {directory_id:?}"))?,
        })
    }
}

/// What stands in a directory of `log.dirs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Absent,
    /// There, without `meta.properties` and without a directory in it.
    Blank,
    /// No `meta.properties`, but this directory in it.
    Strange(String),
    Formatted(MetaProperties),
    /// A `meta.properties` that is not one.
    Malformed(String),
    /// The device says no.
    Unreadable(String),
}

/// Why a directory takes no part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OfflineReason {
    /// It is known under this id, and blank or absent now.
    Lost(DirectoryId),
    Unreadable(String),
}

impl fmt::Display for OfflineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(id) => write!(
                f,
                "it held the directory {id} and is blank or absent now (is its disk mounted?)"
            ),
            Self::Unreadable(error) => f.write_str(error),
        }
    }
}

/// What to do with a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Online {
        id: DirectoryId,
        to_register: bool,
    },
    /// Make it (if absent), format it, register it.
    Format,
    Offline(OfflineReason),
}

/// Why the broker does not start; each is one line for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdentityError {
    /// The metadata log is another broker's.
    NodeId {
        configured: i32,
        recorded: i32,
    },
    Foreign {
        path: String,
        problem: String,
    },
    Duplicate {
        id: DirectoryId,
        first: String,
        second: String,
    },
    /// Directories with data, but no metadata log.
    LogMissing {
        path: String,
        cluster_id: String,
        log: String,
    },
    NothingOnline,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeId { configured, recorded } => {
                write!(
                    f,
                    "node.id is {configured}, but the metadata log belongs to broker {recorded}"
                )
            }
            Self::Foreign { path, problem } => write!(f, "{path}: {problem}"),
            Self::Duplicate { id, first, second } => {
                write!(
                    f,
                    "the meta.properties of {first} and {second} both have the directory.id {id}: one is a copy of the other"
                )
            }
            Self::LogMissing { path, cluster_id, log } => write!(
                f,
                "{path} belongs to the cluster {cluster_id}, but its metadata log {log} is missing; set metadata.log.dir \
                 to where it is"
            ),
            Self::NothingOnline => f.write_str("no directory of log.dirs is online"),
        }
    }
}

/// What to do with each of `found` (path and content, in the order of `log.dirs`), given the metadata log's image.
pub(super) fn plan(found: &[(String, Found)], image: &Image, cluster: &Cluster) -> Result<Vec<Fate>, IdentityError> {
    let mut present: BTreeMap<DirectoryId, &str> = BTreeMap::new();
    for (path, content) in found {
        let problem = match content {
            Found::Formatted(meta) => {
                if let Some(first) = present.insert(meta.directory_id, path) {
                    let (first, second) = (first.to_owned(), path.clone());
                    return Err(IdentityError::Duplicate {
                        id: meta.directory_id,
                        first,
                        second,
                    });
                }
                foreign(meta, cluster)
            }
            Found::Malformed(problem) => Some(format!("{META_PROPERTIES} is not valid: {problem}")),
            Found::Strange(name) => Some(format!("it has no {META_PROPERTIES}, but holds the directory {name}")),
            Found::Absent | Found::Blank | Found::Unreadable(_) => None,
        };
        if let Some(problem) = problem {
            return Err(IdentityError::Foreign {
                path: path.clone(),
                problem,
            });
        }
    }
    let lost_at = |path: &str| {
        let recorded = image
            .directories()
            .find(|(id, at)| &***at == path && !present.contains_key(id));
        recorded.map(|(id, _)| id)
    };
    let fate = |(path, content): &(String, Found)| match content {
        Found::Formatted(meta) => {
            let recorded = image
                .directories()
                .any(|(id, at)| id == meta.directory_id && **at == **path);
            Fate::Online {
                id: meta.directory_id,
                to_register: !recorded,
            }
        }
        Found::Unreadable(error) => Fate::Offline(OfflineReason::Unreadable(error.clone())),
        _ => match lost_at(path) {
            Some(id) => Fate::Offline(OfflineReason::Lost(id)),
            None => Fate::Format,
        },
    };
    let fates: Vec<Fate> = found.iter().map(fate).collect();
    match fates.iter().all(|fate| matches!(fate, Fate::Offline(_))) {
        true => Err(IdentityError::NothingOnline),
        false => Ok(fates),
    }
}

fn foreign(meta: &MetaProperties, cluster: &Cluster) -> Option<String> {
    if meta.cluster_id != *cluster.id {
        Some(format!(
            "it belongs to the cluster {}, this one is {}",
            meta.cluster_id, cluster.id
        ))
    } else if meta.node_id != cluster.node_id {
        Some(format!(
            "it belongs to broker {}, this is broker {}",
            meta.node_id, cluster.node_id
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
