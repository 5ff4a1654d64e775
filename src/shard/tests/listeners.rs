//! Listeners of single shards: clients are told of each shard as a node, and reach the one that owns the partition.

use std::collections::BTreeMap;

use super::*;
use crate::base::ids::PartitionId;
use crate::client::{Client, ClientOptions, NewRecord, Producer, ProducerOptions, Purpose};
use crate::cluster::shard_of;
use crate::wire::Protocol;

#[test]
fn every_partition_is_led_by_the_node_of_its_shard() {
    for protocol in [Protocol::Kafka, Protocol::Native] {
        let world = world(620);
        start_with(
            &world,
            &[
                "ringtail.shard.listeners=per-shard",
                "ringtail.native.listeners=:9194",
                "node.id=3",
            ],
        );
        world.block_on(CLIENT, |env| async move {
            let base = match protocol {
                Protocol::Kafka => 9092,
                Protocol::Native => 9194,
            };
            let server = SocketAddr::new(host_address(BROKER), base).to_string();
            let options = ClientOptions {
                protocol,
                bootstrap_servers: vec![server],
                allow_auto_create: true,
                ..ClientOptions::default()
            };
            let client = Client::new(env.clone(), options);
            let topic = client.topic("t").await.expect("made");
            let metadata = client.metadata();
            let told: Vec<_> = metadata
                .brokers
                .values()
                .map(|node| (node.node_id, node.port))
                .collect();
            assert_eq!(told, [(3072, base + 1), (3073, base + 2)]);
            assert_eq!(metadata.controller_id, Some(3072));
            let mut led: BTreeMap<i32, usize> = BTreeMap::new();
            for partition in &topic.partitions {
                let id = PartitionId {
                    topic: topic.id,
                    index: partition.index,
                };
                assert_eq!(partition.leader, Some(3072 + shard_of(id, 2) as i32));
                *led.entry(shard_of(id, 2) as i32).or_default() += 1;
            }
            assert_eq!(led.len(), 2, "both shards own some of four");
            let producer = Producer::new(client.clone(), ProducerOptions::default()).expect("options that fit");
            for partition in 0..4 {
                let record = NewRecord {
                    value: Some(b"v"),
                    ..NewRecord::default()
                };
                let sent = producer.send("t", Some(partition), &record).await;
                assert_eq!(sent.expect("acknowledged").offset, Some(0));
            }
            for (node, port) in told {
                let open = client.connection(node, Purpose::Produce).await.expect("open");
                assert!(open.address().ends_with(&format!(":{port}")), "{}", open.address());
            }
        });
    }
}

#[test]
fn a_connection_to_a_shards_listener_stays_there() {
    let world = world(621);
    let started = start_with(&world, &["ringtail.shard.listeners=per-shard"]);
    let counts = started.process.connections.clone();
    world.block_on(CLIENT, |env| async move {
        let first = connect(&env).await;
        create(&first).await;
        let before = [counts.open_at(0), counts.open_at(1)];
        let own = SocketAddr::new(host_address(BROKER), 9094).to_string();
        let mut open = Vec::new();
        for _ in 0..5 {
            let connection = Connection::open(&env, &own, ConnectionOptions::default()).await;
            open.push(connection.expect("it listens"));
        }
        assert_eq!([counts.open_at(0), counts.open_at(1)], [before[0], before[1] + 5]);
        let all = (0..4).map(|index| (index, "v")).collect::<Vec<_>>();
        for connection in &open {
            // Partitions of other shards are reached all the same.
            assert!(connection.ask(&produce(-1, &all), PRODUCE).await.is_ok());
        }
        let ends: Vec<_> = fetched(&first, fetch(&[(0, 0), (3, 0)], 0))
            .await
            .iter()
            .map(|f| f.2)
            .collect();
        assert_eq!(ends, [5, 5]);
    });
    started.stop(&world);
}

/// The nodes that clients know can be named where brokers are.
#[test]
fn replicas_are_assigned_by_the_ids_of_shards_too() {
    let world = world(622);
    start_with(&world, &["ringtail.shard.listeners=per-shard", "node.id=3"]);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        for (node, expected) in [(3072, 0), (3073, 0), (3, 0), (3074, 39), (4, 39)] {
            let assignment = CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: vec![node].into(),
            };
            let topic = CreatableTopic {
                name: format!("t{node}").into(),
                num_partitions: -1,
                replication_factor: -1,
                assignments: vec![assignment].into(),
                ..Default::default()
            };
            let request = CreateTopicsRequest {
                topics: vec![topic].into(),
                timeout_ms: 5_000,
                validate_only: false,
            };
            let answer = client.call(&request).await.expect("an answer");
            let response: CreateTopicsResponse<'_> = answer.decode().expect("decodes");
            let result = response.topics.first().expect("a result");
            assert_eq!(result.error_code, expected, "{node}: {:?}", result.error_message);
        }
    });
}

/// The configuration looks no names up, and sockets of one process share ports.
#[test]
fn one_address_under_two_names_is_refused() {
    let world = world(623);
    world.name_host(BROKER, "broker");
    let twice = format!("ringtail.native.listeners=broker:9094,{}:9094", host_address(BROKER));
    let refused = start_with(&world, &[&twice]);
    assert!(world.run_until(|| refused.ended.borrow().len() == 2), "it ends");
    let ended = refused.ended.borrow();
    let told = ended.iter().any(|end| matches!(end, Err(ServeError::Listen { .. })));
    assert!(told, "{ended:?}");
}
