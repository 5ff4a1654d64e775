//! CreatePartitions (KIP-195).

use crate::base::sync::join_all;
use crate::broker::dispatch::Call;
use crate::cluster::{Command, CreatePartitions};
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::*;

pub async fn handle<'a, E: Env>(call: &Call<E>, request: CreatePartitionsRequest<'a>) -> CreatePartitionsResponse<'a> {
    let topics = request
        .topics
        .iter()
        .map(|topic| grow(call, topic, request.validate_only));
    CreatePartitionsResponse {
        results: join_all(topics.collect()).await.into(),
        ..Default::default()
    }
}

async fn grow<'a, E: Env>(
    call: &Call<E>,
    topic: CreatePartitionsTopic<'a>,
    validate_only: bool,
) -> CreatePartitionsTopicResult<'a> {
    let assignments = topic.assignments.as_ref().map(|assignments| {
        let brokers = assignments
            .iter()
            .map(|assignment| assignment.broker_ids.iter().collect());
        brokers.collect::<Vec<Vec<i32>>>()
    });
    let command = Command::CreatePartitions(CreatePartitions {
        topic: topic.name.to_string(),
        count: topic.count,
        assignments,
        validate_only,
    });
    let outcome = call.broker.router.command(command).await;
    let error = outcome.err();
    CreatePartitionsTopicResult {
        name: topic.name,
        error_code: error.as_ref().map_or(ErrorCode::None, Into::into).into(),
        error_message: error.map(|error| error.to_string().into()),
    }
}
