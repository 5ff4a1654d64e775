//! The topic under load: created on demand, with its leaders and the versions they serve.

use std::collections::BTreeMap;

use clap::Args;
use ringtail::base::ids::TopicId;
use ringtail::client::{Admin, Client, ClientError, ClientOptions, NewTopic, Purpose};
use ringtail::io::uring::{Options, UringEnv, run_one};
use ringtail::wire::Protocol;
use ringtail::wire::kafka::ErrorCode;
use ringtail::wire::kafka::messages::{FetchRequest, ProduceRequest};

#[derive(Args, Clone)]
pub struct TargetOptions {
    #[arg(long, short = 'b', default_value = "localhost:9092")]
    pub bootstrap_server: String,
    /// A native listener of the same broker: the load goes there.
    #[arg(long, value_name = "HOST:PORT")]
    pub native: Option<String>,
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
    pub protocol: Protocol,
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
            let mut target = options.find(&client).await;
            client.close();
            if let (Ok(_), Some(native)) = (&target, &options.native) {
                let client = Client::new(
                    client.env().clone(),
                    ClientOptions {
                        protocol: Protocol::Native,
                        bootstrap_servers: vec![native.clone()],
                        ..ClientOptions::default()
                    },
                );
                target = options.locate(&client).await;
                client.close();
            }
            target.map_err(|error| error.to_string())
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
        let mut target = self.locate(client).await?;
        // Versions that name topics by id need one.
        let (produce_cap, fetch_cap) = if target.topic_id.is_zero() {
            (12, 12)
        } else {
            (i16::MAX, i16::MAX)
        };
        let nodes = client.metadata();
        for node_id in nodes.brokers.keys() {
            let connection = client.connection(*node_id, Purpose::Ask).await?;
            let produce = connection.version::<ProduceRequest<'_>>(produce_cap)?;
            let fetch = connection.version::<FetchRequest<'_>>(fetch_cap)?;
            target.produce_version = target.produce_version.min(produce);
            target.fetch_version = target.fetch_version.min(fetch);
        }
        Ok(target)
    }

    /// Where the partitions are led.
    async fn locate(&self, client: &Client<UringEnv>) -> Result<Target, ClientError> {
        let count = client.topic(&self.topic).await?.partitions.len() as i32;
        let mut by_node: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut topic_id = TopicId::ZERO;
        for partition in 0..count {
            let leader = client.leader(&self.topic, partition).await?;
            topic_id = leader.topic_id;
            by_node.entry(leader.node_id).or_default().push(partition);
        }
        let mut target = Target {
            protocol: client.options().protocol,
            topic: self.topic.clone(),
            topic_id,
            nodes: Vec::new(),
            produce_version: i16::MAX,
            fetch_version: i16::MAX,
        };
        for (node_id, partitions) in by_node {
            let connection = client.connection(node_id, Purpose::Ask).await?;
            target.nodes.push(Node {
                address: connection.address().to_owned(),
                partitions,
            });
        }
        Ok(target)
    }
}
