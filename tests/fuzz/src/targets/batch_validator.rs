//! Any bytes as a produced batch and as a stretch of log. The first byte chooses: bit 0 makes length, magic and CRC right, so that the
//! rest is reached; bits 1 and 2 choose the record checks; bit 3 LogAppendTime, else
//! bit 4 bounds for the producer's times; bit 5 forbids zstd; bit 6 bounds the batch.

use super::memory::peak_bytes;
use ringtail::wire::batch::{
    BatchHeader, DecodeLimits, HEADER_BYTES, Limits, RecordChecks, RecordIter, RecordReader, ScanOptions,
    TimestampRule, TimestampType, ValidBatch, check_records, max_timestamp_offset, offset_for_time, patch,
    patch_append_time, scan, unpack, validate_produce,
};

const BATCH_BYTES_MAX: usize = 1 << 20;
const DECODE: DecodeLimits = DecodeLimits {
    decompressed_bytes_max: 256 << 10,
    ratio_max: 1024,
    zstd_window_log_max: 20,
};
const SCAN: ScanOptions = ScanOptions {
    crc_check: true,
    batch_bytes_max: BATCH_BYTES_MAX,
};

pub fn run(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else {
        return;
    };
    let mut batch = bytes.to_vec();
    if mode & 1 != 0 && batch.len() >= HEADER_BYTES {
        make_right(&mut batch);
    }
    let records = match mode >> 1 & 3 {
        0 => RecordChecks::HeaderOnly,
        1 => RecordChecks::Structure,
        _ => RecordChecks::StructureAndKeys,
    };
    let append_time = mode & 8 != 0;
    let timestamp = match (append_time, mode & 0x10 != 0) {
        (true, _) => TimestampRule::LogAppendTime,
        (false, false) => TimestampRule::ANY,
        (false, true) => TimestampRule::CreateTime {
            now_ms: 1_001,
            before_ms_max: 1,
            after_ms_max: 1,
        },
    };
    let limits = Limits {
        batch_bytes_max: if mode & 0x40 == 0 { BATCH_BYTES_MAX } else { 100 },
        timestamp,
        records,
        zstd_allowed: mode & 0x20 == 0,
        decode: DECODE,
    };

    // lz4 blocks expand 255 times at most; the rest is a codec's state. (zstd's is the C library's, uncounted and bounded by its window.)
    let walk_bytes_max = 256 * batch.len() + (192 << 10);
    let (bytes, verdict) = peak_bytes(|| validate_produce(&batch, &limits));
    assert!(bytes <= walk_bytes_max, "{bytes} bytes to validate {}", batch.len());
    let counted = read_everything(&batch, walk_bytes_max);
    if let Ok(valid) = verdict {
        assert_eq!(valid.bytes(), batch);
        assert_eq!(valid.summary().is_some(), records != RecordChecks::HeaderOnly);
        if let Some(summary) = valid.summary() {
            let checked = check_records(valid.header(), &batch, &DECODE, &timestamp, false);
            assert_eq!(checked.map(|again| again.timestamp_max), Ok(summary.timestamp_max));
            assert_eq!(
                counted,
                Some(valid.header().record_count()),
                "a walked batch can be read"
            );
        }
        append(&valid, append_time);
    }
}

fn make_right(batch: &mut [u8]) {
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A valid batch, once stored, is a log of one batch whose CRC holds and whose offsets follow from where it was put.
fn append(valid: &ValidBatch<'_>, append_time: bool) {
    let mut stored = valid.bytes().to_vec();
    if append_time {
        patch_append_time(&mut stored[..HEADER_BYTES], 1_700_000_000_000);
    }
    patch(&mut stored[..HEADER_BYTES], 1 << 40, 9);
    let mut log = scan(&stored, SCAN);
    let header = log.next().expect("one batch").expect("a stored batch is whole").header;
    assert!(log.next().is_none());
    assert_eq!(log.position(), stored.len());
    assert_eq!(header.partition_leader_epoch(), 9);
    assert_eq!(header.attributes().to_be_bytes(), stored[21..23]);
    assert_eq!(header.producer_id(), valid.header().producer_id());
    assert_eq!(header.last_sequence(), valid.header().last_sequence());
    assert!(header.last_sequence() >= 0 || header.base_sequence() < 0);
    assert_eq!(header.next_offset(), (1 << 40) + i64::from(header.record_count()));
    assert_eq!(header.timestamp_type() == TimestampType::LogAppendTime, append_time);
}

/// Every reader over the bytes; the number of records if they all could be read.
fn read_everything(batch: &[u8], walk_bytes_max: usize) -> Option<i32> {
    let _ = scan(batch, SCAN).count();
    let (bytes, _) = peak_bytes(|| {
        let _ = offset_for_time(batch, 1_000, 3, &DECODE);
        let _ = max_timestamp_offset(batch, &DECODE);
    });
    assert!(
        bytes <= walk_bytes_max,
        "{bytes} bytes to look times up in {}",
        batch.len()
    );
    let header = BatchHeader::parse(batch).ok()?;
    let mut heads = RecordReader::new(&header, batch, &DECODE).ok()?;
    let mut records = RecordReader::new(&header, batch, &DECODE).ok()?;
    let mut count = 0;
    let sound = loop {
        match heads.next_head() {
            Ok(Some(head)) => {
                let record = records
                    .next_record()
                    .expect("both readers agree")
                    .expect("on the number of records too");
                assert_eq!((record.offset, record.timestamp), (head.offset, head.timestamp));
                assert_eq!(
                    (record.key.is_some(), record.value.is_some()),
                    (head.has_key, head.has_value)
                );
                let _ = record.headers().map(|header| header.key.len()).sum::<usize>();
                count += 1;
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    match records.next_record() {
        Ok(end) => assert!(sound && end.is_none(), "both readers agree on the end"),
        Err(_) => assert!(!sound, "both readers agree on the end"),
    }
    if let Ok(payload) = unpack(&header, batch, &DECODE) {
        let whole = RecordIter::new(&header, &payload)
            .expect("the reader took the header")
            .filter(Result::is_ok)
            .count();
        assert_eq!(whole, count as usize);
    }
    sound.then_some(count)
}
