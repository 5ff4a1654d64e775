//! All of a stopped broker's log directory verified: partitions, checkpoints and journals by `storage`, and what the cluster keeps.

use std::path::Path;

use super::metadata_log::{read_image, verify_metadata_log};
use super::start::{is_broker_file, read_directory_id};
use crate::base::ids::PartitionId;
use crate::cluster::image::Image;
use crate::io::Env;
use crate::storage::verify::{Problem, Report, Surroundings, VerifyOptions, verify};
use crate::storage::{LogDirectory, StorageError, Topics, Wanted, folder_name};

impl Topics for &Image {
    fn wanted(&self, id: PartitionId) -> Wanted {
        match self.topic_by_id(id.topic) {
            Some(topic) if (id.index as usize) < topic.partitions.len() => Wanted::Yes,
            None if self.is_deleted(id.topic) => Wanted::Deleted,
            _ => Wanted::Unknown,
        }
    }

    fn is_folder_of(&self, name: &str, id: PartitionId) -> bool {
        let topic = self.topic_by_id(id.topic);
        topic.is_none_or(|topic| name == folder_name(&topic.name, id.index))
    }
}

/// What there is, if one of `directories` holds a metadata log that can be read.
pub async fn image_of<E: Env>(env: &E, directories: &[impl AsRef<Path>]) -> Option<Image> {
    for directory in directories {
        let image = read_image(env, directory.as_ref()).await;
        if image.is_some() {
            return image;
        }
    }
    None
}

/// Verifies `path`, and the metadata log if it is there; `progress` is called with the report as it grows. Without the `image` of
/// what there is a damaged `partition.metadata` may be told in a note only. Errors: it is no log directory, or a broker uses it.
pub async fn verify_directory<E: Env>(
    env: &E,
    path: &Path,
    image: Option<&Image>,
    options: VerifyOptions,
    progress: impl FnMut(&Report),
) -> Result<Report, StorageError> {
    let directory = LogDirectory {
        path: path.to_owned(),
        id: read_directory_id(env, path).await.map_err(StorageError)?,
    };
    let surroundings = Surroundings {
        is_file: is_broker_file,
        topics: image.as_ref().map(|image| image as &dyn Topics),
    };
    let mut report = verify(env, &directory, options, surroundings, progress).await?;
    if options.closed_only {
        return Ok(report);
    }
    let found = verify_metadata_log(env, path).await;
    let found = found.map_err(|error| StorageError(format!("{}: the metadata log: {error}", path.display())))?;
    if let Some(log) = found {
        let at = |position, what: &str| Problem {
            file: log.path.clone(),
            position: Some(position),
            what: what.into(),
        };
        let problem = log.problem.iter().map(|(position, what)| at(*position, what));
        report.problems.extend(problem);
        let torn = log
            .torn
            .map(|position| at(position, "a commit was cut short here; the next start erases it"));
        report.notes.extend(torn);
        report.bytes += log.bytes;
    }
    Ok(report)
}
