//! Any bytes as a request of any served API: no panic, no allocation beyond 4 times the frame and 64 KiB, and what was decoded survives
//! being encoded and decoded again. The input is a frame's payload: request header and body.

use super::memory::peak_bytes;
use ringtail::wire::Protocol;
use ringtail::wire::kafka::{
    Counter, DecodeError, Decoder, Encoder, Message, RequestHeader, RequestVisitor, visit_request,
};

struct Decode<'d, 'a> {
    decoder: &'d mut Decoder<'a>,
    version: i16,
    frame_bytes: usize,
}

impl<'a> RequestVisitor<'a> for Decode<'_, 'a> {
    type Output = Result<(), DecodeError>;

    fn visit<Q: Message<'a>>(self) -> Self::Output {
        let (bytes, decoded) = peak_bytes(|| {
            let request = Q::decode_from(self.decoder, self.version)?;
            self.decoder.finish()?;
            // Encoding into a counter walks every element of every array.
            request
                .encode_into(&mut Counter::default(), self.version)
                .expect("a decoded request can be encoded");
            Ok(request)
        });
        let bytes_max = 4 * self.frame_bytes + (64 << 10);
        assert!(
            bytes <= bytes_max,
            "{} bytes allocated for a frame of {}",
            bytes,
            self.frame_bytes
        );
        round_trip::<Q>(&decoded?, self.version);
        Ok(())
    }
}

fn round_trip<'a, Q: Message<'a>>(request: &Q, version: i16) {
    let encode = |request: &Q| {
        let mut encoder = Encoder::default();
        request
            .encode_into(&mut encoder, version)
            .expect("a decoded request can be encoded");
        encoder.finish_bytes().expect("nothing is pinned").concat()
    };
    let encoded = encode(request);
    visit_bytes::<Q>(&encoded, version);
}

/// `encoded` is canonical: decoding and encoding it once more gives the same bytes. (The types borrow, so a request decoded from a shorter
/// borrow is another type; bytes compare what the values cannot.)
fn visit_bytes<'a, Q: Message<'a>>(encoded: &[u8], version: i16) {
    let mut header = Vec::with_capacity(encoded.len() + 10);
    header.extend_from_slice(&Q::API_KEY.to_be_bytes());
    header.extend_from_slice(&version.to_be_bytes());
    header.extend_from_slice(&[0, 0, 0, 0, 0xff, 0xff]);
    if version >= Q::FLEXIBLE_FROM {
        header.push(0);
    }
    header.extend_from_slice(encoded);
    let mut decoder = Decoder::new(&header);
    let (_, api) = RequestHeader::decode(&mut decoder).expect("a header of a served API");
    let again = visit_request(
        api.key,
        Reencode {
            decoder: &mut decoder,
            version,
        },
    );
    assert_eq!(
        again,
        encoded,
        "{} version {version} changes when encoded again",
        Q::NAME
    );
}

struct Reencode<'d, 'a> {
    decoder: &'d mut Decoder<'a>,
    version: i16,
}

impl<'a> RequestVisitor<'a> for Reencode<'_, 'a> {
    type Output = Vec<u8>;

    fn visit<Q: Message<'a>>(self) -> Vec<u8> {
        let request = Q::decode_from(self.decoder, self.version).expect("what was encoded can be decoded");
        self.decoder.finish().expect("nothing is left over");
        let mut encoder = Encoder::default();
        request
            .encode_into(&mut encoder, self.version)
            .expect("a decoded request can be encoded");
        encoder.finish_bytes().expect("nothing is pinned").concat()
    }
}

pub fn run(payload: &[u8]) {
    let _ = Protocol::Kafka.next_frame(payload, 1 << 20);
    let mut decoder = Decoder::new(payload);
    let (bytes, header) = peak_bytes(|| RequestHeader::decode(&mut decoder));
    assert!(bytes <= 4 * payload.len() + (64 << 10));
    if let Ok((header, api)) = header {
        let frame_bytes = payload.len();
        let _ = visit_request(
            api.key,
            Decode {
                decoder: &mut decoder,
                version: header.api_version,
                frame_bytes,
            },
        );
    }
}
