//! DescribeConfigs (KIP-133, KIP-226, KIP-569): every option with its value, source, type and documentation.

use std::collections::BTreeSet;

use crate::broker::dispatch::Call;
use crate::cluster::check_topic_name;
use crate::config::{Entry, Source, describe_broker, describe_topic};
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Str};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// Why a resource has no configs to show.
struct Refusal(ErrorCode, String);

pub async fn handle<'a, E: Env>(call: &Call<E>, request: DescribeConfigsRequest<'a>) -> DescribeConfigsResponse<'a> {
    // One answer for all mentions of a resource: the answer is as large as all configs at most.
    let mut named = BTreeSet::new();
    let mut resources: Vec<_> = request.resources.iter().collect();
    resources.retain(|resource| named.insert((resource.resource_type, resource.resource_name.clone())));
    let results = resources.into_iter().map(|resource| {
        let entries = entries(call, &resource, request.include_synonyms);
        result(resource, entries, request.include_documentation)
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

fn entries<E: Env>(
    call: &Call<E>,
    resource: &DescribeConfigsResource<'_>,
    synonyms: bool,
) -> Result<Vec<Entry>, Refusal> {
    let name = &*resource.resource_name;
    let catalog = call.broker.catalog.borrow();
    match resource.resource_type {
        TOPIC => {
            check_topic_name(name).map_err(|error| Refusal(error.code(), error.to_string()))?;
            let topic = catalog.by_name(name).ok_or_else(|| {
                Refusal(
                    ErrorCode::UnknownTopicOrPartition,
                    format!("There is no topic '{name}'."),
                )
            })?;
            let own = |name: &str| topic.image.configs.get(name).map(String::as_str);
            Ok(describe_topic(own, catalog.config(), synonyms))
        }
        // The empty name stands for what is set on all brokers.
        BROKER if name.is_empty() => {
            let mut entries = describe_broker(catalog.config(), synonyms);
            entries.retain(|entry| entry.source == Source::DynamicBrokerDefault);
            Ok(entries)
        }
        BROKER => own_broker(call, name).map(|()| describe_broker(catalog.config(), synonyms)),
        // Log levels are set by the environment, not over the protocol.
        BROKER_LOGGER => own_broker(call, name).map(|()| Vec::new()),
        other => {
            let message = format!("Configs of resource type {other} are not served here.");
            Err(Refusal(ErrorCode::InvalidRequest, message))
        }
    }
}

fn own_broker<E: Env>(call: &Call<E>, name: &str) -> Result<(), Refusal> {
    let node_id = call.broker.identity().node_id;
    match name.parse() == Ok(node_id) {
        true => Ok(()),
        false => {
            let message = format!("This is broker {node_id}; {name:?} is not.");
            Err(Refusal(ErrorCode::InvalidRequest, message))
        }
    }
}

fn result<'a>(
    resource: DescribeConfigsResource<'a>,
    entries: Result<Vec<Entry>, Refusal>,
    documentation: bool,
) -> DescribeConfigsResult<'a> {
    let (entries, error_code, error_message) = match entries {
        Ok(entries) => (entries, ErrorCode::None, None),
        Err(Refusal(code, message)) => (Vec::new(), code, Some(message.into())),
    };
    // An empty list of keys asks for all, as null does.
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let keys: Option<BTreeSet<Str<'_>>> = keys.map(|keys| keys.iter().collect());
    let wanted = |entry: &Entry| keys.as_ref().is_none_or(|keys| keys.contains(entry.name));
    DescribeConfigsResult {
        error_code: error_code.into(),
        error_message,
        resource_type: resource.resource_type,
        configs: entries
            .into_iter()
            .filter(wanted)
            .map(|entry| config(entry, documentation))
            .collect(),
        resource_name: resource.resource_name,
    }
}

fn config(entry: Entry, documentation: bool) -> DescribeConfigsResourceResult<'static> {
    let synonyms = entry.synonyms.into_iter().map(|synonym| DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(Into::into),
        source: synonym.source.code(),
    });
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.is_sensitive,
        synonyms: synonyms.collect(),
        config_type: entry.kind.code(),
        documentation: documentation.then(|| entry.documentation.into()),
    }
}
