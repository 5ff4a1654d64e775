//! What a simulated world is like: sizes, latencies and the chances of small misfortunes. Faults that break promises
//! (errors, rot, partitions) are not chances here but `Fault`s and calls on the `World`.

use std::ops::Range;
use std::path::PathBuf;

/// In which order ready tasks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// Any ready task of any shard, drawn from the seed.
    Random,
    /// As they became ready.
    Fifo,
}

/// A world's constants. Ranges are nanoseconds of virtual time unless the name says otherwise; `ppm` is per million.
#[derive(Clone, Debug)]
pub struct Options {
    pub hosts: usize,
    pub schedule: Schedule,
    /// Virtual time that one poll of a task takes; above 0, so that tasks which yield for ever see time pass.
    pub poll_ns: u64,
    /// The wall clock at the world's start, milliseconds since 1970.
    pub wall_start_ms: i64,
    pub disk: DiskOptions,
    pub network: NetworkOptions,
}

#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Directories that exist, durably, on a fresh disk (with their parents).
    pub directories: Vec<PathBuf>,
    /// What lies under it is memory: it outlives a process, and is gone after a power cut.
    pub memory_directory: PathBuf,
    pub capacity_bytes: u64,
    pub write_cached: Range<u64>,
    pub write_device: Range<u64>,
    pub read: Range<u64>,
    pub flush: Range<u64>,
    /// Open, size, allocate, truncate and everything on names.
    pub metadata: Range<u64>,
    /// How often an operation takes `stall` longer.
    pub stall_ppm: u32,
    pub stall: Range<u64>,
    pub short_write_ppm: u32,
    pub short_read_ppm: u32,
    /// How often nothing is in the page cache any more when something is to be pinned.
    pub evict_ppm: u32,
    /// How often nothing more can be pinned.
    pub refuse_pin_ppm: u32,
    /// How often a write in flight at kill -9 never lands.
    pub orphan_lost_ppm: u32,
    /// How long the others take from the kill.
    pub orphan_delay: Range<u64>,
    /// Mapped files outside the memory directory: pages may reach the device unasked, so that after a power cut with
    /// `LossMode::Random` or `Torn` each is there or zero. Otherwise such a file is empty then.
    pub mapped_pages_survive: bool,
}

#[derive(Clone, Debug)]
pub struct NetworkOptions {
    pub latency: Range<u64>,
    /// Within one host.
    pub latency_local: Range<u64>,
    /// Unread bytes (on the way or received) at which sends to a socket wait.
    pub window_bytes: usize,
    /// How often a send or receive moves only a part of what it could.
    pub split_ppm: u32,
    pub connect_timeout: u64,
    /// Connections a listener keeps unaccepted; more are refused.
    pub backlog: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: 3,
            schedule: Schedule::Random,
            poll_ns: 200,
            wall_start_ms: 1_700_000_000_000,
            disk: DiskOptions::default(),
            network: NetworkOptions::default(),
        }
    }
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            directories: vec![PathBuf::from("/data")],
            memory_directory: PathBuf::from("/dev/shm"),
            capacity_bytes: 1 << 40,
            write_cached: 10_000..120_000,
            write_device: 50_000..400_000,
            read: 20_000..200_000,
            flush: 100_000..3_000_000,
            metadata: 5_000..300_000,
            stall_ppm: 0,
            stall: 50_000_000..2_000_000_000,
            short_write_ppm: 0,
            short_read_ppm: 0,
            evict_ppm: 50_000,
            refuse_pin_ppm: 50_000,
            orphan_lost_ppm: 250_000,
            orphan_delay: 0..5_000_000,
            mapped_pages_survive: false,
        }
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            latency: 30_000..500_000,
            latency_local: 5_000..30_000,
            window_bytes: 128 << 10,
            split_ppm: 100_000,
            connect_timeout: 3_000_000_000,
            backlog: 1024,
        }
    }
}
