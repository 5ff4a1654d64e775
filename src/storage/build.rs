//! What grows beside a segment's bytes: its indexes, its sums, the facts that rolling and look-ups need. Pure.
//!
//! `.sums` is a head of 64 bytes and rows of 16: (end position u64, CRC-32C u32, records' next relative offset u32). A row
//! covers the whole batches from the row before to its end; its CRC begins with topic id, partition, segment base, the
//! segment's random uid and the row's start, so that right bytes in the wrong place do not verify. A segment that is over
//! has a trailer behind its rows (`sums`), which seals the rows and both indexes.

use super::codec::{Fields, PutFields};
use super::cursor::Cursor;
use super::growing::Growing;
use super::index::{OffsetEntry, TimeEntry};
use super::sums::SumsTrailer;
use crate::base::ids::PartitionId;
use crate::base::planted::{Bug, either};

/// Bytes of the head of a `.sums` file.
pub const SUMS_HEAD_BYTES: usize = 64;
/// Bytes of a row of a `.sums` file.
pub const SUMS_ROW_BYTES: usize = 16;
const SUMS_MAGIC: u64 = 0x3153_4d55_5352_5452;
/// A row ends with the batch that takes it to this many bytes.
const ROW_BYTES_MIN: u64 = 64 << 10;
/// No larger batch is taken (`Directory::batch_bytes_max`), so none on the disk is larger.
pub const BATCH_BYTES_MAX: usize = 256 << 20;
/// So no row is.
pub const ROW_BYTES_MAX: u64 = ROW_BYTES_MIN + BATCH_BYTES_MAX as u64;
/// Index entries are not closer than this: a direct read costs the same for less.
const INTERVAL_BYTES_MIN: u64 = 32 << 10;

/// A batch, as far as indexes and sums care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchFacts {
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp_ms: i64,
    pub bytes: u64,
}

/// A row of `.sums`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumsRow {
    pub end: u64,
    pub crc: u32,
    pub next_relative: u32,
}

impl SumsRow {
    pub fn encode(&self) -> [u8; SUMS_ROW_BYTES] {
        let mut out = [0; SUMS_ROW_BYTES];
        out[..8].copy_from_slice(&self.end.to_le_bytes());
        out[8..12].copy_from_slice(&self.crc.to_le_bytes());
        out[12..].copy_from_slice(&self.next_relative.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            end: fields.u64()?,
            crc: fields.u32()?,
            next_relative: fields.u32()?,
        })
    }
}

/// The open row: what the next row of `.sums` covers so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenRow {
    pub start: u64,
    pub crc: u32,
}

/// What identifies a segment to its sums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentIdentity {
    pub partition: PartitionId,
    pub base: i64,
    pub uid: u64,
}

impl SegmentIdentity {
    /// The CRC that a row beginning at `start` begins with.
    pub fn row_seed(&self, start: u64) -> u32 {
        let mut bytes = Vec::with_capacity(44);
        bytes.put_partition(self.partition);
        bytes.put_i64(self.base);
        bytes.put_u64(self.uid);
        bytes.put_u64(start);
        crc32c::crc32c(&bytes)
    }

    /// The head of the `.sums` file.
    pub fn sums_head(&self) -> [u8; SUMS_HEAD_BYTES] {
        let mut bytes = Vec::with_capacity(SUMS_HEAD_BYTES);
        bytes.put_u64(SUMS_MAGIC);
        bytes.put_partition(self.partition);
        bytes.put_i64(self.base);
        bytes.put_u64(self.uid);
        bytes.resize(SUMS_HEAD_BYTES - 4, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.put_u32(crc);
        bytes.try_into().expect("built to size")
    }

    /// Reads a `.sums` head; `None` if it is damaged or none.
    pub fn from_sums_head(head: &[u8]) -> Option<Self> {
        let head = head.get(..SUMS_HEAD_BYTES)?;
        let mut fields = Fields(head);
        if fields.u64()? != SUMS_MAGIC {
            return None;
        }
        let identity = Self {
            partition: fields.partition()?,
            base: fields.i64()?,
            uid: fields.u64()?,
        };
        let crc = u32::from_le_bytes(head[SUMS_HEAD_BYTES - 4..].try_into().ok()?);
        (crc == crc32c::crc32c(&head[..SUMS_HEAD_BYTES - 4])).then_some(identity)
    }
}

/// The growing companions of an active segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentBuild {
    pub identity: SegmentIdentity,
    /// When the first batch was appended, milliseconds since 1970; 0 before.
    pub first_append_ms: i64,
    pub offsets: Growing,
    pub times: Growing,
    pub sums: Growing,
    pub row: OpenRow,
    last_entry_position: u64,
    last_entry_offset: i64,
    last_time_ms: i64,
    /// The largest timestamp and the last offset of the batch that has it.
    pub largest: (i64, i64),
}

impl SegmentBuild {
    pub fn new(identity: SegmentIdentity) -> Self {
        let mut sums = Growing::default();
        sums.push(&identity.sums_head());
        Self {
            identity,
            first_append_ms: 0,
            offsets: Growing::default(),
            times: Growing::default(),
            sums,
            row: OpenRow {
                start: 0,
                crc: identity.row_seed(0),
            },
            last_entry_position: 0,
            last_entry_offset: identity.base - 1,
            last_time_ms: i64::MIN,
            largest: (-1, -1),
        }
    }

    /// Takes in a batch that begins at `position`; `extend_crc` makes the CRC of what lies before it one of the batch, too.
    pub fn add(&mut self, position: u64, facts: &BatchFacts, extend_crc: impl FnOnce(u32) -> u32, interval_bytes: u32) {
        if facts.max_timestamp_ms > self.largest.0 {
            self.largest = (facts.max_timestamp_ms, facts.last_offset);
        }
        let interval = INTERVAL_BYTES_MIN.max(u64::from(interval_bytes));
        if position >= self.last_entry_position + interval && facts.last_offset > self.last_entry_offset {
            let relative = self.relative(facts.last_offset);
            self.offsets.push(
                &OffsetEntry {
                    relative,
                    position: (position + either(Bug::IndexOneBatchTooFar, facts.bytes, 0)) as u32,
                }
                .encode(),
            );
            (self.last_entry_position, self.last_entry_offset) = (position, facts.last_offset);
            self.add_time();
        }
        self.row.crc = extend_crc(self.row.crc);
        let end = position + facts.bytes;
        if end - self.row.start >= ROW_BYTES_MIN {
            self.close_row(end, facts.last_offset + 1);
        }
    }

    fn close_row(&mut self, end: u64, next_offset: i64) {
        let next_relative = self.relative(next_offset);
        self.sums.push(
            &SumsRow {
                end,
                crc: self.row.crc,
                next_relative,
            }
            .encode(),
        );
        self.row = OpenRow {
            start: end,
            crc: self.identity.row_seed(end),
        };
    }

    fn add_time(&mut self) {
        let (timestamp_ms, offset) = self.largest;
        if offset >= 0 && timestamp_ms > self.last_time_ms {
            self.times.push(
                &TimeEntry {
                    timestamp_ms,
                    relative: self.relative(offset),
                }
                .encode(),
            );
            self.last_time_ms = timestamp_ms;
        }
    }

    fn relative(&self, offset: i64) -> u32 {
        (offset - self.identity.base) as u32
    }

    /// Ends the segment at `end`: the last time entry, the last row of the sums, and their trailer. `latest_before_ms` is the largest
    /// timestamp of all segments before it, if that is known.
    pub fn finish(&mut self, end: u64, next_offset: i64, latest_before_ms: Option<i64>) {
        self.add_time();
        if end > self.row.start {
            self.close_row(end, next_offset);
        }
        let trailer = SumsTrailer {
            uid: self.identity.uid,
            log_bytes: end,
            next_offset,
            largest_ms: self.largest.0,
            is_latest_yet: self.is_latest_yet(latest_before_ms),
            rows: ((self.sums.bytes() - SUMS_HEAD_BYTES as u64) / SUMS_ROW_BYTES as u64) as u32,
            sums_crc: self.sums.crc(),
            index_crc: self.offsets.crc(),
            times_crc: self.times.crc(),
        };
        self.sums.push(&trailer.encode(&self.identity));
    }

    /// Whether it has a timestamp larger than any before.
    pub fn is_latest_yet(&self, latest_before_ms: Option<i64>) -> bool {
        self.largest.0 >= 0 && latest_before_ms.is_some_and(|before| before < self.largest.0)
    }

    /// The rows that the `.sums` file holds.
    pub fn stored_rows(&self) -> u64 {
        self.sums.stored().saturating_sub(SUMS_HEAD_BYTES as u64) / SUMS_ROW_BYTES as u64
    }

    /// The rows that it does not hold, encoded; `built` is the boundary that the build has reached: the open row counts as
    /// one that ends there.
    pub fn unstored_rows(&self, built: &Cursor) -> Vec<u8> {
        let skip = if self.sums.stored() == 0 { SUMS_HEAD_BYTES } else { 0 };
        let mut rows = self.sums.rest()[skip..].to_vec();
        if built.position > self.row.start {
            let row = SumsRow {
                end: built.position,
                crc: self.row.crc,
                next_relative: self.relative(built.offset),
            };
            rows.extend(row.encode());
        }
        rows
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_partition(self.identity.partition);
        out.put_i64(self.identity.base);
        out.put_u64(self.identity.uid);
        out.put_i64(self.first_append_ms);
        self.offsets.encode(out);
        self.times.encode(out);
        self.sums.encode(out);
        out.put_u64(self.row.start);
        out.put_u32(self.row.crc);
        out.put_u64(self.last_entry_position);
        out.put_i64(self.last_entry_offset);
        out.put_i64(self.last_time_ms);
        out.put_i64(self.largest.0);
        out.put_i64(self.largest.1);
    }

    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let build = Self {
            identity: SegmentIdentity {
                partition: fields.partition()?,
                base: fields.i64()?,
                uid: fields.u64()?,
            },
            first_append_ms: fields.i64()?,
            offsets: Growing::decode(fields)?,
            times: Growing::decode(fields)?,
            sums: Growing::decode(fields)?,
            row: OpenRow {
                start: fields.u64()?,
                crc: fields.u32()?,
            },
            last_entry_position: fields.u64()?,
            last_entry_offset: fields.i64()?,
            last_time_ms: fields.i64()?,
            largest: (fields.i64()?, fields.i64()?),
        };
        (build.sums.bytes() >= SUMS_HEAD_BYTES as u64).then_some(build)
    }

    /// Whether what it says of the segment lies below `end`, which it is said to have reached.
    pub fn is_within(&self, end: &Cursor) -> bool {
        self.row.start <= end.position && self.last_entry_position <= end.position
    }
}
