//! Accepting: every shard listens, each new connection goes to the shard with fewest.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::{Process, ServeError, Shard};
use crate::base::mailbox::SendError;
use crate::base::sync::race;
use crate::broker::connection::{self, Peer};
use crate::broker::limits::Counted;
use crate::broker::route::Envelope;
use crate::broker::{Endpoint, Identity};
use crate::io::{Env, Queue};

/// After a failed accept (no descriptors left, say).
const ACCEPT_RETRY_MS: u64 = 50;

/// Binds the configured listeners once, to learn their ports; what every shard is to listen on, and what clients are told.
pub async fn resolve<E: Env>(
    env: &E,
    process: &Process<E>,
    cluster_id: &str,
) -> Result<(Arc<Identity>, Vec<(usize, SocketAddr)>, Vec<E::Listener>), ServeError> {
    let mut identity = Identity {
        cluster_id: cluster_id.to_owned(),
        node_id: process.node_id,
        rack: process.rack.clone(),
        endpoints: Vec::new(),
    };
    let mut addresses: Vec<(usize, SocketAddr)> = Vec::new();
    let mut held = Vec::new();
    for on in &process.listeners {
        let failed = |error| ServeError::Listen {
            address: format!("{}:{}", on.host, on.port),
            error,
        };
        // All addresses of one listener share a port.
        let taken = addresses
            .iter()
            .find(|(listener, _)| *listener == on.listener)
            .map(|(_, address)| address.port());
        let port = taken.unwrap_or(on.port);
        let resolved = match on.host.parse() {
            Ok(host) => vec![SocketAddr::new(host, port)],
            Err(_) => env.resolve(&on.host, port).await.map_err(failed)?,
        };
        let address = *resolved
            .first()
            .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let listener = env.listen(address).map_err(failed)?;
        let bound = env.local_address(&listener).map_err(failed)?;
        held.push(listener);
        addresses.push((on.listener, bound));
        if identity.endpoints.len() <= on.listener {
            identity.endpoints.resize(on.listener + 1, on.advertised.clone());
            let endpoint = &mut identity.endpoints[on.listener];
            if endpoint.port == 0 {
                endpoint.port = bound.port();
            }
        }
    }
    Ok((Arc::new(identity), addresses, held))
}

/// Listens on all addresses and accepts until the shard stops.
pub fn start<E: Env>(shard: &Rc<Shard<E>>) -> Result<(), ServeError> {
    for (listener, address) in shard.addresses.borrow_mut().take().unwrap_or_default() {
        let socket = shard.env.listen(address).map_err(|error| ServeError::Listen {
            address: address.to_string(),
            error,
        })?;
        shard
            .env
            .spawn(Queue::Foreground, accept(shard.clone(), socket, listener));
    }
    Ok(())
}

async fn accept<E: Env>(shard: Rc<Shard<E>>, socket: E::Listener, listener: usize) {
    let (env, stopping) = (shard.env.clone(), shard.broker.stopping.clone());
    loop {
        let accepted = race(async { Some(env.accept(&socket).await) }, async {
            stopping.raised().await;
            None
        });
        match accepted.await {
            None => return,
            Some(Ok((stream, address))) => admit(&shard, stream, Peer { address, listener }),
            Some(Err(error)) => {
                tracing::warn!(%error, "accept failed");
                env.sleep_until(env.now().plus_ms(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

fn admit<E: Env>(shard: &Rc<Shard<E>>, stream: E::Stream, peer: Peer) {
    let (process, router) = (&shard.process, &shard.broker.router);
    let counted = match process
        .connections
        .admit(peer.address.ip(), router.shard(), &process.limits)
    {
        Ok(counted) => counted,
        Err(refused) => {
            tracing::debug!(peer = %peer.address, ?refused, "connection refused");
            shard.broker.metrics.connections_refused.add(1);
            shard.env.shutdown(&stream);
            return;
        }
    };
    if counted.shard == router.shard() {
        return serve_connection(shard, stream, peer, counted);
    }
    let adopt = Envelope::Adopt {
        stream: shard.env.detach(stream),
        peer,
        counted,
    };
    let inbox = router.inbox(match &adopt {
        Envelope::Adopt { counted, .. } => counted.shard,
        _ => router.shard(),
    });
    // A shard with a full inbox is behind: the connection is served here instead.
    if let Err(SendError::Full(Envelope::Adopt { stream, peer, counted })) = inbox.try_send(adopt) {
        let stream = shard.env.attach(stream);
        serve_connection(shard, stream, peer, counted);
    }
}

/// Serves a connection as a task of its own; it counts until it ends.
pub fn serve_connection<E: Env>(shard: &Rc<Shard<E>>, stream: E::Stream, peer: Peer, counted: Counted) {
    let broker = shard.broker.clone();
    shard.env.spawn(Queue::Foreground, async move {
        connection::serve(broker, stream, peer).await;
        drop(counted);
    });
}

/// How clients reach a bound address, for the start line.
pub fn describe(endpoints: &[Endpoint]) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|e| format!("{}:{}", e.host, e.port)).collect();
    endpoints.join(", ")
}
