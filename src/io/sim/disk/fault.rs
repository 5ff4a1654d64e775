//! Faults that a test plants in a disk: which operations they hit, and what happens to these.

use super::state::Action;
use crate::io::sim::random::Rng;

/// A kind of disk operation, as faults select them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOperation {
    Any,
    Open,
    Write,
    Read,
    /// fdatasync, fsync of a directory, syncfs.
    Flush,
    /// syncfs alone.
    FlushFileSystem,
    /// Size, allocate, zero, truncate.
    Shape,
    /// Create and remove directories, rename, unlink, list.
    Name,
}

impl DiskOperation {
    pub(super) fn of(action: &Action) -> Self {
        match action {
            Action::Open { .. } | Action::Lock { .. } | Action::Map { .. } => Self::Open,
            Action::Write { .. } => Self::Write,
            Action::Read { .. } => Self::Read,
            Action::Flush { .. } | Action::FlushDirectory { .. } | Action::FlushFileSystem { .. } => Self::Flush,
            Action::Size { .. } | Action::Allocate { .. } | Action::Zero { .. } | Action::Truncate { .. } => {
                Self::Shape
            }
            _ => Self::Name,
        }
    }

    fn includes(self, action: &Action) -> bool {
        match self {
            Self::Any => true,
            Self::FlushFileSystem => matches!(action, Action::FlushFileSystem { .. }),
            kind => kind == Self::of(action),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultEffect {
    /// Fails with this errno. A write may have landed in part; a failed flush has lost what it was to flush. EMFILE hits what
    /// opens something, and nothing else.
    Error(i32),
    /// A write or read moves only a part of what was asked.
    Short,
    /// Takes this much longer.
    Stall { ns: u64 },
    /// A write lands here instead, and reports success.
    Misdirect { position: u64 },
}

/// EIO, the usual error of a broken device.
pub const EIO: i32 = 5;
/// ENOSPC, for a fault; a disk that is really full answers it by itself.
pub const ENOSPC: i32 = 28;
/// A quota that is used up.
pub const EDQUOT: i32 = 122;

/// Hits operations of one kind whose path contains `path`.
#[derive(Clone, Debug)]
pub struct Fault {
    pub operation: DiskOperation,
    pub path: String,
    /// Matching operations to leave alone first.
    pub skip: u64,
    /// Operations to hit, then the fault is spent.
    pub times: u64,
    /// Chance of each to be hit, per million.
    pub ppm: u32,
    pub effect: FaultEffect,
}

impl Fault {
    /// Hits every matching operation.
    pub fn always(operation: DiskOperation, path: &str, effect: FaultEffect) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            skip: 0,
            times: u64::MAX,
            ppm: 1_000_000,
            effect,
        }
    }

    /// Hits the matching operation number `index` (from 0) alone.
    pub fn nth(operation: DiskOperation, path: &str, index: u64, effect: FaultEffect) -> Self {
        Self {
            skip: index,
            times: 1,
            ..Self::always(operation, path, effect)
        }
    }

    /// The effect on this operation, if the fault hits it.
    pub(super) fn strike(&mut self, action: &Action, path: &str, random: &Rng) -> Option<FaultEffect> {
        if self.times == 0 || !self.operation.includes(action) {
            return None;
        }
        if !path.contains(&self.path) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if !random.chance(self.ppm) {
            return None;
        }
        self.times -= 1;
        Some(self.effect)
    }
}
