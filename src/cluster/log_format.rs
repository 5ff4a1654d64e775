//! The metadata log's file: a header, then commits back to back. `docs/format-metadata.md` has the tables.
//!
//! A commit's CRC is seeded with the file's random salt and its own sequence, so bytes of another file or another place
//! never pass for one. A commit without records confirms those before it; it begins a block of its own, so that no older content of
//! the block that holds the last records can pass for the whole log.

use std::fmt;

use super::codec;
use super::record::Record;

pub const FORMAT_VERSION: u32 = 2;
/// Confirmations follow the records at once, and nothing need follow them.
const FORMAT_VERSION_PACKED: u32 = 1;

const MAGIC: &[u8; 8] = b"RINGMETA";
pub const HEADER_BYTES: usize = 64;
const FRAME_HEADER_BYTES: usize = 16;
const ALIGNMENT: usize = 8;
/// What the device writes and loses as one.
const BLOCK_BYTES: u64 = 4096;
/// What a confirmation takes at most.
pub(super) const CONFIRMATION_BYTES: u64 = BLOCK_BYTES + FRAME_HEADER_BYTES as u64;
/// Behind its last commit a file always has so many zeros: one that ends before was cut.
pub(super) const SLACK_BYTES: u64 = FRAME_HEADER_BYTES as u64;
/// A commit's payload.
pub(super) const COMMIT_BYTES_MAX: usize = 64 << 20;

/// The file's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub version: u32,
    pub salt: u64,
    /// Of the first commit.
    pub sequence: u64,
    /// What was flushed before the file got its name: nothing below may be bad.
    pub sealed_bytes: u64,
}

/// Bytes that were acknowledged and are no longer what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// Byte in the file.
    pub position: u64,
    pub expected: &'static str,
    pub found: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "position {}: expected {}, found {}",
            self.position, self.expected, self.found
        )
    }
}

/// Why a file is not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FormatError {
    Corrupt(Corruption),
    /// Written by a newer version.
    Newer(u32),
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sealed_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(file: &[u8]) -> Result<Self, FormatError> {
        let corrupt = |expected, found: &str| {
            Err(FormatError::Corrupt(Corruption {
                position: 0,
                expected,
                found: found.into(),
            }))
        };
        let Some(bytes) = file.first_chunk::<HEADER_BYTES>() else {
            return corrupt("a header of 64 bytes", &format!("{} bytes", file.len()));
        };
        if &bytes[..8] != MAGIC {
            return corrupt("the file's magic", "other bytes");
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return corrupt("the header's CRC", "another one");
        }
        let version = u32_at(bytes, 8);
        if !(FORMAT_VERSION_PACKED..=FORMAT_VERSION).contains(&version) {
            return Err(FormatError::Newer(version));
        }
        let header = Self {
            version,
            salt: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            sealed_bytes: u64_at(bytes, 32),
        };
        if (file.len() as u64) < header.sealed_bytes {
            let found = format!("a file of {} bytes", file.len());
            return Err(FormatError::Corrupt(Corruption {
                position: file.len() as u64,
                expected: "the sealed part",
                found,
            }));
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8], position: usize) -> u32 {
    bytes[position..]
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
        .unwrap_or(0)
}

fn u64_at(bytes: &[u8], position: usize) -> u64 {
    bytes[position..]
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
        .unwrap_or(0)
}

fn frame_crc(salt: u64, sequence: u64, payload: &[u8]) -> u32 {
    let mut seed = [0; 20];
    seed[..8].copy_from_slice(&salt.to_le_bytes());
    seed[8..16].copy_from_slice(&sequence.to_le_bytes());
    seed[16..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), payload)
}

/// Adds a commit of `records` to `file`; without records it is a confirmation.
pub fn push_commit(file: &mut Vec<u8>, salt: u64, sequence: u64, records: &[Record]) {
    let payload = if records.is_empty() {
        Vec::new()
    } else {
        codec::encode(records)
    };
    file.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend_from_slice(&frame_crc(salt, sequence, &payload).to_le_bytes());
    file.extend_from_slice(&sequence.to_le_bytes());
    file.extend_from_slice(&payload);
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
}

/// A whole file that holds `records`, sealed, with what its next commit's sequence is.
pub fn sealed_file(salt: u64, sequence: u64, records: impl Iterator<Item = Record>) -> (Vec<u8>, u64) {
    /// Of one commit, so that reading one back is bounded.
    const CHUNK_BYTES: usize = 1 << 20;
    let mut file = vec![0; HEADER_BYTES];
    let mut next = sequence;
    let mut push = |chunk: &mut Vec<Record>| {
        push_commit(&mut file, salt, next, chunk);
        next += 1;
        chunk.clear();
    };
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for record in records {
        bytes += record.bytes_estimate();
        chunk.push(record);
        if bytes >= CHUNK_BYTES {
            push(&mut chunk);
            bytes = 0;
        }
    }
    if !chunk.is_empty() {
        push(&mut chunk);
    }
    let header = Header {
        version: FORMAT_VERSION,
        salt,
        sequence,
        sealed_bytes: file.len() as u64,
    };
    file[..HEADER_BYTES].copy_from_slice(&header.encode());
    (file, next)
}

/// Where a file's valid part ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tail {
    pub header: Header,
    /// Of the next commit.
    pub sequence: u64,
    /// Where the last valid commit begins, and the byte behind it.
    pub last: u64,
    pub end: u64,
    /// The last commit is a confirmation, or the sealed part ends here.
    pub confirmed: bool,
}

/// Reads a whole file and gives its records in order to `apply`. Bytes behind the returned end are a commit that was torn
/// before anyone heard of it; everything else that is bad is corruption.
pub fn scan(file: &[u8], mut apply: impl FnMut(Record)) -> Result<Tail, FormatError> {
    let header = Header::decode(file)?;
    let mut tail = Tail {
        header,
        sequence: header.sequence,
        last: 0,
        end: HEADER_BYTES as u64,
        confirmed: false,
    };
    while let Some((position, payload)) = next_frame(file, &tail) {
        if !payload.is_empty() {
            let Some(records) = codec::decode(payload) else {
                let expected = "records that this version knows";
                let found = "a commit with a good CRC and other bytes".into();
                return Err(FormatError::Corrupt(Corruption {
                    position: tail.end,
                    expected,
                    found,
                }));
            };
            records.into_iter().for_each(&mut apply);
        }
        tail.last = position;
        tail.end = position + (FRAME_HEADER_BYTES + payload.len()).next_multiple_of(ALIGNMENT) as u64;
        tail.sequence += 1;
        tail.confirmed = payload.is_empty() || tail.end == header.sealed_bytes;
    }
    let corrupt = |found: String| {
        Err(FormatError::Corrupt(Corruption {
            position: tail.end,
            expected: "a whole commit",
            found,
        }))
    };
    if tail.end < header.sealed_bytes {
        return corrupt("bad bytes in the sealed part".into());
    }
    if let Some((position, sequence)) = later_commit(file, &tail) {
        return corrupt(format!(
            "bad bytes, and the valid commit {sequence} behind them at {position}"
        ));
    }
    Ok(tail)
}

/// Where the commit behind the tail's end begins, and its payload: right there, or as a confirmation in the next block.
fn next_frame<'a>(file: &'a [u8], tail: &Tail) -> Option<(u64, &'a [u8])> {
    let at = |position: u64| {
        let payload = frame_at(file, position as usize, tail.header.salt, tail.sequence)?;
        Some((position, payload))
    };
    let block = confirmation_position(tail.end);
    at(tail.end).or_else(|| {
        let (_, payload) = at(block)?;
        let gap = &file[tail.end as usize..block as usize];
        (payload.is_empty() && gap.iter().all(|byte| *byte == 0)).then_some((block, payload))
    })
}

/// Where a confirmation of what ends at `end` begins.
pub(super) fn confirmation_position(end: u64) -> u64 {
    end.next_multiple_of(BLOCK_BYTES)
}

/// Whether a file, read up to `tail`, is as long as it was made. Its space is on the device before a commit is written into it: a torn
/// commit never reaches its end.
pub(super) fn check_length(file: &[u8], tail: &Tail) -> Result<(), FormatError> {
    let behind = file.get(tail.end as usize..).unwrap_or_default();
    let is_torn = behind.iter().any(|byte| *byte != 0);
    let torn_bytes = match is_torn && behind.len() >= FRAME_HEADER_BYTES {
        true => (FRAME_HEADER_BYTES + u32_at(behind, 0) as usize).next_multiple_of(ALIGNMENT),
        false => 0,
    };
    let needed = torn_bytes as u64 + SLACK_BYTES;
    if tail.header.version == FORMAT_VERSION_PACKED || behind.len() as u64 >= needed {
        return Ok(());
    }
    Err(FormatError::Corrupt(Corruption {
        position: file.len() as u64,
        expected: "room behind the last commit",
        found: "the end of the file".into(),
    }))
}

/// The payload of the commit `sequence` at `position`, when all of it is there and its CRC is right.
fn frame_at(file: &[u8], position: usize, salt: u64, sequence: u64) -> Option<&[u8]> {
    let frame = file.get(position..)?;
    let (head, rest) = frame.split_at_checked(FRAME_HEADER_BYTES)?;
    let length = u32_at(head, 0) as usize;
    // Behind the last sequence none could follow.
    if u64_at(head, 8) != sequence || sequence == u64::MAX || length > COMMIT_BYTES_MAX {
        return None;
    }
    let payload = rest.get(..length)?;
    (frame_crc(salt, sequence, payload) == u32_at(head, 4)).then_some(payload)
}

/// A valid commit behind the tail's end, where none can be yet: then what stands there was once acknowledged.
fn later_commit(file: &[u8], tail: &Tail) -> Option<(usize, u64)> {
    let start = tail.end as usize;
    let reachable = (file.len().saturating_sub(start) / FRAME_HEADER_BYTES) as u64;
    let positions = (start + ALIGNMENT..file.len().saturating_sub(FRAME_HEADER_BYTES - 1)).step_by(ALIGNMENT);
    positions.into_iter().find_map(|position| {
        let sequence = u64_at(file, position + 8);
        let is_later = sequence >= tail.sequence && sequence - tail.sequence <= reachable;
        let found = is_later.then(|| frame_at(file, position, tail.header.salt, sequence))?;
        found.map(|_| (position, sequence))
    })
}

#[cfg(test)]
mod tests;
