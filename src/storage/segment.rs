//! A segment's files: names, and the writing of what grows beside the log.

use std::io;
use std::path::{Path, PathBuf};

use super::build::SegmentBuild;
use super::cursor::Cursor;
use super::growing::Growing;
use crate::base::buffer::{AlignedBuf, block_ceil, block_floor};
use crate::io::{Durability, Env, OpenOptions, write_all_at};

/// Companion files grow by this.
const COMPANION_STEP_BYTES: u64 = 64 << 10;

/// `<base, 20 digits>.<kind>`, as Kafka names them.
pub fn file_name(base: i64, kind: &str) -> String {
    format!("{base:020}.{kind}")
}

/// The base offset in the name of a `.log` file.
pub fn base_of(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    let are_digits = digits.len() == 20 && digits.bytes().all(|c| c.is_ascii_digit());
    are_digits.then(|| digits.parse().ok()).flatten()
}

/// A segment that takes no more appends and lies in its file whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClosedSegment {
    pub base: i64,
    pub bytes: u64,
    /// The base of the segment after it.
    pub next_offset: i64,
    /// The largest timestamp in it, once known; for retention and look-ups.
    pub largest_ms: Option<i64>,
    /// No segment before it has one as large, as far as that is known.
    pub is_latest_yet: bool,
}

/// A segment with bytes still to be stored; the last one takes the appends.
pub struct OpenSegment<E: Env> {
    pub base: i64,
    pub file: E::File,
    /// Size of the file: appends stay below.
    pub allocated: u64,
    /// Where it ended, once it rolled, and the offset there.
    pub end: Option<Cursor>,
    /// Bytes whose writes completed: a multiple of the block size until the end.
    pub stored: u64,
    /// The boundary up to which `build` describes the segment: behind every batch of which all whole blocks are stored.
    pub built: Cursor,
    /// The last boundary up to which everything is stored. (What follows it of `built` is less than a block.)
    pub whole: Cursor,
    pub build: SegmentBuild,
}

/// Writes a companion's full blocks; with `finish` also its rest, and trims the file to its length.
pub async fn store_companion<E: Env>(
    env: &E,
    folder: &Path,
    base: i64,
    kind: &str,
    growing: &Growing,
    finish: bool,
) -> io::Result<usize> {
    let bytes = if finish { growing.rest() } else { growing.full_blocks() };
    if bytes.is_empty() && !finish {
        return Ok(0);
    }
    let path = folder.join(file_name(base, kind));
    let file = env
        .open(
            &path,
            OpenOptions {
                exclusive: false,
                ..OpenOptions::CREATE_DIRECT
            },
        )
        .await?;
    let (position, stored) = (growing.stored(), block_floor(bytes.len() as u64));
    let end = position + block_ceil(bytes.len() as u64);
    if env.size(&file).await? < end {
        env.allocate(&file, 0, end.next_multiple_of(COMPANION_STEP_BYTES))
            .await?;
    }
    if !bytes.is_empty() {
        let mut buffer = AlignedBuf::copy_of(bytes);
        buffer.pad_to_block();
        write_all_at(env, &file, buffer.freeze(), position, Durability::Cached).await?;
    }
    if finish {
        env.truncate(&file, growing.bytes()).await?;
    }
    Ok(stored as usize)
}

/// Writes the rests of all companions and trims them: the segment is over.
pub async fn finish_companions<E: Env>(env: &E, folder: &Path, build: &SegmentBuild) -> io::Result<()> {
    let base = build.identity.base;
    store_companion(env, folder, base, "index", &build.offsets, true).await?;
    store_companion(env, folder, base, "timeindex", &build.times, true).await?;
    store_companion(env, folder, base, "sums", &build.sums, true).await?;
    Ok(())
}

/// Removes a segment's files, the log first; what is already gone is fine.
pub async fn unlink_segment<E: Env>(env: &E, folder: &Path, base: i64) -> io::Result<()> {
    for kind in ["log", "index", "timeindex", "sums", "txnindex", "snapshot"] {
        match env.unlink(&path_of(folder, base, kind)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub fn path_of(folder: &Path, base: i64, kind: &str) -> PathBuf {
    folder.join(file_name(base, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_is_written_in_one_way() {
        assert_eq!(base_of(&file_name(42, "log")), Some(42));
        for other in [
            "+0000000000000000042.log",
            "42.log",
            "00000000000000000042.index",
            "99999999999999999999.log",
        ] {
            assert_eq!(base_of(other), None, "{other}");
        }
    }
}
