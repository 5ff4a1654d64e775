//! `ringtail log seal`: cuts the active segments of a stopped broker's directory to their exact length, with complete
//! indexes, so that Kafka's own tools read every file to its end.
//!
//! It recovers the directory as a start does, so the new base checkpoint holds every partition's partial block. That block is
//! then written to the segment as well and the file cut behind it. The next start trusts its base: it extends the file again
//! and goes on in the same segment, whatever became of the block. A crash on the way leaves a recovered directory, partly cut.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::recovery::leftovers::Wanted;
use super::recovery::{RecoveredDirectory, find_partitions, recover};
use super::segment::{finish_companions, path_of};
use super::state::PartitionState;
use super::{LogDirectory, StorageError};
use crate::base::buffer::{AlignedBuf, block_ceil};
use crate::io::{Durability, Env, OpenOptions, replace_file, write_all_at};

/// What sealing did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sealed {
    /// Partitions whose active segment has its exact length now.
    pub partitions: usize,
    /// Damaged ones, left as they are.
    pub damaged: usize,
}

/// Seals the directories. The caller holds their locks. The metadata is not asked: what nothing in a directory knows of may be a
/// stranger's, and stays as it is.
pub async fn seal<E: Env>(env: &E, directories: &[LogDirectory], arenas: &Path) -> Result<Sealed, StorageError> {
    let recovered = recover(env, directories, arenas, |_| Wanted::Unknown).await?;
    let mut sealed = Sealed::default();
    for directory in &recovered.directories {
        let path = &directory.place.path;
        let done = seal_directory(env, directory, &mut sealed).await;
        done.map_err(|e| StorageError(format!("{}: sealing: {e}", path.display())))?;
    }
    Ok(sealed)
}

async fn seal_directory<E: Env>(env: &E, directory: &RecoveredDirectory, sealed: &mut Sealed) -> io::Result<()> {
    let path = &directory.place.path;
    let entries = env.list(path).await?;
    let folders: Vec<String> = entries.into_iter().filter(|e| e.is_directory).map(|e| e.name).collect();
    for (id, name) in find_partitions(env, path, &folders).await? {
        match directory.take(id) {
            Some(found) if found.state.damaged => sealed.damaged += 1,
            Some(found) => {
                seal_partition(env, &path.join(name), found.state).await?;
                sealed.partitions += 1;
            }
            None => {}
        }
    }
    directory.remove_superseded(env).await?;
    env.flush_file_system(path).await
}

async fn seal_partition<E: Env>(env: &E, folder: &Path, state: PartitionState) -> io::Result<()> {
    let end = state.boundary;
    let file = env
        .open(&path_of(folder, end.segment, "log"), OpenOptions::WRITE_DIRECT)
        .await?;
    if !state.tail.is_empty() {
        if env.size(&file).await? < block_ceil(end.position) {
            env.allocate(&file, 0, block_ceil(end.position)).await?;
        }
        let mut block = AlignedBuf::copy_of(&state.tail);
        block.pad_to_block();
        write_all_at(env, &file, block.freeze(), state.stored, Durability::Cached).await?;
    }
    env.truncate(&file, end.position).await?;
    let mut build = state.build;
    build.finish(end.position, end.offset, None);
    finish_companions(env, folder, &build).await?;
    let epochs = Bytes::from(state.epochs.to_text());
    replace_file(env, &folder.join("leader-epoch-checkpoint"), epochs).await
}
