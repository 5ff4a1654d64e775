//! ListOffsets: the ends of logs, and offsets by timestamp (KIP-79, KIP-734).

use crate::broker::dispatch::Call;
use crate::broker::route::{OffsetAt, OffsetQuery, PartitionError};
use crate::io::Env;
use crate::storage::TimedOffset;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::list_offsets_timestamp::*;
use crate::wire::kafka::messages::*;

pub async fn handle<'a, E: Env>(call: &Call<E>, request: ListOffsetsRequest<'a>) -> ListOffsetsResponse<'a> {
    let mut queries = Vec::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let known = call.broker.catalog.borrow().by_name(&topic.name);
        let mut asked = Vec::new();
        for partition in &topic.partitions {
            let id = known
                .as_ref()
                .and_then(|topic| topic.partition(partition.partition_index));
            let query = id.ok_or(ErrorCode::UnknownTopicOrPartition).and_then(|id| {
                Ok(OffsetQuery {
                    id,
                    leader_epoch: partition.current_leader_epoch,
                    at: at(partition.timestamp, call.version)?,
                })
            });
            asked.push((partition.partition_index, query.map(|query| queries.push(query))));
        }
        topics.push((topic.name, asked));
    }
    let mut found = call
        .broker
        .router
        .offsets(queries, call.client.holder)
        .await
        .into_iter();
    let mut answer = |(index, asked): (i32, Result<(), ErrorCode>)| match asked {
        Ok(()) => partition_response(index, found.next().unwrap_or(Err(PartitionError::NotHere))),
        Err(code) => failed(index, code),
    };
    let topics = topics.into_iter().map(|(name, asked)| ListOffsetsTopicResponse {
        name,
        partitions: asked.into_iter().map(&mut answer).collect(),
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

/// What a timestamp of the request asks for. A special value that came with a later version is not known in an earlier one.
pub fn at(timestamp: i64, version: i16) -> Result<OffsetAt, ErrorCode> {
    let since = match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 1,
    };
    match timestamp {
        _ if version < since => Err(ErrorCode::UnsupportedVersion),
        LATEST => Ok(OffsetAt::Latest),
        // Nothing is tiered: all that there is is local.
        EARLIEST | EARLIEST_LOCAL => Ok(OffsetAt::Earliest),
        MAX_TIMESTAMP => Ok(OffsetAt::MaxTimestamp),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(OffsetAt::Tiered),
        time if time >= 0 => Ok(OffsetAt::Time(time)),
        _ => Err(ErrorCode::InvalidRequest),
    }
}

fn partition_response(index: i32, found: Result<TimedOffset, PartitionError>) -> ListOffsetsPartitionResponse {
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            partition_index: index,
            error_code: 0,
            timestamp: found.timestamp_ms,
            offset: found.offset,
            leader_epoch: found.leader_epoch,
        },
        Err(error) => failed(index, (&error).into()),
    }
}

fn failed(index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: code.into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_values_are_known_from_their_version_on() {
        assert_eq!(at(-1, 1), Ok(OffsetAt::Latest));
        assert_eq!(at(-3, 6), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(at(-3, 7), Ok(OffsetAt::MaxTimestamp));
        assert_eq!(at(-4, 8), Ok(OffsetAt::Earliest));
        assert_eq!(at(-5, 9), Ok(OffsetAt::Tiered));
        assert_eq!(at(-6, 10), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(at(-7, 11), Err(ErrorCode::InvalidRequest));
        assert_eq!(at(0, 1), Ok(OffsetAt::Time(0)));
    }
}
