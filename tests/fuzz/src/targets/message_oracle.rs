//! The same against the crate `kafka-protocol`: what ours decodes and encodes, theirs decodes whole and encodes to the same bytes.
//! (Theirs allocates what lengths declare, so it is given no bytes that ours did not accept.) The input is that of `message_decoder`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::input::Input;
use super::messages::{chosen, described};

fn compare<T: Decodable + Encodable>(name: &str, canonical: &[u8], version: i16) {
    let mut bytes = Bytes::copy_from_slice(canonical);
    let message = match T::decode(&mut bytes, version) {
        Ok(message) => message,
        Err(error) => panic!("{name} {version}: ours is not theirs: {error}"),
    };
    assert!(
        bytes.is_empty(),
        "{name} {version}: theirs leaves {} bytes",
        bytes.len()
    );
    let mut again = BytesMut::new();
    message
        .encode(&mut again, version)
        .expect("theirs encodes what it decoded");
    assert_eq!(again, canonical, "{name} {version}");
}

macro_rules! compare_row {
    ($($name:ident <$($lifetime:lifetime)?> $min:literal..=$max:literal;)*) => {
        fn compare_by_name(name: &str, canonical: &[u8], version: i16) {
            match name {
                $(stringify!($name) if ($min..=$max).contains(&version) => {
                    compare::<theirs::$name>(name, canonical, version);
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
        compare_by_name(message.name, &canonical, version);
    }
}
