//! The medium, the volatile write cache above it, and what a power cut leaves of the cache.

use std::collections::HashMap;

use crate::random::Random;

/// What a device writes whole.
pub const SECTOR_BYTES: usize = 512;
/// What the image is kept in, and what a file system writes at least.
pub const PAGE_BYTES: usize = 4096;
/// Above this the cache writes back its older half by itself, as a real one does when it is full.
const CACHE_BYTES_MAX: u64 = 64 << 20;

type Page = [u8; PAGE_BYTES];

/// What a power cut does to writes that no flush has covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// None of them is kept.
    All,
    /// Of each write, each 4 KiB block is kept or lost by itself.
    Blocks,
    /// The same, and a block may be torn: each of its 512 B sectors is kept or lost.
    Torn,
    /// The later writes are kept, whole, and the earlier ones are lost.
    Reordered,
}

/// What a cut did, in sectors written (a sector that was written twice counts twice).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cut {
    pub writes: u64,
    pub sectors: u64,
    pub kept_sectors: u64,
}

/// The writes that were complete when a flush began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Covered(u64);

/// Not whole sectors, or beyond the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

struct Write {
    position: u64,
    bytes: Box<[u8]>,
}

pub struct Device {
    bytes: u64,
    /// What reads see. A page that was never written is zeros.
    pages: Vec<Option<Box<Page>>>,
    /// What the medium has, of the pages that the cache changed.
    medium: HashMap<usize, Option<Box<Page>>>,
    /// The cache: writes in the order they came.
    unflushed: Vec<Write>,
    unflushed_bytes: u64,
    /// The number of the first of `unflushed`, over the device's whole life.
    first: u64,
}

impl Device {
    /// A device of zeros.
    pub fn new(bytes: u64) -> Device {
        Device {
            bytes,
            pages: (0..bytes.div_ceil(PAGE_BYTES as u64)).map(|_| None).collect(),
            medium: HashMap::new(),
            unflushed: Vec::new(),
            unflushed_bytes: 0,
            first: 0,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes that no flush has covered.
    pub fn unflushed_count(&self) -> u64 {
        self.unflushed.len() as u64
    }

    fn check(&self, position: u64, length: usize) -> Result<(), OutOfRange> {
        let sectors = position.is_multiple_of(SECTOR_BYTES as u64) && length.is_multiple_of(SECTOR_BYTES);
        let end = position.checked_add(length as u64).ok_or(OutOfRange)?;
        (sectors && end <= self.bytes).then_some(()).ok_or(OutOfRange)
    }

    /// Fills `buffer` with what was written last; zeros beyond the end.
    pub fn read(&self, position: u64, buffer: &mut [u8]) {
        for (page, within, range) in pieces(position, buffer.len(), PAGE_BYTES) {
            match self.pages.get(page) {
                Some(Some(bytes)) => buffer[range.clone()].copy_from_slice(&bytes[within..within + range.len()]),
                _ => buffer[range].fill(0),
            }
        }
    }

    /// Puts whole sectors into the cache.
    pub fn write(&mut self, position: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.check(position, bytes.len())?;
        for (page, _, _) in pieces(position, bytes.len(), PAGE_BYTES) {
            let pages = &self.pages;
            self.medium.entry(page).or_insert_with(|| pages[page].clone());
        }
        store(&mut self.pages, position, bytes);
        self.unflushed.push(Write {
            position,
            bytes: bytes.into(),
        });
        self.unflushed_bytes += bytes.len() as u64;
        if self.unflushed_bytes > CACHE_BYTES_MAX {
            self.finish_flush(Covered(self.first + self.unflushed.len() as u64 / 2));
        }
        Ok(())
    }

    /// A flush begins: it covers what is complete now.
    pub fn begin_flush(&self) -> Covered {
        Covered(self.first + self.unflushed.len() as u64)
    }

    /// It ends: what it covered is on the medium.
    pub fn finish_flush(&mut self, covered: Covered) {
        for write in self.take(covered) {
            if self.unflushed.is_empty() {
                break;
            }
            for (page, within, range) in pieces(write.position, write.bytes.len(), PAGE_BYTES) {
                let medium = self.medium.get_mut(&page).expect("the cache changed the page");
                place(medium, within, &write.bytes[range]);
            }
        }
        self.forget_what_is_equal();
    }

    /// It fails: what it covered is lost, whatever is flushed later.
    pub fn fail_flush(&mut self, covered: Covered) {
        self.take(covered);
        self.revert();
        for write in &self.unflushed {
            store(&mut self.pages, write.position, &write.bytes);
        }
        self.forget_what_is_equal();
    }

    /// The power goes: what the cache held is kept or lost as `loss` says; what is left is on the medium.
    pub fn cut(&mut self, loss: Loss, seed: u64) -> Cut {
        let mut random = Random::seeded(seed);
        let writes = self.take(self.begin_flush());
        self.revert();
        self.medium.clear();
        let mut cut = Cut {
            writes: writes.len() as u64,
            ..Cut::default()
        };
        // Drawn once for each cut: sometimes nearly all is lost, sometimes nearly nothing.
        let chance = 1 + random.below(7);
        let boundary = random.below(writes.len() as u64 + 1);
        for (index, write) in writes.iter().enumerate() {
            for (_, _, block) in pieces(write.position, write.bytes.len(), PAGE_BYTES) {
                let survives = match loss {
                    Loss::All => Survival::Lost,
                    Loss::Reordered if index as u64 >= boundary => Survival::Kept,
                    Loss::Reordered => Survival::Lost,
                    Loss::Torn if random.eighths(3) => Survival::Torn,
                    Loss::Blocks | Loss::Torn if random.eighths(chance) => Survival::Kept,
                    Loss::Blocks | Loss::Torn => Survival::Lost,
                };
                for at in block.step_by(SECTOR_BYTES) {
                    cut.sectors += 1;
                    if survives == Survival::Kept || survives == Survival::Torn && random.eighths(4) {
                        let sector = &write.bytes[at..at + SECTOR_BYTES];
                        store(&mut self.pages, write.position + at as u64, sector);
                        cut.kept_sectors += 1;
                    }
                }
            }
        }
        cut
    }

    /// Takes what is covered out of the cache.
    fn take(&mut self, covered: Covered) -> Vec<Write> {
        let count = covered.0.saturating_sub(self.first) as usize;
        let rest = self.unflushed.split_off(count.min(self.unflushed.len()));
        let taken = std::mem::replace(&mut self.unflushed, rest);
        self.first += taken.len() as u64;
        self.unflushed_bytes = self.unflushed.iter().map(|write| write.bytes.len() as u64).sum();
        taken
    }

    /// Reads see the medium again.
    fn revert(&mut self) {
        for (page, bytes) in &self.medium {
            self.pages[*page].clone_from(bytes);
        }
    }

    /// Only pages that the cache changes differ from the medium.
    fn forget_what_is_equal(&mut self) {
        if self.unflushed.is_empty() {
            return self.medium.clear();
        }
        let writes = self.unflushed.iter();
        let changed = writes.flat_map(|write| pieces(write.position, write.bytes.len(), PAGE_BYTES));
        let changed: std::collections::HashSet<usize> = changed.map(|(page, _, _)| page).collect();
        self.medium.retain(|page, _| changed.contains(page));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Survival {
    Kept,
    Lost,
    Torn,
}

/// Cuts `[position, position + length)` where a page of `page_bytes` begins: the page, the place in it, the range of the whole.
fn pieces(
    position: u64,
    length: usize,
    page_bytes: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= length {
            return None;
        }
        let place = position + at as u64;
        let within = (place % page_bytes as u64) as usize;
        let end = length.min(at + page_bytes - within);
        let piece = ((place / page_bytes as u64) as usize, within, at..end);
        at = end;
        Some(piece)
    })
}

fn store(pages: &mut [Option<Box<Page>>], position: u64, bytes: &[u8]) {
    for (page, within, range) in pieces(position, bytes.len(), PAGE_BYTES) {
        place(&mut pages[page], within, &bytes[range]);
    }
}

fn place(page: &mut Option<Box<Page>>, within: usize, bytes: &[u8]) {
    let page = page.get_or_insert_with(|| Box::new([0; PAGE_BYTES]));
    page[within..within + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
