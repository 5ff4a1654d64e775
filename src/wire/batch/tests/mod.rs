//! The batch format against an independent codec, against damage, and against its own arithmetic.

mod hostile;
mod oracle;
mod plain;

use super::*;

pub(super) const SCAN: ScanOptions = ScanOptions {
    crc_check: true,
    batch_bytes_max: 1 << 20,
};

pub(super) fn limits() -> Limits {
    Limits {
        batch_bytes_max: 1 << 20,
        timestamp: TimestampRule::ANY,
        records: RecordChecks::Structure,
        zstd_allowed: true,
        decode: DecodeLimits::default(),
    }
}

/// Ten records: keys missing and present, a tombstone, headers, timestamps out of order.
pub(super) fn sample(options: BatchOptions) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for n in 0..10u8 {
        let key = [b'k', n];
        let value = vec![b'v'; usize::from(n) * 37];
        let headers = [
            Header { key: b"h", value: None },
            Header {
                key: b"trace",
                value: Some(&key),
            },
        ];
        builder
            .push(
                1_000 + i64::from(n ^ 3),
                (n != 2).then_some(&key[..]),
                (n != 5).then_some(&value[..]),
                &headers[..usize::from(n % 3)],
            )
            .unwrap();
    }
    builder.finish().unwrap().to_vec()
}

pub(super) fn with_codec(codec: Codec) -> BatchOptions {
    BatchOptions {
        codec,
        ..Default::default()
    }
}

/// Makes the CRC true again after a change, to reach the checks behind it.
pub(super) fn reseal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[field::ATTRIBUTES..]);
    batch[field::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
}

/// The header of an uncompressed batch in front of another payload, lengths and CRC made right.
pub(super) fn with_payload(plain: &[u8], codec: Codec, payload: &[u8]) -> Vec<u8> {
    let mut batch = [&plain[..HEADER_BYTES], payload].concat();
    let length = (batch.len() - LENGTH_PREFIX_BYTES) as i32;
    batch[field::BATCH_LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
    batch[field::ATTRIBUTES + 1] = batch[field::ATTRIBUTES + 1] & !7 | codec.number();
    reseal(&mut batch);
    batch
}
