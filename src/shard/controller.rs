//! The metadata controller on shard 0.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::{Process, ServeError, Shard, topics};
use crate::base::ids::TopicId;
use crate::base::sync::Budget;
use crate::broker::catalog::{ProduceRules, Topic};
use crate::broker::control::{Change, Command, CommandError, CommandOutcome, CommandResult};
use crate::io::Env;

pub struct Controller {
    cluster_id: Arc<str>,
    topics: RefCell<BTreeMap<Arc<str>, Topic>>,
    producer_id_next: Cell<i64>,
    partitions_default: i32,
    /// One command at a time.
    turn: Rc<Budget>,
}

impl Controller {
    pub async fn open<E: Env>(env: &E, process: &Process<E>) -> Result<Self, ServeError> {
        Ok(Self {
            cluster_id: random_id(env).to_string().into(),
            topics: RefCell::default(),
            producer_id_next: Cell::new(0),
            partitions_default: process.limits.partitions_default,
            turn: Budget::new(1),
        })
    }

    pub fn cluster_id(&self) -> Arc<str> {
        self.cluster_id.clone()
    }

    pub fn all(&self) -> Vec<Change> {
        self.topics.borrow().values().cloned().map(Change::TopicPut).collect()
    }

    pub async fn carry_out<E: Env>(&self, shard: &Rc<Shard<E>>, command: Command) -> CommandResult {
        let _turn = self.turn.acquire(1).await;
        let change = match command {
            Command::CreateTopic(new) => {
                let name: Arc<str> = new.name.into();
                if self.topics.borrow().contains_key(&name) {
                    return Err(CommandError::Exists);
                }
                let topic = Topic {
                    id: random_id(&shard.env),
                    name: name.clone(),
                    partition_count: new.partition_count.unwrap_or(self.partitions_default),
                    produce: ProduceRules {
                        batch_bytes_max: 1_048_588,
                        append_time: false,
                        timestamp_before_ms_max: i64::MAX,
                        timestamp_after_ms_max: 3_600_000,
                        keys_required: false,
                        zstd_only: false,
                    },
                };
                self.topics.borrow_mut().insert(name, topic.clone());
                Change::TopicPut(topic)
            }
            Command::DeleteTopic(id) => {
                let mut topics = self.topics.borrow_mut();
                let name = topics
                    .values()
                    .find(|topic| topic.id == id)
                    .map(|topic| topic.name.clone());
                topics.remove(&name.ok_or(CommandError::Unknown)?);
                Change::TopicRemoved(id)
            }
            Command::ProducerIdBlock => {
                let start = self.producer_id_next.get();
                self.producer_id_next.set(start + 1000);
                return Ok(CommandOutcome::ProducerIds(start..start + 1000));
            }
        };
        let changes = Arc::new(vec![change]);
        topics::apply(shard, &changes).await;
        shard.broker.router.broadcast(changes).await;
        Ok(CommandOutcome::Done)
    }
}

fn random_id<E: Env>(env: &E) -> TopicId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&env.random().to_be_bytes());
    id[8..].copy_from_slice(&env.random().to_be_bytes());
    TopicId(id)
}
