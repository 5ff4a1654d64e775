//! One file: what reads see now, what a power cut leaves for certain, and the changes in between, in order.

use std::collections::VecDeque;
use std::rc::Rc;

use super::blocks::{BLOCK, Block, Content, Extent, Slot, hash_bytes};
use super::image::Loss;
use crate::base::buffer::BLOCK_BYTES;
use crate::io::sim::random::mix;

/// A change that completed but may not have reached the device.
#[derive(Clone)]
struct Change {
    sequence: u64,
    durable: bool,
    /// A flush over it failed: no later flush brings it to the device (the kernel dropped the dirty page).
    doomed: bool,
    kind: ChangeKind,
}

#[derive(Clone)]
enum ChangeKind {
    /// Bytes `[start, end)`; the images are of the whole blocks that these touch.
    Write {
        start: u64,
        end: u64,
        images: Rc<[Option<Rc<Block>>]>,
        /// Blocks whose extent this write makes written: lost apart from the data.
        converts: Rc<[u64]>,
    },
    /// The size grew.
    Grow(u64),
    Allocate {
        first: u64,
        end: u64,
    },
    /// Whole blocks become unwritten.
    Erase {
        first: u64,
        end: u64,
    },
    Truncate(u64),
}

#[derive(Clone, Default)]
pub(super) struct FileNode {
    /// What reads see.
    pub(super) current: Content,
    durable: Content,
    changes: VecDeque<Change>,
    /// The content is memory that processes share; the device knows nothing of it.
    pub(super) mapped: bool,
}

impl FileNode {
    fn change(&mut self, sequence: u64, durable: bool, kind: ChangeKind) {
        self.changes.push_back(Change {
            sequence,
            durable,
            doomed: false,
            kind,
        });
    }

    /// Blocks that a write of this range would have to allocate.
    pub(super) fn holes(&self, position: u64, bytes: u64) -> u64 {
        let range = position / BLOCK..(position + bytes).div_ceil(BLOCK);
        range
            .filter(|block| self.current.extent(*block) == Extent::Hole)
            .count() as u64
    }

    /// Whether all blocks of the range have the extent state that a write keeps or converts in one step.
    pub(super) fn one_extent_kind(&self, position: u64, bytes: u64) -> bool {
        let first = self.current.extent(position / BLOCK);
        let range = position / BLOCK..(position + bytes).div_ceil(BLOCK);
        first != Extent::Hole && range.into_iter().all(|block| self.current.extent(block) == first)
    }

    pub(super) fn write(&mut self, sequence: u64, position: u64, data: &[u8], device: bool) {
        let (start, end) = (position, position + data.len() as u64);
        let (mut images, mut converts) = (Vec::new(), Vec::new());
        // What a failed flush left undone, the write-back of a later write does: extents and size are still the file's.
        let again = self.changes.iter().any(|change| change.doomed);
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            let from = start.max(block * BLOCK);
            let to = end.min((block + 1) * BLOCK);
            let mut bytes = [0; BLOCK_BYTES];
            if to - from < BLOCK {
                self.current.read(block * BLOCK, &mut bytes);
            }
            let (at, source) = ((from - block * BLOCK) as usize, (from - start) as usize);
            let count = (to - from) as usize;
            bytes[at..at + count].copy_from_slice(&data[source..source + count]);
            let image = Block::of(bytes);
            // RWF_DSYNC commits the conversion of its blocks, whoever converted them.
            if device || again || self.current.extent(block) != Extent::Written {
                converts.push(block);
            }
            let extent = Extent::Written;
            self.current.set_slot(
                block,
                Slot {
                    extent,
                    block: image.clone(),
                },
            );
            images.push(image);
        }
        if device {
            self.commit_metadata();
        }
        let kind = ChangeKind::Write {
            start,
            end,
            images: images.into(),
            converts: converts.into(),
        };
        self.change(sequence, device, kind);
        if again {
            self.change(sequence, device, ChangeKind::Grow(end));
        }
        self.grow(sequence, end, device);
        self.fold();
    }

    fn grow(&mut self, sequence: u64, size: u64, durable: bool) {
        if size > self.current.size {
            self.current.size = size;
            self.change(sequence, durable, ChangeKind::Grow(size));
        }
    }

    /// What a device write needs to be read back: size and extents that were changed before it.
    fn commit_metadata(&mut self) {
        for change in &mut self.changes {
            if !matches!(change.kind, ChangeKind::Write { .. }) && !change.doomed {
                change.durable = true;
            }
        }
    }

    pub(super) fn allocate(&mut self, sequence: u64, position: u64, bytes: u64) {
        let (first, end) = (position / BLOCK, (position + bytes).div_ceil(BLOCK));
        allocate(&mut self.current, first, end);
        self.change(sequence, false, ChangeKind::Allocate { first, end });
        self.grow(sequence, position + bytes, false);
    }

    /// Zeros without a change of size: whole blocks by their extents, the rest as a write.
    pub(super) fn zero(&mut self, sequence: u64, position: u64, bytes: u64) {
        let end = (position + bytes).min(self.current.size);
        if position >= end {
            return;
        }
        let (first, last) = (position.div_ceil(BLOCK), end / BLOCK);
        // The end of the file counts as the end of its last block.
        let last = if end == self.current.size {
            end.div_ceil(BLOCK)
        } else {
            last
        };
        if first >= last {
            return self.write(sequence, position, &vec![0; (end - position) as usize], false);
        }
        if position < first * BLOCK {
            self.write(sequence, position, &vec![0; (first * BLOCK - position) as usize], false);
        }
        if end > last * BLOCK {
            self.write(sequence, last * BLOCK, &vec![0; (end - last * BLOCK) as usize], false);
        }
        erase(&mut self.current, first, last);
        self.change(sequence, false, ChangeKind::Erase { first, end: last });
    }

    pub(super) fn truncate(&mut self, sequence: u64, size: u64) {
        self.current.truncate(size);
        self.change(sequence, false, ChangeKind::Truncate(size));
    }

    /// Everything that completed before `sequence` is on the device.
    pub(super) fn flush(&mut self, sequence: u64) {
        for change in &mut self.changes {
            change.durable |= change.sequence < sequence && !change.doomed;
        }
        self.fold();
    }

    /// A flush failed: the data that it covered is never written back. Other changes are in the file system's journal, for a later flush.
    pub(super) fn fail_flush(&mut self, sequence: u64) {
        for change in &mut self.changes {
            let is_data = matches!(change.kind, ChangeKind::Write { .. } | ChangeKind::Grow(_));
            change.doomed |= is_data && change.sequence < sequence && !change.durable;
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.changes.is_empty()
    }

    fn fold(&mut self) {
        while self.changes.front().is_some_and(|change| change.durable) {
            if let Some(change) = self.changes.pop_front() {
                apply(&mut self.durable, &change.kind, &mut Loss::none());
            }
        }
    }

    /// The file as a power cut leaves it.
    pub(super) fn after_power_cut(&self, loss: &mut Loss, mapped_pages_survive: bool) -> Self {
        let mut content = self.durable.clone();
        for change in &self.changes {
            if change.durable {
                apply(&mut content, &change.kind, &mut Loss::none());
            } else {
                apply(&mut content, &change.kind, loss);
            }
        }
        if self.mapped && mapped_pages_survive {
            content.size = self.current.size;
            for (block, slot) in self.current.blocks() {
                if loss.keeps() {
                    content.set_slot(block, slot.clone());
                }
            }
        }
        content.settle();
        Self {
            current: content.clone(),
            durable: content,
            changes: VecDeque::new(),
            mapped: false,
        }
    }

    /// A mapped file's content: `block_at` copies a block of the memory out.
    pub(super) fn store_mapped(&mut self, bytes: usize, mut block_at: impl FnMut(usize, &mut [u8; BLOCK_BYTES])) {
        self.mapped = true;
        self.current.size = self.current.size.max(bytes as u64);
        let mut scratch = [0; BLOCK_BYTES];
        for block in 0..bytes / BLOCK_BYTES {
            block_at(block, &mut scratch);
            let old = self.current.slot(block as u64);
            let same = match &old.block {
                Some(old) => *old.bytes() == scratch,
                None => scratch == [0; BLOCK_BYTES],
            };
            if !same || old.extent != Extent::Written {
                let slot = Slot {
                    extent: Extent::Written,
                    block: if same { old.block } else { Block::of(scratch) },
                };
                self.current.set_slot(block as u64, slot);
            }
        }
    }

    /// Turns bits over, on the device and in what reads see.
    pub(super) fn rot(&mut self, position: u64, mask: u8) {
        for content in [&mut self.current, &mut self.durable] {
            let block = position / BLOCK;
            if content.extent(block) == Extent::Written {
                let mut byte = [0];
                content.read(position, &mut byte);
                content.put(block, (position % BLOCK) as usize, &[byte[0] ^ mask]);
            }
        }
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hash = mix(self.current.hash(), u64::from(self.mapped));
        if !self.changes.is_empty() {
            hash = mix(hash, self.durable.hash());
        }
        for change in &self.changes {
            hash = mix(hash, mix(u64::from(change.durable), u64::from(change.doomed)));
            hash = mix(hash, hash_change(&change.kind));
        }
        hash
    }
}

fn hash_change(kind: &ChangeKind) -> u64 {
    match kind {
        ChangeKind::Write {
            start,
            end,
            images,
            converts,
        } => {
            let hash = images.iter().fold(mix(*start, *end), |hash, image| {
                mix(hash, image.as_ref().map_or(0, |block| hash_bytes(block.bytes())))
            });
            converts.iter().fold(hash, |hash, block| mix(hash, *block))
        }
        ChangeKind::Grow(size) => mix(2, *size),
        ChangeKind::Allocate { first, end } => mix(mix(3, *first), *end),
        ChangeKind::Erase { first, end } => mix(mix(4, *first), *end),
        ChangeKind::Truncate(size) => mix(5, *size),
    }
}

fn allocate(content: &mut Content, first: u64, end: u64) {
    for block in first..end {
        if content.extent(block) == Extent::Hole {
            content.set_extent(block, Extent::Unwritten);
        }
    }
}

fn erase(content: &mut Content, first: u64, end: u64) {
    for block in first..end {
        content.set_slot(
            block,
            Slot {
                extent: Extent::Unwritten,
                block: None,
            },
        );
    }
}

/// Makes a change in `content` as far as `loss` lets it.
fn apply(content: &mut Content, kind: &ChangeKind, loss: &mut Loss) {
    match kind {
        ChangeKind::Write {
            start,
            end,
            images,
            converts,
        } => {
            for (from, to) in loss.surviving(*start, *end) {
                put_range(content, from, to, *start / BLOCK, images);
            }
            if loss.keeps() {
                converts
                    .iter()
                    .for_each(|block| content.set_extent(*block, Extent::Written));
            }
        }
        ChangeKind::Grow(size) if loss.keeps() => content.size = content.size.max(*size),
        ChangeKind::Allocate { first, end } if loss.keeps() => allocate(content, *first, *end),
        ChangeKind::Erase { first, end } => {
            for (from, to) in loss.surviving(*first * BLOCK, *end * BLOCK) {
                erase(content, from.div_ceil(BLOCK), to / BLOCK);
            }
        }
        ChangeKind::Truncate(size) if loss.keeps() => content.truncate(*size),
        ChangeKind::Grow(_) | ChangeKind::Allocate { .. } | ChangeKind::Truncate(_) => {}
    }
}

fn put_range(content: &mut Content, from: u64, to: u64, first_block: u64, images: &[Option<Rc<Block>>]) {
    for block in from / BLOCK..to.div_ceil(BLOCK) {
        let image = &images[(block - first_block) as usize];
        let (start, end) = (from.max(block * BLOCK), to.min((block + 1) * BLOCK));
        if end - start == BLOCK {
            let extent = content.extent(block);
            content.set_slot(
                block,
                Slot {
                    extent,
                    block: image.clone(),
                },
            );
            continue;
        }
        let range = (start - block * BLOCK) as usize..(end - block * BLOCK) as usize;
        let zeros = [0; BLOCK_BYTES];
        let bytes = image.as_ref().map_or(&zeros, |image| image.bytes());
        content.put(block, range.start, &bytes[range.clone()]);
    }
}
