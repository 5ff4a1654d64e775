//! Frames and headers: against the oracle, in pieces, cut short.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::super::messages::*;
use super::super::*;
use crate::base::buffer::{Piece, Pinned};
use crate::wire::{FrameError, Framing, Protocol};

fn request_header(api_key: i16, api_version: i16, client_id: Option<&str>) -> RequestHeader<'_> {
    RequestHeader {
        api_key,
        api_version,
        correlation_id: 0x0102_0304,
        client_id: client_id.map(Str::Borrowed),
    }
}

#[test]
fn request_headers_are_those_of_the_oracle() {
    for (version, header_version) in [(8, 1), (9, 2)] {
        for client_id in [None, Some(""), Some("kcat é")] {
            let header = request_header(3, version, client_id);
            let frame = encode_request(&header, &MetadataRequest::default()).unwrap().concat();
            assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());

            let their_header = theirs::RequestHeader::default()
                .with_request_api_key(3)
                .with_request_api_version(version)
                .with_correlation_id(0x0102_0304)
                .with_client_id(client_id.map(|id| StrBytes::from_string(id.to_string())));
            let mut their_bytes = BytesMut::new();
            their_header.encode(&mut their_bytes, header_version).unwrap();
            assert_eq!(frame[4..4 + their_bytes.len()], their_bytes, "version {version}");

            let mut decoder = Decoder::new(&frame[4..]);
            let (decoded, api) = RequestHeader::decode(&mut decoder).unwrap();
            assert_eq!(decoded, header);
            assert_eq!(api.key, ApiKey::Metadata);
            assert_eq!(decoder.position(), their_bytes.len());
            assert_eq!(
                MetadataRequest::decode(&mut decoder, version).unwrap(),
                MetadataRequest::default()
            );
        }
    }
}

#[test]
fn unknown_tags_in_a_request_header_are_skipped() {
    let mut bytes = BytesMut::new();
    let mut header = theirs::RequestHeader::default()
        .with_request_api_key(18)
        .with_request_api_version(3);
    for tag in 0..50 {
        header
            .unknown_tagged_fields
            .insert(tag * 1000, Bytes::from(vec![7; tag as usize]));
    }
    header.encode(&mut bytes, 2).unwrap();
    let mut decoder = Decoder::new(&bytes);
    assert!(RequestHeader::decode(&mut decoder).is_ok());
    assert_eq!(decoder.remaining(), 0);
    for end in 0..bytes.len() {
        assert!(
            RequestHeader::decode(&mut Decoder::new(&bytes[..end])).is_err(),
            "cut at {end}"
        );
    }
}

#[test]
fn response_headers_are_those_of_the_oracle() {
    let body = MetadataResponse {
        error_code: 3,
        ..Default::default()
    };
    for (version, header_version) in [(8, 0), (9, 1)] {
        let frame = encode_response(version, 77, &body).unwrap().concat();
        let mut unread = Bytes::copy_from_slice(&frame[4..]);
        let header = theirs::ResponseHeader::decode(&mut unread, header_version).unwrap();
        assert_eq!(header.correlation_id, 77);
        let mut decoder = Decoder::new(&frame[4..]);
        let header = ResponseHeader::decode::<MetadataResponse<'_>>(&mut decoder, version).unwrap();
        assert_eq!(header.correlation_id, 77);
        assert_eq!(decoder.remaining(), unread.len());
    }
}

#[test]
fn api_versions_answers_with_header_version_0_in_every_version() {
    for version in 0..=4 {
        let frame = encode_response(version, 5, &api_versions()).unwrap().concat();
        let mut decoder = Decoder::new(&frame[8..]);
        let response = ApiVersionsResponse::decode(&mut decoder, version).unwrap();
        assert_eq!(decoder.finish(), Ok(()));
        assert_eq!(response.api_keys.len(), APIS.len());
    }
}

#[test]
fn the_advertised_table_is_the_served_one_but_for_produce() {
    for (row, api) in api_versions().api_keys.iter().zip(APIS) {
        assert_eq!(Api::by_key(row.api_key), Some(api));
        assert_eq!(row.max_version, api.version_max);
        let expected_min = if api.key == ApiKey::Produce { 0 } else { api.version_min };
        assert_eq!(row.min_version, expected_min, "{}", api.name);
    }
    assert!(!Api::by_key(0).unwrap().serves(2) && Api::by_key(0).unwrap().serves(3));
}

#[test]
fn requests_that_are_not_served_are_told_apart() {
    let decode = |bytes: &[u8]| RequestHeader::decode(&mut Decoder::new(bytes)).map(|_| ());
    assert_eq!(
        decode(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1]),
        Err(RequestError::UnknownApi { api_key: 0x7fff })
    );
    let api = Api::by_key(18).unwrap();
    // The rest of the header is not even there.
    assert_eq!(
        decode(&[0, 18, 0, 99, 0, 0, 0, 7]),
        Err(RequestError::UnsupportedVersion {
            api,
            api_version: 99,
            correlation_id: 7
        })
    );
    assert!(matches!(
        decode(&[0, 0, 0, 2, 0, 0, 0, 7]),
        Err(RequestError::UnsupportedVersion { .. })
    ));
    assert!(matches!(decode(&[0, 18, 0]), Err(RequestError::Malformed(_))));

    let frame = encode_response(0, 7, &unsupported_api_versions()).unwrap().concat();
    assert_eq!(frame, b"\0\0\0\x10\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04");
}

#[test]
fn frames_are_found_in_a_stream() {
    let stream = b"\0\0\0\x03abc\0\0\0\0rest";
    for have in 0..7 {
        let missing = if have < 4 { 4 - have } else { 7 - have };
        assert_eq!(
            Protocol::Kafka.next_frame(&stream[..have], 100),
            Ok(Framing::NeedsMore(missing)),
            "{have} bytes"
        );
    }
    assert_eq!(Protocol::Kafka.next_frame(stream, 100), Ok(Framing::Frame { end: 7 }));
    assert_eq!(
        Protocol::Kafka.next_frame(&stream[7..], 100),
        Ok(Framing::Frame { end: 4 })
    );
    assert_eq!(Protocol::Kafka.next_frame(stream, 3), Ok(Framing::Frame { end: 7 }));
    assert_eq!(
        Protocol::Kafka.next_frame(stream, 2),
        Err(FrameError::TooLong { bytes: 3, bytes_max: 2 })
    );
    assert_eq!(
        Protocol::Kafka.next_frame(b"\xff\xff\xff\xff", 100),
        Err(FrameError::Negative(-1))
    );
    assert_eq!(
        Protocol::Kafka.next_frame(b"\x7f\xff\xff\xff", 100 << 20),
        Err(FrameError::TooLong {
            bytes: i32::MAX as usize,
            bytes_max: 100 << 20
        })
    );
}

/// The answer to a fetch of one partition.
fn fetched(records: Records<'_>) -> FetchResponse<'_> {
    let partition = PartitionData {
        records: Some(records),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        partitions: vec![partition].into(),
        ..Default::default()
    };
    FetchResponse {
        responses: vec![topic].into(),
        ..Default::default()
    }
}

#[test]
fn payload_buffers_are_sent_as_they_are() {
    let pieces = [Bytes::from(vec![1; 5000]), Bytes::from(vec![2; 3]), Bytes::new()];
    let response = fetched(pieces.to_vec().into());
    for version in 4..=18 {
        let frame = encode_response(version, 1, &response).unwrap();
        // In front, the two payloads, and behind where a flexible version has tag sections.
        assert_eq!(frame.len(), if version >= 12 { 4 } else { 3 });
        for (sent, piece) in frame[1..3].iter().zip(&pieces) {
            assert_eq!(sent.as_ptr(), piece.as_ptr());
            assert_eq!(sent.len(), piece.len());
        }
        let bytes = frame.concat();
        assert_eq!(
            Protocol::Kafka.next_frame(&bytes, usize::MAX),
            Ok(Framing::Frame { end: bytes.len() })
        );
    }
}

/// Their length counts in the frame, and nothing but a connection takes them.
#[test]
fn what_is_pinned_has_its_place_between_the_bytes() {
    let pinned = |bytes| Pinned::new(bytes, Arc::new(()));
    let response = fetched(Records::Pinned(vec![pinned(5000), pinned(0), pinned(7)]));
    for version in 4..=18 {
        let frame = Measured::response(version, 1, &response).unwrap().encode().unwrap();
        assert_eq!(frame.len(), if version >= 12 { 4 } else { 3 });
        let Piece::Bytes(first) = &frame[0] else {
            panic!("a frame begins with bytes")
        };
        let bytes: usize = frame.iter().map(Piece::len).sum();
        assert_eq!(first[..4], (bytes as u32 - 4).to_be_bytes());
        assert!(
            matches!(&frame[1..3], [Piece::Pinned(one), Piece::Pinned(two)] if (one.len(), two.len()) == (5000, 7))
        );
        let error = encode_response(version, 1, &response).unwrap_err();
        assert_eq!(error.kind, EncodeErrorKind::Pinned);
    }
}

#[test]
fn decoded_records_lie_in_the_frame() {
    let partition = PartitionProduceData {
        index: 3,
        records: Some(Bytes::from_static(b"batch").into()),
    };
    let topic = TopicProduceData {
        partition_data: vec![partition].into(),
        ..Default::default()
    };
    let request = ProduceRequest {
        topic_data: vec![topic].into(),
        ..Default::default()
    };
    let frame = Bytes::from(encode_request(&request_header(0, 13, None), &request).unwrap().concat());
    let mut decoder = Decoder::new(&frame[4..]);
    RequestHeader::decode(&mut decoder).unwrap();
    let request = ProduceRequest::decode(&mut decoder, 13).unwrap();
    for topic in request.topic_data.iter() {
        for partition in topic.partition_data.iter() {
            let records = partition.records.and_then(|records| records.as_wire()).unwrap();
            assert_eq!(frame.slice_ref(records), &b"batch"[..]);
        }
    }
}

#[test]
fn what_cannot_be_encoded_is_an_error_not_a_lie() {
    let long = "x".repeat(STRING_BYTES_MAX + 1);
    let header = request_header(3, 9, Some(&long));
    let error = encode_request(&header, &MetadataRequest::default()).unwrap_err();
    assert_eq!(
        error,
        EncodeError {
            kind: EncodeErrorKind::TooLong,
            field: "client_id"
        }
    );
    let all_topics = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let error = encode_request(&request_header(3, 0, None), &all_topics).unwrap_err();
    assert_eq!(
        error,
        EncodeError {
            kind: EncodeErrorKind::NullNotAllowed,
            field: "topics"
        }
    );
}
