//! One core: a store, a broker, listeners, an inbox. `serve` is a shard's whole life, on any environment.
//!
//! Start: shard 0 opens the metadata and tells the others the cluster's id; every shard opens its store and its partitions;
//! when all have, shard 0 binds the listeners and all serve. Stop: no new connections, no new requests; what is begun is
//! answered; when every shard is quiet the stores close.
//!
//! Invariants
//! 1. The task that empties an inbox never waits for another shard (`inbox::handle` only starts tasks).
//! 2. A topic is in a shard's catalog only when the partitions that this shard owns are open (`topics::apply`).
//! 3. Records reach the shards in the order of the metadata log, a commit at a time, and a command is answered when every shard has
//!    applied its records (`cluster::Controller`: one task appends, and awaits `startup::publish`).
//!
//! Not for: what a request means (`broker`), how a log is kept (`storage`).

mod health;
mod inbox;
mod listen;
mod startup;
mod stop;
mod topics;
#[cfg(test)]
mod tests;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::mailbox::{Receiver, Sender, mailbox};
use crate::base::sync::{Notify, Signal, race};
use crate::broker::Broker;
use crate::broker::directories::Offline;
use crate::broker::limits::{ConnectionCounts, Limits};
use crate::broker::route::Envelope;
use crate::cluster::{Controller, Directory, StartError};
use crate::config::BrokerConfig;
use crate::io::{Env, Queue};
use crate::storage::StorageError;

/// Messages that wait in a shard's inbox at most; senders wait beyond.
const INBOX_BOUND: usize = 1024;

/// How often overdue connections and appends and failed directories are looked for.
const SWEEP_MS: u64 = 500;

/// What all shards of a process share from the start.
pub struct Process<E: Env> {
    pub config: Arc<BrokerConfig>,
    limits: Arc<Limits>,
    connections: Arc<ConnectionCounts>,
    offline: Arc<Offline>,
    inboxes: Vec<Sender<Envelope<E>>>,
    receivers: Mutex<Vec<Option<Receiver<Envelope<E>>>>>,
}

impl<E: Env> Process<E> {
    /// A process of `ringtail.shards` shards.
    pub fn new(config: BrokerConfig) -> Arc<Self> {
        let shards = config.shards.count;
        let (inboxes, receivers) = (0..shards)
            .map(|_| {
                let (sender, receiver) = mailbox(INBOX_BOUND);
                (sender, Some(receiver))
            })
            .unzip();
        Arc::new(Self {
            limits: Arc::new(Limits::of(&config)),
            connections: ConnectionCounts::new(shards),
            offline: Arc::default(),
            config: Arc::new(config),
            inboxes,
            receivers: Mutex::new(receivers),
        })
    }

    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    fn take_receiver(&self, shard: usize) -> Option<Receiver<Envelope<E>>> {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        receivers.get_mut(shard)?.take()
    }
}

/// Why a shard could not serve.
#[derive(Debug)]
pub enum ServeError {
    /// Another process uses the directory.
    Locked {
        path: String,
    },
    Io {
        path: String,
        error: std::io::Error,
    },
    Cluster(StartError),
    Storage(StorageError),
    Listen {
        address: String,
        error: std::io::Error,
    },
    /// A directory that the broker cannot do without failed while it served.
    OutOfService {
        path: String,
        without: &'static str,
    },
    /// Another shard ended before this one could begin.
    Abandoned,
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path } => write!(f, "{path} is in use by another process"),
            Self::Io { path, error } => write!(f, "{path}: {error}"),
            Self::Cluster(error) => write!(f, "{error}"),
            Self::Storage(error) => write!(f, "{error}"),
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::OutOfService { path, without } => {
                write!(f, "{path} is out of service and {without}: the broker ends")
            }
            Self::Abandoned => f.write_str("another shard failed"),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<StartError> for ServeError {
    fn from(error: StartError) -> Self {
        Self::Cluster(error)
    }
}

impl From<StorageError> for ServeError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// One running shard.
struct Shard<E: Env> {
    env: E,
    process: Arc<Process<E>>,
    broker: Rc<Broker<E>>,
    /// In the order of `log.dirs`.
    directories: Arc<[Directory]>,
    /// On the controller's shard.
    controller: OnceCell<Controller<E>>,
    /// What to listen on, once `Serve` came.
    addresses: RefCell<Option<Vec<(usize, SocketAddr)>>>,
    /// The same of listeners that are this shard's alone.
    own_addresses: RefCell<Vec<(usize, SocketAddr)>>,
    serving: Signal,
    /// Shards that have no connections left.
    quiet: Cell<usize>,
    quiet_changed: Notify,
    /// Why the shard cannot go on, once `failed` is raised.
    failure: Cell<Option<ServeError>>,
    failed: Signal,
    awaited: inbox::Awaited,
    lacking: topics::Lacking,
}

/// Runs shard `index` of `process` until `stop` completes and everything is closed.
pub async fn serve<E: Env>(
    env: E,
    index: usize,
    process: Arc<Process<E>>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let receiver = process.take_receiver(index).ok_or(ServeError::Abandoned)?;
    let mut stop = std::pin::pin!(stop);
    let running = async {
        let (shard, inbox) = startup::start(env, index, process, receiver).await?;
        shard.serving.raised().await;
        listen::start(&shard)?;
        sweep(&shard);
        Ok::<_, ServeError>((shard, inbox))
    };
    let started = race(async { Some(running.await) }, async {
        (&mut stop).await;
        None
    });
    let Some(started) = started.await else { return Ok(()) };
    let (shard, inbox) = started?;
    race(stop, shard.failed.raised()).await;
    let stopped = stop::stop(&shard, inbox).await;
    shard.failure.take().map_or(stopped, Err)
}

/// Ends overdue connections and appends and looks after the directories, for as long as the shard serves.
fn sweep<E: Env>(shard: &Rc<Shard<E>>) {
    let (env, broker, shard) = (shard.env.clone(), shard.broker.clone(), shard.clone());
    env.clone().spawn(Queue::Foreground, async move {
        while !broker.stopping.is_raised() {
            race(env.sleep_until(env.now().plus_ms(SWEEP_MS)), broker.stopping.raised()).await;
            broker.connections.sweep(&env, &broker.limits.patience, &broker.memory);
            broker.router.local().beat();
            broker.lateness.beat();
            topics::open_lacking(&shard);
            health::look(&shard);
        }
    });
}
