//! Arrays of messages. A decoded array stays the bytes it came in: it is checked once when its message is decoded, and
//! its elements are decoded again, one by one, as they are iterated. So decoding allocates nothing, whatever is declared.

use std::fmt;
use std::iter::FusedIterator;
use std::slice;

use super::decoder::{DecodeError, DecodeErrorKind, Decoder};
use super::encoder::{EncodeError, Sink};
use super::field::{Field, NullableField, Shape, present, put_length, take_length};
#[cfg(test)]
use super::tests::prng::Prng;

/// An array of `T`: a checked range of a received frame, or a vector to be sent.
///
/// Build one with `vec.into()` or by collecting; read one with [`iter`](List::iter). A nullable array is an `Option` of it.
#[derive(Clone)]
pub struct List<'a, T>(Repr<'a, T>);

#[derive(Clone)]
enum Repr<'a, T> {
    /// `bytes` hold exactly `count` valid elements in `shape`.
    Wire {
        count: usize,
        bytes: &'a [u8],
        shape: Shape,
    },
    Owned(Vec<T>),
}

impl<'a, T> List<'a, T> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Wire { count, .. } => *count,
            Repr::Owned(elements) => elements.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Field<'a>> List<'a, T> {
    /// The elements by value, decoded on the fly (cloned, when the list was built here).
    pub fn iter(&self) -> Iter<'_, 'a, T> {
        Iter(match &self.0 {
            Repr::Wire { count, bytes, shape } => Source::Wire {
                left: *count,
                decoder: Decoder::new(bytes),
                shape: *shape,
            },
            Repr::Owned(elements) => Source::Owned(elements.iter()),
        })
    }

    /// The first element.
    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        List(Repr::Owned(Vec::new()))
    }
}

impl<T> From<Vec<T>> for List<'_, T> {
    fn from(elements: Vec<T>) -> Self {
        List(Repr::Owned(elements))
    }
}

impl<T> FromIterator<T> for List<'_, T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        List(Repr::Owned(elements.into_iter().collect()))
    }
}

impl<'a, T: Field<'a>> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Field<'a>> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

/// The elements of a [`List`], by value.
#[derive(Debug, Clone)]
pub struct Iter<'l, 'a, T>(Source<'l, 'a, T>);

#[derive(Debug, Clone)]
enum Source<'l, 'a, T> {
    Wire {
        left: usize,
        decoder: Decoder<'a>,
        shape: Shape,
    },
    Owned(slice::Iter<'l, T>),
}

impl<'a, T: Field<'a>> Iterator for Iter<'_, 'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Source::Wire { left, decoder, shape } => {
                *left = left.checked_sub(1)?;
                Some(T::read(decoder, *shape).expect("List::read decoded these very bytes in this very shape"))
            }
            Source::Owned(elements) => elements.next().cloned(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Source::Wire { left, .. } => *left,
            Source::Owned(elements) => elements.len(),
        };
        (left, Some(left))
    }
}

impl<'a, T: Field<'a>> ExactSizeIterator for Iter<'_, 'a, T> {}
impl<'a, T: Field<'a>> FusedIterator for Iter<'_, 'a, T> {}

impl<'l, 'a, T: Field<'a>> IntoIterator for &'l List<'a, T> {
    type Item = T;
    type IntoIter = Iter<'l, 'a, T>;

    fn into_iter(self) -> Iter<'l, 'a, T> {
        self.iter()
    }
}

impl<'a, T: Field<'a>> Field<'a> for List<'a, T> {
    fn read(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Self, DecodeError> {
        let list = Self::read_nullable(decoder, shape)?;
        present(list, decoder)
    }

    fn write<S: Sink>(&self, sink: &mut S, shape: Shape) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), sink, shape)
    }

    #[cfg(test)]
    fn arbitrary(prng: &mut Prng, shape: Shape) -> Self {
        let count = prng.count();
        (0..count)
            .map(|_| T::arbitrary(prng, shape.nullable_if(false)))
            .collect()
    }
}

impl<'a, T: Field<'a>> NullableField<'a> for List<'a, T> {
    fn read_nullable(decoder: &mut Decoder<'a>, shape: Shape) -> Result<Option<Self>, DecodeError> {
        let Some(count) = take_length(decoder, shape)? else {
            return Ok(None);
        };
        // Every element takes a byte at least (checked below).
        if count > decoder.remaining() {
            return Err(decoder.error(DecodeErrorKind::LengthBeyondEnd));
        }
        let shape = shape.nullable_if(false);
        let start = decoder.position();
        for _ in 0..count {
            let before = decoder.position();
            T::read(decoder, shape)?;
            if decoder.position() == before {
                return Err(decoder.error(DecodeErrorKind::EmptyElement));
            }
        }
        Ok(Some(List(Repr::Wire {
            count,
            bytes: decoder.consumed_since(start),
            shape,
        })))
    }

    fn write_nullable<S: Sink>(value: Option<&Self>, sink: &mut S, shape: Shape) -> Result<(), EncodeError> {
        put_length(sink, value.map(List::len), shape)?;
        let shape = shape.nullable_if(false);
        match value.map(|list| &list.0) {
            None => Ok(()),
            Some(Repr::Owned(elements)) => elements.iter().try_for_each(|element| element.write(sink, shape)),
            Some(Repr::Wire {
                bytes, shape: decoded, ..
            }) if *decoded == shape => {
                sink.put(bytes);
                Ok(())
            }
            Some(Repr::Wire { .. }) => value
                .into_iter()
                .flatten()
                .try_for_each(|element| element.write(sink, shape)),
        }
    }
}
