//! DescribeTopicPartitions (KIP-966): topics in order of their names, in pages of partitions.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::metadata::{Led, TOPIC_OPERATIONS};
use crate::broker::Broker;
use crate::broker::catalog::Topic;
use crate::broker::dispatch::Call;
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Str};

/// The page under construction.
struct Page<'d, E: Env> {
    broker: &'d Broker<E>,
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic<'static>>,
    next: Option<Cursor<'static>>,
}

pub async fn handle<E: Env>(
    call: &Call<E>,
    request: DescribeTopicPartitionsRequest<'_>,
) -> DescribeTopicPartitionsResponse<'static> {
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut page = Page {
        broker: &call.broker,
        left: limit.clamp(1, call.broker.limits.describe_partitions_max.max(1)),
        topics: Vec::new(),
        next: None,
    };
    let cursor = request.cursor.as_ref();
    let first = cursor.map_or("", |cursor| &*cursor.topic_name);
    let from = |name: &str| match cursor {
        Some(cursor) if cursor.topic_name == name => cursor.partition_index.max(0),
        _ => 0,
    };
    let catalog = call.broker.catalog.borrow();
    if request.topics.is_empty() {
        for topic in catalog.topics_from(first) {
            if !page.put(topic, from(&topic.name)) {
                break;
            }
        }
    } else {
        let names: BTreeSet<Str<'_>> = request.topics.iter().map(|topic| topic.name).collect();
        for name in names.iter().filter(|name| &***name >= first) {
            let more = match catalog.by_name(name) {
                Some(topic) => page.put(&topic, from(name)),
                None => page.put_unknown(name),
            };
            if !more {
                break;
            }
        }
    }
    DescribeTopicPartitionsResponse {
        topics: page.topics.into(),
        next_cursor: page.next,
        ..Default::default()
    }
}

impl<E: Env> Page<'_, E> {
    /// Adds `topic` from partition `first` on; `false` when the page is full.
    fn put(&mut self, topic: &Rc<Topic>, first: i32) -> bool {
        let end = topic
            .partition_count
            .min(first.saturating_add(i32::try_from(self.left).unwrap_or(i32::MAX)));
        if self.left == 0 {
            self.next = Some(cursor(topic, first));
            return false;
        }
        let broker = self.broker;
        let partitions = (first..end).map(|index| {
            let node = broker.leader_of(topic, index);
            let leadership = broker.directories.leadership(topic, index);
            let led = Led::new(node, leadership);
            DescribeTopicPartitionsResponsePartition {
                error_code: led.error.into(),
                partition_index: index,
                leader_id: led.leader_id,
                leader_epoch: leadership.epoch,
                replica_nodes: vec![node].into(),
                isr_nodes: vec![node].into(),
                eligible_leader_replicas: Some(Vec::new().into()),
                last_known_elr: Some(Vec::new().into()),
                offline_replicas: led.offline_replicas.into(),
            }
        });
        self.left -= (end - first).max(0) as usize;
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(topic.name.to_string().into()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions: partitions.collect(),
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..Default::default()
        });
        if end < topic.partition_count {
            self.next = Some(cursor(topic, end));
        }
        self.next.is_none()
    }

    fn put_unknown(&mut self, name: &str) -> bool {
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::UnknownTopicOrPartition.into(),
            name: Some(Str::Owned(name.to_owned())),
            ..Default::default()
        });
        true
    }
}

fn cursor(topic: &Topic, partition_index: i32) -> Cursor<'static> {
    Cursor {
        topic_name: topic.name.to_string().into(),
        partition_index,
    }
}
