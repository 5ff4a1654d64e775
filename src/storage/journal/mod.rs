//! The journal: what makes an append durable at a cost that does not depend on the number of partitions.
//!
//! One journal per shard and directory: a row of fixed-size files written with zeros before use, each a header block and
//! commits of whole blocks. A commit carries rows of all the shard's partitions and is written by one direct write.
//!
//! Invariants
//! 1. Commit N+1 is issued after N is durable, so a valid commit confirms all before it, and only the last can be torn
//!    (`scan` reports anything else as corruption).
//! 2. A file's salt seeds every check sum in it: what a recycled file held before never replays.
//! 3. A file is used only after the file before it holds a durable `Next` row that names its number and salt.
//!
//! Not for: what the rows mean together (`recovery`), when to commit (`writer`).

mod files;
pub mod format;
pub mod rows;
pub mod scan;
pub mod walk;
pub mod writer;
