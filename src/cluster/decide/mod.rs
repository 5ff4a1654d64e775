//! `decide(image, command)`: the rules. Nothing here changes anything.

mod configs;

use crate::base::ids::TopicId;

use super::command::{Command, Context, CreatePartitions, CreateTopic, DecideError, Decision, Response, TopicRef};
use super::image::Image;
use super::placement::place_partitions;
use super::record::Record;

/// Of one topic, and of one command.
pub const PARTITION_COUNT_MAX: i32 = 10_000;
/// Producer ids given out at a time.
pub const PRODUCER_ID_BLOCK: i64 = 1000;
/// Kafka's limit: a name is part of a directory's name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// What `command` comes to on `image`. Errors: why not.
pub fn decide(image: &Image, context: Context<'_>, command: &Command) -> Result<Decision, DecideError> {
    match command {
        Command::CreateTopic(command) => create_topic(image, context, command),
        Command::DeleteTopic(topic) => delete_topic(image, context, topic),
        Command::CreatePartitions(command) => create_partitions(image, context, command),
        Command::SetTopicConfigs(command) => configs::set_topic_configs(image, context, command),
        Command::SetBrokerConfigs(command) => configs::set_broker_configs(image, context, command),
        Command::AllocateProducerIds => allocate_producer_ids(image),
    }
}

/// Kafka's rules for a topic's name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
pub fn check_topic_name(name: &str) -> Result<(), DecideError> {
    let refuse = |text: String| Err(DecideError::InvalidTopicName(text));
    if name.is_empty() {
        return refuse("Topic name is invalid: it is empty.".into());
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse(format!(
            "Topic name is invalid: it is longer than {TOPIC_NAME_BYTES_MAX} characters."
        ));
    }
    if name == "." || name == ".." {
        return refuse("Topic name is invalid: it cannot be '.' or '..'.".into());
    }
    match name
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
    {
        true => Ok(()),
        false => refuse(format!(
            "Topic name is invalid: {name:?} has characters other than letters, digits, '.', '_' and '-'."
        )),
    }
}

fn create_topic(image: &Image, context: Context<'_>, command: &CreateTopic) -> Result<Decision, DecideError> {
    check_topic_name(&command.name)?;
    if image.topic(&command.name).is_some() {
        return Err(DecideError::TopicExists(command.name.clone()));
    }
    if let Some(other) = image.colliding(&command.name) {
        let text = format!(
            "Topic '{}' collides with the topic '{other}': '.' and '_' are one in metrics.",
            command.name
        );
        return Err(DecideError::InvalidTopicName(text));
    }
    let partition_count = partition_count(context, command)?;
    let configs = configs::of_new_topic(&command.configs)?;
    let partitions = place(image, context, partition_count)?;
    let response = Response::TopicCreated {
        id: if command.validate_only {
            TopicId::ZERO
        } else {
            command.id
        },
        partition_count,
        replication_factor: 1,
    };
    let record = Record::TopicCreated {
        id: command.id,
        name: command.name.clone(),
        partitions,
        configs,
    };
    let records = if command.validate_only {
        Vec::new()
    } else {
        vec![record]
    };
    Ok(Decision { records, response })
}

/// How many partitions are asked for; checks what is asked about replicas on the way.
fn partition_count(context: Context<'_>, command: &CreateTopic) -> Result<i32, DecideError> {
    if !command.assignments.is_empty() {
        return assigned_partition_count(context, command);
    }
    match command.replication_factor {
        -1 | 1 => {}
        factor @ (0 | ..-1) => {
            let text = format!("Replication factor {factor} is neither positive nor -1, which is the default.");
            return Err(DecideError::InvalidReplicationFactor(text));
        }
        factor => {
            let text = format!("Replication factor {factor} is more than the 1 broker there is.");
            return Err(DecideError::InvalidReplicationFactor(text));
        }
    }
    match command.partition_count {
        -1 => Ok(context.config.topics.partition_count),
        count @ 1..=PARTITION_COUNT_MAX => Ok(count),
        count @ (..-1 | 0) => {
            let text = format!("Number of partitions {count} is neither positive nor -1, which is the default.");
            Err(DecideError::InvalidPartitions(text))
        }
        count => Err(too_many(count)),
    }
}

fn too_many(count: i32) -> DecideError {
    DecideError::PolicyViolation(format!(
        "{count} partitions are more than the {PARTITION_COUNT_MAX} a topic may have."
    ))
}

fn assigned_partition_count(context: Context<'_>, command: &CreateTopic) -> Result<i32, DecideError> {
    if command.partition_count != -1 || command.replication_factor != -1 {
        let text = "With a manual assignment the number of partitions and the replication factor must be -1.";
        return Err(DecideError::InvalidRequest(text.into()));
    }
    let count = command.assignments.len();
    if count > PARTITION_COUNT_MAX as usize {
        return Err(too_many(count.min(i32::MAX as usize) as i32));
    }
    let mut seen = vec![false; count];
    for (partition, brokers) in &command.assignments {
        check_assignment(context, *partition, brokers)?;
        let slot = usize::try_from(*partition)
            .ok()
            .and_then(|partition| seen.get_mut(partition));
        match slot {
            Some(seen) if !*seen => *seen = true,
            Some(_) => {
                let text = format!("Partition {partition} is assigned twice.");
                return Err(DecideError::InvalidReplicaAssignment(text));
            }
            None => {
                let text = format!("Partitions must be numbered from 0 without a gap, but there is {partition}.");
                return Err(DecideError::InvalidReplicaAssignment(text));
            }
        }
    }
    Ok(count as i32)
}

/// A partition's brokers: only us.
fn check_assignment(context: Context<'_>, partition: i32, brokers: &[i32]) -> Result<(), DecideError> {
    let node_id = context.config.identity.node_id;
    if brokers == [node_id] {
        return Ok(());
    }
    let text = format!("Partition {partition} is assigned to the brokers {brokers:?}; there is only {node_id}.");
    Err(DecideError::InvalidReplicaAssignment(text))
}

fn place(image: &Image, context: Context<'_>, count: i32) -> Result<Vec<super::DirectoryId>, DecideError> {
    let held = |directory| image.partition_count(directory);
    place_partitions(count as usize, context.directories, held).ok_or(DecideError::NoDirectory)
}

fn delete_topic(image: &Image, context: Context<'_>, topic: &TopicRef) -> Result<Decision, DecideError> {
    let topic = match topic {
        TopicRef::Name(name) => image
            .topic(name)
            .ok_or_else(|| DecideError::UnknownTopic(name.clone()))?,
        TopicRef::Id(id) => image.topic_by_id(*id).ok_or(DecideError::UnknownTopicId(*id))?,
    };
    if !context.config.topics.delete_enable {
        return Err(DecideError::TopicDeletionDisabled);
    }
    Ok(Decision {
        records: vec![Record::TopicDeleted { topic: topic.id }],
        response: Response::TopicDeleted {
            id: topic.id,
            name: topic.name.to_string(),
        },
    })
}

fn create_partitions(image: &Image, context: Context<'_>, command: &CreatePartitions) -> Result<Decision, DecideError> {
    let unknown = || DecideError::UnknownTopic(command.topic.clone());
    let topic = image.topic(&command.topic).ok_or_else(unknown)?;
    let first = topic.partitions.len() as i32;
    if command.count <= first {
        let text = format!("The topic has {first} partitions; {} is not more.", command.count);
        return Err(DecideError::InvalidPartitions(text));
    }
    if command.count > PARTITION_COUNT_MAX {
        return Err(too_many(command.count));
    }
    let added = command.count - first;
    if let Some(assignments) = &command.assignments {
        if assignments.len() != added as usize {
            let text = format!("{added} partitions are added, but {} are assigned.", assignments.len());
            return Err(DecideError::InvalidReplicaAssignment(text));
        }
        for (brokers, partition) in assignments.iter().zip(first..) {
            check_assignment(context, partition, brokers)?;
        }
    }
    let record = Record::PartitionsAdded {
        topic: topic.id,
        first,
        partitions: place(image, context, added)?,
    };
    let records = if command.validate_only {
        Vec::new()
    } else {
        vec![record]
    };
    Ok(Decision {
        records,
        response: Response::PartitionsCreated { count: command.count },
    })
}

fn allocate_producer_ids(image: &Image) -> Result<Decision, DecideError> {
    let start = image.producer_ids_end();
    let exhausted = || DecideError::InvalidRequest("All producer ids are given out.".into());
    let end = start.checked_add(PRODUCER_ID_BLOCK).ok_or_else(exhausted)?;
    Ok(Decision {
        records: vec![Record::ProducerIdsAllocated { end }],
        response: Response::ProducerIds(start..end),
    })
}

#[cfg(test)]
pub(super) mod tests;
