//! FindOffsets: the ends of logs, and offsets by timestamp.

use super::{Call, Told};
use crate::base::sync::Permits;
use crate::broker::connection::Reply;
use crate::broker::handlers::list_offsets;
use crate::broker::route::{OffsetQuery, PartitionError};
use crate::io::Env;
use crate::storage::TimedOffset;
use crate::wire::kafka::ErrorCode;
use crate::wire::native::{Builder, fb};

/// What a query takes in the answer and while that is made.
const ITEM_BYTES: u64 = 448;
/// The version of ListOffsets whose special timestamps these are.
const LIST_OFFSETS_VERSION: i16 = 7;

pub async fn answer<E: Env>(call: &Call<E>) -> Result<Reply, Reply> {
    let request = call.request()?;
    let Some(asked) = request.ask_as_find_offsets() else {
        return Err(Reply::Close);
    };
    let items = call.count(asked.queries().len())?;
    let room = call.room(items * ITEM_BYTES).await;
    let mut queries = Vec::new();
    let mut admitted = Vec::with_capacity(asked.queries().len());
    for query in asked.queries() {
        let resolved = resolve(call, query);
        admitted.push(resolved.map(|query| queries.push(query)));
    }
    let found = call.broker.router.offsets(queries, call.client.holder).await;
    let mut found = found.into_iter();
    let results: Vec<_> = admitted
        .into_iter()
        .map(|admitted| match admitted {
            Ok(()) => result(found.next().unwrap_or(Err(PartitionError::NotHere))),
            Err(code) => failed(code),
        })
        .collect();
    let mut builder = Builder::with_capacity(128 + 24 * results.len());
    let args = fb::FoundOffsetsArgs {
        found: Some(builder.create_vector(&results)),
    };
    let body = fb::FoundOffsets::create(&mut builder, &args).as_union_value();
    let told = Told::new(builder, fb::Told::FoundOffsets, body);
    Ok(call.answer(request.id(), told, room, Permits::new()))
}

fn resolve<E: Env>(call: &Call<E>, query: &fb::TimeQuery) -> Result<OffsetQuery, ErrorCode> {
    let topic = call.topic(query.topic())?;
    Ok(OffsetQuery {
        id: topic
            .partition(query.partition())
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
        leader_epoch: query.leader_epoch(),
        at: list_offsets::at(query.timestamp_ms(), LIST_OFFSETS_VERSION)?,
    })
}

fn result(found: Result<TimedOffset, PartitionError>) -> fb::FoundOffset {
    match found {
        Ok(found) => fb::FoundOffset::new(found.offset, found.timestamp_ms, found.leader_epoch, 0),
        Err(error) => failed(ErrorCode::from(&error)),
    }
}

fn failed(code: ErrorCode) -> fb::FoundOffset {
    fb::FoundOffset::new(-1, -1, -1, code.code())
}
