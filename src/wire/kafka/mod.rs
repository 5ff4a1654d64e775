//! The Kafka protocol: frames, headers and messages, in the versions of Kafka 4.2. `docs/wire-kafka.md` is its page.
//!
//! Each message is described once (`messages/`, grammar in `message.rs`); broker, client and tests share the description.
//! In go received frames and the messages handlers build; out come messages that borrow from the frame, and frames as
//! pieces for a gathering send. Not for: record batches (`wire::batch`), sockets, what a request means.
//!
//! Invariants:
//! 1. Decoding allocates nothing; a declared length or count is believed only as far as there are bytes
//!    (`Decoder::take`, `List::read_nullable`; `tests/wire_memory.rs` counts).
//! 2. No input panics: a `List` decodes again only bytes that decoded before (`expect` in `list::Iter::next`).
//! 3. The work to decode a frame is linear in its length: every array element takes at least a byte
//!    (`DecodeErrorKind::EmptyElement`), and nesting is as deep as the descriptions are.
//! 4. What is advertised is what is described: `api::APIS` takes its versions from the messages, and request and response
//!    agree (constant assertions in `api.rs`).
//! 5. Tags are written in rising order (constant assertion of every described struct).
//! 6. Payload buffers are passed through uncopied (`Sink::put_shared`; tested by pointer in `tests/frames.rs`).

mod api;
mod decoder;
mod encoder;
mod error_code;
mod field;
mod frame;
mod list;
#[macro_use]
mod message;
pub mod messages;
mod records;
#[cfg(test)]
mod tests;

pub use api::{APIS, Api, ApiKey, RequestVisitor, api_versions, unsupported_api_versions, visit_request};
pub use decoder::{DecodeError, DecodeErrorKind, Decoder, STRING_BYTES_MAX};
pub use encoder::{Counter, EncodeError, EncodeErrorKind, Encoder, Sink};
pub use error_code::ErrorCode;
pub use field::Str;
pub use frame::{Measured, RequestError, RequestHeader, ResponseHeader, encode_request, encode_response};
pub use list::List;
pub use message::Message;
pub use records::{Opaque, Records};
