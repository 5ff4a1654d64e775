//! `ringtail topic …`

use clap::{Args, Subcommand};

use crate::client::Topic as Described;
use crate::client::{Admin, Client, ConfigEntry, ConfigResource, ConfigSource, NewTopic, OffsetSpec, Partition};
use crate::io::Env;
use crate::wire::kafka::ErrorCode;

use super::failure::Failure;
use super::json::Json;
use super::output::Output;
use super::session::Connect;
use super::table::Table;

#[derive(Args)]
pub struct Topic {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone)]
enum Action {
    /// Creates a topic.
    Create {
        name: String,
        /// Left to the broker if absent.
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Left to the broker if absent.
        #[arg(long, short)]
        replication_factor: Option<i16>,
        /// An option of the topic, such as retention.ms=86400000 or ringtail.durability=written.
        #[arg(long = "config", short, value_name = "KEY=VALUE")]
        configs: Vec<String>,
        /// A topic of that name is no error.
        #[arg(long)]
        if_not_exists: bool,
        /// Only tells whether it could be created.
        #[arg(long)]
        validate_only: bool,
    },
    /// Lists the topics.
    List {
        /// Internal ones too.
        #[arg(long)]
        internal: bool,
    },
    /// Shows partitions, offsets and the options that are set.
    Describe {
        #[arg(required = true)]
        names: Vec<String>,
        /// Options with their default values too.
        #[arg(long)]
        all_configs: bool,
    },
    /// Raises the number of partitions.
    Alter {
        name: String,
        #[arg(long, short)]
        partitions: i32,
    },
    /// Deletes topics with all their records.
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
        /// A missing topic is no error.
        #[arg(long)]
        if_exists: bool,
    },
}

/// `key=value`, split.
pub fn pair(text: &str) -> Result<(String, String), Failure> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::usage(format!("`{text}` is not KEY=VALUE")))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl Topic {
    pub fn run(self) -> Result<(), Failure> {
        let json = self.connect.json;
        self.connect.run(async move |client| {
            let admin = Admin::new(client.clone());
            let done = act(&admin, self.action, json).await;
            client.close();
            done
        })
    }
}

async fn act<E: Env>(admin: &Admin<E>, action: Action, json: bool) -> Result<(), Failure> {
    match action {
        Action::Create {
            name,
            partitions,
            replication_factor,
            configs,
            if_not_exists,
            validate_only,
        } => {
            let configs = configs.iter().map(|text| pair(text)).collect::<Result<_, _>>()?;
            let topic = NewTopic {
                name,
                partition_count: partitions,
                replication_factor,
                configs,
            };
            create(admin, &topic, if_not_exists, validate_only, json).await
        }
        Action::List { internal } => list(admin, internal, json).await,
        Action::Describe { names, all_configs } => {
            let mut out = Output::new();
            for (index, name) in names.iter().enumerate() {
                if index > 0 && !json {
                    out.line("")?;
                }
                describe(admin, name, all_configs, json, &mut out).await?;
            }
            out.finish()
        }
        Action::Alter { name, partitions } => {
            admin.create_partitions(&name, partitions).await?;
            told(
                json,
                "altered",
                &name,
                &format!("topic {name} has {partitions} partitions"),
            )
        }
        Action::Delete { names, if_exists } => {
            for name in names {
                match admin.delete_topic(&name).await {
                    Err(error) if if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                        told(json, "absent", &name, &format!("there is no topic {name}"))?;
                    }
                    done => {
                        done?;
                        told(json, "deleted", &name, &format!("deleted topic {name}"))?;
                    }
                }
            }
            Ok(())
        }
    }
}

fn told(json: bool, what: &'static str, name: &str, text: &str) -> Result<(), Failure> {
    let mut out = Output::new();
    match json {
        true => out.line(Json::Object(vec![(what, name.into())]))?,
        false => out.line(text)?,
    }
    out.finish()
}

async fn create<E: Env>(
    admin: &Admin<E>,
    topic: &NewTopic,
    if_not_exists: bool,
    validate_only: bool,
    json: bool,
) -> Result<(), Failure> {
    let name = &topic.name;
    let id = match admin.create_topic(topic, validate_only).await {
        Err(error) if if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            return told(json, "present", name, &format!("there is a topic {name} already"));
        }
        created => created?,
    };
    if validate_only {
        return told(json, "valid", name, &format!("topic {name} could be created"));
    }
    let mut out = Output::new();
    match json {
        true => out.line(Json::Object(vec![
            ("created", name.as_str().into()),
            ("id", id.to_string().into()),
        ]))?,
        false => out.line(format!("created topic {name} ({id})"))?,
    }
    out.finish()
}

async fn list<E: Env>(admin: &Admin<E>, internal: bool, json: bool) -> Result<(), Failure> {
    let metadata = admin.list_topics().await?;
    let topics = metadata.topics.values().filter(|topic| internal || !topic.is_internal);
    let mut out = Output::new();
    if json {
        let topic = |topic: &Described| {
            Json::Object(vec![
                ("name", topic.name.as_str().into()),
                ("id", topic.id.to_string().into()),
                ("partitions", topic.partitions.len().into()),
                ("internal", topic.is_internal.into()),
            ])
        };
        out.line(Json::list(topics.map(topic)))?;
        return out.finish();
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS", "ID"]);
    for topic in topics {
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        let cells = [
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replicas.to_string(),
            topic.id.to_string(),
        ];
        table.row(cells.into());
    }
    out.line(table)?;
    out.finish()
}

async fn describe<E: Env>(
    admin: &Admin<E>,
    name: &str,
    all_configs: bool,
    json: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    let topic = admin.describe_topic(name).await?;
    let mut configs = admin.describe_configs(&ConfigResource::Topic(name.to_owned())).await?;
    if !all_configs {
        configs.retain(|entry| entry.source == ConfigSource::Topic);
    }
    let served: Vec<i32> = topic
        .partitions
        .iter()
        .filter(|p| p.leader.is_some())
        .map(|p| p.index)
        .collect();
    let earliest = admin.list_offsets(name, &served, OffsetSpec::Earliest).await?;
    let latest = admin.list_offsets(name, &served, OffsetSpec::Latest).await?;
    let ends = |partition: &Partition| {
        let of = |listed: &std::collections::BTreeMap<i32, crate::client::ListedOffset>| {
            listed.get(&partition.index).and_then(|listed| listed.offset)
        };
        (of(&earliest), of(&latest))
    };
    if json {
        out.line(described_json(&topic, &configs, ends))
    } else {
        describe_table(&topic, &configs, ends, out)
    }
}

fn describe_table(
    topic: &Described,
    configs: &[ConfigEntry],
    ends: impl Fn(&Partition) -> (Option<i64>, Option<i64>),
    out: &mut Output,
) -> Result<(), Failure> {
    out.line(format!(
        "topic {} ({}), {} partitions",
        topic.name,
        topic.id,
        topic.partitions.len()
    ))?;
    for entry in configs {
        let value = entry
            .value
            .as_deref()
            .unwrap_or(if entry.is_sensitive { "(hidden)" } else { "(none)" });
        let source = if entry.source == ConfigSource::Topic {
            ""
        } else {
            entry.source.name()
        };
        out.line(format!("  {}={value}  {source}", entry.name).trim_end())?;
    }
    let mut table = Table::new(&[
        "PARTITION",
        "LEADER",
        "EPOCH",
        "EARLIEST",
        "LATEST",
        "REPLICAS",
        "IN SYNC",
    ]);
    let shown = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
    let nodes = |nodes: &[i32]| nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    for partition in &topic.partitions {
        let (earliest, latest) = ends(partition);
        table.row(vec![
            partition.index.to_string(),
            shown(partition.leader.map(i64::from)),
            partition.leader_epoch.to_string(),
            shown(earliest),
            shown(latest),
            nodes(&partition.replicas),
            nodes(&partition.isr),
        ]);
    }
    out.line(table)
}

fn described_json(
    topic: &Described,
    configs: &[ConfigEntry],
    ends: impl Fn(&Partition) -> (Option<i64>, Option<i64>),
) -> Json {
    let partition = |partition: &Partition| {
        let (earliest, latest) = ends(partition);
        Json::Object(vec![
            ("partition", partition.index.into()),
            ("leader", partition.leader.into()),
            ("leader_epoch", partition.leader_epoch.into()),
            ("earliest", earliest.into()),
            ("latest", latest.into()),
            ("replicas", Json::list(partition.replicas.iter().copied())),
            ("isr", Json::list(partition.isr.iter().copied())),
        ])
    };
    let config = |entry: &ConfigEntry| {
        let value = Json::Object(vec![
            ("value", entry.value.clone().into()),
            ("source", entry.source.name().into()),
        ]);
        (entry.name.clone(), value)
    };
    Json::Object(vec![
        ("name", topic.name.as_str().into()),
        ("id", topic.id.to_string().into()),
        ("internal", topic.is_internal.into()),
        ("configs", Json::Map(configs.iter().map(config).collect())),
        ("partitions", Json::list(topic.partitions.iter().map(partition))),
    ])
}

/// The partitions of `topic` that a command works on: those named, or all.
pub async fn partitions_of<E: Env>(client: &Client<E>, topic: &str, named: &[i32]) -> Result<Vec<i32>, Failure> {
    let described = Admin::new(client.clone()).describe_topic(topic).await?;
    let all: Vec<i32> = described.partitions.iter().map(|partition| partition.index).collect();
    match named.iter().find(|partition| !all.contains(partition)) {
        Some(missing) => Err(Failure::failed(format!("topic {topic} has no partition {missing}"))),
        None if named.is_empty() => Ok(all),
        None => Ok(named.to_vec()),
    }
}
