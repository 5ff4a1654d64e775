//! The native protocol: FlatBuffers headers, and batches behind them as they are. `docs/wire-native.md` is its page.
//!
//! ```text
//! u32 length | u32 header length | header, zeros to a multiple of 8 | payload
//! ```
//!
//! Numbers are little-endian; the length counts what follows it. The header begins 8 bytes into the frame and is a multiple of 8 long, so
//! it and the payload are aligned where the frame is. The same frame carries a request (`fb::Request`) and an answer (`fb::Answer`).
//!
//! Invariants
//! 1. A header is verified before any of it is used (`read_request`, `read_answer`; `fuzz: native_frame`): the verifier bounds its depth,
//!    its tables and what they say in all by its own length, so the work is linear in what arrived and nothing is allocated.
//! 2. What stands in a payload is cut by lengths that are held against its own (`Payload::take`, `Payload::is_empty`).
//!
//! Not for: what a request means (`broker::native`), batches (`wire::batch`).

#[rustfmt::skip]
#[allow(
    clippy::all,
    deprecated,
    dead_code,
    unsafe_op_in_unsafe_fn,
    unused_imports,
    mismatched_lifetime_syntaxes,
    unused_extern_crates
)]
mod native_generated;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use flatbuffers::{
    FlatBufferBuilder, Follow, InvalidFlatbuffer, UnionWIPOffset, Verifiable, VerifierOptions, WIPOffset,
};

pub use self::native_generated::ringtail::native as fb;
use super::LENGTH_BYTES;
use crate::base::ids::TopicId;

/// The lengths in front of a header.
const PREFIX_BYTES: usize = LENGTH_BYTES + 4;
const ALIGNMENT: usize = 8;
/// A longer header is nobody's: it names more than any request may.
const HEADER_BYTES_MAX: usize = 8 << 20;

/// Why bytes are not what the protocol says: the connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The header's length is none, or beyond the frame.
    HeaderLength(u32),
    /// Refused by the verifier.
    Header(String),
    /// The lengths in the header are not those of the payload.
    Payload,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderLength(bytes) => write!(f, "a header of {bytes} bytes is none of its frame"),
            Self::Header(error) => write!(f, "the header does not verify: {error}"),
            Self::Payload => f.write_str("the payload is not as long as the header says"),
        }
    }
}

impl std::error::Error for Malformed {}

impl From<InvalidFlatbuffer> for Malformed {
    fn from(error: InvalidFlatbuffer) -> Self {
        Self::Header(error.to_string())
    }
}

/// A frame's two parts, without copying.
#[derive(Debug, Clone)]
pub struct Parts {
    pub header: Bytes,
    pub payload: Bytes,
}

impl Parts {
    /// Of a frame behind its length.
    pub fn of(mut frame: Bytes) -> Result<Self, Malformed> {
        let Some(length) = frame.first_chunk::<4>() else {
            return Err(Malformed::HeaderLength(0));
        };
        let length = u32::from_le_bytes(*length);
        let bytes = length as usize;
        let is_header = bytes > 0 && bytes.is_multiple_of(ALIGNMENT) && bytes <= HEADER_BYTES_MAX;
        if !is_header || frame.len() - 4 < bytes {
            return Err(Malformed::HeaderLength(length));
        }
        let payload = frame.split_off(4 + bytes);
        Ok(Self {
            header: frame.slice(4..),
            payload,
        })
    }
}

/// A payload that is cut into batches from its front.
pub struct Payload(Bytes);

impl Payload {
    pub fn new(payload: Bytes) -> Self {
        Self(payload)
    }

    pub fn take(&mut self, bytes: u32) -> Result<Bytes, Malformed> {
        let bytes = bytes as usize;
        match bytes <= self.0.len() {
            true => Ok(self.0.split_to(bytes)),
            false => Err(Malformed::Payload),
        }
    }

    /// All of it was taken.
    pub fn end(self) -> Result<(), Malformed> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Malformed::Payload),
        }
    }
}

pub fn read_request(header: &[u8]) -> Result<fb::Request<'_>, Malformed> {
    read::<fb::Request<'_>>(header)
}

pub fn read_answer(header: &[u8]) -> Result<fb::Answer<'_>, Malformed> {
    read::<fb::Answer<'_>>(header)
}

fn read<'b, T: 'b + Follow<'b> + Verifiable>(header: &'b [u8]) -> Result<T::Inner, Malformed> {
    // A table takes at least 8 bytes; strings and vectors may share bytes, so the apparent size is bounded too.
    let options = VerifierOptions {
        max_depth: 8,
        max_tables: header.len() / 8 + 1,
        max_apparent_size: header.len().saturating_mul(4),
        ignore_missing_null_terminator: false,
    };
    Ok(flatbuffers::root_with_opts::<T>(&options, header)?)
}

pub type Builder = FlatBufferBuilder<'static>;

/// The beginning of a frame: all but its payload of `payload_bytes`.
pub fn begin_request(
    mut builder: Builder,
    id: u64,
    kind: fb::Ask,
    ask: WIPOffset<UnionWIPOffset>,
    payload_bytes: usize,
) -> Result<Bytes, TooLong> {
    let args = fb::RequestArgs {
        id,
        ask_type: kind,
        ask: Some(ask),
    };
    let request = fb::Request::create(&mut builder, &args);
    builder.finish(request, None);
    framed(builder.finished_data(), payload_bytes)
}

/// The same of an answer.
pub fn begin_answer(
    mut builder: Builder,
    id: u64,
    kind: fb::Told,
    told: WIPOffset<UnionWIPOffset>,
    payload_bytes: usize,
) -> Result<Bytes, TooLong> {
    let args = fb::AnswerArgs {
        id,
        told_type: kind,
        told: Some(told),
    };
    let answer = fb::Answer::create(&mut builder, &args);
    builder.finish(answer, None);
    framed(builder.finished_data(), payload_bytes)
}

/// A frame that its length cannot tell, or a header that no reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too long for a frame")
    }
}

fn framed(header: &[u8], payload_bytes: usize) -> Result<Bytes, TooLong> {
    let header_bytes = header.len().next_multiple_of(ALIGNMENT);
    let length = u32::try_from(PREFIX_BYTES - LENGTH_BYTES + header_bytes + payload_bytes).map_err(|_| TooLong)?;
    if header_bytes > HEADER_BYTES_MAX {
        return Err(TooLong);
    }
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + header_bytes);
    frame.put_u32_le(length);
    frame.put_u32_le(header_bytes as u32);
    frame.put_slice(header);
    frame.put_bytes(0, header_bytes - header.len());
    Ok(frame.freeze())
}

impl From<&fb::TopicId> for TopicId {
    fn from(id: &fb::TopicId) -> Self {
        Self(id.0)
    }
}

impl From<TopicId> for fb::TopicId {
    fn from(id: TopicId) -> Self {
        Self(id.0)
    }
}
