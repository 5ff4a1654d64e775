//! The rows that DescribeConfigs answers with.

use super::broker::BrokerConfig;
use super::row::{Kind, Reload, Row};
use super::rows::{broker_row, broker_rows};
use super::settings::{Settings, Source, Synonym};
use super::topic::value_in_force;
use super::topic_rows::{TopicRow, topic_rows};
use crate::wire::Protocol;

/// One option with the value in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub name: &'static str,
    /// `None` = null or hidden.
    pub value: Option<String>,
    pub source: Source,
    pub kind: Kind,
    pub read_only: bool,
    pub is_sensitive: bool,
    /// Every place that holds a value, narrowest first; empty unless asked for.
    pub synonyms: Vec<Synonym>,
    pub documentation: &'static str,
}

impl Entry {
    fn new(row: &'static Row, value: Option<String>, source: Source) -> Self {
        Self {
            name: row.name,
            value: value.filter(|_| !row.is_sensitive()),
            source,
            kind: row.kind,
            read_only: row.reload == Reload::Start,
            is_sensitive: row.is_sensitive(),
            synonyms: Vec::new(),
            documentation: row.documentation(),
        }
    }
}

/// Every topic option, in the order of their names, for a topic with `own` configs.
pub fn describe_topic<'a>(own: impl Fn(&str) -> Option<&'a str>, broker: &BrokerConfig, synonyms: bool) -> Vec<Entry> {
    let settings = broker.settings();
    let entry = |row: TopicRow| {
        let own = own(row.row.name);
        let (value, source) = value_in_force(row, own, settings);
        let mut entry = Entry::new(row.row, Some(value.into_owned()), source);
        if synonyms {
            entry.synonyms = topic_synonyms(row, own, settings);
        }
        entry
    };
    topic_rows().filter(|row| !row.hidden).map(entry).collect()
}

fn topic_synonyms(row: TopicRow, own: Option<&str>, settings: &Settings) -> Vec<Synonym> {
    let own = own.map(|value| Synonym {
        name: row.row.name,
        value: Some(value.to_owned()),
        source: Source::Topic,
    });
    let mut all: Vec<Synonym> = own.into_iter().collect();
    all.extend(row.synonyms.iter().flat_map(|(name, _)| settings.synonyms(name)));
    all.sort_by_key(|synonym| synonym.source);
    all
}

/// Broker options that are each other's synonyms, first one set wins.
const ALTERNATIVES: &[&[&str]] = &[
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    &["log.dirs", "log.dir"],
    &["node.id", "broker.id"],
];

/// Every broker option, in the order of their names. `listeners` and what hangs on it show what is in force, as clients
/// look there for addresses.
pub fn describe_broker(broker: &BrokerConfig, synonyms: bool) -> Vec<Entry> {
    let settings = broker.settings();
    let entry = |row: &'static Row| {
        let (value, source) = settings.value(row);
        let value = in_force(row.name, broker).or_else(|| value.map(str::to_owned));
        let mut entry = Entry::new(row, value, source);
        if synonyms {
            let names = ALTERNATIVES.iter().find(|names| names[0] == row.name).copied();
            let names = names.unwrap_or(std::slice::from_ref(&row.name));
            entry.synonyms = names
                .iter()
                .filter(|name| broker_row(name).is_some())
                .flat_map(|name| settings.synonyms(name))
                .collect();
            entry.synonyms.sort_by_key(|synonym| synonym.source);
        }
        entry
    };
    broker_rows().map(entry).collect()
}

/// The value of an option whose default is worked out, not written in its row.
fn in_force(name: &str, broker: &BrokerConfig) -> Option<String> {
    let host = |host: &str| {
        if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        }
    };
    let of = |protocol: Protocol| {
        let listeners = broker.network.listeners.iter();
        listeners.filter(move |listener| listener.protocol == protocol)
    };
    match name {
        "broker.id" | "node.id" => Some(broker.identity.node_id.to_string()),
        "log.dirs" => {
            let paths: Vec<String> = broker
                .directories
                .data
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Some(paths.join(","))
        }
        "metadata.log.dir" => Some(broker.directories.metadata.display().to_string()),
        "listeners" if broker.settings().set_value(name).is_none() => {
            let texts: Vec<String> = of(Protocol::Kafka)
                .map(|l| format!("{}://localhost:{}", l.name, l.port))
                .collect();
            Some(texts.join(","))
        }
        "ringtail.native.listeners" if broker.settings().set_value(name).is_none() => {
            let texts: Vec<String> = of(Protocol::Native).map(|l| format!("localhost:{}", l.port)).collect();
            Some(texts.join(","))
        }
        "advertised.listeners" => {
            let advertised = broker.network.advertised.iter();
            let texts: Vec<String> = advertised
                .filter(|a| !of(Protocol::Native).any(|listener| listener.name == a.name))
                .map(|a| format!("{}://{}:{}", a.name, host(&a.host), a.port))
                .collect();
            Some(texts.join(","))
        }
        "ringtail.shards" => Some(broker.shards.count.to_string()),
        "ringtail.spin.us" => Some(broker.shards.spin_us.to_string()),
        "log.retention.ms" => Some(broker.topics.options.retention_ms.to_string()),
        "log.roll.ms" => Some(broker.topics.options.segment_ms.to_string()),
        _ => None,
    }
}
