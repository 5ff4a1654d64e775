//! The headers around every request and response, behind the four-byte length of their frame.

use std::fmt;

use bytes::Bytes;

use super::api::Api;
use super::decoder::{DecodeError, Decoder};
use super::encoder::{Counter, EncodeError, EncodeErrorKind, Encoder, Sink, bytes_of};
use super::field::{Field, Shape, Str};
use super::message::Message;
use crate::base::buffer::Piece;
use crate::wire::LENGTH_BYTES;

/// The header of a request, version 1 or 2: both carry the client id as a non-compact string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader<'a> {
    pub api_key: i16,
    pub api_version: i16,
    /// Chosen by the client, given back in the response.
    pub correlation_id: i32,
    pub client_id: Option<Str<'a>>,
}

/// Why a request does not reach a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// The header is malformed: close the connection.
    Malformed(DecodeError),
    /// No such API here: close the connection.
    UnknownApi { api_key: i16 },
    /// The API is served, this version is not: answer ApiVersions with [`unsupported_api_versions`], otherwise close the
    /// connection.
    ///
    /// [`unsupported_api_versions`]: super::api::unsupported_api_versions
    UnsupportedVersion {
        api: &'static Api,
        api_version: i16,
        correlation_id: i32,
    },
}

impl From<DecodeError> for RequestError {
    fn from(error: DecodeError) -> Self {
        RequestError::Malformed(error)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Malformed(error) => write!(f, "malformed request header: {error}"),
            RequestError::UnknownApi { api_key } => write!(f, "unknown API key {api_key}"),
            RequestError::UnsupportedVersion { api, api_version, .. } => write!(
                f,
                "version {api_version} of {} is not served ({} to {} are)",
                api.name, api.version_min, api.version_max
            ),
        }
    }
}

impl std::error::Error for RequestError {}

impl<'a> RequestHeader<'a> {
    /// Decodes the header of a served request, leaving `decoder` at the body. Which header it is follows from key and
    /// version, so nothing behind the correlation id is read unless those are served.
    pub fn decode(decoder: &mut Decoder<'a>) -> Result<(RequestHeader<'a>, &'static Api), RequestError> {
        let api_key = decoder.int16()?;
        let api_version = decoder.int16()?;
        let correlation_id = decoder.int32()?;
        let api = Api::by_key(api_key).ok_or(RequestError::UnknownApi { api_key })?;
        if !api.serves(api_version) {
            return Err(RequestError::UnsupportedVersion {
                api,
                api_version,
                correlation_id,
            });
        }
        let client_id = decoder.nullable_string()?.map(Str::Borrowed);
        if api.is_flexible(api_version) {
            decoder.skip_tagged_fields()?;
        }
        Ok((
            RequestHeader {
                api_key,
                api_version,
                correlation_id,
                client_id,
            },
            api,
        ))
    }

    fn write<S: Sink>(&self, sink: &mut S, flexible: bool) -> Result<(), EncodeError> {
        sink.put(&self.api_key.to_be_bytes());
        sink.put(&self.api_version.to_be_bytes());
        sink.put(&self.correlation_id.to_be_bytes());
        let shape = Shape {
            version: 1,
            flexible: false,
            nullable: true,
        };
        Field::write(&self.client_id, sink, shape).map_err(|error| error.within("client_id"))?;
        if flexible {
            sink.put_unsigned_varint(0);
        }
        Ok(())
    }
}

/// The header of a response, version 0 or 1. ApiVersions has version 0 always, so that any client can read the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader {
    pub correlation_id: i32,
}

const API_VERSIONS_KEY: i16 = 18;

/// Whether the response header of this API and version ends in tagged fields.
fn response_header_is_flexible<'a, M: Message<'a>>(version: i16) -> bool {
    version >= M::FLEXIBLE_FROM && M::API_KEY != API_VERSIONS_KEY
}

impl ResponseHeader {
    /// Decodes the header of a response whose body is an `M` of `version`, leaving `decoder` at the body.
    pub fn decode<'a, M: Message<'a>>(decoder: &mut Decoder<'a>, version: i16) -> Result<Self, DecodeError> {
        let correlation_id = decoder.int32()?;
        if response_header_is_flexible::<M>(version) {
            decoder.skip_tagged_fields()?;
        }
        Ok(ResponseHeader { correlation_id })
    }

    fn write<S: Sink>(self, sink: &mut S, flexible: bool) {
        sink.put(&self.correlation_id.to_be_bytes());
        if flexible {
            sink.put_unsigned_varint(0);
        }
    }
}

/// A response whose length is known, to be encoded once there is room for it.
pub struct Measured<'m, M> {
    body: &'m M,
    header: ResponseHeader,
    version: i16,
    counter: Counter,
}

impl<'m, 'a, M: Message<'a>> Measured<'m, M> {
    pub fn response(version: i16, correlation_id: i32, body: &'m M) -> Result<Self, EncodeError> {
        let header = ResponseHeader { correlation_id };
        let mut counter = Counter::default();
        header.write(&mut counter, response_header_is_flexible::<M>(version));
        body.encode_into(&mut counter, version)?;
        Ok(Self {
            body,
            header,
            version,
            counter,
        })
    }

    /// Bytes that the encoded frame takes; shared payload buffers are there already.
    pub fn copied_bytes(&self) -> usize {
        LENGTH_BYTES + self.counter.bytes - self.counter.shared_bytes
    }

    /// The whole frame, length included, as pieces for a gathering send. Shared payload buffers are not copied.
    pub fn encode(self) -> Result<Vec<Piece>, EncodeError> {
        let mut encoder = begin_frame(&self.counter)?;
        self.header
            .write(&mut encoder, response_header_is_flexible::<M>(self.version));
        self.body.encode_into(&mut encoder, self.version)?;
        Ok(encoder.finish())
    }
}

/// A whole response frame, length included, as pieces for a gathering send. Shared payload buffers are not copied.
pub fn encode_response<'a, M: Message<'a>>(
    version: i16,
    correlation_id: i32,
    body: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    bytes_of(Measured::response(version, correlation_id, body)?.encode()?)
}

/// A whole request frame, length included, as pieces for a gathering send. Key and version are the header's.
pub fn encode_request<'a, M: Message<'a>>(header: &RequestHeader<'_>, body: &M) -> Result<Vec<Bytes>, EncodeError> {
    debug_assert_eq!(header.api_key, M::API_KEY, "the header of another API");
    let version = header.api_version;
    let flexible = version >= M::FLEXIBLE_FROM;
    let mut counter = Counter::default();
    header.write(&mut counter, flexible)?;
    body.encode_into(&mut counter, version)?;
    let mut encoder = begin_frame(&counter)?;
    header.write(&mut encoder, flexible)?;
    body.encode_into(&mut encoder, version)?;
    encoder.finish_bytes()
}

/// An encoder that fits a frame of the counted lengths and holds its length already.
fn begin_frame(counter: &Counter) -> Result<Encoder, EncodeError> {
    let length = i32::try_from(counter.bytes).map_err(|_| EncodeError::new(EncodeErrorKind::TooLong))?;
    let mut encoder = Encoder::with_capacity(LENGTH_BYTES + counter.bytes - counter.shared_bytes);
    encoder.put(&length.to_be_bytes());
    Ok(encoder)
}
