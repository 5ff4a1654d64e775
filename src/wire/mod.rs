//! The bytes of both protocols and of record batches. Pure: no I/O, no clock.

mod framing;

pub mod batch;
pub mod kafka;
pub mod native;

pub use framing::{FrameError, Framing, LENGTH_BYTES, Protocol};
