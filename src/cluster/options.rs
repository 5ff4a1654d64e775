//! From configuration to what the log obeys.

use crate::config::{BrokerConfig, Durability, TimestampType, TopicOptions};
use crate::storage::{self, LogOptions};

use super::image::Topic;

/// The log options of a topic's partitions.
pub fn log_options(topic: &Topic, config: &BrokerConfig) -> LogOptions {
    let configs = topic
        .configs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    storage_options_of(&TopicOptions::new(configs, config))
}

/// The part of `options` that the log obeys.
pub fn storage_options_of(options: &TopicOptions) -> LogOptions {
    LogOptions {
        durability: match options.durability {
            Durability::Flushed => storage::DurabilityClass::Flushed,
            Durability::Written => storage::DurabilityClass::Written,
        },
        segment_bytes: options.segment_bytes,
        segment_ms: options.segment_ms,
        index_interval_bytes: options.index_interval_bytes,
        retention_ms: options.retention_ms,
        retention_bytes: options.retention_bytes,
        timestamp_type: match options.timestamp_type {
            TimestampType::CreateTime => storage::TimestampType::CreateTime,
            TimestampType::LogAppendTime => storage::TimestampType::LogAppendTime,
        },
        cleanup: storage::CleanupPolicy {
            delete: options.cleanup_delete,
            compact: options.cleanup_compact,
        },
    }
}
