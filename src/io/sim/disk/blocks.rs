//! The content of a file: blocks of 4 KiB with the state of their extent, shared between copies until written.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::buffer::BLOCK_BYTES;
use crate::io::sim::random::mix;

pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;
const CHUNK_SLOTS: usize = 64;

/// One block's bytes, with their hash once somebody asked.
pub(super) struct Block {
    bytes: [u8; BLOCK_BYTES],
    hash: Cell<Option<u64>>,
}

impl Block {
    /// `None` stands for zeros.
    pub(super) fn of(bytes: [u8; BLOCK_BYTES]) -> Option<Rc<Self>> {
        if is_zero(&bytes) {
            return None;
        }
        Some(Rc::new(Self {
            bytes,
            hash: Cell::new(None),
        }))
    }

    pub(super) fn bytes(&self) -> &[u8; BLOCK_BYTES] {
        &self.bytes
    }

    fn hash(&self) -> u64 {
        if let Some(hash) = self.hash.get() {
            return hash;
        }
        let hash = hash_bytes(&self.bytes);
        self.hash.set(Some(hash));
        hash
    }
}

pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = mix(7, bytes.len() as u64);
    for word in bytes.chunks(8) {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        hash = mix(hash, u64::from_le_bytes(padded));
    }
    hash
}

fn is_zero(bytes: &[u8; BLOCK_BYTES]) -> bool {
    bytes
        .chunks_exact(64)
        .all(|line| line.iter().fold(0, |a, b| a | b) == 0)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Extent {
    #[default]
    Hole,
    /// Allocated; reads as zeros whatever the block holds.
    Unwritten,
    Written,
}

#[derive(Clone, Default)]
pub(super) struct Slot {
    pub(super) extent: Extent,
    pub(super) block: Option<Rc<Block>>,
}

impl Slot {
    /// What a read sees.
    fn visible(&self) -> Option<&Rc<Block>> {
        self.block.as_ref().filter(|_| self.extent == Extent::Written)
    }
}

type Chunk = [Slot; CHUNK_SLOTS];

fn empty_chunk() -> Chunk {
    std::array::from_fn(|_| Slot::default())
}

/// Size, extents and bytes of a file. A clone shares everything until one side changes it.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) size: u64,
    chunks: Vec<Option<Rc<Chunk>>>,
}

impl Content {
    pub(super) fn slot(&self, block: u64) -> Slot {
        let (chunk, slot) = (block as usize / CHUNK_SLOTS, block as usize % CHUNK_SLOTS);
        match self.chunks.get(chunk) {
            Some(Some(chunk)) => chunk[slot].clone(),
            _ => Slot::default(),
        }
    }

    pub(super) fn extent(&self, block: u64) -> Extent {
        let (chunk, slot) = (block as usize / CHUNK_SLOTS, block as usize % CHUNK_SLOTS);
        match self.chunks.get(chunk) {
            Some(Some(chunk)) => chunk[slot].extent,
            _ => Extent::Hole,
        }
    }

    fn slot_mut(&mut self, block: u64) -> &mut Slot {
        let (chunk, slot) = (block as usize / CHUNK_SLOTS, block as usize % CHUNK_SLOTS);
        if chunk >= self.chunks.len() {
            self.chunks.resize(chunk + 1, None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| Rc::new(empty_chunk()));
        &mut Rc::make_mut(chunk)[slot]
    }

    pub(super) fn set_extent(&mut self, block: u64, extent: Extent) {
        if self.extent(block) != extent {
            self.slot_mut(block).extent = extent;
        }
    }

    pub(super) fn set_slot(&mut self, block: u64, slot: Slot) {
        *self.slot_mut(block) = slot;
    }

    /// Puts bytes into a block, whatever its extent.
    pub(super) fn put(&mut self, block: u64, start: usize, bytes: &[u8]) {
        let slot = self.slot_mut(block);
        let mut merged = slot.block.as_ref().map_or([0; BLOCK_BYTES], |block| *block.bytes());
        merged[start..start + bytes.len()].copy_from_slice(bytes);
        slot.block = Block::of(merged);
    }

    /// Copies what a read sees, regardless of the size.
    pub(super) fn read(&self, position: u64, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let at = position + done as u64;
            let (block, start) = (at / BLOCK, (at % BLOCK) as usize);
            let step = (BLOCK_BYTES - start).min(into.len() - done);
            let target = &mut into[done..done + step];
            match self.slot(block).visible() {
                Some(block) => target.copy_from_slice(&block.bytes()[start..start + step]),
                None => target.fill(0),
            }
            done += step;
        }
    }

    /// Cuts or lengthens; a later growth reads as zeros.
    pub(super) fn truncate(&mut self, size: u64) {
        self.drop_from(size.div_ceil(BLOCK));
        if !size.is_multiple_of(BLOCK) && self.slot(size / BLOCK).block.is_some() {
            let start = (size % BLOCK) as usize;
            self.put(size / BLOCK, start, &[0; BLOCK_BYTES][start..]);
        }
        self.size = size;
    }

    fn drop_from(&mut self, first: u64) {
        let (chunk, slot) = (first as usize / CHUNK_SLOTS, first as usize % CHUNK_SLOTS);
        if chunk < self.chunks.len() {
            if let Some(shared) = self.chunks[chunk].as_mut() {
                Rc::make_mut(shared)[slot..].fill_with(Slot::default);
            }
            self.chunks.truncate(chunk + 1);
        }
    }

    /// What a mount makes of it after a crash: nothing beyond the size, nothing in unwritten extents.
    pub(super) fn settle(&mut self) {
        self.truncate(self.size);
        let hidden: Vec<u64> = (self.blocks())
            .filter(|(_, slot)| slot.extent != Extent::Written && slot.block.is_some())
            .map(|(block, _)| block)
            .collect();
        for block in hidden {
            self.slot_mut(block).block = None;
        }
    }

    /// The blocks that are allocated or hold something.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, &Slot)> {
        self.chunks.iter().enumerate().flat_map(|(index, chunk)| {
            let slots = chunk.iter().flat_map(|chunk| chunk.iter());
            let base = (index * CHUNK_SLOTS) as u64;
            (slots.enumerate())
                .map(move |(slot, content)| (base + slot as u64, content))
                .filter(|(_, slot)| slot.extent != Extent::Hole || slot.block.is_some())
        })
    }

    pub(super) fn allocated_blocks(&self) -> u64 {
        self.blocks().filter(|(_, slot)| slot.extent != Extent::Hole).count() as u64
    }

    pub(super) fn hash(&self) -> u64 {
        self.blocks().fold(mix(1, self.size), |hash, (block, slot)| {
            let bytes = slot.visible().map_or(0, |block| block.hash());
            mix(hash, mix(mix(block, slot.extent as u64), bytes))
        })
    }
}
