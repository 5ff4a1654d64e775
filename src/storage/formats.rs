//! What lies in a log directory, by name, for the fuzzers (`tests/fuzz`) and for `ringtail-bench synth`. No interface: nothing else uses it.

pub use super::build::{BatchFacts, SegmentBuild, SegmentIdentity, SumsRow};
pub use super::codec::{Fields, PutFields};
pub use super::cursor::Cursor;
pub use super::epochs::Epochs;
pub use super::growing::Growing;
pub use super::index::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry, last_where};
pub use super::journal::format::{COMMIT_HEADER_BYTES, CommitHeader, FileHeader};
pub use super::journal::rows::{Owner, Range, Row};
pub use super::journal::scan::{Commit, FileHead, JournalFile, Scanned, scan, superseded};
pub use super::producers::{Producers, Remembered, Sequenced, Verdict};
pub use super::recovery::topic_id;
pub use super::segment::{base_of, file_name};
pub use super::state::{Checkpoint, OwnFile, PartitionState, base_name, shard_name};
pub use super::sums::{Row as CoveredRow, SUMS_TRAILER_BYTES, SumsTrailer, decode_rows, rows_from};
pub use super::tail::ChunkPlace;
pub use super::verify::partition::are_epochs;
