//! The records inside a batch, one at a time and in bounded memory.

use super::codec::{DecodeLimits, Decoder};
use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, TimestampType};
use super::varint::{self, VARINT_BYTES_MAX, VarintError};
use super::{HEADER_BYTES, field};
use std::borrow::Cow;
use std::io::{ErrorKind, Read};

/// A record, borrowing from the decompressed payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'p> {
    pub offset: i64,
    /// Milliseconds since 1970; the batch's append time for LogAppendTime; -1 for none.
    pub timestamp: i64,
    pub key: Option<&'p [u8]>,
    pub value: Option<&'p [u8]>,
    headers: &'p [u8],
    header_count: i32,
}

impl<'p> Record<'p> {
    /// The record's headers, in order. Their structure was checked when the record was read.
    pub fn headers(&self) -> Headers<'p> {
        Headers {
            rest: Cursor { rest: self.headers },
            count: self.header_count,
        }
    }
}

/// One header of a record: keys are text by convention, not by format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'p> {
    pub key: &'p [u8],
    pub value: Option<&'p [u8]>,
}

/// Iterates the headers of a record.
#[derive(Clone, Debug)]
pub struct Headers<'p> {
    rest: Cursor<'p>,
    count: i32,
}

impl<'p> Iterator for Headers<'p> {
    type Item = Header<'p>;

    fn next(&mut self) -> Option<Header<'p>> {
        if self.count <= 0 {
            return None;
        }
        self.count -= 1;
        self.rest.header().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count as usize))
    }
}

/// What a record says about itself, read without its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    pub offset: i64,
    pub offset_delta: i32,
    pub timestamp: i64,
    pub has_key: bool,
    pub has_value: bool,
}

/// Where a batch's records are relative to, and the checks that need the one before.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    append_time: Option<i64>,
    record_count: i32,
    index: i32,
    offset_delta_before: i32,
    over: bool,
}

impl Sequence {
    fn new(header: &BatchHeader) -> Result<Self, BatchError> {
        let (record_count, last_offset_delta) = (header.record_count(), header.last_offset_delta());
        if record_count < 0 || i64::from(record_count) > i64::from(last_offset_delta) + 1 {
            return Err(BatchError::RecordCount {
                record_count,
                last_offset_delta,
            });
        }
        Ok(Self {
            base_offset: header.base_offset(),
            last_offset_delta,
            base_timestamp: header.base_timestamp(),
            append_time: (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp()),
            record_count,
            index: 0,
            offset_delta_before: -1,
            over: false,
        })
    }

    /// Absolute offset and timestamp of the next record.
    fn place(&self, timestamp_delta: i64, offset_delta: i32) -> Result<(i64, i64), RecordFault> {
        if offset_delta <= self.offset_delta_before || offset_delta > self.last_offset_delta {
            return Err(RecordFault::OffsetDelta(offset_delta));
        }
        let timestamp = match self.append_time {
            Some(timestamp) => timestamp,
            None => self
                .base_timestamp
                .checked_add(timestamp_delta)
                .ok_or(RecordFault::Timestamp)?,
        };
        Ok((self.base_offset + i64::from(offset_delta), timestamp))
    }

    fn advance(&mut self, offset_delta: i32) {
        self.index += 1;
        self.offset_delta_before = offset_delta;
    }

    fn parse<'p>(&self, body: &'p [u8]) -> Result<(Record<'p>, i32), RecordFault> {
        let mut cursor = Cursor { rest: body };
        cursor.take(1)?; // attributes: none are defined
        let timestamp_delta = cursor.i64()?;
        let offset_delta = cursor.i32()?;
        let (offset, timestamp) = self.place(timestamp_delta, offset_delta)?;
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let header_count = cursor.i32()?;
        if header_count < 0 {
            return Err(RecordFault::Varint);
        }
        let headers = cursor.rest;
        for _ in 0..header_count {
            cursor.header()?;
        }
        if !cursor.rest.is_empty() {
            return Err(RecordFault::Length);
        }
        Ok((
            Record {
                offset,
                timestamp,
                key,
                value,
                headers,
                header_count,
            },
            offset_delta,
        ))
    }

    fn fail(&mut self, fault: RecordFault) -> BatchError {
        self.over = true;
        BatchError::Record {
            index: self.index,
            fault,
        }
    }
}

/// Reads records one after the other, decompressing no further than asked. After an error or the last record it yields `None`.
pub struct RecordReader<'a> {
    input: Input<'a>,
    sequence: Sequence,
}

impl<'a> RecordReader<'a> {
    /// `batch` starts with the batch that `header` was parsed from and holds it whole.
    pub fn new(header: &BatchHeader, batch: &'a [u8], limits: &DecodeLimits) -> Result<Self, BatchError> {
        let sequence = Sequence::new(header)?;
        Ok(Self {
            input: Input::open(header, batch, limits)?,
            sequence,
        })
    }

    /// The next record, in full. It borrows the reader's buffer, which holds at most this record and 16 KiB.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, BatchError> {
        if self.at_end()? {
            return Ok(None);
        }
        let length = self.input.length().map_err(|fault| self.sequence.fail(fault))?;
        let body = self.input.take(length).map_err(|fault| self.sequence.fail(fault))?;
        let (record, offset_delta) = self.sequence.parse(body).map_err(|fault| self.sequence.fail(fault))?;
        self.sequence.advance(offset_delta);
        Ok(Some(record))
    }

    /// The next record's head; keys, values and headers are checked for structure and skipped, never buffered.
    pub fn next_head(&mut self) -> Result<Option<RecordHead>, BatchError> {
        if self.at_end()? {
            return Ok(None);
        }
        let head = self.read_head().map_err(|fault| self.sequence.fail(fault))?;
        self.sequence.advance(head.offset_delta);
        Ok(Some(head))
    }

    /// Decompressed bytes consumed or buffered so far.
    pub fn decompressed_bytes(&self) -> u64 {
        self.input.bytes_read
    }

    /// What a walk that stops here has cost: bytes decompressed, also those nobody consumed. None of a plain payload.
    pub(super) fn decoded_bytes(&self) -> u64 {
        let source = self.input.source.as_ref();
        source.map_or(0, |source| source.decoded_bytes(self.input.bytes_read))
    }

    fn at_end(&mut self) -> Result<bool, BatchError> {
        if !self.sequence.over && self.sequence.index == self.sequence.record_count {
            let empty = self.input.is_empty().map_err(|fault| self.sequence.fail(fault))?;
            if !empty {
                return Err(self.sequence.fail(RecordFault::Trailing));
            }
            self.sequence.over = true;
        }
        Ok(self.sequence.over)
    }

    fn read_head(&mut self) -> Result<RecordHead, RecordFault> {
        let length = self.input.length()?;
        let mut body = Body {
            input: &mut self.input,
            remaining: length,
        };
        body.skip(1)?;
        let timestamp_delta = body.varint(varint::read_i64)?;
        let offset_delta = body.varint(varint::read_i32)?;
        let (offset, timestamp) = self.sequence.place(timestamp_delta, offset_delta)?;
        let has_key = body.skip_nullable(-1)?;
        let has_value = body.skip_nullable(-1)?;
        let header_count = body.varint(varint::read_i32)?;
        if header_count < 0 {
            return Err(RecordFault::Varint);
        }
        for _ in 0..header_count {
            body.skip_nullable(0)?;
            body.skip_nullable(-1)?;
        }
        if body.remaining != 0 {
            return Err(RecordFault::Length);
        }
        Ok(RecordHead {
            offset,
            offset_delta,
            timestamp,
            has_key,
            has_value,
        })
    }
}

/// Iterates the records of an uncompressed payload, such as [`unpack`] returns; records live as long as the payload.
pub struct RecordIter<'p> {
    rest: Cursor<'p>,
    sequence: Sequence,
}

impl<'p> RecordIter<'p> {
    /// `payload` is what follows the header, decompressed.
    pub fn new(header: &BatchHeader, payload: &'p [u8]) -> Result<Self, BatchError> {
        Ok(Self {
            rest: Cursor { rest: payload },
            sequence: Sequence::new(header)?,
        })
    }

    fn next_fallible(&mut self) -> Result<Record<'p>, RecordFault> {
        let length = self.rest.i32()?;
        let length = usize::try_from(length).map_err(|_| RecordFault::Varint)?;
        let (record, offset_delta) = self.sequence.parse(self.rest.take(length)?)?;
        self.sequence.advance(offset_delta);
        Ok(record)
    }
}

impl<'p> Iterator for RecordIter<'p> {
    type Item = Result<Record<'p>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.sequence.over {
            return None;
        }
        if self.sequence.index == self.sequence.record_count {
            self.sequence.over = true;
            return (!self.rest.rest.is_empty()).then(|| Err(self.sequence.fail(RecordFault::Trailing)));
        }
        Some(self.next_fallible().map_err(|fault| self.sequence.fail(fault)))
    }
}

/// The whole decompressed payload: borrowed when there is nothing to decompress.
pub fn unpack<'a>(header: &BatchHeader, batch: &'a [u8], limits: &DecodeLimits) -> Result<Cow<'a, [u8]>, BatchError> {
    let mut input = Input::open(header, batch, limits)?;
    if input.source.is_none() {
        return Ok(Cow::Borrowed(input.plain));
    }
    while input
        .read_more()
        .map_err(|fault| BatchError::Record { index: 0, fault })?
        != 0
    {}
    Ok(Cow::Owned(input.buffer))
}

/// The payload as a window that moves forward: the plain bytes themselves, or a buffer that a decoder refills.
struct Input<'a> {
    source: Option<Decoder<'a>>,
    plain: &'a [u8],
    buffer: Vec<u8>,
    start: usize,
    bytes_read: u64,
    budget: u64,
}

/// Bytes asked of a decoder at a time.
const CHUNK_BYTES: usize = 16 << 10;

impl<'a> Input<'a> {
    fn open(header: &BatchHeader, batch: &'a [u8], limits: &DecodeLimits) -> Result<Self, BatchError> {
        let payload = batch
            .get(HEADER_BYTES..header.total_bytes())
            .ok_or(BatchError::Incomplete {
                bytes_needed: header.total_bytes(),
                bytes_found: batch.len(),
            })?;
        debug_assert_eq!(
            batch[field::CRC..][..4],
            header.crc().to_be_bytes(),
            "the header is the batch's own"
        );
        let codec = header.codec().map_err(BatchError::Codec)?;
        // A compacted batch without records has no payload, whatever its codec.
        let source = if payload.is_empty() {
            Ok(None)
        } else {
            Decoder::open(codec, payload, limits)
        };
        let source = source.map_err(|_| BatchError::Record {
            index: 0,
            fault: RecordFault::Decompression,
        })?;
        let budget = limits.budget(payload.len());
        Ok(Self {
            source,
            plain: payload,
            buffer: Vec::new(),
            start: 0,
            bytes_read: 0,
            budget,
        })
    }

    fn available(&self) -> &[u8] {
        if self.source.is_some() {
            &self.buffer[self.start..]
        } else {
            self.plain
        }
    }

    fn consume(&mut self, bytes: usize) {
        if self.source.is_some() {
            self.start += bytes;
        } else {
            self.plain = &self.plain[bytes..];
            self.bytes_read += bytes as u64;
        }
    }

    /// Appends to the window what a decoder gives next, dropping what was consumed. Zero at the end.
    fn read_more(&mut self) -> Result<usize, RecordFault> {
        let Some(source) = &mut self.source else { return Ok(0) };
        self.buffer.drain(..self.start);
        self.start = 0;
        let end = self.buffer.len();
        self.buffer.resize(end + CHUNK_BYTES, 0);
        let result = source.read(&mut self.buffer[end..]);
        self.buffer.truncate(end + result.as_ref().map_or(0, |&bytes| bytes));
        let bytes = result.map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => RecordFault::DecompressionLimit,
            _ => RecordFault::Decompression,
        })?;
        self.bytes_read += bytes as u64;
        if self.bytes_read > self.budget {
            return Err(RecordFault::DecompressionLimit);
        }
        Ok(bytes)
    }

    /// Widens the window to `bytes` if the payload has as many.
    fn widen(&mut self, bytes: usize) -> Result<(), RecordFault> {
        while self.available().len() < bytes && self.read_more()? != 0 {}
        Ok(())
    }

    fn is_empty(&mut self) -> Result<bool, RecordFault> {
        self.widen(1)?;
        Ok(self.available().is_empty())
    }

    /// A record's length, checked to be no negative number.
    fn length(&mut self) -> Result<usize, RecordFault> {
        self.widen(VARINT_BYTES_MAX)?;
        let (length, bytes) = varint::read_i32(self.available())?;
        self.consume(bytes);
        usize::try_from(length).map_err(|_| RecordFault::Varint)
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8], RecordFault> {
        self.widen(bytes)?;
        if self.available().len() < bytes {
            return Err(RecordFault::Truncated);
        }
        if self.source.is_some() {
            self.start += bytes;
            return Ok(&self.buffer[self.start - bytes..self.start]);
        }
        let (taken, rest) = self.plain.split_at(bytes);
        self.plain = rest;
        self.bytes_read += bytes as u64;
        Ok(taken)
    }

    fn skip(&mut self, mut bytes: usize) -> Result<(), RecordFault> {
        loop {
            let step = bytes.min(self.available().len());
            self.consume(step);
            bytes -= step;
            if bytes == 0 {
                return Ok(());
            }
            if self.read_more()? == 0 {
                return Err(RecordFault::Truncated);
            }
        }
    }
}

/// One record's bytes of an [`Input`], so that its parts cannot reach into the next record.
struct Body<'i, 'a> {
    input: &'i mut Input<'a>,
    remaining: usize,
}

impl Body<'_, '_> {
    fn varint<N>(&mut self, read: fn(&[u8]) -> varint::Read<N>) -> Result<N, RecordFault> {
        self.input.widen(self.remaining.min(VARINT_BYTES_MAX))?;
        let window = self.input.available();
        let (number, bytes) = read(&window[..window.len().min(self.remaining)])?;
        self.input.consume(bytes);
        self.remaining -= bytes;
        Ok(number)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), RecordFault> {
        self.remaining = self.remaining.checked_sub(bytes).ok_or(RecordFault::Length)?;
        self.input.skip(bytes)
    }

    /// Skips a length and as many bytes; whether the part is there rather than null (-1).
    fn skip_nullable(&mut self, length_min: i32) -> Result<bool, RecordFault> {
        let length = self.varint(varint::read_i32)?;
        if length < length_min {
            return Err(RecordFault::Varint);
        }
        self.skip(usize::try_from(length).unwrap_or(0))?;
        Ok(length >= 0)
    }
}

/// Reads the parts of a record from a slice.
#[derive(Clone, Copy, Debug)]
struct Cursor<'p> {
    rest: &'p [u8],
}

impl<'p> Cursor<'p> {
    fn take(&mut self, bytes: usize) -> Result<&'p [u8], RecordFault> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn i64(&mut self) -> Result<i64, RecordFault> {
        let (number, bytes) = varint::read_i64(self.rest)?;
        self.rest = &self.rest[bytes..];
        Ok(number)
    }

    fn i32(&mut self) -> Result<i32, RecordFault> {
        let (number, bytes) = varint::read_i32(self.rest)?;
        self.rest = &self.rest[bytes..];
        Ok(number)
    }

    fn nullable(&mut self) -> Result<Option<&'p [u8]>, RecordFault> {
        match self.i32()? {
            -1 => Ok(None),
            length => self
                .take(usize::try_from(length).map_err(|_| RecordFault::Varint)?)
                .map(Some),
        }
    }

    fn header(&mut self) -> Result<Header<'p>, RecordFault> {
        let key = self.nullable()?.ok_or(RecordFault::Varint)?;
        Ok(Header {
            key,
            value: self.nullable()?,
        })
    }
}

impl From<VarintError> for RecordFault {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => RecordFault::Truncated,
            VarintError::Overflow => RecordFault::Varint,
        }
    }
}
