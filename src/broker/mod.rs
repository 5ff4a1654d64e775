//! Everything between a socket and the log: connections, the dispatch of requests, one handler per API.
//!
//! A `Broker` is one shard's part. `connection` turns bytes into requests and answers into bytes, `dispatch` finds the
//! handler, `handlers` mean what Kafka means, `native` serves the native protocol, `admission` checks batches of both, `route` reaches
//! the partitions wherever they live, `catalog` knows the topics.
//!
//! Invariants
//! 1. No input from the network panics: requests are decoded by `wire`, and a handler indexes nothing by what they say.
//! 2. An answer's error codes are made in `handlers::errors` alone.
//! 3. Memory that requests and answers take is counted in [`Memory`] before they are served (`connection::take`,
//!    `route::Local::read`); what other shards have read before it is kept (`route::Local::keep`).
//!
//! Not for: listening, starting, stopping (`shard`); how bytes become durable (`storage`).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

mod admission;
pub mod catalog;
pub mod connection;
pub mod directories;
mod dispatch;
mod fetch;
mod handlers;
mod lateness;
pub mod limits;
mod memory;
mod native;
mod producer_ids;
pub mod route;

pub use self::memory::{Memory, Pressure, Reader};

use self::catalog::{Catalog, Topic};
use self::connection::{Bounds, Registry};
use self::directories::Directories;
use self::fetch::session::{CacheBounds, Sessions};
use self::handlers::items::ITEMS_MAX;
use self::lateness::Lateness;
use self::limits::Limits;
use self::producer_ids::ProducerIds;
use self::route::Router;
use crate::base::ids::PartitionId;
use crate::base::sync::Signal;
use crate::cluster::shard_of;
use crate::io::Env;
use crate::io::turns::Turns;
use crate::metrics::Metrics;

/// One shard's broker.
pub struct Broker<E: Env> {
    pub env: E,
    identity: RefCell<Arc<Identity>>,
    pub limits: Arc<Limits>,
    bounds: Bounds,
    pub catalog: RefCell<Catalog>,
    pub directories: Directories,
    pub router: Rc<Router<E>>,
    pub connections: Rc<Registry<E>>,
    pub memory: Memory,
    pub lateness: Rc<Lateness>,
    turns: Rc<Turns>,
    pub metrics: Metrics,
    /// Raised when the shard stops: no further request is begun.
    pub stopping: Rc<Signal>,
    sessions: RefCell<Sessions>,
    producer_ids: ProducerIds,
}

/// What the broker says of itself.
#[derive(Clone, Default, Debug)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: i32,
    pub rack: Option<String>,
    /// Where clients of each listener are told to connect to, in the order of the listeners.
    pub endpoints: Vec<Endpoint>,
    /// The same of each shard, by listener, where each shard has listeners of its own (`ringtail.shard.listeners`).
    pub shard_endpoints: Option<Vec<Vec<Endpoint>>>,
}

/// The ids of one broker's shards, where clients are told of those: as many as no machine has cores.
pub const SHARDS_TOLD_MAX: usize = 1024;

impl Identity {
    /// The nodes that clients of `listener` are told of: the broker, or each of its shards.
    pub fn nodes(&self, listener: usize) -> Vec<(i32, &Endpoint)> {
        match &self.shard_endpoints {
            None => self
                .endpoints
                .get(listener)
                .map(|endpoint| (self.node_id, endpoint))
                .into_iter()
                .collect(),
            Some(shards) => {
                let endpoints = shards.get(listener).into_iter().flatten();
                endpoints
                    .enumerate()
                    .map(|(shard, endpoint)| (self.node_of(shard), endpoint))
                    .collect()
            }
        }
    }

    /// The node that `shard` is told as.
    pub fn node_of(&self, shard: usize) -> i32 {
        match self.shard_endpoints {
            None => self.node_id,
            // `node.id` is at most 2,097,150.
            Some(_) => self.node_id * SHARDS_TOLD_MAX as i32 + shard as i32,
        }
    }

    /// The node that leads partition `id` of this broker.
    pub fn leader_of(&self, id: PartitionId, shards: usize) -> i32 {
        self.node_of(shard_of(id, shards))
    }

    /// Whether clients know this broker as `node_id`.
    pub fn is_named(&self, node_id: i32, shards: usize) -> bool {
        let shard = i64::from(node_id) - i64::from(self.node_of(0));
        node_id == self.node_id || (self.shard_endpoints.is_some() && (0..shards as i64).contains(&shard))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// Sessions of all clients together never hold more partitions than this, divided over the shards.
const SESSION_PARTITIONS_MAX: usize = 500_000;

impl<E: Env> Broker<E> {
    pub fn new(
        env: E,
        limits: Arc<Limits>,
        memory: Memory,
        router: Rc<Router<E>>,
        catalog: Catalog,
        directories: Directories,
    ) -> Rc<Self> {
        let sessions = CacheBounds {
            sessions_max: limits.fetch_sessions_max.div_ceil(router.shards()),
            partitions_max: SESSION_PARTITIONS_MAX.div_ceil(router.shards()),
            session_partitions_max: ITEMS_MAX,
            idle_ms: limits.fetch_session_idle_ms,
        };
        Rc::new(Self {
            env,
            identity: RefCell::default(),
            bounds: limits.connection_bounds(),
            limits,
            catalog: RefCell::new(catalog),
            lateness: Lateness::new(directories.iter().count(), memory.request_bytes()),
            directories,
            connections: Rc::default(),
            memory,
            turns: Rc::default(),
            metrics: Metrics::default(),
            stopping: router.local().stopping().clone(),
            router,
            sessions: RefCell::new(Sessions::new(sessions)),
            producer_ids: ProducerIds::new(),
        })
    }

    /// The brokers that clients mean by `nodes`: this one may be told as one node for each shard.
    pub fn brokers_of(&self, nodes: impl Iterator<Item = i32>) -> Vec<i32> {
        let (identity, shards) = (self.identity(), self.router.shards());
        let broker = |node| match identity.is_named(node, shards) {
            true => identity.node_id,
            false => node,
        };
        nodes.map(broker).collect()
    }

    /// The node that leads partition `index` of `topic`, as clients know it.
    pub fn leader_of(&self, topic: &Topic, index: i32) -> i32 {
        let id = topic.partition(index);
        id.map_or(-1, |id| self.identity.borrow().leader_of(id, self.router.shards()))
    }

    /// What the broker says of itself; known before the first connection is served.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.borrow().clone()
    }

    pub fn set_identity(&self, identity: Arc<Identity>) {
        self.identity.replace(identity);
    }
}
