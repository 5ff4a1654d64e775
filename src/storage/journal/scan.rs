//! Reading a journal back: which commits count, and whether what stops the reading is the torn end or corruption. Pure.
//!
//! What stops the reading at a block, and what follows from it:
//!
//! | at the stop | behind it, or in a later file | verdict |
//! |---|---|---|
//! | zeros, old bytes, or a commit that does not verify | no valid commit of this journal | the end: that commit was in flight |
//! | the same | a valid commit with a later sequence | corruption: the later one confirmed this one |
//! | the last commit names a next file | that file's header is not the one named | corruption |
//!
//! A file's header is that of its name. After a reuse that was cut short it is of one before it that was free, or, where the header
//! outlived the new name, of a later one that is not there: one that is there, or the same header twice, is corrupt. A journal has
//! its first file before anything is committed, and goes on in a next one only with a commit in it. So files without any good
//! header, and an oldest one (but the very first) without a good commit at its beginning, are corrupt too.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::format::{CommitHeader, FileHeader};
use super::rows::{OWNED_ROW_BYTES_MIN, Row};
use crate::base::buffer::BLOCK_BYTES;
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, planted};
use crate::storage::codec::Fields;
use crate::storage::state::OwnFile;

/// A journal file as read from the disk.
pub struct JournalFile {
    pub name: String,
    pub content: Bytes,
    /// The file's size; what of it is not in `content` holds no commits.
    pub bytes: u64,
}

/// What the first two blocks of a journal file tell.
pub struct FileHead {
    header: Option<FileHeader>,
    first_sequence: Option<u64>,
}

/// Bytes of a file that tell its head.
pub const HEAD_BYTES: usize = 2 * BLOCK_BYTES;

impl FileHead {
    pub fn decode(content: &[u8]) -> Self {
        let header = content.get(..BLOCK_BYTES).and_then(FileHeader::decode);
        let first = header.and_then(|header| CommitHeader::decode(content.get(BLOCK_BYTES..)?, header.salt));
        Self {
            header,
            first_sequence: first.map(|(head, _)| head.sequence),
        }
    }

    /// Whether a commit begins at any of these blocks of the file.
    pub fn has_commit_in(&self, blocks: &[u8]) -> bool {
        match self.header {
            Some(header) => blocks
                .chunks(BLOCK_BYTES)
                .any(|block| CommitHeader::decode(block, header.salt).is_some()),
            None => looks_used(blocks),
        }
    }
}

/// Which of a journal's files hold nothing from commit `sequence` on: those below a gap, which were free to be used again, and
/// those whose next one begins at or below it.
pub fn superseded(heads: &[FileHead], sequence: u64) -> Vec<bool> {
    let begins: BTreeMap<u64, Option<u64>> = heads
        .iter()
        .filter_map(|head| Some((head.header?.file, head.first_sequence)))
        .collect();
    let mut pairs = begins.keys().zip(begins.keys().skip(1));
    let gap = pairs.rfind(|(one, next)| one.checked_add(1) != Some(**next));
    let behind_gap = gap.map_or(0, |(_, next)| *next);
    let is_over = |head: &FileHead| {
        head.header.is_some_and(|header| {
            let next = header.file.checked_add(1).and_then(|next| *begins.get(&next)?);
            header.file < behind_gap || next.is_some_and(|next| next <= sequence)
        })
    };
    heads.iter().map(is_over).collect()
}

/// A commit that counts.
#[derive(Clone, Debug)]
pub struct Commit {
    pub rows: Vec<Row>,
    pub payload: Bytes,
}

/// A valid later commit proves that these bytes were once durable and valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalCorruption {
    pub file: String,
    pub position: u64,
    pub expected: String,
}

/// The commits of one journal in order; the last one alone may be unconfirmed.
#[derive(Debug, Default)]
pub struct Scanned {
    /// The sequence that the oldest file in use begins with, or would.
    pub first_sequence: u64,
    /// The number of that file; 0 is the one that the journal's first commit went to.
    pub first_file: Option<u64>,
    /// The sequence of the commit that would come next.
    pub next_sequence: u64,
    /// The file and the position where that is.
    pub end: Option<(String, u64)>,
    pub commits: Vec<Commit>,
    /// Files that were made ready, or were free to be used again: nobody misses them.
    pub spare: Vec<String>,
    pub corruption: Option<JournalCorruption>,
}

/// Reads one journal (one start, one shard), whatever the order of its files. Files that were never used are skipped; the
/// oldest ones may have been recycled.
pub fn scan(files: Vec<JournalFile>) -> Scanned {
    let (used, mut scanned) = match in_order(files) {
        Ok(sorted) => sorted,
        Err(scanned) => return scanned,
    };
    let mut chain: Option<Chain> = None;
    for (i, (header, file)) in used.iter().enumerate() {
        if header.file_bytes != file.bytes {
            let at = header.file_bytes.min(file.bytes) as usize;
            return scanned.corrupt(file, at, format!("a file of {} bytes", header.file_bytes));
        }
        let mut walk = match &chain {
            None => Chain::beginning(header, file, &mut scanned),
            Some(before) => match before.continues_in(header) {
                Ok(chain) => chain,
                Err(expected) => return scanned.corrupt(file, 0, expected),
            },
        };
        let is_entered = chain.as_ref().is_none_or(|before| before.next.is_some());
        let stop = walk.read(header, file, &mut scanned.commits);
        let later = used[i + 1..]
            .iter()
            .any(|(h, f)| holds_commit_after(h, &f.content, BLOCK_BYTES, walk.sequence));
        if walk.next.is_none()
            && !planted(Bug::CorruptionIsTornTail)
            && (later || holds_commit_after(header, &file.content, stop, walk.sequence))
        {
            return scanned.corrupt(
                file,
                stop,
                format!("commit {}, which a later one confirms", walk.sequence),
            );
        }
        scanned.next_sequence = walk.sequence.max(1);
        if is_entered {
            scanned.end = Some((file.name.clone(), stop as u64));
        }
        if !is_entered && stop == BLOCK_BYTES {
            scanned.spare.push(file.name.clone());
        }
        chain = Some(walk);
    }
    if let (
        Some(Chain {
            next: Some((number, _)),
            ..
        }),
        Some((_, file)),
    ) = (&chain, used.last())
    {
        return scanned.corrupt(
            file,
            0,
            format!("the journal to go on in file {number}, which is missing or unreadable"),
        );
    }
    scanned
}

/// The files that the journal goes through, in their order. Error: they do not show where it begins.
#[expect(clippy::result_large_err, reason = "made once per journal")]
fn in_order(files: Vec<JournalFile>) -> Result<(Vec<(FileHeader, JournalFile)>, Scanned), Scanned> {
    let numbers: BTreeSet<u64> = files.iter().filter_map(|file| number_of(&file.name)).collect();
    let (mut headless, mut unused) = (None, Vec::new());
    let mut used: Vec<(FileHeader, JournalFile)> = Vec::new();
    for file in files {
        match FileHeader::decode(&file.content) {
            Some(header) => used.push((header, file)),
            // A header is one sector: it is the old one or the new one, never torn. Unused files hold no commits.
            None if looks_used(&file.content) => headless = Some(file),
            None => unused.push(file),
        }
    }
    used.sort_by_key(|(header, _)| header.file);
    let twice = used.windows(2).find(|pair| pair[0].0.file == pair[1].0.file);
    let swapped = used.iter().find(|(header, file)| {
        let is_of_a_later = number_of(&file.name).is_some_and(|number| header.file > number);
        is_of_a_later && numbers.contains(&header.file)
    });
    let wrong = swapped.or(twice.map(|pair| &pair[1]));
    if let Some((_, file)) = wrong.filter(|_| !planted(Bug::JournalHeaderUnchecked)) {
        let scanned = Scanned::default();
        return Err(scanned.corrupt(
            file,
            0,
            "the header of this file, or of one before it that was free".into(),
        ));
    }
    // Files below a gap were free, waiting to be used again.
    let gap = used
        .windows(2)
        .rposition(|pair| pair[0].0.file.checked_add(1) != Some(pair[1].0.file));
    let free = used.drain(..gap.map_or(0, |gap| gap + 1));
    let spare = free.map(|(_, file)| file.name);
    let spare = spare.chain(unused.iter().map(|file| file.name.clone())).collect();
    let scanned = Scanned {
        first_file: used.first().map(|(header, _)| header.file),
        next_sequence: 1,
        spare,
        ..Scanned::default()
    };
    if let Some(file) = headless {
        return Err(scanned.corrupt(&file, 0, "the header of a file that was in use".into()));
    }
    let begins = |(header, file): &(FileHeader, JournalFile)| header.file == 0 || first_sequence(header, file) > 0;
    if !used.first().is_some_and(begins) {
        return Err(match (unused.first(), used.first()) {
            (Some(file), _) => scanned.corrupt(file, 0, "the header of the file that the journal begins in".into()),
            (_, Some((_, file))) => scanned.corrupt(file, BLOCK_BYTES, "a commit, or the files before this one".into()),
            _ => scanned,
        });
    }
    Ok((used, scanned))
}

impl Scanned {
    fn corrupt(mut self, file: &JournalFile, position: usize, expected: String) -> Self {
        self.corruption = Some(JournalCorruption {
            file: file.name.clone(),
            position: position as u64,
            expected,
        });
        self
    }
}

/// The place in its journal that a file's name tells.
fn number_of(name: &str) -> Option<u64> {
    match OwnFile::parse(name)? {
        OwnFile::Journal { number, .. } => Some(number),
        _ => None,
    }
}

/// The sequence that the oldest file left begins with; 0 when its first commit is unreadable.
fn first_sequence(header: &FileHeader, file: &JournalFile) -> u64 {
    let first = file
        .content
        .get(BLOCK_BYTES..)
        .and_then(|c| CommitHeader::decode(c, header.salt));
    first.map_or(0, |(head, _)| head.sequence)
}

/// Where the reading of a journal stands.
struct Chain {
    /// The sequence of the next commit.
    sequence: u64,
    /// The check sum of the last commit read; `None` at the oldest file left, whose predecessor is gone.
    crc: Option<u32>,
    /// Number and salt of the file that the journal goes on in.
    next: Option<(u64, u64)>,
}

impl Chain {
    fn beginning(header: &FileHeader, file: &JournalFile, scanned: &mut Scanned) -> Self {
        scanned.first_sequence = first_sequence(header, file);
        Self {
            sequence: scanned.first_sequence,
            crc: None,
            next: None,
        }
    }

    fn continues_in(&self, header: &FileHeader) -> Result<Self, String> {
        match self.next {
            Some((file, salt)) if file == header.file && salt == header.salt => Ok(Self {
                sequence: self.sequence,
                crc: self.crc,
                next: None,
            }),
            Some((file, _)) => Err(format!("file {file} of the journal, as its predecessor says")),
            // A file made ready but not yet entered: nothing of the journal can be in it.
            None => Ok(Self {
                sequence: self.sequence,
                crc: self.crc,
                next: None,
            }),
        }
    }

    /// Takes commits off the file as long as they continue the chain; returns the position of the stop.
    fn read(&mut self, header: &FileHeader, file: &JournalFile, commits: &mut Vec<Commit>) -> usize {
        let content = &file.content;
        let mut position = BLOCK_BYTES;
        while self.next.is_none() {
            let Some((head, crc)) = content
                .get(position..)
                .and_then(|c| CommitHeader::decode(c, header.salt))
            else {
                break;
            };
            let chained = self.crc.is_none_or(|before| before == head.previous_crc);
            let Some(next_sequence) = self.sequence.checked_add(1) else {
                break;
            };
            let continues = head.sequence == self.sequence && chained || planted(Bug::ReplayRecycledJournal);
            if !continues || head.bytes == 0 {
                break;
            }
            let Some(commit) = self.decode(&head, header.salt, content, position) else {
                mark(Mark::TornCommit);
                break;
            };
            commits.push(commit);
            position += head.bytes as usize;
            self.sequence = next_sequence;
            self.crc = Some(crc);
        }
        position
    }

    fn decode(&mut self, head: &CommitHeader, salt: u64, content: &Bytes, position: usize) -> Option<Commit> {
        let commit = content.get(position..position + head.bytes as usize)?;
        let (row_bytes, payload) = head.body(commit, salt)?;
        let mut fields = Fields(row_bytes);
        // The short rows come once, so what the rows take follows from their bytes.
        let mut rows = Vec::with_capacity(2 + row_bytes.len() / OWNED_ROW_BYTES_MIN);
        let (mut next, mut is_stop) = (None, false);
        while !fields.0.is_empty() {
            let row = Row::decode(&mut fields)?;
            let held = match &row {
                Row::Append { at, payload: from, .. } => u64::from(*from) + u64::from(at.bytes) <= payload.len() as u64,
                Row::Next { file, salt } => next.replace((*file, *salt)).is_none(),
                Row::CleanStop => !std::mem::replace(&mut is_stop, true),
                _ => true,
            };
            if !held {
                return None;
            }
            rows.push(row);
        }
        self.next = next;
        Some(Commit {
            rows,
            payload: content.slice_ref(payload),
        })
    }
}

/// Whether anything that was written as a commit is in the file, whatever its salt.
fn looks_used(content: &[u8]) -> bool {
    content.chunks(BLOCK_BYTES).any(CommitHeader::looks_like)
}

/// Whether a valid commit with a sequence above `sequence` begins at any block from `from` on.
fn holds_commit_after(header: &FileHeader, content: &[u8], from: usize, sequence: u64) -> bool {
    (from..content.len()).step_by(BLOCK_BYTES).any(|position| {
        let bytes = &content[position..];
        CommitHeader::decode(bytes, header.salt)
            .is_some_and(|(head, _)| head.sequence > sequence && head.body(bytes, header.salt).is_some())
    })
}

#[cfg(test)]
mod tests;
