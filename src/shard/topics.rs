//! The partitions of this shard: opened at start, kept equal to the controller's records after.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::Shard;
use crate::base::ids::PartitionId;
use crate::base::sync::join_all;
use crate::broker::catalog::Topic;
use crate::cluster::{DirectoryId, Record, log_options, shard_of};
use crate::io::{Env, Queue};
use crate::storage::PartitionSpec;

/// Partitions opened side by side.
const OPEN_SIDE_BY_SIDE: usize = 32;

/// Partitions that could not be opened for lack of space or descriptors. They are offline until they can.
#[derive(Default)]
pub struct Lacking {
    specs: RefCell<VecDeque<PartitionSpec>>,
    is_tried: Cell<bool>,
}

/// Opens every partition that this shard owns.
pub async fn open_all<E: Env>(shard: &Rc<Shard<E>>) {
    let topics: Vec<_> = shard.broker.catalog.borrow().topics().cloned().collect();
    let ids = topics.iter().flat_map(|topic| owned(shard, topic));
    let opens: Vec<_> = ids.filter_map(|(topic, id)| spec(shard, topic, id)).collect();
    for some in opens.chunks(OPEN_SIDE_BY_SIDE) {
        join_all(some.iter().map(|spec| open(shard, spec.clone())).collect()).await;
    }
}

/// Applies the controller's records: what this shard owns of a topic is open before the topic is seen here, and deleted
/// after it is no longer seen.
pub async fn apply<E: Env>(shard: &Rc<Shard<E>>, records: &[Record]) {
    for record in records {
        let deleted = match record {
            Record::TopicDeleted { topic } => shard.broker.catalog.borrow().by_id(*topic),
            _ => None,
        };
        open_added(shard, record).await;
        shard.broker.catalog.borrow_mut().apply(record);
        if let Some(topic) = deleted {
            delete(shard, &topic).await;
        }
        match record {
            Record::TopicConfigsSet { topic, .. } => {
                let topic = shard.broker.catalog.borrow().by_id(*topic);
                topic.iter().for_each(|topic| set_options(shard, topic));
            }
            Record::BrokerConfigsSet { .. } => broker_configs_set(shard),
            _ => {}
        }
    }
}

fn owned<'a, E: Env>(
    shard: &Shard<E>,
    topic: &'a Rc<Topic>,
) -> impl Iterator<Item = (&'a Rc<Topic>, PartitionId)> + use<'a, E> {
    let (index, shards) = (shard.broker.router.shard(), shard.process.shards());
    let ids = topic.partitions().filter(move |id| shard_of(*id, shards) == index);
    ids.map(move |id| (topic, id))
}

/// Opens the partitions that `record` adds. The topic as it will be comes from a catalog's copy of the image.
async fn open_added<E: Env>(shard: &Rc<Shard<E>>, record: &Record) {
    let (id, first) = match record {
        Record::TopicCreated { id, .. } => (*id, 0),
        Record::PartitionsAdded { topic, first, .. } => (*topic, *first),
        _ => return,
    };
    let mut image = shard.broker.catalog.borrow().image().clone();
    image.apply(record);
    let Some(topic) = image.topic_by_id(id) else { return };
    let topic = Rc::new(Topic::new(topic, shard.broker.catalog.borrow().config()));
    let added: Vec<_> = owned(shard, &topic)
        .filter(|(_, id)| id.index >= first)
        .filter_map(|(topic, id)| spec(shard, topic, id))
        .collect();
    for some in added.chunks(OPEN_SIDE_BY_SIDE) {
        join_all(some.iter().map(|spec| open(shard, spec.clone())).collect()).await;
    }
}

/// `None` when the partition's directory is offline: it is not served.
fn spec<E: Env>(shard: &Shard<E>, topic: &Topic, id: PartitionId) -> Option<PartitionSpec> {
    let index = usize::try_from(id.index).ok()?;
    let directory = *topic.image.partitions.get(index)?;
    let Some(position) = position(shard, directory) else {
        shard.broker.router.local().set_offline(id);
        return None;
    };
    Some(PartitionSpec {
        id,
        topic_name: topic.name.clone(),
        directory: position,
        options: log_options(&topic.image, shard.broker.catalog.borrow().config()),
    })
}

/// The store's number of a directory: its place among those that are online.
fn position<E: Env>(shard: &Shard<E>, id: DirectoryId) -> Option<usize> {
    let mut online = shard.directories.iter().filter_map(|directory| directory.online());
    online.position(|directory| directory == id)
}

async fn open<E: Env>(shard: &Rc<Shard<E>>, spec: PartitionSpec) {
    let local = shard.broker.router.local();
    if let Err(error) = local.store().open_partition(spec.clone()).await {
        let (topic, partition) = (&spec.topic_name, spec.id.index);
        tracing::error!(%topic, partition, %error, "partition cannot be opened");
        local.set_offline(spec.id);
        if error.is_passing() {
            shard.lacking.specs.borrow_mut().push_back(spec);
        }
    }
}

/// Opens what could not be opened before, as far as there is space and there are descriptors now; in the background.
pub fn open_lacking<E: Env>(shard: &Rc<Shard<E>>) {
    let lacking = &shard.lacking;
    if lacking.specs.borrow().is_empty() || lacking.is_tried.replace(true) {
        return;
    }
    let shard = shard.clone();
    shard.env.clone().spawn(Queue::Background, async move {
        let count = shard.lacking.specs.borrow().len();
        for _ in 0..count {
            let next = shard.lacking.specs.borrow_mut().pop_front();
            let Some(spec) = next.filter(|_| !shard.broker.stopping.is_raised()) else {
                break;
            };
            open_again(&shard, spec).await;
        }
        shard.lacking.is_tried.set(false);
    });
}

async fn open_again<E: Env>(shard: &Rc<Shard<E>>, spec: PartitionSpec) {
    let local = shard.broker.router.local();
    let (topic, partition, id) = (&spec.topic_name, spec.id.index, spec.id);
    if !local.is_offline(id) {
        // Its topic was deleted.
        return;
    }
    match local.store().open_partition(spec.clone()).await {
        Ok(_) if !local.is_offline(id) => {
            if let Err(error) = local.store().delete_partition(id).await {
                tracing::error!(%topic, partition, %error, "partition cannot be deleted");
            }
        }
        Ok(opened) => {
            let known = shard.broker.catalog.borrow().by_id(id.topic);
            if let Some(known) = known {
                opened.set_options(log_options(&known.image, shard.broker.catalog.borrow().config()));
            }
            local.forget(id);
            tracing::info!(%topic, partition, "partition is open now");
        }
        Err(error) if error.is_passing() => shard.lacking.specs.borrow_mut().push_back(spec),
        Err(error) => tracing::error!(%topic, partition, %error, "partition cannot be opened"),
    }
}

async fn delete<E: Env>(shard: &Rc<Shard<E>>, topic: &Rc<Topic>) {
    let store = shard.broker.router.local().store();
    for (_, id) in owned(shard, topic) {
        shard.broker.router.local().forget(id);
        if store.partition(id).is_none() {
            continue;
        }
        if let Err(error) = store.delete_partition(id).await {
            tracing::error!(topic = %topic.name, partition = id.index, %error, "partition cannot be deleted");
        }
    }
}

fn set_options<E: Env>(shard: &Rc<Shard<E>>, topic: &Rc<Topic>) {
    let options = log_options(&topic.image, shard.broker.catalog.borrow().config());
    for (_, id) in owned(shard, topic) {
        if let Some(partition) = shard.broker.router.local().store().partition(id) {
            partition.set_options(options.clone());
        }
    }
}

/// The broker's options are the defaults of every topic.
fn broker_configs_set<E: Env>(shard: &Rc<Shard<E>>) {
    let topics: Vec<_> = shard.broker.catalog.borrow().topics().cloned().collect();
    topics.iter().for_each(|topic| set_options(shard, topic));
    if let Some(controller) = shard.controller.get() {
        controller.set_config(shard.broker.catalog.borrow().config().clone());
    }
}
