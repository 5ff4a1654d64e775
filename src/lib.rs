//! Ringtail: a log broker that speaks Kafka's wire protocol, one thread per core, on io_uring and direct I/O.
//!
//! Modules are listed in import order: each may use those above it, never those below (`tests/tidy.rs` checks it).
//! `docs/ARCHITECTURE.md` is the map.

pub mod base;
pub mod io;
pub mod wire;
pub mod config;
pub mod metrics;
pub mod storage;
pub mod cluster;
pub mod client;
pub mod broker;
pub mod shard;
pub mod cli;
