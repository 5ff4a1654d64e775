//! The simulated environment: a whole cluster of hosts in one thread, from one seed, in virtual time.
//!
//! A [`World`] holds hosts; a host has one disk, which outlives its processes; a process has shards, each a root task with a
//! [`SimEnv`]. Nothing happens but one step at a time: a task is polled, or an event (a timer, a completion of a disk, an
//! arrival from the network) takes place. The seed decides which and when, so the same seed and the same calls replay
//! the same run exactly (`World::trace_hash` tells).
//!
//! Invariants
//! 1. No decision depends on anything but the seed and the calls: ordered maps only, no real clock, no addresses
//!    (`tests::same_seed_same_trace`).
//! 2. No user code (a future, a destructor, a test's hook) runs while a part of the world is borrowed: handles close through
//!    `ClosedQueue`, tasks are taken out before they are dropped (a breach panics in `RefCell`).
//! 3. A process that was killed sees nothing more: its tasks are dropped, its completions have no receiver (`World::kill`).
//! 4. Misuse of the seam panics with the seed: see `disk` and `network`.
//!
//! In: futures generic over `Env`, and a test's orders. Out: what they did, disk images, counters. Not for: performance
//! figures (time is invented) and real parallelism (shards interleave between two polls, never within one).
//!
//! `core` time, events, randomness; `executor` tasks; `disk` and `network` the devices; `env` the seam; `world` the test's
//! side of it.

mod core;
mod disk;
mod env;
mod executor;
mod network;
mod options;
mod random;
mod world;

#[cfg(test)]
mod tests;

pub use disk::{DiskCounters, DiskImage, DiskOperation, EDQUOT, EIO, ENOSPC, Fault, FaultEffect, LossMode};
pub use env::{SimDetached, SimEnv, SimFile, SimListener, SimLock, SimStream, rest_of};
pub use network::host_address;
pub use options::{DiskOptions, NetworkOptions, Options, Schedule};
pub use world::{ProcessId, World};
