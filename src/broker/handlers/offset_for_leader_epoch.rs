//! OffsetForLeaderEpoch (KIP-101, KIP-320): where an epoch's offsets end, for clients that check whether their log parted.

use crate::broker::dispatch::Call;
use crate::broker::route::{EpochEnd, EpochQuery, PartitionError};
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::*;

pub async fn handle<'a, E: Env>(
    call: &Call<E>,
    request: OffsetForLeaderEpochRequest<'a>,
) -> OffsetForLeaderEpochResponse<'a> {
    let mut queries = Vec::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let known = call.broker.catalog.borrow().by_name(&topic.topic);
        let mut asked = Vec::new();
        for partition in &topic.partitions {
            let id = known.as_ref().and_then(|topic| topic.partition(partition.partition));
            let query = id.map(|id| EpochQuery {
                id,
                leader_epoch: partition.current_leader_epoch,
                epoch: partition.leader_epoch,
            });
            asked.push((partition.partition, query.map(|query| queries.push(query))));
        }
        topics.push((topic.topic, asked));
    }
    let mut found = call.broker.router.epochs(queries).await.into_iter();
    let mut answer = |(partition, asked): (i32, Option<()>)| match asked {
        Some(()) => epoch_end(partition, found.next().unwrap_or(Err(PartitionError::NotHere))),
        None => LeaderEpochEnd {
            error_code: ErrorCode::UnknownTopicOrPartition.into(),
            partition,
            ..Default::default()
        },
    };
    let topics = topics.into_iter().map(|(topic, asked)| OffsetForLeaderTopicResult {
        topic,
        partitions: asked.into_iter().map(&mut answer).collect(),
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn epoch_end(partition: i32, found: Result<EpochEnd, PartitionError>) -> LeaderEpochEnd {
    match found {
        Ok(EpochEnd { epoch, end_offset }) => LeaderEpochEnd {
            error_code: 0,
            partition,
            leader_epoch: epoch,
            end_offset,
        },
        Err(error) => LeaderEpochEnd {
            error_code: ErrorCode::from(&error).into(),
            partition,
            ..Default::default()
        },
    }
}
