//! Reading `.sums`: its trailer, its rows with what they say of the log, and the check of the bytes under a row. Pure.
//!
//! The trailer follows the rows of a segment that is over: 64 bytes, bound to topic, partition and segment as the rows are.
//! It repeats the uid of the head, so that one damaged block does not make the whole file useless.

use super::build::{ROW_BYTES_MAX, SUMS_HEAD_BYTES, SUMS_ROW_BYTES, SegmentIdentity, SumsRow};
use super::codec::{Fields, PutFields};
use crate::base::ids::PartitionId;

/// Bytes of the trailer.
pub const SUMS_TRAILER_BYTES: usize = 64;
const TRAILER_MAGIC: u64 = 0x4c49_5254_5352_5452;

/// What a segment that is over says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumsTrailer {
    pub uid: u64,
    /// Size of the `.log`.
    pub log_bytes: u64,
    /// The base of the segment after it.
    pub next_offset: i64,
    /// The largest timestamp in it, -1 if there is none.
    pub largest_ms: i64,
    /// No segment before it has one as large: told where it was known.
    pub is_latest_yet: bool,
    pub rows: u32,
    /// CRC-32C of the head and the rows of `.sums`.
    pub sums_crc: u32,
    /// CRC-32C of the `.index`.
    pub index_crc: u32,
    /// CRC-32C of the `.timeindex`.
    pub times_crc: u32,
}

impl SumsTrailer {
    fn sum(partition: PartitionId, base: i64, fields: &[u8]) -> u32 {
        let mut place = Vec::with_capacity(28);
        place.put_partition(partition);
        place.put_i64(base);
        crc32c::crc32c_append(crc32c::crc32c(&place), fields)
    }

    pub fn encode(&self, identity: &SegmentIdentity) -> Vec<u8> {
        let mut out = Vec::with_capacity(SUMS_TRAILER_BYTES);
        out.put_u64(TRAILER_MAGIC);
        out.put_u64(self.uid);
        out.put_u64(self.log_bytes);
        out.put_i64(self.next_offset);
        out.put_i64(self.largest_ms);
        out.put_u32(self.rows);
        out.put_u32(self.sums_crc);
        out.put_u32(self.index_crc);
        out.put_u32(self.times_crc);
        out.put_u32(u32::from(self.is_latest_yet));
        let crc = Self::sum(identity.partition, identity.base, &out);
        out.put_u32(crc);
        assert_eq!(out.len(), SUMS_TRAILER_BYTES);
        out
    }

    /// Reads the trailer of segment `base` of `partition`; `None` if it is damaged, another's, or none.
    pub fn decode(bytes: &[u8], partition: PartitionId, base: i64) -> Option<Self> {
        let (covered, crc) = bytes.get(..SUMS_TRAILER_BYTES)?.split_last_chunk::<4>()?;
        let mut fields = Fields(covered);
        if fields.u64()? != TRAILER_MAGIC || u32::from_le_bytes(*crc) != Self::sum(partition, base, covered) {
            return None;
        }
        Some(Self {
            uid: fields.u64()?,
            log_bytes: fields.u64()?,
            next_offset: fields.i64()?,
            largest_ms: fields.i64()?,
            rows: fields.u32()?,
            sums_crc: fields.u32()?,
            index_crc: fields.u32()?,
            times_crc: fields.u32()?,
            is_latest_yet: fields.u32()? == 1,
        })
    }

    /// Size of the file that this trailer ends.
    pub fn file_bytes(&self) -> u64 {
        SUMS_HEAD_BYTES as u64 + u64::from(self.rows) * SUMS_ROW_BYTES as u64 + SUMS_TRAILER_BYTES as u64
    }
}

/// A row with what the row before it says of where it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    pub start: u64,
    pub end: u64,
    /// The offset of its first batch.
    pub first_offset: i64,
    /// The offset behind its last batch.
    pub next_offset: i64,
    crc: u32,
}

impl Row {
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// The sum of the row's seed and the bytes it covers.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Whether `bytes`, which lie at `[start, end)` of the segment, are what was written there.
    pub fn verifies(&self, identity: &SegmentIdentity, bytes: &[u8]) -> bool {
        crc32c::crc32c_append(identity.row_seed(self.start), bytes) == self.crc
    }
}

/// Decodes consecutive rows of segment `base`, up to the first that cannot be one: positions and offsets must rise, by no more than a
/// row may hold, and no row ends behind `log_bytes`. `before` is where the first begins: position and offset.
pub fn decode_rows(base: i64, before: (u64, i64), bytes: &[u8], log_bytes: u64) -> Vec<Row> {
    let (mut start, mut first_offset) = before;
    let mut rows = Vec::with_capacity(bytes.len() / SUMS_ROW_BYTES);
    for row in bytes.chunks_exact(SUMS_ROW_BYTES).map_while(SumsRow::decode) {
        let next_offset = base.saturating_add(i64::from(row.next_relative));
        if row.end <= start || row.end > log_bytes || row.end - start > ROW_BYTES_MAX || next_offset <= first_offset {
            break;
        }
        rows.push(Row {
            start,
            end: row.end,
            first_offset,
            next_offset,
            crc: row.crc,
        });
        (start, first_offset) = (row.end, next_offset);
    }
    rows
}

/// The rows from the one that holds `offset` on; empty if none does.
pub fn rows_from(rows: &[Row], offset: i64) -> &[Row] {
    let found = &rows[rows.partition_point(|row| row.next_offset <= offset)..];
    match found.first() {
        Some(first) if first.first_offset <= offset => found,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;

    fn identity(base: i64) -> SegmentIdentity {
        SegmentIdentity {
            partition: PartitionId {
                topic: TopicId([4; 16]),
                index: 2,
            },
            base,
            uid: 99,
        }
    }

    fn trailer() -> SumsTrailer {
        SumsTrailer {
            uid: 99,
            log_bytes: 70_000,
            next_offset: 40,
            largest_ms: 5,
            is_latest_yet: true,
            rows: 3,
            sums_crc: 1,
            index_crc: 2,
            times_crc: 3,
        }
    }

    #[test]
    fn a_trailer_reads_back_in_its_place_only_and_every_flipped_bit_is_seen() {
        let bytes = trailer().encode(&identity(7));
        let partition = identity(7).partition;
        assert_eq!(SumsTrailer::decode(&bytes, partition, 7), Some(trailer()));
        assert_eq!(SumsTrailer::decode(&bytes, partition, 8), None);
        let elsewhere = PartitionId { index: 3, ..partition };
        assert_eq!(SumsTrailer::decode(&bytes, elsewhere, 7), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SumsTrailer::decode(&flipped, partition, 7), None, "bit {bit}");
        }
    }

    fn rows(ends: &[(u64, u32)]) -> Vec<u8> {
        let row = |&(end, next_relative)| {
            SumsRow {
                end,
                crc: 0,
                next_relative,
            }
            .encode()
        };
        ends.iter().flat_map(row).collect()
    }

    #[test]
    fn rows_are_found_by_offset_and_stop_at_the_first_that_cannot_be() {
        let good = decode_rows(100, (0, 100), &rows(&[(10, 5), (20, 7), (30, 9)]), 30);
        assert_eq!(good.len(), 3);
        assert_eq!(rows_from(&good, 105).len(), 2);
        assert_eq!(rows_from(&good, 108)[0].start, 20);
        assert!(rows_from(&good, 109).is_empty() && rows_from(&good, 99).is_empty());
        for bad in [[(10, 5), (9, 7)], [(10, 5), (31, 7)], [(10, 5), (20, 5)]] {
            assert_eq!(decode_rows(100, (0, 100), &rows(&bad), 30).len(), 1, "{bad:?}");
        }
        for (more, count) in [(0, 2), (1, 1)] {
            let large = [(10, 5), (10 + ROW_BYTES_MAX + more, 7)];
            assert_eq!(
                decode_rows(100, (0, 100), &rows(&large), u64::MAX).len(),
                count,
                "{more}"
            );
        }
    }

    #[test]
    fn a_row_verifies_in_its_place_only() {
        let (here, there) = (identity(7), identity(8));
        let crc = crc32c::crc32c_append(here.row_seed(64), b"bytes");
        let row = Row {
            start: 64,
            end: 69,
            first_offset: 7,
            next_offset: 8,
            crc,
        };
        assert!(row.verifies(&here, b"bytes"));
        assert!(!row.verifies(&here, b"bytez") && !row.verifies(&there, b"bytes"));
        assert!(!Row { start: 0, ..row }.verifies(&here, b"bytes"));
    }
}
