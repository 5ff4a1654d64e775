//! A look at a journal that is in use, for the scrub. Pure.

use super::format::{COMMIT_BYTES_MAX, CommitHeader, FileHeader};
use crate::base::buffer::BLOCK_BYTES;

/// Bytes of a piece: whatever commit begins in its first half is in it whole.
pub const PIECE_BYTES: usize = 2 * COMMIT_BYTES_MAX as usize;

/// A walk over one file in pieces: whether its commits follow each other up to the last. (`scan` judges a
/// whole journal that was left.)
pub struct FileWalk {
    header: FileHeader,
    /// The next commit's, and the check sum that it names; `None` before the file's first.
    next: Option<(u64, u32)>,
    position: u64,
    /// No commit begins at `position`.
    stopped: bool,
}

impl FileWalk {
    /// Begins with the file's first block; `None` if that is no header.
    pub fn begin(block: &[u8]) -> Option<Self> {
        Some(Self {
            header: FileHeader::decode(block)?,
            next: None,
            position: BLOCK_BYTES as u64,
            stopped: false,
        })
    }

    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Where the commits seen so far end.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes in bytes that lie at `at` of the file, `position` first; where those should begin that come next. Corruption: a later
    /// commit follows where one is bad.
    pub fn take(&mut self, bytes: &[u8], at: u64) -> Result<u64, String> {
        let mut from = 0;
        while !self.stopped {
            match self.commit(&bytes[from..]) {
                Some(length) => {
                    from += length;
                    self.position += length as u64;
                }
                // The commit may only be cut by the end of the piece.
                None if from > 0 && bytes.len() - from < COMMIT_BYTES_MAX as usize => return Ok(at + from as u64),
                None => self.stopped = true,
            }
        }
        let expected = self.next.map_or(0, |(sequence, _)| sequence);
        // The block at `position` may begin the last commit, torn or still being written.
        let own = usize::from(at + from as u64 == self.position);
        let later = bytes[from..].chunks(BLOCK_BYTES).skip(own).find_map(|block| {
            let (head, _) = CommitHeader::decode(block, self.header.salt)?;
            (head.sequence >= expected).then_some(head.sequence)
        });
        match later {
            Some(later) => Err(format!("a commit, which commit {later} confirms")),
            None => Ok(at + bytes.len() as u64),
        }
    }

    /// The length of the commit that `bytes` begin with, if it is the next.
    fn commit(&mut self, bytes: &[u8]) -> Option<usize> {
        let (head, crc) = CommitHeader::decode(bytes, self.header.salt)?;
        let follows = self.next.is_none_or(|next| next == (head.sequence, head.previous_crc));
        if !follows || head.bytes == 0 || head.bytes as usize > bytes.len() {
            return None;
        }
        head.body(bytes, self.header.salt)?;
        self.next = Some((head.sequence + 1, crc));
        Some(head.bytes as usize)
    }
}
