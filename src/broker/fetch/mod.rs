//! What a fetch is, whatever protocol it came in: the read of several partitions, and Fetch's memory between requests.

use std::rc::Rc;

use super::Broker;
use super::connection::Client;
use super::route::{ReadItem, ReadOutcome, ReadRequest};
use crate::base::sync::Permits;
use crate::io::{Env, Monotonic};
use crate::wire::kafka::ErrorCode;

pub mod session;

/// How much a client wants, and how long it waits for that; the broker's own limits apply.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub bytes_min: usize,
    /// In total; the first batch found comes whole (KIP-74).
    pub bytes_max: usize,
    pub wait_ms: u64,
}

/// What was found of each partition, and what it holds of the shard's memory.
pub type Found = (Vec<Result<ReadOutcome, ErrorCode>>, Permits);

/// Asks the owning shards. An error of any partition answers at once, so that the client can act on it.
pub async fn read<E: Env>(
    broker: &Rc<Broker<E>>,
    client: &Client,
    items: Vec<Result<ReadItem, ErrorCode>>,
    wanted: Wanted,
    began: Monotonic,
) -> Found {
    let bytes_max = wanted.bytes_max.min(broker.limits.fetch_bytes_max);
    let wait_ms = match items.iter().any(Result::is_err) {
        true => 0,
        false => wanted.wait_ms.min(broker.limits.fetch_wait_ms_max),
    };
    let read = ReadRequest {
        items: items.iter().filter_map(|item| item.as_ref().ok().copied()).collect(),
        bytes_max,
        bytes_min: wanted.bytes_min.min(bytes_max.max(1)),
        wait_ms,
        reader: client.reader(),
        parts: None,
    };
    let (outcomes, held) = broker.router.read(read).await;
    let mut outcomes = outcomes.into_iter();
    let mut next = |_| outcomes.next().ok_or(ErrorCode::NotLeaderOrFollower);
    let mut found: Vec<_> = items.into_iter().map(|item| item.and_then(&mut next)).collect();
    let bytes = trim(&mut found, bytes_max);
    broker.metrics.fetched_bytes.add(bytes as u64);
    broker.metrics.fetch.record_us(broker.env.now().us_since(began));
    (found, held)
}

/// Several shards may together have read more than `bytes_max`: what is over goes with a later request. What is left.
fn trim(found: &mut [Result<ReadOutcome, ErrorCode>], bytes_max: usize) -> usize {
    let mut bytes = 0;
    for outcome in found.iter_mut().flatten() {
        let Ok(slice) = &mut outcome.result else { continue };
        if bytes > 0 && bytes + slice.bytes > bytes_max {
            *slice = Default::default();
        }
        bytes += slice.bytes;
    }
    bytes
}
