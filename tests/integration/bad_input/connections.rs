//! Clients that crawl, that promise much and send little, that never read, and crowds of them.

use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{CreateTopicsRequest, DescribeConfigsRequest, TopicName};

use super::honest::{Honest, batch, fetch_request, produce, topic_name};
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::connection::{Answer, Connection, frame};
use crate::harness::wait_for;

/// What such clients together may cost Ringtail beyond what they really sent.
pub const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// # Panics
/// If Ringtail's memory grew by more than `limit`.
pub fn assert_bounded(broker: &Broker, before: u64, limit: u64) {
    let after = broker.resident_bytes();
    println!("resident {} KiB before, {} KiB now", before / 1024, after / 1024);
    if only_of_ringtail("memory is bounded") {
        assert!(
            after < before + limit,
            "resident memory grew from {before} to {after} bytes"
        );
    }
}

#[test]
fn one_byte_a_second() {
    let broker = Broker::start("bad-slow");
    let mut honest = Honest::new(&broker);
    let before = broker.resident_bytes();
    let mut slow = Connection::open(&broker.address());
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff];
    for byte in request {
        assert!(slow.send(&[byte]), "a slow client is not thrown out");
        let second = Instant::now();
        while second.elapsed() < Duration::from_secs(1) {
            honest.is_served();
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let Answer::Frame(answer) = slow.answer() else {
        panic!("the slow client gets its answer")
    };
    assert_eq!(answer[..6], [0, 0, 0, 9, 0, 0]);
    assert_bounded(&broker, before, GROWTH_BYTES_MAX);
}

/// 64 clients announce frames of 90 MB each and send 200 KB of them: the announcement must cost nothing. (Apache Kafka pays it in full:
/// with a heap of 1 GB it stops serving anybody.)
#[test]
fn large_frames_announced_and_not_sent() {
    if !only_of_ringtail("announced frames cost nothing") {
        return;
    }
    let broker = Broker::start("bad-announced");
    let mut honest = Honest::new(&broker);
    let before = broker.resident_bytes();
    let mut head = Vec::from((90_i32 << 20).to_be_bytes());
    head.extend([0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff]);
    let body = vec![0; 200_000];
    let crowd: Vec<Connection> = (0..64)
        .map(|_| {
            let mut connection = Connection::open(&broker.address());
            assert!(
                connection.send(&head) && connection.send(&body),
                "what was announced may come"
            );
            connection
        })
        .collect();
    for _ in 0..20 {
        honest.is_served();
    }
    assert_bounded(&broker, before, 64 * 4 * 200_000 + GROWTH_BYTES_MAX);
    drop(crowd);
    honest.is_served();
}

/// Asks for far more than sockets hold, and never reads an answer.
#[test]
fn a_client_that_never_reads() {
    let mut broker = Broker::start("bad-never-reads");
    create_topic(&broker, "large", 1, &[]);
    let mut honest = Honest::new(&broker);
    let mut connection = Connection::open(&broker.address());
    let value = vec![7; 900_000];
    for offset in 0..16 {
        assert_eq!(produce(&mut connection, "large", batch(&[&value])), (0, offset));
    }
    let before = broker.resident_bytes();
    let request = frame(1, 11, &fetch_request("large", 0, 14 << 20));
    let mut greedy: Vec<Connection> = (0..4).map(|_| Connection::open(&broker.address())).collect();
    for connection in &mut greedy {
        connection.write_within(Duration::from_millis(500));
        // 2000 times 14 MB, or until the broker takes no more.
        let taken = (0..2000).take_while(|_| connection.send(&request)).count();
        println!("{taken} requests taken");
        honest.is_served();
    }
    assert_bounded(&broker, before, 4 * 16 * 900_000 + GROWTH_BYTES_MAX);
    broker.assert_alive();
    drop(greedy);
    honest.is_served();
}

/// Requests of 6 KB whose answers have more than 1 MB, and nobody reads a byte of them: 1 GB if each were made.
#[test]
fn large_answers_that_nobody_reads() {
    if !only_of_ringtail("answers are counted before they are kept") {
        return;
    }
    let mut broker = Broker::start("bad-answers");
    let mut honest = Honest::new(&broker);
    let names: Vec<_> = (0..200).map(|index| topic_name(&format!("a-topic-{index}"))).collect();
    let topic = |name: &TopicName| {
        CreatableTopic::default()
            .with_name(name.clone())
            .with_num_partitions(1)
            .with_replication_factor(1)
    };
    let create = CreateTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(names.iter().map(topic).collect());
    let created = Connection::open(&broker.address()).call(5, &create);
    assert!(created.topics.iter().all(|topic| topic.error_code == 0));
    let resource = |name: &TopicName| {
        DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(name.0.clone())
            .with_configuration_keys(None)
    };
    let request = DescribeConfigsRequest::default()
        .with_include_synonyms(true)
        .with_include_documentation(true)
        .with_resources(names.iter().map(resource).collect());
    let request = frame(1, 4, &request).repeat(4);
    let before = broker.resident_bytes();
    let crowd: Vec<Connection> = (0..800)
        .map(|_| {
            let mut connection = Connection::open(&broker.address());
            connection.write_within(Duration::from_millis(500));
            connection.send(&request);
            connection
        })
        .collect();
    for _ in 0..20 {
        honest.is_served();
    }
    // 48 MiB of answers for each of the shards.
    let shards = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    assert_bounded(&broker, before, ((shards * 48) << 20) + GROWTH_BYTES_MAX);
    broker.assert_alive();
    drop(crowd);
    honest.is_served();
}

/// True if the broker answers on a new connection.
fn is_let_in(broker: &Broker) -> bool {
    let mut connection = Connection::open(&broker.address());
    connection.send(&frame(1, 0, &kafka_protocol::messages::ApiVersionsRequest::default()));
    matches!(connection.answer(), Answer::Frame(_))
}

#[test]
fn connections_of_an_address_have_a_limit_and_it_a_limit_of_its_own() {
    if !only_of_ringtail("the limits of connections hold at once") {
        return;
    }
    let own = ("max.connections.per.ip.overrides", "10.0.0.1:1,127.0.0.1:5");
    let all = ("max.connections", "4");
    for (settings, limit) in [(vec![("max.connections.per.ip", "3"), own], 5), (vec![all], 4)] {
        let broker = Broker::start_with("bad-limits", &settings);
        // What came before may still be counted.
        wait_for("room for all", || is_let_in(&broker).then_some(()));
        let mut held: Vec<Connection> = Vec::new();
        wait_for("as many connections as are allowed", || {
            let mut connection = Connection::open(&broker.address());
            connection.send(&frame(1, 0, &kafka_protocol::messages::ApiVersionsRequest::default()));
            if matches!(connection.answer(), Answer::Frame(_)) {
                held.push(connection);
            }
            (held.len() == limit).then_some(())
        });
        assert!(!is_let_in(&broker), "one more than {limit}");
        held.pop();
        wait_for("the place of one that left", || is_let_in(&broker).then_some(()));
    }
}

#[test]
fn a_crowd_that_only_connects() {
    let broker = Broker::start("bad-crowd");
    let mut honest = Honest::new(&broker);
    let before = broker.resident_bytes();
    let crowd: Vec<Connection> = (0..400).map(|_| Connection::open(&broker.address())).collect();
    for _ in 0..20 {
        honest.is_served();
    }
    assert_bounded(&broker, before, GROWTH_BYTES_MAX);
    drop(crowd);
    for _ in 0..400 {
        drop(Connection::open(&broker.address()));
    }
    honest.is_served();
}
