//! What lies beside a segment: `.sums` (head, rows, trailer), `.index`, `.timeindex`, and its name. Claims: no panic, memory within the
//! budget; what was decoded encodes to the same bytes; rows are in order and are found by offset; the search in an index answers what
//! a walk over all entries does, where they are sorted.
//!
//! The input: a byte (bit 0: leave check sums as they are), a number to look for, a length, `.sums`; the rest is an index.

use ringtail::storage::formats::{
    CoveredRow, OFFSET_ENTRY_BYTES, OffsetEntry, SUMS_TRAILER_BYTES, SegmentIdentity, SumsRow, SumsTrailer,
    TIME_ENTRY_BYTES, TimeEntry, decode_rows, last_where, rows_from,
};

use super::input::{Input, put};
use super::memory::bounded;

const HEAD_BYTES: usize = 64;
const ROW_BYTES: usize = 16;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (mode, target) = (input.byte(), input.i64());
    let mut sums = input.sized().to_vec();
    if mode & 1 == 0 {
        mend(&mut sums);
    }
    bounded(sums.len(), || check_sums(&sums, target));
    check_offsets(input.0, target as u32);
    check_times(input.0, target);
}

/// Makes the sums of head and trailer right.
fn mend(sums: &mut [u8]) {
    put(sums, 0, &0x3153_4d55_5352_5452u64.to_le_bytes());
    let Some((head, _)) = sums.split_first_chunk_mut::<HEAD_BYTES>() else {
        return;
    };
    let crc = crc32c::crc32c(&head[..HEAD_BYTES - 4]);
    put(head, HEAD_BYTES - 4, &crc.to_le_bytes());
    // The trailer's sum begins with partition and base, as the head has them.
    let place = crc32c::crc32c(&head[8..36]);
    if let Some((_, trailer)) = sums[HEAD_BYTES..].split_last_chunk_mut::<SUMS_TRAILER_BYTES>() {
        put(trailer, 0, &0x4c49_5254_5352_5452u64.to_le_bytes());
        let crc = crc32c::crc32c_append(place, &trailer[..SUMS_TRAILER_BYTES - 4]);
        put(trailer, SUMS_TRAILER_BYTES - 4, &crc.to_le_bytes());
    }
}

fn check_sums(sums: &[u8], target: i64) {
    let Some(identity) = SegmentIdentity::from_sums_head(sums) else {
        return;
    };
    assert_eq!(SegmentIdentity::from_sums_head(&identity.sums_head()), Some(identity));
    let trailer_start = sums.len() - SUMS_TRAILER_BYTES.min(sums.len() - HEAD_BYTES);
    let trailer = SumsTrailer::decode(&sums[trailer_start..], identity.partition, identity.base);
    let mut log_bytes = target as u64;
    if let Some(trailer) = trailer {
        let again = trailer.encode(&identity);
        assert_eq!(
            SumsTrailer::decode(&again, identity.partition, identity.base),
            Some(trailer)
        );
        assert!(trailer.file_bytes() >= (HEAD_BYTES + SUMS_TRAILER_BYTES) as u64);
        log_bytes = trailer.log_bytes;
    }
    for row in sums[HEAD_BYTES..trailer_start].chunks_exact(ROW_BYTES) {
        assert_eq!(
            SumsRow::decode(row)
                .map(|row| row.encode())
                .as_ref()
                .map(|row| &row[..]),
            Some(row)
        );
    }
    let rows = decode_rows(
        identity.base,
        (0, identity.base),
        &sums[HEAD_BYTES..trailer_start],
        log_bytes,
    );
    check_rows(&identity, &rows, target, log_bytes);
}

fn check_rows(identity: &SegmentIdentity, rows: &[CoveredRow], target: i64, log_bytes: u64) {
    let (mut position, mut offset) = (0, identity.base);
    for row in rows {
        assert_eq!((row.start, row.first_offset), (position, offset));
        assert!(row.end > position && row.end <= log_bytes && row.next_offset > offset);
        assert_eq!(row.bytes(), row.end - row.start);
        let sum_of_nothing = identity.row_seed(row.start);
        assert_eq!(row.verifies(identity, &[]), row.crc() == sum_of_nothing);
        (position, offset) = (row.end, row.next_offset);
    }
    match rows_from(rows, target).first() {
        Some(row) => assert!(row.first_offset <= target && target < row.next_offset),
        None => assert!(target < identity.base || target >= offset || rows.is_empty()),
    }
}

fn check_offsets(index: &[u8], target: u32) {
    let entries: Vec<_> = index
        .chunks_exact(OFFSET_ENTRY_BYTES)
        .filter_map(OffsetEntry::decode)
        .collect();
    for (entry, bytes) in entries.iter().zip(index.chunks_exact(OFFSET_ENTRY_BYTES)) {
        assert_eq!(entry.encode(), bytes);
    }
    let below = |entry: &OffsetEntry| entry.relative <= target;
    let found = last_where(index, OFFSET_ENTRY_BYTES, OffsetEntry::decode, below);
    assert!(found.is_none_or(|entry| below(&entry)));
    if entries.is_sorted_by_key(|entry| entry.relative) {
        assert_eq!(found, entries.iter().copied().rfind(below));
    }
    assert_eq!(
        OffsetEntry::decode(&index[..index.len().min(OFFSET_ENTRY_BYTES - 1)]),
        None
    );
}

fn check_times(index: &[u8], target: i64) {
    let entries: Vec<_> = index
        .chunks_exact(TIME_ENTRY_BYTES)
        .filter_map(TimeEntry::decode)
        .collect();
    for (entry, bytes) in entries.iter().zip(index.chunks_exact(TIME_ENTRY_BYTES)) {
        assert_eq!(entry.encode(), bytes);
    }
    let below = |entry: &TimeEntry| entry.timestamp_ms < target;
    let found = last_where(index, TIME_ENTRY_BYTES, TimeEntry::decode, below);
    assert!(found.is_none_or(|entry| below(&entry)));
    if entries.is_sorted_by_key(|entry| entry.timestamp_ms) {
        assert_eq!(found, entries.iter().copied().rfind(below));
    }
    assert_eq!(TimeEntry::decode(&index[..index.len().min(TIME_ENTRY_BYTES - 1)]), None);
}
