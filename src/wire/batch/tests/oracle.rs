//! Both directions against the crate `kafka-protocol`, whose lz4 is the C library's; and golden bytes.

use super::*;
use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as OracleRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType as OracleTimestampType,
};

fn oracle_codec(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

/// `count` records of sizes from nothing to beyond every codec's block.
fn oracle_records(count: i64) -> Vec<OracleRecord> {
    (0..count)
        .map(|n| {
            let noise = (n as u32).wrapping_mul(2_654_435_761);
            let length = [0, 1, 130, 5_000, 70_000][n as usize % 5];
            let value: Vec<u8> = (0..length)
                .map(|i| ((i as u32 / 7).wrapping_mul(noise) >> 13) as u8)
                .collect();
            let mut headers = IndexMap::new();
            for h in 0..n % 3 {
                let value = (h == 0).then(|| Bytes::from_static(b"header value"));
                headers.insert(StrBytes::from_string(format!("header-{h}")), value);
            }
            OracleRecord {
                transactional: true,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 7,
                producer_id: 4_000,
                producer_epoch: 2,
                timestamp_type: OracleTimestampType::Creation,
                offset: n,
                sequence: 30 + n as i32,
                timestamp: 1_700_000_000_000 + i64::from(noise % 1_000) - 500,
                key: (n % 4 != 0).then(|| Bytes::from(format!("key-{n}"))),
                value: (n % 6 != 5).then(|| Bytes::from(value)),
                headers,
            }
        })
        .collect()
}

fn assert_same(ours: &Record<'_>, theirs: &OracleRecord) {
    assert_eq!((ours.offset, ours.timestamp), (theirs.offset, theirs.timestamp));
    assert_eq!((ours.key, ours.value), (theirs.key.as_deref(), theirs.value.as_deref()));
    let headers: Vec<_> = ours
        .headers()
        .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
        .collect();
    let expected: Vec<_> = theirs
        .headers
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_ref().map(|value| value.to_vec())))
        .collect();
    assert_eq!(headers, expected);
}

#[test]
fn batches_of_the_oracle_are_read() {
    let decode = DecodeLimits::default();
    for codec in Codec::ALL {
        let records = oracle_records(40);
        let mut buffer = BytesMut::new();
        let options = RecordEncodeOptions {
            version: 2,
            compression: oracle_codec(codec),
        };
        RecordBatchEncoder::encode(&mut buffer, &records, &options).unwrap();
        let valid = validate_produce(&buffer, &limits()).unwrap();
        let header = *valid.header();
        assert_eq!(header.codec(), Ok(codec));
        assert_eq!(
            (header.producer_id(), header.producer_epoch(), header.base_sequence()),
            (4_000, 2, 30)
        );
        assert_eq!((header.partition_leader_epoch(), header.is_transactional()), (7, true));
        assert_eq!(valid.summary().unwrap().timestamp_max, header.max_timestamp());

        let mut streamed = RecordReader::new(&header, &buffer, &decode).unwrap();
        let payload = unpack(&header, &buffer, &decode).unwrap();
        let mut whole = RecordIter::new(&header, &payload).unwrap();
        let mut heads = RecordReader::new(&header, &buffer, &decode).unwrap();
        for record in &records {
            assert_same(&streamed.next_record().unwrap().unwrap(), record);
            assert_same(&whole.next().unwrap().unwrap(), record);
            let head = heads.next_head().unwrap().unwrap();
            assert_eq!((head.offset, head.timestamp), (record.offset, record.timestamp));
            assert_eq!(
                (head.has_key, head.has_value),
                (record.key.is_some(), record.value.is_some())
            );
        }
        assert_eq!(streamed.next_record(), Ok(None));
        assert_eq!(heads.next_head(), Ok(None));
        assert!(whole.next().is_none());
    }
}

#[test]
fn our_batches_are_read_by_the_oracle() {
    for codec in Codec::ALL {
        let records = oracle_records(40);
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            leader_epoch: 7,
            producer_id: 4_000,
            producer_epoch: 2,
            base_sequence: 30,
            transactional: true,
            ..Default::default()
        });
        for record in &records {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|(key, value)| Header {
                    key: key.as_bytes(),
                    value: value.as_deref(),
                })
                .collect();
            builder
                .push(
                    record.timestamp,
                    record.key.as_deref(),
                    record.value.as_deref(),
                    &headers,
                )
                .unwrap();
        }
        let mut bytes = Bytes::copy_from_slice(builder.finish().unwrap());
        assert!(validate_produce(&bytes, &limits()).is_ok());
        let decoded = RecordBatchDecoder::decode(&mut bytes).unwrap();
        assert_eq!(decoded.compression, oracle_codec(codec));
        assert_eq!(decoded.records, records, "{codec:?}");
    }
}

#[test]
fn uncompressed_batches_equal_the_oracle_byte_for_byte() {
    let mut records = oracle_records(12);
    let first = records[0].timestamp;
    records
        .iter_mut()
        .for_each(|record| record.timestamp = first + record.offset); // the oracle's base is the least
    let mut expected = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut expected, &records, &options).unwrap();
    let mut builder = BatchBuilder::new(BatchOptions {
        leader_epoch: 7,
        producer_id: 4_000,
        producer_epoch: 2,
        base_sequence: 30,
        transactional: true,
        ..Default::default()
    });
    for record in &records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header {
                key: key.as_bytes(),
                value: value.as_deref(),
            })
            .collect();
        builder
            .push(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            )
            .unwrap();
    }
    assert_eq!(builder.finish().unwrap(), &expected[..]);
}

#[test]
fn bytes_on_the_wire_do_not_change() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder
        .push(
            1_000,
            Some(b"k"),
            Some(b"v1"),
            &[Header {
                key: b"h",
                value: Some(b"x"),
            }],
        )
        .unwrap();
    builder.push(1_001, None, Some(b"v2"), &[]).unwrap();
    let hex: String = builder
        .finish()
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = [
        "0000000000000000", // base offset
        "00000048",         // batch length
        "ffffffff",         // leader epoch
        "02",               // magic
        "57d462d1",         // CRC-32C
        "0000",             // attributes
        "00000001",         // last offset delta
        "00000000000003e8", // base timestamp
        "00000000000003e9", // max timestamp
        "ffffffffffffffff", // producer id
        "ffff",             // producer epoch
        "ffffffff",         // base sequence
        "00000002",         // record count
        "1a000000026b0476310202680278",
        "100002020104763200",
    ];
    assert_eq!(hex, expected.concat());
}

#[test]
fn bare_snappy_and_every_lz4_frame_are_read() {
    let plain = sample(BatchOptions::default());
    let payload = &plain[HEADER_BYTES..];
    let expected = RecordIter::new(&BatchHeader::parse(&plain).unwrap(), payload)
        .unwrap()
        .count();
    let mut payloads = vec![(Codec::Snappy, snap::raw::Encoder::new().compress_vec(payload).unwrap())];
    for (size, linked, sums) in [(4, false, true), (5, true, false), (6, true, true), (7, false, false)] {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        let size = [
            BlockSize::Max64KB,
            BlockSize::Max256KB,
            BlockSize::Max1MB,
            BlockSize::Max4MB,
        ][size - 4];
        let info = FrameInfo::new()
            .block_size(size)
            .block_mode(if linked {
                BlockMode::Linked
            } else {
                BlockMode::Independent
            })
            .block_checksums(sums)
            .content_checksum(sums)
            .content_size(sums.then_some(payload.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        std::io::Write::write_all(&mut encoder, payload).unwrap();
        payloads.push((Codec::Lz4, encoder.finish().unwrap()));
    }
    for (codec, packed) in payloads {
        let batch = with_payload(&plain, codec, &packed);
        let valid = validate_produce(&batch, &limits()).unwrap();
        let unpacked = unpack(valid.header(), &batch, &DecodeLimits::default()).unwrap();
        assert_eq!(&unpacked[..], payload, "{codec:?}");
        assert_eq!(RecordIter::new(valid.header(), &unpacked).unwrap().count(), expected);
    }
}

#[test]
fn linked_lz4_blocks_reach_back_across_blocks() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for n in 0..3_000u32 {
        let value: Vec<u8> = (0..100u32).map(|i| (i.wrapping_mul(n % 50) >> 2) as u8).collect();
        builder.push(0, None, Some(&value), &[]).unwrap();
    }
    let plain = builder.finish().unwrap().to_vec();
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Linked);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    std::io::Write::write_all(&mut encoder, &plain[HEADER_BYTES..]).unwrap();
    let batch = with_payload(&plain, Codec::Lz4, &encoder.finish().unwrap());
    let valid = validate_produce(&batch, &limits()).unwrap();
    assert_eq!(
        unpack(valid.header(), &batch, &DecodeLimits::default()).unwrap(),
        &plain[HEADER_BYTES..]
    );
}
