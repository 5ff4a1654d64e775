//! Everything outside the segments that tells where logs end: checkpoints, journals, arenas.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::base::buffer::{AlignedBuf, Arena, BLOCK_BYTES};
use crate::base::coverage::{Mark, mark};
use crate::base::ids::PartitionId;
use crate::base::planted::{Bug, planted};
use crate::base::sync::join_all;
use crate::io::{Env, OpenOptions, read_file, read_up_to};
use crate::storage::directory::leader_epoch;
use crate::storage::journal::format::COMMIT_BYTES_MAX;
use crate::storage::journal::rows::{Owner, Row};
use crate::storage::journal::scan::{Commit, FileHead, HEAD_BYTES, JournalFile, scan, superseded};
use crate::storage::state::{Checkpoint, OwnFile, PartitionState, base_name, shard_name};
use crate::storage::tail::ChunkPlace;

/// No checkpoint is larger.
const CHECKPOINT_BYTES_MAX: usize = 1 << 30;
/// Journal files are read in steps of so much, up to one in which no commit begins: commits stand back to back, so three of the
/// largest ones would be gone there.
const JOURNAL_WINDOW_BYTES: usize = 2 * COMMIT_BYTES_MAX as usize + 2 * BLOCK_BYTES;
/// No journal file is larger.
const JOURNAL_FILE_BYTES_MAX: usize = 64 << 20;
/// No segment is larger: positions in it are Kafka's signed 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// No arena file is larger.
const ARENA_BYTES_MAX: u64 = 1 << 30;

/// Bytes that belong at a position of a segment.
#[derive(Clone, Debug)]
pub struct Piece {
    pub segment: i64,
    pub position: u64,
    pub bytes: Bytes,
    pub source: Source,
}

/// Where such bytes were found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// On the device: what the segment lacks of them is written again, whatever a process of this boot says of it.
    Journal,
    /// In memory, block-aligned where the segment is. Every byte of it below `stored` was written to the file in this boot of
    /// the machine.
    Arena { stored: u64 },
}

impl Piece {
    pub fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

/// What is known of one partition.
#[derive(Clone, Debug)]
pub struct PartitionEvidence {
    pub id: PartitionId,
    pub state: Option<PartitionState>,
    pub pieces: Vec<Piece>,
    /// Segments known to have ended: base → next offset.
    pub rolled: BTreeMap<i64, i64>,
    pub log_start: i64,
    /// Offsets below this were durable.
    pub reach: i64,
    /// The leader epoch of the start that ended.
    pub epoch: Option<i32>,
}

impl PartitionEvidence {
    fn none(id: PartitionId) -> Self {
        Self {
            id,
            state: None,
            pieces: Vec::new(),
            rolled: BTreeMap::new(),
            log_start: 0,
            reach: 0,
            epoch: None,
        }
    }
}

/// All that is known.
#[derive(Default)]
pub struct Evidence {
    governing: u64,
    partitions: BTreeMap<PartitionId, PartitionEvidence>,
    /// Journal files that tell nothing.
    pub spare: Vec<String>,
}

/// What a shard's checkpoint asks of its journal.
struct Needed {
    /// The first commit that the checkpoint builds on.
    sequence: u64,
    /// None of the shard's checkpoints verifies; this is the oldest one left. The base checkpoint is built on.
    unverified: Option<PathBuf>,
}

impl Needed {
    /// The whole journal, as before a shard's first checkpoint.
    const ALL: Self = Self {
        sequence: 1,
        unverified: None,
    };
}

fn corrupt(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// A journal's files, and the names of those that hold nothing from commit `sequence` on.
async fn read_journal<E: Env>(
    env: &E,
    path: &Path,
    names: Vec<String>,
    sequence: u64,
) -> io::Result<(Vec<JournalFile>, Vec<String>)> {
    let opens = names.into_iter().map(async |name| {
        let file = env.open(&path.join(&name), OpenOptions::READ_DIRECT).await?;
        let size = env.size(&file).await? as usize;
        if size > JOURNAL_FILE_BYTES_MAX {
            return Err(corrupt(format!("{name} holds {size} bytes, no journal file does")));
        }
        let head = FileHead::decode(&read_up_to(env, &file, 0, size.min(HEAD_BYTES)).await?);
        Ok((JournalFound { name, file, size }, head))
    });
    let opened: io::Result<Vec<_>> = join_all(opens.collect()).await.into_iter().collect();
    let (files, heads): (Vec<_>, Vec<_>) = opened?.into_iter().unzip();
    let over = superseded(&heads, sequence);
    let (mut reads, mut names_over) = (Vec::new(), Vec::new());
    for ((found, head), over) in files.into_iter().zip(heads).zip(over) {
        match over {
            true => names_over.push(found.name),
            false => reads.push(found.read(env, head)),
        }
    }
    let files: io::Result<Vec<JournalFile>> = join_all(reads).await.into_iter().collect();
    Ok((files?, names_over))
}

/// A journal's file, open.
struct JournalFound<E: Env> {
    name: String,
    file: E::File,
    size: usize,
}

impl<E: Env> JournalFound<E> {
    /// Reads the file up to where no more commits begin.
    async fn read(self, env: &E, head: FileHead) -> io::Result<JournalFile> {
        let mut content = AlignedBuf::new(self.size);
        while content.len() < self.size {
            let bytes = JOURNAL_WINDOW_BYTES.min(self.size - content.len());
            let window = read_up_to(env, &self.file, content.len() as u64, bytes).await?;
            content.extend(&window);
            if window.len() < bytes || !head.has_commit_in(&window) {
                break;
            }
        }
        let content = content.freeze();
        Ok(JournalFile {
            name: self.name,
            content,
            bytes: self.size as u64,
        })
    }
}

impl Evidence {
    fn entry(&mut self, id: PartitionId) -> &mut PartitionEvidence {
        self.partitions.entry(id).or_insert_with(|| PartitionEvidence::none(id))
    }

    /// The partitions that something is known of and that were not moved out.
    pub fn ids(&self) -> impl Iterator<Item = PartitionId> {
        self.partitions.keys().copied()
    }

    pub fn knows(&self, id: PartitionId) -> bool {
        self.partitions.contains_key(&id)
    }

    /// What is known of a partition, moved out.
    pub fn of(&mut self, id: PartitionId) -> PartitionEvidence {
        let found = self.partitions.remove(&id);
        PartitionEvidence {
            epoch: Some(leader_epoch(self.governing)),
            ..found.unwrap_or_else(|| PartitionEvidence::none(id))
        }
    }

    fn add_state(&mut self, state: PartitionState) {
        let entry = self.entry(state.id);
        entry.reach = entry.reach.max(state.reach);
        entry.log_start = entry.log_start.max(state.log_start);
        entry.state = Some(state);
    }

    pub async fn read_base<E: Env>(&mut self, env: &E, path: &Path, start: u64, id: &[u8; 16]) -> io::Result<()> {
        self.governing = start;
        let file = path.join(base_name(start));
        let content = read_file(env, &file, CHECKPOINT_BYTES_MAX).await?;
        let base =
            Checkpoint::decode(&content).ok_or_else(|| corrupt(format!("{} does not verify", file.display())))?;
        if base.directory_id != *id || base.file != (OwnFile::Base { start }) {
            return Err(corrupt(format!(
                "{} is of another directory than meta.properties says, or of another start",
                file.display()
            )));
        }
        base.partitions.into_values().for_each(|state| self.add_state(state));
        Ok(())
    }

    /// Reads the newest good checkpoint of each shard of the governing start, and the journals.
    pub async fn read_shards<E: Env>(
        &mut self,
        env: &E,
        path: &Path,
        start: u64,
        own: &[(String, OwnFile)],
    ) -> io::Result<()> {
        let mut checkpoints: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut journals: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (name, file) in own.iter().filter(|(_, file)| file.start() == start) {
            match *file {
                OwnFile::Shard { shard, number, .. } => checkpoints.entry(shard).or_default().push(number),
                OwnFile::Journal { shard, .. } => journals.entry(shard).or_default().push(name.clone()),
                OwnFile::Base { .. } => {}
            }
        }
        let mut needed = BTreeMap::new();
        for (shard, mut numbers) in checkpoints {
            numbers.sort_unstable();
            needed.insert(shard, self.read_checkpoint(env, path, start, shard, &numbers).await?);
        }
        if let Some(shard) = needed.keys().find(|shard| !journals.contains_key(shard)) {
            return Err(corrupt(format!(
                "{}: the journal of shard {shard} is missing",
                path.display()
            )));
        }
        let reads = journals.into_iter().map(async |(shard, names)| {
            let needed = needed.get(&shard).unwrap_or(&Needed::ALL);
            (shard, read_journal(env, path, names, needed.sequence).await)
        });
        let journals = join_all(reads.collect()).await;
        for (shard, files) in journals {
            let needed = needed.remove(&shard).unwrap_or(Needed::ALL);
            let (files, over) = files?;
            self.spare.extend(over);
            self.take_journal(path, files, needed)?;
        }
        Ok(())
    }

    /// Takes in the newest good checkpoint of a shard. Without one the base checkpoint stands, and the whole journal is needed.
    async fn read_checkpoint<E: Env>(
        &mut self,
        env: &E,
        path: &Path,
        start: u64,
        shard: u64,
        numbers: &[u64],
    ) -> io::Result<Needed> {
        let mut unverified = None;
        for &number in numbers.iter().rev() {
            let file = path.join(shard_name(start, shard, number));
            let content = read_file(env, &file, CHECKPOINT_BYTES_MAX).await?;
            let own = OwnFile::Shard { start, shard, number };
            if let Some(checkpoint) = Checkpoint::decode(&content).filter(|c| c.file == own) {
                checkpoint
                    .partitions
                    .into_values()
                    .for_each(|state| self.add_state(state));
                return Ok(Needed {
                    sequence: checkpoint.journal_from,
                    unverified: None,
                });
            }
            mark(Mark::CheckpointFallback);
            tracing::error!(file = %file.display(), "a checkpoint does not verify: the one before it is used");
            unverified = Some(file);
        }
        Ok(Needed {
            unverified,
            ..Needed::ALL
        })
    }

    fn take_journal(&mut self, path: &Path, files: Vec<JournalFile>, needed: Needed) -> io::Result<()> {
        let scanned = scan(files);
        if let Some(damage) = scanned.corruption {
            let (file, at) = (path.join(&damage.file), damage.position);
            return Err(corrupt(format!(
                "{} is corrupt at byte {at}: expected {}; restore the file, or move it away to lose what it holds",
                file.display(),
                damage.expected
            )));
        }
        self.spare.extend(scanned.spare);
        // The journal's first file tells that no commit is gone, also when its own first one is torn.
        if let Some(file) = needed.unverified
            && scanned.first_file != Some(0)
        {
            return Err(corrupt(format!(
                "{} does not verify, nor does a newer checkpoint of its shard, and the journal no longer reaches back to the \
                 base checkpoint: restore the file",
                file.display()
            )));
        }
        if scanned.first_sequence > needed.sequence {
            let (found, needed) = (scanned.first_sequence, needed.sequence);
            return Err(corrupt(format!(
                "{}: the journal begins with commit {found}, commit {needed} is needed",
                path.display()
            )));
        }
        if scanned.next_sequence < needed.sequence {
            let (file, at) = scanned.end.unwrap_or_default();
            return Err(corrupt(format!(
                "{} is corrupt at byte {at}: expected commit {}, which a checkpoint says was durable, or a later one",
                path.join(file).display(),
                needed.sequence - 1
            )));
        }
        let last = scanned.commits.len();
        for (i, commit) in scanned.commits.into_iter().enumerate() {
            self.add_commit(commit, i + 1 < last);
        }
        Ok(())
    }

    fn add_commit(&mut self, commit: Commit, confirmed: bool) {
        let governing = self.governing;
        let current = |owner: &Owner| owner.generation == governing;
        for row in commit.rows {
            match row {
                Row::Append { owner, at, payload } if current(&owner) => {
                    let payload = payload as usize;
                    let bytes = commit.payload.slice(payload..payload + at.bytes as usize);
                    let entry = self.entry(owner.partition);
                    entry.pieces.push(Piece {
                        segment: at.segment,
                        position: at.position,
                        bytes,
                        source: Source::Journal,
                    });
                    if confirmed {
                        entry.reach = entry.reach.max(at.next_offset);
                    }
                }
                Row::Extent { owner, at } if current(&owner) && confirmed => {
                    let entry = self.entry(owner.partition);
                    entry.reach = entry.reach.max(at.next_offset);
                }
                Row::Settled { owner, to } if current(&owner) => {
                    let entry = self.entry(owner.partition);
                    entry.reach = entry.reach.max(to.offset);
                }
                Row::Rolled {
                    owner,
                    segment,
                    next_offset,
                    ..
                } if current(&owner) => {
                    self.entry(owner.partition).rolled.insert(segment, next_offset);
                }
                Row::LogStart { owner, offset } if current(&owner) && !planted(Bug::LogStartGoesBack) => {
                    let entry = self.entry(owner.partition);
                    entry.log_start = entry.log_start.max(offset);
                }
                _ => {}
            }
        }
    }

    /// Reads the chunks that a killed process left in memory.
    pub async fn read_arenas<E: Env>(&mut self, env: &E, arenas: &Path, prefix: &str) -> io::Result<()> {
        for entry in env.list(arenas).await? {
            let ours = entry
                .name
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('-'));
            if !ours || entry.bytes == 0 || entry.bytes > ARENA_BYTES_MAX || entry.bytes % BLOCK_BYTES as u64 != 0 {
                continue;
            }
            let path = arenas.join(&entry.name);
            let region = match env.map_found(&path, entry.bytes as usize).await {
                Ok(region) => region,
                // Put there by somebody: not to be believed, and not to stop a start.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    tracing::warn!(file = %path.display(), %error, "not an arena of ours: not read");
                    continue;
                }
                Err(error) => return Err(error),
            };
            for chunk in Arena::recover(&region, env.boot_id()) {
                let Some(place) = ChunkPlace::decode(&chunk.identity) else {
                    continue;
                };
                if place.owner.generation != self.governing || place.start > SEGMENT_BYTES_MAX {
                    continue;
                }
                mark(Mark::ArenaRecovered);
                let piece = Piece {
                    segment: place.segment,
                    position: place.start,
                    source: Source::Arena {
                        // A chunk of which nothing is stored tells nothing of what is before it.
                        stored: match chunk.stored {
                            0 => 0,
                            bytes => place.start + bytes as u64,
                        },
                    },
                    bytes: chunk.bytes,
                };
                self.entry(place.owner.partition).pieces.push(piece);
            }
        }
        Ok(())
    }
}
