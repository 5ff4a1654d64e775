//! The arena: bounded memory that outlives the process, cut into chunks that hold the tails of partitions.
//!
//! Layout of the region: one 4 KiB head (magic, version, unit size, unit count, boot), then a table of one 128-byte header
//! per unit, then the units. A chunk is a run of units; the header of its first unit describes it:
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | filled length in bytes; 0 = nobody's. Stored last, cleared first |
//! | 8..16 | units in the run |
//! | 16..96 | identity (opaque here: `storage` says which partition, segment and position) |
//! | 96..104 | check over 8..96, so that a header half written at the kill is nobody's |
//! | 104..112 | how many of the filled bytes were stored elsewhere too: true until the machine's next boot |

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::region::Region;
use super::units::Units;
use super::{BLOCK_BYTES, block_ceil};
use crate::base::planted::{Bug, planted};

const MAGIC: u64 = 0x3130_616e_6572_6172;
const HEADER_BYTES: usize = 128;
const IDENTITY_POSITION: usize = 16;
const CHECK_POSITION: usize = 96;
const STORED_POSITION: usize = 104;

/// Whose bytes a chunk holds: 80 bytes that `storage` encodes.
pub type ChunkIdentity = [u8; 80];

struct Inner {
    region: Arc<Region>,
    unit_bytes: usize,
    units_position: usize,
    units: Mutex<Units>,
}

impl Inner {
    fn header(&self, unit: usize) -> usize {
        BLOCK_BYTES + unit * HEADER_BYTES
    }

    fn with_units<T>(&self, action: impl FnOnce(&mut Units) -> T) -> T {
        action(&mut self.units.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A region formatted for chunks. Cloning is cheap; all clones share the memory.
#[derive(Clone)]
pub struct Arena(Arc<Inner>);

/// A chunk found in a region after a restart.
pub struct Recovered {
    pub identity: ChunkIdentity,
    /// The filled bytes, where they lie: nothing writes to a region of a process that is gone.
    pub bytes: Bytes,
    /// How many of them were stored elsewhere too.
    pub stored: usize,
}

impl Arena {
    /// Erases what the region held and makes it an arena of units of `unit_bytes` (whole blocks), made in the machine's
    /// boot of that id.
    pub fn format(region: Arc<Region>, unit_bytes: usize, boot: u128) -> Self {
        assert!(unit_bytes > 0 && unit_bytes.is_multiple_of(BLOCK_BYTES));
        let mut count = region.bytes().saturating_sub(BLOCK_BYTES) / (unit_bytes + HEADER_BYTES);
        while count > 0 && Self::units_position(count) + count * unit_bytes > region.bytes() {
            count -= 1;
        }
        assert!(count > 0, "an arena holds one unit at least");
        region.store(0, 0);
        for unit in 0..count {
            region.store(BLOCK_BYTES + unit * HEADER_BYTES, 0);
        }
        region.store(8, unit_bytes as u64);
        region.store(16, count as u64);
        region.store(24, boot as u64);
        region.store(32, (boot >> 64) as u64);
        region.store(0, MAGIC);
        let units_position = Self::units_position(count);
        Self(Arc::new(Inner {
            region,
            unit_bytes,
            units_position,
            units: Mutex::new(Units::new(count)),
        }))
    }

    fn units_position(count: usize) -> usize {
        block_ceil((BLOCK_BYTES + count * HEADER_BYTES) as u64) as usize
    }

    /// The chunks that a killed process left in `region`; none if it is not an arena, or of another boot: of a file that a
    /// power cut left, any page may be missing.
    pub fn recover(region: &Arc<Region>, boot: u128) -> Vec<Recovered> {
        if region.bytes() < BLOCK_BYTES || region.load(0) != MAGIC {
            return Vec::new();
        }
        let own = (region.load(24), region.load(32)) == (boot as u64, (boot >> 64) as u64);
        if !own && !planted(Bug::BelieveOtherBoot) {
            return Vec::new();
        }
        let (unit_bytes, count) = (region.load(8) as usize, region.load(16) as usize);
        let bytes = region.bytes();
        if unit_bytes == 0 || unit_bytes > bytes || count > bytes / HEADER_BYTES {
            return Vec::new();
        }
        if Self::units_position(count).saturating_add(count.saturating_mul(unit_bytes)) > bytes {
            return Vec::new();
        }
        (0..count)
            .filter_map(|unit| Self::recover_unit(region, unit, unit_bytes, count))
            .collect()
    }

    fn recover_unit(region: &Arc<Region>, unit: usize, unit_bytes: usize, count: usize) -> Option<Recovered> {
        let header = BLOCK_BYTES + unit * HEADER_BYTES;
        let (filled, run) = (region.load(header) as usize, region.load(header + 8) as usize);
        if filled == 0 || run == 0 || run > count - unit || filled > run * unit_bytes {
            return None;
        }
        if region.load(header + CHECK_POSITION) != u64::from(check(region, header)) {
            return None;
        }
        let mut identity = [0; 80];
        identity.copy_from_slice(slice(region, header + IDENTITY_POSITION, 80));
        Some(Recovered {
            identity,
            bytes: Bytes::from_owner(Left {
                region: region.clone(),
                position: Self::units_position(count) + unit * unit_bytes,
                bytes: filled,
            }),
            stored: (region.load(header + STORED_POSITION) as usize).min(filled),
        })
    }

    /// A fresh chunk of `run` units (a power of two up to 64), or `None` when no such run is free.
    pub fn take(&self, run: usize, identity: &ChunkIdentity) -> Option<Chunk> {
        let first = self.0.with_units(|units| units.take(run))?;
        let region = &self.0.region;
        let header = self.0.header(first);
        // What earlier chunks of these units said must not be found beside this one.
        (first..first + run).for_each(|unit| region.store(self.0.header(unit), 0));
        region.store(header + 8, run as u64);
        region.store(header + STORED_POSITION, 0);
        for (i, word) in identity.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(word.try_into().expect("chunks of eight"));
            region.store(header + IDENTITY_POSITION + 8 * i, word);
        }
        region.store(header + CHECK_POSITION, u64::from(check(region, header)));
        let lease = Arc::new(Lease {
            arena: self.0.clone(),
            first,
            run,
        });
        Some(Chunk { lease, filled: 0 })
    }

    pub fn unit_bytes(&self) -> usize {
        self.0.unit_bytes
    }

    /// Bytes that no chunk or view holds.
    pub fn free_bytes(&self) -> usize {
        self.0.with_units(|units| units.free()) * self.0.unit_bytes
    }
}

fn slice(region: &Region, position: usize, bytes: usize) -> &[u8] {
    assert!(position.checked_add(bytes).is_some_and(|end| end <= region.bytes()));
    // SAFETY: in bounds; called for headers under construction by this thread and for memory nobody writes any more.
    unsafe { std::slice::from_raw_parts(region.pointer(position), bytes) }
}

fn check(region: &Region, header: usize) -> u32 {
    crc32c::crc32c_append(MAGIC as u32, slice(region, header + 8, CHECK_POSITION - 8))
}

/// The memory of a chunk: given back when the chunk and its last view are gone.
struct Lease {
    arena: Arc<Inner>,
    first: usize,
    run: usize,
}

impl Lease {
    fn position(&self) -> usize {
        self.arena.units_position + self.first * self.arena.unit_bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.arena.with_units(|units| units.give_back(self.first, self.run));
    }
}

/// Append-only memory with one writer and any number of views of what is filled.
pub struct Chunk {
    lease: Arc<Lease>,
    filled: usize,
}

impl Chunk {
    pub fn capacity(&self) -> usize {
        self.lease.run * self.lease.arena.unit_bytes
    }

    pub fn filled(&self) -> usize {
        self.filled
    }

    pub fn room(&self) -> usize {
        self.capacity() - self.filled
    }

    /// Copies `bytes`, which must fit, behind what is filled. A kill forgets them until `publish`.
    pub fn append(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room());
        let target = self.lease.arena.region.pointer(self.lease.position() + self.filled);
        // SAFETY: in bounds by the assertion; no view reaches beyond `filled`, and `&mut self` is the only writer.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
        self.filled += bytes.len();
    }

    /// Stores the filled length in the header: from here on the bytes outlive the process.
    pub fn publish(&self) {
        self.lease
            .arena
            .region
            .store(self.lease.arena.header(self.lease.first), self.filled as u64);
    }

    /// Notes in the header that the first `bytes` are stored elsewhere too: a restart need not do it.
    pub fn note_stored(&self, bytes: usize) {
        let header = self.lease.arena.header(self.lease.first);
        self.lease
            .arena
            .region
            .store(header + STORED_POSITION, bytes.min(self.filled) as u64);
    }

    /// Takes the chunk out of what a restart would find, while views of it may live on. Dropping it does not: a process that
    /// dies unwinding must leave what it acknowledged.
    pub fn retire(&self) {
        self.lease
            .arena
            .region
            .store(self.lease.arena.header(self.lease.first), 0);
    }

    /// Shared bytes `[start, end)` of what is filled.
    pub fn view(&self, start: usize, end: usize) -> Bytes {
        assert!(start <= end && end <= self.filled);
        Bytes::from_owner(View {
            lease: self.lease.clone(),
            start,
            bytes: end - start,
        })
    }

    /// The filled bytes.
    pub fn as_slice(&self) -> &[u8] {
        slice(&self.lease.arena.region, self.lease.position(), self.filled)
    }
}

/// What a killed process left.
struct Left {
    region: Arc<Region>,
    position: usize,
    bytes: usize,
}

impl AsRef<[u8]> for Left {
    fn as_ref(&self) -> &[u8] {
        slice(&self.region, self.position, self.bytes)
    }
}

struct View {
    lease: Arc<Lease>,
    start: usize,
    bytes: usize,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        // The range was filled when the view was made, and filled bytes are never written again.
        slice(&self.lease.arena.region, self.lease.position() + self.start, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::NonNull;

    fn region(bytes: usize) -> Arc<Region> {
        let mut memory = super::super::AlignedBuf::new(bytes);
        let pointer = NonNull::new(memory.as_mut_ptr()).expect("allocated");
        // SAFETY: the buffer is kept by the release closure for as long as the region lives.
        Arc::new(unsafe { Region::from_raw(pointer, bytes, Box::new(move || drop(memory))) })
    }

    #[test]
    fn published_bytes_are_found_after_a_restart_and_nothing_else() {
        let region = region(1 << 20);
        let arena = Arena::format(region.clone(), 16384, 7);
        let mut kept = arena.take(2, &[1; 80]).expect("room");
        kept.append(b"hello");
        kept.publish();
        kept.note_stored(3);
        kept.append(b" unpublished");
        let mut unpublished = arena.take(1, &[2; 80]).expect("room");
        unpublished.append(b"x");
        let mut dropped = arena.take(1, &[3; 80]).expect("room");
        dropped.append(b"y");
        dropped.publish();
        let view = dropped.view(0, 1);
        dropped.retire();
        drop(dropped);
        let found = Arena::recover(&region, 7);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].identity, &found[0].bytes[..]), ([1; 80], &b"hello"[..]));
        assert_eq!(found[0].stored, 3);
        for other_boot in [8, 7 << 64] {
            assert!(Arena::recover(&region, other_boot).is_empty());
        }
        assert_eq!(&view[..], b"y");
    }

    /// What a new binary finds of one that was killed: when this fails, the layout needs a new magic.
    #[test]
    fn golden_bytes() {
        let region = region(1 << 20);
        let arena = Arena::format(region.clone(), 16384, 0x0123_4567_89ab_cdef_1122_3344_5566_7788);
        let identity: [u8; 80] = std::array::from_fn(|index| index as u8);
        let mut chunk = arena.take(2, &identity).expect("room");
        chunk.append(b"hello");
        chunk.publish();
        chunk.note_stored(3);
        let hex = |position: usize, bytes: usize| -> String {
            let bytes = slice(&region, position, bytes).iter();
            bytes.map(|byte| format!("{byte:02x}")).collect()
        };
        let head = "726172656e6130310040000000000000\
                    3f000000000000008877665544332211efcdab8967452301";
        assert_eq!(hex(0, 40), head, "magic, bytes of a unit, units, boot");
        let header = chunk.lease.arena.header(chunk.lease.first);
        assert_eq!(header, BLOCK_BYTES + chunk.lease.first * HEADER_BYTES);
        let golden = [
            "05000000000000000200000000000000",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f",
            "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
        ];
        assert_eq!(hex(header, 96), golden.concat(), "filled, run, identity");
        let units = Arena::units_position(0x3f);
        assert_eq!(hex(units + chunk.lease.first * 16384, 5), "68656c6c6f");
        assert_eq!(
            (
                IDENTITY_POSITION,
                hex(header + CHECK_POSITION, 8),
                hex(header + STORED_POSITION, 8)
            ),
            (16, "ac7fc74200000000".to_owned(), "0300000000000000".to_owned())
        );
    }

    #[test]
    fn memory_is_reused_only_after_the_last_view() {
        let arena = Arena::format(region(1 << 20), 16384, 7);
        let free = arena.free_bytes();
        let mut chunk = arena.take(4, &[0; 80]).expect("room");
        chunk.append(&[9; 100]);
        let view = chunk.view(10, 20);
        drop(chunk);
        assert_eq!(arena.free_bytes(), free - 4 * 16384);
        assert_eq!(&view[..], &[9; 10]);
        drop(view);
        assert_eq!(arena.free_bytes(), free);
    }

    #[test]
    fn a_region_of_garbage_holds_nothing() {
        let region = region(1 << 16);
        region.store(0, MAGIC);
        region.store(8, u64::MAX);
        region.store(16, u64::MAX);
        assert!(Arena::recover(&region, 0).is_empty());
    }
}
