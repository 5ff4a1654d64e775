//! The topic under load: created on demand, with its leaders and the versions they serve.

use std::collections::BTreeMap;

use clap::Args;
use ringtail::base::ids::TopicId;
use ringtail::client::{Admin, Client, ClientError, ClientOptions, NewTopic, Purpose};
use ringtail::io::uring::{Options, UringEnv, run_one};
use ringtail::wire::kafka::ErrorCode;
use ringtail::wire::kafka::messages::{FetchRequest, ProduceRequest};

#[derive(Args, Clone)]
pub struct TargetOptions {
    #[arg(long, short = 'b', default_value = "localhost:9092")]
    pub bootstrap_server: String,
    #[arg(long, default_value = "ringtail-bench")]
    pub topic: String,
    /// Of the topic, when it is created here.
    #[arg(long, default_value_t = 16)]
    pub partitions: i32,
    /// An option of the topic, when it is created here.
    #[arg(long = "topic-config", value_name = "KEY=VALUE")]
    pub topic_configs: Vec<String>,
    /// Deletes a topic of that name first.
    #[arg(long)]
    pub fresh: bool,
}

/// Where requests for some partitions go.
#[derive(Clone, Debug)]
pub struct Node {
    pub address: String,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug)]
pub struct Target {
    pub topic: String,
    pub topic_id: TopicId,
    pub nodes: Vec<Node>,
    pub produce_version: i16,
    pub fetch_version: i16,
}

impl TargetOptions {
    /// Finds the topic or makes it, and waits until every partition has a leader.
    pub fn prepare(&self) -> Result<Target, String> {
        let options = self.clone();
        let found = run_one(Options::default(), |env| async move {
            let servers = options.bootstrap_server.split(',').map(str::to_owned).collect();
            let client = Client::new(
                env,
                ClientOptions {
                    bootstrap_servers: servers,
                    ..ClientOptions::default()
                },
            );
            let target = options.find(&client).await.map_err(|error| error.to_string());
            client.close();
            target
        });
        found.map_err(|error| format!("cannot start the executor: {error}"))?
    }

    async fn find(&self, client: &Client<UringEnv>) -> Result<Target, ClientError> {
        let admin = Admin::new(client.clone());
        if self.fresh {
            match admin.delete_topic(&self.topic).await {
                Err(error) if error.code() != Some(ErrorCode::UnknownTopicOrPartition) => return Err(error),
                _ => {}
            }
        }
        let configs = self.topic_configs.iter().filter_map(|text| text.split_once('='));
        let topic = NewTopic {
            name: self.topic.clone(),
            partition_count: Some(self.partitions),
            replication_factor: None,
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        };
        match admin.create_topic(&topic, false).await {
            Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => return Err(error),
            _ => {}
        }
        let count = client.topic(&self.topic).await?.partitions.len() as i32;
        let mut by_node: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut topic_id = TopicId::ZERO;
        for partition in 0..count {
            let leader = client.leader(&self.topic, partition).await?;
            topic_id = leader.topic_id;
            by_node.entry(leader.node_id).or_default().push(partition);
        }
        // Versions that name topics by id need one.
        let (produce_cap, fetch_cap) = if topic_id.is_zero() {
            (12, 12)
        } else {
            (i16::MAX, i16::MAX)
        };
        let mut target = Target {
            topic: self.topic.clone(),
            topic_id,
            nodes: Vec::new(),
            produce_version: i16::MAX,
            fetch_version: i16::MAX,
        };
        for (node_id, partitions) in by_node {
            let connection = client.connection(node_id, Purpose::Ask).await?;
            target.produce_version = target
                .produce_version
                .min(connection.version::<ProduceRequest<'_>>(produce_cap)?);
            target.fetch_version = target
                .fetch_version
                .min(connection.version::<FetchRequest<'_>>(fetch_cap)?);
            target.nodes.push(Node {
                address: connection.address().to_owned(),
                partitions,
            });
        }
        Ok(target)
    }
}
