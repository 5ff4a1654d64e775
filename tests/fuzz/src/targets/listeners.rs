//! The strings that say where the broker listens. Claims: no panic; memory within the budget and what a configuration takes; what was
//! accepted, written out as Kafka writes it, is accepted and says the same.
//!
//! The input: up to five lines: `listeners`, `advertised.listeners`, `listener.security.protocol.map`, `controller.listener.names`,
//! `ringtail.native.listeners`. A line `-` is none.

use ringtail::config::{Bind, BrokerConfig, Input as Given, Machine, load};
use ringtail::wire::Protocol;

use super::memory::peak_bytes;

const KEYS: [&str; 5] = [
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "controller.listener.names",
    "ringtail.native.listeners",
];
/// A configuration without anything set. A message quotes what it is about, with every character escaped, and is put together twice.
const LOADED_BYTES: usize = 64 << 10;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let given = KEYS.iter().zip(text.split('\n')).filter(|(_, value)| *value != "-");
    let arguments: Vec<String> = given.map(|(key, value)| format!("{key}={value}")).collect();
    let (bytes, config) = peak_bytes(|| loaded(&arguments));
    assert!(
        bytes <= 32 * text.len() + LOADED_BYTES,
        "{bytes} bytes for {}",
        text.len()
    );
    let Some(config) = config else { return };
    let network = &config.network;
    assert!(!network.listeners.is_empty() && !network.advertised.is_empty());
    let (mut listeners, mut advertised, mut map, mut native) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for listener in &network.listeners {
        let host = match &listener.bind {
            Bind::All => "",
            Bind::Localhost => "localhost",
            Bind::Host(host) => host,
        };
        if let Some(addresses) = listener.addresses(listener.port) {
            assert!(!addresses.is_empty() && addresses.iter().all(|address| address.port() == listener.port));
        }
        match listener.protocol {
            Protocol::Kafka => {
                listeners.push(endpoint(&format!("{}://", listener.name), host, listener.port));
                map.push(format!("{}:PLAINTEXT", listener.name));
            }
            Protocol::Native => native.push(endpoint("", host, listener.port)),
        }
    }
    let is_native = |name: &str| {
        let mut listeners = network.listeners.iter();
        listeners.any(|listener| listener.name == name && listener.protocol == Protocol::Native)
    };
    for listener in network.advertised.iter().filter(|listener| !is_native(&listener.name)) {
        advertised.push(endpoint(
            &format!("{}://", listener.name),
            &listener.host,
            listener.port,
        ));
    }
    let arguments = [
        format!("listeners={}", listeners.join(",")),
        format!("advertised.listeners={}", advertised.join(",")),
        format!("listener.security.protocol.map={}", map.join(",")),
        format!("ringtail.native.listeners={}", native.join(",")),
    ];
    let again = loaded(&arguments).unwrap_or_else(|| panic!("{arguments:?} was accepted"));
    assert_eq!(again.network, *network, "{arguments:?}");
}

fn loaded(arguments: &[String]) -> Option<BrokerConfig> {
    let given = Given {
        file: None,
        environment: [],
        arguments,
        machine: Machine {
            host_name: "host".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
        },
    };
    match load(given) {
        Ok(loaded) => Some(loaded.config),
        Err(errors) => {
            assert!(!errors.to_string().is_empty());
            None
        }
    }
}

fn endpoint(scheme: &str, host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("{scheme}[{host}]:{port}"),
        false => format!("{scheme}{host}:{port}"),
    }
}
