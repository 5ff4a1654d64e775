//! The targets: functions over any bytes that panic when a claim does not hold. `tests/fuzz/fuzz_targets` runs each under libFuzzer,
//! `tests/fuzz_seeds.rs` runs every committed seed through them with a stable compiler.

mod input;
mod memory;

pub mod arena;
pub mod batch_validator;
pub mod checkpoint;
pub mod config;
pub mod frame_decoder;
pub mod journal;
pub mod listeners;
pub mod message_decoder;
pub mod message_oracle;
pub mod messages;
pub mod meta_properties;
pub mod metadata_log;
pub mod names;
pub mod native_frame;
pub mod record_reader;
pub mod segment_files;

/// A target's name, and what it does with an input.
type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("arena", arena::run),
    ("batch_validator", batch_validator::run),
    ("checkpoint", checkpoint::run),
    ("config", config::run),
    ("frame_decoder", frame_decoder::run),
    ("journal", journal::run),
    ("listeners", listeners::run),
    ("message_decoder", message_decoder::run),
    ("message_oracle", message_oracle::run),
    ("meta_properties", meta_properties::run),
    ("metadata_log", metadata_log::run),
    ("names", names::run),
    ("native_frame", native_frame::run),
    ("record_reader", record_reader::run),
    ("segment_files", segment_files::run),
];
