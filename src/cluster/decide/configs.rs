//! Rules for configs of topics and brokers.

use crate::config::{
    Kind, Reload, Row, broker_row, check_topic_config, check_topic_configs, describe_topic, topic_row,
};

use super::super::command::{
    ConfigChange, ConfigOperation, ConfigOperationKind, Context, DecideError, Decision, Response, SetBrokerConfigs,
    SetTopicConfigs,
};
use super::super::image::Image;
use super::super::record::{Configs, Record};

/// Names and values of one resource together.
const CONFIGS_BYTES_MAX: usize = 1 << 20;

/// The configs of a new topic, checked.
pub(super) fn of_new_topic(configs: &[(String, Option<String>)]) -> Result<Configs, DecideError> {
    let configs = replaced(configs)?;
    checked_topic_configs(configs)
}

fn checked_topic_configs(configs: Configs) -> Result<Configs, DecideError> {
    let invalid = |error: crate::config::TopicConfigError| DecideError::InvalidConfig(error.to_string());
    let mut stored = Configs::new();
    for (name, value) in configs {
        let value = check_topic_config(&name, &value).map_err(invalid)?.to_owned();
        stored.insert(name, value);
    }
    check_topic_configs(&stored).map_err(invalid)?;
    check_bytes(&stored)?;
    Ok(stored)
}

fn check_bytes(configs: &Configs) -> Result<(), DecideError> {
    let bytes: usize = configs.iter().map(|(name, value)| name.len() + value.len()).sum();
    match bytes <= CONFIGS_BYTES_MAX {
        true => Ok(()),
        false => Err(DecideError::InvalidConfig(format!(
            "The configs take more than {CONFIGS_BYTES_MAX} bytes."
        ))),
    }
}

fn replaced(configs: &[(String, Option<String>)]) -> Result<Configs, DecideError> {
    let mut set = Configs::new();
    for (name, value) in configs {
        let value = value
            .clone()
            .ok_or_else(|| DecideError::InvalidConfig(format!("The value of {name} is null.")))?;
        set.insert(name.clone(), value);
    }
    Ok(set)
}

pub(super) fn set_topic_configs(
    image: &Image,
    context: Context<'_>,
    command: &SetTopicConfigs,
) -> Result<Decision, DecideError> {
    let topic = image
        .topic(&command.topic)
        .ok_or_else(|| DecideError::UnknownTopic(command.topic.clone()))?;
    let changed = match &command.change {
        ConfigChange::Replace(configs) => replaced(configs)?,
        ConfigChange::Incremental(operations) => {
            let own = |name: &str| topic.configs.get(name).map(String::as_str);
            let in_force = |name: &str| {
                let entries = describe_topic(own, context.config, false);
                entries
                    .into_iter()
                    .find(|entry| entry.name == name)
                    .and_then(|entry| entry.value)
            };
            changed(
                &topic.configs,
                operations,
                |name| topic_row(name).map(|row| row.row),
                in_force,
            )?
        }
    };
    let configs = checked_topic_configs(changed)?;
    let record = Record::TopicConfigsSet {
        topic: topic.id,
        configs,
    };
    let records = if command.validate_only {
        Vec::new()
    } else {
        vec![record]
    };
    Ok(Decision {
        records,
        response: Response::ConfigsSet,
    })
}

pub(super) fn set_broker_configs(
    image: &Image,
    context: Context<'_>,
    command: &SetBrokerConfigs,
) -> Result<Decision, DecideError> {
    let own_id = context.config.identity.node_id;
    if let Some(node_id) = command.node_id.filter(|node_id| *node_id != own_id) {
        return Err(DecideError::InvalidRequest(format!(
            "This is broker {own_id}, not {node_id}."
        )));
    }
    let before: Configs = image
        .broker_configs(command.node_id)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let changed = match &command.change {
        ConfigChange::Replace(configs) => replaced(configs)?,
        ConfigChange::Incremental(operations) => {
            let in_force = |name: &str| context.config.settings().value(broker_row(name)?).0.map(str::to_owned);
            changed(&before, operations, broker_row, in_force)?
        }
    };
    let mut configs = Configs::new();
    for (name, value) in changed {
        let value = checked_broker_config(&name, &value, before.get(&name))?;
        configs.insert(name, value);
    }
    check_bytes(&configs)?;
    let record = Record::BrokerConfigsSet {
        node_id: command.node_id,
        configs,
    };
    let records = if command.validate_only {
        Vec::new()
    } else {
        vec![record]
    };
    Ok(Decision {
        records,
        response: Response::ConfigsSet,
    })
}

fn checked_broker_config(name: &str, value: &str, before: Option<&String>) -> Result<String, DecideError> {
    let row =
        broker_row(name).ok_or_else(|| DecideError::InvalidConfig(format!("Unknown broker config name: {name}")))?;
    let value = value.trim();
    row.check(value)
        .map_err(|error| DecideError::InvalidConfig(error.to_string()))?;
    // What would be lost on the way to a client must not be set from one; what would need a restart neither.
    if row.reload == Reload::Start && before.is_none_or(|before| before != value) {
        return Err(DecideError::InvalidRequest(format!(
            "{name} cannot be changed in a running broker."
        )));
    }
    Ok(value.to_owned())
}

/// `before` after `operations`; list operations work on the value in force when none is set.
fn changed(
    before: &Configs,
    operations: &[ConfigOperation],
    row: impl Fn(&str) -> Option<&'static Row>,
    in_force: impl Fn(&str) -> Option<String>,
) -> Result<Configs, DecideError> {
    let mut configs = before.clone();
    for (i, operation) in operations.iter().enumerate() {
        let name = &operation.name;
        if operations[..i].iter().any(|other| other.name == *name) {
            return Err(DecideError::InvalidRequest(format!(
                "{name} is changed twice in one request."
            )));
        }
        if operation.kind == ConfigOperationKind::Delete {
            configs.remove(name);
            continue;
        }
        let null = || DecideError::InvalidRequest(format!("The value of {name} is null."));
        let value = operation.value.as_ref().ok_or_else(null)?;
        if operation.kind == ConfigOperationKind::Set {
            configs.insert(name.clone(), value.clone());
            continue;
        }
        if row(name).is_some_and(|row| row.kind != Kind::List) {
            return Err(DecideError::InvalidConfig(format!(
                "{name} is not a list: it can only be set or deleted."
            )));
        }
        let current = configs
            .get(name)
            .cloned()
            .or_else(|| in_force(name))
            .unwrap_or_default();
        configs.insert(name.clone(), changed_list(&current, operation.kind, value));
    }
    Ok(configs)
}

fn changed_list(current: &str, kind: ConfigOperationKind, change: &str) -> String {
    let items = |text: &str| -> Vec<String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (mut list, change) = (items(current), items(change));
    match kind {
        ConfigOperationKind::Append => {
            for item in change {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
        }
        _ => list.retain(|item| !change.contains(item)),
    }
    list.join(",")
}
