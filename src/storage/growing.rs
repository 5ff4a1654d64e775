//! A file that grows by small entries and is written in whole blocks, once each: `.index`, `.timeindex`, `.sums`. Pure.

use super::codec::{Fields, PutFields};
use crate::base::buffer::BLOCK_BYTES;

/// The end of a growing file: how much of it the file holds, and the bytes behind that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Growing {
    /// Bytes that the file holds, whole blocks.
    stored: u64,
    /// What follows them.
    rest: Vec<u8>,
    /// CRC-32C of all of it.
    crc: u32,
}

impl Growing {
    pub fn push(&mut self, entry: &[u8]) {
        self.rest.extend_from_slice(entry);
        self.crc = crc32c::crc32c_append(self.crc, entry);
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.stored + self.rest.len() as u64
    }

    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// CRC-32C of the whole content, what the file holds included.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The bytes not in the file, from `stored` on.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Whole blocks that could be written at `stored`.
    pub fn full_blocks(&self) -> &[u8] {
        &self.rest[..self.rest.len() - self.rest.len() % BLOCK_BYTES]
    }

    /// `bytes` (whole blocks) from the front of the rest are in the file now.
    pub fn mark_stored(&mut self, bytes: usize) {
        assert!(bytes.is_multiple_of(BLOCK_BYTES));
        self.rest.drain(..bytes);
        self.stored += bytes as u64;
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.stored);
        out.put_sized(&self.rest);
        out.put_u32(self.crc);
    }

    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let stored = fields.u64()?;
        let rest = fields.sized()?.to_vec();
        let crc = fields.u32()?;
        let fits = stored.checked_add(rest.len() as u64).is_some();
        (fits && stored.is_multiple_of(BLOCK_BYTES as u64)).then_some(Self { stored, rest, crc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_leave_once() {
        let mut growing = Growing::default();
        for i in 0..1000u64 {
            growing.push(&i.to_le_bytes());
        }
        let block = growing.full_blocks().to_vec();
        assert_eq!(block.len(), BLOCK_BYTES);
        growing.mark_stored(BLOCK_BYTES);
        assert_eq!((growing.stored(), growing.bytes()), (4096, 8000));
    }
}
