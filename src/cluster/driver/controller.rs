//! The one place that decides: commands in, durable records out, to every shard's image.
//!
//! A command is decided against the working image and applied to it at once; its records wait for the flush together with
//! those of other commands (group commit), and its answer waits for them. When a flush fails, the working image and the
//! file may differ: the controller is closed for good and every command from then on fails.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::ids::TopicId;
use crate::base::sync::Notify;
use crate::cluster::command::{Command, Context, DecideError, Decision, Response};
use crate::cluster::decide::decide;
use crate::cluster::ids::DirectoryId;
use crate::cluster::image::Image;
use crate::cluster::record::Record;
use crate::config::{BrokerConfig, topic_config_warnings};
use crate::io::{Env, Queue};

use super::metadata_log::{LogError, MetadataLog};
use super::room::{Batch, Pending, Room, Spaces, Undecided};

/// Takes durable records to every shard; its future ends when all have applied them. A command's answer waits for it, so
/// that a client sees what it made on whichever shard it asks next.
pub type Publish = Box<dyn Fn(Arc<[Record]>) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Records of one commit, about.
const COMMIT_BYTES_TARGET: u64 = 4 << 20;
/// Commands that wait for a flush.
const PENDING_COUNT_MAX: usize = 1024;

/// Why a command was not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterError {
    Refused(DecideError),
    /// There is no space for its records; it may be tried again.
    NoSpace,
    /// The metadata log failed; the broker cannot go on as it is.
    Closed,
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NoSpace => f.write_str("There is no space for the metadata log: try again when there is."),
            Self::Closed => f.write_str("The metadata log cannot be written."),
        }
    }
}

/// Commands are numbered; a command is durable and published when `published` has passed its number.
struct State<E: Env> {
    image: Image,
    /// `None` while the flush task has it.
    log: Option<MetadataLog<E>>,
    pending: VecDeque<Pending>,
    room: Room,
    decided: u64,
    published: u64,
    closed: bool,
    /// Waits until everything decided is durable, so that the image is what the file holds.
    compaction_due: bool,
}

/// The controller; lives on one shard, a clone is another handle to it.
pub struct Controller<E: Env> {
    shared: Rc<Shared<E>>,
}

struct Shared<E: Env> {
    env: E,
    config: RefCell<Arc<BrokerConfig>>,
    /// Online, in the order of `log.dirs`.
    directories: RefCell<Vec<DirectoryId>>,
    state: RefCell<State<E>>,
    changed: Notify,
    flushing: Cell<bool>,
    publish: Publish,
}

impl<E: Env> Clone for Controller<E> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<E: Env> Controller<E> {
    /// On top of a replayed log. `image` is the log's; the shards' own copies begin as clones of it.
    pub fn new(
        env: E,
        log: MetadataLog<E>,
        image: Image,
        config: Arc<BrokerConfig>,
        directories: Vec<DirectoryId>,
        publish: Publish,
    ) -> Self {
        let state = State {
            image,
            compaction_due: log.wants_compaction(),
            room: Room::of(&log),
            log: Some(log),
            pending: VecDeque::new(),
            decided: 0,
            published: 0,
            closed: false,
        };
        let shared = Shared {
            env,
            config: RefCell::new(config),
            directories: RefCell::new(directories),
            state: RefCell::new(state),
            changed: Notify::default(),
            flushing: Cell::new(false),
            publish,
        };
        Self {
            shared: Rc::new(shared),
        }
    }

    /// Later commands are decided with this configuration.
    pub fn set_config(&self, config: Arc<BrokerConfig>) {
        *self.shared.config.borrow_mut() = config;
    }

    /// A directory failed: no new partition goes there.
    pub fn set_directory_offline(&self, directory: DirectoryId) {
        self.shared
            .directories
            .borrow_mut()
            .retain(|online| *online != directory);
    }

    /// Whether the metadata log failed.
    pub fn is_closed(&self) -> bool {
        self.shared.state.borrow().closed
    }

    /// Carries `command` out. When this returns `Ok`, its records are durable and every shard has them; when the future
    /// is dropped, the command is carried out all the same.
    pub async fn execute(&self, command: Command) -> Result<Response, ClusterError> {
        let shared = &self.shared;
        let has_room = || {
            let state = shared.state.borrow();
            state.closed || (state.pending.len() < PENDING_COUNT_MAX && !state.compaction_due)
        };
        if !has_room() {
            self.start_flush();
            shared.changed.until(has_room).await;
        }
        let spaces = shared.spaces(&command).await;
        let decided = loop {
            match shared.decide(&command, &spaces) {
                Err(Undecided::Lacks(bytes)) => self.make_room(bytes).await?,
                Err(Undecided::Failed(error)) => break Err(error),
                Ok(response) => break Ok(response),
            }
        };
        let number = shared.state.borrow().decided;
        self.start_flush();
        // A refusal waits too: it may rest on a command that is not durable yet.
        let is_over = || {
            let state = shared.state.borrow();
            state.closed || state.published >= number
        };
        shared.changed.until(is_over).await;
        match shared.state.borrow().closed {
            true => Err(ClusterError::Closed),
            false => decided,
        }
    }

    /// Waits until the log has room for `bytes` more. An error: there is no space for them.
    async fn make_room(&self, bytes: u64) -> Result<(), ClusterError> {
        let shared = &self.shared;
        let tries = {
            let mut state = shared.state.borrow_mut();
            let wanted = state.room.wanted.unwrap_or(0).max(bytes);
            state.room.wanted = Some(wanted);
            state.room.tries
        };
        self.start_flush();
        let is_over = || {
            let state = shared.state.borrow();
            state.closed || state.room.tries > tries
        };
        shared.changed.until(is_over).await;
        let state = shared.state.borrow();
        match (state.closed, state.room.is_refused) {
            (true, _) => Err(ClusterError::Closed),
            (false, true) => Err(ClusterError::NoSpace),
            (false, false) => Ok(()),
        }
    }

    /// Runs the flush task if it is not running: it outlives the command that started it.
    fn start_flush(&self) {
        if !self.shared.flushing.replace(true) {
            let shared = self.shared.clone();
            self.shared.env.spawn(Queue::Foreground, async move {
                shared.flush_commits().await;
            });
        }
    }
}

impl<E: Env> Shared<E> {
    /// Decides, applies to the working image, and queues the records.
    fn decide(&self, command: &Command, spaces: &Spaces) -> Result<Response, Undecided> {
        let refused = |error| Undecided::Failed(ClusterError::Refused(error));
        let mut state = self.state.borrow_mut();
        if state.closed {
            return Err(Undecided::Failed(ClusterError::Closed));
        }
        let config = self.config.borrow().clone();
        let online = self.directories.borrow();
        let directories = spaces.with_some(&online, state.room.promised);
        let context = Context {
            config: &config,
            directories: &directories,
        };
        let Decision { records, response } = decide(&state.image, context, command).map_err(refused)?;
        if records.is_empty() {
            return Ok(response);
        }
        let promised = spaces.check(&records, state.room.promised).map_err(refused)?;
        let pending = Pending::new(records, promised);
        state.room.take(&pending).map_err(Undecided::Lacks)?;
        pending.records.iter().for_each(|record| state.image.apply(record));
        warn_without_effect(&pending.records);
        state.pending.push_back(pending);
        state.decided += 1;
        Ok(response)
    }

    /// What the directories have for new partitions, if `command` makes some.
    async fn spaces(&self, command: &Command) -> Spaces {
        let mut spaces = Spaces::default();
        let makes_some = match command {
            Command::CreateTopic(command) => self.state.borrow().image.topic(&command.name).is_none(),
            Command::CreatePartitions(command) => self.state.borrow().image.topic(&command.topic).is_some(),
            _ => false,
        };
        if !makes_some {
            return spaces;
        }
        let reserve_bytes = self.config.borrow().storage.reserve_bytes;
        let online = self.directories.borrow().clone();
        for id in online {
            let image_path = |state: &State<E>| {
                let found = state.image.directories().find(|(known, _)| *known == id);
                found.map(|(_, path)| PathBuf::from(&**path))
            };
            let Some(path) = image_path(&self.state.borrow()) else {
                continue;
            };
            if let Ok(free) = self.env.free_bytes(&path).await {
                spaces.add(id, path, free.saturating_sub(reserve_bytes));
            }
        }
        spaces
    }

    /// Makes what is pending durable and published, until nothing is; then confirms it. Afterwards the log is back.
    async fn flush_commits(&self) {
        let Some(mut log) = self.state.borrow_mut().log.take() else {
            self.flushing.set(false);
            return;
        };
        loop {
            let wanted = self.state.borrow_mut().room.wanted.take();
            let batch = self.take_pending();
            let mut is_done = false;
            let outcome = if batch.count > 0 {
                self.commit(&mut log, batch).await
            } else if let Some(bytes) = wanted {
                self.make_room(&mut log, bytes).await
            } else if self.state.borrow().compaction_due {
                self.compact(&mut log).await
            } else {
                let confirmed = log.confirm().await;
                let state = self.state.borrow();
                is_done = state.pending.is_empty() && state.room.wanted.is_none();
                confirmed
            };
            if let Err(error) = outcome {
                tracing::error!("the metadata log failed, no command is carried out any more: {error}");
                self.state.borrow_mut().closed = true;
                break;
            }
            if is_done {
                self.state.borrow_mut().log = Some(log);
                break;
            }
        }
        self.flushing.set(false);
        self.changed.notify();
    }

    async fn commit(&self, log: &mut MetadataLog<E>, batch: Batch) -> Result<(), LogError> {
        log.append(&batch.records).await?;
        (self.publish)(batch.records.into()).await;
        log.make_room_ahead().await?;
        let mut state = self.state.borrow_mut();
        state.published += batch.count;
        state.compaction_due |= log.wants_compaction();
        state.room.give_back(batch.charged, batch.promised, log);
        drop(state);
        self.changed.notify();
        Ok(())
    }

    /// For a command that waits for it. Where there is none the command is refused, and that is all.
    async fn make_room(&self, log: &mut MetadataLog<E>, bytes: u64) -> Result<(), LogError> {
        let charged = self.state.borrow().room.charged;
        let made = log.make_room(charged + bytes).await;
        let mut state = self.state.borrow_mut();
        state.room.is_refused = made.is_err();
        state.room.tries += 1;
        state.room.give_back(0, 0, log);
        drop(state);
        self.changed.notify();
        match made {
            Err(LogError::NoSpace | LogError::TooLarge) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Nothing is pending and nothing is decided meanwhile: the image is what the file holds.
    async fn compact(&self, log: &mut MetadataLog<E>) -> Result<(), LogError> {
        let image = self.state.borrow().image.clone();
        log.compact(&image).await?;
        let mut state = self.state.borrow_mut();
        state.compaction_due = false;
        state.room.give_back(0, 0, log);
        drop(state);
        self.changed.notify();
        Ok(())
    }

    /// What the next commit takes.
    fn take_pending(&self) -> Batch {
        let mut state = self.state.borrow_mut();
        let mut batch = Batch::default();
        while batch.charged < COMMIT_BYTES_TARGET
            && let Some(pending) = state.pending.pop_front()
        {
            batch.add(pending);
        }
        batch
    }
}

/// Tells the operator about options that are stored but do nothing.
fn warn_without_effect(records: &[Record]) {
    for record in records {
        let (topic, configs) = match record {
            Record::TopicCreated { name, configs, .. } => (name.clone(), configs),
            Record::TopicConfigsSet { topic, configs } => (topic.to_string(), configs),
            _ => continue,
        };
        for text in topic_config_warnings(configs) {
            tracing::warn!("topic {topic}: {text}");
        }
    }
}

/// A new topic's id: never zero, and never beginning with `-`, which command lines would take for an option.
pub fn random_topic_id<E: Env>(env: &E) -> TopicId {
    loop {
        let bits = u128::from(env.random()) << 64 | u128::from(env.random());
        let id = TopicId(bits.to_be_bytes());
        if !id.is_zero() && !id.to_string().starts_with('-') {
            return id;
        }
    }
}
