//! The shell of the cluster's state: the metadata log's file, the one controller, the directories at start.

mod metadata_log;
mod room;
mod controller;
mod start;
mod verify;

pub use controller::{ClusterError, Controller, Publish, random_topic_id};
pub use metadata_log::{LogError, MetadataLog, metadata_log_path};
pub use start::{Directory, DirectoryState, Opened, StartError, open_cluster, read_directory_id};
pub use verify::{image_of, verify_directory};

#[cfg(test)]
mod tests;
