//! The topics of this shard: opening what it owns at start, following the controller's changes after.

use std::rc::Rc;
use std::sync::Arc;

use super::{ServeError, Shard, listen};
use crate::base::ids::PartitionId;
use crate::broker::catalog::Topic;
use crate::broker::control::Change;
use crate::broker::route::{Envelope, owner};
use crate::io::Env;
use crate::storage::{LogOptions, PartitionSpec};

/// On the controller's shard: brings all topics to all shards, then binds the listeners and lets every shard serve.
pub async fn start<E: Env>(shard: &Rc<Shard<E>>) -> Result<(), ServeError> {
    let Some(controller) = &shard.controller else {
        return Ok(());
    };
    let all = Arc::new(controller.all());
    apply(shard, &all).await;
    shard.broker.router.broadcast(all).await;
    let (identity, addresses, held) = listen::resolve(&shard.env, &shard.process, &controller.cluster_id()).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listeners = listen::describe(&identity.endpoints),
        shards = shard.process.shards,
        directories = ?shard.process.store.directories,
        "started"
    );
    for inbox in &shard.process.inboxes {
        let serve = Envelope::Serve {
            identity: identity.clone(),
            addresses: addresses.clone(),
        };
        inbox.send(serve).await.map_err(|_| ServeError::Abandoned)?;
    }
    // Held until this shard listens itself: the ports stay ours.
    shard.serving.raised().await;
    listen::start(shard)?;
    drop(held);
    Ok(())
}

/// Applies the controller's changes: partitions of this shard open before their topic is seen, and are deleted after.
pub async fn apply<E: Env>(shard: &Rc<Shard<E>>, changes: &[Change]) {
    for change in changes {
        match change {
            Change::TopicPut(topic) => {
                open_partitions(shard, topic).await;
                shard.broker.catalog.borrow_mut().put(topic.clone());
            }
            Change::TopicRemoved(id) => {
                let removed = shard.broker.catalog.borrow_mut().remove(*id);
                if let Some(topic) = removed {
                    delete_partitions(shard, &topic).await;
                }
            }
        }
    }
}

fn owned<E: Env>(shard: &Shard<E>, topic: &Topic) -> impl Iterator<Item = PartitionId> + use<E> {
    let (index, shards, topic_id) = (shard.broker.router.shard(), shard.process.shards, topic.id);
    (0..topic.partition_count)
        .map(move |index| PartitionId { topic: topic_id, index })
        .filter(move |id| owner(*id, shards) == index)
}

async fn open_partitions<E: Env>(shard: &Rc<Shard<E>>, topic: &Topic) {
    let store = shard.broker.router.local().store();
    for id in owned(shard, topic) {
        if store.partition(id).is_some() {
            continue;
        }
        let spec = PartitionSpec {
            id,
            topic_name: topic.name.clone(),
            directory: 0,
            options: LogOptions::default(),
        };
        if let Err(error) = store.open_partition(spec).await {
            tracing::error!(topic = %topic.name, partition = id.index, %error, "partition cannot be opened");
        }
    }
}

async fn delete_partitions<E: Env>(shard: &Rc<Shard<E>>, topic: &Topic) {
    let store = shard.broker.router.local().store();
    for id in owned(shard, topic) {
        if let Err(error) = store.delete_partition(id).await {
            tracing::error!(topic = %topic.name, partition = id.index, %error, "partition cannot be deleted");
        }
    }
}
