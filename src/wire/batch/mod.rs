//! Kafka's RecordBatch v2: the unit that is validated, stored, replicated and served, byte for byte as the producer made it.
//!
//! In: bytes of a request, of a segment, of a journal row. Out: parsed headers, verdicts, records, finished batches, patched headers.
//! Not for: legacy formats v0/v1 (rejected), request framing (`wire::kafka`), where a batch lies (`storage`), whether a sequence is next
//! (`storage`'s producer state). Pure, no state between calls; any core may use it.
//!
//! Invariants:
//! 1. A [`BatchHeader`] exists only for magic 2, a length of at least a header, and offsets whose `next_offset` fits `i64`: its accessors
//!    cannot overflow. Guarded by [`BatchHeader::parse`], the only constructor.
//! 2. A [`ValidBatch`] is exactly one whole batch with a matching CRC-32C, fit for an append from a client. Guarded by
//!    [`validate_produce_counted`], its only constructor.
//! 3. Patching keeps the CRC true: bytes 0..20 lie outside of it, a change of bytes 21..43 updates it (`patch` asserts the header's size).
//! 4. Decoding costs bounded memory whatever the bytes declare: lengths allocate only as bytes arrive, decompressed bytes are counted
//!    against [`DecodeLimits`] in one place (`records::Input::read_more`).
//!
//! Layout and sources: `docs/format-batch.md`.

mod builder;
mod codec;
mod crc;
mod error;
mod header;
mod lookup;
mod lz4;
mod patch;
mod records;
mod scan;
mod snappy;
mod validate;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, BatchOptions, BuildError};
pub use codec::{Codec, DecodeLimits};
pub use error::{BatchError, ErrorClass, RecordFault};
pub use header::{BatchHeader, HeaderError, TimestampType};
pub use lookup::{max_timestamp_offset, offset_for_time};
pub use patch::{patch, patch_append_time};
pub use records::{Header, Headers, Record, RecordHead, RecordIter, RecordReader, unpack};
pub use scan::{Scan, ScanOptions, ScanStop, ScannedBatch, StopReason, scan};
pub use validate::{
    Limits, RecordChecks, RecordsSummary, TimestampRule, ValidBatch, check_records, validate_produce,
    validate_produce_counted,
};

/// Bytes of a batch header, which the records follow.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of the part that `batch_length` counts: base offset and the length itself.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The only record format served.
pub const MAGIC: u8 = 2;
/// "None" in the fields producer id, producer epoch, base sequence, timestamp and leader epoch.
pub const NONE: i64 = -1;

/// Positions of the header's fields, in bytes from the batch's start.
pub(crate) mod field {
    pub const BASE_OFFSET: usize = 0;
    pub const BATCH_LENGTH: usize = 8;
    pub const LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    /// Start of what the CRC covers; it ends with the batch.
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
}
