//! The same against the crate `kafka-protocol`: what ours decodes and encodes, theirs decodes whole and encodes to the same bytes, or
//! to bytes that ours decodes without a loss.
//! (Theirs allocates what lengths declare, so it is given no bytes that ours did not accept.) The input is that of `message_decoder`.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::input::Input;
use super::messages::{Described, chosen, described};

fn compare<T: Decodable + Encodable + PartialEq + Debug>(ours: &Described, canonical: &[u8], version: i16) {
    let name = ours.name;
    let decoded = |bytes: &[u8]| {
        let mut bytes = Bytes::copy_from_slice(bytes);
        let message = match T::decode(&mut bytes, version) {
            Ok(message) => message,
            // A tagged field of another version is an unknown one to ours, which goes by the bytes as they came; theirs refuses it.
            Err(error)
                if error
                    .to_string()
                    .ends_with(&format!("is not valid for version {version}")) =>
            {
                return None;
            }
            // Any negative length is null to Kafka and to ours; to theirs only -1 is.
            Err(error) if error.to_string().contains("length is negative (") => return None,
            Err(error) => panic!("{name} {version}: {error}"),
        };
        assert!(
            bytes.is_empty(),
            "{name} {version}: theirs leaves {} bytes",
            bytes.len()
        );
        Some(message)
    };
    let Some(message) = decoded(canonical) else { return };
    let mut theirs = BytesMut::new();
    message
        .encode(&mut theirs, version)
        .expect("theirs encodes what it decoded");
    let reads_back = |bytes: &[u8]| {
        let mut rest = Bytes::copy_from_slice(bytes);
        T::decode(&mut rest, version).is_ok_and(|again| rest.is_empty() && again == message)
    };
    // What theirs writes and does not read back itself says nothing of ours.
    if theirs != canonical && reads_back(&theirs) {
        // Ours leaves the elements of an array as they came, theirs keeps one of each unknown tag and brings them in order.
        let again = (ours.reencode)(&theirs, version).expect("ours decodes what theirs encoded");
        assert_eq!(decoded(&again), Some(message), "{name} {version}");
    }
}

macro_rules! compare_row {
    ($($name:ident <$($lifetime:lifetime)?> $min:literal..=$max:literal;)*) => {
        fn compare_by_name(ours: &Described, canonical: &[u8], version: i16) {
            match ours.name {
                $(stringify!($name) if ($min..=$max).contains(&version) => {
                    compare::<theirs::$name>(ours, canonical, version);
                })*
                _ => {}
            }
        }
    };
}
described!(compare_row);

pub fn run(input: &[u8]) {
    if let Some((message, version, body)) = chosen(&mut Input(input))
        && let Some(canonical) = message.canonical(body, version)
    {
        compare_by_name(message, &canonical, version);
    }
}
