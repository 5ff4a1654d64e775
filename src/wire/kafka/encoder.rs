//! Where messages are written: a counter that yields the exact length, and a gatherer that copies the small parts into
//! one buffer and takes shared payload buffers as they are.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::buffer::{Piece, Pinned};

/// Why a message could not be encoded: always the caller's mistake, never the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeErrorKind {
    /// Null where the version does not allow it.
    NullNotAllowed,
    /// A string, array, payload or frame is longer than its length field can say.
    TooLong,
    /// The message has no such version.
    UnsupportedVersion,
    /// What is pinned for a connection stands in a message that is to be bytes.
    Pinned,
}

/// What could not be encoded, and in which field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeError {
    pub kind: EncodeErrorKind,
    /// The innermost field being encoded, empty outside of any.
    pub field: &'static str,
}

impl EncodeError {
    pub(super) fn new(kind: EncodeErrorKind) -> EncodeError {
        EncodeError { kind, field: "" }
    }

    /// The same error, named after `field` unless an inner field has named it already.
    #[cold]
    pub(super) fn within(mut self, field: &'static str) -> EncodeError {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            EncodeErrorKind::NullNotAllowed => "null is not allowed in this version",
            EncodeErrorKind::TooLong => "a value is longer than its length field allows",
            EncodeErrorKind::UnsupportedVersion => "the version is not supported",
            EncodeErrorKind::Pinned => "its payload can only be sent",
        };
        match self.field {
            "" => f.write_str(what),
            field => write!(f, "{what} (field {field})"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// The bytes of `value` as an unsigned LEB128 integer, and how many they are.
fn leb128(mut value: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut count = 0;
    loop {
        let bits = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes[count] = bits;
            return (bytes, count + 1);
        }
        bytes[count] = bits | 0x80;
        count += 1;
    }
}

/// Takes the encoded bytes of a message in order.
pub trait Sink {
    /// Takes a copy of `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Takes a shared payload buffer, without copying it where the sink can.
    fn put_shared(&mut self, bytes: &Bytes);

    /// Passes on what nobody here can look at.
    fn put_pinned(&mut self, pinned: &Pinned);

    /// An unsigned LEB128 integer.
    fn put_unsigned_varint(&mut self, value: u32) {
        let (bytes, count) = leb128(u64::from(value));
        self.put(&bytes[..count]);
    }

    /// A zigzag-coded integer of 32 bits.
    fn put_varint(&mut self, value: i32) {
        self.put_unsigned_varint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A zigzag-coded integer of 64 bits.
    fn put_varlong(&mut self, value: i64) {
        let (bytes, count) = leb128(((value << 1) ^ (value >> 63)) as u64);
        self.put(&bytes[..count]);
    }

    /// How many made-up tagged fields every tagged section gets: lets tests speak as a newer peer would.
    #[cfg(test)]
    fn unknown_tag_count(&self) -> u32 {
        0
    }
}

/// A sink that keeps nothing but the lengths.
#[derive(Debug, Default)]
pub struct Counter {
    /// All bytes put.
    pub bytes: usize,
    /// Those of them that came in shared buffers.
    pub shared_bytes: usize,
    #[cfg(test)]
    pub unknown_tag_count: u32,
}

impl Sink for Counter {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        self.bytes += bytes.len();
        self.shared_bytes += bytes.len();
    }

    fn put_pinned(&mut self, pinned: &Pinned) {
        self.bytes += pinned.len();
        self.shared_bytes += pinned.len();
    }

    #[cfg(test)]
    fn unknown_tag_count(&self) -> u32 {
        self.unknown_tag_count
    }
}

/// A sink that gathers: what is small is copied behind each other, what is shared becomes a piece of its own.
#[derive(Debug, Default)]
pub struct Encoder {
    pieces: Vec<Piece>,
    tail: BytesMut,
    #[cfg(test)]
    pub unknown_tag_count: u32,
}

impl Encoder {
    /// An encoder that copies up to `copied_bytes` without growing.
    pub fn with_capacity(copied_bytes: usize) -> Encoder {
        Encoder {
            tail: BytesMut::with_capacity(copied_bytes),
            ..Encoder::default()
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze().into());
        }
    }

    /// The pieces in order, none of them empty.
    pub fn finish(mut self) -> Vec<Piece> {
        self.close_tail();
        self.pieces
    }

    /// The same of a message that has nothing but bytes.
    pub fn finish_bytes(self) -> Result<Vec<Bytes>, EncodeError> {
        bytes_of(self.finish())
    }
}

/// The pieces of a message that has nothing but bytes: the vector of one gathering send.
pub(super) fn bytes_of(pieces: Vec<Piece>) -> Result<Vec<Bytes>, EncodeError> {
    let bytes = pieces.into_iter().map(|piece| match piece {
        Piece::Bytes(bytes) => Ok(bytes),
        Piece::Pinned(_) => Err(EncodeError::new(EncodeErrorKind::Pinned)),
    });
    bytes.collect()
}

impl Sink for Encoder {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if !bytes.is_empty() {
            self.close_tail();
            self.pieces.push(bytes.clone().into());
        }
    }

    fn put_pinned(&mut self, pinned: &Pinned) {
        if !pinned.is_empty() {
            self.close_tail();
            self.pieces.push(Piece::Pinned(pinned.clone()));
        }
    }

    #[cfg(test)]
    fn unknown_tag_count(&self) -> u32 {
        self.unknown_tag_count
    }
}
