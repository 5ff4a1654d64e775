//! CreateTopics.

use crate::broker::control::{Command, CommandError, NewTopic};
use crate::broker::dispatch::Call;
use crate::io::Env;
use crate::wire::kafka::ErrorCode;
use crate::wire::kafka::messages::*;

pub async fn handle<'a, E: Env>(call: &Call<E>, request: CreateTopicsRequest<'a>) -> CreateTopicsResponse<'a> {
    let mut topics = Vec::new();
    for topic in &request.topics {
        topics.push(create(call, topic, request.validate_only).await);
    }
    CreateTopicsResponse {
        topics: topics.into(),
        ..Default::default()
    }
}

async fn create<'a, E: Env>(
    call: &Call<E>,
    topic: CreatableTopic<'a>,
    _validate_only: bool,
) -> CreatableTopicResult<'a> {
    let command = Command::CreateTopic(NewTopic {
        name: topic.name.to_string(),
        partition_count: (topic.num_partitions > 0).then_some(topic.num_partitions),
    });
    let created = call.broker.router.command(command).await;
    let error: ErrorCode = created
        .as_ref()
        .err()
        .map_or(ErrorCode::None, |error: &CommandError| error.into());
    let known = call.broker.catalog.borrow().by_name(&topic.name);
    CreatableTopicResult {
        error_code: error.into(),
        topic_id: known.map_or_else(Default::default, |topic| topic.id),
        name: topic.name,
        ..Default::default()
    }
}
