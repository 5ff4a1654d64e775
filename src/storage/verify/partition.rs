//! One partition's folder: its names, its small text files, its segments in order.

use std::io;
use std::path::Path;

use super::active::verify_chain;
use super::segment::verify_closed;
use super::{Pace, Report, Surroundings};
use crate::base::ids::{PartitionId, TopicId};
use crate::io::{Env, read_file};
use crate::storage::recovery::evidence::Evidence;
use crate::storage::recovery::topic_id;
use crate::storage::segment::{base_of, path_of};
use crate::storage::{DELETED_SUFFIX, STRAY_SUFFIX};

/// The text files are small.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// A folder of which the directory's evidence has nothing.
pub struct Unproven {
    pub index: i32,
    /// What it says of itself, where that can be read.
    pub topic: Option<TopicId>,
}

impl Unproven {
    pub fn id(&self) -> Option<PartitionId> {
        let index = self.index;
        self.topic.map(|topic| PartitionId { topic, index })
    }
}

/// Verifies the partition in `folder`, called `name`; what it is if the directory's `evidence` has nothing of it. Without `evidence` only
/// segments that are over.
pub async fn verify_folder<E: Env>(
    env: &E,
    folder: &Path,
    name: &str,
    evidence: Option<&mut Evidence>,
    surroundings: Surroundings<'_>,
    report: &mut Report,
    pace: &mut impl Pace,
) -> io::Result<Option<Unproven>> {
    if name.ends_with(DELETED_SUFFIX) || name.ends_with(STRAY_SUFFIX) {
        report.note(folder, "set aside or being deleted: not looked at");
        return Ok(None);
    }
    let Some(index) = name.rsplit_once('-').and_then(|(_, index)| index.parse::<i32>().ok()) else {
        report.note(folder, "not the folder of a partition");
        return Ok(None);
    };
    let Some(topic) = verify_texts(env, folder, report).await? else {
        return Ok(Some(Unproven { index, topic: None }));
    };
    let partition = PartitionId { topic, index };
    if surroundings
        .topics
        .is_some_and(|topics| topics.is_misnamed(name, partition))
    {
        let what = "names a topic that has another name than the folder";
        report.problem(&folder.join("partition.metadata"), None, what);
        return Ok(None);
    }
    report.partitions += 1;
    let bases = verify_names(env, folder, report).await?;
    let is_unknown = evidence.as_ref().is_some_and(|evidence| !evidence.knows(partition));
    let known = evidence.map(|evidence| evidence.of(partition));
    let first = bases.first().copied().unwrap_or(0);
    let active = match &known {
        Some(known) => known.state.as_ref().map_or(first, |state| state.boundary.segment),
        None => bases.last().copied().unwrap_or(0),
    };
    let log_start = known.as_ref().map_or(0, |known| known.log_start);
    let is_known = known.as_ref().is_some_and(|known| known.state.is_some());
    if is_known && first > log_start {
        let what = format!("the log's first segment is missing, the next begins at {first}");
        report.problem(&path_of(folder, log_start, "log"), None, what);
    }
    for (i, &base) in bases.iter().enumerate().take_while(|(_, base)| **base < active) {
        let next = bases.get(i + 1).copied().unwrap_or(active);
        if next > log_start {
            verify_closed(env, folder, partition, base, next, known.is_none(), report, pace).await?;
        }
    }
    if let Some(known) = known {
        verify_chain(env, folder, &bases, known, report, pace).await?;
    }
    Ok(is_unknown.then_some(Unproven {
        index,
        topic: Some(topic),
    }))
}

/// `partition.metadata` and `leader-epoch-checkpoint`; the topic's id.
pub async fn verify_texts<E: Env>(env: &E, folder: &Path, report: &mut Report) -> io::Result<Option<TopicId>> {
    let metadata = folder.join("partition.metadata");
    let topic = match read_file(env, &metadata, TEXT_BYTES_MAX).await {
        Ok(text) => topic_id(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.note(
                &metadata,
                "it is missing: the folder was never finished, or is not ours",
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if topic.is_none() {
        report.problem(
            &metadata,
            None,
            "is not as it is written: the folder's partition is not found at a start",
        );
    }
    let epochs = folder.join("leader-epoch-checkpoint");
    match read_file(env, &epochs, TEXT_BYTES_MAX).await {
        Ok(text) if !are_epochs(&text) => report.problem(&epochs, None, "is not a list of rising epochs and offsets"),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(topic)
}

/// Whether the text is a `leader-epoch-checkpoint` as it is written.
pub fn are_epochs(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let mut lines = text.lines();
    let count = match (lines.next(), lines.next()) {
        (Some("0"), Some(count)) => count.parse::<usize>(),
        _ => return false,
    };
    let pair = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        Some((epoch.parse::<i32>().ok()?, start.parse::<i64>().ok()?))
    };
    let Some(pairs) = lines.map(pair).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let rising = pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
    count == Ok(pairs.len()) && rising && text.ends_with('\n')
}

/// The bases of the segments, rising; names that are none of the partition's are noted.
async fn verify_names<E: Env>(env: &E, folder: &Path, report: &mut Report) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    let entries = env.list(folder).await?;
    for entry in &entries {
        bases.extend(base_of(&entry.name).filter(|_| !entry.is_directory));
    }
    bases.sort_unstable();
    for entry in &entries {
        let companion = entry.name.split_once('.').is_some_and(|(base, kind)| {
            let companions = ["log", "index", "timeindex", "sums", "txnindex", "snapshot"];
            companions.contains(&kind)
                && (kind == "snapshot" || base_of(&format!("{base}.log")).is_some_and(|b| bases.contains(&b)))
        });
        let text = matches!(entry.name.as_str(), "partition.metadata" | "leader-epoch-checkpoint");
        report.files += 1;
        if !companion && !text {
            report.note(&folder.join(&entry.name), "not a file of the partition");
        }
    }
    Ok(bases)
}
