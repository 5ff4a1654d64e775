//! Where the broker listens and what it tells clients to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::load::ConfigError;
use super::settings::Settings;
use crate::wire::Protocol;

/// Where a listener binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bind {
    /// Every address, IPv4 and IPv6.
    All,
    /// 127.0.0.1 and ::1.
    Localhost,
    /// One address or a name to resolve.
    Host(String),
}

/// One plain-text listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// In capitals, such as `PLAINTEXT`; of a native one `native`, `native-1` and so on.
    pub name: String,
    pub protocol: Protocol,
    pub bind: Bind,
    /// 0 = any free one.
    pub port: u16,
}

/// What clients that came in on the listener of the same name are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdvertisedListener {
    pub name: String,
    pub host: String,
    /// 0 = the port that the listener got.
    pub port: u16,
}

impl Listener {
    /// The addresses to bind with this port; `None` if the host has to be resolved. `All` is the IPv6 wildcard, which
    /// is dual-stack.
    pub fn addresses(&self, port: u16) -> Option<Vec<SocketAddr>> {
        let hosts: Vec<IpAddr> = match &self.bind {
            Bind::All => vec![Ipv6Addr::UNSPECIFIED.into()],
            Bind::Localhost => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Bind::Host(host) => vec![host.parse().ok()?],
        };
        Some(hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect())
    }

    /// Whether both may bind an address that is the same; names are not looked up.
    fn shares_with(&self, other: &Self) -> bool {
        let (one, two) = (self.addresses(0), other.addresses(0));
        let is_wildcard = |address: &SocketAddr| address.ip().is_unspecified();
        if one.iter().chain(&two).flatten().any(is_wildcard) {
            return true;
        }
        match (one, two) {
            (Some(one), Some(two)) => one.iter().any(|address| two.contains(address)),
            _ => self.bind == other.bind,
        }
    }
}

pub(super) const PORT_DEFAULT: u16 = 9092;
const NATIVE_PORT_DEFAULT: u16 = 9094;
const NATIVE_LISTENERS: &str = "ringtail.native.listeners";
const NATIVE_ADVERTISED: &str = "ringtail.native.advertised.listeners";
const PER_SHARD: &str = "ringtail.shard.listeners";

/// `NAME`, host and port of one entry.
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

/// Listeners, what is advertised, and the names of those left out.
type Parsed = (Vec<Listener>, Vec<AdvertisedListener>, Vec<String>);

/// Listeners and what is advertised, from `listeners`, `advertised.listeners`, `listener.security.protocol.map`,
/// `controller.listener.names` and `ringtail.native.listeners`. `host_name` stands for a wildcard address in what is advertised. The third part are
/// listeners that were left out.
pub(super) fn listeners(settings: &Settings, host_name: &str) -> Result<Parsed, ConfigError> {
    let controllers: Vec<String> = settings
        .list("controller.listener.names")
        .into_iter()
        .map(str::to_ascii_uppercase)
        .collect();
    let (left_out, endpoints): (Vec<_>, Vec<_>) = endpoints(settings, "listeners")?
        .into_iter()
        .partition(|endpoint| controllers.contains(&endpoint.name));
    let error = |problem: String| Err(ConfigError::new(settings, "listeners", problem));
    for endpoint in &endpoints {
        check_protocol(settings, &endpoint.name)?;
    }
    let mut listeners = match settings.text("listeners") {
        None => vec![Listener {
            name: "PLAINTEXT".into(),
            protocol: Protocol::Kafka,
            bind: Bind::Localhost,
            port: PORT_DEFAULT,
        }],
        Some(_) => endpoints.iter().map(listener).collect(),
    };
    if listeners.is_empty() {
        return error("names no listener for clients".into());
    }
    let served = listeners.len();
    listeners.extend(native(settings)?);
    for (i, one) in listeners.iter().enumerate() {
        if listeners[..i].iter().any(|other| other.name == one.name) {
            return error(format!("names {} twice", one.name));
        }
        let overlap = |other: &&Listener| other.port == one.port && one.port != 0 && other.shares_with(one);
        if let Some(other) = listeners[..i].iter().find(overlap) {
            let key = match one.protocol {
                Protocol::Kafka => "listeners",
                Protocol::Native => NATIVE_LISTENERS,
            };
            let problem = format!("gives port {} to both {} and {}", one.port, other.name, one.name);
            return Err(ConfigError::new(settings, key, problem));
        }
    }
    let mut advertised = advertised(settings, &listeners[..served], &controllers, host_name)?;
    // A wildcard is told as the first of the others is: its host is one that clients reach.
    let host_told = advertised.first().map_or(host_name, |first| &first.host).to_owned();
    advertised.extend(native_advertised(settings, &listeners[served..], &host_told)?);
    Ok((
        listeners,
        advertised,
        left_out.into_iter().map(|endpoint| endpoint.name).collect(),
    ))
}

fn listener(endpoint: &Endpoint) -> Listener {
    let bind = match endpoint.host.as_str() {
        "" => Bind::All,
        host if host.parse() == Ok(Ipv6Addr::UNSPECIFIED) => Bind::All,
        "localhost" => Bind::Localhost,
        host => Bind::Host(host.to_owned()),
    };
    Listener {
        name: endpoint.name.clone(),
        protocol: Protocol::Kafka,
        bind,
        port: endpoint.port,
    }
}

/// Where the native protocol is spoken.
fn native(settings: &Settings) -> Result<Vec<Listener>, ConfigError> {
    if settings.text(NATIVE_LISTENERS).is_none() {
        // Where each shard has ports of its own, 9094 is one of them.
        let is_served = settings.text("listeners").is_none() && !per_shard(settings);
        let served = is_served.then(|| Listener {
            name: "native".into(),
            protocol: Protocol::Native,
            bind: Bind::Localhost,
            port: NATIVE_PORT_DEFAULT,
        });
        return Ok(served.into_iter().collect());
    }
    let entries = settings.list(NATIVE_LISTENERS).into_iter().enumerate();
    let parse = |(index, entry): (usize, &str)| {
        let name = match index {
            0 => "native".to_owned(),
            _ => format!("native-{index}"),
        };
        let endpoint = parse_address(entry).map(|(host, port)| Endpoint { name, host, port });
        let endpoint = endpoint.ok_or_else(|| {
            let problem = format!("{entry:?} is not host:port with a port from 0 to 65535");
            ConfigError::new(settings, NATIVE_LISTENERS, problem)
        })?;
        Ok(Listener {
            protocol: Protocol::Native,
            ..listener(&endpoint)
        })
    };
    entries.map(parse).collect()
}

/// `ringtail.shard.listeners`
pub(super) fn per_shard(settings: &Settings) -> bool {
    settings.text(PER_SHARD) == Some("per-shard")
}

/// With listeners of each shard: that the ports behind every listener are there, and nobody else's.
pub(super) fn check_shard_ports(
    settings: &Settings,
    (listeners, advertised): (&[Listener], &[AdvertisedListener]),
    shards: usize,
) -> Result<(), ConfigError> {
    if !per_shard(settings) {
        return Ok(());
    }
    let error = |problem: String| Err(ConfigError::new(settings, PER_SHARD, problem));
    let last = |port: u16| usize::from(port) + shards;
    for (i, one) in listeners.iter().enumerate() {
        let told = advertised.iter().find(|told| told.name == one.name);
        if one.port == 0 && told.is_some_and(|told| told.port != 0) {
            return error(format!(
                "needs a port for {}: it is advertised with one, and listens on any",
                one.name
            ));
        }
        let ports = [one.port, told.map_or(0, |told| told.port)];
        if let Some(port) = ports.into_iter().find(|port| last(*port) > usize::from(u16::MAX)) {
            return error(format!(
                "needs the {shards} ports behind {port} of {}: choose one below {}",
                one.name,
                usize::from(u16::MAX) + 1 - shards
            ));
        }
        let overlap = |other: &&Listener| {
            let apart = usize::from(one.port.abs_diff(other.port));
            one.port != 0 && other.port != 0 && apart <= shards && other.shares_with(one)
        };
        if let Some(other) = listeners[..i].iter().find(overlap) {
            return error(format!(
                "needs the {shards} ports behind {} of {} and behind {} of {}: choose ports that lie {} apart",
                other.port,
                other.name,
                one.port,
                one.name,
                shards + 1
            ));
        }
    }
    Ok(())
}

/// What native clients are told: of each listener the address at its place, or its own.
fn native_advertised(
    settings: &Settings,
    listeners: &[Listener],
    host_told: &str,
) -> Result<Vec<AdvertisedListener>, ConfigError> {
    let error = |problem: String| Err(ConfigError::new(settings, NATIVE_ADVERTISED, problem));
    let told = settings.list(NATIVE_ADVERTISED);
    if told.is_empty() {
        return Ok(listeners.iter().map(|listener| own(listener, host_told)).collect());
    }
    if told.len() != listeners.len() {
        return error(format!(
            "names {} addresses for {} native listeners: one for each, in their order",
            told.len(),
            listeners.len()
        ));
    }
    let mut advertised = Vec::new();
    for (entry, listener) in told.into_iter().zip(listeners) {
        match parse_address(entry) {
            Some((host, port)) if !host.is_empty() && !is_unspecified(&host) => advertised.push(AdvertisedListener {
                name: listener.name.clone(),
                host,
                port,
            }),
            _ => return error(format!("{entry:?} is not host:port that clients can connect to")),
        }
    }
    Ok(advertised)
}

/// What clients of `listener` are told where nothing says otherwise.
fn own(listener: &Listener, host_name: &str) -> AdvertisedListener {
    let host = match &listener.bind {
        Bind::All => host_name.to_owned(),
        Bind::Localhost => "localhost".into(),
        Bind::Host(host) if is_unspecified(host) => host_name.to_owned(),
        Bind::Host(host) => host.clone(),
    };
    AdvertisedListener {
        name: listener.name.clone(),
        host,
        port: listener.port,
    }
}

fn advertised(
    settings: &Settings,
    listeners: &[Listener],
    controllers: &[String],
    host_name: &str,
) -> Result<Vec<AdvertisedListener>, ConfigError> {
    let error = |problem: String| Err(ConfigError::new(settings, "advertised.listeners", problem));
    if settings.text("advertised.listeners").is_none() {
        return Ok(listeners.iter().map(|listener| own(listener, host_name)).collect());
    }
    let mut advertised: Vec<AdvertisedListener> = Vec::new();
    for endpoint in endpoints(settings, "advertised.listeners")? {
        if controllers.contains(&endpoint.name) {
            continue;
        }
        if !listeners.iter().any(|listener| listener.name == endpoint.name) {
            return error(format!("{} is not one of listeners", endpoint.name));
        }
        if is_unspecified(&endpoint.host) {
            return error(format!(
                "clients cannot connect to the wildcard address {}; name a host",
                endpoint.host
            ));
        }
        if advertised.iter().any(|other| other.name == endpoint.name) {
            return error(format!("names {} twice", endpoint.name));
        }
        let host = if endpoint.host.is_empty() {
            host_name.to_owned()
        } else {
            endpoint.host
        };
        advertised.push(AdvertisedListener {
            name: endpoint.name,
            host,
            port: endpoint.port,
        });
    }
    match advertised.is_empty() {
        true => error("names no listener for clients".into()),
        false => Ok(advertised),
    }
}

fn is_unspecified(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// What `listener.security.protocol.map` says about `name` must be PLAINTEXT.
fn check_protocol(settings: &Settings, name: &str) -> Result<(), ConfigError> {
    let map = settings.list("listener.security.protocol.map");
    let entry = map
        .iter()
        .filter_map(|pair| pair.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    let protocol = match entry {
        Some((_, protocol)) => protocol.trim(),
        None => {
            let problem = format!("has no entry for the listener {name}");
            return Err(ConfigError::new(settings, "listener.security.protocol.map", problem));
        }
    };
    match protocol.eq_ignore_ascii_case("PLAINTEXT") {
        true => Ok(()),
        false => {
            let problem = format!("{name} speaks {protocol}; only PLAINTEXT is served yet");
            Err(ConfigError::new(settings, "listeners", problem))
        }
    }
}

fn endpoints(settings: &Settings, key: &'static str) -> Result<Vec<Endpoint>, ConfigError> {
    let parse = |entry: &str| {
        parse_endpoint(entry).ok_or_else(|| {
            let problem = format!("{entry:?} is not NAME://host:port with a port from 0 to 65535");
            ConfigError::new(settings, key, problem)
        })
    };
    settings.list(key).into_iter().map(parse).collect()
}

fn parse_endpoint(entry: &str) -> Option<Endpoint> {
    let (name, address) = entry.split_once("://")?;
    let (host, port) = parse_address(address)?;
    let name = name.trim().to_ascii_uppercase();
    let name_is_valid = !name.is_empty()
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'));
    name_is_valid.then_some(Endpoint { name, host, port })
}

/// `host:port`, where an IPv6 address stands in brackets.
fn parse_address(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.trim().rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => {
            let host = host.strip_suffix(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            host
        }
        None if host.contains([':', '/', ' ']) => return None,
        None => host,
    };
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker_row;
    use crate::config::settings::Origin;

    fn parse(pairs: &[(&str, &str)]) -> Result<Parsed, String> {
        let mut settings = Settings::default();
        for (key, value) in pairs {
            settings.put(broker_row(key).unwrap(), value, Origin::Argument).unwrap();
        }
        listeners(&settings, "broker-7.example").map_err(|error| error.to_string())
    }

    #[test]
    fn without_listeners_localhost_is_served_on_both_families() {
        let (listeners, advertised, _) = parse(&[]).unwrap();
        let addresses = listeners[0].addresses(listeners[0].port).unwrap();
        assert_eq!(
            addresses,
            ["127.0.0.1:9092".parse().unwrap(), "[::1]:9092".parse().unwrap()]
        );
        assert_eq!((advertised[0].host.as_str(), advertised[0].port), ("localhost", 9092));
    }

    #[test]
    fn an_empty_host_is_every_address_and_advertises_the_machine() {
        for text in ["PLAINTEXT://:9092", "plaintext://[::]:9092"] {
            let (listeners, advertised, _) = parse(&[("listeners", text)]).unwrap();
            assert_eq!(listeners[0].addresses(1).unwrap(), ["[::]:1".parse().unwrap()]);
            assert_eq!(advertised[0].host, "broker-7.example");
        }
        let (listeners, advertised, _) = parse(&[("listeners", "PLAINTEXT://0.0.0.0:9092")]).unwrap();
        assert_eq!(listeners[0].addresses(1).unwrap(), ["0.0.0.0:1".parse().unwrap()]);
        assert_eq!(advertised[0].host, "broker-7.example");
    }

    #[test]
    fn a_kafka_file_with_a_controller_listener_serves_the_others() {
        let (listeners, advertised, left_out) = parse(&[
            (
                "listeners",
                "PLAINTEXT://:9092,INSIDE://10.0.0.7:9094,CONTROLLER://:9093",
            ),
            (
                "advertised.listeners",
                "PLAINTEXT://kafka.example:19092,CONTROLLER://localhost:9093",
            ),
            ("controller.listener.names", "CONTROLLER"),
            (
                "listener.security.protocol.map",
                "CONTROLLER:SSL,PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT",
            ),
        ])
        .unwrap();
        assert_eq!(listeners.len(), 2);
        assert_eq!(listeners[1].bind, Bind::Host("10.0.0.7".into()));
        assert_eq!(
            (advertised[0].host.as_str(), advertised[0].port),
            ("kafka.example", 19092)
        );
        assert_eq!(
            (advertised.len(), left_out.as_slice()),
            (1, &["CONTROLLER".to_owned()][..])
        );
    }

    #[test]
    fn the_native_protocol_is_spoken_where_it_is_asked_for_and_beside_the_default_listener() {
        let native = |pairs: &[(&str, &str)]| {
            let (listeners, advertised, _) = parse(pairs).unwrap();
            assert_eq!(listeners.len(), advertised.len());
            let both = listeners.into_iter().zip(advertised);
            both.filter(|(listener, _)| listener.protocol == Protocol::Native)
                .map(|(listener, told)| (listener.name, listener.bind, told.host, told.port))
                .collect::<Vec<_>>()
        };
        let name = |name: &str| name.to_owned();
        assert_eq!(
            native(&[]),
            [(name("native"), Bind::Localhost, name("localhost"), 9094)]
        );
        let kafka = ("listeners", "PLAINTEXT://:9092");
        assert_eq!(native(&[kafka]), []);
        assert_eq!(native(&[("ringtail.native.listeners", "")]), []);
        let told = ("advertised.listeners", "PLAINTEXT://kafka.example:9092");
        assert_eq!(
            native(&[kafka, told, ("ringtail.native.listeners", ":1,[::1]:2")]),
            [
                (name("native"), Bind::All, name("kafka.example"), 1),
                (name("native-1"), Bind::Host(name("::1")), name("::1"), 2),
            ]
        );
    }

    #[test]
    fn native_clients_are_told_what_is_advertised_natively() {
        let pairs = [
            ("listeners", "PLAINTEXT://:9092"),
            ("ringtail.native.listeners", ":1,:2"),
            ("ringtail.native.advertised.listeners", "a.example:11,b.example:12"),
        ];
        let (_, advertised, _) = parse(&pairs).unwrap();
        let told: Vec<_> = advertised[1..]
            .iter()
            .map(|told| (told.host.as_str(), told.port))
            .collect();
        assert_eq!(told, [("a.example", 11), ("b.example", 12)]);
        let refused = |told| parse(&[pairs[0], pairs[1], ("ringtail.native.advertised.listeners", told)]).unwrap_err();
        assert!(refused("a:1").contains("names 1 addresses for 2 native listeners"));
        assert!(refused("a:1,0.0.0.0:2").contains("is not host:port that clients can connect to"));
    }

    /// Of `shards` shards with listeners of their own.
    fn shard_ports(pairs: &[(&str, &str)], shards: usize) -> Result<(), String> {
        let mut settings = Settings::default();
        for (key, value) in pairs.iter().chain(&[(PER_SHARD, "per-shard")]) {
            settings.put(broker_row(key).unwrap(), value, Origin::Argument).unwrap();
        }
        let text = |error: ConfigError| error.to_string();
        let (listeners, advertised, _) = listeners(&settings, "broker-7.example").map_err(text)?;
        check_shard_ports(&settings, (&listeners, &advertised), shards).map_err(text)
    }

    #[test]
    fn the_ports_of_shards_are_nobody_elses() {
        let one = ("listeners", "PLAINTEXT://:9092");
        assert_eq!(shard_ports(&[], 8), Ok(()), "no native listener is there by default");
        assert_eq!(shard_ports(&[one, ("ringtail.native.listeners", ":9101")], 8), Ok(()));
        let refused = shard_ports(&[one, ("ringtail.native.listeners", ":9094")], 2).unwrap_err();
        assert!(refused.contains("choose ports that lie 3 apart"), "{refused}");
        assert_eq!(shard_ports(&[("listeners", "PLAINTEXT://:65527")], 8), Ok(()));
        let refused = shard_ports(&[("listeners", "PLAINTEXT://:65528")], 8).unwrap_err();
        assert!(refused.contains("choose one below 65528"), "{refused}");
        let told = ("advertised.listeners", "PLAINTEXT://h:65530");
        assert!(shard_ports(&[one, told], 8).is_err());
        let any = ("listeners", "PLAINTEXT://:0");
        assert_eq!(shard_ports(&[any], 8), Ok(()));
        let refused = shard_ports(&[any, told], 2).unwrap_err();
        assert!(refused.contains("needs a port for PLAINTEXT"), "{refused}");
    }

    #[test]
    fn one_address_in_two_spellings_is_one() {
        for (one, other) in [
            ("localhost", "127.0.0.1"),
            ("localhost", "[::1]"),
            ("0.0.0.0", "localhost"),
            ("", "10.0.0.1"),
        ] {
            let kafka = format!("PLAINTEXT://{one}:9092");
            let native = format!("{other}:9092");
            let refused = parse(&[("listeners", &kafka), ("ringtail.native.listeners", &native)]).unwrap_err();
            assert!(
                refused.contains("ringtail.native.listeners: gives port 9092 to both"),
                "{refused}"
            );
        }
        let apart = [
            ("listeners", "PLAINTEXT://10.0.0.2:9092"),
            ("ringtail.native.listeners", "10.0.0.1:9092"),
        ];
        assert!(parse(&apart).is_ok());
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        let refused = [
            (&[("listeners", "PLAINTEXT:9092")][..], "is not NAME://host:port"),
            (&[("listeners", "PLAINTEXT://h:65536")], "is not NAME://host:port"),
            (&[("listeners", "PLAINTEXT://::1:9092")], "is not NAME://host:port"),
            (
                &[("listeners", "SSL://h:9092")],
                "SSL speaks SSL; only PLAINTEXT is served yet",
            ),
            (
                &[("listeners", "CLIENTS://h:9092")],
                "has no entry for the listener CLIENTS",
            ),
            (
                &[("listeners", "PLAINTEXT://a:1,PLAINTEXT://b:2")],
                "names PLAINTEXT twice",
            ),
            (&[("listeners", "")], "names no listener"),
            (&[("ringtail.native.listeners", "h")], "is not host:port"),
            (
                &[("ringtail.native.listeners", "localhost:9092")],
                "port 9092 to both PLAINTEXT and native",
            ),
            (
                &[("advertised.listeners", "PLAINTEXT://0.0.0.0:9092")],
                "wildcard address 0.0.0.0",
            ),
            (
                &[("advertised.listeners", "OTHER://h:9092")],
                "OTHER is not one of listeners",
            ),
        ];
        for (pairs, expected) in refused {
            let problem = parse(pairs).unwrap_err();
            assert!(problem.contains(expected), "{problem} for {pairs:?}");
        }
        let both = [
            ("listeners", "PLAINTEXT://:9092,B://h:9092"),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,B:PLAINTEXT"),
        ];
        assert!(parse(&both).unwrap_err().contains("port 9092 to both PLAINTEXT and B"));
    }
}
