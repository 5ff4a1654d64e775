//! The bytes of journal files: header block, commit header. Pure. The page is `docs/format-journal.md`.

use crate::base::buffer::BLOCK_BYTES;
use crate::base::planted::{Bug, either, planted};
use crate::storage::codec::{Fields, PutFields};

const FILE_MAGIC: u64 = 0x314c_4e52_4a47_4e52;
const COMMIT_MAGIC: u32 = 0x4d43_4a52;
const VERSION: u32 = 1;

/// Bytes of a commit's header.
pub const COMMIT_HEADER_BYTES: usize = 48;
/// The largest commit (half a file, if that is less).
pub const COMMIT_BYTES_MAX: u64 = 1 << 20;

/// What a journal file says of itself in its first block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileHeader {
    pub directory_id: [u8; 16],
    /// The start of the broker that wrote it, counted per directory.
    pub start: u64,
    pub shard: u32,
    /// The file's place in its journal, from 0.
    pub file: u64,
    /// Random per use of the file; seeds every check sum in it.
    pub salt: u64,
    /// The salt of the file before it, 0 for the first.
    pub previous_salt: u64,
    pub file_bytes: u64,
}

fn seeded(salt: u64, bytes: &[u8]) -> u32 {
    let salt = either(Bug::ReplayRecycledJournal, 0, salt);
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

impl FileHeader {
    /// The header block.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_BYTES);
        out.put_u64(FILE_MAGIC);
        out.put_u32(VERSION);
        out.put(&self.directory_id);
        out.put_u64(self.start);
        out.put_u32(self.shard);
        out.put_u64(self.file);
        out.put_u64(self.salt);
        out.put_u64(self.previous_salt);
        out.put_u64(self.file_bytes);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out.resize(BLOCK_BYTES, 0);
        out
    }

    /// `None` for a block that is no (whole) header: a file never used, or one whose reuse was cut short.
    pub fn decode(block: &[u8]) -> Option<Self> {
        let mut fields = Fields(block);
        if fields.u64()? != FILE_MAGIC || fields.u32()? != VERSION {
            return None;
        }
        let header = Self {
            directory_id: fields.take(16)?.try_into().ok()?,
            start: fields.u64()?,
            shard: fields.u32()?,
            file: fields.u64()?,
            salt: fields.u64()?,
            previous_salt: fields.u64()?,
            file_bytes: fields.u64()?,
        };
        let covered = block.len() - fields.0.len();
        (fields.u32()? == crc32c::crc32c(&block[..covered])).then_some(header)
    }
}

/// The head of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitHeader {
    /// Counts the commits of a journal from 1, across its files.
    pub sequence: u64,
    /// The header check sum of the commit before it (0 for the first).
    pub previous_crc: u32,
    /// Whole blocks, header and padding included.
    pub bytes: u32,
    pub rows_bytes: u32,
    pub payload_bytes: u32,
    body_crc: u32,
}

impl CommitHeader {
    /// Fills the header of a commit laid out as header, payload, rows, padding; returns its check sum for the chain.
    pub fn seal(commit: &mut [u8], salt: u64, sequence: u64, previous_crc: u32, rows: usize, payload: usize) -> u32 {
        let body = COMMIT_HEADER_BYTES + rows + payload;
        assert!(commit.len() >= body && commit.len().is_multiple_of(BLOCK_BYTES));
        let body_crc = seeded(salt, &commit[COMMIT_HEADER_BYTES..body]);
        let mut out = Vec::with_capacity(COMMIT_HEADER_BYTES);
        out.put_u32(COMMIT_MAGIC);
        out.put_u32(0);
        out.put_u64(sequence);
        out.put_u32(previous_crc);
        out.put_u32(commit.len() as u32);
        out.put_u32(rows as u32);
        out.put_u32(payload as u32);
        out.put_u32(body_crc);
        out.resize(COMMIT_HEADER_BYTES, 0);
        let crc = seeded(salt, &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        commit[..COMMIT_HEADER_BYTES].copy_from_slice(&out);
        crc
    }

    /// Whether the bytes begin as a commit does.
    pub fn looks_like(bytes: &[u8]) -> bool {
        Fields(bytes).u32() == Some(COMMIT_MAGIC)
    }

    /// Reads a header whose own check sum holds, with that sum.
    pub fn decode(bytes: &[u8], salt: u64) -> Option<(Self, u32)> {
        let head = bytes.get(..COMMIT_HEADER_BYTES)?;
        let mut fields = Fields(head);
        if fields.u32()? != COMMIT_MAGIC {
            return None;
        }
        let crc = fields.u32()?;
        if crc != seeded(salt, &head[8..]) {
            return None;
        }
        let header = Self {
            sequence: fields.u64()?,
            previous_crc: fields.u32()?,
            bytes: fields.u32()?,
            rows_bytes: fields.u32()?,
            payload_bytes: fields.u32()?,
            body_crc: fields.u32()?,
        };
        let body = COMMIT_HEADER_BYTES as u64 + u64::from(header.rows_bytes) + u64::from(header.payload_bytes);
        let whole = (header.bytes as usize).is_multiple_of(BLOCK_BYTES) && body <= u64::from(header.bytes);
        whole.then_some((header, crc))
    }

    /// The rows and the payload of a commit whose body verifies.
    pub fn body<'a>(&self, commit: &'a [u8], salt: u64) -> Option<(&'a [u8], &'a [u8])> {
        let payload_end = COMMIT_HEADER_BYTES + self.payload_bytes as usize;
        let end = payload_end + self.rows_bytes as usize;
        let body = commit.get(COMMIT_HEADER_BYTES..end)?;
        (seeded(salt, body) == self.body_crc || planted(Bug::TornCommitIsWhole))
            .then(|| (&commit[payload_end..end], &commit[COMMIT_HEADER_BYTES..payload_end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_header_reads_back_and_every_flipped_bit_is_seen() {
        let header = FileHeader {
            directory_id: [3; 16],
            start: 4,
            shard: 1,
            file: 9,
            salt: 77,
            previous_salt: 66,
            file_bytes: 1 << 20,
        };
        let block = header.encode();
        assert_eq!((block.len(), FileHeader::decode(&block)), (BLOCK_BYTES, Some(header)));
        for bit in 0..76 * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_commit_verifies_under_its_own_salt_only() {
        let mut commit = vec![0; BLOCK_BYTES];
        commit[COMMIT_HEADER_BYTES..COMMIT_HEADER_BYTES + 7].copy_from_slice(b"PAYrows");
        let crc = CommitHeader::seal(&mut commit, 5, 1, 0, 4, 3);
        let (header, read) = CommitHeader::decode(&commit, 5).expect("valid");
        assert_eq!((header.sequence, read), (1, crc));
        assert_eq!(header.body(&commit, 5), Some((&b"rows"[..], &b"PAY"[..])));
        assert!(CommitHeader::decode(&commit, 6).is_none());
        commit[COMMIT_HEADER_BYTES + 6] ^= 1;
        assert_eq!(header.body(&commit, 5), None);
    }
}
