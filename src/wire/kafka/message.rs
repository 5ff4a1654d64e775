//! The macro in which every message is described once, and what it makes of a description.
//!
//! ```text
//! messages! {
//!     /// What it asks.
//!     api(key 0, versions 3..=13, flexible 9)                 a request or response: its API and versions
//!     struct ProduceRequest<'a> {
//!         transactional_id: Option<Str<'a>> [null(3)];         nullable since version 3
//!         acks: i16;                                           in every version
//!         timeout_ms: i32 = 1000;                              another default than the type's
//!         topic_data: List<'a, TopicProduceData<'a>>;          a nested struct, described below it
//!     }
//!     struct TopicProduceData<'a> {
//!         name: Str<'a> [until(12)];                           up to version 12
//!         topic_id: TopicId [since(13)];                       from version 13
//!         leader: Leader [since(10), tag(0)];                  a tagged field
//!     }
//! }
//! ```
//!
//! Fields stand in the order of the wire, tagged ones with rising tags. A field outside its versions is not written
//! and reads as its default. Fields keep Kafka's names, which the golden tests rely on.

use super::decoder::{DecodeError, DecodeErrorKind, Decoder};
use super::encoder::{Counter, EncodeError, EncodeErrorKind, Sink};
use super::field::{Field, Shape};

/// A whole request or response.
pub trait Message<'a>: Field<'a> + Default {
    /// The API it belongs to.
    const API_KEY: i16;
    const NAME: &'static str;
    /// The first and the last version described.
    const VERSION_MIN: i16;
    const VERSION_MAX: i16;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: i16;

    /// The shape of `version`, if it is described.
    fn shape(version: i16) -> Option<Shape> {
        (Self::VERSION_MIN..=Self::VERSION_MAX)
            .contains(&version)
            .then_some(Shape {
                version,
                flexible: version >= Self::FLEXIBLE_FROM,
                nullable: false,
            })
    }

    /// Decodes the message from where `decoder` stands; what follows it is left there.
    fn decode_from(decoder: &mut Decoder<'a>, version: i16) -> Result<Self, DecodeError> {
        let shape = Self::shape(version).ok_or_else(|| decoder.error(DecodeErrorKind::UnsupportedVersion))?;
        Self::read(decoder, shape)
    }

    /// Encodes the message behind what `sink` has.
    fn encode_into<S: Sink>(&self, sink: &mut S, version: i16) -> Result<(), EncodeError> {
        let shape = Self::shape(version).ok_or(EncodeError::new(EncodeErrorKind::UnsupportedVersion))?;
        self.write(sink, shape)
    }
}

/// Writes one tagged field: its tag, its exact size, its value.
pub(super) fn write_tagged<'a, T: Field<'a>, S: Sink>(
    value: &T,
    tag: u32,
    sink: &mut S,
    shape: Shape,
) -> Result<(), EncodeError> {
    let mut counter = Counter::default();
    #[cfg(test)]
    {
        counter.unknown_tag_count = sink.unknown_tag_count();
    }
    value.write(&mut counter, shape)?;
    sink.put_unsigned_varint(tag);
    sink.put_unsigned_varint(u32::try_from(counter.bytes).map_err(|_| EncodeError::new(EncodeErrorKind::TooLong))?);
    value.write(sink, shape)
}

/// Gives a section the made-up tags that the sink asks for, behind all known ones.
#[cfg(test)]
pub(super) fn write_unknown_tags<S: Sink>(sink: &mut S) {
    for index in 0..sink.unknown_tag_count() {
        sink.put_unsigned_varint(1000 + index * 100_000);
        sink.put_unsigned_varint(3 * index);
        sink.put(&b"xyzxyzxyz"[..3 * index as usize]);
    }
}

macro_rules! spec {
    ($([$($option:ident($argument:literal)),*])?) => {
        const { crate::wire::kafka::field::FieldSpec::ALWAYS $($(.$option($argument))*)? }
    };
}

macro_rules! field_default {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// Makes structs, codecs and defaults of message descriptions; the module's page has the grammar.
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        $(api(key $key:literal, versions $min:literal..=$max:literal, flexible $flexible:literal))?
        struct $name:ident $(<$lifetime:lifetime>)? { $($fields:tt)* }
    )*) => {$(
        message_struct! { $(#[$meta])* $name [$($lifetime)?] { $($fields)* } }
        message_api! { $name [$($lifetime)?] [$($key, $min, $max, $flexible)?] }
    )*};
}

macro_rules! message_api {
    ($name:ident [$($lifetime:lifetime)?] []) => {};
    ($name:ident [$($lifetime:lifetime)?] [$key:literal, $min:literal, $max:literal, $flexible:literal]) => {
        impl<'a> crate::wire::kafka::Message<'a> for $name $(<$lifetime>)? {
            const API_KEY: i16 = $key;
            const NAME: &'static str = stringify!($name);
            const VERSION_MIN: i16 = $min;
            const VERSION_MAX: i16 = $max;
            const FLEXIBLE_FROM: i16 = $flexible;
        }

        impl<'a> $name $(<$lifetime>)? {
            /// Decodes the message from where `decoder` stands, in `version`. Allocates nothing.
            pub fn decode(
                decoder: &mut crate::wire::kafka::Decoder<'a>,
                version: i16,
            ) -> Result<Self, crate::wire::kafka::DecodeError> {
                <Self as crate::wire::kafka::Message<'a>>::decode_from(decoder, version)
            }
        }
    };
}

macro_rules! message_struct {
    ($(#[$meta:meta])* $name:ident [$($lifetime:lifetime)?] { $(
        $(#[$field_meta:meta])*
        $field:ident : $type:ty $([$($option:ident($argument:literal)),*])? $(= $default:expr)? ;
    )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name $(<$lifetime>)? {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $(<$lifetime>)? Default for $name $(<$lifetime>)? {
            fn default() -> Self {
                Self { $($field: field_default!($($default)?),)* }
            }
        }

        const _: () = assert!(crate::wire::kafka::field::FieldSpec::tags_rise(&[
            $(spec!($([$($option($argument)),*])?),)*
        ]));

        impl<'a> crate::wire::kafka::field::Field<'a> for $name $(<$lifetime>)? {
            #[allow(unused_variables, unused_mut)]
            fn read(
                decoder: &mut crate::wire::kafka::Decoder<'a>,
                shape: crate::wire::kafka::field::Shape,
            ) -> Result<Self, crate::wire::kafka::DecodeError> {
                let mut message = Self::default();
                $({
                    let spec = spec!($([$($option($argument)),*])?);
                    if spec.is_inline(shape.version) {
                        let shape = shape.nullable_if(spec.is_nullable(shape.version));
                        message.$field = crate::wire::kafka::field::Field::read(decoder, shape)
                            .map_err(|error| error.within(stringify!($field)))?;
                    }
                })*
                if shape.flexible {
                    decoder.tagged_fields(|tag, value| {
                        $({
                            let spec = spec!($([$($option($argument)),*])?);
                            if spec.tag_in(shape.version) == Some(tag) {
                                let shape = shape.nullable_if(spec.is_nullable(shape.version));
                                message.$field = crate::wire::kafka::field::Field::read(value, shape)
                                    .map_err(|error| error.within(stringify!($field)))?;
                                return Ok(true);
                            }
                        })*
                        Ok(false)
                    })?;
                }
                Ok(message)
            }

            #[allow(unused_variables, unused_mut)]
            fn write<S: crate::wire::kafka::Sink>(
                &self,
                sink: &mut S,
                shape: crate::wire::kafka::field::Shape,
            ) -> Result<(), crate::wire::kafka::EncodeError> {
                let mut tag_count = 0;
                $({
                    let spec = spec!($([$($option($argument)),*])?);
                    if spec.is_inline(shape.version) {
                        let shape = shape.nullable_if(spec.is_nullable(shape.version));
                        crate::wire::kafka::field::Field::write(&self.$field, sink, shape)
                            .map_err(|error| error.within(stringify!($field)))?;
                    } else if spec.tag_in(shape.version).is_some() {
                        let default: $type = field_default!($($default)?);
                        tag_count += u32::from(self.$field != default);
                    }
                })*
                if !shape.flexible {
                    return Ok(());
                }
                #[cfg(test)]
                {
                    sink.put_unsigned_varint(tag_count + sink.unknown_tag_count());
                }
                #[cfg(not(test))]
                sink.put_unsigned_varint(tag_count);
                $({
                    let spec = spec!($([$($option($argument)),*])?);
                    if let Some(tag) = spec.tag_in(shape.version) {
                        let default: $type = field_default!($($default)?);
                        if self.$field != default {
                            let shape = shape.nullable_if(spec.is_nullable(shape.version));
                            crate::wire::kafka::message::write_tagged(&self.$field, tag, sink, shape)
                                .map_err(|error| error.within(stringify!($field)))?;
                        }
                    }
                })*
                #[cfg(test)]
                crate::wire::kafka::message::write_unknown_tags(sink);
                Ok(())
            }

            #[cfg(test)]
            #[allow(unused_variables, unused_mut)]
            fn arbitrary(
                prng: &mut crate::wire::kafka::tests::prng::Prng,
                shape: crate::wire::kafka::field::Shape,
            ) -> Self {
                let mut message = Self::default();
                $({
                    let spec = spec!($([$($option($argument)),*])?);
                    if spec.is_carried(shape.version) {
                        let shape = shape.nullable_if(spec.is_nullable(shape.version));
                        message.$field = crate::wire::kafka::field::Field::arbitrary(prng, shape);
                    }
                })*
                message
            }
        }

        /// Null is the byte -1, a value follows the byte 1.
        impl<'a> crate::wire::kafka::field::NullableField<'a> for $name $(<$lifetime>)? {
            fn read_nullable(
                decoder: &mut crate::wire::kafka::Decoder<'a>,
                shape: crate::wire::kafka::field::Shape,
            ) -> Result<Option<Self>, crate::wire::kafka::DecodeError> {
                let is_null = decoder.int8()? < 0;
                if is_null { Ok(None) } else { crate::wire::kafka::field::Field::read(decoder, shape).map(Some) }
            }

            fn write_nullable<S: crate::wire::kafka::Sink>(
                value: Option<&Self>,
                sink: &mut S,
                shape: crate::wire::kafka::field::Shape,
            ) -> Result<(), crate::wire::kafka::EncodeError> {
                match value {
                    None => sink.put(&[0xff]),
                    Some(value) => {
                        sink.put(&[1]);
                        crate::wire::kafka::field::Field::write(value, sink, shape)?;
                    }
                }
                Ok(())
            }
        }
    };
}
