//! The descriptions of the messages, one file per API. `message.rs` explains their grammar; `api.rs` says which are served.

use super::field::Str;
use super::list::List;
use super::records::{Opaque, Records};
use crate::base::ids::TopicId;

mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_topic_partitions;
mod fetch;
mod group_admin;
mod group_membership;
mod group_offsets;
mod incremental_alter_configs;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod shared;

pub use api_versions::*;
pub use create_partitions::*;
pub use create_topics::*;
pub use delete_records::*;
pub use delete_topics::*;
pub use describe_cluster::*;
pub use describe_configs::*;
pub use describe_topic_partitions::*;
pub use fetch::*;
pub use group_admin::*;
pub use group_membership::*;
pub use group_offsets::*;
pub use incremental_alter_configs::*;
pub use init_producer_id::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offset_for_leader_epoch::*;
pub use produce::*;
pub use shared::*;
