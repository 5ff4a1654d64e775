//! A cursor over one received frame that reads the protocol's primitives and never reads, or allocates, past what is there.

use std::fmt;

/// Why a frame could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The frame ends before the value does.
    Truncated,
    /// A declared length or count is larger than the bytes that remain.
    LengthBeyondEnd,
    /// A declared length is negative where null is not allowed, or beyond what the type allows.
    LengthInvalid,
    /// Null where the version does not allow it.
    UnexpectedNull,
    /// A variable-length integer does not fit its width.
    VarintTooLong,
    /// A string is not UTF-8.
    NotUtf8,
    /// An array element that takes no bytes.
    EmptyElement,
    /// A known tagged field, or a whole frame, holds more bytes than its value.
    TrailingBytes,
    /// The message has no such version.
    UnsupportedVersion,
}

/// What is wrong with a frame, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    pub kind: DecodeErrorKind,
    /// Byte position in the decoded slice at which the bad value begins.
    pub position: usize,
    /// The innermost field being decoded, empty outside of any.
    pub field: &'static str,
}

impl DecodeError {
    /// The same error, named after `field` unless an inner field has named it already.
    #[cold]
    pub(super) fn within(mut self, field: &'static str) -> DecodeError {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DecodeErrorKind::Truncated => "the frame ends inside a value",
            DecodeErrorKind::LengthBeyondEnd => "a declared length exceeds the bytes that remain",
            DecodeErrorKind::LengthInvalid => "a declared length is out of range",
            DecodeErrorKind::UnexpectedNull => "null is not allowed in this version",
            DecodeErrorKind::VarintTooLong => "a variable-length integer is too long",
            DecodeErrorKind::NotUtf8 => "a string is not UTF-8",
            DecodeErrorKind::EmptyElement => "an array element takes no bytes",
            DecodeErrorKind::TrailingBytes => "bytes are left over",
            DecodeErrorKind::UnsupportedVersion => "the version is not supported",
        };
        match self.field {
            "" => write!(f, "{what} (at byte {})", self.position),
            field => write!(f, "{what} (field {field}, at byte {})", self.position),
        }
    }
}

impl std::error::Error for DecodeError {}

type Result<T> = std::result::Result<T, DecodeError>;

/// The longest string the protocol allows, in bytes: also where the compact encoding could carry more.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Reads primitives from a borrowed slice. What it returns borrows from that slice, not from the decoder.
///
/// After an error the position is unspecified and the frame should be given up.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
}

macro_rules! fixed_width {
    ($($(#[$meta:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$meta])*
        #[inline]
        pub fn $name(&mut self) -> Result<$type> {
            Ok(<$type>::from_be_bytes(self.array()?))
        }
    )*};
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { bytes, position: 0 }
    }

    /// Bytes consumed so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not yet consumed.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The bytes from `start`, an earlier [`position`](Decoder::position), up to the current one.
    pub(super) fn consumed_since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.position]
    }

    /// Ends the decoding: anything left over is an error. Kafka's broker tolerates bytes behind a request, so whether to
    /// call this is the caller's choice.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(self.error(DecodeErrorKind::TrailingBytes)),
        }
    }

    #[cold]
    pub(super) fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError {
            kind,
            position: self.position,
            field: "",
        }
    }

    /// The next `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.remaining() {
            return Err(self.error(DecodeErrorKind::LengthBeyondEnd));
        }
        let start = self.position;
        self.position += length;
        Ok(&self.bytes[start..self.position])
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes[self.position..].first_chunk() {
            Some(chunk) => {
                self.position += N;
                Ok(*chunk)
            }
            None => Err(self.error(DecodeErrorKind::Truncated)),
        }
    }

    fixed_width! {
        int8: i8;
        int16: i16;
        int32: i32;
        int64: i64;
        uint16: u16;
        uint32: u32;
        float64: f64;
    }

    /// A boolean: any byte but zero is true, as in Kafka.
    #[inline]
    pub fn boolean(&mut self) -> Result<bool> {
        Ok(self.int8()? != 0)
    }

    /// The sixteen bytes of a UUID, most significant first.
    #[inline]
    pub fn uuid(&mut self) -> Result<[u8; 16]> {
        self.array()
    }

    /// An unsigned LEB128 integer of at most 32 bits.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32> {
        let value = self.leb128(5)?;
        u32::try_from(value).map_err(|_| self.error(DecodeErrorKind::VarintTooLong))
    }

    /// An unsigned LEB128 integer of at most 64 bits.
    pub fn unsigned_varlong(&mut self) -> Result<u64> {
        self.leb128(10)
    }

    /// A zigzag-coded integer of at most 32 bits.
    pub fn varint(&mut self) -> Result<i32> {
        let value = self.unsigned_varint()?;
        Ok((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    /// A zigzag-coded integer of at most 64 bits.
    pub fn varlong(&mut self) -> Result<i64> {
        let value = self.unsigned_varlong()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn leb128(&mut self, bytes_max: usize) -> Result<u64> {
        let mut value = 0u64;
        for index in 0..bytes_max {
            let Some(&byte) = self.bytes.get(self.position + index) else {
                return Err(self.error(DecodeErrorKind::Truncated));
            };
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.position += index + 1;
                return Ok(value);
            }
        }
        Err(self.error(DecodeErrorKind::VarintTooLong))
    }

    /// The length of a compact value: `None` for null.
    #[inline]
    pub(super) fn compact_length(&mut self) -> Result<Option<usize>> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    /// A four-byte length or count: `None` for null (any negative number, as in Kafka).
    #[inline]
    pub(super) fn int32_length(&mut self) -> Result<Option<usize>> {
        Ok(usize::try_from(self.int32()?).ok())
    }

    fn string_of(&mut self, length: Option<usize>) -> Result<Option<&'a str>> {
        let Some(length) = length else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(self.error(DecodeErrorKind::LengthInvalid));
        }
        let position = self.position;
        match std::str::from_utf8(self.take(length)?) {
            Ok(string) => Ok(Some(string)),
            Err(_) => Err(DecodeError {
                kind: DecodeErrorKind::NotUtf8,
                position,
                field: "",
            }),
        }
    }

    /// A string behind a two-byte length; -1 is null.
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>> {
        let length = usize::try_from(self.int16()?).ok();
        self.string_of(length)
    }

    /// A string behind a compact length; 0 is null.
    pub fn compact_nullable_string(&mut self) -> Result<Option<&'a str>> {
        let length = self.compact_length()?;
        self.string_of(length)
    }

    /// Reads a tagged-field section. `known` gets each tag with a decoder confined to its value and says whether it
    /// knew the tag; an unknown value is skipped, a known one must be consumed whole.
    pub fn tagged_fields(&mut self, mut known: impl FnMut(u32, &mut Decoder<'a>) -> Result<bool>) -> Result<()> {
        let count = self.unsigned_varint()? as usize;
        // A tag and a size take a byte each at least.
        if count > self.remaining() / 2 {
            return Err(self.error(DecodeErrorKind::LengthBeyondEnd));
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let length = self.unsigned_varint()? as usize;
            let start = self.position;
            self.take(length)?;
            let mut value = Decoder {
                bytes: &self.bytes[..self.position],
                position: start,
            };
            if known(tag, &mut value)? {
                value.finish()?;
            }
        }
        Ok(())
    }

    /// Skips a tagged-field section of which no tag is known.
    pub fn skip_tagged_fields(&mut self) -> Result<()> {
        self.tagged_fields(|_, _| Ok(false))
    }
}
