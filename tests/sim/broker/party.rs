//! What all clients of one world share, and how each of them asks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

use ringtail::client::{Answer, Client, ClientError, ClientOptions, Connection, ConnectionOptions};
use ringtail::io::Env;
use ringtail::io::sim::{SimEnv, host_address};
use ringtail::wire::Protocol;
use ringtail::wire::kafka::Message;
use ringtail_checker::Partition;

use super::payload::below;
use super::recorder::Recorder;

pub const BROKER: usize = 0;
/// A request without an answer after this time ends its connection.
pub const REQUEST_MS_MAX: u64 = 4_000;

pub fn address() -> String {
    SocketAddr::new(host_address(BROKER), 9092).to_string()
}

/// A client of the library, in either protocol.
pub fn some_library(env: &SimEnv, deadline_ms: u64) -> Client<SimEnv> {
    let (protocol, port) = match below(env, 2) {
        0 => (Protocol::Kafka, 9092),
        _ => (Protocol::Native, 9094),
    };
    let server = SocketAddr::new(host_address(BROKER), port).to_string();
    let options = ClientOptions {
        protocol,
        bootstrap_servers: vec![server],
        request_timeout_ms: REQUEST_MS_MAX,
        deadline_ms,
        ..ClientOptions::default()
    };
    Client::new(env.clone(), options)
}

/// One world's clients.
#[derive(Default)]
pub struct Party {
    pub recorder: RefCell<Recorder>,
    /// Clients end what they are at and go.
    pub stop: Cell<bool>,
    /// Clients that have not gone yet.
    pub running: RefCell<BTreeSet<&'static str>>,
    /// Requests that were answered.
    pub operations: Cell<u64>,
    /// By client: when a request of its last succeeded.
    pub succeeded: RefCell<BTreeMap<String, u64>>,
    /// By error code, how often clients saw it.
    pub errors: RefCell<BTreeMap<i16, u64>>,
    /// What clients saw that no rule of the checker is about. Empty in a run without fault of the broker.
    pub findings: RefCell<Vec<String>>,
}

pub type Shared = Rc<Party>;

impl Party {
    /// Something that must not be.
    pub fn find(&self, env: &SimEnv, what: String) {
        self.findings
            .borrow_mut()
            .push(format!("at {} ns: {what}", env.now().0));
    }

    pub fn error(&self, code: i16) {
        *self.errors.borrow_mut().entry(code).or_default() += 1;
    }

    pub fn success(&self, env: &SimEnv, name: &str) {
        self.succeeded.borrow_mut().insert(name.to_owned(), env.now().0);
    }

    /// Some partition that is there: of a topic that stays, or of any.
    pub fn pick(&self, env: &SimEnv, stays: bool) -> Option<Partition> {
        let recorder = self.recorder.borrow();
        let mut live = recorder.live();
        live.retain(|partition| !stays || recorder.known(*partition).stays);
        (!live.is_empty()).then(|| live[below(env, live.len() as u64) as usize])
    }
}

/// Waits a random time of `ms` on average.
pub async fn pause(env: &SimEnv, ms: u64) {
    let ns = below(env, 2 * ms * 1_000_000);
    let mut deadline = env.now();
    deadline.0 += ns;
    env.sleep_until(deadline).await;
}

/// One connection, made anew when it broke.
pub struct Caller {
    pub env: SimEnv,
    pub party: Shared,
    connection: Option<Connection<SimEnv>>,
}

impl Caller {
    pub fn new(env: &SimEnv, party: &Shared) -> Self {
        Self {
            env: env.clone(),
            party: party.clone(),
            connection: None,
        }
    }

    /// The connection, made if there is none.
    pub async fn connection(&mut self) -> Result<Connection<SimEnv>, ClientError> {
        if let Some(open) = self.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(open.clone());
        }
        let options = ConnectionOptions {
            request_timeout_ms: REQUEST_MS_MAX,
            ..ConnectionOptions::default()
        };
        match Connection::open(&self.env, &address(), options).await {
            Ok(connection) => {
                self.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                pause(&self.env, 200).await;
                Err(error)
            }
        }
    }

    /// Sends a request and waits for its answer. An answer counts as an operation, whatever it says.
    pub async fn ask<'m, M: Message<'m>>(&mut self, request: &M, version: i16) -> Result<Answer, ClientError> {
        let answer = self.connection().await?.ask(request, version).await;
        if answer.is_ok() {
            self.party.operations.set(self.party.operations.get() + 1);
        }
        answer
    }
}

/// Whether the client should go on.
pub fn goes_on(party: &Party) -> bool {
    !party.stop.get()
}
