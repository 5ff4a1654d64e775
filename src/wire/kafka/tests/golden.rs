//! Golden bytes: every described (API, version) that the crate `kafka-protocol` knows, both directions.
//!
//! A random message of ours is encoded, also with tagged fields that nobody knows. Theirs must decode all of it, name
//! every field and value as we do (which a mere comparison of bytes would not show), and encode it to the same bytes.
//! Ours must decode those to the same message. What is fed to the oracle is valid: it allocates what lengths declare.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::super::decoder::Decoder;
use super::super::message::Message;
use super::super::messages as ours;
use super::{arbitrary, encoded, leaked};
use crate::base::ids::TopicId;

const SEEDS: u64 = 12;

/// A `Debug` text without type names, newtypes and unknown tags, with ids as we write them.
fn normalised(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    // For every open parenthesis, whether it was kept.
    let mut parentheses = Vec::new();
    while let Some(first) = rest.chars().next() {
        if let Some(id) = rest.get(..36).and_then(parse_uuid) {
            out.push_str(&format!("{id:?}"));
            rest = &rest[36..];
        } else if first == '"' {
            let end = string_end(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if first.is_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = behind;
            if word == "unknown_tagged_fields" {
                rest = &rest[rest.find('}').expect("the map is closed") + 1..];
                out.truncate(out.trim_end_matches([' ', ',']).len());
            } else if let Some(behind) = behind.strip_prefix('(').filter(|_| word != "Some") {
                parentheses.push(false);
                rest = behind;
            } else if let Some(behind) = behind.strip_prefix(" {") {
                out.push('{');
                rest = behind;
            } else {
                out.push_str(word);
            }
        } else {
            rest = &rest[first.len_utf8()..];
            match first {
                '(' => parentheses.push(true),
                ')' if !parentheses.pop().expect("parentheses match") => continue,
                _ => {}
            }
            out.push(first);
        }
    }
    out
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn parse_uuid(text: &str) -> Option<TopicId> {
    let hyphens = [8, 13, 18, 23];
    let hex: String = text
        .char_indices()
        .filter(|(index, _)| !hyphens.contains(index))
        .map(|(_, c)| c)
        .collect();
    let is_uuid = hyphens.iter().all(|&index| text.as_bytes()[index] == b'-') && hex.len() == 32;
    is_uuid
        .then(|| u128::from_str_radix(&hex, 16).ok())
        .flatten()
        .map(|bits| TopicId(bits.to_be_bytes()))
}

fn compare<Ours, Theirs>(version: i16)
where
    Ours: Message<'static>,
    Theirs: Encodable + Decodable + Debug,
{
    let name = Ours::NAME;
    for seed in 0..SEEDS {
        let message: Ours = arbitrary(seed, version);
        for unknown_tag_count in [0, 3] {
            let bytes = encoded(&message, version, unknown_tag_count);
            let mut unread = Bytes::from(bytes.clone());
            let their_message = Theirs::decode(&mut unread, version)
                .unwrap_or_else(|error| panic!("{name} {version} seed {seed}: theirs: {error}"));
            assert!(
                unread.is_empty(),
                "{name} {version} seed {seed}: {} bytes unread",
                unread.len()
            );
            let (ours_text, their_text) = (format!("{message:?}"), format!("{their_message:?}"));
            assert_eq!(
                normalised(&ours_text),
                normalised(&their_text),
                "{name} {version} seed {seed}"
            );

            let mut their_bytes = BytesMut::new();
            their_message
                .encode(&mut their_bytes, version)
                .expect("theirs encodes what it decoded");
            assert_eq!(their_bytes, bytes, "{name} {version} seed {seed}");
            let mut decoder = Decoder::new(leaked(their_bytes.to_vec()));
            let decoded = Ours::decode_from(&mut decoder, version)
                .unwrap_or_else(|error| panic!("{name} {version} seed {seed}: ours: {error}"));
            decoder.finish().expect("the whole message is read");
            assert_eq!(decoded, message, "{name} {version} seed {seed}");
        }
    }
}

/// One row per message: ours and theirs have the same name, and theirs knows the versions given.
macro_rules! golden {
    ($($test:ident: $message:ident $min:literal..=$max:literal;)*) => {$(
        #[test]
        fn $test() {
            for version in $min..=$max {
                compare::<ours::$message<'static>, theirs::$message>(version);
                let flexible = version >= <ours::$message<'static> as Message>::FLEXIBLE_FROM;
                let is_request = stringify!($message).ends_with("Request");
                let is_api_versions_response = stringify!($message) == "ApiVersionsResponse";
                let header_version = i16::from(is_request) + i16::from(flexible && !is_api_versions_response);
                assert_eq!(theirs::$message::header_version(version), header_version, "version {version}");
            }
        }
    )*};
}

golden! {
    produce_request: ProduceRequest 3..=13;
    produce_response: ProduceResponse 3..=13;
    fetch_request: FetchRequest 4..=18;
    fetch_response: FetchResponse 4..=18;
    metadata_request: MetadataRequest 0..=13;
    metadata_response: MetadataResponse 0..=13;
    api_versions_request: ApiVersionsRequest 0..=4;
    api_versions_response: ApiVersionsResponse 0..=4;
}
