//! The four compressions: opening a bounded stream over a batch's payload, and compressing one.

use super::builder::BuildError;
use super::{lz4, snappy};
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::{self, Read, Write};

/// How the records of a batch are compressed: attribute bits 0 to 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// All codecs, by number.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    pub fn from_number(number: u8) -> Option<Codec> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number in the attributes.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Decompressed bytes that one byte of the codec's payload can stand for, at most.
    pub fn ratio_max(self) -> u64 {
        match self {
            Codec::None => 1,
            // The longest match, 258 bytes, in a bit of length and a bit of distance.
            Codec::Gzip => 258 * 8 / 2,
            // A copy of 64 bytes in 3, rounded up.
            Codec::Snappy => 22,
            // What each further byte of a match's length adds.
            Codec::Lz4 => 255,
            // A block of one repeated byte: 3 bytes of header and the byte.
            Codec::Zstd => (128 << 10) / 4,
        }
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        ["none", "gzip", "snappy", "lz4", "zstd"][self as usize]
    }
}

/// What a look inside a compressed batch may cost. Streaming keeps memory far below `decompressed_bytes_max`; that one bounds time.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    /// Decompressed bytes of one batch.
    pub decompressed_bytes_max: u64,
    /// Decompressed bytes per compressed byte, beyond the first [`Self::RATIO_FREE_BYTES`].
    pub ratio_max: u64,
    /// Logarithm of the largest zstd window, which is the decoder's memory. RFC 8878 asks decoders for 23 (8 MiB), which covers every
    /// level up to 19.
    pub zstd_window_log_max: u32,
}

impl DecodeLimits {
    /// Decompressed bytes that are not held against the ratio: a batch of equal records compresses 10,000 to 1 and is honest.
    pub const RATIO_FREE_BYTES: u64 = 16 << 20;

    /// Decompressed bytes allowed for a payload of `compressed_bytes`.
    pub fn budget(&self, compressed_bytes: usize) -> u64 {
        let by_ratio = (compressed_bytes as u64)
            .saturating_mul(self.ratio_max)
            .max(Self::RATIO_FREE_BYTES);
        self.decompressed_bytes_max.min(by_ratio)
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            decompressed_bytes_max: 128 << 20,
            ratio_max: 1024,
            zstd_window_log_max: 23,
        }
    }
}

/// A stream of decompressed bytes. Its memory: gzip 64 KiB, snappy 22 times the largest block present, lz4 255 times the largest block
/// present and at most 4 MiB, zstd the window.
pub(super) enum Decoder<'a> {
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(snappy::Reader<'a>),
    Lz4(lz4::Reader<'a>),
    Zstd(zstd::stream::read::Decoder<'static, &'a [u8]>),
}

impl<'a> Decoder<'a> {
    /// `None` for uncompressed payloads.
    pub fn open(codec: Codec, payload: &'a [u8], limits: &DecodeLimits) -> io::Result<Option<Self>> {
        Ok(Some(match codec {
            Codec::None => return Ok(None),
            Codec::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(payload))),
            Codec::Snappy => Self::Snappy(snappy::Reader::new(payload, limits.budget(payload.len()))),
            Codec::Lz4 => Self::Lz4(lz4::Reader::new(payload)?),
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)?;
                decoder.window_log_max(limits.zstd_window_log_max)?;
                Self::Zstd(decoder)
            }
        }))
    }
}

/// What zstd decodes at once.
const ZSTD_BLOCK_BYTES: u64 = 128 << 10;

impl Decoder<'_> {
    /// Bytes decoded, at most, when `read_bytes` were read: a decoder works in blocks.
    pub fn decoded_bytes(&self, read_bytes: u64) -> u64 {
        match self {
            Self::Gzip(_) => read_bytes,
            Self::Snappy(reader) => reader.decoded_bytes,
            Self::Lz4(reader) => reader.decoded_bytes,
            Self::Zstd(_) => read_bytes + ZSTD_BLOCK_BYTES,
        }
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(reader) => reader.read(out),
            Self::Snappy(reader) => reader.read(out),
            Self::Lz4(reader) => reader.read(out),
            Self::Zstd(reader) => reader.read(out),
        }
    }
}

/// Compresses payloads; keeps the zstd context, the one that is expensive to make.
#[derive(Default)]
pub(super) struct Encoder {
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

/// Kafka's default level for zstd.
const ZSTD_LEVEL: i32 = 3;

impl Encoder {
    /// Appends the compressed `payload` to `out`.
    pub fn compress(&mut self, codec: Codec, payload: &[u8], out: &mut Vec<u8>) -> Result<(), BuildError> {
        match codec {
            Codec::None => out.extend_from_slice(payload),
            Codec::Gzip => {
                let mut encoder = GzEncoder::new(out, flate2::Compression::default());
                encoder
                    .write_all(payload)
                    .and_then(|()| encoder.finish().map(drop))
                    .map_err(|_| BuildError::Compress)?;
            }
            Codec::Snappy => snappy::compress(payload, out)?,
            Codec::Lz4 => {
                // What Kafka's own reader accepts: independent blocks; 64 KiB of them is what its writer makes.
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(BlockMode::Independent);
                let mut encoder = FrameEncoder::with_frame_info(info, out);
                encoder.write_all(payload).map_err(|_| BuildError::Compress)?;
                encoder.finish().map_err(|_| BuildError::Compress)?;
            }
            Codec::Zstd => self.compress_zstd(payload, out)?,
        }
        Ok(())
    }

    fn compress_zstd(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), BuildError> {
        let compressor = match &mut self.zstd {
            Some(compressor) => compressor,
            empty => empty.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(|_| BuildError::Compress)?),
        };
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(payload.len()), 0);
        let written = compressor
            .compress_to_buffer(payload, &mut out[start..])
            .map_err(|_| BuildError::Compress)?;
        out.truncate(start + written);
        Ok(())
    }
}
