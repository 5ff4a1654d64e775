//! Spoilt frames: lengths, keys, versions, every prefix, every field.

use std::time::Duration;

use bytes::Buf;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::protocol::Decodable;

use super::connections::{GROWTH_BYTES_MAX, assert_bounded};
use super::honest::Honest;
use super::samples::{Sample, samples};
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, Peer, peer};
use crate::harness::connection::{Answer, Connection, set_length};
use crate::harness::random::Random;

/// How long a spoilt request may go without an answer before the test goes on (a spoilt `max_wait_ms` makes a broker wait).
const MOMENT: Duration = Duration::from_millis(150);

/// The correlation id of requests made here; those of samples have another.
const NEXT_REQUEST: i32 = 7;

/// A frame with nothing but the beginning of a request header.
fn header(key: i16, version: i16) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(NEXT_REQUEST.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes());
    set_length(&mut frame);
    frame
}

/// The whole header of a request in the old or the flexible form; its length is to be set when the body is there.
pub fn header_of(key: i16, version: i16, flexible: bool) -> Vec<u8> {
    let mut frame = header(key, version);
    if flexible {
        frame.push(0);
    }
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Answered,
    Closed,
    Silent,
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

    /// What the broker does with `frame`, which is `sample`'s but for the body: a whole answer to this request in its version, a
    /// closed connection, or silence where the request now asks for that.
    ///
    /// # Panics
    /// If it is none of these.
    fn send(&mut self, sample: &Sample, frame: &[u8]) -> Verdict {
        let mut connection = self
            .connection
            .take()
            .unwrap_or_else(|| Connection::open(&self.address));
        connection.send(frame);
        // Two kinds of request may ask for silence: acks=0, and a spoilt max_wait_ms.
        let answer = match sample.key {
            0 | 1 => connection.answer_within(MOMENT),
            _ => connection.answer(),
        };
        let answer = match (sample.key, answer) {
            (0, Answer::Silence) => {
                // Then the next request on the connection is answered, or this one is, late.
                connection.send(&header(18, 0));
                connection.answer()
            }
            (_, answer) => answer,
        };
        let (key, version) = (sample.key, sample.version);
        match answer {
            Answer::Frame(answer) if key == 0 && answer[..4] == NEXT_REQUEST.to_be_bytes() => {
                self.silent_count += 1;
                Verdict::Silent
            }
            Answer::Frame(answer) => {
                assert_eq!(
                    answer[..4],
                    sample.frame[8..12],
                    "key {key}, version {version}: another request's answer"
                );
                (sample.decode)(answer, version)
                    .unwrap_or_else(|error| panic!("key {key}, version {version}: {error} in the answer to {frame:?}"));
                self.answered_count += 1;
                // What a connection for Produce may still have to say is not for the next request.
                self.connection = (key != 0).then_some(connection);
                Verdict::Answered
            }
            Answer::Closed => {
                self.closed_count += 1;
                Verdict::Closed
            }
            Answer::Silence => {
                // (Kafka never answers a Produce whose records are null.)
                let asked_for = key == 1 || (peer() == Peer::Kafka && key == 0);
                assert!(asked_for, "key {key}, version {version}: no answer to {frame:?}");
                self.silent_count += 1;
                Verdict::Silent
            }
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
    assert_bounded(&broker, before, GROWTH_BYTES_MAX);
}

#[test]
fn every_prefix_of_every_request() {
    spoilt("bad-prefixes", |sample, sender| {
        for length in 4..sample.frame.len() {
            let mut prefix = sample.frame[..length].to_vec();
            set_length(&mut prefix);
            let verdict = sender.send(sample, &prefix);
            assert_eq!(
                verdict,
                Verdict::Closed,
                "key {}, version {}: {length} bytes of {}",
                sample.key,
                sample.version,
                sample.frame.len()
            );
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
                sender.send(sample, &frame);
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
            sender.send(sample, &frame);
        }
    });
}
