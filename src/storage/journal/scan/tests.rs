//! Journals built by hand, whole and damaged, and what a scan makes of them.

use super::super::format::COMMIT_HEADER_BYTES;
use super::*;

struct Builder {
    files: Vec<Vec<u8>>,
    crc: u32,
    sequence: u64,
}

fn header(file: u64) -> FileHeader {
    let (salt, previous_salt) = (100 + file, if file == 0 { 0 } else { 99 + file });
    FileHeader {
        directory_id: [1; 16],
        start: 1,
        shard: 0,
        file,
        salt,
        previous_salt,
        file_bytes: 65536,
    }
}

impl Builder {
    fn new() -> Self {
        Self {
            files: vec![header(0).encode()],
            crc: 0,
            sequence: 1,
        }
    }

    fn commit(&mut self, row: Row) -> usize {
        let mut rows = Vec::new();
        row.encode(&mut rows);
        self.commit_bytes(&rows)
    }

    fn commit_bytes(&mut self, rows: &[u8]) -> usize {
        let mut commit = vec![0; BLOCK_BYTES];
        commit[COMMIT_HEADER_BYTES..COMMIT_HEADER_BYTES + rows.len()].copy_from_slice(rows);
        let salt = 100 + self.files.len() as u64 - 1;
        self.crc = CommitHeader::seal(&mut commit, salt, self.sequence, self.crc, rows.len(), 0);
        self.sequence = self.sequence.wrapping_add(1);
        let file = self.files.last_mut().expect("one at least");
        file.extend_from_slice(&commit);
        file.len() - BLOCK_BYTES
    }

    fn next_file(&mut self) {
        let file = self.files.len() as u64;
        self.commit(Row::Next { file, salt: 100 + file });
        self.files.push(header(file).encode());
    }

    fn scan(self) -> Scanned {
        self.scan_as(|i| format!("ringtail-journal-1-0-{i}"))
    }

    fn scan_as(self, name: impl Fn(usize) -> String) -> Scanned {
        let padded = |mut f: Vec<u8>| {
            f.resize(65536, 0);
            Bytes::from(f)
        };
        scan(
            self.files
                .into_iter()
                .enumerate()
                .map(|(i, f)| JournalFile {
                    name: name(i),
                    content: padded(f),
                    bytes: 65536,
                })
                .collect(),
        )
    }
}

fn row() -> Row {
    Row::CleanStop
}

#[test]
fn files_before_the_one_that_holds_a_commit_are_superseded() {
    let mut journal = Builder::new();
    for _ in 0..3 {
        journal.commit(row());
        journal.next_file();
    }
    // Commits 1 and 2, 3 and 4, 5 and 6; the last file has none.
    let heads: Vec<FileHead> = journal.files.iter().map(|file| FileHead::decode(file)).collect();
    let padded = |over: usize| (0..4).map(|file| file < over).collect::<Vec<bool>>();
    for (sequence, over) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 2), (99, 2)] {
        assert_eq!(superseded(&heads, sequence), padded(over), "commit {sequence}");
    }
    journal.files[2][20] ^= 1;
    let heads: Vec<FileHead> = journal.files.iter().map(|file| FileHead::decode(file)).collect();
    assert_eq!(superseded(&heads, 1), padded(2), "below a gap");
}

#[test]
fn a_file_whose_first_commit_is_gone_shows_the_later_ones() {
    let mut journal = Builder::new();
    let untouched = |file: &[u8]| !FileHead::decode(file).has_commit_in(file);
    assert!(untouched(&journal.files[0]), "nothing but a header");
    for _ in 0..2 {
        journal.commit(row());
    }
    let file = &mut journal.files[0];
    file[BLOCK_BYTES + 8] ^= 1;
    let head = FileHead::decode(file);
    assert!(head.has_commit_in(file));
    assert!(untouched(&file[..2 * BLOCK_BYTES]), "the damaged commit alone");
    file[0] ^= 1;
    assert!(FileHead::decode(file).has_commit_in(file), "whatever the header says");
}

#[test]
fn a_file_under_the_header_of_another_is_corrupt() {
    let journal = || {
        let mut journal = Builder::new();
        journal.commit(row());
        journal.next_file();
        journal.commit(row());
        // Made ready ahead.
        journal.files.push(header(2).encode());
        journal
    };
    let found = journal().scan();
    assert_eq!((found.commits.len(), found.corruption), (3, None));
    // Swapped with the file that was made ready, as of its own; the commits in it verify under no salt there is.
    for (one, from) in [(1, 2), (1, 0), (2, 1)] {
        let mut journal = journal();
        let theirs = journal.files[from][..BLOCK_BYTES].to_vec();
        if from > one {
            let own = journal.files[one][..BLOCK_BYTES].to_vec();
            journal.files[from][..BLOCK_BYTES].copy_from_slice(&own);
        }
        journal.files[one][..BLOCK_BYTES].copy_from_slice(&theirs);
        let found = journal.scan().corruption;
        assert!(
            found.is_some_and(|found| found.position == 0),
            "the header of {from} in {one}"
        );
    }
    // A free file that had its new name and not yet its new header.
    let mut reused = journal();
    let free = std::mem::replace(&mut reused.files[0], vec![0; BLOCK_BYTES]);
    reused.files.push(free);
    assert_eq!(reused.scan().corruption, None);
    // One whose new header outlived its new name.
    let mut reused = journal();
    reused.files.pop();
    reused.files[0] = header(2).encode();
    let found = reused.scan();
    assert_eq!((found.commits.len(), found.corruption), (1, None));
}

#[test]
fn commits_are_read_across_files() {
    let mut journal = Builder::new();
    journal.commit(row());
    journal.next_file();
    journal.commit(row());
    let scanned = journal.scan();
    assert_eq!(scanned.commits.len(), 3);
    assert_eq!(scanned.corruption, None);
}

#[test]
fn a_torn_last_commit_is_the_end() {
    let mut journal = Builder::new();
    journal.commit(row());
    let last = journal.commit(row());
    journal.files[0][last + COMMIT_HEADER_BYTES] ^= 1;
    let scanned = journal.scan();
    assert_eq!((scanned.commits.len(), scanned.corruption), (1, None));
}

#[test]
fn a_bad_block_before_a_valid_commit_is_corruption() {
    for flipped in [0, 4, 12, COMMIT_HEADER_BYTES] {
        let mut journal = Builder::new();
        journal.commit(row());
        let middle = journal.commit(row());
        journal.commit(row());
        journal.files[0][middle + flipped] ^= 1;
        let corruption = journal.scan().corruption.expect("found");
        assert_eq!(
            (corruption.file.as_str(), corruption.position),
            ("ringtail-journal-1-0-0", middle as u64)
        );
    }
}

#[test]
fn a_bad_end_before_a_later_file_is_corruption() {
    let mut journal = Builder::new();
    journal.commit(row());
    let bad = journal.files[0].len() - BLOCK_BYTES;
    journal.next_file();
    journal.commit(row());
    journal.files[0][bad + COMMIT_HEADER_BYTES] ^= 1;
    assert!(journal.scan().corruption.is_some());
}

#[test]
fn an_entered_file_without_its_header_is_corruption() {
    let mut journal = Builder::new();
    journal.next_file();
    journal.commit(row());
    journal.files[1][20] ^= 1;
    assert!(journal.scan().corruption.is_some());
}

/// The shortest rows would take many times their bytes in memory.
#[test]
fn a_commit_with_a_short_row_twice_is_none() {
    for row in [Row::CleanStop, Row::Next { file: 1, salt: 101 }] {
        let mut rows = Vec::new();
        row.encode(&mut rows);
        row.encode(&mut rows);
        let mut journal = Builder::new();
        journal.commit_bytes(&rows);
        let scanned = journal.scan();
        assert_eq!((scanned.commits.len(), scanned.corruption), (0, None), "{row:?}");
    }
}

/// The file that it names is not gone on in.
#[test]
fn a_refused_commit_leads_nowhere() {
    let mut journal = Builder::new();
    journal.commit(row());
    let mut rows = Vec::new();
    Row::Next { file: 1, salt: 101 }.encode(&mut rows);
    journal.commit_bytes(&[&rows[..], b"\xff"].concat());
    let scanned = journal.scan();
    assert_eq!((scanned.commits.len(), scanned.corruption), (1, None));
}

#[test]
fn the_last_sequence_and_the_last_file_have_none_behind_them() {
    let mut journal = Builder::new();
    journal.sequence = u64::MAX;
    journal.commit(row());
    journal.commit(row());
    assert_eq!(journal.scan().commits.len(), 0);
    let mut journal = Builder::new();
    journal.files = vec![header(0).encode()];
    let last = FileHeader {
        file: u64::MAX,
        ..header(1)
    };
    journal.files.push(last.encode());
    let heads: Vec<FileHead> = journal.files.iter().map(|file| FileHead::decode(file)).collect();
    assert_eq!(superseded(&heads, 1), [true, false]);
    let name = |i| format!("ringtail-journal-1-0-{}", [0, u64::MAX][i]);
    assert_eq!(journal.scan_as(name).first_file, Some(u64::MAX));
}

#[test]
fn a_file_made_ready_but_not_entered_holds_nothing() {
    let mut journal = Builder::new();
    journal.commit(row());
    journal.files.push(header(1).encode());
    let scanned = journal.scan();
    assert_eq!((scanned.commits.len(), scanned.corruption), (1, None));
}

#[test]
fn a_file_is_walked_in_pieces_and_a_bad_commit_before_a_good_one_is_told() {
    let mut journal = Builder::new();
    let starts: Vec<usize> = (0..5).map(|_| journal.commit(row())).collect();
    let mut file = journal.files[0].clone();
    file.resize(65536, 0);
    let walked = |file: &[u8], piece: usize| -> Result<u64, u64> {
        let mut walk = crate::storage::journal::walk::FileWalk::begin(file).expect("a header");
        let mut at = walk.position();
        while at < file.len() as u64 {
            let end = file.len().min(at as usize + piece);
            at = walk.take(&file[at as usize..end], at).map_err(|_| walk.position())?;
        }
        Ok(walk.position())
    };
    for piece in [BLOCK_BYTES, 3 * BLOCK_BYTES, 1 << 20] {
        assert_eq!(walked(&file, piece), Ok(starts[4] as u64 + BLOCK_BYTES as u64));
        for (i, start) in starts.iter().enumerate() {
            let mut bad = file.clone();
            bad[start + COMMIT_HEADER_BYTES] ^= 1;
            let expected = if i == 4 { Ok(*start as u64) } else { Err(*start as u64) };
            assert_eq!(walked(&bad, piece), expected, "commit {i}");
        }
    }
}

#[test]
fn a_journal_that_does_not_show_its_beginning_or_is_cut_is_corrupt() {
    let mut journal = Builder::new();
    journal.commit(row());
    let file = |content: &[u8], bytes| {
        let mut content = content.to_vec();
        content.resize(bytes as usize, 0);
        let (name, content) = ("j".to_owned(), Bytes::from(content));
        JournalFile { name, content, bytes }
    };
    let whole = journal.files[0].clone();
    let scanned = scan(vec![file(&whole, 65536)]);
    assert_eq!((scanned.corruption, scanned.next_sequence), (None, 2));
    for bytes in [0, 40, 4096, 8192, 65532] {
        let cut = scan(vec![file(&whole, 65536.min(bytes))]);
        assert!(cut.corruption.is_some(), "{bytes}");
    }
    // The file that it goes on in, once what came before is gone.
    let ready = header(3).encode();
    let corruption = scan(vec![file(&ready, 65536)]).corruption.expect("no commit");
    assert_eq!(corruption.position, BLOCK_BYTES as u64);
    let scanned = scan(vec![file(&header(0).encode(), 65536)]);
    assert_eq!(
        (scanned.corruption, scanned.next_sequence),
        (None, 1),
        "nothing was committed yet"
    );
    assert_eq!(scan(Vec::new()).corruption, None);
}
