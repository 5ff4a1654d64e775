//! When a damage is none, by what the formats' pages say; and what may have become of the bytes of a damaged file.

use std::path::Path;

use super::bases::{Base, Files};
use super::damage::Touched;
use super::journal;

/// What is in a file, for counting.
pub fn type_of(path: &Path, files: &Files) -> &'static str {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    if name.starts_with("ringtail-journal") {
        return "journal";
    }
    if name.starts_with("ringtail-base") {
        return "base checkpoint";
    }
    if name.starts_with("ringtail-shard") {
        return "shard checkpoint";
    }
    let is_closed = is_closed(path, files);
    match (name.as_str(), kind.as_str(), is_closed) {
        ("partition.metadata", ..) => "partition.metadata",
        ("leader-epoch-checkpoint", ..) => "leader-epoch-checkpoint",
        ("meta.properties", ..) => "meta.properties",
        ("ringtail-metadata.log", ..) => "metadata log",
        (_, "log", true) => "closed .log",
        (_, "log", false) => "active .log",
        (_, "index", true) => "closed .index",
        (_, "index", false) => "active .index",
        (_, "timeindex", true) => "closed .timeindex",
        (_, "timeindex", false) => "active .timeindex",
        (_, "sums", true) => "closed .sums",
        (_, "sums", false) => "active .sums",
        _ => "other",
    }
}

/// Whether a segment is over: another one begins behind it.
fn is_closed(path: &Path, files: &Files) -> bool {
    let own = path.file_name().unwrap_or_default();
    let later = |other: &Path| {
        let is_log = other.extension().is_some_and(|kind| kind == "log");
        is_log && other.parent() == path.parent() && other.file_stem() > Path::new(own).file_stem()
    };
    files.keys().any(|other| later(other))
}

/// Read by the next start at most: then a newer checkpoint tells all.
pub fn is_superseded(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.starts_with("ringtail-journal") || name.starts_with("ringtail-base") || name.starts_with("ringtail-shard")
}

/// Whether each changed byte is one of those.
fn all_within(touched: &Touched, is_one: impl Fn(usize) -> bool) -> bool {
    let Some(now) = &touched.now else { return false };
    let differs = |at: &usize| now.get(*at) != Some(&touched.before[*at]);
    (0..touched.before.len()).filter(differs).all(is_one)
}

/// Whether a file that is known to be damaged keeps everybody from the other one: the identity of a directory, that of a partition's
/// folder, a journal, which is read to its first damage.
pub fn covers(damaged: &Path, other: &Path) -> bool {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (own, its) = (name(damaged), name(other));
    let journal = |name: &str| name.rsplit_once('-').map(|(journal, _)| journal.to_owned());
    match own.as_str() {
        "meta.properties" => damaged.parent().is_some_and(|root| other.starts_with(root)),
        "partition.metadata" => damaged.parent() == other.parent(),
        _ if own.starts_with("ringtail-journal") && its.starts_with("ringtail-journal") => {
            damaged.parent() == other.parent() && journal(&own) == journal(&its)
        }
        _ => false,
    }
}

/// Why nobody need notice.
pub fn harmless(base: &Base, touched: &Touched, after: &Files) -> Option<&'static str> {
    let (path, before) = (&touched.path, &touched.before);
    let ends = before.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let kind = type_of(path, &base.files);
    if kind == "journal" {
        let map = journal::map(before)?;
        let means = |at: usize| map.meaning.iter().any(|range| range.contains(&at));
        if touched.now.is_some() && all_within(touched, |at| !means(at)) {
            return Some("journal: padding, or behind the last commit");
        }
        if map.commits == 0 {
            return Some("journal: a file made ready, without a commit");
        }
        if let Some(last) = map.last_empty
            && all_within(touched, |at| !means(at) || last.contains(&at))
        {
            return Some("journal: the last commit, which says nothing");
        }
    }
    if kind == "meta.properties" {
        let sum = before
            .windows(8)
            .rposition(|word| word == b"#crc32c=")
            .unwrap_or(before.len());
        if all_within(touched, |at| at >= sum) {
            return Some("meta.properties: the line of its sum, a comment");
        }
    }
    if kind == "leader-epoch-checkpoint" {
        return Some("leader-epoch-checkpoint: written for Kafka's tools, never read");
    }
    if kind == "closed .sums" && touched.now.is_none() {
        return Some("closed .sums removed: the batches go by their own sums, as the page says");
    }
    if kind == "shard checkpoint" && touched.now.is_none() {
        return Some(
            "shard checkpoint removed: the one before it, or the base, and the journal say the same, every record is there",
        );
    }
    if kind == "partition.metadata" && all_within(touched, |at| at + 1 == before.len()) {
        return Some("partition.metadata: the end of its last line");
    }
    let grows = kind.starts_with("active") || kind == "metadata log";
    if grows && all_within(touched, |at| at >= ends) {
        return Some("behind what was ever written");
    }
    if !base.after.contains_key(path) && !after.contains_key(path) && !is_superseded(path) {
        return Some("below the log's start: removed by the start as without damage");
    }
    if kind == "journal" && touched.now.is_none() {
        return Some("journal file removed: all of it had been settled, every record is there");
    }
    let made_again = base.after.get(path).is_some_and(|good| after.get(path) == Some(good));
    if made_again && base.after.get(path) != touched.now.as_ref() {
        return Some("made right again by the start");
    }
    None
}

/// Whether the start changed what it should have left as it is: a byte that is neither the damaged nor the right one.
pub fn rewritten(base: &Base, touched: &Touched, after: &Files, refused: bool) -> Option<String> {
    let Some(now) = &touched.now else { return None };
    let path = &touched.path;
    let Some(left) = after.get(path) else {
        if !base.after.contains_key(path) {
            return None;
        }
        return (!is_superseded(path) || refused).then(|| format!("{} is gone", path.display()));
    };
    let good = base.after.get(path).unwrap_or(&touched.before);
    if left.len() < now.len().min(good.len()) {
        return Some(format!(
            "{} was cut from {} to {}",
            path.display(),
            now.len(),
            left.len()
        ));
    }
    let changed = (0..now.len().min(good.len())).find(|at| left[*at] != now[*at] && left[*at] != good[*at]);
    changed.map(|at| format!("{}: byte {at} was rewritten", path.display()))
}
