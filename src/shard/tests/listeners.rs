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

/// As many connections as there are to one shard's listener, the other serves none of them.
#[test]
fn a_connection_to_a_shards_listener_stays_there() {
    let world = world(621);
    let started = start_with(&world, &["ringtail.shard.listeners=per-shard"]);
    world.block_on(CLIENT, |env| async move {
        let first = connect(&env).await;
        create(&first).await;
        let own = SocketAddr::new(host_address(BROKER), 9094).to_string();
        let mut open = Vec::new();
        for _ in 0..5 {
            open.push(
                Connection::open(&env, &own, ConnectionOptions::default())
                    .await
                    .expect("it listens"),
            );
        }
        let all = (0..4).map(|index| (index, "v")).collect::<Vec<_>>();
        for connection in &open {
            // Partitions of other shards are reached all the same.
            assert!(connection.ask(&produce(-1, &all), PRODUCE).await.is_ok());
        }
        assert_eq!(
            fetched(&first, fetch(&[(0, 0), (3, 0)], 0))
                .await
                .iter()
                .map(|f| f.2)
                .collect::<Vec<_>>(),
            [5, 5]
        );
    });
    started.stop(&world);
}
