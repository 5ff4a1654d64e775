//! InitProducerId (KIP-98, KIP-360): producer ids for idempotent producers.
//!
//! Transactions are not served yet. Java's and librdkafka's transactional producers fail at once in `initTransactions`, as
//! FindCoordinator is not advertised (UnsupportedVersionException, _UNSUPPORTED_FEATURE). Who asks here all the same is
//! answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which every client raises; coordinator errors it would retry.

use crate::broker::Broker;
use crate::broker::dispatch::Call;
use crate::cluster::ClusterError;
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::{InitProducerIdRequest, InitProducerIdResponse};

pub async fn handle<E: Env>(call: &Call<E>, request: InitProducerIdRequest<'_>) -> InitProducerIdResponse {
    match producer(call, &request).await {
        Ok((producer_id, producer_epoch)) => InitProducerIdResponse {
            producer_id,
            producer_epoch,
            ..Default::default()
        },
        Err(code) => InitProducerIdResponse {
            error_code: code.into(),
            producer_epoch: -1,
            ..Default::default()
        },
    }
}

async fn producer<E: Env>(call: &Call<E>, request: &InitProducerIdRequest<'_>) -> Result<(i64, i16), ErrorCode> {
    match request.transactional_id.as_deref() {
        Some("") => return Err(ErrorCode::InvalidRequest),
        Some(_) => return Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    next_epoch(&call.broker, request.producer_id, request.producer_epoch).await
}

/// The id and epoch to go on with: the next epoch of a producer, or for (-1, -1) a new one.
pub async fn next_epoch<E: Env>(broker: &Broker<E>, id: i64, epoch: i16) -> Result<(i64, i16), ErrorCode> {
    let allocate = async || {
        let allocated = broker.producer_ids.allocate(&broker.router).await;
        allocated.map(|id| (id, 0)).map_err(|error| match error {
            // What every client takes for "later".
            ClusterError::NoSpace => ErrorCode::CoordinatorLoadInProgress,
            error => ErrorCode::from(&error),
        })
    };
    match (id, epoch) {
        (-1, -1) => allocate().await,
        (id, epoch) if id < 0 || epoch < 0 => Err(ErrorCode::InvalidRequest),
        // The last epoch is never given out: its producer gets a new id.
        (_, epoch) if epoch >= i16::MAX - 1 => allocate().await,
        (id, epoch) => Ok((id, epoch + 1)),
    }
}
