//! Start: directories locked, metadata and logs recovered, once per process; then every shard its own part.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::inbox::{self, Inbox};
use super::{Process, ServeError, Shard, listen, topics};
use crate::base::mailbox::Receiver;
use crate::broker::catalog::Catalog;
use crate::broker::directories::Directories;
use crate::broker::route::{Beginning, CONTROLLER_SHARD, Envelope, Local, Router};
use crate::broker::{Broker, Memory};
use crate::cluster::{Controller, MetadataLog, Publish, open_cluster};
use crate::io::{Env, Queue, lock_when_free};
use crate::storage::{LOCK_FILE, LogDirectory, ScrubOptions, Store, StoreOptions, clear_leftovers, recover};

/// Clients that waited for the start come first.
const REMOVAL_DELAY_MS: u64 = 1000;

/// Brings shard `index` up to where it can serve; `Shard::serving` is raised when all shards are there.
pub async fn start<E: Env>(
    env: E,
    index: usize,
    process: Arc<Process<E>>,
    mut receiver: Receiver<Envelope<E>>,
) -> Result<(Rc<Shard<E>>, Inbox), ServeError> {
    let mut early = VecDeque::new();
    let (beginning, log) = match index {
        CONTROLLER_SHARD => {
            let (beginning, log) = begin(&env, &process).await?;
            for inbox in process.inboxes.iter().skip(1) {
                let begin = Envelope::Begin(Box::new(beginning.clone()));
                inbox.send(begin).await.map_err(|_| ServeError::Abandoned)?;
            }
            (beginning, Some(log))
        }
        _ => (await_begin(&mut receiver, &mut early).await?, None),
    };
    let (image, cluster_id) = (beginning.image.clone(), beginning.cluster.id.clone());
    let recovered = beginning.recovered.clone();
    let shard = open(env, index, process, beginning).await?;
    let began = shard.env.now();
    topics::open_all(&shard).await;
    tracing::debug!(took_ms = shard.env.now().ms_since(began), "partitions opened");
    let inbox = inbox::start(&shard, receiver, early);
    if let Some(log) = log {
        let online = shard
            .directories
            .iter()
            .filter_map(|directory| directory.online())
            .collect();
        let config = shard.broker.catalog.borrow().config().clone();
        let controller = Controller::new(shard.env.clone(), log, image, config, online, publish(&shard));
        let _ = shard.controller.set(controller);
        serve_all(&shard, &cluster_id).await?;
        let env = shard.env.clone();
        let later = env.now().plus_ms(REMOVAL_DELAY_MS);
        shard.env.spawn(Queue::Background, async move {
            env.sleep_until(later).await;
            recovered.remove_superseded(&env).await;
        });
    }
    Ok((shard, inbox))
}

/// Once per process: locks, metadata, recovery.
async fn begin<E: Env>(env: &E, process: &Process<E>) -> Result<(Beginning<E>, MetadataLog<E>), ServeError> {
    let config = &process.config;
    let mut paths: Vec<&Path> = config.directories.data.iter().map(|path| path.as_path()).collect();
    if !paths.contains(&config.directories.metadata.as_path()) {
        paths.push(&config.directories.metadata);
    }
    let mut locks = Vec::new();
    for path in &paths {
        // A directory that is not there cannot be in use; its lock is taken when it has been made.
        if let Some(lock) = lock(env, path).await? {
            locks.push(lock);
        }
    }
    let opened = open_cluster(env, config).await?;
    if locks.len() < paths.len() {
        locks.clear();
        for path in &paths {
            locks.extend(lock(env, path).await?);
        }
    }
    let places: Vec<_> = opened.directories.iter().filter_map(log_directory).collect();
    let mut image = opened.image;
    let recovered = recover(env, &places, &config.directories.arena, &image).await?;
    clear_leftovers(env, &recovered, &image).await?;
    recovered.make_room(env, &config.directories.arena).await?;
    if places.len() == config.directories.data.len() {
        image.forget_deleted();
    }
    let beginning = Beginning {
        cluster: opened.cluster,
        image,
        directories: opened.directories.into(),
        locks,
        recovered,
    };
    Ok((beginning, opened.log))
}

fn log_directory(directory: &crate::cluster::Directory) -> Option<LogDirectory> {
    directory.online().map(|id| LogDirectory {
        path: directory.path.clone(),
        id: id.0,
    })
}

/// Takes the directory's lock; none of a directory that is not there.
async fn lock<E: Env>(env: &E, directory: &Path) -> Result<Option<E::Lock>, ServeError> {
    let path = directory.display().to_string();
    match lock_when_free(env, &directory.join(LOCK_FILE)).await {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(ServeError::Locked { path }),
        Err(error) => Err(ServeError::Io { path, error }),
    }
}

/// The first message of every shard but the controller's; what came with it stays in `early`.
async fn await_begin<E: Env>(
    receiver: &mut Receiver<Envelope<E>>,
    early: &mut VecDeque<Envelope<E>>,
) -> Result<Beginning<E>, ServeError> {
    if !receiver.receive_all(early).await {
        return Err(ServeError::Abandoned);
    }
    match early.pop_front() {
        Some(Envelope::Begin(beginning)) => Ok(*beginning),
        _ => Err(ServeError::Abandoned),
    }
}

/// This shard's store and broker.
async fn open<E: Env>(
    env: E,
    index: usize,
    process: Arc<Process<E>>,
    beginning: Beginning<E>,
) -> Result<Rc<Shard<E>>, ServeError> {
    let config = process.config.clone();
    for lock in beginning.locks {
        env.hold(lock).map_err(|error| ServeError::Io {
            path: LOCK_FILE.into(),
            error,
        })?;
    }
    let shards = process.shards();
    let memory_bytes = config.shards.memory_bytes / shards as u64;
    let options = StoreOptions {
        directories: beginning.directories.iter().filter_map(log_directory).collect(),
        arena_directory: config.directories.arena.clone(),
        memory_bytes: memory_bytes / 2,
        journal_bytes: config.storage.journal_bytes,
        reserve_bytes: config.storage.reserve_bytes,
        producer_expiration_ms: config.storage.producer_expiration_ms,
        producer_count_max: config.storage.producer_count_max,
        retention_check_ms: config.storage.retention_check_interval_ms,
        shard: index,
        shards,
    };
    let scrub = ScrubOptions {
        bytes_per_second: config.storage.scrub_bytes_per_second,
        interval_ms: config.storage.scrub_interval_ms,
    };
    let directories = Directories::new(&beginning.recovered, process.offline.clone());
    let store = Store::open(env.clone(), options, beginning.recovered).await?;
    let memory = Memory::new(memory_bytes / 4);
    let scrubbed = store.clone();
    let local = Local::new(env.clone(), store, process.offline.clone(), memory.reads());
    let router = Router::new(index, process.inboxes.clone(), local);
    let catalog = Catalog::new(beginning.image, config);
    let broker = Broker::new(
        env.clone(),
        process.limits.clone(),
        memory,
        router,
        catalog,
        directories,
    );
    scrubbed.scrub(scrub, &broker.metrics.scrub);
    Ok(Rc::new(Shard {
        broker,
        env,
        process,
        directories: beginning.directories,
        controller: Default::default(),
        addresses: Default::default(),
        own_addresses: Default::default(),
        serving: Default::default(),
        quiet: Default::default(),
        quiet_changed: Default::default(),
        failure: Default::default(),
        failed: Default::default(),
        awaited: Default::default(),
        lacking: Default::default(),
    }))
}

/// Takes the controller's records to all shards, this one included.
fn publish<E: Env>(shard: &Rc<Shard<E>>) -> Publish {
    let shard = Rc::downgrade(shard);
    Box::new(move |records| {
        let shard = shard.upgrade();
        Box::pin(async move {
            if let Some(shard) = shard {
                topics::apply(&shard, &records).await;
                shard.broker.router.broadcast(records).await;
            }
        })
    })
}

/// When every shard has its partitions open: binds the listeners and lets all serve.
async fn serve_all<E: Env>(shard: &Rc<Shard<E>>, cluster_id: &str) -> Result<(), ServeError> {
    // Nothing to apply: the answers say that all are ready.
    shard.broker.router.broadcast(Arc::new([])).await;
    let bound = listen::bind(&shard.env, &shard.process, cluster_id).await?;
    let identity = Arc::new(bound.identity);
    let mut own_addresses = bound.own_addresses.into_iter();
    for inbox in &shard.process.inboxes {
        let serve = Envelope::Serve {
            identity: identity.clone(),
            addresses: bound.addresses.clone(),
            own_addresses: own_addresses.next().unwrap_or_default(),
        };
        inbox.send(serve).await.map_err(|_| ServeError::Abandoned)?;
    }
    shard.serving.raised().await;
    listen::start_with(shard, bound.sockets)?;
    let directories: Vec<_> = shard
        .directories
        .iter()
        .map(|directory| directory.path.display().to_string())
        .collect();
    tracing::info!(
        "ringtail {} serves {} with {} shards, data in {}",
        env!("CARGO_PKG_VERSION"),
        listen::describe(&shard.process.config.network.listeners, &identity),
        shard.process.shards(),
        directories.join(", "),
    );
    shard.env.give_back_memory();
    Ok(())
}
