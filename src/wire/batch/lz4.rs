//! LZ4 frames, decoded block by block over `lz4_flex`'s block decoder.
//!
//! The crate's own frame decoder reserves up to 12 MiB on the word of a seven-byte header. Here a block's buffer is bounded by what its
//! compressed bytes can expand to. The frame's checksums are skipped: the batch's CRC-32C covers the same bytes.

use std::io::{self, ErrorKind, Read};

const MAGIC: u32 = 0x184d_2204;
const FLAG_INDEPENDENT: u8 = 1 << 5;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_DICTIONARY: u8 = 1;
const UNCOMPRESSED: u32 = 1 << 31;
/// A sequence of length bytes 255 adds 255 bytes each.
const EXPANSION_MAX: usize = 255;
/// How far back a linked block may refer.
const WINDOW_BYTES: usize = 64 << 10;

/// Decompresses the first frame of a payload.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    linked: bool,
    block_checksum: bool,
    block_bytes_max: usize,
    finished: bool,
    /// Grows to the largest block, and is not zeroed again: a small one costs no more than it holds.
    block: Vec<u8>,
    /// What of `block` is decompressed and not read yet.
    start: usize,
    end: usize,
    /// The last 64 KiB before `block`, for linked blocks.
    window: Vec<u8>,
    /// Bytes that the blocks so far had room for, read or not.
    pub decoded_bytes: u64,
}

impl<'a> Reader<'a> {
    pub fn new(payload: &'a [u8]) -> io::Result<Self> {
        let (head, mut rest) = payload.split_first_chunk::<6>().ok_or(ErrorKind::UnexpectedEof)?;
        let [m0, m1, m2, m3, flags, descriptor] = *head;
        let size_code = (descriptor >> 4) & 7;
        let version = flags >> 6;
        if u32::from_le_bytes([m0, m1, m2, m3]) != MAGIC || version != 1 || size_code < 4 {
            return Err(ErrorKind::InvalidData.into());
        }
        if flags & FLAG_DICTIONARY != 0 {
            return Err(ErrorKind::Unsupported.into());
        }
        let header_checksum_bytes = 1;
        let optional_bytes = if flags & FLAG_CONTENT_SIZE != 0 { 8 } else { 0 };
        rest = rest
            .get(optional_bytes + header_checksum_bytes..)
            .ok_or(ErrorKind::UnexpectedEof)?;
        Ok(Self {
            rest,
            linked: flags & FLAG_INDEPENDENT == 0,
            block_checksum: flags & FLAG_BLOCK_CHECKSUM != 0,
            block_bytes_max: 1 << (8 + 2 * size_code),
            finished: false,
            block: Vec::new(),
            start: 0,
            end: 0,
            window: Vec::new(),
            decoded_bytes: 0,
        })
    }

    fn fill(&mut self) -> io::Result<()> {
        let (word, after) = self.rest.split_first_chunk::<4>().ok_or(ErrorKind::UnexpectedEof)?;
        let word = u32::from_le_bytes(*word);
        if word == 0 {
            self.finished = true;
            return Ok(());
        }
        let length = (word & !UNCOMPRESSED) as usize;
        if length > self.block_bytes_max {
            return Err(ErrorKind::InvalidData.into());
        }
        let (data, after) = after.split_at_checked(length).ok_or(ErrorKind::UnexpectedEof)?;
        let checksum_bytes = if self.block_checksum { 4 } else { 0 };
        self.rest = after.get(checksum_bytes..).ok_or(ErrorKind::UnexpectedEof)?;
        self.keep_window();
        (self.start, self.end) = (0, 0);
        let stored = word & UNCOMPRESSED != 0;
        let room_bytes = match stored {
            true => length,
            false => self.block_bytes_max.min(length.saturating_mul(EXPANSION_MAX)),
        };
        if self.block.len() < room_bytes {
            self.block.resize(room_bytes, 0);
        }
        let room = &mut self.block[..room_bytes];
        if stored {
            room.copy_from_slice(data);
            self.end = length;
            return Ok(());
        }
        self.decoded_bytes += room_bytes as u64;
        let written = if self.linked {
            lz4_flex::block::decompress_into_with_dict(data, room, &self.window)
        } else {
            lz4_flex::block::decompress_into(data, room)
        };
        self.end = written.map_err(io::Error::other)?;
        Ok(())
    }

    fn keep_window(&mut self) {
        if !self.linked {
            return;
        }
        let new = &self.block[self.end.saturating_sub(WINDOW_BYTES)..self.end];
        let excess = (self.window.len() + new.len()).saturating_sub(WINDOW_BYTES);
        self.window.drain(..excess.min(self.window.len()));
        self.window.extend_from_slice(new);
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.start == self.end {
            if self.finished {
                return Ok(0);
            }
            if let Err(error) = self.fill() {
                self.finished = true;
                return Err(error);
            }
        }
        let bytes = out.len().min(self.end - self.start);
        out[..bytes].copy_from_slice(&self.block[self.start..][..bytes]);
        self.start += bytes;
        Ok(bytes)
    }
}
