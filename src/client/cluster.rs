//! The cluster as one client sees it: connections by broker and purpose, cached metadata, retries with backoff.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use crate::base::ids::TopicId;
use crate::base::sync::Notify;
use crate::io::{Env, Monotonic};
use crate::wire::Protocol;
use crate::wire::kafka::{ErrorCode, Message};

use super::connection::{Connection, ConnectionOptions};
use super::error::ClientError;
use super::exchange;
use super::metadata::{Metadata, Topic};

#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// What the listeners of `bootstrap_servers` speak: they name those of the other brokers.
    pub protocol: Protocol,
    /// `host:port` of brokers to begin with, in order of preference.
    pub bootstrap_servers: Vec<String>,
    pub client_id: String,
    pub request_timeout_ms: u64,
    /// How long a call goes on retrying.
    pub deadline_ms: u64,
    /// The first wait before a retry; it doubles up to `backoff_ms_max`, give or take a fifth.
    pub backoff_ms: u64,
    pub backoff_ms_max: u64,
    /// Requests in flight per connection.
    pub in_flight_max: u64,
    pub answer_bytes_max: usize,
    /// Whether asking for an unknown topic may create it (if the broker does so).
    pub allow_auto_create: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::Kafka,
            bootstrap_servers: vec!["localhost:9092".into()],
            client_id: "ringtail".into(),
            request_timeout_ms: 30_000,
            deadline_ms: 60_000,
            backoff_ms: 50,
            backoff_ms_max: 1_000,
            in_flight_max: 16,
            answer_bytes_max: 128 << 20,
            allow_auto_create: false,
        }
    }
}

/// What a connection is for: requests of one purpose never wait behind those of another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    Ask,
    Produce,
    /// Long polls.
    Fetch,
}

/// Who leads a partition, and how to name the topic to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leader {
    pub node_id: i32,
    pub epoch: i32,
    /// Zero where the brokers know no ids.
    pub topic_id: TopicId,
}

enum Slot<E: Env> {
    Connecting,
    Open(Connection<E>),
}

struct Shared<E: Env> {
    env: E,
    options: ClientOptions,
    connections: RefCell<BTreeMap<(i32, Purpose), Slot<E>>>,
    connections_changed: Notify,
    metadata: RefCell<Rc<Metadata>>,
    /// Which bootstrap server to try first: the one after the last that failed.
    bootstrap_next: Cell<usize>,
    closed: Cell<bool>,
}

/// A handle to a cluster; clones share connections and metadata.
pub struct Client<E: Env>(Rc<Shared<E>>);

impl<E: Env> Clone for Client<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Takes the mark `Connecting` away when the attempt ends without a connection, however it ends.
struct Attempt<'c, E: Env> {
    shared: &'c Shared<E>,
    key: (i32, Purpose),
}

impl<E: Env> Drop for Attempt<'_, E> {
    fn drop(&mut self) {
        let mut connections = self.shared.connections.borrow_mut();
        if matches!(connections.get(&self.key), Some(Slot::Connecting)) {
            connections.remove(&self.key);
        }
        drop(connections);
        self.shared.connections_changed.notify();
    }
}

impl<E: Env> Client<E> {
    /// Makes no connection yet.
    pub fn new(env: E, options: ClientOptions) -> Self {
        Self(Rc::new(Shared {
            env,
            options,
            connections: RefCell::default(),
            connections_changed: Notify::default(),
            metadata: RefCell::default(),
            bootstrap_next: Cell::new(0),
            closed: Cell::new(false),
        }))
    }

    pub fn env(&self) -> &E {
        &self.0.env
    }

    pub fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// What is known now.
    pub fn metadata(&self) -> Rc<Metadata> {
        self.0.metadata.borrow().clone()
    }

    /// Ends all connections; calls under way and later ones fail with `Closed`.
    pub fn close(&self) {
        self.0.closed.set(true);
        for (_, slot) in self.0.connections.take() {
            if let Slot::Open(connection) = slot {
                connection.close();
            }
        }
        self.0.connections_changed.notify();
    }

    /// The connection to a broker of the metadata (made if there is none).
    pub async fn connection(&self, node_id: i32, purpose: Purpose) -> Result<Connection<E>, ClientError> {
        let address = {
            let metadata = self.metadata();
            let broker = metadata.brokers.get(&node_id);
            broker.map(|broker| address_of(&broker.host, broker.port))
        };
        let Some(address) = address else {
            return Err(ClientError::refused(
                format!("find broker {node_id}"),
                ErrorCode::BrokerNotAvailable.code(),
                None,
            ));
        };
        self.connection_to(node_id, purpose, &address).await
    }

    async fn connection_to(&self, node_id: i32, purpose: Purpose, address: &str) -> Result<Connection<E>, ClientError> {
        let key = (node_id, purpose);
        let mut is_again = false;
        loop {
            if self.0.closed.get() {
                return Err(ClientError::Closed);
            }
            let changed = self.0.connections_changed.notified();
            let connecting = match self.0.connections.borrow().get(&key) {
                Some(Slot::Open(open)) if !open.is_closed() && open.address() == address => return Ok(open.clone()),
                Some(Slot::Connecting) => true,
                Some(Slot::Open(_)) => {
                    is_again = true;
                    false
                }
                None => false,
            };
            if !connecting {
                break;
            }
            changed.await;
        }
        if is_again && purpose == Purpose::Produce {
            // With acks=0 the end of a connection is all that tells of a topic that is another by now.
            self.forget_led_by(node_id);
        }
        self.0.connections.borrow_mut().insert(key, Slot::Connecting);
        let _attempt = Attempt { shared: &self.0, key };
        let options = &self.0.options;
        let options = ConnectionOptions {
            protocol: options.protocol,
            client_id: options.client_id.clone(),
            request_timeout_ms: options.request_timeout_ms,
            in_flight_max: options.in_flight_max,
            answer_bytes_max: options.answer_bytes_max,
        };
        let connection = Connection::open(&self.0.env, address, options).await?;
        if self.0.closed.get() {
            return Err(ClientError::Closed);
        }
        self.0
            .connections
            .borrow_mut()
            .insert(key, Slot::Open(connection.clone()));
        Ok(connection)
    }

    /// A connection to some broker: a known one, else a bootstrap server.
    pub async fn any_connection(&self) -> Result<Connection<E>, ClientError> {
        let open = self
            .0
            .connections
            .borrow()
            .iter()
            .find_map(|((_, purpose), slot)| match slot {
                Slot::Open(open) if !open.is_closed() && *purpose == Purpose::Ask => Some(open.clone()),
                _ => None,
            });
        if let Some(open) = open {
            return Ok(open);
        }
        let mut last = ClientError::Invalid("no bootstrap server is given".into());
        let servers = &self.0.options.bootstrap_servers;
        for _ in servers {
            let index = self.0.bootstrap_next.get() % servers.len();
            // Bootstrap servers have no node id: they get negative ones.
            match self
                .connection_to(-1 - index as i32, Purpose::Ask, &servers[index])
                .await
            {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
            self.0.bootstrap_next.set(index + 1);
        }
        for node_id in self.metadata().brokers.keys().copied() {
            match self.connection(node_id, Purpose::Ask).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to the broker that carries out administrative requests.
    pub async fn controller_connection(&self) -> Result<Connection<E>, ClientError> {
        if self.metadata().controller_id.is_none() {
            self.refresh(Some(&[])).await?;
        }
        match self.metadata().controller_id {
            Some(node_id) => self.connection(node_id, Purpose::Ask).await,
            None => self.any_connection().await,
        }
    }

    /// Asks once for the metadata of `topics` (all of them for `None`) and gives the answer; it is merged into what is known.
    pub async fn refresh(&self, topics: Option<&[&str]>) -> Result<Rc<Metadata>, ClientError> {
        let connection = self.any_connection().await?;
        let newer = exchange::metadata(&connection, topics, self.0.options.allow_auto_create).await?;
        let newer = Rc::new(newer);
        let mut merged = (*self.metadata()).clone();
        merged.merge(&newer);
        *self.0.metadata.borrow_mut() = Rc::new(merged);
        Ok(newer)
    }

    /// Drops what is known of `topic`, so that the next look asks again.
    pub fn forget(&self, topic: &str) {
        if self.0.metadata.borrow().topics.contains_key(topic) {
            let mut metadata = (*self.metadata()).clone();
            metadata.topics.remove(topic);
            *self.0.metadata.borrow_mut() = Rc::new(metadata);
        }
    }

    /// The same of all topics with partitions that `node_id` leads.
    fn forget_led_by(&self, node_id: i32) {
        let mut metadata = (*self.metadata()).clone();
        metadata.topics.retain(|_, topic| {
            let mut partitions = topic.partitions.iter();
            !partitions.any(|partition| partition.leader == Some(node_id))
        });
        *self.0.metadata.borrow_mut() = Rc::new(metadata);
    }

    /// The leader of a partition as far as it is known.
    pub fn leader_known(&self, topic: &str, partition: i32) -> Option<Leader> {
        let metadata = self.0.metadata.borrow();
        let topic = metadata.topics.get(topic)?;
        let partition = topic.partition(partition)?;
        let node_id = partition
            .leader
            .filter(|node_id| metadata.brokers.contains_key(node_id))?;
        Some(Leader {
            node_id,
            epoch: partition.leader_epoch,
            topic_id: topic.id,
        })
    }

    /// The leader of a partition: known, or asked for until there is one.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<Leader, ClientError> {
        self.retrying(async || {
            if let Some(leader) = self.leader_known(topic, partition) {
                return Ok(leader);
            }
            self.topic_once(topic).await?;
            let code = match self
                .metadata()
                .topics
                .get(topic)
                .and_then(|topic| topic.partition(partition))
            {
                None => ErrorCode::UnknownTopicOrPartition,
                Some(_) => ErrorCode::LeaderNotAvailable,
            };
            let refused = || ClientError::refused(format!("find the leader of {topic}-{partition}"), code.code(), None);
            self.leader_known(topic, partition).ok_or_else(refused)
        })
        .await
    }

    /// A topic with its partitions: known, or asked for until it is there or the deadline passes.
    pub async fn topic(&self, name: &str) -> Result<Topic, ClientError> {
        self.retrying(async || {
            let known = self
                .metadata()
                .topics
                .get(name)
                .filter(|topic| topic.error.is_none())
                .cloned();
            match known {
                Some(topic) => Ok(topic),
                None => self.topic_once(name).await,
            }
        })
        .await
    }

    /// Asks for a topic once.
    pub async fn topic_once(&self, name: &str) -> Result<Topic, ClientError> {
        let newer = self.refresh(Some(&[name])).await?;
        let missing = ErrorCode::UnknownTopicOrPartition;
        let Some(topic) = newer.topics.get(name) else {
            return Err(ClientError::refused(format!("find topic {name}"), missing.code(), None));
        };
        let code = topic.error.map_or(0, ErrorCode::code);
        ClientError::check(code, || format!("find topic {name}"), None)?;
        Ok(topic.clone())
    }

    /// Runs `attempt` until it succeeds, fails for good, or the client's deadline passes.
    pub async fn retrying<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        let deadline = self.0.env.now().plus_ms(self.0.options.deadline_ms);
        let mut attempts = 0;
        loop {
            match attempt().await {
                Err(error) if error.is_retriable() && !self.0.closed.get() => {
                    let again = self.backoff_end(attempts);
                    attempts += 1;
                    if again >= deadline {
                        return Err(error);
                    }
                    self.0.env.sleep_until(again).await;
                }
                done => return done,
            }
        }
    }

    /// When to try again after `attempts` earlier waits.
    pub(super) fn backoff_end(&self, attempts: u32) -> Monotonic {
        let options = &self.0.options;
        let wait = options
            .backoff_ms
            .saturating_mul(1 << attempts.min(20))
            .min(options.backoff_ms_max);
        let jitter = self.0.env.random() % (wait * 2 / 5 + 1);
        self.0.env.now().plus_ms(wait - wait / 5 + jitter)
    }

    /// One request to the broker that `M`'s kind of work belongs to, with retries; `read` takes the answer apart.
    pub(super) async fn administer<'m, M: Message<'m>, T>(
        &self,
        request: &M,
        read: impl Fn(&super::connection::Answer) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.retrying(async || {
            let connection = self.controller_connection().await?;
            let answer = connection.call(request).await?;
            let result = read(&answer);
            if let Err(error) = &result
                && error.code() == Some(ErrorCode::NotController)
            {
                self.refresh(Some(&[])).await?;
            }
            result
        })
        .await
    }
}

fn address_of(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
