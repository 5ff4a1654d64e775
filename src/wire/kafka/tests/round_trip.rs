//! Every served (API, version), both directions, against ourselves.

use super::super::api::{Api, visit_apis};
use super::super::decoder::Decoder;
use super::super::message::Message;
use super::{ApiVisitor, arbitrary, counted, encoded, leaked};

const SEEDS: u64 = 12;

struct RoundTrip {
    messages: usize,
}

impl ApiVisitor for RoundTrip {
    fn visit<Q: Message<'static>, R: Message<'static>>(&mut self, api: &'static Api) {
        for version in api.version_min..=api.version_max {
            for seed in 0..SEEDS {
                round_trip::<Q>(seed, version);
                round_trip::<R>(seed, version);
                self.messages += 2;
            }
        }
    }
}

fn round_trip<M: Message<'static>>(seed: u64, version: i16) {
    let message: M = arbitrary(seed, version);
    for unknown_tag_count in [0, 3] {
        let bytes = leaked(encoded(&message, version, unknown_tag_count));
        if unknown_tag_count == 0 {
            assert_eq!(counted(&message, version), bytes.len(), "{} {version}", M::NAME);
        }
        let mut decoder = Decoder::new(bytes);
        let decoded = M::decode_from(&mut decoder, version)
            .unwrap_or_else(|error| panic!("{} {version} seed {seed}: {error}", M::NAME));
        decoder.finish().expect("the whole message is read");
        assert_eq!(decoded, message, "{} {version} seed {seed}", M::NAME);
    }
    let bytes = leaked(encoded(&message, version, 0));
    let decoded = M::decode_from(&mut Decoder::new(bytes), version).expect("it decoded before");
    assert_eq!(
        encoded(&decoded, version, 0),
        bytes,
        "{} {version} seed {seed}",
        M::NAME
    );
}

#[test]
fn every_served_version_decodes_what_it_encodes() {
    let mut visitor = RoundTrip { messages: 0 };
    visit_apis(&mut visitor);
    let versions: usize = super::super::APIS
        .iter()
        .map(|api| (api.version_max - api.version_min + 1) as usize)
        .sum();
    assert_eq!(visitor.messages, versions * 2 * SEEDS as usize);
}

struct Defaults;

impl ApiVisitor for Defaults {
    fn visit<Q: Message<'static>, R: Message<'static>>(&mut self, api: &'static Api) {
        for version in api.version_min..=api.version_max {
            for (bytes, name) in [
                (encoded(&Q::default(), version, 0), Q::NAME),
                (encoded(&R::default(), version, 0), R::NAME),
            ] {
                // A default message has no array elements and no tags: it is small, and handlers may start from it.
                assert!(bytes.len() < 64, "{name} {version}: {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn every_default_message_can_be_encoded() {
    visit_apis(&mut Defaults);
}

struct OtherVersions;

impl ApiVisitor for OtherVersions {
    fn visit<Q: Message<'static>, R: Message<'static>>(&mut self, api: &'static Api) {
        for version in [api.version_min - 1, api.version_max + 1, i16::MIN, i16::MAX] {
            assert!(Q::decode_from(&mut Decoder::new(&[0; 64]), version).is_err());
            assert!(
                R::default()
                    .encode_into(&mut super::super::Counter::default(), version)
                    .is_err()
            );
        }
    }
}

#[test]
fn versions_that_are_not_described_are_errors() {
    visit_apis(&mut OtherVersions);
}
