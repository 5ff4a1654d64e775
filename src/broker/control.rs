//! What handlers ask of the cluster's controller, and producer ids, which come from it in blocks.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use super::catalog::Topic;
use super::route::Router;
use crate::base::ids::TopicId;
use crate::io::Env;

/// A change of the cluster's metadata.
#[derive(Clone, Debug)]
pub enum Command {
    CreateTopic(NewTopic),
    DeleteTopic(TopicId),
    ProducerIdBlock,
}

/// A topic to be made; `None`: the broker's default.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    pub partition_count: Option<i32>,
}

#[derive(Clone, Debug)]
pub enum CommandOutcome {
    Done,
    ProducerIds(Range<i64>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    Exists,
    Unknown,
    Unavailable,
}

pub type CommandResult = Result<CommandOutcome, CommandError>;

/// What every shard learns of a command that was carried out.
#[derive(Clone, Debug)]
pub enum Change {
    TopicPut(Topic),
    TopicRemoved(TopicId),
}

/// Producer ids of this shard: taken from a block, a new block when it is used up.
pub struct ProducerIds {
    next: Cell<i64>,
    end: Cell<i64>,
}

impl ProducerIds {
    pub fn new() -> Self {
        Self {
            next: Cell::new(0),
            end: Cell::new(0),
        }
    }

    /// A producer id that was never given before in this cluster.
    pub async fn allocate<E: Env>(&self, router: &Rc<Router<E>>) -> Result<i64, CommandError> {
        loop {
            let id = self.next.get();
            if id < self.end.get() {
                self.next.set(id + 1);
                return Ok(id);
            }
            let CommandOutcome::ProducerIds(block) = router.command(Command::ProducerIdBlock).await? else {
                return Err(CommandError::Unavailable);
            };
            // Another request may have fetched a block meanwhile: then this one is left unused.
            if self.next.get() >= self.end.get() {
                self.next.set(block.start);
                self.end.set(block.end);
            }
        }
    }
}
