//! `ringtail start`: configuration, preflight, then one shard per core until a signal says stop.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::config::{BrokerConfig, Input, Loaded, Machine, load};
use crate::io::uring::{self, Options, ShardPlacement, UringEnv, limits};
use crate::io::{Env, read_file};
use crate::shard::{Process, ServeError, serve};
use crate::wire::Protocol;

use super::check::preflight;
use super::failure::{ExitReason, Failure};

/// A configuration file is text that a person wrote.
const CONFIG_BYTES_MAX: usize = 4 << 20;
/// How long a port may stay taken, and how often it is asked for.
const PORT_WAIT_MS: u64 = 3_000;
const PORT_RETRY_MS: u64 = 20;

#[derive(Args)]
pub struct Start {
    /// A server.properties file with Kafka's names. Without one everything has its default: data in ./ringtail-data,
    /// localhost:9092.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets an option, over the file and RINGTAIL_… variables.
    #[arg(long = "set", short, value_name = "KEY=VALUE", num_args = 1..)]
    settings: Vec<String>,
}

impl Start {
    pub fn run(self) -> Result<(), Failure> {
        log_to_stderr();
        let Loaded { mut config, warnings } = self.load()?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if let Err(error) = limits::raise_open_files() {
            tracing::warn!("cannot raise the limit of open files: {error}");
        }
        if let Ok(limit) = limits::open_files() {
            let connections_max = &mut config.network.connections_max;
            *connections_max = connections_within(*connections_max, limit.now);
        }
        preflight(&config.directories.data)?;
        free_ports(&config)?;
        serve_all(config)
    }

    fn load(&self) -> Result<Loaded, Failure> {
        let file = match &self.config {
            None => None,
            Some(path) => Some((path.display().to_string(), read_text(path)?)),
        };
        let unknown = |error: std::io::Error| Failure::failed(format!("cannot ask the machine: {error}"));
        let machine = Machine {
            host_name: limits::host_name().map_err(unknown)?,
            cpus: uring::cpus().len().max(1),
            memory_bytes: uring::memory_bytes().map_err(unknown)?,
        };
        let input = Input {
            file: file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
            arguments: &self.settings,
            machine,
        };
        load(input).map_err(Failure::usage)
    }
}

/// Connections leave half of the descriptors to files: without one of those nothing can be stored.
fn connections_within(connections_max: usize, descriptors: u64) -> usize {
    connections_max.min(usize::try_from(descriptors / 2).unwrap_or(usize::MAX))
}

/// Log lines go to standard error, at the level that RINGTAIL_LOG says.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("RINGTAIL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .try_init();
}

fn read_text(path: &std::path::Path) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let owned = path.to_owned();
    let content = uring::run_one(Options::default(), |env| async move {
        read_file(&env, &owned, CONFIG_BYTES_MAX).await
    });
    let content = content.and_then(|content| content).map_err(|error| failed(&error))?;
    String::from_utf8(content.to_vec()).map_err(|_| failed(&"is not UTF-8"))
}

/// Refuses addresses that another process listens on, and goes on doing so: a killed broker keeps its ports until the kernel
/// has ended its rings.
fn free_ports(config: &BrokerConfig) -> Result<(), Failure> {
    let behind = match config.network.per_shard {
        true => config.shards.count as u16,
        false => 0,
    };
    for listener in config.network.listeners.iter().filter(|listener| listener.port != 0) {
        let ports = listener.port..=listener.port.saturating_add(behind);
        for address in ports.flat_map(|port| listener.addresses(port).unwrap_or_default()) {
            if is_taken(address) && stays_taken(address) {
                let option = match listener.protocol {
                    Protocol::Kafka => "listeners=PLAINTEXT://HOST:PORT",
                    Protocol::Native => "ringtail.native.listeners=HOST:PORT (empty: none)",
                };
                let message = format!(
                    "{address} is in use by another process (listener {}): end it, or choose another port with --set {option}",
                    listener.name
                );
                return Err(Failure::new(ExitReason::AddressInUse, message));
            }
        }
    }
    Ok(())
}

/// Other failures than this, such as a machine without IPv6, are judged when the shards listen.
fn is_taken(address: SocketAddr) -> bool {
    limits::probe_listen(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// Whether `address` is not free within a while either.
fn stays_taken(address: SocketAddr) -> bool {
    let waited = uring::run_one(Options::default(), move |env| async move {
        let deadline = env.now().plus_ms(PORT_WAIT_MS);
        while is_taken(address) {
            if env.now() >= deadline {
                return true;
            }
            env.sleep_until(env.now().plus_ms(PORT_RETRY_MS)).await;
        }
        false
    });
    waited.unwrap_or(true)
}

/// Every directory that is written to has a thread of its own for calls that block.
fn directories(config: &BrokerConfig) -> Vec<PathBuf> {
    let mut all = config.directories.data.clone();
    if !all.contains(&config.directories.metadata) {
        all.push(config.directories.metadata.clone());
    }
    all
}

fn ring_options(config: &BrokerConfig) -> Options {
    Options {
        directories: directories(config),
        spin: Some(Duration::from_micros(config.shards.spin_us.into())),
        signals: true,
        ..Options::default()
    }
}

fn serve_all(config: BrokerConfig) -> Result<(), Failure> {
    let options = ring_options(&config);
    let process: Arc<Process<UringEnv>> = Process::new(config);
    let shards = ShardPlacement::first(process.shards());
    let served = uring::run(shards, options, move |env, index| {
        let process = process.clone();
        async move {
            let served = serve(env.clone(), index, process, env.stop().requested()).await;
            if served.is_err() {
                env.stop().request();
            }
            served
        }
    });
    let served = served.map_err(|error| Failure::failed(format!("a shard failed: {error}")))?;
    let mut failures: Vec<ServeError> = served.into_iter().filter_map(Result::err).collect();
    // What the others say follows from the shard that failed by itself.
    failures.sort_by_key(|failure| match failure {
        ServeError::OutOfService { .. } => 0,
        ServeError::Abandoned => 2,
        _ => 1,
    });
    match failures.into_iter().next() {
        None => Ok(()),
        Some(failure) => Err(Failure::new(reason_of(&failure), failure)),
    }
}

fn reason_of(failure: &ServeError) -> ExitReason {
    match failure {
        ServeError::Locked { .. } => ExitReason::DataInUse,
        ServeError::Io { .. } | ServeError::Cluster(_) | ServeError::Storage(_) | ServeError::OutOfService { .. } => {
            ExitReason::DataUnusable
        }
        ServeError::Listen { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse => ExitReason::AddressInUse,
        ServeError::Listen { .. } | ServeError::Abandoned => ExitReason::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_spin_as_long_as_they_are_told() {
        let spin = |arguments: &[&str]| {
            let loaded = load(Input {
                file: None,
                environment: Vec::new(),
                arguments: &arguments.iter().map(|text| text.to_string()).collect::<Vec<_>>(),
                machine: Machine {
                    host_name: "broker".into(),
                    cpus: 8,
                    memory_bytes: 1 << 30,
                },
            });
            ring_options(&loaded.expect("good").config).spin
        };
        assert_eq!(spin(&["ringtail.spin.us=700"]), Some(Duration::from_micros(700)));
        assert_eq!(spin(&["ringtail.shards=2"]), Some(Duration::from_micros(20)));
        assert_eq!(spin(&["ringtail.shards=7"]), Some(Duration::ZERO), "no core to spare");
    }

    #[test]
    fn connections_leave_half_of_the_descriptors_to_files() {
        assert_eq!(connections_within(i32::MAX as usize, 1 << 20), 1 << 19);
        assert_eq!(connections_within(100, 1 << 20), 100);
        assert_eq!(connections_within(100, limits::UNLIMITED), 100);
    }
}
