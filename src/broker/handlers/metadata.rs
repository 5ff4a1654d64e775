//! Metadata: brokers, topics, leaders; makes the topics that are missing when both sides want it.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::base::ids::TopicId;
use crate::broker::catalog::Topic;
use crate::broker::directories::Leadership;
use crate::broker::dispatch::Call;
use crate::broker::route::CONTROLLER_SHARD;
use crate::broker::{Broker, Endpoint};
use crate::cluster::{ClusterError, Command, CreateTopic, DecideError, check_topic_name, random_topic_id};
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, List, Str};

/// Everything a client may do with a topic or the cluster while nothing is forbidden (KIP-430): the bits of Kafka's
/// AclOperation codes.
pub const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
pub const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

const fn bits(codes: &[u8]) -> i32 {
    let (mut bits, mut index) = (0, 0);
    while index < codes.len() {
        bits |= 1 << codes[index];
        index += 1;
    }
    bits
}

pub async fn handle<E: Env>(call: &Call<E>, request: MetadataRequest<'_>) -> MetadataResponse<'static> {
    let broker = &call.broker;
    let wanted = request
        .topics
        .as_ref()
        .filter(|topics| !(call.version == 0 && topics.is_empty()));
    let mut topics = match wanted {
        None => all(broker),
        Some(wanted) => named(call, wanted, request.allow_auto_topic_creation).await,
    };
    if request.include_topic_authorized_operations {
        let served = topics.iter_mut().filter(|topic| topic.error_code == 0);
        served.for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    MetadataResponse {
        brokers: nodes(broker, call.client.peer.listener).into(),
        cluster_id: Some(broker.identity().cluster_id.clone().into()),
        controller_id: broker.identity().node_of(CONTROLLER_SHARD),
        topics: topics.into(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_UNKNOWN,
        },
        ..Default::default()
    }
}

/// Every topic, as clients are told of it.
pub fn all<E: Env>(broker: &Broker<E>) -> Vec<MetadataResponseTopic<'static>> {
    let catalog = broker.catalog.borrow();
    catalog.topics().map(|topic| found(broker, topic)).collect()
}

/// This broker, as a client of `listener` reaches it.
pub fn nodes<E: Env>(broker: &Broker<E>, listener: usize) -> Vec<MetadataResponseBroker<'static>> {
    let identity = broker.identity();
    let node = |(node_id, endpoint): (i32, &Endpoint)| MetadataResponseBroker {
        node_id,
        host: endpoint.host.clone().into(),
        port: i32::from(endpoint.port),
        rack: identity.rack.clone().map(Into::into),
    };
    identity.nodes(listener).into_iter().map(node).collect()
}

async fn named<E: Env>(
    call: &Call<E>,
    wanted: &List<'_, MetadataRequestTopic<'_>>,
    allow_creation: bool,
) -> Vec<MetadataResponseTopic<'static>> {
    // Below version 4 a client cannot say, and expects the topic to be made.
    let create = call.broker.limits.auto_create && (allow_creation || call.version < 4);
    let mut topics = Vec::new();
    // One answer for all mentions: the answer is as large as all topics at most.
    let wanted: BTreeSet<_> = wanted.iter().map(|topic| (topic.name, topic.topic_id)).collect();
    for (name, topic_id) in wanted {
        topics.push(match name {
            Some(name) if topic_id.is_zero() => by_name(&call.broker, &name, create).await,
            _ => by_id(&call.broker, topic_id),
        });
    }
    topics
}

fn by_id<E: Env>(broker: &Broker<E>, id: TopicId) -> MetadataResponseTopic<'static> {
    match broker.catalog.borrow().by_id(id) {
        Some(topic) => found(broker, &topic),
        None => MetadataResponseTopic {
            error_code: ErrorCode::UnknownTopicId.into(),
            topic_id: id,
            name: None,
            ..Default::default()
        },
    }
}

/// A topic by its name; one that is missing is made if `create` says so.
pub async fn by_name<E: Env>(broker: &Rc<Broker<E>>, name: &str, create: bool) -> MetadataResponseTopic<'static> {
    let known = |broker: &Rc<Broker<E>>| broker.catalog.borrow().by_name(name);
    if let Some(topic) = known(broker) {
        return found(broker, &topic);
    }
    let error = match check_topic_name(name) {
        Err(error) => error.code(),
        Ok(()) if !create => ErrorCode::UnknownTopicOrPartition,
        Ok(()) => match auto_create(broker, name).await {
            Ok(()) | Err(ClusterError::Refused(DecideError::TopicExists(_))) => match known(broker) {
                Some(topic) => return found(broker, &topic),
                None => ErrorCode::LeaderNotAvailable,
            },
            Err(error) => (&error).into(),
        },
    };
    MetadataResponseTopic {
        error_code: error.into(),
        name: Some(Str::Owned(name.to_owned())),
        ..Default::default()
    }
}

async fn auto_create<E: Env>(broker: &Rc<Broker<E>>, name: &str) -> Result<(), ClusterError> {
    let topic = CreateTopic {
        id: random_topic_id(&broker.env),
        name: name.to_owned(),
        partition_count: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
        validate_only: false,
    };
    broker.router.command(Command::CreateTopic(topic)).await.map(drop)
}

/// How a partition's leadership is told.
pub struct Led {
    pub error: ErrorCode,
    pub leader_id: i32,
    pub offline_replicas: Vec<i32>,
}

impl Led {
    /// Of a partition whose only replica is on `node`.
    pub fn new(node: i32, leadership: Leadership) -> Self {
        match leadership.is_led {
            true => Self {
                error: ErrorCode::None,
                leader_id: node,
                offline_replicas: Vec::new(),
            },
            false => Self {
                error: ErrorCode::LeaderNotAvailable,
                leader_id: -1,
                offline_replicas: vec![node],
            },
        }
    }
}

fn found<E: Env>(broker: &Broker<E>, topic: &Topic) -> MetadataResponseTopic<'static> {
    let partitions = (0..topic.partition_count).map(|index| {
        let node = broker.leader_of(topic, index);
        let leadership = broker.directories.leadership(topic, index);
        let led = Led::new(node, leadership);
        MetadataResponsePartition {
            error_code: led.error.into(),
            partition_index: index,
            leader_id: led.leader_id,
            leader_epoch: leadership.epoch,
            replica_nodes: vec![node].into(),
            isr_nodes: vec![node].into(),
            offline_replicas: led.offline_replicas.into(),
        }
    });
    MetadataResponseTopic {
        name: Some(topic.name.to_string().into()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
