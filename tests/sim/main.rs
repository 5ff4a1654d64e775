//! The broker's parts in the simulated environment: seeds, crashes at every completion, faults.

mod log;
mod model;
mod verify;
