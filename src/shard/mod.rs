//! One core: a store, a broker, listeners, an inbox. `serve` is a shard's whole life, on any environment.
//!
//! Start: shard 0 opens the metadata and tells the others the cluster's id; every shard opens its store and its partitions;
//! when all have, shard 0 binds the listeners and all serve. Stop: no new connections, no new requests; what is begun is
//! answered; when every shard is quiet the stores close.
//!
//! Invariants
//! 1. The task that empties an inbox never waits for another shard (`inbox::handle` only starts tasks).
//! 2. A topic is in a shard's catalog only when the partitions that this shard owns are open (`topics::apply`).
//! 3. Metadata commands run one at a time; the next begins when every shard has applied the one before
//!    (`controller::Controller::carry_out` holds the turn).
//!
//! Not for: what a request means (`broker`), how a log is kept (`storage`).

mod controller;
mod inbox;
mod listen;
mod stop;
mod topics;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use self::controller::Controller;
use crate::base::mailbox::{Receiver, Sender, mailbox};
use crate::base::sync::{Signal, race};
use crate::broker::connection::Registry;
use crate::broker::limits::{ConnectionCounts, Limits};
use crate::broker::route::{CONTROLLER_SHARD, Envelope, Local, Router};
use crate::broker::{Broker, Endpoint, Memory};
use crate::io::{Env, Queue};
use crate::storage::{Recovered, StorageError, Store, StoreOptions, recover};

/// Messages that wait in a shard's inbox at most; senders wait beyond.
const INBOX_BOUND: usize = 1024;

/// How often overdue connections are looked for.
const SWEEP_MS: u64 = 1000;

/// Where clients connect, and what they are told.
#[derive(Clone, Debug)]
pub struct ListenOn {
    /// Host and port to bind; port 0 takes any.
    pub host: String,
    pub port: u16,
    /// What clients are told; with port 0 the bound one.
    pub advertised: Endpoint,
    /// Index of the listener it belongs to.
    pub listener: usize,
}

/// What all shards of a process share from the start.
pub struct Process<E: Env> {
    pub shards: usize,
    pub node_id: i32,
    pub rack: Option<String>,
    pub listeners: Vec<ListenOn>,
    pub limits: Arc<Limits>,
    pub store: StoreOptions,
    /// `ringtail.memory.bytes`, of all shards together.
    pub memory_bytes: u64,
    connections: Arc<ConnectionCounts>,
    inboxes: Vec<Sender<Envelope<E>>>,
    receivers: Mutex<Vec<Option<Receiver<Envelope<E>>>>>,
}

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    pub shards: usize,
    pub node_id: i32,
    pub rack: Option<String>,
    pub listeners: Vec<ListenOn>,
    pub limits: Limits,
    pub store: StoreOptions,
    pub memory_bytes: u64,
}

impl<E: Env> Process<E> {
    pub fn new(options: ProcessOptions) -> Arc<Self> {
        let (inboxes, receivers) = (0..options.shards)
            .map(|_| {
                let (sender, receiver) = mailbox(INBOX_BOUND);
                (sender, Some(receiver))
            })
            .unzip();
        Arc::new(Self {
            shards: options.shards,
            node_id: options.node_id,
            rack: options.rack,
            listeners: options.listeners,
            limits: Arc::new(options.limits),
            store: options.store,
            memory_bytes: options.memory_bytes,
            connections: ConnectionCounts::new(options.shards),
            inboxes,
            receivers: Mutex::new(receivers),
        })
    }

    fn take_receiver(&self, shard: usize) -> Option<Receiver<Envelope<E>>> {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        receivers.get_mut(shard)?.take()
    }
}

/// Why a shard could not serve.
#[derive(Debug)]
pub enum ServeError {
    Storage(StorageError),
    Listen {
        address: String,
        error: std::io::Error,
    },
    /// Another shard ended before this one could begin.
    Abandoned,
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => write!(f, "{error}"),
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Abandoned => f.write_str("another shard failed"),
        }
    }
}

impl std::error::Error for ServeError {}

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
    /// On shard 0.
    controller: Option<Rc<Controller>>,
    /// What to listen on, once `Serve` came.
    addresses: std::cell::RefCell<Option<Vec<(usize, SocketAddr)>>>,
    serving: Signal,
    /// Shards that have no connections left.
    quiet: Cell<usize>,
    quiet_changed: crate::base::sync::Notify,
    reads: inbox::Reads,
}

/// Runs shard `index` of `process` until `stop` completes and everything is closed.
pub async fn serve<E: Env>(
    env: E,
    index: usize,
    process: Arc<Process<E>>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut receiver = process.take_receiver(index).ok_or(ServeError::Abandoned)?;
    let mut stop = std::pin::pin!(stop);
    let running = async {
        let mut early = VecDeque::new();
        let shard = open(env, index, process, &mut receiver, &mut early).await?;
        let inbox = inbox::start(&shard, receiver, early);
        topics::start(&shard).await?;
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
    stop.await;
    stop::stop(&shard, inbox).await
}

/// Opens this shard's store and makes its broker. `early` gets the messages that came before the inbox is emptied.
async fn open<E: Env>(
    env: E,
    index: usize,
    process: Arc<Process<E>>,
    receiver: &mut Receiver<Envelope<E>>,
    early: &mut VecDeque<Envelope<E>>,
) -> Result<Rc<Shard<E>>, ServeError> {
    let (controller, recovered) = match index {
        CONTROLLER_SHARD => {
            let controller = Controller::open(&env, &process).await?;
            for directory in &process.store.directories {
                let _ = env.create_directory(&directory.path).await;
            }
            let recovered = recover(&env, &process.store.directories, &process.store.arena_directory).await?;
            for inbox in process.inboxes.iter().skip(1) {
                let begin = Envelope::Begin {
                    cluster_id: controller.cluster_id(),
                    recovered: recovered.clone(),
                };
                inbox.send(begin).await.map_err(|_| ServeError::Abandoned)?;
            }
            (Some(Rc::new(controller)), recovered)
        }
        _ => (None, await_begin(receiver, early).await?),
    };
    let memory_bytes = process.memory_bytes / process.shards as u64;
    let options = StoreOptions {
        memory_bytes: memory_bytes / 2,
        shard: index,
        shards: process.shards,
        ..process.store.clone()
    };
    let store = Store::open(env.clone(), options, recovered).await?;
    let memory = Memory::new(memory_bytes / 4);
    let local = Local::new(env.clone(), store, memory.responses().clone());
    let router = Router::new(index, process.inboxes.clone(), local);
    let broker = Broker::new(env.clone(), process.limits.clone(), memory, router);
    Ok(Rc::new(Shard {
        env,
        process,
        broker,
        controller,
        addresses: Default::default(),
        serving: Signal::default(),
        quiet: Cell::new(0),
        quiet_changed: Default::default(),
        reads: Default::default(),
    }))
}

/// Takes the first message of every shard but the controller's; what came with it stays in `early`.
async fn await_begin<E: Env>(
    receiver: &mut Receiver<Envelope<E>>,
    early: &mut VecDeque<Envelope<E>>,
) -> Result<Arc<Recovered>, ServeError> {
    if !receiver.receive_all(early).await {
        return Err(ServeError::Abandoned);
    }
    match early.pop_front() {
        Some(Envelope::Begin { recovered, .. }) => Ok(recovered),
        _ => Err(ServeError::Abandoned),
    }
}

/// Ends overdue connections, for as long as the shard serves.
fn sweep<E: Env>(shard: &Rc<Shard<E>>) {
    let (env, broker) = (shard.env.clone(), shard.broker.clone());
    shard.env.spawn(Queue::Foreground, async move {
        while !broker.stopping.is_raised() {
            race(env.sleep_until(env.now().plus_ms(SWEEP_MS)), broker.stopping.raised()).await;
            Registry::sweep(&broker.connections, &env, &broker.limits.patience);
        }
    });
}
