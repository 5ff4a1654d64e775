//! The broker's parts in the simulated environment: seeds, crashes at every completion, faults.

mod ahead;
mod bounds;
mod broker;
mod checkpoints;
mod corrupt;
mod explore;
mod faults;
mod full;
mod history;
mod log;
mod lookups;
mod model;
mod pace;
mod pinned;
mod pressure;
mod verify;
mod workload;
