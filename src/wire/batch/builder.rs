//! Makes batches: for our client, the command line, tests, compaction, and a load generator that makes millions.

use super::codec::{Codec, Encoder};
use super::header::{
    ATTRIBUTE_APPEND_TIME, ATTRIBUTE_CONTROL, ATTRIBUTE_DELETE_HORIZON, ATTRIBUTE_TRANSACTIONAL, TimestampType,
};
use super::records::Header;
use super::{HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, NONE, field, varint};
use std::fmt;

/// The header fields that do not follow from the records. The default is what a plain producer sends.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    pub codec: Codec,
    /// 0 from producers.
    pub base_offset: i64,
    /// -1 from producers.
    pub leader_epoch: i32,
    /// -1 without idempotence, like the two below.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
    pub control: bool,
    /// With LogAppendTime, the greatest of the records' timestamps holds for all.
    pub timestamp_type: TimestampType,
    /// When tombstones may go (compaction, KIP-534); takes the place of the base timestamp.
    pub delete_horizon_ms: Option<i64>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            base_offset: 0,
            leader_epoch: -1,
            producer_id: NONE,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
            timestamp_type: TimestampType::CreateTime,
            delete_horizon_ms: None,
        }
    }
}

/// Why a record or batch could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The batch would not fit the format's 31-bit lengths and counts.
    TooLarge,
    /// Offset deltas must rise.
    OffsetDelta(i32),
    /// A timestamp too far from the batch's first for the difference to fit.
    Timestamp(i64),
    /// The codec refused.
    Compress,
}

/// Builds one batch after the other. Records are encoded straight behind a place-holder header in one buffer, so an uncompressed batch is
/// finished without a copy; a second buffer receives compressed ones. Both keep their capacity, so a steady state allocates nothing but
/// what a codec needs (gzip and lz4 make a context per batch; zstd's is kept).
///
/// After [`Self::finish`] the next [`Self::push`] begins a new batch with the same options.
pub struct BatchBuilder {
    options: BatchOptions,
    plain: Vec<u8>,
    packed: Vec<u8>,
    encoder: Encoder,
    record_count: i32,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    finished: bool,
}

impl BatchBuilder {
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 1 << 10)
    }

    /// Reserves room for `bytes` of uncompressed batch.
    pub fn with_capacity(options: BatchOptions, bytes: usize) -> Self {
        let mut plain = Vec::with_capacity(bytes.max(HEADER_BYTES));
        plain.resize(HEADER_BYTES, 0);
        Self {
            options,
            plain,
            packed: Vec::new(),
            encoder: Encoder::default(),
            record_count: 0,
            last_offset_delta: -1,
            base_timestamp: NONE,
            max_timestamp: NONE,
            finished: false,
        }
    }

    /// The options of the batch being built; changes count until [`Self::finish`].
    pub fn options_mut(&mut self) -> &mut BatchOptions {
        &mut self.options
    }

    /// Drops the records pushed since the last batch.
    pub fn clear(&mut self) {
        self.plain.truncate(HEADER_BYTES);
        self.record_count = 0;
        self.last_offset_delta = -1;
        self.base_timestamp = NONE;
        self.max_timestamp = NONE;
        self.finished = false;
    }

    /// Records in the batch so far.
    pub fn record_count(&self) -> i32 {
        if self.finished { 0 } else { self.record_count }
    }

    /// Bytes of the batch so far, before compression.
    pub fn plain_bytes(&self) -> usize {
        if self.finished { HEADER_BYTES } else { self.plain.len() }
    }

    /// Appends a record at the next offset.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        let last = if self.finished { -1 } else { self.last_offset_delta };
        self.push_at(
            last.checked_add(1).ok_or(BuildError::TooLarge)?,
            timestamp,
            key,
            value,
            headers,
        )
    }

    /// Appends a record at `base_offset + offset_delta`, for batches with holes. On error the batch is as before.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        if self.finished {
            self.clear();
        }
        if offset_delta <= self.last_offset_delta {
            return Err(BuildError::OffsetDelta(offset_delta));
        }
        let base_timestamp = match self.options.delete_horizon_ms {
            Some(horizon_ms) => horizon_ms,
            None if self.record_count == 0 => timestamp,
            None => self.base_timestamp,
        };
        let delta = timestamp
            .checked_sub(base_timestamp)
            .ok_or(BuildError::Timestamp(timestamp))?;
        let length = record_bytes(delta, offset_delta, key, value, headers);
        let whole = self.plain.len() + length + varint::VARINT_BYTES_MAX;
        let record_count = self.record_count.checked_add(1).ok_or(BuildError::TooLarge)?;
        if whole > i32::MAX as usize {
            return Err(BuildError::TooLarge);
        }
        write_record(&mut self.plain, length, delta, offset_delta, key, value, headers);
        self.max_timestamp = if self.record_count == 0 {
            timestamp
        } else {
            self.max_timestamp.max(timestamp)
        };
        self.base_timestamp = base_timestamp;
        self.record_count = record_count;
        self.last_offset_delta = offset_delta;
        Ok(())
    }

    /// Makes the next record's offset `base_offset + offset_delta + 1` at least, without a record there: what compaction leaves.
    pub fn extend_to(&mut self, offset_delta: i32) {
        if self.finished {
            self.clear();
        }
        self.last_offset_delta = self.last_offset_delta.max(offset_delta);
    }

    /// Ends the batch: compresses, writes the header, and lends the bytes until the next call. With no record the batch is empty
    /// (count 0), which compaction keeps for a producer's state but no broker accepts from a client.
    pub fn finish(&mut self) -> Result<&[u8], BuildError> {
        if self.finished {
            self.clear();
        }
        self.finished = true;
        let compressed = self.options.codec != Codec::None && self.record_count > 0;
        if compressed {
            self.packed.clear();
            self.packed.resize(HEADER_BYTES, 0);
            self.encoder
                .compress(self.options.codec, &self.plain[HEADER_BYTES..], &mut self.packed)?;
        }
        let raw = if compressed { &self.packed } else { &self.plain };
        let length = i32::try_from(raw.len() - LENGTH_PREFIX_BYTES).map_err(|_| BuildError::TooLarge)?;
        self.write_header(compressed, length);
        Ok(if compressed { &self.packed } else { &self.plain })
    }

    fn write_header(&mut self, compressed: bool, batch_length: i32) {
        let attributes = self.attributes();
        let options = &self.options;
        let base_timestamp = match options.delete_horizon_ms {
            Some(horizon_ms) => horizon_ms,
            None => self.base_timestamp,
        };
        let raw = if compressed { &mut self.packed } else { &mut self.plain };
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(field::BASE_OFFSET, &options.base_offset.to_be_bytes());
        put(field::BATCH_LENGTH, &batch_length.to_be_bytes());
        put(field::LEADER_EPOCH, &options.leader_epoch.to_be_bytes());
        put(field::MAGIC, &[MAGIC]);
        put(field::ATTRIBUTES, &attributes.to_be_bytes());
        put(field::LAST_OFFSET_DELTA, &self.last_offset_delta.max(0).to_be_bytes());
        put(field::BASE_TIMESTAMP, &base_timestamp.to_be_bytes());
        put(field::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(field::PRODUCER_ID, &options.producer_id.to_be_bytes());
        put(field::PRODUCER_EPOCH, &options.producer_epoch.to_be_bytes());
        put(field::BASE_SEQUENCE, &options.base_sequence.to_be_bytes());
        put(field::RECORD_COUNT, &self.record_count.to_be_bytes());
        let crc = crc32c::crc32c(&raw[field::ATTRIBUTES..]);
        raw[field::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
    }

    fn attributes(&self) -> u16 {
        let options = &self.options;
        let bit = |set: bool, bit: u16| if set { bit } else { 0 };
        u16::from(options.codec.number())
            | bit(
                options.timestamp_type == TimestampType::LogAppendTime,
                ATTRIBUTE_APPEND_TIME,
            )
            | bit(options.transactional, ATTRIBUTE_TRANSACTIONAL)
            | bit(options.control, ATTRIBUTE_CONTROL)
            | bit(options.delete_horizon_ms.is_some(), ATTRIBUTE_DELETE_HORIZON)
    }
}

/// Bytes of a record after its length.
fn record_bytes(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let part = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => varint::size(bytes.len() as i64) + bytes.len(),
        None => 1,
    };
    let attributes_bytes = 1;
    let fixed = attributes_bytes + varint::size(timestamp_delta) + varint::size(i64::from(offset_delta));
    let headers_bytes: usize = headers
        .iter()
        .map(|header| part(Some(header.key)) + part(header.value))
        .sum();
    fixed + part(key) + part(value) + varint::size(headers.len() as i64) + headers_bytes
}

fn write_record(
    out: &mut Vec<u8>,
    length: usize,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) {
    fn part(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
        varint::write(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
        out.extend_from_slice(bytes.unwrap_or_default());
    }
    varint::write(out, length as i64);
    let start = out.len();
    out.push(0);
    varint::write(out, timestamp_delta);
    varint::write(out, i64::from(offset_delta));
    part(out, key);
    part(out, value);
    varint::write(out, headers.len() as i64);
    for header in headers {
        part(out, Some(header.key));
        part(out, header.value);
    }
    debug_assert_eq!(
        out.len() - start,
        length,
        "record_bytes counts what write_record writes"
    );
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::TooLarge => f.write_str("the batch exceeds the format's 2 GiB"),
            BuildError::OffsetDelta(delta) => write!(f, "offset delta {delta} is not above the one before"),
            BuildError::Timestamp(timestamp) => write!(f, "timestamp {timestamp} is too far from the batch's first"),
            BuildError::Compress => f.write_str("compression failed"),
        }
    }
}

impl std::error::Error for BuildError {}
