//! Words every other module speaks: identifiers, buffers, queues and wake-ups.
//!
//! Invariants
//! 1. A byte that a view of a buffer shows never changes while the view lives (`buffer::Chunk::view` asserts `end <= filled`).
//! 2. Every queue is bounded (`mailbox::Sender::try_send` refuses at the bound).
//!
//! Not for: I/O, clocks, randomness or threads. `unsafe` stands in `buffer` alone.

pub mod budget;
pub mod buffer;
pub mod coverage;
pub mod ids;
pub mod mailbox;
pub mod planted;
pub mod soon;
pub mod sync;
