//! Describe: the broker, topics and their leaders; made again when there was not enough room for the answer.

use std::collections::BTreeSet;

use flatbuffers::WIPOffset;

use super::{ANSWER_BYTES, Call, Told};
use crate::base::sync::Permits;
use crate::broker::connection::Reply;
use crate::broker::handlers::metadata;
use crate::broker::route::CONTROLLER_SHARD;
use crate::io::Env;
use crate::wire::kafka::messages::MetadataResponseTopic;
use crate::wire::native::{Builder, fb};

/// What a topic that was named takes in the answer and while that is made, beyond its name.
const ITEM_BYTES: u64 = 256;

pub async fn answer<E: Env>(call: &Call<E>) -> Result<Reply, Reply> {
    let mut bytes_min = 0;
    loop {
        let request = call.request()?;
        let Some(asked) = request.ask_as_describe() else {
            return Err(Reply::Close);
        };
        let items = call.count(asked.topics().map_or(0, |topics| topics.len()))?;
        // A name comes as it is asked for, and is in the answer twice while that grows.
        let names: usize = asked.topics().into_iter().flatten().map(str::len).sum();
        let room = call.room((items * ITEM_BYTES + 4 * names as u64).max(bytes_min)).await;
        call.turn().await;
        let told = told(call, topics(call, &asked).await);
        let bytes = told.builder.unfinished_data().len() as u64 + ANSWER_BYTES;
        if let Some(room) = call.broker.memory.made_or_now(call.client.reader(), room, bytes) {
            return Ok(call.answer(request.id(), told, Some(room), Permits::new()));
        }
        // Better made again than kept meanwhile.
        drop(told);
        bytes_min = bytes;
    }
}

async fn topics<E: Env>(call: &Call<E>, asked: &fb::Describe<'_>) -> Vec<MetadataResponseTopic<'static>> {
    let Some(named) = asked.topics() else {
        return metadata::all(&call.broker);
    };
    let create = call.broker.limits.auto_create && asked.may_create();
    let mut topics = Vec::new();
    for name in named.iter().collect::<BTreeSet<_>>() {
        topics.push(metadata::by_name(&call.broker, name, create).await);
    }
    topics
}

fn told<E: Env>(call: &Call<E>, topics: Vec<MetadataResponseTopic<'static>>) -> Told {
    let mut builder = Builder::with_capacity(256);
    let b = &mut builder;
    let topics: Vec<_> = topics.iter().map(|found| topic(b, found)).collect();
    let identity = call.broker.identity();
    let nodes = metadata::nodes(&call.broker, call.client.peer.listener).into_iter();
    let nodes = nodes.map(|node| {
        let host = Some(b.create_string(&node.host));
        let rack = node.rack.as_deref().map(|rack| b.create_string(rack));
        let args = fb::NodeArgs {
            id: node.node_id,
            host,
            port: u16::try_from(node.port).unwrap_or(0),
            rack,
        };
        fb::Node::create(b, &args)
    });
    let nodes: Vec<_> = nodes.collect();
    let args = fb::DescribedArgs {
        cluster_id: Some(b.create_string(&identity.cluster_id)),
        controller: identity.node_of(CONTROLLER_SHARD),
        frame_bytes_max: u32::try_from(call.broker.limits.frame_bytes_max).unwrap_or(u32::MAX),
        nodes: Some(b.create_vector(&nodes)),
        topics: Some(b.create_vector(&topics)),
    };
    let body = fb::Described::create(b, &args).as_union_value();
    Told::new(builder, fb::Told::Described, body)
}

fn topic(b: &mut Builder, found: &MetadataResponseTopic<'_>) -> WIPOffset<fb::Topic<'static>> {
    let partitions: Vec<_> = found
        .partitions
        .iter()
        .map(|partition| fb::PartitionOf::new(partition.leader_id, partition.leader_epoch, partition.error_code))
        .collect();
    let args = fb::TopicArgs {
        name: found.name.as_deref().map(|name| b.create_string(name)),
        id: Some(&found.topic_id.into()),
        error: found.error_code,
        is_internal: found.is_internal,
        partitions: Some(b.create_vector(&partitions)),
    };
    fb::Topic::create(b, &args)
}
