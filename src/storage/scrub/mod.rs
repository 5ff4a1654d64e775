//! The scrub: reads what a running broker has stored, slowly, so that rot is found before a reader needs the bytes.
//!
//! A pass goes over the partitions of one shard in one directory, from one drawn by lot (restarts cut passes short, and all shall
//! have their turn): each partition's text files, its closed segments, then the open ones as far as they are stored; at last the
//! shard's checkpoints and journals. Bytes are judged by the code of `ringtail log verify`, but for journals in use (`journal::walk`).
//!
//! Invariants
//! 1. Nothing is written: files are opened for reading only (`OpenOptions::READ_DIRECT`, `READ`).
//! 2. What retention or a deletion removes meanwhile is not called damage (`pass::Pass::judge`, after the files were read).
//! 3. No faster than it may (`plan::Throttle`), and not while appends wait for the disk; memory as `verify` says.
//! 4. A place is logged as an error once per start (`plan::Known`).
//!
//! In: a shard's part of a directory. Out: log lines and counters. Not for: answers. Whoever reads the same bytes has them verified
//! again, and gets CORRUPT_MESSAGE.

mod pass;
pub mod plan;

pub use pass::Pass;

/// What a store is asked to scrub with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubOptions {
    /// Bytes that all shards together read in a second of one directory; 0 = no scrub.
    pub bytes_per_second: u64,
    /// A pass begins so long after the one before, or right after it if that took longer.
    pub interval_ms: u64,
}
