//! DeleteTopics: by name, since version 6 also by id (KIP-516).

use crate::base::ids::TopicId;
use crate::base::sync::join_few;
use crate::broker::dispatch::Call;
use crate::broker::handlers::items::{COMMANDS_MAX, to_be_done};
use crate::cluster::{Command, Response, TopicRef};
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Str};

pub async fn handle<'a, E: Env>(call: &Call<E>, request: DeleteTopicsRequest<'a>) -> DeleteTopicsResponse<'a> {
    let named: Vec<_> = match call.version {
        ..6 => request
            .topic_names
            .iter()
            .map(|name| (Some(name), TopicId::ZERO))
            .collect(),
        _ => request
            .topics
            .iter()
            .map(|topic| (topic.name, topic.topic_id))
            .collect(),
    };
    let (wanted, rest) = to_be_done(named.into_iter(), Clone::clone);
    let delete = |(name, id)| delete(call, name, id);
    let mut responses = join_few(COMMANDS_MAX, wanted.into_iter().map(delete)).await;
    responses.extend(rest.into_iter().map(|((name, topic_id), why)| DeletableTopicResult {
        name,
        topic_id,
        error_code: why.code().into(),
        error_message: Some(why.text().into()),
    }));
    DeleteTopicsResponse {
        responses: responses.into(),
        ..Default::default()
    }
}

async fn delete<'a, E: Env>(call: &Call<E>, name: Option<Str<'a>>, topic_id: TopicId) -> DeletableTopicResult<'a> {
    let topic = match (&name, topic_id.is_zero()) {
        (Some(name), true) => TopicRef::Name(name.to_string()),
        (None, false) => TopicRef::Id(topic_id),
        _ => {
            return DeletableTopicResult {
                name,
                topic_id,
                error_code: ErrorCode::InvalidRequest.into(),
                error_message: Some("A topic is named by its name or by its id, one of them.".into()),
            };
        }
    };
    match call.broker.router.command(Command::DeleteTopic(topic)).await {
        Ok(Response::TopicDeleted { id, name }) => DeletableTopicResult {
            name: Some(name.into()),
            topic_id: id,
            error_code: 0,
            error_message: None,
        },
        Ok(_) => DeletableTopicResult {
            name,
            topic_id,
            error_code: ErrorCode::UnknownServerError.into(),
            error_message: None,
        },
        Err(error) => DeletableTopicResult {
            name,
            topic_id,
            error_code: ErrorCode::from(&error).into(),
            error_message: Some(error.to_string().into()),
        },
    }
}
