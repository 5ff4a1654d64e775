//! DescribeConfigs (KIP-133, KIP-226, KIP-569): every option with its value, source, type and documentation.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::dispatch::Call;
use crate::cluster::check_topic_name;
use crate::config::{Entry, Source, Synonym, describe_broker, describe_topic};
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Str};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// What one answer may take in memory; resources behind that are refused.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a resource has no configs to show.
struct Refusal(ErrorCode, String);

/// One resource, and the keys of all its mentions; without keys all of its configs.
struct Wanted<'a> {
    resource_type: i8,
    name: Str<'a>,
    keys: Option<BTreeSet<Str<'a>>>,
}

pub async fn handle<'a, E: Env>(call: &Call<E>, request: DescribeConfigsRequest<'a>) -> DescribeConfigsResponse<'a> {
    let entries = |wanted: &Wanted<'_>| entries(call, wanted, request.include_synonyms);
    DescribeConfigsResponse {
        results: described(merged(&request), entries, request.include_documentation).into(),
        ..Default::default()
    }
}

fn described<'a>(
    all: Vec<Wanted<'a>>,
    entries: impl Fn(&Wanted<'a>) -> Result<Vec<Entry>, Refusal>,
    documentation: bool,
) -> Vec<DescribeConfigsResult<'a>> {
    let mut bytes = 0;
    let describe = |wanted: Wanted<'a>| {
        let found = match bytes < ANSWER_BYTES_MAX {
            true => entries(&wanted),
            false => {
                let message = "The answer would be too large: describe fewer resources in one request.";
                Err(Refusal(ErrorCode::PolicyViolation, message.into()))
            }
        };
        let found_bytes = found.iter().flatten().map(|entry| entry_bytes(entry, documentation));
        let message_bytes = found.as_ref().err().map_or(0, |Refusal(_, message)| message.len());
        bytes += found_bytes.sum::<usize>() + wanted.name.len() + message_bytes;
        result(wanted, found, documentation)
    };
    all.into_iter().map(describe).collect()
}

/// One for all mentions of a resource, in the order of the first ones.
fn merged<'a>(request: &DescribeConfigsRequest<'a>) -> Vec<Wanted<'a>> {
    let mut all: Vec<Wanted<'a>> = Vec::new();
    let mut places = BTreeMap::new();
    for resource in &request.resources {
        // An empty list of keys asks for all, as null does.
        let keys = resource.configuration_keys.filter(|keys| !keys.is_empty());
        let keys: Option<BTreeSet<Str<'a>>> = keys.map(|keys| keys.iter().collect());
        let place = *places
            .entry((resource.resource_type, resource.resource_name.clone()))
            .or_insert(all.len());
        match all.get_mut(place) {
            Some(known) => match (&mut known.keys, keys) {
                (Some(known), Some(keys)) => known.extend(keys),
                (known, _) => *known = None,
            },
            None => all.push(Wanted {
                resource_type: resource.resource_type,
                name: resource.resource_name,
                keys,
            }),
        }
    }
    all
}

/// What an entry takes in an answer.
fn entry_bytes(entry: &Entry, documentation: bool) -> usize {
    let text = |value: &Option<String>| value.as_ref().map_or(0, String::len);
    let synonym_bytes = |synonym: &Synonym| size_of::<DescribeConfigsSynonym<'_>>() + text(&synonym.value);
    let documentation = if documentation { entry.documentation.len() } else { 0 };
    size_of::<DescribeConfigsResourceResult<'_>>()
        + entry.name.len()
        + text(&entry.value)
        + documentation
        + entry.synonyms.iter().map(synonym_bytes).sum::<usize>()
}

fn entries<E: Env>(call: &Call<E>, wanted: &Wanted<'_>, synonyms: bool) -> Result<Vec<Entry>, Refusal> {
    let mut entries = all_entries(call, wanted, synonyms)?;
    if let Some(keys) = &wanted.keys {
        entries.retain(|entry| keys.contains(entry.name));
    }
    Ok(entries)
}

fn all_entries<E: Env>(call: &Call<E>, wanted: &Wanted<'_>, synonyms: bool) -> Result<Vec<Entry>, Refusal> {
    let name = &*wanted.name;
    let catalog = call.broker.catalog.borrow();
    match wanted.resource_type {
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
    let identity = call.broker.identity();
    let node_id = identity.node_id;
    // In one spelling only: "01" would be a resource of its own.
    let named = name.parse::<i32>().ok().filter(|id| id.to_string() == name);
    match named.is_some_and(|id| identity.is_named(id, call.broker.router.shards())) {
        true => Ok(()),
        false => {
            let message = match identity.shard_endpoints {
                None => format!("Only broker {node_id} is described here."),
                Some(_) => format!(
                    "Only broker {node_id} is described here, and its shards from {} on.",
                    identity.node_of(0)
                ),
            };
            Err(Refusal(ErrorCode::InvalidRequest, message))
        }
    }
}

fn result<'a>(
    wanted: Wanted<'a>,
    entries: Result<Vec<Entry>, Refusal>,
    documentation: bool,
) -> DescribeConfigsResult<'a> {
    let (entries, error_code, error_message) = match entries {
        Ok(entries) => (entries, ErrorCode::None, None),
        Err(Refusal(code, message)) => (Vec::new(), code, Some(message.into())),
    };
    DescribeConfigsResult {
        error_code: error_code.into(),
        error_message,
        resource_type: wanted.resource_type,
        configs: entries.into_iter().map(|entry| config(entry, documentation)).collect(),
        resource_name: wanted.name,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;

    #[test]
    fn resources_behind_the_bound_of_the_answer_are_refused() {
        let wanted = |n: usize| Wanted {
            resource_type: TOPIC,
            name: n.to_string().into(),
            keys: None,
        };
        let value = "v".repeat(1 << 20);
        let entries = |_: &Wanted<'_>| {
            let synonym = Synonym {
                name: "a",
                value: Some(value.clone()),
                source: Source::Topic,
            };
            Ok(vec![Entry {
                name: "a",
                value: Some(value.clone()),
                source: Source::Topic,
                kind: Kind::String,
                read_only: false,
                is_sensitive: false,
                synonyms: vec![synonym],
                documentation: "",
            }])
        };
        let results = described((0..40).map(wanted).collect(), entries, true);
        let errors: Vec<_> = results.iter().map(|result| result.error_code).collect();
        let refused: i16 = ErrorCode::PolicyViolation.into();
        assert!(errors[..32].iter().all(|error| *error == 0), "two values of 1 MiB each");
        assert!(errors[32..].iter().all(|error| *error == refused));
    }
}
