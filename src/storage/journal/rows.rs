//! The rows of a commit. Pure.

use crate::base::ids::PartitionId;
use crate::storage::codec::{Fields, PutFields};
use crate::storage::cursor::Cursor;

/// Whose row it is: one life of one partition on one directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Owner {
    pub partition: PartitionId,
    /// The start's number; rows of an earlier start do not count.
    pub generation: u64,
}

/// Consecutive bytes of one segment. They may begin and end inside a batch; all that one commit says of a partition
/// together ends at the batch boundary `next_offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub segment: i64,
    pub position: u64,
    pub bytes: u32,
    pub next_offset: i64,
}

/// The last field of an extent, once the CRC of its bytes: recovery goes by those of the batches.
const EXTENT_RESERVED: u32 = 0;

/// One fact about one partition, or about the journal itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// Bytes of the log at `at`; they lie in the commit's payload at `[payload, payload + bytes)`.
    Append { owner: Owner, at: Range, payload: u32 },
    /// Bytes of the log that went straight to the segment, flushed before the commit counts.
    Extent { owner: Owner, at: Range },
    /// The segment alone holds everything up to `to`, durably.
    Settled { owner: Owner, to: Cursor },
    /// The segment `segment` ended with `bytes`; `next_offset` is the base of its successor.
    Rolled {
        owner: Owner,
        segment: i64,
        bytes: u64,
        next_offset: i64,
    },
    /// Offsets below `offset` are gone.
    LogStart { owner: Owner, offset: i64 },
    /// The journal goes on in this file.
    Next { file: u64, salt: u64 },
    /// Nothing follows: all partitions are settled and trimmed.
    CleanStop,
}

const APPEND: u8 = 1;
const EXTENT: u8 = 3;
const SETTLED: u8 = 4;
const ROLLED: u8 = 5;
const LOG_START: u8 = 6;
const NEXT: u8 = 7;
const CLEAN_STOP: u8 = 8;

/// No row is longer.
pub const ROW_BYTES_MAX: usize = 72;
/// Rows about a partition are not shorter; of the others a commit has one each.
pub const OWNED_ROW_BYTES_MIN: usize = 37;

fn put_owner(out: &mut Vec<u8>, tag: u8, owner: &Owner) {
    out.put_u8(tag);
    out.put_partition(owner.partition);
    out.put_u64(owner.generation);
}

fn put_cursor(out: &mut Vec<u8>, at: &Cursor) {
    out.put_i64(at.segment);
    out.put_u64(at.position);
    out.put_i64(at.offset);
}

fn put_range(out: &mut Vec<u8>, at: &Range) {
    out.put_i64(at.segment);
    out.put_u64(at.position);
    out.put_u32(at.bytes);
    out.put_i64(at.next_offset);
}

fn range(fields: &mut Fields<'_>) -> Option<Range> {
    let range = Range {
        segment: fields.i64()?,
        position: fields.u64()?,
        bytes: fields.u32()?,
        next_offset: fields.i64()?,
    };
    let end = range.position.checked_add(u64::from(range.bytes));
    end.is_some().then_some(range)
}

fn cursor(fields: &mut Fields<'_>) -> Option<Cursor> {
    Some(Cursor {
        segment: fields.i64()?,
        position: fields.u64()?,
        offset: fields.i64()?,
    })
}

impl Row {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Append { owner, at, payload } => {
                put_owner(out, APPEND, owner);
                put_range(out, at);
                out.put_u32(*payload);
            }
            Self::Extent { owner, at } => {
                put_owner(out, EXTENT, owner);
                put_range(out, at);
                out.put_u32(EXTENT_RESERVED);
            }
            Self::Settled { owner, to } => {
                put_owner(out, SETTLED, owner);
                put_cursor(out, to);
            }
            Self::Rolled {
                owner,
                segment,
                bytes,
                next_offset,
            } => {
                put_owner(out, ROLLED, owner);
                out.put_i64(*segment);
                out.put_u64(*bytes);
                out.put_i64(*next_offset);
            }
            Self::LogStart { owner, offset } => {
                put_owner(out, LOG_START, owner);
                out.put_i64(*offset);
            }
            Self::Next { file, salt } => {
                out.put_u8(NEXT);
                out.put_u64(*file);
                out.put_u64(*salt);
            }
            Self::CleanStop => out.put_u8(CLEAN_STOP),
        }
        assert!(out.len() - start <= ROW_BYTES_MAX);
    }

    /// Reads one row; `None` if it is not one.
    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let tag = fields.u8()?;
        match tag {
            NEXT => {
                return Some(Self::Next {
                    file: fields.u64()?,
                    salt: fields.u64()?,
                });
            }
            CLEAN_STOP => return Some(Self::CleanStop),
            _ => {}
        }
        let owner = Owner {
            partition: fields.partition()?,
            generation: fields.u64()?,
        };
        Some(match tag {
            APPEND => Self::Append {
                owner,
                at: range(fields)?,
                payload: fields.u32()?,
            },
            EXTENT => {
                let at = range(fields)?;
                fields.u32()?;
                Self::Extent { owner, at }
            }
            SETTLED => Self::Settled {
                owner,
                to: cursor(fields)?,
            },
            ROLLED => {
                let (segment, bytes) = (fields.i64()?, fields.u64()?);
                Self::Rolled {
                    owner,
                    segment,
                    bytes,
                    next_offset: fields.i64()?,
                }
            }
            LOG_START => Self::LogStart {
                owner,
                offset: fields.i64()?,
            },
            _ => return None,
        })
    }
}
