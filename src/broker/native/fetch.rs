//! Fetch: whole batches of several partitions, behind a header that says whose they are.

use super::{Call, Told};
use crate::base::buffer::Piece;
use crate::broker::connection::Reply;
use crate::broker::fetch::{self, Wanted};
use crate::broker::handlers::items::Named;
use crate::broker::route::{Epochs, ReadItem, ReadOutcome};
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::native::{Builder, fb};

/// What a partition takes in the answer and while that is made.
const ITEM_BYTES: u64 = 320;

pub async fn answer<E: Env>(call: &Call<E>) -> Result<Reply, Reply> {
    let request = call.request()?;
    let Some(asked) = request.ask_as_fetch() else {
        return Err(Reply::Close);
    };
    let positions = asked.positions();
    let items = call.count(positions.len())?;
    let room = call.room(items * ITEM_BYTES).await;
    let mut named = Named::default();
    let resolved = |position| {
        let item = resolve(call, position)?;
        // Each mention would wait for all that comes, and be read by itself.
        named.insert(item.id).then_some(item).ok_or(ErrorCode::InvalidRequest)
    };
    let items = positions.iter().map(resolved).collect();
    let wanted = Wanted {
        bytes_min: asked.bytes_min() as usize,
        bytes_max: asked.bytes_max() as usize,
        wait_ms: u64::from(asked.wait_ms()),
    };
    let (found, held) = fetch::read(&call.broker, &call.client, items, wanted, call.began).await;
    Ok(call.answer(request.id(), told(found), room, held))
}

fn resolve<E: Env>(call: &Call<E>, position: &fb::Position) -> Result<ReadItem, ErrorCode> {
    let topic = call.topic(position.topic())?;
    Ok(ReadItem {
        id: topic
            .partition(position.partition())
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
        offset: position.offset(),
        bytes_max: position.bytes_max() as usize,
        epochs: Epochs {
            leader: position.leader_epoch(),
            last_fetched: position.last_fetched_epoch(),
        },
    })
}

fn told(found: Vec<Result<ReadOutcome, ErrorCode>>) -> Told {
    let mut builder = Builder::with_capacity(128 + 40 * found.len());
    let mut payload = Vec::new();
    let mut parts = Vec::with_capacity(found.len());
    for found in found {
        parts.push(match found {
            Ok(outcome) => part(outcome, &mut payload),
            Err(code) => fb::Part::new(-1, -1, -1, -1, 0, code.code()),
        });
    }
    let args = fb::FetchedArgs {
        parts: Some(builder.create_vector(&parts)),
    };
    let body = fb::Fetched::create(&mut builder, &args).as_union_value();
    Told {
        payload,
        ..Told::new(builder, fb::Told::Fetched, body)
    }
}

fn part(outcome: ReadOutcome, payload: &mut Vec<Piece>) -> fb::Part {
    let (diverging_offset, diverging_epoch) = outcome.diverging.map_or((-1, -1), |end| (end.end_offset, end.epoch));
    let (bytes, code) = match outcome.result {
        Ok(slice) => {
            payload.extend(slice.pieces.into_iter().map(Piece::Bytes));
            payload.extend(slice.pinned.into_iter().map(Piece::Pinned));
            (slice.bytes, ErrorCode::None)
        }
        Err(error) => (0, ErrorCode::from(&error)),
    };
    fb::Part::new(
        outcome.high_watermark,
        outcome.log_start,
        diverging_offset,
        diverging_epoch,
        // A fetch is no longer than an answer's length can tell (`fetch.max.bytes`, and one batch).
        u32::try_from(bytes).unwrap_or(u32::MAX),
        code.code(),
    )
}
