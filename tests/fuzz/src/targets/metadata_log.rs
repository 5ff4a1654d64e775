//! The metadata log's file, and one commit's FlatBuffers by themselves. Claims: no panic; memory within 16 times the bytes
//! (FlatBuffers may share strings and tables, up to the verifier's limits; records own theirs) and 64 KiB; what was read, written
//! anew, reads back as the same records; applying any records works.
//!
//! The input: a byte (bit 0: leave check sums as they are; bit 1: the rest is the payload of one commit), then the file or the payload.

use ringtail::cluster::formats::{
    FormatError, HEADER_BYTES, decode_commit, encode_commit, push_commit, scan, sealed_file,
};
use ringtail::cluster::{Image, Record};

use super::input::put;
use super::memory::bounded_by;

const FRAME_HEADER_BYTES: usize = 16;

pub fn run(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else {
        return;
    };
    if mode & 2 != 0 {
        if let Some(records) = bounded_by(16 * bytes.len(), bytes.len(), || decode_commit(bytes)) {
            assert_eq!(decode_commit(&encode_commit(&records)).as_ref(), Some(&records));
            apply(&records);
        }
        return;
    }
    let mut file = bytes.to_vec();
    if mode & 1 == 0 {
        mend(&mut file);
    }
    let mut records = Vec::new();
    let scanned = bounded_by(16 * file.len(), file.len(), || {
        scan(&file, |record| records.push(record))
    });
    match scanned {
        Ok(tail) => {
            assert!(tail.end >= HEADER_BYTES as u64 && tail.end <= (file.len() as u64).next_multiple_of(8));
            assert!(tail.end >= tail.header.sealed_bytes);
            write_anew(&records);
        }
        Err(FormatError::Corrupt(corruption)) => {
            assert!(!corruption.to_string().is_empty());
        }
        Err(FormatError::Newer(_)) => {}
    }
    apply(&records);
}

/// Makes magic and version, the header's sum and those of all commits right, as far as their lengths lead to one another.
fn mend(file: &mut [u8]) {
    put(file, 0, b"RINGMETA\x01\0\0\0");
    let Some(header) = file.first_chunk_mut::<HEADER_BYTES>() else {
        return;
    };
    let crc = crc32c::crc32c(&header[..60]);
    put(header, 60, &crc.to_le_bytes());
    let salt: [u8; 8] = *header[16..].first_chunk().expect("within the header");
    let mut sequence = u64::from_le_bytes(*header[24..].first_chunk().expect("within the header"));
    let mut at = HEADER_BYTES;
    while let Some((head, rest)) = file
        .get_mut(at..)
        .and_then(|frame| frame.split_at_mut_checked(FRAME_HEADER_BYTES))
    {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let Some(payload) = rest.get(..length as usize) else {
            return;
        };
        let seed = [&salt[..], &sequence.to_le_bytes(), &length.to_le_bytes()].concat();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&seed), payload);
        put(head, 4, &crc.to_le_bytes());
        // A commit far off its place shows itself behind a bad one.
        if head[15] != 0xee {
            put(head, 8, &sequence.to_le_bytes());
        }
        sequence = sequence.wrapping_add(1);
        at += (FRAME_HEADER_BYTES + payload.len()).next_multiple_of(8);
    }
}

fn write_anew(records: &[Record]) {
    let read = |file: &[u8]| {
        let mut read = Vec::new();
        let tail = scan(file, |record| read.push(record)).expect("a file just written");
        (tail, read)
    };
    let (mut file, next) = sealed_file(5, 9, records.iter().cloned());
    let (tail, again) = read(&file);
    assert_eq!(
        (tail.sequence, tail.end, &again[..]),
        (next, file.len() as u64, records)
    );
    push_commit(&mut file, 5, next, &records[..records.len().min(2)]);
    push_commit(&mut file, 5, next + 1, &[]);
    let (tail, again) = read(&file);
    assert!(tail.confirmed && again.len() == records.len() + records.len().min(2));
}

fn apply(records: &[Record]) {
    let mut image = Image::default();
    records.iter().for_each(|record| image.apply(record));
    let mut again = Image::default();
    image.records().for_each(|record| again.apply(&record));
    assert_eq!(again.topics().count(), image.topics().count());
    for topic in image.topics() {
        assert!(
            topic
                .partitions
                .iter()
                .all(|directory| image.partition_count(*directory) > 0)
        );
    }
}
