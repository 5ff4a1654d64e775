//! Snappy as Kafka's clients write it: blocks in xerial's framing (Java, librdkafka) or one bare block (others).

use super::builder::BuildError;
use std::io::{self, Read};

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and oldest compatible version.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const BLOCK_BYTES: usize = 32 << 10;
/// The densest element copies 64 bytes and takes three.
const EXPANSION_MAX: usize = 22;

/// Decompresses block by block.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    start: usize,
    block_bytes_max: u64,
    /// Bytes of the blocks so far, read or not, and of one that is too large.
    pub decoded_bytes: u64,
}

impl<'a> Reader<'a> {
    pub fn new(payload: &'a [u8], block_bytes_max: u64) -> Self {
        let framed = payload.len() >= XERIAL_HEADER.len() && payload.starts_with(&XERIAL_MAGIC);
        let rest = if framed {
            &payload[XERIAL_HEADER.len()..]
        } else {
            payload
        };
        Self {
            rest,
            framed,
            block: Vec::new(),
            start: 0,
            block_bytes_max,
            decoded_bytes: 0,
        }
    }

    fn next_chunk(&mut self) -> io::Result<&'a [u8]> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, after) = self.rest.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (chunk, rest) = after.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.rest = rest;
        Ok(chunk)
    }

    fn fill(&mut self) -> io::Result<()> {
        let chunk = self.next_chunk()?;
        let length = snap::raw::decompress_len(chunk).map_err(io::Error::other)?;
        if length > chunk.len().saturating_mul(EXPANSION_MAX) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.decoded_bytes += length as u64;
        if length as u64 > self.block_bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.start = 0;
        self.block.resize(length, 0);
        let written = snap::raw::Decoder::new()
            .decompress(chunk, &mut self.block)
            .map_err(io::Error::other)?;
        self.block.truncate(written);
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.start == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            if let Err(error) = self.fill() {
                self.rest = &[];
                self.block.clear();
                self.start = 0;
                return Err(error);
            }
        }
        let bytes = out.len().min(self.block.len() - self.start);
        out[..bytes].copy_from_slice(&self.block[self.start..][..bytes]);
        self.start += bytes;
        Ok(bytes)
    }
}

/// Appends `payload` in xerial's framing, which every Kafka client reads.
pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) -> Result<(), BuildError> {
    out.extend_from_slice(&XERIAL_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in payload.chunks(BLOCK_BYTES) {
        let start = out.len();
        out.resize(start + 4 + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder
            .compress(block, &mut out[start + 4..])
            .map_err(|_| BuildError::Compress)?;
        out[start..start + 4].copy_from_slice(&(written as u32).to_be_bytes());
        out.truncate(start + 4 + written);
    }
    Ok(())
}
