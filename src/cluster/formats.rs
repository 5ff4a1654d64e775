//! The decoders of what the cluster keeps on the disk, by name, for the fuzzers (`tests/fuzz`). No interface: nothing else uses it.

pub use super::codec::{decode as decode_commit, encode as encode_commit};
pub use super::log_format::{FormatError, HEADER_BYTES, Header, Tail, push_commit, scan, sealed_file};
