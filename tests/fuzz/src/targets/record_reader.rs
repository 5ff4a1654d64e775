//! Records behind each codec: a plain payload is compressed here, so that the readers behind the codec are reached, or the compressed
//! bytes are the input's own. Claims: no panic; memory within what the codec's blocks take; no more decompressed than the limits allow;
//! all readers agree; an undamaged payload reads the same through every codec.
//!
//! The input: a byte (codec and framing), two of the record count, two of the last offset delta less the count, one of options (timestamp
//! type, limits, gzip's blocks), two of a limit if the options say so, damage with its length, the payload.

use ringtail::wire::batch::{
    BatchHeader, Codec, DecodeLimits, HEADER_BYTES, RecordIter, RecordReader, max_timestamp_offset, offset_for_time,
    unpack,
};

use super::input::{Input, damage, put};
use super::memory::peak_bytes;

/// How the payload comes to be the batch's.
#[derive(Clone, Copy)]
enum Framing {
    Plain,
    Gzip,
    /// Two members, which is one stream.
    GzipTwice,
    SnappyXerial,
    SnappyBare,
    Lz4,
    /// Blocks that refer to the ones before them, with check sums and the content's size.
    Lz4Linked,
    Zstd,
    /// Whatever the input says, as this codec.
    Raw(Codec),
}

const FRAMINGS: [Framing; 13] = [
    Framing::Plain,
    Framing::Gzip,
    Framing::GzipTwice,
    Framing::SnappyXerial,
    Framing::SnappyBare,
    Framing::Lz4,
    Framing::Lz4Linked,
    Framing::Zstd,
    Framing::Raw(Codec::None),
    Framing::Raw(Codec::Gzip),
    Framing::Raw(Codec::Snappy),
    Framing::Raw(Codec::Lz4),
    Framing::Raw(Codec::Zstd),
];

impl Framing {
    fn codec(self) -> Codec {
        match self {
            Self::Plain => Codec::None,
            Self::Gzip | Self::GzipTwice => Codec::Gzip,
            Self::SnappyXerial | Self::SnappyBare => Codec::Snappy,
            Self::Lz4 | Self::Lz4Linked => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
            Self::Raw(codec) => codec,
        }
    }

    fn pack(self, payload: &[u8], gzip: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        match self {
            Self::Plain | Self::Raw(_) => payload.to_vec(),
            Self::Gzip => gzip(payload),
            Self::GzipTwice => {
                let (one, two) = payload.split_at(payload.len() / 2);
                [gzip(one), gzip(two)].concat()
            }
            Self::SnappyXerial => packed::snappy_xerial(payload),
            Self::SnappyBare => packed::snappy(payload),
            Self::Lz4 => packed::lz4(payload, false),
            Self::Lz4Linked => packed::lz4(payload, true),
            Self::Zstd => packed::zstd(payload),
        }
    }
}

/// The codecs as other clients use them. What is dear to make, gzip's and zstd's state, is kept.
mod packed {
    use std::cell::RefCell;
    use std::io::Write;

    use flate2::{Compress, Compression, Crc, FlushCompress, Status};
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use zstd::bulk::Compressor;

    thread_local! {
        static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
        static ZSTD: RefCell<Compressor<'static>> = RefCell::new(Compressor::new(1).expect("memory takes it"));
    }

    pub fn gzip_deflated(payload: &[u8]) -> Vec<u8> {
        DEFLATE.with_borrow_mut(|deflate| {
            deflate.reset();
            let mut blocks = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
            let status = deflate.compress_vec(payload, &mut blocks, FlushCompress::Finish);
            assert!(matches!(status, Ok(Status::StreamEnd)), "there is room for all");
            gzip_member(payload, &blocks)
        })
    }

    /// In stored blocks of 1 KiB: as quick to make as to read.
    pub fn gzip_stored(payload: &[u8]) -> Vec<u8> {
        let mut blocks = Vec::with_capacity(payload.len() + 64);
        for block in payload.chunks(1 << 10) {
            let bytes = block.len() as u16;
            blocks.push(0);
            blocks.extend_from_slice(&bytes.to_le_bytes());
            blocks.extend_from_slice(&(!bytes).to_le_bytes());
            blocks.extend_from_slice(block);
        }
        // The last block, and empty.
        blocks.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
        gzip_member(payload, &blocks)
    }

    fn gzip_member(payload: &[u8], blocks: &[u8]) -> Vec<u8> {
        let mut crc = Crc::new();
        crc.update(payload);
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        [&head, blocks, &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat()
    }

    pub fn snappy(payload: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(payload).expect("short")
    }

    /// In blocks of 1 KiB, so that short payloads have several.
    pub fn snappy_xerial(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
        for block in payload.chunks(1 << 10) {
            let block = snappy(block);
            out.extend_from_slice(&(block.len() as u32).to_be_bytes());
            out.extend_from_slice(&block);
        }
        out
    }

    pub fn lz4(payload: &[u8], linked: bool) -> Vec<u8> {
        let mode = if linked {
            BlockMode::Linked
        } else {
            BlockMode::Independent
        };
        let info = FrameInfo::new()
            .block_size(BlockSize::Max64KB)
            .block_mode(mode)
            .block_checksums(linked)
            .content_size(linked.then_some(payload.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        for part in payload.chunks(payload.len().div_ceil(2).max(1)) {
            encoder.write_all(part).expect("memory takes it");
            // A block of its own.
            encoder.flush().expect("memory takes it");
        }
        encoder.finish().expect("memory takes it")
    }

    pub fn zstd(payload: &[u8]) -> Vec<u8> {
        ZSTD.with_borrow_mut(|zstd| zstd.compress(payload).expect("memory takes it"))
    }
}

/// A batch's header around a payload, as `record_reader` needs it: the readers look at no check sum.
struct Shape {
    record_count: i32,
    last_offset_delta: i32,
    attributes: u8,
    base_timestamp: i64,
}

impl Shape {
    fn batch(&self, codec: Codec, payload: &[u8]) -> Vec<u8> {
        let mut batch = vec![0; HEADER_BYTES];
        batch.extend_from_slice(payload);
        let length = (batch.len() - 12) as i32;
        put(&mut batch, 8, &length.to_be_bytes());
        put(
            &mut batch,
            16,
            &[2, 0, 0, 0, 0, 0, self.attributes << 3 | codec.number()],
        );
        put(&mut batch, 23, &self.last_offset_delta.to_be_bytes());
        put(&mut batch, 27, &self.base_timestamp.to_be_bytes());
        put(&mut batch, 35, &(self.base_timestamp.saturating_add(200)).to_be_bytes());
        put(&mut batch, 57, &self.record_count.to_be_bytes());
        batch
    }
}

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let framing = FRAMINGS[usize::from(input.byte()) % FRAMINGS.len()];
    let (record_count, surplus) = (i32::from(input.u16()), i32::from(input.u16() as i16));
    let options = input.byte();
    let shape = Shape {
        record_count,
        last_offset_delta: (record_count + surplus - 1).max(0),
        attributes: options & 1,
        base_timestamp: if options & 2 == 0 { 1_000 } else { i64::MAX - 3 },
    };
    let limits = DecodeLimits {
        decompressed_bytes_max: if options & 4 == 0 {
            256 << 10
        } else {
            u64::from(input.u16())
        },
        ratio_max: 1024,
        zstd_window_log_max: 18,
    };
    let flips = input.sized();
    let payload = input.0;
    // A header that every reader refuses needs no payload.
    if read(&shape.batch(framing.codec(), &[]), &limits).is_none() {
        return;
    }
    let gzip = if options & 8 == 0 {
        packed::gzip_stored
    } else {
        packed::gzip_deflated
    };
    let mut packed = framing.pack(payload, gzip);
    damage(&mut packed, Input(flips));
    let batch = shape.batch(framing.codec(), &packed);
    let found = read(&batch, &limits);
    let is_plain = matches!(framing, Framing::Plain | Framing::Raw(_));
    if !is_plain && flips.is_empty() && (payload.len() as u64) < limits.decompressed_bytes_max && !payload.is_empty() {
        assert_eq!(
            found,
            read(&shape.batch(Codec::None, payload), &limits),
            "the codec changes nothing"
        );
    }
}

/// What of a record is compared: place, time, key and value.
type Seen = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Every reader over the batch; the records up to the first bad one, and whether there is none.
fn read(batch: &[u8], limits: &DecodeLimits) -> Option<(Vec<Seen>, bool)> {
    let header = BatchHeader::parse(batch).ok()?;
    // lz4 blocks expand 255 times at most; the rest is a codec's state. (zstd's is the C library's, uncounted, bounded by its window.)
    let bytes_max = 256 * batch.len() + (192 << 10);
    let walk = || -> Option<(i32, bool, u64)> {
        let mut heads = RecordReader::new(&header, batch, limits).ok()?;
        let mut count = 0;
        loop {
            match heads.next_head() {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Some((count, true, heads.decompressed_bytes())),
                Err(_) => return Some((count, false, heads.decompressed_bytes())),
            }
        }
    };
    let (bytes, walked) = peak_bytes(walk);
    assert!(bytes <= bytes_max, "{bytes} bytes to walk {}", batch.len());
    let (bytes, _) = peak_bytes(|| {
        let _ = offset_for_time(batch, 1_100, 1, limits);
        let _ = max_timestamp_offset(batch, limits);
    });
    assert!(bytes <= bytes_max, "{bytes} bytes to look times up in {}", batch.len());
    let (count, is_sound, decompressed_bytes) = walked?;
    assert!(decompressed_bytes <= limits.decompressed_bytes_max.max(batch.len() as u64) + (16 << 10));

    let mut seen = Vec::new();
    let mut records = RecordReader::new(&header, batch, limits).expect("it was opened before");
    while let Ok(Some(record)) = records.next_record() {
        assert!(record.headers().count() <= batch.len().max(256 << 10));
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        seen.push((record.offset, record.timestamp, key, value));
    }
    assert_eq!(seen.len(), count as usize, "both readers agree");
    if let Ok(payload) = unpack(&header, batch, limits) {
        let whole = RecordIter::new(&header, &payload).expect("the reader took the header");
        let whole: Vec<_> = whole.map_while(Result::ok).collect();
        assert_eq!(whole.len(), seen.len());
        for (record, (offset, timestamp, key, value)) in whole.iter().zip(&seen) {
            assert_eq!((record.offset, record.timestamp), (*offset, *timestamp));
            assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
        }
    }
    Some((seen, is_sound))
}
