//! Memory that the kernel reads and writes: block-aligned buffers, mapped regions, and the arena's chunks.
//!
//! Invariants
//! 1. A byte shown by a view never changes while the view lives: `Chunk::view` asserts `end <= filled`, and a chunk's
//!    memory is given out again only when its last view is gone (`Lease`).
//! 2. A chunk has one writer (`append` takes `&mut`), and chunks never overlap (`Units` hands out disjoint runs).
//! 3. A chunk's header says no more than its bytes hold: identity first, filled length last (`publish`).
//!
//! The only `unsafe` outside `io::uring` stands here. Not for: which bytes go where (that is `storage`).

mod aligned;
mod arena;
mod pinned;
mod region;
mod units;

pub use aligned::{AlignedBuf, Pool};
pub use arena::{Arena, Chunk, ChunkIdentity, Recovered};
pub use pinned::{Piece, Pinned};
pub use region::Region;

/// The unit of direct I/O: every position, length and address is a multiple.
pub const BLOCK_BYTES: usize = 4096;

/// `bytes` rounded up to whole blocks.
pub const fn block_ceil(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

/// `bytes` rounded down to whole blocks.
pub const fn block_floor(bytes: u64) -> u64 {
    bytes - bytes % BLOCK_BYTES as u64
}
