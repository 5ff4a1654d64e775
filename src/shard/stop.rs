//! A clean stop: bounded in time, whatever the clients do.

use std::rc::Rc;

use super::inbox::Inbox;
use super::{ServeError, Shard};
use crate::base::sync::race;
use crate::broker::route::Envelope;
use crate::io::Env;

/// For answers that are under way.
const ANSWERS_MS_MAX: u64 = 2000;
/// For connections to notice that they were shut down, and for other shards to be done as well.
const QUIET_MS_MAX: u64 = 1000;

/// Ends the shard: connections, then what other shards ask, then the store.
pub async fn stop<E: Env>(shard: &Rc<Shard<E>>, inbox: Inbox) -> Result<(), ServeError> {
    let broker = &shard.broker;
    let shard_index = broker.router.shard();
    tracing::info!(
        shard = shard_index,
        connections = broker.connections.open_count(),
        "stopping"
    );
    broker.stopping.raise();
    broker.connections.shutdown_idle(&shard.env);
    within(shard, ANSWERS_MS_MAX, broker.connections.empty()).await;
    if broker.connections.open_count() > 0 {
        broker.connections.shutdown_all(&shard.env);
        within(shard, QUIET_MS_MAX, broker.connections.empty()).await;
    }
    quiet(shard).await;
    let others = broker.router.shards() - 1;
    within(
        shard,
        ANSWERS_MS_MAX + QUIET_MS_MAX,
        shard.quiet_changed.until(|| shard.quiet.get() >= others),
    )
    .await;
    inbox.end().await;
    tracing::debug!(shard = shard_index, "quiet, the store closes");
    broker.router.local().store().close().await?;
    tracing::info!(shard = shard_index, "stopped");
    Ok(())
}

/// Tells the other shards that this one asks nothing more.
async fn quiet<E: Env>(shard: &Rc<Shard<E>>) {
    let router = &shard.broker.router;
    for other in (0..router.shards()).filter(|other| *other != router.shard()) {
        let send = async {
            let _ = router.inbox(other).send(Envelope::Quiet).await;
        };
        within(shard, QUIET_MS_MAX, send).await;
    }
}

async fn within<E: Env>(shard: &Shard<E>, ms: u64, work: impl Future<Output = ()>) {
    race(work, shard.env.sleep_until(shard.env.now().plus_ms(ms))).await;
}
