//! The bytes of the Kafka protocol: messages and record batches. Pure: no I/O, no clock.

pub mod batch;
pub mod kafka;
