//! The producer's sender: one task that decides what goes out when, and one short task per request.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::base::sync::race;
use crate::io::{Env, Monotonic, Queue};
use crate::wire::kafka::ErrorCode;

use super::cluster::{Leader, Purpose};
use super::error::ClientError;
use super::exchange::{self, Place};
use super::lane::{Identity, Lane};
use super::producer::{SharedLane, State};

type Parcel = (SharedLane, Leader);

/// What one look at the lanes found.
#[derive(Default)]
struct Round {
    /// By node: what can go now.
    parcels: BTreeMap<i32, Vec<Parcel>>,
    /// Topics whose leaders are not known.
    leaderless: BTreeSet<Rc<str>>,
    /// Whether a batch waits for a producer id.
    needs_identity: bool,
    /// When to look again if nothing happens.
    next: Option<Monotonic>,
    all_idle: bool,
}

impl Round {
    fn look_again(&mut self, at: Monotonic) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

/// Runs until the producer is dropped and everything appended is settled.
pub(super) async fn run<E: Env>(state: Rc<State<E>>) {
    let env = state.client.env().clone();
    loop {
        let work = state.work.notified();
        let round = look(&state, env.now());
        if round.all_idle && state.closing.get() {
            return;
        }
        for (node_id, parcels) in round.parcels {
            for request in split(parcels, request_bytes_max(&state)) {
                env.spawn(Queue::Foreground, produce(state.clone(), node_id, request));
            }
        }
        if !round.leaderless.is_empty() && !state.refreshing.replace(true) {
            env.spawn(Queue::Foreground, find_leaders(state.clone(), round.leaderless));
        }
        if round.needs_identity {
            take_identity(&state).await;
            continue;
        }
        match round.next {
            Some(next) => race(work, env.sleep_until(next)).await,
            None => work.await,
        }
    }
}

fn look<E: Env>(state: &State<E>, now: Monotonic) -> Round {
    let mut round = Round {
        all_idle: true,
        ..Round::default()
    };
    for shared in state.all_lanes() {
        let mut lane = shared.borrow_mut();
        round.all_idle &= lane.is_idle();
        if !close_when_due(state, &mut lane, now, &mut round) {
            continue;
        }
        let (topic, partition) = (lane.topic.clone(), lane.partition);
        let Some(batch) = lane.sending.as_mut().filter(|batch| !batch.in_flight) else {
            continue;
        };
        if batch.deadline <= now {
            let error = ClientError::Timeout {
                what: "produce",
                after_ms: state.options.delivery_ms_max,
            };
            give_up(state, &mut lane, error);
        } else if batch.not_before > now {
            let at = batch.not_before.min(batch.deadline);
            round.look_again(at);
        } else if let Some(leader) = state.client.leader_known(&topic, partition) {
            batch.in_flight = true;
            batch.attempts += 1;
            round
                .parcels
                .entry(leader.node_id)
                .or_default()
                .push((shared.clone(), leader));
        } else {
            let at = batch.deadline;
            round.look_again(at);
            round.leaderless.insert(topic);
        }
    }
    round
}

/// Closes the open batch of `lane` if it is its time; whether there is a batch to be sent.
fn close_when_due<E: Env>(state: &State<E>, lane: &mut Lane, now: Monotonic, round: &mut Round) -> bool {
    if lane.sending.is_some() {
        return true;
    }
    let urgent = state.urgent.get() > 0 || state.closing.get();
    let Some(due) = lane.due(if urgent { 0 } else { state.options.linger_ms }) else {
        return false;
    };
    if due > now {
        round.look_again(due);
        return false;
    }
    let identity = state.identity.get();
    if state.options.idempotent && identity.is_none() {
        round.needs_identity = true;
        return false;
    }
    state.move_sticky();
    let closed = lane.close_batch(identity, state.options.delivery_ms_max);
    state.progress.notify();
    if closed.is_err() {
        state.identity.set(None);
    }
    closed.is_ok()
}

/// Ends a batch without success. Its numbers are used up, or it is unknown whether they are: numbering begins anew.
fn give_up<E: Env>(state: &State<E>, lane: &mut Lane, error: ClientError) {
    let generation = lane.sending.as_ref().and_then(|batch| batch.generation);
    if let Some(identity) = state.identity.get()
        && generation == Some(identity.generation)
    {
        state.identity.set(None);
    }
    lane.settle(Err(error));
    state.progress.notify();
    state.work.notify();
}

/// Batch bytes of one request: what it says besides has room below what the broker takes.
fn request_bytes_max<E: Env>(state: &State<E>) -> usize {
    let taken = state.client.metadata().request_bytes_max;
    let own = state.options.request_bytes_max;
    taken.map_or(own, |bytes| own.min(bytes - bytes / 16))
}

/// Cuts the parcels of one node into requests of bounded size.
fn split(parcels: Vec<Parcel>, bytes_max: usize) -> Vec<Vec<Parcel>> {
    let mut requests: Vec<Vec<Parcel>> = Vec::new();
    let mut bytes = usize::MAX;
    for parcel in parcels {
        let own = parcel.0.borrow().sending.as_ref().map_or(0, |batch| batch.bytes.len());
        match requests.last_mut() {
            Some(request) if bytes.saturating_add(own) <= bytes_max => {
                request.push(parcel);
                bytes += own;
            }
            _ => {
                requests.push(vec![parcel]);
                bytes = own;
            }
        }
    }
    requests
}

/// One produce request, from sending it to settling or rescheduling its batches.
async fn produce<E: Env>(state: Rc<State<E>>, node_id: i32, parcels: Vec<Parcel>) {
    let outcome = exchange(&state, node_id, &parcels).await;
    let now = state.client.env().now();
    for (index, (shared, _)) in parcels.iter().enumerate() {
        let mut lane = shared.borrow_mut();
        let result = match &outcome {
            Ok(results) => results[index].clone(),
            Err(error) => Err(error.clone()),
        };
        match result {
            Ok(place) => lane.settle(Ok(place)),
            Err(error) => {
                if error.is_stale_metadata() {
                    state.client.forget(&lane.topic);
                }
                let deadline = lane.sending.as_ref().map_or(now, |batch| batch.deadline);
                if !error.is_retriable() || deadline <= now {
                    give_up(&state, &mut lane, error);
                } else if let Some(batch) = &mut lane.sending {
                    batch.in_flight = false;
                    batch.not_before = state.client.backoff_end(batch.attempts - 1);
                }
            }
        }
    }
    state.progress.notify();
    state.work.notify();
}

/// Sends the batches and gives for each where it went, in their order.
async fn exchange<E: Env>(state: &State<E>, node_id: i32, parcels: &[Parcel]) -> Result<Vec<Place>, ClientError> {
    let connection = state.client.connection(node_id, Purpose::Produce).await?;
    let topics: Vec<Rc<str>> = parcels.iter().map(|(lane, _)| lane.borrow().topic.clone()).collect();
    let parcels = parcels.iter().zip(&topics).map(|((lane, leader), topic)| {
        let lane = lane.borrow();
        let batch = lane.sending.as_ref().map(|batch| batch.bytes.clone());
        exchange::Parcel {
            topic,
            leader: *leader,
            partition: lane.partition,
            batch: batch.unwrap_or_default(),
        }
    });
    let parcels: Vec<_> = parcels.collect();
    exchange::produce(&connection, state.options.acks, &parcels).await
}

/// Asks once for the leaders of `topics`; batches of topics that stay without one wait for the next look.
async fn find_leaders<E: Env>(state: Rc<State<E>>, topics: BTreeSet<Rc<str>>) {
    let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let asked = state.client.refresh(Some(&names)).await;
    let now = state.client.env().now();
    let again = state.client.backoff_end(3);
    for shared in state.all_lanes() {
        let mut lane = shared.borrow_mut();
        let (topic, partition) = (lane.topic.clone(), lane.partition);
        if !topics.contains(&topic) || state.client.leader_known(&topic, partition).is_some() {
            continue;
        }
        let code = asked
            .as_ref()
            .ok()
            .and_then(|metadata| metadata.topics.get(&*topic)?.error);
        let error = match (&asked, code) {
            (Err(error), _) => error.clone(),
            (_, Some(code)) => ClientError::refused(format!("find topic {topic}"), code.code(), None),
            _ => ClientError::refused(
                format!("find the leader of {topic}-{partition}"),
                ErrorCode::LeaderNotAvailable.code(),
                None,
            ),
        };
        if !error.is_retriable() {
            give_up(&state, &mut lane, error);
        } else if let Some(batch) = lane.sending.as_mut().filter(|batch| !batch.in_flight) {
            if batch.deadline <= now {
                give_up(&state, &mut lane, error);
            } else {
                batch.not_before = again;
            }
        }
    }
    state.refreshing.set(false);
    state.work.notify();
}

/// Gets a producer id. When that fails for good, everything appended fails with it.
async fn take_identity<E: Env>(state: &State<E>) {
    let client = &state.client;
    let taken = client.retrying(async || exchange::new_producer(&client.any_connection().await?).await);
    match taken.await {
        Ok((producer_id, epoch)) => {
            // Distinct from every earlier one, because ids are.
            let generation = producer_id as u64;
            state.identity.set(Some(Identity {
                generation,
                producer_id,
                epoch,
            }));
        }
        Err(error) => {
            state
                .all_lanes()
                .iter()
                .for_each(|lane| lane.borrow_mut().fail_all(&error));
            state.progress.notify();
        }
    }
}
