//! How one value of a message is read and written, depending on the version: the traits and the scalar types.

use std::borrow::Cow;
use std::fmt;

use super::decoder::{DecodeError, DecodeErrorKind, Decoder, STRING_BYTES_MAX};
use super::encoder::{EncodeError, EncodeErrorKind, Sink};
#[cfg(test)]
use super::tests::prng::Prng;
use crate::base::ids::TopicId;

/// A string of a message: borrowed from the frame when decoded, borrowed or owned when encoded.
pub type Str<'a> = Cow<'a, str>;

/// What the encoding of a value depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The version of the whole message.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether this value may be null.
    pub nullable: bool,
}

impl Shape {
    pub(super) fn nullable_if(self, nullable: bool) -> Shape {
        Shape { nullable, ..self }
    }
}

/// The row of one field in a message's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    since: i16,
    until: i16,
    null_since: i16,
    tag: Option<u32>,
}

impl FieldSpec {
    /// In every version, never null, not tagged.
    pub const ALWAYS: FieldSpec = FieldSpec {
        since: 0,
        until: i16::MAX,
        null_since: i16::MAX,
        tag: None,
    };

    /// The first version that carries the field.
    pub const fn since(mut self, version: i16) -> FieldSpec {
        self.since = version;
        self
    }

    /// The last version that carries the field.
    pub const fn until(mut self, version: i16) -> FieldSpec {
        self.until = version;
        self
    }

    /// The first version in which the field may be null.
    pub const fn null(mut self, version: i16) -> FieldSpec {
        self.null_since = version;
        self
    }

    /// Carries the field in the tagged section, under this tag.
    pub const fn tag(mut self, tag: u32) -> FieldSpec {
        self.tag = Some(tag);
        self
    }

    #[inline]
    pub(super) const fn is_nullable(self, version: i16) -> bool {
        version >= self.null_since
    }

    #[inline]
    pub(super) const fn is_carried(self, version: i16) -> bool {
        version >= self.since && version <= self.until
    }

    #[inline]
    pub(super) const fn is_inline(self, version: i16) -> bool {
        self.tag.is_none() && self.is_carried(version)
    }

    /// The tag under which `version` carries the field, if it does so.
    #[inline]
    pub(super) const fn tag_in(self, version: i16) -> Option<u32> {
        if self.is_carried(version) { self.tag } else { None }
    }

    /// Whether the tags of `specs` rise in order of declaration, as the protocol demands them to be written.
    pub(super) const fn tags_rise(specs: &[FieldSpec]) -> bool {
        let mut next = 0;
        let mut index = 0;
        while index < specs.len() {
            if let Some(tag) = specs[index].tag {
                if tag < next {
                    return false;
                }
                next = tag + 1;
            }
            index += 1;
        }
        true
    }
}

/// A value that can stand in a message. Reading allocates nothing.
pub trait Field<'a>: Clone + PartialEq + fmt::Debug {
    fn read(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Self, DecodeError>;

    fn write<S: Sink>(&self, sink: &mut S, shape: Shape) -> Result<(), EncodeError>;

    /// A random value that `shape` can carry.
    #[cfg(test)]
    fn arbitrary(prng: &mut Prng, shape: Shape) -> Self;
}

/// A value that has an encoding of null; its `Option` is a [`Field`].
pub trait NullableField<'a>: Field<'a> {
    fn read_nullable(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Option<Self>, DecodeError>;

    fn write_nullable<S: Sink>(value: Option<&Self>, sink: &mut S, shape: Shape) -> Result<(), EncodeError>;
}

impl<'a, T: NullableField<'a>> Field<'a> for Option<T> {
    fn read(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Self, DecodeError> {
        if shape.nullable {
            T::read_nullable(decoder, shape)
        } else {
            T::read(decoder, shape).map(Some)
        }
    }

    fn write<S: Sink>(&self, sink: &mut S, shape: Shape) -> Result<(), EncodeError> {
        match self {
            None if !shape.nullable => Err(EncodeError::new(EncodeErrorKind::NullNotAllowed)),
            _ if shape.nullable => T::write_nullable(self.as_ref(), sink, shape),
            Some(value) => value.write(sink, shape),
            None => unreachable!("the first arm takes it"),
        }
    }

    #[cfg(test)]
    fn arbitrary(prng: &mut Prng, shape: Shape) -> Self {
        if shape.nullable && prng.one_in(4) {
            None
        } else {
            Some(T::arbitrary(prng, shape))
        }
    }
}

macro_rules! scalar {
    ($($type:ty: $read:ident, $arbitrary:expr;)*) => {$(
        impl<'a> Field<'a> for $type {
            #[inline]
            fn read(decoder: &mut Decoder<'a>, _: Shape) -> Result<Self, DecodeError> {
                decoder.$read()
            }

            #[inline]
            fn write<S: Sink>(&self, sink: &mut S, _: Shape) -> Result<(), EncodeError> {
                sink.put(&self.to_be_bytes());
                Ok(())
            }

            #[cfg(test)]
            fn arbitrary(prng: &mut Prng, _: Shape) -> Self {
                let value: fn(u64) -> $type = $arbitrary;
                value(prng.scalar())
            }
        }
    )*};
}

scalar! {
    i8: int8, |bits| bits as i8;
    i16: int16, |bits| bits as i16;
    i32: int32, |bits| bits as i32;
    i64: int64, |bits| bits as i64;
    u16: uint16, |bits| bits as u16;
    u32: uint32, |bits| bits as u32;
    f64: float64, |bits| bits as f64;
}

impl<'a> Field<'a> for bool {
    #[inline]
    fn read(decoder: &mut Decoder<'a>, _: Shape) -> Result<Self, DecodeError> {
        decoder.boolean()
    }

    #[inline]
    fn write<S: Sink>(&self, sink: &mut S, _: Shape) -> Result<(), EncodeError> {
        sink.put(&[u8::from(*self)]);
        Ok(())
    }

    #[cfg(test)]
    fn arbitrary(prng: &mut Prng, _: Shape) -> Self {
        prng.one_in(2)
    }
}

impl<'a> Field<'a> for TopicId {
    fn read(decoder: &mut Decoder<'a>, _: Shape) -> Result<Self, DecodeError> {
        decoder.uuid().map(TopicId)
    }

    fn write<S: Sink>(&self, sink: &mut S, _: Shape) -> Result<(), EncodeError> {
        sink.put(&self.0);
        Ok(())
    }

    #[cfg(test)]
    fn arbitrary(prng: &mut Prng, _: Shape) -> Self {
        TopicId(prng.uuid())
    }
}

/// Puts a length the way bytes, records and arrays carry it: compact, or in four bytes; `None` is null.
pub(super) fn put_length<S: Sink>(sink: &mut S, length: Option<usize>, shape: Shape) -> Result<(), EncodeError> {
    let length = match length {
        None => -1,
        Some(length) => i32::try_from(length).map_err(|_| EncodeError::new(EncodeErrorKind::TooLong))?,
    };
    if shape.flexible {
        sink.put_unsigned_varint((length as u32).wrapping_add(1));
    } else {
        sink.put(&length.to_be_bytes());
    }
    Ok(())
}

/// The length that [`put_length`] puts.
pub(super) fn take_length(decoder: &mut Decoder<'_>, shape: Shape) -> Result<Option<usize>, DecodeError> {
    if shape.flexible {
        decoder.compact_length()
    } else {
        decoder.int32_length()
    }
}

/// Turns null into an error: for the values that a version does not let be null.
pub(super) fn present<T>(value: Option<T>, decoder: &Decoder<'_>) -> Result<T, DecodeError> {
    value.ok_or_else(|| decoder.error(DecodeErrorKind::UnexpectedNull))
}

impl<'a> Field<'a> for Str<'a> {
    fn read(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Self, DecodeError> {
        let string = Self::read_nullable(decoder, shape)?;
        present(string, decoder)
    }

    fn write<S: Sink>(&self, sink: &mut S, shape: Shape) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), sink, shape)
    }

    #[cfg(test)]
    fn arbitrary(prng: &mut Prng, _: Shape) -> Self {
        Cow::Owned(prng.string())
    }
}

impl<'a> NullableField<'a> for Str<'a> {
    fn read_nullable(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Option<Self>, DecodeError> {
        let string = if shape.flexible {
            decoder.compact_nullable_string()
        } else {
            decoder.nullable_string()
        };
        Ok(string?.map(Cow::Borrowed))
    }

    fn write_nullable<S: Sink>(value: Option<&Self>, sink: &mut S, shape: Shape) -> Result<(), EncodeError> {
        if value.is_some_and(|string| string.len() > STRING_BYTES_MAX) {
            return Err(EncodeError::new(EncodeErrorKind::TooLong));
        }
        let length = value.map_or(-1, |string| string.len() as i16);
        if shape.flexible {
            sink.put_unsigned_varint((i32::from(length) + 1) as u32);
        } else {
            sink.put(&length.to_be_bytes());
        }
        if let Some(string) = value {
            sink.put(string.as_bytes());
        }
        Ok(())
    }
}
