//! The files of a journal, built from the input and then damaged. Claims: no panic, memory within the budget of the files' bytes,
//! decoded rows encode to bytes that decode to the same, and of a journal without damage every commit is read.
//!
//! The input is a list of parts, each behind a byte that says what it is: a file's header, a commit (rows as bytes, so any rows), damage
//! that the check sums are made to hide (lies), damage that they show.

use bytes::Bytes;
use ringtail::storage::formats::{
    COMMIT_HEADER_BYTES, Commit, CommitHeader, Fields, FileHead, FileHeader, JournalFile, Row, Scanned, scan,
    superseded,
};

use super::input::{Input, damage, put};
use super::memory::bounded;

const BLOCK_BYTES: usize = 4096;
const FILES_MAX: usize = 4;
const FILE_BYTES_MAX: usize = 8 * BLOCK_BYTES;

/// Where a commit's header has the length of the rows, the payload's and their check sum.
const ROWS_BYTES_AT: usize = 24;
const BODY_CRC_AT: usize = 32;

struct Built {
    files: Vec<Vec<u8>>,
    salt: u64,
    sequence: u64,
    previous_crc: u32,
    /// Commits in a row from the journal's beginning, while nothing is wrong with it.
    commits: usize,
    is_sound: bool,
}

impl Built {
    fn header(&mut self, input: &mut Input<'_>) {
        if self.files.len() == FILES_MAX {
            return;
        }
        let number = self.files.len() as u64;
        let file = match input.byte() {
            0 => number,
            _ => {
                self.is_sound = false;
                input.number()
            }
        };
        let previous_salt = self.salt;
        // The next file's salt is what the row that names it says.
        self.salt = 100 + number;
        let header = FileHeader {
            directory_id: [1; 16],
            start: 1,
            shard: 0,
            file,
            salt: self.salt,
            previous_salt,
            file_bytes: FILE_BYTES_MAX as u64,
        };
        let block = header.encode();
        assert_eq!(FileHeader::decode(&block), Some(header));
        self.files.push(block);
        // Whether the files follow upon one another is for the rows to say.
        self.is_sound &= number == 0;
    }

    fn commit(&mut self, input: &mut Input<'_>, is_plain: bool) {
        let (rows, payload) = (input.sized(), input.sized());
        if !is_plain {
            self.is_sound = false;
            self.sequence = input.number();
            self.previous_crc ^= u32::from(input.byte());
        }
        let Some(file) = self.files.last_mut() else { return };
        let body = COMMIT_HEADER_BYTES + rows.len() + payload.len();
        let start = file.len();
        if start + body > FILE_BYTES_MAX {
            return;
        }
        file.resize(start + body.next_multiple_of(BLOCK_BYTES), 0);
        let commit = &mut file[start..];
        commit[COMMIT_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        commit[COMMIT_HEADER_BYTES + payload.len()..][..rows.len()].copy_from_slice(rows);
        self.previous_crc = CommitHeader::seal(
            commit,
            self.salt,
            self.sequence,
            self.previous_crc,
            rows.len(),
            payload.len(),
        );
        self.sequence = self.sequence.wrapping_add(1);
        self.is_sound &= are_rows(rows, payload.len());
        self.commits += 1;
    }

    /// Damages a file and makes the check sums of all that look like commits true again.
    fn lie(&mut self, flips: Input<'_>) {
        self.is_sound = false;
        let Some(file) = self.files.last_mut() else { return };
        damage(file, flips);
        for start in (BLOCK_BYTES..file.len()).step_by(BLOCK_BYTES) {
            if CommitHeader::looks_like(&file[start..]) {
                mend(&mut file[start..], self.salt);
            }
        }
    }
}

/// Whether every row can be read, none ends the file, and what they append lies in the payload.
fn are_rows(bytes: &[u8], payload_bytes: usize) -> bool {
    let mut fields = Fields(bytes);
    while !fields.0.is_empty() {
        match Row::decode(&mut fields) {
            Some(Row::Append { at, payload, .. })
                if u64::from(payload) + u64::from(at.bytes) > payload_bytes as u64 =>
            {
                return false;
            }
            Some(Row::Next { .. } | Row::CleanStop) | None => return false,
            Some(_) => {}
        }
    }
    true
}

fn u32_at(bytes: &[u8], position: usize) -> usize {
    let word = bytes[position..].first_chunk().copied();
    word.map_or(0, u32::from_le_bytes) as usize
}

fn seeded(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

fn mend(commit: &mut [u8], salt: u64) {
    let body = u32_at(commit, ROWS_BYTES_AT).saturating_add(u32_at(commit, ROWS_BYTES_AT + 4));
    if let Some(body) = commit.get(COMMIT_HEADER_BYTES..COMMIT_HEADER_BYTES + body) {
        let crc = seeded(salt, body);
        put(commit, BODY_CRC_AT, &crc.to_le_bytes());
    }
    let crc = seeded(salt, &commit[8..COMMIT_HEADER_BYTES]);
    put(commit, 4, &crc.to_le_bytes());
}

fn build(mut input: Input<'_>) -> Built {
    let mut built = Built {
        files: Vec::new(),
        salt: 0,
        sequence: 1,
        previous_crc: 0,
        commits: 0,
        is_sound: true,
    };
    while !input.is_empty() {
        match input.byte() % 6 {
            0 => built.header(&mut input),
            1 | 2 => built.commit(&mut input, true),
            3 => built.commit(&mut input, false),
            4 => built.lie(Input(input.sized())),
            _ => {
                built.is_sound = false;
                let flips = Input(input.sized());
                if let Some(file) = built.files.last_mut() {
                    damage(file, flips);
                }
            }
        }
    }
    built
}

fn check_commit(commit: &Commit) {
    for row in &commit.rows {
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        let mut fields = Fields(&bytes);
        assert_eq!(Row::decode(&mut fields).as_ref(), Some(row));
        assert!(fields.0.is_empty(), "{row:?}");
        if let Row::Append { at, payload, .. } = row {
            let end = *payload as usize + at.bytes as usize;
            assert!(commit.payload.get(*payload as usize..end).is_some(), "{row:?}");
        }
    }
}

pub fn run(input: &[u8]) {
    let built = build(Input(input));
    let content_bytes: usize = built.files.iter().map(Vec::len).sum();
    let heads: Vec<FileHead> = built.files.iter().map(|file| FileHead::decode(file)).collect();
    bounded(content_bytes, || {
        let _ = superseded(&heads, built.sequence);
        for (head, file) in heads.iter().zip(&built.files) {
            let _ = head.has_commit_in(file);
        }
    });
    let name = |(index, content): (usize, Vec<u8>)| JournalFile {
        name: format!("{index}"),
        bytes: FileHeader::decode(&content).map_or(content.len() as u64, |header| header.file_bytes),
        content: Bytes::from(content),
    };
    let files: Vec<JournalFile> = built.files.into_iter().enumerate().map(name).collect();
    let scanned: Scanned = bounded(content_bytes, || scan(files));
    scanned.commits.iter().for_each(check_commit);
    if built.is_sound {
        assert_eq!((scanned.commits.len(), &scanned.corruption), (built.commits, &None));
    }
}
