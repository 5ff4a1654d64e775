//! All logs of one shard.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::cold::read_range;
use super::directory::ShardDirectory;
use super::health::is_passing;
use super::partition::{Opened, Partition};
use super::recovery::leftovers::remove_partition;
use super::recovery::{Found, Recovered, RecoveredDirectory, topic_id};
use super::segment::{ClosedSegment, base_of, path_of};
use super::state::PartitionState;
use super::{
    EXTEND_BYTES_MIN, OpenError, PartitionSpec, STRAY_SUFFIX, ScrubOptions, StorageError, StoreOptions, folder_name,
};
use crate::base::buffer::BLOCK_BYTES;
use crate::base::ids::PartitionId;
use crate::io::{Env, OpenOptions, read_file, replace_file};
use crate::metrics::ScrubMetrics;

/// A partition and its directory's place in `log.dirs`.
type Placed<E> = (usize, Rc<Partition<E>>);

/// All logs of one shard.
pub struct Store<E: Env> {
    env: E,
    directories: Vec<(Arc<RecoveredDirectory>, Rc<ShardDirectory<E>>)>,
    partitions: RefCell<BTreeMap<PartitionId, Placed<E>>>,
    /// New ones that something was lacking for: what lies in their folders is ours.
    half_made: RefCell<BTreeSet<PartitionId>>,
}

impl<E: Env> Store<E> {
    /// Opens this shard's part of the recovered directories. Every shard of a process opens its own store.
    pub async fn open(env: E, options: StoreOptions, recovered: Arc<Recovered>) -> Result<Rc<Self>, StorageError> {
        let mut directories = Vec::new();
        for found in &recovered.directories {
            let (place, health) = (found.place.clone(), found.health.clone());
            let directory = ShardDirectory::open(env.clone(), place, &options, found.start, health).await?;
            directories.push((found.clone(), directory));
        }
        Ok(Rc::new(Self {
            env,
            directories,
            partitions: RefCell::default(),
            half_made: RefCell::default(),
        }))
    }

    /// Makes the partition if it is new, attaches to what recovery found if it is not. Durable before it returns.
    pub async fn open_partition(&self, spec: PartitionSpec) -> Result<Rc<Partition<E>>, OpenError> {
        let Some((recovered, directory)) = self.directories.get(spec.directory) else {
            return Err(StorageError(format!("log.dirs has no entry number {}", spec.directory)).into());
        };
        let folder = directory.path().join(folder_name(&spec.topic_name, spec.id.index));
        let named = |e: io::Error| {
            let error = StorageError(format!("{}: {e}", folder.display()));
            match is_passing(&e) {
                true => OpenError::Passing(error),
                false => OpenError::Failed(error),
            }
        };
        let found = match recovered.take(spec.id) {
            Some(found) => found,
            None if recovered.is_missing(spec.id) => {
                let message = format!(
                    "{}: the partition has data, and no folder whose partition.metadata names it: restore the file",
                    folder.join("partition.metadata").display()
                );
                return Err(StorageError(message).into());
            }
            None => self.create(directory, &folder, spec.id).await.map_err(named)?,
        };
        let kept = found.clone();
        // Nothing is awaited between the chunk and its use.
        let opened = match self.open_files(&folder, &found).await {
            Ok(opened) => directory.ensure_chunk().await.map(|()| opened),
            Err(error) => Err(error),
        };
        let opened = opened.map_err(|error| {
            recovered.put_back(kept);
            named(error)
        })?;
        let (env, shared) = (self.env.clone(), directory.clone());
        let partition = Partition::attach(env, shared, spec.topic_name, spec.options, found.state, opened)?;
        directory.add(&partition);
        self.partitions
            .borrow_mut()
            .insert(spec.id, (spec.directory, partition.clone()));
        Ok(partition)
    }

    /// A new partition's folder and files, durable.
    async fn create(&self, directory: &ShardDirectory<E>, folder: &Path, id: PartitionId) -> io::Result<Found> {
        let mut made = self.env.create_directory(folder).await;
        if let Err(error) = &made
            && error.kind() == io::ErrorKind::AlreadyExists
        {
            let is_ours = self.half_made.borrow().contains(&id);
            // Only looked at so far: whatever an error says of a stranger's folder, nothing of ours was written.
            made = match !is_ours && self.is_strangers(folder, id).await? {
                true => self.set_aside(folder).await,
                false => Ok(()),
            };
        }
        let filled = match made {
            Ok(()) => {
                self.half_made.borrow_mut().insert(id);
                self.fill_folder(folder, id).await
            }
            Err(error) => Err(error),
        };
        match &filled {
            Ok(_) => {
                self.half_made.borrow_mut().remove(&id);
            }
            Err(error) if is_passing(error) || error.kind() == io::ErrorKind::InvalidFilename => {}
            Err(error) => directory.fence("making a partition", error),
        }
        filled
    }

    /// The files of a new partition, which begins at offset 0.
    async fn fill_folder(&self, folder: &Path, id: PartitionId) -> io::Result<Found> {
        let options = OpenOptions {
            exclusive: false,
            ..OpenOptions::CREATE_DIRECT
        };
        let file = self.env.open(&path_of(folder, 0, "log"), options).await?;
        self.env.truncate(&file, 0).await?;
        self.env.allocate(&file, 0, EXTEND_BYTES_MIN).await?;
        self.env.flush(&file).await?;
        let metadata = format!("version: 0\ntopic_id: {}\n", id.topic);
        replace_file(&self.env, &folder.join("partition.metadata"), Bytes::from(metadata)).await?;
        self.env
            .flush_directory(folder.parent().unwrap_or(Path::new(".")))
            .await?;
        Ok(Found {
            state: PartitionState::fresh(id, 0, self.env.random()),
            segments: BTreeMap::from([(0, EXTEND_BYTES_MIN)]),
        })
    }

    /// Whether what is there under a new partition's name is somebody else's. A folder that a crash left half made has no data and no
    /// `partition.metadata`: it is used.
    async fn is_strangers(&self, folder: &Path, id: PartitionId) -> io::Result<bool> {
        let mut is_strange = false;
        if let Ok(text) = read_file(&self.env, &folder.join("partition.metadata"), 4096).await
            && topic_id(&text) == Some(id.topic)
        {
            let message = "the folder came after the start: restart to take it up";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        for entry in self.env.list(folder).await? {
            is_strange |= entry.name == "partition.metadata";
            if base_of(&entry.name).is_some() && !is_strange {
                let log = self
                    .env
                    .open(&folder.join(&entry.name), OpenOptions::READ_DIRECT)
                    .await?;
                let head = read_range(&self.env, &log, 0, entry.bytes.min(BLOCK_BYTES as u64)).await?;
                is_strange = head.iter().any(|&byte| byte != 0);
            }
        }
        Ok(is_strange)
    }

    /// Moves what somebody left under a new partition's name aside: it is not taken over and not removed.
    async fn set_aside(&self, folder: &Path) -> io::Result<()> {
        let mut aside = folder.as_os_str().to_owned();
        aside.push(format!(".{:016x}{STRAY_SUFFIX}", self.env.random()));
        tracing::warn!(folder = %folder.display(), to = ?aside, "a folder of another topic is in the way of a new one: moved aside");
        self.env.rename(folder, Path::new(&aside)).await?;
        self.env.create_directory(folder).await
    }

    async fn open_files(&self, folder: &Path, found: &Found) -> io::Result<Opened<E>> {
        let active = found.state.boundary.segment;
        let mut closed = Vec::new();
        let mut segments = found.segments.range(..=active).peekable();
        while let Some((&base, &bytes)) = segments.next_if(|(base, _)| **base < active) {
            closed.push(ClosedSegment {
                base,
                bytes,
                next_offset: segments.peek().map_or(active, |(next, _)| **next),
                largest_ms: None,
                is_latest_yet: false,
            });
        }
        let path = path_of(folder, active, "log");
        Ok(Opened {
            folder: folder.to_owned(),
            closed,
            file: self.env.open(&path, OpenOptions::WRITE_DIRECT).await?,
            allocated: found.segments.get(&active).copied().unwrap_or(0),
        })
    }

    /// Closes the partition and removes its files; done when the name can be used again.
    pub async fn delete_partition(&self, id: PartitionId) -> Result<(), StorageError> {
        let Some((index, partition)) = self.partitions.borrow_mut().remove(&id) else {
            return Ok(());
        };
        let directory = &self.directories[index].1;
        directory.remove(id);
        partition.end().await;
        let folder = partition.folder().to_owned();
        directory.reading().forget_partition(id);
        let removed = remove_partition(&self.env, directory.path(), &folder, id).await;
        removed.map_err(|error| {
            // Whoever took the folder away did what was asked.
            if !is_passing(&error) && error.kind() != io::ErrorKind::NotFound {
                directory.fence("removing a partition", &error);
            }
            StorageError(format!("{}: {error}", folder.display()))
        })
    }

    pub fn partition(&self, id: PartitionId) -> Option<Rc<Partition<E>>> {
        self.partitions
            .borrow()
            .get(&id)
            .map(|(_, partition)| partition.clone())
    }

    /// Reads all that is stored again and again, and tells damage.
    pub fn scrub(&self, options: ScrubOptions, metrics: &Rc<ScrubMetrics>) {
        for (_, directory) in &self.directories {
            directory.scrub(options, metrics.clone());
        }
    }

    /// Settles everything, writes a last checkpoint and stops the store's tasks.
    pub async fn close(&self) -> Result<(), StorageError> {
        let mut result = Ok(());
        for (_, directory) in &self.directories {
            result = result.and(directory.close().await);
        }
        result
    }
}
