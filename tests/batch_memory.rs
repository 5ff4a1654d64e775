//! What a batch may cost in memory, whatever it declares: a counting allocator around the look-ups and walks of compressed bombs.

use peak_alloc::PeakAlloc;
use ringtail::wire::batch::{
    BatchBuilder, BatchError, BatchHeader, BatchOptions, Codec, DecodeLimits, Limits, RecordChecks, RecordFault,
    RecordReader, TimestampRule, offset_for_time, validate_produce,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes allocated by Rust code above what was live before, at the worst moment of `work`.
fn peak_bytes<T>(work: impl FnOnce() -> T) -> (usize, T) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = work();
    (ALLOCATOR.peak_usage() - before, result)
}

const KIB: usize = 1 << 10;

fn limits() -> Limits {
    Limits {
        batch_bytes_max: 1 << 20,
        timestamp: TimestampRule::ANY,
        records: RecordChecks::StructureAndKeys,
        zstd_allowed: true,
        decode: DecodeLimits::default(),
    }
}

/// One test, as the allocator's counters are the process's.
#[test]
fn memory_is_bounded_by_the_bytes_present() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let zeros = vec![0; 8 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        builder.options_mut().codec = codec;
        builder.push(5, Some(b"key"), Some(&zeros), &[]).expect("room");
        let batch = builder.finish().expect("compressible").to_vec();

        // A walk holds one block, not the 8 MiB record. zstd's window is the C library's and not counted; its limit is its own test.
        let (bytes, valid) =
            peak_bytes(|| validate_produce(&batch, &limits()).map(|valid| *valid.summary().expect("walked")));
        assert!(valid.expect("honest").decompressed_bytes > 8 << 20);
        assert!(bytes <= 192 * KIB, "{codec:?}: walking took {bytes} bytes");
        let (bytes, found) = peak_bytes(|| offset_for_time(&batch, 1, 0, &DecodeLimits::default()));
        assert_eq!(found, Ok(Some((5, 0))));
        assert!(bytes <= 192 * KIB, "{codec:?}: the look-up took {bytes} bytes");

        // A reader of whole records may hold the record, but no more than the limit lets it decompress.
        let decode = DecodeLimits {
            decompressed_bytes_max: 256 << 10,
            ..Default::default()
        };
        let header = BatchHeader::parse(&batch).expect("just built");
        let (bytes, result) = peak_bytes(|| {
            RecordReader::new(&header, &batch, &decode).and_then(|mut reader| reader.next_record().map(|_| ()))
        });
        assert_eq!(
            result,
            Err(BatchError::Record {
                index: 0,
                fault: RecordFault::DecompressionLimit
            })
        );
        assert!(bytes <= 1024 * KIB, "{codec:?}: the cut-off record took {bytes} bytes");
    }
    declared_lengths_allocate_nothing();
}

fn declared_lengths_allocate_nothing() {
    // A 2 GiB snappy block, a 2 GiB record, an lz4 frame of 4 MiB blocks: each in a handful of bytes.
    let lies: [(Codec, &[u8]); 4] = [
        (Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]),
        (Codec::Snappy, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff\x01"),
        (Codec::None, &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
        (
            Codec::Lz4,
            &[
                0x04, 0x22, 0x4d, 0x18, 0x40, 0x70, 0xdf, 5, 0, 0, 0, 0x1f, 0, 1, 0, 0, 0, 0, 0, 0,
            ],
        ),
    ];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, None, &[]).expect("room");
    let plain = builder.finish().expect("uncompressed").to_vec();
    for (codec, payload) in lies {
        let mut batch = [&plain[..61], payload].concat();
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[22] = codec.number();
        let header = BatchHeader::parse(&batch).expect("a good header");
        let (bytes, result) = peak_bytes(|| {
            RecordReader::new(&header, &batch, &DecodeLimits::default())
                .and_then(|mut reader| reader.next_record().map(|_| ()))
        });
        assert!(result.is_err());
        assert!(
            bytes <= 64 * KIB,
            "{codec:?}: {bytes} bytes for {} declared by {payload:?}",
            payload.len()
        );
    }
}
