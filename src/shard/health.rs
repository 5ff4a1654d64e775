//! What becomes of log directories that fail while the broker serves: partitions in one of several go offline with it, and
//! without the last one or the one of the metadata log the process ends.

use std::path::Path;

use super::{ServeError, Shard};
use crate::io::Env;

/// Looks for failed directories; on the controller's shard, which places new partitions.
pub fn look<E: Env>(shard: &Shard<E>) {
    let Some(controller) = shard.controller.get() else {
        return;
    };
    let failed = shard.broker.directories.iter().filter(|(_, d)| !d.is_in_service());
    failed.for_each(|(id, _)| controller.set_directory_offline(id));
    if !shard.failed.is_raised()
        && let Some(failure) = failure(shard, controller.is_closed())
    {
        shard.failure.set(Some(failure));
        shard.failed.raise();
    }
}

/// Why the broker cannot go on, if it cannot.
fn failure<E: Env>(shard: &Shard<E>, metadata_failed: bool) -> Option<ServeError> {
    let metadata = &shard.process.config.directories.metadata;
    let out = |path: &Path, without| ServeError::OutOfService {
        path: path.display().to_string(),
        without,
    };
    let mut all = shard.broker.directories.iter().map(|(_, directory)| directory);
    let of_metadata = all.find(|directory| directory.place.path == *metadata);
    if metadata_failed || of_metadata.is_some_and(|directory| !directory.is_in_service()) {
        return Some(out(metadata, "has the metadata log"));
    }
    let mut all = shard.broker.directories.iter().map(|(_, directory)| directory);
    let last = all.next()?;
    let none_left = !last.is_in_service() && all.all(|directory| !directory.is_in_service());
    none_left.then(|| out(&last.place.path, "no other log directory is left"))
}
