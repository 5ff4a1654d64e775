//! Headers, verdicts, patches, scans and look-ups on well-formed and slightly wrong batches.

use super::*;

#[test]
fn header_reads_what_the_builder_wrote() {
    let options = BatchOptions {
        base_offset: 77,
        leader_epoch: 5,
        producer_id: 9,
        producer_epoch: 3,
        base_sequence: i32::MAX - 4,
        transactional: true,
        ..Default::default()
    };
    let batch = sample(options);
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        (header.base_offset(), header.last_offset(), header.next_offset()),
        (77, 86, 87)
    );
    assert_eq!(
        (header.total_bytes(), header.batch_length()),
        (batch.len(), batch.len() - 12)
    );
    assert_eq!(
        (
            header.partition_leader_epoch(),
            header.record_count(),
            header.last_offset_delta()
        ),
        (5, 10, 9)
    );
    assert_eq!(
        (header.producer_id(), header.producer_epoch(), header.base_sequence()),
        (9, 3, i32::MAX - 4)
    );
    assert_eq!(header.last_sequence(), 4, "sequences wrap to 0 after the greatest");
    assert_eq!((header.base_timestamp(), header.max_timestamp()), (1_003, 1_011));
    assert!(header.is_transactional() && !header.is_control() && header.delete_horizon_ms().is_none());
    assert_eq!(header.codec(), Ok(Codec::None));
}

#[test]
fn a_crc_goes_on_over_a_batch_by_the_crc_that_it_carries() {
    for (base_offset, leader_epoch) in [(0, 0), (77, 5), (i64::MAX - 100, -1)] {
        let mut batch = sample(BatchOptions {
            base_offset,
            ..Default::default()
        });
        patch(&mut batch, base_offset, leader_epoch);
        let header = BatchHeader::parse(&batch).unwrap();
        for before in [0, 1, u32::MAX] {
            assert_eq!(header.extend_crc(before), crc32c::crc32c_append(before, &batch));
        }
    }
}

#[test]
fn offsets_that_overflow_are_no_header() {
    let mut batch = sample(BatchOptions::default());
    let mut put = |base: i64, delta: i32| {
        batch[field::BASE_OFFSET..][..8].copy_from_slice(&base.to_be_bytes());
        batch[field::LAST_OFFSET_DELTA..][..4].copy_from_slice(&delta.to_be_bytes());
        BatchHeader::parse(&batch).map(|header| header.next_offset())
    };
    assert_eq!(put(i64::MAX - 10, 9), Ok(i64::MAX));
    for (base, delta) in [
        (i64::MAX - 10, 10),
        (i64::MAX, 0),
        (i64::MAX, i32::MAX),
        (-1, 5),
        (i64::MIN, -1),
        (4, -1),
    ] {
        let error = HeaderError::Offsets {
            base_offset: base,
            last_offset_delta: delta,
        };
        assert_eq!(put(base, delta), Err(error));
    }
}

#[test]
fn each_rule_has_its_own_error() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change, ErrorClass); 14] = [
        ("magic", |b| b[field::MAGIC] = 1, ErrorClass::InvalidRecord),
        ("no magic", |b| b[field::MAGIC] = 3, ErrorClass::Corrupt),
        ("crc", |b| b[field::CRC] ^= 1, ErrorClass::Corrupt),
        (
            "length",
            |b| b[field::BATCH_LENGTH..][..4].copy_from_slice(&48i32.to_be_bytes()),
            ErrorClass::Corrupt,
        ),
        ("base offset", |b| b[7] = 1, ErrorClass::InvalidRecord),
        ("count", |b| b[field::RECORD_COUNT + 3] = 9, ErrorClass::InvalidRecord),
        (
            "control",
            |b| b[field::ATTRIBUTES + 1] |= 0x20,
            ErrorClass::InvalidRecord,
        ),
        (
            "sequence",
            |b| b[field::PRODUCER_ID..][..8].fill(0),
            ErrorClass::InvalidRecord,
        ),
        (
            "transactional",
            |b| b[field::ATTRIBUTES + 1] |= 0x10,
            ErrorClass::InvalidRecord,
        ),
        (
            "append time",
            |b| b[field::ATTRIBUTES + 1] |= 0x08,
            ErrorClass::InvalidTimestamp,
        ),
        (
            "codec",
            |b| b[field::ATTRIBUTES + 1] |= 5,
            ErrorClass::UnsupportedCompression,
        ),
        ("second batch", |b| b.extend_from_within(..), ErrorClass::InvalidRecord),
        ("cut", |b| b.truncate(b.len() - 1), ErrorClass::InvalidRecord),
        ("too large", |b| b.truncate(0), ErrorClass::InvalidRecord),
    ];
    for (name, change, class) in cases {
        let mut batch = sample(BatchOptions::default());
        change(&mut batch);
        if batch.len() > HEADER_BYTES && name != "crc" {
            reseal(&mut batch);
        }
        assert_eq!(
            validate_produce(&batch, &limits()).unwrap_err().class(),
            class,
            "{name}"
        );
    }
    let batch = sample(BatchOptions::default());
    let small = Limits {
        batch_bytes_max: batch.len() - 1,
        ..limits()
    };
    assert_eq!(
        validate_produce(&batch, &small).unwrap_err().class(),
        ErrorClass::TooLarge
    );
    let exact = Limits {
        batch_bytes_max: batch.len(),
        ..limits()
    };
    assert!(validate_produce(&batch, &exact).is_ok());
    let mut unknown_bits = batch.clone();
    unknown_bits[field::ATTRIBUTES] = 0xff;
    unknown_bits[field::ATTRIBUTES + 1] |= 0x80;
    reseal(&mut unknown_bits);
    assert!(
        validate_produce(&unknown_bits, &limits()).is_ok(),
        "unknown attribute bits pass, as in Kafka"
    );
    let zstd = sample(with_codec(Codec::Zstd));
    let old = Limits {
        zstd_allowed: false,
        ..limits()
    };
    assert_eq!(validate_produce(&zstd, &old).unwrap_err(), BatchError::CodecForVersion);
}

#[test]
fn keys_and_times_are_checked_where_asked() {
    let keys = Limits {
        records: RecordChecks::StructureAndKeys,
        ..limits()
    };
    for codec in Codec::ALL {
        let batch = sample(with_codec(codec));
        assert_eq!(
            validate_produce(&batch, &keys).unwrap_err(),
            BatchError::KeyMissing { record_index: 2 }
        );
        let summary = *validate_produce(&batch, &limits()).unwrap().summary().unwrap();
        assert_eq!((summary.timestamp_max, summary.timestamp_max_offset_delta), (1_011, 8));
    }
    let bounded = |now_ms, before_ms_max, after_ms_max, records| Limits {
        timestamp: TimestampRule::CreateTime {
            now_ms,
            before_ms_max,
            after_ms_max,
        },
        records,
        ..limits()
    };
    let batch = sample(BatchOptions::default());
    assert!(validate_produce(&batch, &bounded(1_005, 5, 6, RecordChecks::Structure)).is_ok());
    let ahead = validate_produce(&batch, &bounded(1_005, 5, 5, RecordChecks::HeaderOnly)).unwrap_err();
    assert_eq!(
        ahead,
        BatchError::Timestamp {
            timestamp: 1_011,
            record_index: None
        }
    );
    // The header's base is 1003, so only the walk sees record 3's 1000.
    assert!(validate_produce(&batch, &bounded(1_005, 4, 6, RecordChecks::HeaderOnly)).is_ok());
    let behind = validate_produce(&batch, &bounded(1_005, 4, 6, RecordChecks::Structure)).unwrap_err();
    assert_eq!(
        behind,
        BatchError::Timestamp {
            timestamp: 1_000,
            record_index: Some(3)
        }
    );
    assert_eq!(behind.class(), ErrorClass::InvalidTimestamp);
    let extreme = bounded(i64::MIN, 0, 0, RecordChecks::Structure);
    assert_eq!(
        validate_produce(&batch, &extreme).unwrap_err().class(),
        ErrorClass::InvalidTimestamp
    );
}

#[test]
fn patches_keep_the_crc_true() {
    for codec in Codec::ALL {
        let mut batch = sample(with_codec(codec));
        patch(&mut batch, 1 << 40, 12);
        let scanned = scan(&batch, SCAN).next().unwrap().unwrap();
        assert_eq!(
            (scanned.header.base_offset(), scanned.header.partition_leader_epoch()),
            (1 << 40, 12)
        );

        // Only the header is at hand while the records are being copied.
        patch_append_time(&mut batch[..HEADER_BYTES], 1_700_000_000_123);
        let header = scan(&batch, SCAN).next().unwrap().unwrap().header;
        assert_eq!(header.crc(), crc32c::crc32c(&batch[field::ATTRIBUTES..]));
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        let mut reader = RecordReader::new(&header, &batch, &DecodeLimits::default()).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().timestamp, 1_700_000_000_123);
    }
}

fn stop_of(bytes: &[u8]) -> (usize, Option<ScanStop>) {
    let mut scan = scan(bytes, SCAN);
    let mut batches = 0;
    let mut stop = None;
    for item in scan.by_ref() {
        match item {
            Ok(batch) => {
                assert_eq!(batch.bytes, &bytes[batch.position..][..batch.header.total_bytes()]);
                batches += 1;
            }
            Err(reason) => stop = Some(reason),
        }
    }
    assert!(scan.next().is_none(), "a stopped scan stays stopped");
    (batches, stop)
}

#[test]
fn scan_names_where_and_why_it_stops() {
    let one = sample(BatchOptions::default());
    let mut log = [one.clone(), one.clone()].concat();
    let end = log.len();
    assert_eq!(stop_of(&log), (2, None));
    let at = |reason| Some(ScanStop { position: end, reason });
    log.extend_from_slice(&[0; 4096]);
    assert_eq!(stop_of(&log), (2, at(StopReason::Zeros)));
    assert_eq!(stop_of(&log[..end + 12]), (2, at(StopReason::Zeros)));
    let header_needed = StopReason::Incomplete {
        bytes_needed: HEADER_BYTES,
    };
    assert_eq!(
        stop_of(&log[..end + 11]),
        (2, at(header_needed)),
        "a base offset may begin with zeros"
    );

    let second = one.len();
    for cut in 1..one.len() {
        let bytes_needed = if cut < HEADER_BYTES { HEADER_BYTES } else { one.len() };
        let stop = ScanStop {
            position: second,
            reason: StopReason::Incomplete { bytes_needed },
        };
        assert_eq!(stop_of(&log[..second + cut]), (1, Some(stop)));
    }
    let damaged = |at: usize, value: u8| {
        let mut log = log[..end].to_vec();
        log[second + at] = value;
        let (batches, stop) = stop_of(&log);
        assert_eq!((batches, stop.unwrap().position), (1, second));
        stop.unwrap().reason
    };
    assert_eq!(damaged(field::MAGIC, 3), StopReason::BadMagic(3));
    assert!(
        matches!(damaged(field::BATCH_LENGTH, 0x7f), StopReason::BadLength { .. }),
        "above the limit"
    );
    assert!(matches!(damaged(field::BATCH_LENGTH, 0xff), StopReason::BadLength { declared } if declared < 0));
    assert!(matches!(
        damaged(field::BASE_OFFSET, 0x80),
        StopReason::BadOffsets { .. }
    ));
    assert!(matches!(damaged(one.len() - 1, 7), StopReason::BadCrc { .. }));
    let mut flipped = log[..end].to_vec();
    flipped[end - 1] ^= 1;
    let unchecked = ScanOptions {
        crc_check: false,
        ..SCAN
    };
    assert_eq!(scan(&flipped, unchecked).filter(|item| item.is_ok()).count(), 2);
}

#[test]
fn time_is_found_within_a_batch() {
    let decode = DecodeLimits::default();
    for codec in Codec::ALL {
        let batch = sample(BatchOptions {
            base_offset: 100,
            ..with_codec(codec)
        });
        // Timestamps by offset: 1003 1002 1001 1000 1007 1006 1005 1004 1011 1010.
        let find = |target, min| offset_for_time(&batch, target, min, &decode).unwrap();
        assert_eq!(find(0, 0), Some((1_003, 100)));
        assert_eq!(find(1_004, 0), Some((1_007, 104)));
        assert_eq!(find(1_004, 106), Some((1_005, 106)));
        assert_eq!(find(1_011, 0), Some((1_011, 108)));
        assert_eq!(find(1_011, 109), None);
        assert_eq!(find(1_012, 0), None);
        assert_eq!(find(0, 110), None);
        assert_eq!(max_timestamp_offset(&batch, &decode).unwrap(), Some((1_011, 108)));

        let mut appended = batch.clone();
        patch_append_time(&mut appended, 5_000);
        assert_eq!(
            offset_for_time(&appended, 4_999, 0, &decode).unwrap(),
            Some((5_000, 100))
        );
        assert_eq!(
            offset_for_time(&appended, 4_999, 103, &decode).unwrap(),
            Some((5_000, 103))
        );
        assert_eq!(offset_for_time(&appended, 5_001, 0, &decode).unwrap(), None);
        assert_eq!(max_timestamp_offset(&appended, &decode).unwrap(), Some((5_000, 109)));
    }
}

#[test]
fn compacted_batches_keep_their_offsets() {
    let decode = DecodeLimits::default();
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: 50,
        codec: Codec::Lz4,
        ..Default::default()
    });
    builder.push_at(3, 10, Some(b"a"), None, &[]).unwrap();
    builder.push_at(7, 12, Some(b"b"), Some(b"x"), &[]).unwrap();
    assert_eq!(builder.push_at(7, 12, None, None, &[]), Err(BuildError::OffsetDelta(7)));
    builder.extend_to(9);
    let batch = builder.finish().unwrap().to_vec();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!((header.next_offset(), header.record_count()), (60, 2));
    let payload = unpack(&header, &batch, &decode).unwrap();
    let offsets: Vec<_> = RecordIter::new(&header, &payload)
        .unwrap()
        .map(|record| record.unwrap().offset)
        .collect();
    assert_eq!(offsets, [53, 57]);
    assert!(matches!(
        validate_produce(&batch, &limits()),
        Err(BatchError::BaseOffset(50))
    ));

    builder.extend_to(4);
    let empty = builder.finish().unwrap();
    let header = BatchHeader::parse(empty).unwrap();
    assert_eq!(
        (empty.len(), header.next_offset(), header.record_count()),
        (HEADER_BYTES, 55, 0)
    );
    assert_eq!(
        RecordReader::new(&header, empty, &decode).unwrap().next_head(),
        Ok(None)
    );
}

#[test]
fn delete_horizon_takes_the_place_of_the_base_timestamp() {
    let options = BatchOptions {
        delete_horizon_ms: Some(9_000),
        ..Default::default()
    };
    let batch = sample(options);
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        (header.delete_horizon_ms(), header.max_timestamp()),
        (Some(9_000), 1_011)
    );
    let first = RecordIter::new(&header, &batch[HEADER_BYTES..])
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(first.timestamp, 1_003);
}

#[test]
fn a_builder_is_used_again() {
    let mut builder = BatchBuilder::new(with_codec(Codec::Zstd));
    let mut first = Vec::new();
    for round in 0..3 {
        builder.push(7, None, Some(b"same"), &[]).unwrap();
        assert_eq!(builder.record_count(), 1);
        let batch = builder.finish().unwrap();
        if round == 0 {
            first = batch.to_vec();
        }
        assert_eq!(batch, first);
        assert_eq!((builder.record_count(), builder.plain_bytes()), (0, HEADER_BYTES));
    }
    builder.push(0, None, None, &[]).unwrap();
    assert_eq!(builder.push(i64::MIN, None, None, &[]), Ok(()));
    assert_eq!(builder.push(5, None, None, &[]), Ok(()));
    builder.clear();
    builder.push(i64::MAX, None, None, &[]).unwrap();
    assert_eq!(builder.push(-2, None, None, &[]), Err(BuildError::Timestamp(-2)));
}
