//! Where a file's extents begin: ext4 gives a write that does not lie in one extent to a kernel worker thread, always.
//!
//! (`ext4_dio_write_checks` asks for the whole range in one mapping when it must not block, Linux 6.18.) So a write is cut
//! there, and its parts go to the ring together. What is not known costs a worker thread, nothing else.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use crate::base::buffer::BLOCK_BYTES;

/// _IOWR('f', 11, struct fiemap) of linux/fs.h.
const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
const FIEMAP_EXTENT_LAST: u32 = 1;
/// Extents asked for at once.
const EXTENTS: usize = 32;
/// Extents remembered of one file. More are found on a disk in pieces only.
const EXTENTS_MAX: usize = 4096;

/// `struct fiemap_extent` of linux/fiemap.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

/// `struct fiemap` of linux/fiemap.h with its array.
#[repr(C)]
#[derive(Default)]
struct Map {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// The starts of a file's extents, in order.
#[derive(Default)]
pub(super) struct ExtentStarts(Vec<u64>);

impl ExtentStarts {
    /// Takes `found` for what begins at `position` and behind.
    pub(super) fn learn(&mut self, position: u64, found: Vec<u64>) {
        self.0.truncate(self.0.partition_point(|start| *start < position));
        self.0.extend(found);
        self.0.truncate(EXTENTS_MAX);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> &[u64] {
        &self.0
    }

    /// The first start within a write of `bytes` at `position`: what is before it is one part.
    pub(super) fn cut(&self, position: u64, bytes: usize) -> Option<usize> {
        let next = *self.0.get(self.0.partition_point(|start| *start <= position))?;
        usize::try_from(next - position).ok().filter(|part| *part < bytes)
    }
}

/// Asks the file system which extents begin in `[position, position + bytes)`. Where it cannot tell, none is known.
pub(super) fn starts_in(file: &fs::File, position: u64, bytes: u64) -> Vec<u64> {
    let end = position.saturating_add(bytes);
    let mut from = position.saturating_sub(BLOCK_BYTES as u64);
    let mut starts = Vec::new();
    while from < end && starts.len() < EXTENTS_MAX {
        let Ok(map) = extents_of(file, from, end - from) else {
            break;
        };
        let found = &map.extents[..(map.mapped as usize).min(EXTENTS)];
        let begin = found.iter().map(|extent| extent.logical);
        // Inside a block (file systems of smaller blocks) nothing is cut: direct writes are whole ones.
        let whole = begin.filter(|start| start.is_multiple_of(BLOCK_BYTES as u64));
        starts.extend(whole.filter(|start| (position.max(1)..end).contains(start)));
        match found.last() {
            Some(last) if last.flags & FIEMAP_EXTENT_LAST == 0 && last.logical.saturating_add(last.length) > from => {
                from = last.logical.saturating_add(last.length);
            }
            _ => break,
        }
    }
    starts.sort_unstable();
    starts
}

fn extents_of(file: &fs::File, start: u64, length: u64) -> io::Result<Map> {
    let mut map = Map {
        start,
        length,
        count: EXTENTS as u32,
        ..Map::default()
    };
    // SAFETY: the descriptor is open; `map` is the kernel's layout with room for the `count` extents that it may fill in.
    match unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) } {
        0 => Ok(map),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_cut_where_an_extent_begins() {
        let starts = ExtentStarts(vec![8192, 65536]);
        assert_eq!(starts.cut(0, 8192), None);
        assert_eq!(starts.cut(0, 12288), Some(8192));
        assert_eq!(starts.cut(8192, 65536), Some(57344));
        assert_eq!(starts.cut(65536, 1 << 20), None);
        assert_eq!(ExtentStarts::default().cut(0, 1 << 20), None);
    }

    #[test]
    fn what_is_learned_again_replaces_what_was_known_behind() {
        let mut starts = ExtentStarts(vec![8192, 65536, 131_072]);
        starts.learn(65536, vec![98304]);
        assert_eq!(starts.0, [8192, 98304]);
        starts.learn(131_072, Vec::new());
        assert_eq!(starts.0, [8192, 98304]);
    }
}
