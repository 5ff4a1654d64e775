//! Tests of the codec: against the independent crate `kafka-protocol` (`golden`), against itself, and against lies.

use super::api::Api;
use super::encoder::{Encoder, Sink};
use super::message::Message;

mod bounds;
mod census;
mod frames;
mod golden;
pub mod prng;
mod primitives;
mod round_trip;

/// Something to be done with the messages of every served API.
pub trait ApiVisitor {
    fn visit<Q: Message<'static>, R: Message<'static>>(&mut self, api: &'static Api);
}

/// The encoded message; `unknown_tag_count` made-up tagged fields in every tagged section.
pub fn encoded<'a, M: Message<'a>>(message: &M, version: i16, unknown_tag_count: u32) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.unknown_tag_count = unknown_tag_count;
    message
        .encode_into(&mut encoder, version)
        .expect("arbitrary messages can be encoded");
    encoder.finish_bytes().unwrap().concat()
}

/// A random message of `version`.
pub fn arbitrary<'a, M: Message<'a>>(seed: u64, version: i16) -> M {
    let shape = M::shape(version).expect("the version is described");
    let seed = seed.wrapping_mul(64).wrapping_add(version as u64);
    M::arbitrary(&mut prng::Prng::new(seed), shape)
}

/// Bytes that live as long as the messages decoded from them have to.
pub fn leaked(bytes: Vec<u8>) -> &'static [u8] {
    Box::leak(bytes.into_boxed_slice())
}

/// What a message encodes to, counted.
pub fn counted<'a, M: Message<'a>>(message: &M, version: i16) -> usize {
    let mut counter = super::encoder::Counter::default();
    message
        .encode_into(&mut counter, version)
        .expect("arbitrary messages can be encoded");
    counter.put(&[]);
    counter.bytes
}
