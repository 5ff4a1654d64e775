//! Spoilt frames: lengths, keys, versions, every prefix, every field.

use std::time::Duration;

use bytes::Buf;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::protocol::Decodable;

use super::honest::Honest;
use super::samples::{Sample, samples};
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::connection::{Answer, Connection, set_length};
use crate::harness::random::Random;

/// How long a spoilt request may go without an answer before the test goes on (a spoilt `max_wait_ms` makes a broker wait).
const MOMENT: Duration = Duration::from_millis(150);

/// Ringtail's memory may not follow what spoilt requests say.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// A frame with nothing but the beginning of a request header.
fn header(key: i16, version: i16) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7_i32.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes());
    set_length(&mut frame);
    frame
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let broker = Broker::start("bad-api-versions");
    for version in [5, 99, i16::MAX] {
        let mut connection = Connection::open(&broker.address());
        let mut request = header(18, version);
        // The header ends in tagged fields (none) from version 3 on; behind it is a body that nobody knows, and the broker must not
        // look at it.
        request.push(0);
        request.extend([0xee; 9]);
        set_length(&mut request);
        connection.send(&request);
        let Answer::Frame(mut answer) = connection.answer() else {
            panic!("version {version} is not answered")
        };
        assert_eq!(answer.get_i32(), 7);
        let response = ApiVersionsResponse::decode(&mut answer, 0).expect("the body is of version 0");
        assert_eq!(response.error_code, 35, "UNSUPPORTED_VERSION");
        assert!(!answer.has_remaining(), "nothing behind the body");
        let own = response
            .api_keys
            .iter()
            .find(|api| api.api_key == 18)
            .expect("the answer tells the versions");
        assert_eq!(own.min_version, 0);
        // The client asks again on the same connection, in a version it was told.
        connection.send(&header(18, 0));
        assert!(matches!(connection.answer(), Answer::Frame(_)));
    }
}

#[test]
fn other_unknown_keys_and_versions_close_the_connection() {
    let broker = Broker::start("bad-keys");
    let mut honest = Honest::new(&broker);
    for (key, version) in [
        (999, 0),
        (-1, 0),
        (i16::MAX, 0),
        (0, 99),
        (0, 2),
        (3, 99),
        (3, -1),
        (1, 0),
        (2, i16::MAX),
    ] {
        let mut connection = Connection::open(&broker.address());
        let mut request = header(key, version);
        request.extend([0; 16]);
        set_length(&mut request);
        connection.send(&request);
        assert_eq!(connection.answer(), Answer::Closed, "key {key}, version {version}");
        honest.is_served();
    }
}

#[test]
fn impossible_lengths_close_the_connection() {
    let broker = Broker::start("bad-lengths");
    let mut honest = Honest::new(&broker);
    // Zero to nine bytes are less than a header; the last ones are more than socket.request.max.bytes.
    for length in [0, 1, 4, 7, -1, i32::MIN, i32::MAX, 200 << 20, (100 << 20) + 1] {
        let mut connection = Connection::open(&broker.address());
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend([0; 7]);
        connection.send(&bytes);
        assert_eq!(connection.answer(), Answer::Closed, "length {length}");
        honest.is_served();
    }
}

/// Sends spoilt frames one after the other, on a new connection whenever the old one was closed or stays silent.
struct Sender {
    address: String,
    connection: Option<Connection>,
    answered_count: u64,
    closed_count: u64,
    silent_count: u64,
}

impl Sender {
    fn new(broker: &Broker) -> Sender {
        Sender {
            address: broker.address(),
            connection: None,
            answered_count: 0,
            closed_count: 0,
            silent_count: 0,
        }
    }

    fn send(&mut self, frame: &[u8]) {
        let mut connection = self
            .connection
            .take()
            .unwrap_or_else(|| Connection::open(&self.address));
        connection.send(frame);
        match connection.answer_within(MOMENT) {
            Answer::Frame(_) => {
                self.answered_count += 1;
                self.connection = Some(connection);
            }
            Answer::Closed => self.closed_count += 1,
            Answer::Silence => self.silent_count += 1,
        }
    }

    fn report(&self, what: &str) {
        let Sender {
            answered_count,
            closed_count,
            silent_count,
            ..
        } = self;
        println!("{what}: {answered_count} answered, {closed_count} closed, {silent_count} silent");
    }
}

/// Runs `spoil` over all samples; an honest client is served all the time, and memory does not follow.
fn spoilt(test: &str, mut spoil: impl FnMut(&Sample, &mut Sender)) {
    let mut broker = Broker::start(test);
    create_topic(&broker, "victim", 2, &[]);
    let mut honest = Honest::new(&broker);
    let samples = samples(&broker.address(), "victim");
    let before = broker.resident_bytes();
    let mut sender = Sender::new(&broker);
    for sample in samples.iter().filter(|sample| sample.is_edge) {
        spoil(sample, &mut sender);
        broker.assert_alive();
        honest.is_served();
    }
    sender.report(test);
    let after = broker.resident_bytes();
    println!(
        "{test}: resident {} KiB before, {} KiB after",
        before / 1024,
        after / 1024
    );
    if only_of_ringtail("memory is bounded") {
        assert!(
            after < before + GROWTH_BYTES_MAX,
            "resident memory grew from {before} to {after} bytes"
        );
    }
}

/// The samples themselves are right: in every version both sides know the answer comes, and ends where it should.
#[test]
fn every_offered_version_is_answered() {
    let broker = Broker::start("bad-nothing");
    create_topic(&broker, "victim", 2, &[]);
    let samples = samples(&broker.address(), "victim");
    let mut connection = Connection::open(&broker.address());
    for Sample {
        key,
        version,
        frame,
        decode,
        ..
    } in &samples
    {
        connection.send(frame);
        let Answer::Frame(answer) = connection.answer() else {
            panic!("key {key} version {version} is not answered")
        };
        decode(answer, *version).unwrap_or_else(|error| panic!("key {key} version {version}: {error}"));
    }
    println!("{} requests answered", samples.len());
}

#[test]
fn every_prefix_of_every_request() {
    spoilt("bad-prefixes", |sample, sender| {
        for length in 4..sample.frame.len() {
            let mut prefix = sample.frame[..length].to_vec();
            set_length(&mut prefix);
            sender.send(&prefix);
        }
    });
}

#[test]
fn a_frame_cut_off_by_the_end_of_its_connection() {
    spoilt("bad-cuts", |sample, sender| {
        for length in (1..sample.frame.len()).step_by(5) {
            let mut connection = Connection::open(&sender.address);
            connection.send(&sample.frame[..length]);
        }
    });
}

#[test]
fn lies_in_every_field() {
    spoilt("bad-fields", |sample, sender| {
        for lie in [0x7fff_ffff_u32, 0xffff_ffff, 0x8000_0000, 0x00ff_ffff] {
            // From the request's client id on: keys and versions have their own test.
            for position in 12..sample.frame.len() - 3 {
                let mut frame = sample.frame.to_vec();
                frame[position..position + 4].copy_from_slice(&lie.to_be_bytes());
                sender.send(&frame);
            }
        }
    });
}

#[test]
fn random_bytes_in_random_places() {
    let mut random = Random::seeded("bad-random");
    spoilt("bad-random", |sample, sender| {
        for _ in 0..150 {
            let mut frame = sample.frame.to_vec();
            for _ in 0..random.between(1, 12) {
                let position = random.between(12, frame.len() as u64) as usize;
                frame[position] = random.u64() as u8;
            }
            frame.truncate(random.between(12, frame.len() as u64 + 1) as usize);
            frame.resize(frame.len() + random.between(0, 9) as usize, random.u64() as u8);
            set_length(&mut frame);
            sender.send(&frame);
        }
    });
}
