//! Damage and malice: truncations, flipped bits, lying counts, bombs. Nothing panics, every answer is an error or a sound batch.

use super::*;

const SMALL: DecodeLimits = DecodeLimits {
    decompressed_bytes_max: 1 << 20,
    ratio_max: 1024,
    zstd_window_log_max: 23,
};

/// Runs everything that reads a batch; the records it gave, or the first error.
fn exercise(batch: &[u8]) -> Result<usize, BatchError> {
    let _ = scan(batch, SCAN).count();
    let _ = offset_for_time(batch, 1_005, 0, &SMALL);
    let _ = max_timestamp_offset(batch, &SMALL);
    let header = BatchHeader::parse(batch)?;
    let mut heads = RecordReader::new(&header, batch, &SMALL)?;
    let mut head_count = 0;
    let heads_end = loop {
        match heads.next_head() {
            Ok(Some(_)) => head_count += 1,
            Ok(None) => break Ok(head_count),
            Err(error) => break Err(error),
        }
    };
    let mut records = RecordReader::new(&header, batch, &SMALL)?;
    let mut record_count = 0;
    let records_end = loop {
        match records.next_record() {
            Ok(Some(record)) => {
                let _ = record.headers().count();
                record_count += 1;
            }
            Ok(None) => break Ok(record_count),
            Err(error) => break Err(error),
        }
    };
    assert_eq!(head_count, record_count, "both readers accept the same records");
    assert_eq!(heads_end.is_ok(), records_end.is_ok(), "{heads_end:?} {records_end:?}");
    assert_eq!(records.next_record(), Ok(None), "a failed reader is over");
    if let Ok(payload) = unpack(&header, batch, &SMALL) {
        let whole = RecordIter::new(&header, &payload)?.filter(Result::is_ok).count();
        assert_eq!(whole, record_count);
    }
    records_end
}

#[test]
fn every_truncation_is_refused() {
    for codec in Codec::ALL {
        let batch = sample(with_codec(codec));
        for end in 0..batch.len() {
            let error = validate_produce(&batch[..end], &limits()).unwrap_err();
            assert!(
                matches!(error, BatchError::Incomplete { bytes_found, .. } if bytes_found == end),
                "{error}"
            );
            assert!(exercise(&batch[..end]).is_err());
            // The same cut with a header that agrees: the records must notice.
            if end >= HEADER_BYTES {
                let resealed = with_payload(&batch, codec, &batch[HEADER_BYTES..end]);
                let verdict = validate_produce(&resealed, &limits());
                assert!(verdict.is_err(), "{codec:?} cut to {end}");
                assert!(exercise(&resealed).is_err());
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    for codec in Codec::ALL {
        let batch = sample(with_codec(codec));
        for bit in 0..batch.len() * 8 {
            let mut damaged = batch.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let outside_crc = (field::LEADER_EPOCH * 8..field::MAGIC * 8).contains(&bit);
            assert_eq!(
                validate_produce(&damaged, &limits()).is_ok(),
                outside_crc,
                "{codec:?} bit {bit}"
            );
            let _ = exercise(&damaged);
            // With a CRC that agrees the damage is in reach of every parser.
            reseal(&mut damaged);
            let verdict = validate_produce(&damaged, &limits());
            let read = exercise(&damaged);
            if let Ok(valid) = verdict {
                assert_eq!(read, Ok(valid.header().record_count() as usize));
            }
        }
    }
}

#[test]
fn lying_counts_are_refused() {
    for codec in Codec::ALL {
        for count in [0, 1, 9, 11, i32::MAX, -1, i32::MIN] {
            let mut batch = sample(with_codec(codec));
            batch[field::RECORD_COUNT..][..4].copy_from_slice(&count.to_be_bytes());
            batch[field::LAST_OFFSET_DELTA..][..4].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
            reseal(&mut batch);
            let header_only = Limits {
                records: RecordChecks::HeaderOnly,
                ..limits()
            };
            let plausible = (1..i32::MAX).contains(&count);
            assert_eq!(validate_produce(&batch, &header_only).is_ok(), plausible, "{count}");
            assert!(validate_produce(&batch, &limits()).is_err(), "{codec:?} {count}");
            assert!(exercise(&batch).is_err());
        }
    }
}

/// What no payload has room for is refused by the header alone, and the smallest records there are fit exactly.
#[test]
fn a_batch_claims_no_more_records_than_its_bytes_can_hold() {
    const COUNT: i32 = 200_000;
    let header_only = Limits {
        records: RecordChecks::HeaderOnly,
        ..limits()
    };
    let claim = |batch: &[u8], count: i32| {
        let mut batch = batch.to_vec();
        batch[field::RECORD_COUNT..][..4].copy_from_slice(&count.to_be_bytes());
        batch[field::LAST_OFFSET_DELTA..][..4].copy_from_slice(&(count - 1).to_be_bytes());
        reseal(&mut batch);
        validate_produce(&batch, &header_only).map(|valid| valid.header().record_count())
    };
    let smallest = one_record(&[12, 0, 0, 0, 1, 1, 0]);
    assert_eq!(claim(&smallest, 1), Ok(1));
    let refused = claim(&smallest, 2).unwrap_err();
    assert_eq!(
        refused,
        BatchError::RecordRoom {
            record_count: 2,
            record_count_max: 1
        }
    );
    assert_eq!(refused.class(), ErrorClass::InvalidRecord);
    for codec in Codec::ALL {
        // As equal as records get: what a codec makes smallest.
        let mut builder = BatchBuilder::new(with_codec(codec));
        let count = if codec == Codec::None { 50_000 } else { COUNT };
        for _ in 0..count {
            builder.push(0, None, None, &[]).unwrap();
        }
        let batch = builder.finish().unwrap();
        assert_eq!(claim(batch, count), Ok(count), "{codec:?}");
        assert!(claim(batch, i32::MAX).is_err(), "{codec:?}");
    }
    // A repeated byte is where a codec reaches its ratio; no record count is refused that its bytes could hold.
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(with_codec(codec));
        builder.push(0, None, Some(&vec![0; 8 << 20]), &[]).unwrap();
        let batch = builder.finish().unwrap();
        assert_eq!(claim(batch, (8 << 20) / 7), Ok((8 << 20) / 7), "{codec:?}");
    }
}

fn one_record(body: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, None, &[]).unwrap();
    let plain = builder.finish().unwrap().to_vec();
    with_payload(&plain, Codec::None, body)
}

#[test]
fn malformed_records_have_typed_faults() {
    const FF: u8 = 0xff;
    let cases: [(&[u8], RecordFault); 12] = [
        (&[12, 0, 0, 0, 1, 1], RecordFault::Truncated),
        (&[FF, FF, FF, FF, FF, 1], RecordFault::Varint),
        (&[1], RecordFault::Varint),
        (&[12, 0, 0, 0, 3, 1, 0], RecordFault::Varint),
        (&[12, 0, 0, 0, 1, 1, 1], RecordFault::Varint),
        (&[14, 0, 0, 0, 1, 1, 0, 0], RecordFault::Length),
        (&[12, 0, 0, 2, 1, 1, 0], RecordFault::OffsetDelta(1)),
        (&[12, 0, 0, 1, 1, 1, 0], RecordFault::OffsetDelta(-1)),
        (&[12, 0, 0, 0, 1, 1, 0, 0], RecordFault::Trailing),
        (&[14, 0, 0, 0, 1, 1, 2, 1], RecordFault::Varint),
        (
            &[26, 0, FF, FF, FF, FF, FF, FF, FF, FF, FF, 3, 0, 1],
            RecordFault::Varint,
        ),
        (&[22, 0, 0, FF, FF, FF, FF, FF, 1, 1, 1, 0], RecordFault::Varint),
    ];
    for (body, fault) in cases {
        let error = validate_produce(&one_record(body), &limits()).unwrap_err();
        assert!(
            matches!(error, BatchError::Record { fault: found, .. } if found == fault),
            "{body:?}: {error:?}"
        );
        assert!(exercise(&one_record(body)).is_err());
    }
    assert!(validate_produce(&one_record(&[12, 0, 0, 0, 1, 1, 0]), &limits()).is_ok());
}

#[test]
fn timestamps_that_overflow_are_refused() {
    let mut batch = sample(BatchOptions::default());
    batch[field::BASE_TIMESTAMP..][..8].copy_from_slice(&i64::MAX.to_be_bytes());
    reseal(&mut batch);
    let error = validate_produce(&batch, &limits()).unwrap_err();
    assert_eq!(
        error,
        BatchError::Record {
            index: 4,
            fault: RecordFault::Timestamp
        }
    );
}

#[test]
fn bombs_are_cut_off() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, Some(&vec![0; 64 << 20]), &[]).unwrap();
    let payload = builder.finish().unwrap()[HEADER_BYTES..].to_vec();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        builder.options_mut().codec = codec;
        builder.push(0, None, Some(&payload[20..]), &[]).unwrap();
        let batch = builder.finish().unwrap();
        let header = BatchHeader::parse(batch).unwrap();
        let mut reader = RecordReader::new(&header, batch, &SMALL).unwrap();
        let limit = BatchError::Record {
            index: 0,
            fault: RecordFault::DecompressionLimit,
        };
        assert_eq!(reader.next_record().unwrap_err(), limit, "{codec:?}");
        assert!(reader.decompressed_bytes() <= SMALL.decompressed_bytes_max + (16 << 10));
        assert_eq!(
            check_records(&header, batch, &SMALL, &TimestampRule::ANY, false).unwrap_err(),
            limit
        );
    }
    let ratio = DecodeLimits {
        decompressed_bytes_max: u64::MAX,
        ratio_max: 1024,
        zstd_window_log_max: 23,
    };
    builder.options_mut().codec = Codec::Zstd;
    builder.push(0, None, Some(&payload), &[]).unwrap();
    let batch = builder.finish().unwrap();
    assert!(batch.len() < 8 << 10, "64 MiB of zeros in {} bytes", batch.len());
    let header = BatchHeader::parse(batch).unwrap();
    let error = check_records(&header, batch, &ratio, &TimestampRule::ANY, false).unwrap_err();
    assert_eq!(
        error,
        BatchError::Record {
            index: 0,
            fault: RecordFault::DecompressionLimit
        }
    );
}

#[test]
fn the_cost_of_a_walk_is_counted_whatever_its_verdict() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, Some(&vec![0; 1 << 20]), &[]).unwrap();
    let plain = builder.finish().unwrap().to_vec();
    let keyed = Limits {
        records: RecordChecks::StructureAndKeys,
        batch_bytes_max: 2 << 20,
        ..limits()
    };
    let cost = |payload: &[u8], codec| {
        let mut packed = Vec::new();
        codec::Encoder::default().compress(codec, payload, &mut packed).unwrap();
        let mut spent = 0;
        let batch = with_payload(&plain, codec, &packed);
        assert!(validate_produce_counted(&batch, &keyed, &mut spent).is_err());
        spent
    };
    // A record without a key shows when it is read; one of length 0 at once, when a block is decompressed.
    let zeros = vec![0; 1 << 20];
    for (codec, block_bytes) in [
        (Codec::Gzip, 1),
        (Codec::Snappy, 32 << 10),
        (Codec::Lz4, 64 << 10),
        (Codec::Zstd, 128 << 10),
    ] {
        assert!(cost(&plain[HEADER_BYTES..], codec) >= 1 << 20, "{codec:?}");
        let early = cost(&zeros, codec);
        assert!((block_bytes..512 << 10).contains(&early), "{codec:?}: {early}");
    }
    assert_eq!(cost(&plain[HEADER_BYTES..], Codec::None), 0);

    let packed = sample(with_codec(Codec::Zstd));
    let mut spent = 7;
    let valid = validate_produce_counted(&packed, &limits(), &mut spent).unwrap();
    assert_eq!(spent, 7 + valid.summary().unwrap().decompressed_bytes);
}

#[test]
fn random_payloads_behind_good_headers_are_survived() {
    let plain = sample(BatchOptions::default());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000 {
        let codec = Codec::ALL[round % 5];
        let mut payload = sample_payload(codec, &plain);
        for _ in 0..1 + random() % 4 {
            let at = (random() as usize) % payload.len();
            match random() % 3 {
                0 => payload[at] = random() as u8,
                1 => payload.truncate(at.max(1)),
                _ => payload[at] ^= 1 << (random() % 8),
            }
        }
        let _ = exercise(&with_payload(&plain, codec, &payload));
    }
}

fn sample_payload(codec: Codec, plain: &[u8]) -> Vec<u8> {
    if codec == Codec::None {
        return plain[HEADER_BYTES..].to_vec();
    }
    thread_local!(static PACKED: Vec<Vec<u8>> = Codec::ALL.iter().map(|&codec| sample(with_codec(codec))).collect());
    PACKED.with(|packed| packed[codec as usize][HEADER_BYTES..].to_vec())
}
