//! A disk that obeys: what it holds, what a power cut leaves of it, which requests fail.
//!
//! These are the pure parts. The program around them (`main.rs`, `server.rs`) serves the disk as the file `image` of a FUSE file system and takes
//! [`Command`]s on its standard input; a loop device over that file carries a real file system.
//!
//! 1. A write is seen by reads at once, and is on the medium only when a flush that began behind it has ended ([`Device::finish_flush`]).
//! 2. A cut keeps of what was not flushed what its [`Loss`] says, drawn from a seed, and nothing else changes ([`Device::cut`]).
//! 3. A flush that failed loses what it covered: whoever flushes again and believes it has lost data ([`Device::fail_flush`]).
//!
//! Not for: a controller's queue (the order in which requests come is the order in which they are cached), bit rot (write to the image).

mod command;
mod device;
mod faults;
pub mod fuse;
mod random;

pub use command::Command;
pub use device::{Covered, Cut, Device, Loss, OutOfRange, PAGE_BYTES, SECTOR_BYTES};
pub use faults::{Faults, Kind, Rule, Verdict};
