//! CreatePartitions (KIP-195).

use crate::base::sync::join_few;
use crate::broker::dispatch::Call;
use crate::broker::handlers::items::{COMMANDS_MAX, to_be_done};
use crate::cluster::{Command, CreatePartitions};
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::*;

pub async fn handle<'a, E: Env>(call: &Call<E>, request: CreatePartitionsRequest<'a>) -> CreatePartitionsResponse<'a> {
    let (wanted, rest) = to_be_done(request.topics.iter(), |topic| topic.name.clone());
    let grow = |topic| grow(call, topic, request.validate_only);
    let mut results = join_few(COMMANDS_MAX, wanted.into_iter().map(grow)).await;
    results.extend(rest.into_iter().map(|(topic, why)| CreatePartitionsTopicResult {
        name: topic.name,
        error_code: why.code().into(),
        error_message: Some(why.text().into()),
    }));
    CreatePartitionsResponse {
        results: results.into(),
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
            .map(|assignment| call.broker.brokers_of(assignment.broker_ids.iter()));
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
