//! Folders of partitions that the metadata does not have: a deletion cut short, or somebody else's data.

use std::io;
use std::path::Path;

use super::Recovered;
use crate::base::coverage::{Mark, mark};
use crate::base::ids::{PartitionId, TopicId};
use crate::base::planted::{Bug, planted};
use crate::io::Env;
use crate::storage::{DELETED_SUFFIX, STRAY_SUFFIX, StorageError};

/// What is kept of a topic's name in such a name.
const TOPIC_BYTES_MAX: usize = 128;

/// What the metadata says of a partition found on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    Yes,
    /// Its topic was deleted.
    Deleted,
    /// No record ever named it: its data is set aside, for an operator to decide on.
    Unknown,
}

/// What the metadata says of partitions.
pub trait Topics {
    fn wanted(&self, id: PartitionId) -> Wanted;

    /// Whether `name` is the name of the partition's folder; so it is where that is not known.
    fn is_folder_of(&self, _name: &str, _id: PartitionId) -> bool {
        true
    }

    /// Whether a folder called `name` says that it is of a partition whose folder has another name.
    fn is_misnamed(&self, name: &str, id: PartitionId) -> bool {
        self.wanted(id) == Wanted::Yes && !self.is_folder_of(name, id)
    }
}

impl<F: Fn(PartitionId) -> Wanted> Topics for F {
    fn wanted(&self, id: PartitionId) -> Wanted {
        self(id)
    }
}

/// Finishes deletions and sets strangers aside. Before any shard opens a partition: the names are free then.
pub async fn clear_leftovers<E: Env>(env: &E, recovered: &Recovered, topics: impl Topics) -> Result<(), StorageError> {
    for found in &recovered.directories {
        let directory = &found.place.path;
        let recovered = found.unopened().into_iter().map(|(id, folder)| (id, folder, true));
        let others = found
            .leftovers()
            .iter()
            .cloned()
            .map(|(id, folder)| (id, folder, false));
        for (id, folder, is_recovered) in recovered.chain(others) {
            let named = |error: io::Error| StorageError(format!("{}: {error}", folder.display()));
            match topics.wanted(id) {
                Wanted::Yes => continue,
                Wanted::Deleted => {
                    mark(Mark::LeftoversRemoved);
                    tracing::info!(folder = %folder.display(), "the folder of a deleted topic goes");
                    remove_partition(env, directory, &folder, id).await.map_err(named)?;
                }
                Wanted::Unknown => {
                    let to = directory.join(name_with(&folder, id, STRAY_SUFFIX));
                    let state = match is_recovered {
                        true => "it was recovered and its folder is set aside",
                        false => "its folder is set aside, nothing in it was changed",
                    };
                    tracing::warn!(
                        folder = %folder.display(), to = %to.display(),
                        "no topic of the metadata has this partition: {state}"
                    );
                    // Where that fails, as when the same was set aside before, it stays: nobody serves it either way.
                    if let Err(error) = env.rename(&folder, &to).await {
                        tracing::error!(folder = %folder.display(), %error, "it cannot be set aside and stays where it is");
                    }
                    env.flush_directory(directory).await.map_err(named)?;
                }
            }
            found.take(id);
        }
    }
    Ok(())
}

/// Removes a partition's folder so that its name is free at once, whenever a crash comes.
pub async fn remove_partition<E: Env>(env: &E, directory: &Path, folder: &Path, id: PartitionId) -> io::Result<()> {
    if planted(Bug::DeletedFilesStay) {
        return Ok(());
    }
    let doomed = directory.join(name_with(folder, id, DELETED_SUFFIX));
    env.rename(folder, &doomed).await?;
    env.flush_directory(directory).await?;
    remove_folder(env, &doomed).await
}

/// Kafka's form of such a name; a name has at most 255 bytes, whatever characters a stranger's folder is called by.
fn name_with(folder: &Path, id: PartitionId, suffix: &str) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let topic = name.rsplit_once('-').map_or(&*name, |(topic, _)| topic);
    let within = topic
        .char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= TOPIC_BYTES_MAX);
    let topic: String = within.map(|(_, c)| c).collect();
    format!("{topic}-{}.{}{suffix}", id.index, id.topic)
}

/// Whether a folder's name is one that `remove_partition` gives.
pub(super) fn is_doomed(name: &str) -> bool {
    let parts = name.strip_suffix(DELETED_SUFFIX).and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(partition, topic)| {
        let index = partition
            .rsplit_once('-')
            .and_then(|(_, index)| index.parse::<u32>().ok());
        index.is_some() && TopicId::parse(topic).is_some()
    })
}

/// Removes a partition's folder with the files in it.
pub async fn remove_folder<E: Env>(env: &E, folder: &Path) -> io::Result<()> {
    for entry in env.list(folder).await? {
        if !entry.is_directory {
            env.unlink(&folder.join(entry.name)).await?;
        }
    }
    env.remove_directory(folder).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_that_a_deletion_renamed_are_doomed() {
        let id = PartitionId {
            topic: TopicId([5; 16]),
            index: 3,
        };
        for folder in ["orders-3", "a.b-c-3"] {
            assert!(is_doomed(&name_with(Path::new(folder), id, DELETED_SUFFIX)));
            assert!(!is_doomed(&name_with(Path::new(folder), id, STRAY_SUFFIX)));
        }
        let mine = format!("to.{}-delete", id.topic);
        let kafkas = "orders-3.0123456789abcdef0123456789abcdef-delete";
        for name in ["please-delete", "orders-3-delete", "orders-3", kafkas, &mine] {
            assert!(!is_doomed(name), "{name}");
        }
    }
}
