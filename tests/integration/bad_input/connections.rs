//! Clients that crawl, that promise much and send little, that never read, and crowds of them.

use std::time::{Duration, Instant};

use super::honest::{Honest, batch, fetch_request, produce};
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::connection::{Answer, Connection, frame};

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
