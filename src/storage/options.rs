//! The topic options that the log obeys.

/// When an append counts (`ringtail.durability`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DurabilityClass {
    /// On the device: in the journal or the segment, flushed.
    #[default]
    Flushed,
    /// In memory that outlives the process; a power cut loses what came since the last settling round.
    Written,
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// `cleanup.policy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// A partition's own options, resolved from topic, broker and default values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogOptions {
    pub durability: DurabilityClass,
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `index.interval.bytes`
    pub index_interval_bytes: u32,
    /// `retention.ms`; negative = no limit
    pub retention_ms: i64,
    /// `retention.bytes`; negative = no limit
    pub retention_bytes: i64,
    pub timestamp_type: TimestampType,
    pub cleanup: CleanupPolicy,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: DurabilityClass::Flushed,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            index_interval_bytes: 4096,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
            timestamp_type: TimestampType::CreateTime,
            cleanup: CleanupPolicy {
                delete: true,
                compact: false,
            },
        }
    }
}
