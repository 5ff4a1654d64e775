//! Accepting: every shard listens, each new connection goes to the shard with fewest; where shards have listeners of their own
//! (`ringtail.shard.listeners`), whoever comes there stays.

use std::net::SocketAddr;
use std::rc::Rc;

use super::{Process, ServeError, Shard};
use crate::base::mailbox::SendError;
use crate::base::sync::race;
use crate::broker::connection::{self, Peer};
use crate::broker::limits::Counted;
use crate::broker::route::Envelope;
use crate::broker::{Endpoint, Identity};
use crate::config::{Bind, BrokerConfig, Listener};
use crate::io::{Env, Queue};
use crate::wire::Protocol;

/// After a failed accept (no descriptors left, say).
const ACCEPT_RETRY_MS: u64 = 50;

/// How long, and how often, a port that is taken is asked for again.
const PORT_WAIT_MS: u64 = 3000;
const PORT_RETRY_MS: u64 = 20;

/// What every shard is to listen on, what clients are told, and the sockets that hold the ports; one shard accepts from them.
pub struct Bound<E: Env> {
    pub identity: Identity,
    /// By listener.
    pub addresses: Vec<(usize, SocketAddr)>,
    pub sockets: Vec<E::Listener>,
    /// By shard: what that one listens on alone.
    pub own_addresses: Vec<Vec<(usize, SocketAddr)>>,
}

/// Binds the configured listeners: a port 0 becomes a real one, a taken port is found before anything is served.
pub async fn bind<E: Env>(env: &E, process: &Process<E>, cluster_id: &str) -> Result<Bound<E>, ServeError> {
    let config = &process.config;
    let mut bound = Bound {
        identity: Identity {
            cluster_id: cluster_id.to_owned(),
            node_id: config.identity.node_id,
            rack: config.identity.rack.clone(),
            endpoints: Vec::new(),
            shard_endpoints: config.network.per_shard.then(Vec::new),
        },
        addresses: Vec::new(),
        sockets: Vec::new(),
        own_addresses: vec![Vec::new(); process.shards()],
    };
    let mut held = Vec::new();
    for (index, listener) in config.network.listeners.iter().enumerate() {
        let mut port = listener.port;
        for address in addresses(env, listener).await? {
            let address = SocketAddr::new(address.ip(), port);
            let socket = listen_at(env, address).await.map_err(|error| failed(address, error))?;
            let local = env.local_address(&socket).map_err(|error| failed(address, error))?;
            // All addresses of one listener share a port.
            port = local.port();
            bound.addresses.push((index, local));
            bound.sockets.push(socket);
        }
        let told = advertised(config, listener, port);
        if let Some(shards) = &mut bound.identity.shard_endpoints {
            let mut endpoints = Vec::new();
            for (shard, own) in bound.own_addresses.iter_mut().enumerate() {
                let own_port = bind_own(env, (index, listener), port, shard, own, &mut held).await?;
                endpoints.push(Endpoint {
                    host: told.host.clone(),
                    port: match listener.port {
                        0 => own_port,
                        // What leads to the listener's port leads to those behind it.
                        _ => told.port.saturating_add(own_port - port),
                    },
                });
            }
            shards.push(endpoints);
        }
        bound.identity.endpoints.push(told);
    }
    // Sockets share ports, so one that is named twice would go unnoticed.
    let own = bound.own_addresses.iter().flatten();
    let mut all: Vec<SocketAddr> = bound.addresses.iter().chain(own).map(|(_, address)| *address).collect();
    all.sort();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(bound),
        Some(pair) => Err(failed(pair[0], std::io::ErrorKind::AddrInUse.into())),
    }
}

fn failed(address: SocketAddr, error: std::io::Error) -> ServeError {
    ServeError::Listen {
        address: address.to_string(),
        error,
    }
}

/// Finds the port of `shard` behind that of `listener`, and puts its addresses to `own`; the shard itself binds them once `held` is given
/// up. Who connects between is reset, as by a broker that is not there yet.
async fn bind_own<E: Env>(
    env: &E,
    (index, listener): (usize, &Listener),
    port: u16,
    shard: usize,
    own: &mut Vec<(usize, SocketAddr)>,
    held: &mut Vec<E::Listener>,
) -> Result<u16, ServeError> {
    let mut own_port = match listener.port {
        // Whatever is free.
        0 => 0,
        // The configuration has seen to it that there are as many (`config::listeners`).
        _ => port.saturating_add(1 + shard as u16),
    };
    for address in addresses(env, listener).await? {
        let address = SocketAddr::new(address.ip(), own_port);
        let socket = listen_at(env, address).await.map_err(|error| failed(address, error))?;
        let local = env.local_address(&socket).map_err(|error| failed(address, error))?;
        own_port = local.port();
        held.push(socket);
        own.push((index, local));
    }
    Ok(own_port)
}

/// Listens at `address`. A killed process keeps its port, as its lock, until the kernel has ended its ring, so a port that is
/// taken is asked for again for a while.
async fn listen_at<E: Env>(env: &E, address: SocketAddr) -> std::io::Result<E::Listener> {
    let deadline = env.now().plus_ms(PORT_WAIT_MS);
    loop {
        match env.listen(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && env.now() < deadline => {
                env.sleep_until(env.now().plus_ms(PORT_RETRY_MS)).await;
            }
            listening => return listening,
        }
    }
}

async fn addresses<E: Env>(env: &E, listener: &Listener) -> Result<Vec<SocketAddr>, ServeError> {
    if let Some(addresses) = listener.addresses(listener.port) {
        return Ok(addresses);
    }
    let Bind::Host(host) = &listener.bind else {
        return Ok(Vec::new());
    };
    env.resolve(host, listener.port)
        .await
        .map_err(|error| ServeError::Listen {
            address: host.clone(),
            error,
        })
}

/// What clients of `listener` are told; a listener that is not advertised tells of the first one that is.
fn advertised(config: &BrokerConfig, listener: &Listener, port: u16) -> Endpoint {
    let all = &config.network.advertised;
    let advertised = all
        .iter()
        .find(|advertised| advertised.name == listener.name)
        .or(all.first());
    let (host, told) = advertised.map_or(("localhost", 0), |advertised| {
        (advertised.host.as_str(), advertised.port)
    });
    Endpoint {
        host: host.to_owned(),
        port: if told == 0 { port } else { told },
    }
}

/// Listens on all addresses and accepts until the shard stops.
pub fn start<E: Env>(shard: &Rc<Shard<E>>) -> Result<(), ServeError> {
    for (listener, address) in shard.addresses.take().unwrap_or_default() {
        let socket = shard.env.listen(address).map_err(|error| failed(address, error))?;
        accept_from(shard, socket, listener, false);
    }
    start_own(shard)
}

/// The same on those that are the shard's alone: whoever comes there stays.
fn start_own<E: Env>(shard: &Rc<Shard<E>>) -> Result<(), ServeError> {
    for (listener, address) in shard.own_addresses.take() {
        let socket = shard.env.listen(address).map_err(|error| failed(address, error))?;
        accept_from(shard, socket, listener, true);
    }
    Ok(())
}

/// The same with the sockets that held the ports: whoever connected since waits in their queues.
pub fn start_with<E: Env>(shard: &Rc<Shard<E>>, sockets: Vec<E::Listener>) -> Result<(), ServeError> {
    let addresses = shard.addresses.take().unwrap_or_default();
    assert_eq!(addresses.len(), sockets.len());
    for ((listener, _), socket) in addresses.into_iter().zip(sockets) {
        accept_from(shard, socket, listener, false);
    }
    start_own(shard)
}

fn accept_from<E: Env>(shard: &Rc<Shard<E>>, socket: E::Listener, listener: usize, stays: bool) {
    shard
        .env
        .spawn(Queue::Foreground, accept(shard.clone(), socket, listener, stays));
}

async fn accept<E: Env>(shard: Rc<Shard<E>>, socket: E::Listener, listener: usize, stays: bool) {
    let (env, stopping) = (shard.env.clone(), shard.broker.stopping.clone());
    let mut fails = false;
    loop {
        let accepted = race(async { Some(env.accept(&socket).await) }, async {
            stopping.raised().await;
            None
        });
        match accepted.await {
            None => return,
            Some(Ok((stream, address))) => {
                if std::mem::take(&mut fails) {
                    tracing::info!("connections are accepted again");
                }
                let protocol = shard.process.config.network.listeners[listener].protocol;
                let peer = Peer {
                    address,
                    listener,
                    protocol,
                };
                admit(&shard, stream, peer, stays);
            }
            Some(Err(error)) => {
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(%error, "accept failed: no connection is accepted until that is over");
                }
                env.sleep_until(env.now().plus_ms(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

fn admit<E: Env>(shard: &Rc<Shard<E>>, stream: E::Stream, peer: Peer, stays: bool) {
    let (process, router) = (&shard.process, &shard.broker.router);
    let counted = match process
        .connections
        .admit(peer.address.ip(), router.shard(), stays, &process.limits)
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

/// How clients reach the bound addresses, for the start line.
pub fn describe(listeners: &[Listener], identity: &Identity) -> String {
    let one = |(index, listener): (usize, &Listener)| {
        let Endpoint { host, port } = identity.endpoints.get(index)?;
        let native = match listener.protocol {
            Protocol::Kafka => "",
            Protocol::Native => " (native)",
        };
        let of_shards = identity.shard_endpoints.as_ref().and_then(|shards| shards.get(index));
        let ports: Vec<_> = of_shards
            .into_iter()
            .flatten()
            .map(|own| own.port.to_string())
            .collect();
        let shards = match ports.is_empty() {
            true => String::new(),
            false => format!(" (shards: {})", ports.join(" ")),
        };
        Some(format!("{host}:{port}{native}{shards}"))
    };
    let told: Vec<_> = listeners.iter().enumerate().filter_map(one).collect();
    told.join(", ")
}
