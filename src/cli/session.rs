//! What the client commands share: where to connect, and the executor they run on.

use std::future::Future;

use clap::Args;

use crate::client::{Client, ClientOptions};
use crate::io::uring::{self, Options, UringEnv};
use crate::wire::Protocol;

use super::failure::Failure;

#[derive(Args, Clone)]
pub struct Connect {
    /// Brokers to begin with: host:port, more after commas. Without it: localhost.
    #[arg(long, short = 'b', value_name = "HOST:PORT", global = true)]
    bootstrap_server: Option<String>,
    /// Speaks the native protocol: HOST:PORT is of `ringtail.native.listeners` (port 9094). To produce, consume and look up.
    #[arg(long, global = true)]
    native: bool,
    /// How long to go on trying, in milliseconds.
    #[arg(long, default_value_t = 30_000, value_name = "MS", global = true)]
    timeout_ms: u64,
    /// Prints JSON for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Connect {
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Runs `body` with a client on an executor of its own, to its end. SIGTERM and SIGINT request the stop, which
    /// `body` may wait for.
    pub fn run<Fut, T>(&self, body: impl FnOnce(Client<UringEnv>) -> Fut) -> Result<T, Failure>
    where
        Fut: Future<Output = Result<T, Failure>> + 'static,
        T: 'static,
    {
        self.run_with(ClientOptions::default(), body)
    }

    /// The same with other options than those that `Connect` sets.
    pub fn run_with<Fut, T>(
        &self,
        options: ClientOptions,
        body: impl FnOnce(Client<UringEnv>) -> Fut,
    ) -> Result<T, Failure>
    where
        Fut: Future<Output = Result<T, Failure>> + 'static,
        T: 'static,
    {
        let servers = self
            .bootstrap_server
            .as_deref()
            .unwrap_or("localhost")
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty());
        let options = ClientOptions {
            protocol: match self.native {
                true => Protocol::Native,
                false => Protocol::Kafka,
            },
            bootstrap_servers: servers.map(str::to_owned).collect(),
            client_id: "ringtail-cli".into(),
            deadline_ms: self.timeout_ms,
            request_timeout_ms: self.timeout_ms.clamp(1_000, 30_000),
            ..options
        };
        if options.bootstrap_servers.is_empty() {
            return Err(Failure::usage("--bootstrap-server names no broker"));
        }
        let shard = Options {
            signals: true,
            ..Options::default()
        };
        uring::run_one(shard, |env| body(Client::new(env, options))).map_err(|error| {
            Failure::failed(format!(
                "cannot start the io_uring executor: {error} (try `ringtail check`)"
            ))
        })?
    }
}
