//! CreateTopics (KIP-4, KIP-464, KIP-525).

use crate::base::sync::join_few;
use crate::broker::dispatch::Call;
use crate::broker::handlers::items::{COMMANDS_MAX, to_be_done};
use crate::cluster::{Command, CreateTopic, Response, random_topic_id};
use crate::config::describe_topic;
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Str};

pub async fn handle<'a, E: Env>(call: &Call<E>, request: CreateTopicsRequest<'a>) -> CreateTopicsResponse<'a> {
    let (wanted, rest) = to_be_done(request.topics.iter(), |topic| topic.name.clone());
    let create = |topic| create(call, topic, request.validate_only);
    let mut topics = join_few(COMMANDS_MAX, wanted.into_iter().map(create)).await;
    topics.extend(
        rest.into_iter()
            .map(|(topic, why)| failed(topic.name, why.code(), why.text().into())),
    );
    CreateTopicsResponse {
        topics: topics.into(),
        ..Default::default()
    }
}

async fn create<'a, E: Env>(
    call: &Call<E>,
    topic: CreatableTopic<'a>,
    validate_only: bool,
) -> CreatableTopicResult<'a> {
    if call.version < 4
        && topic.assignments.is_empty()
        && (topic.num_partitions == -1 || topic.replication_factor == -1)
    {
        let message = "The broker's defaults for partitions and replicas can be asked for since version 4.";
        return failed(topic.name, ErrorCode::InvalidRequest, message.into());
    }
    let configs: Vec<(String, Option<String>)> = topic
        .configs
        .iter()
        .map(|config| (config.name.into_owned(), config.value.map(Str::into_owned)))
        .collect();
    let command = CreateTopic {
        id: random_topic_id(&call.broker.env),
        name: topic.name.to_string(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| {
                (
                    assignment.partition_index,
                    call.broker.brokers_of(assignment.broker_ids.iter()),
                )
            })
            .collect(),
        configs: configs.clone(),
        validate_only,
    };
    match call.broker.router.command(Command::CreateTopic(command)).await {
        Ok(Response::TopicCreated {
            id,
            partition_count,
            replication_factor,
        }) => CreatableTopicResult {
            name: topic.name,
            topic_id: id,
            error_message: None,
            num_partitions: partition_count,
            replication_factor,
            configs: Some(described(call, &configs).into()),
            ..Default::default()
        },
        Ok(_) => failed(topic.name, ErrorCode::UnknownServerError, String::new()),
        Err(error) => failed(topic.name, (&error).into(), error.to_string()),
    }
}

/// Every option of the new topic, with where its value comes from.
fn described<E: Env>(call: &Call<E>, own: &[(String, Option<String>)]) -> Vec<CreatableTopicConfigs<'static>> {
    let own = |name: &str| {
        own.iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_deref())
    };
    let entries = describe_topic(own, call.broker.catalog.borrow().config(), false);
    let config = |entry: crate::config::Entry| CreatableTopicConfigs {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.is_sensitive,
    };
    entries.into_iter().map(config).collect()
}

fn failed(name: Str<'_>, code: ErrorCode, message: String) -> CreatableTopicResult<'_> {
    CreatableTopicResult {
        name,
        error_code: code.into(),
        error_message: Some(message.into()),
        ..Default::default()
    }
}
