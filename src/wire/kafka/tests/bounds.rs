//! Every served (API, version), both directions, against frames that are cut short or lie.

use super::super::List;
use super::super::api::{Api, visit_apis};
use super::super::decoder::{DecodeErrorKind, Decoder};
use super::super::message::Message;
use super::super::messages::*;
use super::prng::Prng;
use super::{ApiVisitor, arbitrary, encoded, leaked};

/// Decodes, and iterates every array of what was decoded.
fn decode_all<M: Message<'static>>(bytes: &'static [u8], version: i16) -> Result<usize, DecodeErrorKind> {
    let mut decoder = Decoder::new(bytes);
    let message = M::decode_from(&mut decoder, version).map_err(|error| error.kind)?;
    assert!(message == message.clone());
    Ok(decoder.position())
}

/// Calls `check` with a random valid frame of every served message: its bytes, and how to decode others like it.
struct Frames<F>(F);

type Decode = fn(&'static [u8], i16) -> Result<usize, DecodeErrorKind>;

impl<F: FnMut(&'static [u8], i16, Decode, &'static str)> ApiVisitor for Frames<F> {
    fn visit<Q: Message<'static>, R: Message<'static>>(&mut self, api: &'static Api) {
        for version in api.version_min..=api.version_max {
            for seed in 100..104 {
                let request = leaked(encoded(&arbitrary::<Q>(seed, version), version, 1));
                (self.0)(request, version, decode_all::<Q>, Q::NAME);
                let response = leaked(encoded(&arbitrary::<R>(seed, version), version, 1));
                (self.0)(response, version, decode_all::<R>, R::NAME);
            }
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let mut cuts = 0;
    visit_apis(&mut Frames(|bytes: &'static [u8], version, decode: Decode, name| {
        assert_eq!(decode(bytes, version), Ok(bytes.len()), "{name} {version}");
        let step = 1 + bytes.len() / 400;
        for end in (0..bytes.len()).step_by(step) {
            assert!(
                decode(&bytes[..end], version).is_err(),
                "{name} {version} cut at {end} of {}",
                bytes.len()
            );
            cuts += 1;
        }
    }));
    assert!(cuts > 10_000, "{cuts} cuts");
}

#[test]
fn lying_bytes_never_panic() {
    let mut prng = Prng::new(7);
    let mut refused = 0;
    visit_apis(&mut Frames(|bytes: &'static [u8], version, decode: Decode, _| {
        for _ in 0..if bytes.is_empty() { 0 } else { 60 } {
            let mut lying = bytes.to_vec();
            for _ in 0..1 + prng.below(3) {
                let at = prng.below(lying.len());
                let lie = [0x00, 0x01, 0x7f, 0x80, 0xff, prng.next() as u8][prng.below(6)];
                // A run of them, so that whole lengths and counts become lies.
                let end = (at + 1 + prng.below(5)).min(lying.len());
                lying[at..end].fill(lie);
            }
            refused += usize::from(decode(leaked(lying), version).is_err());
        }
    }));
    assert!(refused > 1000, "{refused} frames were refused");
}

#[test]
fn noise_never_panics() {
    let mut prng = Prng::new(8);
    visit_apis(&mut Frames(|_: &'static [u8], version, decode: Decode, _| {
        for length in [1, 4, 9, 40, 300] {
            let noise = (0..length).map(|_| {
                if prng.one_in(2) {
                    prng.below(4) as u8
                } else {
                    prng.next() as u8
                }
            });
            let _ = decode(leaked(noise.collect()), version);
        }
    }));
}

fn kind<M: Message<'static>>(bytes: &'static [u8], version: i16) -> DecodeErrorKind {
    decode_all::<M>(bytes, version).expect_err("a lie is found")
}

#[test]
fn lies_are_named() {
    type Metadata = MetadataRequest<'static>;
    // Counts.
    assert_eq!(
        kind::<Metadata>(b"\x7f\xff\xff\xff\0\0", 0),
        DecodeErrorKind::LengthBeyondEnd
    );
    assert_eq!(kind::<Metadata>(b"\0\0\0\x02\0\0", 0), DecodeErrorKind::Truncated);
    assert_eq!(
        kind::<Metadata>(b"\xff\xff\xff\xff", 0),
        DecodeErrorKind::UnexpectedNull
    );
    assert_eq!(decode_all::<Metadata>(b"\xff\xff\xff\xff", 1), Ok(4));
    assert_eq!(
        kind::<Metadata>(b"\xff\xff\xff\xff\x0f\0\0", 9),
        DecodeErrorKind::LengthBeyondEnd
    );
    // Strings.
    assert_eq!(
        kind::<Metadata>(b"\0\0\0\x01\x7f\xffab", 0),
        DecodeErrorKind::LengthBeyondEnd
    );
    assert_eq!(
        kind::<Metadata>(b"\0\0\0\x01\xff\xffab", 0),
        DecodeErrorKind::UnexpectedNull
    );
    assert_eq!(
        kind::<Metadata>(b"\0\0\0\x01\0\x02\xc3\x28", 0),
        DecodeErrorKind::NotUtf8
    );
    // Tags: too many, a value too long, a known one too long.
    assert_eq!(
        kind::<Metadata>(b"\x01\0\0\0\xff\x01", 9),
        DecodeErrorKind::LengthBeyondEnd
    );
    assert_eq!(
        kind::<Metadata>(b"\x01\0\0\0\x01\x05\x7f", 9),
        DecodeErrorKind::LengthBeyondEnd
    );
    let zk_migration_ready = b"\0\0\x01\0\0\0\0\x01\x03\x02\x01\x01";
    assert_eq!(
        kind::<ApiVersionsResponse<'static>>(zk_migration_ready, 3),
        DecodeErrorKind::TrailingBytes
    );

    let error = MetadataRequest::decode(&mut Decoder::new(b"\0\0\0\x01\0\x02\xc3\x28"), 0).unwrap_err();
    assert_eq!((error.field, error.position), ("name", 6));
}

messages! {
    /// Holds elements that take no bytes before version 5.
    api(key 999, versions 0..=5, flexible 9)
    struct Hollow<'a> {
        elements: List<'a, HollowElement>;
    }

    struct HollowElement {
        value: i8 [since(5)];
    }
}

#[test]
fn elements_without_bytes_are_refused() {
    let frame = b"\0\0\0\x04\0\0\0\0";
    assert_eq!(kind::<Hollow<'static>>(frame, 4), DecodeErrorKind::EmptyElement);
    assert_eq!(
        Hollow::decode(&mut Decoder::new(frame), 5).map(|hollow| hollow.elements.len()),
        Ok(4)
    );
}
