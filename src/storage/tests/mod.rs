//! Golden bytes of the formats on disk. They are a promise to every directory that exists: when one of these tests fails, the
//! format has changed and needs a new version next to its magic, and its page under `docs/` the change.
//!
//! Not here: the metadata log (`cluster::log_format`), the record batch (`wire::batch`).

use std::fmt::Write;

use bytes::Bytes;

use super::build::{BatchFacts, SegmentBuild, SegmentIdentity};
use super::codec::Fields;
use super::cursor::Cursor;
use super::epochs::Epochs;
use super::journal::format::{COMMIT_HEADER_BYTES, CommitHeader, FileHeader};
use super::journal::rows::{Owner, Range, Row};
use super::producers::{Producers, Sequenced};
use super::state::{Checkpoint, OwnFile, PartitionState};
use super::sums::{SUMS_TRAILER_BYTES, SumsTrailer, decode_rows};
use super::tail::ChunkPlace;
use crate::base::buffer::BLOCK_BYTES;
use crate::base::ids::{PartitionId, TopicId};

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(*b"sixteen bytes id"),
    index: 3,
};
const OWNER: Owner = Owner {
    partition: PARTITION,
    generation: 6,
};
const SALT: u64 = 0x0123_4567_89ab_cdef;

/// Rows of 32 bytes in hexadecimal; zeros that fill whole rows are counted.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut zeros = 0;
    let rows = bytes.chunks(32);
    let count = rows.len();
    for (index, row) in rows.enumerate() {
        let is_zero = row.iter().all(|byte| *byte == 0);
        zeros += if is_zero { row.len() } else { 0 };
        if zeros > 0 && (!is_zero || index + 1 == count) {
            let _ = writeln!(text, "{zeros} zeros");
            zeros = 0;
        }
        if !is_zero {
            row.iter().for_each(|byte| {
                let _ = write!(text, "{byte:02x}");
            });
            text.push('\n');
        }
    }
    text
}

/// Holds titled byte strings against a golden file of this folder.
///
/// # Panics
/// If they differ, saying where what is written now has been put.
fn assert_golden(name: &str, golden: &str, sections: &[(&str, &[u8])]) {
    let mut text = String::new();
    for (title, bytes) in sections {
        let _ = write!(text, "# {title}, {} bytes\n{}", bytes.len(), hex(bytes));
    }
    if text != golden {
        let written = std::env::temp_dir().join(format!("ringtail-golden-{name}"));
        std::fs::write(&written, &text).expect("the temporary folder takes a file");
        panic!(
            "src/storage/tests/{name} is not what is written now ({}): a change of the format",
            written.display()
        );
    }
}

fn rows() -> Vec<Row> {
    let at = Range {
        segment: 100,
        position: 8192,
        bytes: 7,
        next_offset: 105,
    };
    vec![
        Row::Append {
            owner: OWNER,
            at,
            payload: 2,
        },
        Row::Extent { owner: OWNER, at },
        Row::Settled {
            owner: OWNER,
            to: Cursor {
                segment: 100,
                position: 4096,
                offset: 103,
            },
        },
        Row::Rolled {
            owner: OWNER,
            segment: 100,
            bytes: 1 << 20,
            next_offset: 2000,
        },
        Row::LogStart {
            owner: OWNER,
            offset: 50,
        },
        Row::Next { file: 8, salt: !SALT },
        Row::CleanStop,
    ]
}

#[test]
fn the_journal() {
    let header = FileHeader {
        directory_id: *b"directory's id..",
        start: 4,
        shard: 1,
        file: 7,
        salt: SALT,
        previous_salt: 66,
        file_bytes: 32 << 20,
    };
    let file = header.encode();
    assert_eq!(FileHeader::decode(&file), Some(header));

    let payload = b"payload's";
    let mut encoded = Vec::new();
    rows().iter().for_each(|row| row.encode(&mut encoded));
    let mut commit = vec![0; COMMIT_HEADER_BYTES];
    commit.extend_from_slice(payload);
    commit.extend_from_slice(&encoded);
    commit.resize(BLOCK_BYTES, 0);
    CommitHeader::seal(&mut commit, SALT, 9, 0x1234_5678, encoded.len(), payload.len());
    let (read, _) = CommitHeader::decode(&commit, SALT).expect("valid");
    let (read_rows, read_payload) = read.body(&commit, SALT).expect("valid");
    assert_eq!(read_payload, payload);
    let mut fields = Fields(read_rows);
    let read_rows: Vec<Row> = std::iter::from_fn(|| Row::decode(&mut fields)).collect();
    assert_eq!(read_rows, rows());

    assert_golden(
        "journal.txt",
        include_str!("journal.txt"),
        &[("header of a file", &file), ("commit", &commit)],
    );
}

/// A segment of three batches, of which the second one ends a row of the sums; where it ends.
fn build() -> (SegmentBuild, Cursor) {
    let identity = SegmentIdentity {
        partition: PARTITION,
        base: 100,
        uid: 0xfeed_f00d,
    };
    let mut build = SegmentBuild::new(identity);
    build.first_append_ms = 1_700_000_000_000;
    let mut at = Cursor {
        segment: 100,
        position: 0,
        offset: 100,
    };
    for (bytes, records, time_ms) in [(40_000, 5, 1000), (30_000, 1, 3000), (500, 20, 2000)] {
        let content: Vec<u8> = (0..bytes as u32).map(|i| ((i * i) >> 7) as u8).collect();
        let facts = BatchFacts {
            base_offset: at.offset,
            last_offset: at.offset + records - 1,
            max_timestamp_ms: 1_700_000_000_000 + time_ms,
            bytes,
        };
        let extend_crc = |crc| crc32c::crc32c_append(crc, &content);
        build.add(at.position, &facts, extend_crc, 4096);
        at.position += bytes;
        at.offset += records;
    }
    (build, at)
}

fn epochs() -> Epochs {
    let mut epochs = Epochs::default();
    epochs.note(1, 0);
    epochs.note(4, 103);
    epochs
}

#[test]
fn the_companions_of_a_segment() {
    let (mut build, end) = build();
    build.finish(end.position, end.offset, Some(1_700_000_000_000));
    let (offsets, times, sums) = (build.offsets.rest(), build.times.rest(), build.sums.rest());
    assert_eq!(SegmentIdentity::from_sums_head(sums), Some(build.identity));
    let rows_end = sums.len() - SUMS_TRAILER_BYTES;
    let trailer = SumsTrailer::decode(&sums[rows_end..], PARTITION, 100).expect("a trailer");
    assert_eq!((trailer.log_bytes, trailer.next_offset, trailer.rows), (70_500, 126, 2));
    let head = super::build::SUMS_HEAD_BYTES;
    assert_eq!(decode_rows(100, (0, 100), &sums[head..rows_end], 70_500).len(), 2);
    assert_golden(
        "segment.txt",
        include_str!("segment.txt"),
        &[
            (".index", offsets),
            (".timeindex", times),
            (".sums", sums),
            ("leader-epoch-checkpoint", epochs().to_text().as_bytes()),
        ],
    );
}

#[test]
fn the_checkpoint() {
    let (build, boundary) = build();
    let mut producers = Producers::default();
    for (producer_id, epoch, sequence) in [(7, 2, 0), (7, 2, 10), (-9, 0, 5)] {
        let batch = Sequenced {
            producer_id,
            epoch,
            first_sequence: sequence,
            last_sequence: sequence + 9,
        };
        producers.apply(
            &batch,
            100 + i64::from(sequence),
            109 + i64::from(sequence),
            1_700_000_000_500,
        );
    }
    let state = PartitionState {
        id: PARTITION,
        log_start: 50,
        boundary,
        stored: 69_632,
        tail: Bytes::from_static(b"the partial block that no segment holds"),
        reach: 124,
        damaged: false,
        build,
        epochs: epochs(),
        producers,
    };
    let mut body = Vec::new();
    state.encode(&mut body);
    let own = OwnFile::Shard {
        start: 4,
        shard: 2,
        number: 3,
    };
    let file = Checkpoint::encode(*b"directory's id..", own, 17, 1, &body);
    let read = Checkpoint::decode(&file).expect("whole");
    assert_eq!((read.file, read.journal_from), (own, 17));
    assert_eq!(read.partitions.into_values().collect::<Vec<_>>(), [state]);
    assert_golden(
        "checkpoint.txt",
        include_str!("checkpoint.txt"),
        &[("a checkpoint", &file)],
    );
}

/// The rest of an arena's bytes is held by the tests of `base::buffer`.
#[test]
fn the_place_of_a_chunk() {
    let place = ChunkPlace {
        owner: OWNER,
        segment: 100,
        start: 8192,
    };
    let bytes = place.encode();
    assert_eq!(ChunkPlace::decode(&bytes), Some(place));
    assert_golden(
        "chunk.txt",
        include_str!("chunk.txt"),
        &[("identity of a chunk", &bytes)],
    );
}
