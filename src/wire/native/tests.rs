use super::*;
use crate::wire::{Framing, Protocol};

const TOPIC: TopicId = TopicId([7; 16]);

fn produce(batches: &[&[u8]]) -> Vec<u8> {
    let mut builder = Builder::new();
    let appends: Vec<_> = batches
        .iter()
        .enumerate()
        .map(|(index, batch)| fb::Append::new(&TOPIC.into(), index as i32, batch.len() as u32))
        .collect();
    let args = fb::ProduceArgs {
        acks: 1,
        timeout_ms: 5,
        batches: Some(builder.create_vector(&appends)),
    };
    let ask = fb::Produce::create(&mut builder, &args).as_union_value();
    let payload = batches.concat();
    let begin = begin_request(builder, 42, fb::Ask::Produce, ask, payload.len()).expect("short");
    [&begin[..], &payload].concat()
}

fn parts(frame: &[u8]) -> Result<Parts, Malformed> {
    Parts::of(Bytes::copy_from_slice(&frame[LENGTH_BYTES..]))
}

#[test]
fn a_request_comes_out_as_it_went_in_and_its_parts_are_aligned() {
    let frame = produce(&[b"one", b"", b"three"]);
    let found = Protocol::Native.next_frame(&frame, frame.len());
    assert_eq!(found, Ok(Framing::Frame { end: frame.len() }));
    let Parts { header, payload } = parts(&frame).expect("a frame");
    assert!(header.len().is_multiple_of(ALIGNMENT));
    assert_eq!(frame.len(), PREFIX_BYTES + header.len() + payload.len());
    let request = read_request(&header).expect("verifies");
    assert_eq!((request.id(), request.ask_type()), (42, fb::Ask::Produce));
    let produce = request.ask_as_produce().expect("one");
    assert_eq!((produce.acks(), produce.timeout_ms()), (1, 5));
    let mut payload = Payload::new(payload);
    let mut batches = Vec::new();
    for append in produce.batches() {
        assert_eq!(TopicId::from(append.topic()), TOPIC);
        batches.push((append.partition(), payload.take(append.bytes()).expect("there")));
    }
    assert_eq!(batches, [(0, "one".into()), (1, "".into()), (2, "three".into())]);
    assert_eq!(payload.end(), Ok(()));
}

#[test]
fn the_bytes_of_a_frame_are_these() {
    let mut builder = Builder::new();
    let args = fb::NewProducerArgs::default();
    let ask = fb::NewProducer::create(&mut builder, &args).as_union_value();
    let frame = begin_request(builder, 1, fb::Ask::NewProducer, ask, 2).expect("short");
    let expected: [u8; 56] = [
        0x36, 0, 0, 0, 0x30, 0, 0, 0, // the lengths, with a payload of two bytes
        0x14, 0, 0, 0, 0, 0, 0, 0, // the root, and what aligns it
        0, 0, 0x0a, 0, 0x14, 0, 0x0c, 0, 7, 0, 8, 0, // the request's vtable
        0x0a, 0, 0, 0, 0, 0, 0, 5, 0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // the request: kind, body, id
        4, 0, 4, 0, 4, 0, 0, 0, // the body's vtable, and the body
    ];
    assert_eq!(frame[..], expected);
}

#[test]
fn lengths_that_are_none_are_refused() {
    let good = produce(&[b"12345678"]);
    let with = |header_bytes: u32| {
        let mut frame = good.clone();
        frame[4..8].copy_from_slice(&header_bytes.to_le_bytes());
        parts(&frame).map(drop)
    };
    let header_bytes = u32::from_le_bytes([good[4], good[5], good[6], good[7]]);
    assert_eq!(with(header_bytes), Ok(()));
    assert_eq!(with(header_bytes + 8), Ok(()), "the verifier's to say");
    for wrong in [0, 1, header_bytes + 4, header_bytes + 16, u32::MAX, u32::MAX - 7] {
        assert_eq!(with(wrong), Err(Malformed::HeaderLength(wrong)));
    }
    for bytes in 0..4 {
        assert!(Parts::of(Bytes::from(vec![8; bytes])).is_err());
    }
    let mut payload = Payload::new(Bytes::from_static(b"123"));
    assert_eq!(payload.take(4), Err(Malformed::Payload));
    assert_eq!(payload.take(2), Ok("12".into()));
    assert_eq!(payload.end(), Err(Malformed::Payload));
}

#[test]
fn no_cut_or_flipped_bit_of_a_header_panics() {
    let frame = produce(&[b"one", b"two"]);
    let header = parts(&frame).expect("a frame").header;
    let look = |header: &[u8]| {
        let Ok(request) = read_request(header) else { return 0 };
        let mut batches = 0;
        for append in request
            .ask_as_produce()
            .into_iter()
            .flat_map(|produce| produce.batches())
        {
            let _ = (append.bytes(), append.partition());
            batches += 1;
        }
        batches
    };
    assert_eq!(look(&header), 2);
    for cut in 0..header.len() {
        look(&header[..cut]);
    }
    for bit in 0..header.len() * 8 {
        let mut flipped = header.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        look(&flipped);
    }
}

/// A thousand offsets to one long string would be read a thousand times.
#[test]
fn a_header_that_says_more_than_it_holds_is_refused() {
    let mut builder = Builder::new();
    let long = builder.create_string(&"x".repeat(10_000));
    let topics = Some(builder.create_vector(&vec![long; 1000]));
    let args = fb::DescribeArgs {
        topics,
        may_create: false,
    };
    let ask = fb::Describe::create(&mut builder, &args).as_union_value();
    let frame = begin_request(builder, 1, fb::Ask::Describe, ask, 0).expect("short");
    let header = parts(&frame).expect("a frame").header;
    assert!(matches!(read_request(&header), Err(Malformed::Header(_))));
}
