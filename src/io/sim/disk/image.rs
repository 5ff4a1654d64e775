//! A disk at one moment, cheap to copy, and what a crash at that moment leaves of it.

use std::path::{Path, PathBuf};

use super::state::{Action, State};
use crate::io::sim::random::{Rng, mix};

/// What a power cut does to everything that completed but was not made durable, and to what was in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LossMode {
    /// All of it is lost.
    LoseAll,
    /// All of it survives, what was in flight included.
    KeepAll,
    /// Each change survives or not, independently: data, extent conversion, size, and each directory entry.
    Random,
    /// Changes survive and are lost in runs: many later ones stand without those before them.
    Reordered,
    /// As `Random`, and the data of a write may survive in part: a prefix, or any of its sectors.
    Torn {
        /// 512 or 4096.
        sector_bytes: u64,
    },
}

/// How many changes a run of `Reordered` has on average.
const RUN_CHANGES: u64 = 6;

/// A loss mode with its randomness.
pub(super) struct Loss {
    mode: LossMode,
    random: Rng,
    /// Of `Reordered`: whether the run keeps.
    run_keeps: bool,
}

impl Loss {
    pub(super) fn new(mode: LossMode, seed: u64) -> Self {
        if let LossMode::Torn { sector_bytes } = mode {
            assert!(sector_bytes == 512 || sector_bytes == 4096, "sectors of {sector_bytes}");
        }
        Self {
            mode,
            random: Rng::new(seed, 5),
            run_keeps: false,
        }
    }

    /// For changes that are durable.
    pub(super) fn none() -> Self {
        Self::new(LossMode::KeepAll, 0)
    }

    pub(super) fn keeps(&mut self) -> bool {
        match self.mode {
            LossMode::LoseAll => false,
            LossMode::KeepAll => true,
            LossMode::Random | LossMode::Torn { .. } => self.random.coin(),
            LossMode::Reordered => {
                self.run_keeps ^= self.random.below(RUN_CHANGES) == 0;
                self.run_keeps
            }
        }
    }

    /// The byte ranges of the write `[start, end)` that survive.
    pub(super) fn surviving(&mut self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let LossMode::Torn { sector_bytes } = self.mode else {
            return if self.keeps() { vec![(start, end)] } else { Vec::new() };
        };
        match self.random.below(4) {
            0 => Vec::new(),
            1 => vec![(start, end)],
            2 => {
                let sectors = (end - start).div_ceil(sector_bytes);
                let cut = start / sector_bytes * sector_bytes + self.random.below(sectors + 1) * sector_bytes;
                vec![(start, cut.clamp(start, end))]
            }
            _ => self.random_sectors(start, end, sector_bytes),
        }
    }

    fn random_sectors(&mut self, start: u64, end: u64, sector_bytes: u64) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut at = start;
        while at < end {
            let next = ((at / sector_bytes + 1) * sector_bytes).min(end);
            if self.random.coin() {
                match ranges.last_mut() {
                    Some(last) if last.1 == at => last.1 = next,
                    _ => ranges.push((at, next)),
                }
            }
            at = next;
        }
        ranges
    }
}

/// A host's disk at one moment: what is durable, what is not yet, what is in flight, and the memory that processes mapped.
/// A clone shares everything with the original.
#[derive(Clone)]
pub struct DiskImage {
    pub(super) state: State,
    /// Operations submitted and not complete, by submission.
    pub(super) in_flight: Vec<Action>,
    pub(super) memory_directory: PathBuf,
    pub(super) mapped_pages_survive: bool,
}

impl DiskImage {
    /// What stands on the disk after the power went: nothing is in flight or volatile any more, mapped memory is gone.
    pub fn after_power_cut(&self, mode: LossMode, seed: u64) -> Self {
        let mut loss = Loss::new(mode, mix(seed, 1));
        let mut state = self.state.clone();
        for action in &self.in_flight {
            if loss.keeps() {
                land(&mut state, action, false);
            }
        }
        Self {
            state: state.after_power_cut(&mut loss, &self.memory_directory, self.mapped_pages_survive),
            in_flight: Vec::new(),
            memory_directory: self.memory_directory.clone(),
            mapped_pages_survive: self.mapped_pages_survive,
        }
    }

    /// What the next process finds after the device alone lost what was not durable, under a machine that runs on: mapped
    /// memory is there, and says what the process before believed to be stored.
    pub fn after_cache_loss(&self, mode: LossMode, seed: u64) -> Self {
        let mut loss = Loss::new(mode, mix(seed, 1));
        Self {
            state: self.state.after_cache_loss(&mut loss, &self.memory_directory),
            in_flight: Vec::new(),
            ..self.clone()
        }
    }

    /// What the next process finds after kill -9 once the lock is free: every write in flight landed, landed in part, or
    /// never will. What was volatile is still there (and still volatile); so is mapped memory.
    pub fn after_kill(&self, seed: u64) -> Self {
        let random = Rng::new(seed, 6);
        let mut image = self.clone();
        let mut in_flight = std::mem::take(&mut image.in_flight);
        while !in_flight.is_empty() {
            let action = in_flight.swap_remove(random.below(in_flight.len() as u64) as usize);
            match random.below(4) {
                0 => {}
                1 => land(&mut image.state, &shortened(&action, &random), true),
                _ => land(&mut image.state, &action, true),
            }
        }
        image
    }

    /// Equal for images that no process could tell apart, now or after any crash (up to collisions).
    pub fn hash(&self) -> u64 {
        self.in_flight.iter().fold(self.state.hash(), |hash, action| {
            let Action::Write {
                inode, position, data, ..
            } = action
            else {
                return mix(hash, 3);
            };
            mix(mix(hash, mix(*inode, *position)), super::blocks::hash_bytes(data))
        })
    }

    /// The bytes that a read of `path` would see, for assertions of tests.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let inode = self.state.lookup(path.as_ref()).ok()?;
        let file = self.state.file(inode).ok()?;
        let mut bytes = vec![0; file.current.size as usize];
        file.current.read(0, &mut bytes);
        Some(bytes)
    }

    /// Flips the bits of `mask` in one byte of a file, as the device's cells would.
    pub fn corrupt(&mut self, path: impl AsRef<Path>, position: u64, mask: u8) -> std::io::Result<()> {
        let inode = self.state.lookup(path.as_ref())?;
        self.state.file_mut(inode)?.rot(position, mask);
        Ok(())
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

/// Lets an operation of a dead process happen, its result unseen. A flush in flight promises nothing.
fn land(state: &mut State, action: &Action, killed: bool) {
    let mut action = action.clone();
    if let Action::Write { device, .. } = &mut action {
        *device &= killed;
    }
    if action.mutates() {
        // An error is what the dead process would have seen; it changes nothing.
        drop(state.apply(&action));
    }
}

/// A part of a write: a prefix of whole blocks, which may be nothing.
fn shortened(action: &Action, random: &Rng) -> Action {
    let mut action = action.clone();
    if let Action::Write { data, .. } = &mut action {
        let blocks = data.len() as u64 / super::blocks::BLOCK;
        data.truncate((random.below(blocks + 1) * super::blocks::BLOCK) as usize);
    }
    action
}
