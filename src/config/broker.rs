//! The broker's configuration, parsed: what the rest of the program works with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::listeners::{AdvertisedListener, Listener, check_shard_ports, listeners, per_shard};
use super::load::{ConfigError, ConfigErrors};
use super::row::Bounds;
use super::rows::broker_row;
use super::settings::{Settings, Source};
use super::sizes::parse_size;
use super::topic::TopicOptions;

/// What the defaults depend on; the caller finds it out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Advertised for a wildcard listener.
    pub host_name: String,
    /// CPUs this process may run on.
    pub cpus: usize,
    pub memory_bytes: u64,
}

/// Who this broker is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// `node.id` or `broker.id`.
    pub node_id: i32,
    pub rack: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directories {
    /// `log.dirs`, at least one, none twice.
    pub data: Vec<PathBuf>,
    /// `metadata.log.dir`
    pub metadata: PathBuf,
    /// `ringtail.arena.dir`
    pub arena: PathBuf,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shards {
    /// At least 1.
    pub count: usize,
    /// `ringtail.spin.us`: how long an idle shard looks for work before it sleeps.
    pub spin_us: u32,
    /// Of the whole broker; a shard has its part.
    pub memory_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    pub listeners: Vec<Listener>,
    /// Whether each shard has listeners of its own behind them.
    pub per_shard: bool,
    pub advertised: Vec<AdvertisedListener>,
    /// `socket.request.max.bytes`
    pub request_bytes_max: usize,
    pub connections_max: usize,
    pub connections_per_ip_max: usize,
    /// `max.connections.per.ip.overrides`
    pub connections_by_ip_max: BTreeMap<IpAddr, usize>,
    /// `None` = never closed for being idle.
    pub connection_idle_ms_max: Option<u64>,
    /// `ringtail.receive.timeout.ms`
    pub receive_ms_max: u64,
    /// `ringtail.send.timeout.ms`
    pub send_ms_max: u64,
    /// `ringtail.pressed.timeout.ms`
    pub pressed_ms_max: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorageLimits {
    /// Per shard and directory.
    pub journal_bytes: u64,
    /// Free space below which produce is refused.
    pub reserve_bytes: u64,
    pub retention_check_interval_ms: u64,
    /// `ringtail.scrub.bytes.per.second`, per directory; 0 = no scrub.
    pub scrub_bytes_per_second: u64,
    pub scrub_interval_ms: u64,
    pub producer_expiration_ms: i64,
    /// Of all partitions of a shard.
    pub producer_count_max: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// `fetch.max.bytes`
    pub bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`
    pub session_count_max: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDefaults {
    pub partition_count: i32,
    pub auto_create: bool,
    /// `delete.topic.enable`
    pub delete_enable: bool,
    /// Of a topic without configs of its own.
    pub options: TopicOptions,
    /// `max.request.partition.size.limit`
    pub described_partition_count_max: usize,
}

/// Everything that is configured, by reason to change. Shared between shards; a change makes a new one.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub identity: Identity,
    pub directories: Directories,
    pub shards: Shards,
    pub network: Network,
    pub storage: StorageLimits,
    pub fetch: Fetch,
    pub topics: TopicDefaults,
    settings: Settings,
    machine: Machine,
}

impl BrokerConfig {
    /// The typed form of `settings`. Errors: options that contradict each other or this machine.
    pub(super) fn build(settings: Settings, machine: Machine) -> Result<(Self, Vec<String>), ConfigErrors> {
        let mut errors = Vec::new();
        let mut keep = |error: ConfigError| errors.push(error);
        let network = network(&settings, &machine).map_err(&mut keep).ok();
        let identity = identity(&settings).map_err(&mut keep).ok();
        let directories = directories(&settings).map_err(&mut keep).ok();
        let shards = shards(&settings, &machine).map_err(&mut keep).ok();
        if let (Some((network, _)), Some(shards)) = (&network, &shards) {
            let told = (&*network.listeners, &*network.advertised);
            check_shard_ports(&settings, told, shards.count).map_err(&mut keep).ok();
        }
        match (network, identity, directories, shards) {
            (Some((network, left_out)), Some(identity), Some(directories), Some(shards)) if errors.is_empty() => {
                let (storage, fetch, topics) = (storage(&settings), fetch(&settings), topics(&settings));
                let config = Self {
                    identity,
                    directories,
                    shards,
                    network,
                    storage,
                    fetch,
                    topics,
                    settings,
                    machine,
                };
                Ok((config, left_out))
            }
            _ => Err(ConfigErrors(errors)),
        }
    }

    /// What is set, for DescribeConfigs.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// This configuration with other dynamic values: those of all brokers and those of this one. A value that its row no
    /// longer takes is left out. Errors: the values contradict each other.
    pub fn with_dynamic<'a>(
        &self,
        of_all: impl IntoIterator<Item = (&'a str, &'a str)>,
        of_this: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigErrors> {
        let mut settings = self.settings.clone();
        settings.clear_dynamic();
        let of_all = of_all.into_iter().map(|pair| (Source::DynamicBrokerDefault, pair));
        let of_this = of_this.into_iter().map(|pair| (Source::DynamicBroker, pair));
        for (source, (name, value)) in of_all.chain(of_this) {
            if let Some(row) = broker_row(name) {
                let _ = settings.put_dynamic(source, row, value);
            }
        }
        Self::build(settings, self.machine.clone()).map(|(config, _)| config)
    }
}

fn identity(settings: &Settings) -> Result<Identity, ConfigError> {
    let broker_id = settings.number_if_set("broker.id").filter(|id| *id >= 0);
    let node_id = settings.set_value("node.id").map(|_| settings.number("node.id"));
    if let (Some(broker_id), Some(node_id)) = (broker_id, node_id)
        && broker_id != node_id
    {
        let problem = format!("is {broker_id}, but node.id is {node_id}; set one of them");
        return Err(ConfigError::new(settings, "broker.id", problem));
    }
    let id = node_id.or(broker_id).unwrap_or_else(|| settings.number("node.id"));
    let rack = settings
        .text("broker.rack")
        .filter(|rack| !rack.is_empty())
        .map(str::to_owned);
    Ok(Identity {
        node_id: id as i32,
        rack,
    })
}

fn directories(settings: &Settings) -> Result<Directories, ConfigError> {
    let key = if settings.set_value("log.dirs").is_some() {
        "log.dirs"
    } else {
        "log.dir"
    };
    let data: Vec<PathBuf> = settings.list(key).into_iter().map(PathBuf::from).collect();
    if data.is_empty() {
        return Err(ConfigError::new(settings, key, "names no directory".into()));
    }
    if let Some(twice) = data.iter().enumerate().find(|(i, path)| data[..*i].contains(path)) {
        let problem = format!("names {} twice", twice.1.display());
        return Err(ConfigError::new(settings, key, problem));
    }
    let metadata = settings
        .text("metadata.log.dir")
        .map_or_else(|| data[0].clone(), PathBuf::from);
    let arena = settings.text("ringtail.arena.dir").unwrap_or("/dev/shm").into();
    Ok(Directories { data, metadata, arena })
}

fn shards(settings: &Settings, machine: &Machine) -> Result<Shards, ConfigError> {
    let cpus = machine.cpus.clamp(1, 1024);
    let count = settings
        .number_if_set("ringtail.shards")
        .map_or(cpus, |count| count as usize);
    // A spinning shard needs a core that nobody else wants.
    let spin_default = if count + 1 >= machine.cpus { 0 } else { 20 };
    let spin_us = settings
        .number_if_set("ringtail.spin.us")
        .map_or(spin_default, |us| us as u32);
    Ok(Shards {
        count,
        spin_us,
        memory_bytes: memory_bytes(settings, machine)?,
    })
}

/// `ringtail.memory.bytes`: a share is taken of this machine's memory, and only an explicit one may be too small.
fn memory_bytes(settings: &Settings, machine: &Machine) -> Result<u64, ConfigError> {
    let key = "ringtail.memory.bytes";
    let text = settings.text(key).unwrap_or("25%");
    let bytes = parse_size(text, Some(machine.memory_bytes)).unwrap_or(0);
    let min = match broker_row(key).map(|row| row.bounds) {
        Some(Bounds::SizeOrShare(min)) => min,
        _ => 0,
    };
    if settings.set_value(key).is_none() {
        return Ok(bytes.max(min));
    }
    match bytes {
        _ if bytes < min => Err(ConfigError::new(
            settings,
            key,
            format!("is {bytes} bytes here; expected at least {min}"),
        )),
        _ if bytes > machine.memory_bytes => {
            let problem = format!("is {bytes} bytes; the machine has {}", machine.memory_bytes);
            Err(ConfigError::new(settings, key, problem))
        }
        _ => Ok(bytes),
    }
}

fn network(settings: &Settings, machine: &Machine) -> Result<(Network, Vec<String>), ConfigError> {
    let (listeners, advertised, left_out) = listeners(settings, &machine.host_name)?;
    let network = Network {
        listeners,
        per_shard: per_shard(settings),
        advertised,
        request_bytes_max: settings.number("socket.request.max.bytes") as usize,
        connections_max: settings.number("max.connections") as usize,
        connections_per_ip_max: settings.number("max.connections.per.ip") as usize,
        connections_by_ip_max: overrides(settings)?,
        connection_idle_ms_max: u64::try_from(settings.number("connections.max.idle.ms")).ok(),
        receive_ms_max: settings.number("ringtail.receive.timeout.ms") as u64,
        send_ms_max: settings.number("ringtail.send.timeout.ms") as u64,
        pressed_ms_max: settings.number("ringtail.pressed.timeout.ms") as u64,
    };
    Ok((network, left_out))
}

/// `max.connections.per.ip.overrides`. Names are not looked up: whose they are may change.
fn overrides(settings: &Settings) -> Result<BTreeMap<IpAddr, usize>, ConfigError> {
    let key = "max.connections.per.ip.overrides";
    let pair = |text: &str| {
        let (address, count) = text.rsplit_once(':')?;
        let address: IpAddr = address.trim().trim_matches(['[', ']']).parse().ok()?;
        Some((address.to_canonical(), count.trim().parse().ok()?))
    };
    let texts = settings.list(key);
    texts
        .into_iter()
        .map(|text| {
            pair(text).ok_or_else(|| {
                let problem = format!("has {text:?}; expected address:count, as in 10.0.0.7:100 or [::1]:100");
                ConfigError::new(settings, key, problem)
            })
        })
        .collect()
}

fn storage(settings: &Settings) -> StorageLimits {
    let size = |key| settings.text(key).and_then(|text| parse_size(text, None)).unwrap_or(0);
    StorageLimits {
        journal_bytes: size("ringtail.journal.bytes"),
        reserve_bytes: size("ringtail.reserve.bytes"),
        retention_check_interval_ms: settings.number("log.retention.check.interval.ms") as u64,
        scrub_bytes_per_second: size("ringtail.scrub.bytes.per.second"),
        scrub_interval_ms: settings.number("ringtail.scrub.interval.hours") as u64 * 3_600_000,
        producer_expiration_ms: settings.number("producer.id.expiration.ms"),
        producer_count_max: settings.number("ringtail.shard.producers.max") as usize,
    }
}

fn fetch(settings: &Settings) -> Fetch {
    Fetch {
        bytes_max: settings.number("fetch.max.bytes") as usize,
        session_count_max: settings.number("max.incremental.fetch.session.cache.slots") as usize,
    }
}

fn topics(settings: &Settings) -> TopicDefaults {
    TopicDefaults {
        partition_count: settings.number("num.partitions") as i32,
        auto_create: settings.flag("auto.create.topics.enable"),
        delete_enable: settings.flag("delete.topic.enable"),
        options: TopicOptions::of_settings(settings),
        described_partition_count_max: settings.number("max.request.partition.size.limit") as usize,
    }
}
