//! Producer ids of one shard: taken from a block, a new block from the controller when it is used up.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use super::route::Router;
use crate::cluster::{ClusterError, Command, Response};
use crate::io::Env;

pub struct ProducerIds(RefCell<Range<i64>>);

impl ProducerIds {
    pub fn new() -> Self {
        Self(RefCell::new(0..0))
    }

    /// A producer id that was never given before in this cluster.
    pub async fn allocate<E: Env>(&self, router: &Rc<Router<E>>) -> Result<i64, ClusterError> {
        loop {
            if let Some(id) = self.0.borrow_mut().next() {
                return Ok(id);
            }
            let Response::ProducerIds(block) = router.command(Command::AllocateProducerIds).await? else {
                return Err(ClusterError::Closed);
            };
            let mut ids = self.0.borrow_mut();
            // Another request may have fetched a block meanwhile: then this one is left unused.
            if ids.is_empty() {
                *ids = block;
            }
        }
    }
}
