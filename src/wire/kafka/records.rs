//! The payload of Produce and Fetch: record batches that the codec passes through unseen and uncopied.

use std::fmt;

use bytes::Bytes;

use super::decoder::{DecodeError, Decoder};
use super::encoder::{EncodeError, Sink};
use super::field::{Field, NullableField, Shape, present, put_length, take_length};
#[cfg(test)]
use super::tests::prng::Prng;
use crate::base::buffer::Pinned;

/// Record batches back to back. Null records are an `Option` of it.
#[derive(Clone)]
pub enum Records<'a> {
    /// A range of the frame they came in; a connection makes it a shared buffer with `Bytes::slice_ref`. Encoding copies it.
    Wire(&'a [u8]),
    /// Shared buffers that encoding gathers without copying; together they are the payload.
    Pieces(Vec<Bytes>),
    /// What only the connection's environment can see: encoding passes it on.
    Pinned(Vec<Pinned>),
}

/// Bytes that only clients understand: carried as records are.
pub type Opaque<'a> = Records<'a>;

impl<'a> Records<'a> {
    /// The payload's length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Records::Wire(bytes) => bytes.len(),
            Records::Pieces(pieces) => pieces.iter().map(Bytes::len).sum(),
            Records::Pinned(pinned) => pinned.iter().map(Pinned::len).sum(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The range of the frame, of decoded records.
    pub fn as_wire(&self) -> Option<&'a [u8]> {
        match self {
            Records::Wire(bytes) => Some(bytes),
            Records::Pieces(_) | Records::Pinned(_) => None,
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (wire, shared) = match self {
            Records::Wire(bytes) => (Some(*bytes), &[][..]),
            Records::Pieces(pieces) => (None, &pieces[..]),
            Records::Pinned(_) => (None, &[][..]),
        };
        wire.into_iter().chain(shared.iter().map(|piece| &piece[..]))
    }
}

impl Default for Records<'_> {
    fn default() -> Self {
        Records::Wire(&[])
    }
}

impl From<Vec<Bytes>> for Records<'_> {
    fn from(pieces: Vec<Bytes>) -> Self {
        Records::Pieces(pieces)
    }
}

impl From<Bytes> for Records<'_> {
    fn from(bytes: Bytes) -> Self {
        Records::Pieces(vec![bytes])
    }
}

impl<'a> From<&'a [u8]> for Records<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Records::Wire(bytes)
    }
}

/// Equal when the payloads are, however they are cut.
impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.pieces().flatten().eq(other.pieces().flatten())
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload: Vec<&[u8]> = self.pieces().collect();
        fmt::Debug::fmt(&Bytes::from(payload.concat()), f)
    }
}

impl<'a> Field<'a> for Records<'a> {
    fn read(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Self, DecodeError> {
        let records = Self::read_nullable(decoder, shape)?;
        present(records, decoder)
    }

    fn write<S: Sink>(&self, sink: &mut S, shape: Shape) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), sink, shape)
    }

    #[cfg(test)]
    fn arbitrary(prng: &mut Prng, _: Shape) -> Self {
        let count = prng.below(3);
        Records::Pieces((0..count).map(|_| Bytes::from(prng.bytes())).collect())
    }
}

impl<'a> NullableField<'a> for Records<'a> {
    fn read_nullable(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Option<Self>, DecodeError> {
        let length = take_length(decoder, shape)?;
        length.map(|length| decoder.take(length).map(Records::Wire)).transpose()
    }

    fn write_nullable<S: Sink>(value: Option<&Self>, sink: &mut S, shape: Shape) -> Result<(), EncodeError> {
        put_length(sink, value.map(Records::len), shape)?;
        match value {
            None => {}
            Some(Records::Wire(bytes)) => sink.put(bytes),
            Some(Records::Pieces(pieces)) => pieces.iter().for_each(|piece| sink.put_shared(piece)),
            Some(Records::Pinned(pinned)) => pinned.iter().for_each(|pinned| sink.put_pinned(pinned)),
        }
        Ok(())
    }
}
