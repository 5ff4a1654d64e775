//! Administrative calls: topics, partitions, offsets. Configs are in `describe`.

use std::collections::BTreeMap;

use crate::base::ids::TopicId;
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Str};

use super::cluster::{Client, Leader, Purpose};
use super::error::ClientError;
use super::exchange;
use super::metadata::{Metadata, Topic};

/// How long a broker may take to carry out a change, in milliseconds. Below the client's own timeout.
pub(super) const CHANGE_MS_MAX: i32 = 20_000;

/// A topic to be made. `None` leaves a count to the broker.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    pub partition_count: Option<i32>,
    pub replication_factor: Option<i16>,
    pub configs: Vec<(String, String)>,
}

/// A place in a log, to be turned into an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    Earliest,
    /// The high watermark.
    Latest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record at or after this time, milliseconds since 1970.
    AtTime(i64),
}

impl OffsetSpec {
    pub(super) fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => list_offsets_timestamp::EARLIEST,
            Self::Latest => list_offsets_timestamp::LATEST,
            Self::MaxTimestamp => list_offsets_timestamp::MAX_TIMESTAMP,
            Self::AtTime(timestamp_ms) => timestamp_ms.max(0),
        }
    }
}

/// What was found; `offset` is `None` when no record is that late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffset {
    pub offset: Option<i64>,
    /// -1 unless the question was about time.
    pub timestamp_ms: i64,
    pub leader_epoch: i32,
}

impl ListedOffset {
    pub(super) fn of(offset: i64, timestamp_ms: i64, leader_epoch: i32) -> Self {
        Self {
            offset: (offset >= 0).then_some(offset),
            timestamp_ms,
            leader_epoch,
        }
    }
}

pub struct Admin<E: Env> {
    client: Client<E>,
}

impl<E: Env> Admin<E> {
    pub fn new(client: Client<E>) -> Self {
        Self { client }
    }

    pub fn client(&self) -> &Client<E> {
        &self.client
    }

    /// Creates one topic (or only says whether it could be, with `validate_only`) and gives its id, zero where the broker knows none.
    pub async fn create_topic(&self, topic: &NewTopic, validate_only: bool) -> Result<TopicId, ClientError> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: Str::Owned(name.clone()),
            value: Some(Str::Owned(value.clone())),
        };
        let creatable = CreatableTopic {
            name: Str::Borrowed(&topic.name),
            num_partitions: topic.partition_count.unwrap_or(-1),
            replication_factor: topic.replication_factor.unwrap_or(-1),
            configs: topic.configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![creatable].into(),
            timeout_ms: CHANGE_MS_MAX,
            validate_only,
        };
        let created = self.client.administer(&request, |answer| {
            let answer: CreateTopicsResponse<'_> = answer.decode()?;
            let result = answer.topics.first().unwrap_or_default();
            ClientError::check(
                result.error_code,
                || format!("create topic {}", topic.name),
                result.error_message.as_deref(),
            )?;
            Ok(result.topic_id)
        });
        created.await
    }

    /// Deletes one topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(Str::Borrowed(name)),
                ..Default::default()
            }]
            .into(),
            topic_names: vec![Str::Borrowed(name)].into(),
            timeout_ms: CHANGE_MS_MAX,
        };
        // Retrying a deletion that happened would report a missing topic as the outcome.
        let connection = self.client.retrying(|| self.client.controller_connection()).await?;
        let answer = connection.call(&request).await?;
        let answer: DeleteTopicsResponse<'_> = answer.decode()?;
        let result = answer.responses.first().unwrap_or_default();
        self.client.forget(name);
        ClientError::check(
            result.error_code,
            || format!("delete topic {name}"),
            result.error_message.as_deref(),
        )
    }

    /// Raises the number of partitions of a topic to `count`.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let wish = CreatePartitionsTopic {
            name: Str::Borrowed(topic),
            count,
            assignments: None,
        };
        let request = CreatePartitionsRequest {
            topics: vec![wish].into(),
            timeout_ms: CHANGE_MS_MAX,
            ..Default::default()
        };
        let created = self.client.administer(&request, |answer| {
            let answer: CreatePartitionsResponse<'_> = answer.decode()?;
            let result = answer.results.first().unwrap_or_default();
            let what = || format!("give topic {topic} {count} partitions");
            ClientError::check(result.error_code, what, result.error_message.as_deref())
        });
        created.await?;
        self.client.forget(topic);
        Ok(())
    }

    /// Brokers and all topics, in order of their names.
    pub async fn list_topics(&self) -> Result<Metadata, ClientError> {
        let all = self.client.retrying(|| self.client.refresh(None)).await?;
        Ok((*all).clone())
    }

    /// One topic, asked for now; UNKNOWN_TOPIC_OR_PARTITION is final.
    pub async fn describe_topic(&self, name: &str) -> Result<Topic, ClientError> {
        let found = self.client.retrying(async || match self.client.topic_once(name).await {
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => Ok(Err(error)),
            other => other.map(Ok),
        });
        found.await?
    }

    /// The offsets at `spec` of partitions of one topic, by partition.
    pub async fn list_offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<i32, ListedOffset>, ClientError> {
        let mut found = BTreeMap::new();
        let mut missing = partitions.to_vec();
        while let Some(first) = missing.first().copied() {
            let asked = self.client.retrying(async || {
                let leader = self.client.leader(topic, first).await?;
                let same = |partition: &i32| {
                    self.client
                        .leader_known(topic, *partition)
                        .is_some_and(|l| l.node_id == leader.node_id)
                };
                let together: Vec<i32> = missing.iter().copied().filter(same).collect();
                let result = self.list_offsets_of(topic, &together, &leader, spec).await;
                if result.as_ref().is_err_and(ClientError::is_stale_metadata) {
                    self.client.forget(topic);
                }
                result
            });
            let offsets = asked.await?;
            missing.retain(|partition| !offsets.contains_key(partition));
            found.extend(offsets);
        }
        Ok(found)
    }

    /// Asks one leader.
    async fn list_offsets_of(
        &self,
        topic: &str,
        partitions: &[i32],
        leader: &Leader,
        spec: OffsetSpec,
    ) -> Result<BTreeMap<i32, ListedOffset>, ClientError> {
        let connection = self.client.connection(leader.node_id, Purpose::Ask).await?;
        let led = |partition: &i32| {
            (
                *partition,
                self.client.leader_known(topic, *partition).unwrap_or(*leader),
            )
        };
        let partitions: Vec<_> = partitions.iter().map(led).collect();
        exchange::list_offsets(&connection, topic, &partitions, spec).await
    }
}
