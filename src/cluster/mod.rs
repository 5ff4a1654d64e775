//! The cluster's durable state: which topics, partitions, configs, directories and producer ids there are.
//!
//! Mental model: a replicated state machine with, for now, one replica. [`decide`] turns a [`Command`] and the [`Image`]
//! into records and a response, the metadata log makes the records durable, [`Image::apply`] brings them into every
//! shard's image. A command is answered after that, so a crash leaves all of it or nothing.
//!
//! Invariants
//! 1. `decide` changes nothing and `apply` cannot fail, reads no clock and no configuration: the same records give the
//!    same image everywhere (test `replay_gives_the_same_image`).
//! 2. At most one commit of the metadata log is not yet flushed (`MetadataLog` takes `&mut self` until it is), so only the
//!    last one in the file can be torn; a bad one with a valid one behind it, or below the sealed part, is corruption
//!    (`log_format::scan`).
//! 3. A response is given, and records are published, only after the flush (`Controller::flush_commits`).
//! 4. A directory is formatted only when it is blank and no record speaks of its path (`identity::plan`).
//!
//! In: commands, the log's bytes, what stands in the directories. Out: responses, records for the shards' images,
//! partitions' places. Pure: all but `driver`. Not for: partitions' data (`storage`), the protocol (`broker`).

mod ids;
mod record;
#[rustfmt::skip]
#[allow(
    clippy::all,
    deprecated,
    dead_code,
    unsafe_op_in_unsafe_fn,
    unused_imports,
    mismatched_lifetime_syntaxes,
    unused_extern_crates
)]
mod metadata_generated;
mod codec;
mod log_format;
mod image;
mod placement;
mod command;
mod decide;
mod identity;
mod options;
mod driver;
#[doc(hidden)]
pub mod formats;

pub use command::{
    Command, ConfigChange, ConfigOperation, ConfigOperationKind, Context, CreatePartitions, CreateTopic, DecideError,
    Decision, Response, SetBrokerConfigs, SetTopicConfigs, TopicRef,
};
pub use decide::{PARTITION_COUNT_MAX, PRODUCER_ID_BLOCK, TOPIC_NAME_BYTES_MAX, check_topic_name, decide};
pub use driver::{
    ClusterError, Controller, Directory, DirectoryState, LogError, MetadataLog, Opened, Publish, StartError, image_of,
    metadata_log_path, open_cluster, random_topic_id, read_directory_id, verify_directory,
};
pub use identity::{IdentityError, MetaProperties, OfflineReason};
pub use ids::DirectoryId;
pub use image::{Cluster, Image, Topic};
pub use log_format::{Corruption, FORMAT_VERSION};
pub use options::{log_options, storage_options_of};
pub use placement::{place_partitions, shard_of};
pub use record::{Configs, Record};
