//! What an operator or a client may set, and what it means: one row per option, Kafka's names first.
//!
//! In: the text of a `server.properties`, `--set` pairs, `RINGTAIL_…` variables, topic configs. Out: a typed
//! [`BrokerConfig`] and [`TopicOptions`], warnings, errors that name file, line, key and range, and the rows that
//! DescribeConfigs answers with.
//!
//! Invariants
//! 1. A value held in [`Settings`] satisfies its row (`Settings::put` is the only way in; it checks).
//! 2. Every row's own default satisfies the row, and every synonym names a row (test `every_row_is_sound`).
//! 3. Nothing here reads a file, the environment or the machine: the caller passes them in ([`Input`], [`Machine`]).
//!
//! Not for: storing topic configs (`cluster`), applying them to a log (`storage`).

mod row;
mod rows;
mod known;
mod topic_rows;
mod properties;
mod settings;
mod sizes;
mod listeners;
mod broker;
mod load;
mod topic;
mod describe;

pub use broker::{BrokerConfig, Directories, Fetch, Identity, Machine, Network, Shards, StorageLimits, TopicDefaults};
pub use describe::{Entry, describe_broker, describe_topic};
pub use listeners::{AdvertisedListener, Bind, Listener};
pub use load::{ConfigError, ConfigErrors, Input, Loaded, Warning, load};
pub use properties::{Line, SyntaxError, parse_properties};
pub use row::{Bounds, Effect, Kind, Reason, Reload, Row, Unit, ValueError};
pub use rows::{broker_row, broker_rows};
pub use settings::{Origin, Settings, Source, Synonym};
pub use topic::{CompressionType, Durability, TimestampType, TopicConfigError, TopicOptions};
pub use topic::{check_topic_config, check_topic_configs, topic_config_warnings};
pub use topic_rows::{TopicRow, topic_row, topic_rows};

#[cfg(test)]
mod tests;
