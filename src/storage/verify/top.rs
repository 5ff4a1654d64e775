//! The files at the top of a log directory: checkpoints and journals.

use std::collections::BTreeMap;
use std::io;

use super::{LOCK_FILE, Report};
use crate::io::{DirectoryEntry, Env, OpenOptions, read_file, read_up_to};
use crate::storage::LogDirectory;
use crate::storage::journal::scan::{JournalFile, scan};
use crate::storage::recovery::evidence::Evidence;
use crate::storage::state::{Checkpoint, OwnFile, base_name};

/// No checkpoint is larger.
const CHECKPOINT_BYTES_MAX: usize = 1 << 30;

/// Verifies what recovery would read, and reads it as recovery does.
pub async fn verify_top<E: Env>(
    env: &E,
    directory: &LogDirectory,
    entries: &[DirectoryEntry],
    is_known: fn(&str) -> bool,
    report: &mut Report,
) -> io::Result<Evidence> {
    let path = &directory.path;
    let mut own = Vec::new();
    for entry in entries.iter().filter(|e| !e.is_directory) {
        match OwnFile::parse(&entry.name) {
            Some(file) => own.push((entry.name.clone(), file)),
            None if entry.name == LOCK_FILE || is_known(&entry.name) => report.files += 1,
            None => report.note(&path.join(&entry.name), "not a file of the broker"),
        }
    }
    let bases = own.iter().filter(|(_, file)| matches!(file, OwnFile::Base { .. }));
    let governing = bases.map(|(_, file)| file.start()).max();
    let mut evidence = Evidence::default();
    if let Some(newest) = own.iter().map(|(_, file)| file.start()).max()
        && Some(newest) > governing
    {
        let what = "it is missing, and its start left journals or checkpoints";
        report.problem(&path.join(base_name(newest)), None, what);
    }
    let Some(governing) = governing else {
        return Ok(evidence);
    };
    let mut journals: BTreeMap<u64, Vec<JournalFile>> = BTreeMap::new();
    for (name, file) in &own {
        let at = path.join(name);
        if file.start() != governing {
            report.note(&at, "left over from another start");
            continue;
        }
        report.files += 1;
        let content = match file {
            OwnFile::Journal { shard, .. } => {
                let content = read_journal(env, &at).await?;
                let file = JournalFile {
                    name: name.clone(),
                    content: content.clone(),
                    bytes: content.len() as u64,
                };
                journals.entry(*shard).or_default().push(file);
                content
            }
            _ => {
                verify_checkpoint(env, directory, name, report).await?;
                continue;
            }
        };
        report.bytes += content.len() as u64;
    }
    for files in journals.into_values() {
        if let Some(damage) = scan(files).corruption {
            let what = format!("expected {}", damage.expected);
            report.problem(&path.join(damage.file), damage.position, what);
        }
    }
    let mut read = evidence.read_base(env, path, governing, &directory.id).await;
    if read.is_ok() {
        read = evidence.read_shards(env, path, governing, &own).await;
    }
    if let Err(error) = read {
        report.problem(path, None, format!("a broker would not start here: {error}"));
    }
    Ok(evidence)
}

/// Verifies one checkpoint of the directory.
pub async fn verify_checkpoint<E: Env>(
    env: &E,
    directory: &LogDirectory,
    name: &str,
    report: &mut Report,
) -> io::Result<()> {
    let path = directory.path.join(name);
    let content = read_file(env, &path, CHECKPOINT_BYTES_MAX).await?;
    let own = OwnFile::parse(name);
    match Checkpoint::decode(&content).filter(|read| Some(read.file) == own) {
        None => report.problem(&path, None, "the checkpoint does not verify"),
        Some(read) if read.directory_id != directory.id => {
            report.problem(&path, None, "is of another directory than meta.properties says");
        }
        Some(_) => {}
    }
    report.bytes += content.len() as u64;
    Ok(())
}

async fn read_journal<E: Env>(env: &E, path: &std::path::Path) -> io::Result<bytes::Bytes> {
    let file = env.open(path, OpenOptions::READ_DIRECT).await?;
    let size = env.size(&file).await? as usize;
    Ok(read_up_to(env, &file, 0, size).await?.freeze())
}
