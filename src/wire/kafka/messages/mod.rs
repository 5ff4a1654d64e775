//! The descriptions of the messages, one file per API. `message.rs` explains their grammar; `api.rs` says which are served.

use super::field::Str;
use super::list::List;
use super::records::Records;
use crate::base::ids::TopicId;

mod api_versions;
mod fetch;
mod metadata;
mod produce;
mod shared;

pub use api_versions::*;
pub use fetch::*;
pub use metadata::*;
pub use produce::*;
pub use shared::*;
