//! Primitives and the error table, on known bytes.

use super::super::decoder::{DecodeErrorKind, Decoder};
use super::super::encoder::{Encoder, Sink};
use super::super::error_code::ErrorCode;

fn decoder(bytes: &[u8]) -> Decoder<'_> {
    Decoder::new(bytes)
}

#[test]
fn fixed_widths_are_big_endian() {
    let bytes = [0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07];
    assert_eq!(decoder(&bytes).int8(), Ok(-128));
    assert_eq!(decoder(&bytes).int16(), Ok(-32767));
    assert_eq!(decoder(&bytes).uint16(), Ok(0x8001));
    assert_eq!(decoder(&bytes).int32(), Ok(-0x7ffe_fdfd));
    assert_eq!(decoder(&bytes).uint32(), Ok(0x8001_0203));
    assert_eq!(decoder(&bytes).int64(), Ok(i64::from_be_bytes(bytes)));
    assert_eq!(decoder(&1.5f64.to_be_bytes()).float64(), Ok(1.5));
    assert_eq!(
        decoder(&bytes[..7]).int64().map_err(|e| e.kind),
        Err(DecodeErrorKind::Truncated)
    );
    assert_eq!(decoder(&[2]).boolean(), Ok(true));
}

#[test]
fn varints_round_trip_at_their_edges() {
    for value in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i32::MAX, i32::MIN] {
        let mut encoder = Encoder::default();
        encoder.put_varint(value);
        encoder.put_varlong(i64::from(value) << 31);
        encoder.put_unsigned_varint(value as u32);
        encoder.put_varlong(i64::MIN);
        encoder.put_varlong(i64::MAX);
        let bytes = encoder.finish_bytes().unwrap().concat();
        let mut decoder = decoder(&bytes);
        assert_eq!(decoder.varint(), Ok(value));
        assert_eq!(decoder.varlong(), Ok(i64::from(value) << 31));
        assert_eq!(decoder.unsigned_varint(), Ok(value as u32));
        assert_eq!(decoder.varlong(), Ok(i64::MIN));
        assert_eq!(decoder.varlong(), Ok(i64::MAX));
        assert_eq!(decoder.finish(), Ok(()));
    }
    assert_eq!(decoder(&[0xac, 0x02]).unsigned_varint(), Ok(300));
    assert_eq!(decoder(&[0x03]).varint(), Ok(-2));
}

#[test]
fn varints_that_do_not_fit_are_errors() {
    let kind = |bytes: &[u8]| decoder(bytes).unsigned_varint().map_err(|error| error.kind);
    assert_eq!(kind(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
    assert_eq!(
        kind(&[0xff, 0xff, 0xff, 0xff, 0x1f]),
        Err(DecodeErrorKind::VarintTooLong)
    );
    assert_eq!(
        kind(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
        Err(DecodeErrorKind::VarintTooLong)
    );
    assert_eq!(kind(&[0x80, 0x80]), Err(DecodeErrorKind::Truncated));
    let long = |bytes: &[u8]| decoder(bytes).unsigned_varlong().map_err(|error| error.kind);
    assert_eq!(
        long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        Ok(u64::MAX)
    );
    assert_eq!(
        long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
        Err(DecodeErrorKind::VarintTooLong)
    );
}

#[test]
fn strings_on_known_bytes() {
    assert_eq!(decoder(b"\x00\x02hi").nullable_string(), Ok(Some("hi")));
    assert_eq!(decoder(b"\xff\xff").nullable_string(), Ok(None));
    assert_eq!(decoder(b"\x03hi").compact_nullable_string(), Ok(Some("hi")));
    assert_eq!(decoder(b"\x01").compact_nullable_string(), Ok(Some("")));
    assert_eq!(decoder(b"\x00").compact_nullable_string(), Ok(None));
    let kind = |bytes: &[u8]| {
        decoder(bytes)
            .compact_nullable_string()
            .map(drop)
            .map_err(|error| error.kind)
    };
    assert_eq!(kind(b"\x03h"), Err(DecodeErrorKind::LengthBeyondEnd));
    assert_eq!(kind(b"\x02\xff"), Err(DecodeErrorKind::NotUtf8));
    assert_eq!(kind(b"\xff\xff\xff\xff\x0f"), Err(DecodeErrorKind::LengthInvalid));
}

#[test]
fn tagged_sections_are_confined() {
    // Two fields: tag 0 with "ab", tag 9 with nothing.
    let bytes = b"\x02\x00\x02ab\x09\x00rest";
    let mut seen = Vec::new();
    let mut whole = decoder(bytes);
    let result = whole.tagged_fields(|tag, value| {
        seen.push((tag, value.take(value.remaining())?.to_vec()));
        Ok(true)
    });
    assert_eq!(result, Ok(()));
    assert_eq!(seen, [(0, b"ab".to_vec()), (9, Vec::new())]);
    assert_eq!(whole.remaining(), 4);

    let beyond = decoder(bytes).tagged_fields(|_, value| value.take(3).map(|_| true));
    assert_eq!(
        beyond.map_err(|error| error.kind),
        Err(DecodeErrorKind::LengthBeyondEnd)
    );
    let left_over = decoder(bytes).tagged_fields(|_, value| value.take(1).map(|_| true));
    assert_eq!(
        left_over.map_err(|error| error.kind),
        Err(DecodeErrorKind::TrailingBytes)
    );
    let flood = decoder(b"\xff\xff\xff\xff\x0f\x00\x00").skip_tagged_fields();
    assert_eq!(flood.map_err(|error| error.kind), Err(DecodeErrorKind::LengthBeyondEnd));
}

#[test]
fn error_codes_are_those_of_the_oracle() {
    use kafka_protocol::ResponseError;
    // The Java client retries these since its classes became retriable; the oracle has not followed.
    const DIFFER: [ErrorCode; 1] = [ErrorCode::ConcurrentTransactions];
    for &error in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_code(error.code()), Some(error));
        let Some(theirs) = ResponseError::try_from_code(error.code()) else {
            continue;
        };
        if matches!(theirs, ResponseError::Unknown(_)) {
            continue;
        }
        let name = format!("{theirs:?}");
        let ours = format!("{error:?}");
        assert_eq!(ours.to_lowercase(), name.to_lowercase(), "code {}", error.code());
        if !DIFFER.contains(&error) {
            assert_eq!(error.retriable(), theirs.is_retriable(), "{error}");
        }
    }
    let codes: Vec<i16> = ErrorCode::ALL.iter().map(|error| error.code()).collect();
    assert_eq!(codes, (-1..=133).collect::<Vec<i16>>());
    assert_eq!(ErrorCode::from_code(134), None);
}
