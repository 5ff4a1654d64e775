//! A topic's options: checking what a client sets, and the values in force.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::broker::BrokerConfig;
use super::row::{Effect, ValueError, list_items, nearest};
use super::settings::{Settings, Source};
use super::topic_rows::{TopicRow, topic_row, topic_rows};

/// `ringtail.durability`: when an append counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// On the device.
    Flushed,
    /// In memory that outlives the process.
    Written,
}

/// `message.timestamp.type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// `compression.type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompressionType {
    /// As the producer sent it.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// The values in force for one topic: its own configs, else the broker's, else Kafka's defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicOptions {
    pub durability: Durability,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub index_interval_bytes: u32,
    /// -1 = no limit
    pub retention_ms: i64,
    /// Negative = no limit
    pub retention_bytes: i64,
    pub cleanup_delete: bool,
    pub cleanup_compact: bool,
    /// `max.message.bytes`: of a batch
    pub message_bytes_max: u32,
    pub timestamp_type: TimestampType,
    pub timestamp_before_ms_max: i64,
    pub timestamp_after_ms_max: i64,
    pub compression_type: CompressionType,
}

impl TopicOptions {
    /// Of a topic with `configs` (each accepted by [`check_topic_config`]; others count as not set).
    pub fn new<'a>(configs: impl IntoIterator<Item = (&'a str, &'a str)>, broker: &BrokerConfig) -> Self {
        Self::resolve(&configs.into_iter().collect(), broker.settings())
    }

    pub(super) fn of_settings(settings: &Settings) -> Self {
        Self::resolve(&BTreeMap::new(), settings)
    }

    fn resolve(configs: &BTreeMap<&str, &str>, settings: &Settings) -> Self {
        let text = |name: &str| {
            let row = topic_row(name).expect("every name below has a row, as the test of all options shows");
            value_in_force(row, configs.get(name).copied(), settings).0
        };
        let number = |name: &str| text(name).parse::<i64>().expect("only accepted values are in force");
        let policy = text("cleanup.policy");
        let segment = if configs.contains_key("internal.segment.bytes") {
            "internal.segment.bytes"
        } else {
            "segment.bytes"
        };
        Self {
            durability: durability(configs, settings),
            segment_bytes: number(segment) as u64,
            segment_ms: number("segment.ms"),
            index_interval_bytes: number("index.interval.bytes") as u32,
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            cleanup_delete: list_items(&policy).any(|item| item == "delete"),
            cleanup_compact: list_items(&policy).any(|item| item == "compact"),
            message_bytes_max: number("max.message.bytes") as u32,
            timestamp_type: match &*text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_ms_max: number("message.timestamp.before.max.ms"),
            timestamp_after_ms_max: number("message.timestamp.after.max.ms"),
            compression_type: compression_type(&text("compression.type")),
        }
    }
}

fn compression_type(text: &str) -> CompressionType {
    match text {
        "uncompressed" => CompressionType::Uncompressed,
        "gzip" => CompressionType::Gzip,
        "snappy" => CompressionType::Snappy,
        "lz4" => CompressionType::Lz4,
        "zstd" => CompressionType::Zstd,
        _ => CompressionType::Producer,
    }
}

/// The class in force. Asking for a flush of every message asks for `flushed`, and where a topic asks for both classes
/// the stronger one holds; what the topic says goes before what the broker says.
fn durability(configs: &BTreeMap<&str, &str>, settings: &Settings) -> Durability {
    let class = |text: &str| {
        if text == "written" {
            Durability::Written
        } else {
            Durability::Flushed
        }
    };
    if configs.get("flush.messages") == Some(&"1") {
        return Durability::Flushed;
    }
    if let Some(text) = configs.get("ringtail.durability") {
        return class(text);
    }
    if settings.text("log.flush.interval.messages") == Some("1") {
        return Durability::Flushed;
    }
    class(settings.text("ringtail.durability").unwrap_or("flushed"))
}

/// The value of one option and where it comes from.
pub(super) fn value_in_force<'a>(
    row: TopicRow,
    own: Option<&'a str>,
    settings: &'a Settings,
) -> (Cow<'a, str>, Source) {
    if let Some(own) = own.filter(|own| row.row.check(own).is_ok()) {
        return (own.into(), Source::Topic);
    }
    match settings.inherited(row.synonyms) {
        Some(inherited) => inherited,
        None => (row.row.default.unwrap_or("").into(), Source::Default),
    }
}

/// Why a topic config is refused; its text goes to the client with INVALID_CONFIG.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicConfigError {
    Unknown {
        name: String,
        nearest: Option<&'static str>,
    },
    Value(ValueError),
    /// Two options that exclude each other.
    Contradiction(&'static str),
}

impl fmt::Display for TopicConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, nearest: None } => write!(f, "Unknown topic config name: {name}"),
            Self::Unknown {
                name,
                nearest: Some(nearest),
            } => {
                write!(
                    f,
                    "Unknown topic config name: {name} (the nearest known one is {nearest})"
                )
            }
            Self::Value(error) => error.fmt(f),
            Self::Contradiction(problem) => f.write_str(problem),
        }
    }
}

/// Checks one config by its row, and gives the value as it is to be stored (without surrounding blanks). To clients there are
/// no `internal.*` configs.
pub fn check_topic_config<'a>(name: &str, value: &'a str) -> Result<&'a str, TopicConfigError> {
    let Some(row) = topic_row(name).filter(|row| !row.hidden) else {
        let nearest = nearest(name, topic_rows().filter(|row| !row.hidden).map(|row| row.row.name));
        return Err(TopicConfigError::Unknown {
            name: name.to_owned(),
            nearest,
        });
    };
    let value = value.trim();
    row.row.check(value).map_err(TopicConfigError::Value)?;
    Ok(value)
}

/// Checks a topic's whole set of configs, each and together.
pub fn check_topic_configs(configs: &BTreeMap<String, String>) -> Result<(), TopicConfigError> {
    for (name, value) in configs {
        check_topic_config(name, value)?;
    }
    let number = |name: &str| configs.get(name).and_then(|value| value.parse::<i64>().ok());
    let (least, most) = (
        number("min.compaction.lag.ms").unwrap_or(0),
        number("max.compaction.lag.ms").unwrap_or(i64::MAX),
    );
    if least > most {
        return Err(TopicConfigError::Contradiction(
            "min.compaction.lag.ms must not be above max.compaction.lag.ms",
        ));
    }
    Ok(())
}

/// One sentence for each config that is stored but does nothing yet; for the log when a topic is made or altered.
pub fn topic_config_warnings(configs: &BTreeMap<String, String>) -> Vec<String> {
    let warning = |(name, value): (&String, &String)| {
        let row = topic_row(name)?.row;
        match (row.effect, row.name) {
            (Effect::None(reason), _) => Some(format!("{name}={value} has no effect: {}", reason.text())),
            (Effect::Live, "cleanup.policy") if list_items(value).any(|item| item == "compact") => {
                Some(format!("{name}={value}: log compaction is not done yet"))
            }
            (Effect::Live, "flush.messages") if value != "1" && Some(value.as_str()) != row.default => Some(format!(
                "{name}={value} has no effect: only 1 does, which is ringtail.durability=flushed"
            )),
            _ => None,
        }
    };
    configs.iter().filter_map(warning).collect()
}
