//! Every length of every request, lying in every way: closed connections, and nothing else.
//!
//! The requests are written here by hand, so that each length is known by its place. Every one is sent as it should be first.

use bytes::{BufMut, Bytes, BytesMut};

use super::connections::{GROWTH_BYTES_MAX, assert_bounded};
use super::frames::header_of;
use super::honest::{Honest, batch};
use super::samples::offered;
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, Peer, only_of_ringtail, peer};
use crate::harness::connection::{Answer, Connection, set_length};

/// A part of a request's body.
#[derive(Clone)]
enum Part {
    Raw(Vec<u8>),
    /// Only in the flexible form.
    Added(Vec<u8>),
    /// How many elements follow.
    Count(i32),
    Text(&'static str),
    NullText,
    Blob(Bytes),
    /// The tagged fields of a structure (none), in the flexible form.
    Tags,
}

use Part::*;

/// What a length says instead of the truth.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Null where there is none, or less.
    Negative(i32),
    /// More than the frame has left.
    Beyond(i32),
    /// A varint of more than 32 bits, or one that does not end.
    Overlong,
}

const LIES: [Lie; 8] = [
    Lie::Negative(-1),
    Lie::Negative(-2),
    Lie::Negative(i32::MIN),
    Lie::Beyond(i32::MAX),
    Lie::Beyond(i32::MAX - 1),
    Lie::Beyond(0x00ff_ffff),
    Lie::Beyond(0x7fff),
    Lie::Overlong,
];

struct Request {
    key: i16,
    /// The last version in the old form, and the first one in the flexible form.
    classic: Option<i16>,
    flexible: i16,
    body: Vec<Part>,
}

fn int(value: i32) -> Part {
    Raw(value.to_be_bytes().to_vec())
}

fn long(value: i64) -> Part {
    Raw(value.to_be_bytes().to_vec())
}

fn short(value: i16) -> Part {
    Raw(value.to_be_bytes().to_vec())
}

fn byte(value: u8) -> Part {
    Raw(vec![value])
}

fn request(key: i16, classic: Option<i16>, flexible: i16, body: Vec<Part>) -> Request {
    Request {
        key,
        classic,
        flexible,
        body,
    }
}

/// One topic with one partition, whose fields follow its index.
fn partition_of(mut fields: Vec<Part>) -> Vec<Part> {
    let mut whole = vec![Count(1), Text("victim"), Count(1), int(0)];
    whole.append(&mut fields);
    whole.extend([Tags, Tags]);
    whole
}

fn joined(parts: [Vec<Part>; 3]) -> Vec<Part> {
    parts.concat()
}

/// A request of every key that is served, in the order of the keys.
fn requests() -> Vec<Request> {
    let mut requests = requests_of_records();
    requests.extend(requests_of_topics());
    requests
}

fn requests_of_records() -> Vec<Request> {
    vec![
        request(
            0,
            Some(8),
            9,
            joined([
                vec![NullText, short(-1), int(1000)],
                partition_of(vec![Blob(batch(&[b"one"]))]),
                vec![Tags],
            ]),
        ),
        request(
            1,
            Some(11),
            12,
            joined([
                vec![int(-1), int(0), int(0), int(1 << 20), byte(0), int(0), int(-1)],
                partition_of(vec![int(-1), long(0), Added(vec![0xff; 4]), long(-1), int(1 << 20)]),
                vec![Count(1), Text("victim"), Count(1), int(0), Tags, Text("rack"), Tags],
            ]),
        ),
        request(
            2,
            Some(5),
            6,
            joined([
                vec![int(-1), byte(0)],
                partition_of(vec![int(-1), long(-1)]),
                vec![Tags],
            ]),
        ),
        request(
            3,
            Some(8),
            9,
            vec![Count(1), Text("victim"), Tags, byte(1), byte(0), byte(0), Tags],
        ),
        request(18, None, 3, vec![Text("tests"), Text("1"), Tags]),
    ]
}

fn requests_of_topics() -> Vec<Request> {
    vec![
        request(
            19,
            Some(4),
            5,
            vec![
                Count(1),
                Text("checked"),
                int(-1),
                short(-1),
                Count(1),
                int(0),
                Count(1),
                int(1),
                Tags,
                Count(1),
                Text("retention.ms"),
                Text("1000"),
                Tags,
                Tags,
                int(1000),
                byte(1),
                Tags,
            ],
        ),
        request(20, Some(3), 4, vec![Count(1), Text("no-such-topic"), int(1000), Tags]),
        request(22, Some(1), 2, vec![NullText, int(1000), Tags]),
        request(
            23,
            Some(3),
            4,
            joined([vec![int(-1)], partition_of(vec![int(-1), int(0)]), vec![Tags]]),
        ),
        request(
            32,
            Some(3),
            4,
            vec![
                Count(1),
                byte(2),
                Text("victim"),
                Count(1),
                Text("retention.ms"),
                Tags,
                byte(0),
                byte(0),
                Tags,
            ],
        ),
        request(
            37,
            Some(1),
            2,
            vec![
                Count(1),
                Text("victim"),
                int(3),
                Count(1),
                Count(1),
                int(1),
                Tags,
                Tags,
                int(1000),
                byte(1),
                Tags,
            ],
        ),
        request(60, None, 0, vec![byte(0), Tags]),
        request(
            75,
            None,
            0,
            vec![Count(1), Text("victim"), Tags, int(10), byte(0xff), Tags],
        ),
    ]
}

/// Lengths that may be null: there a negative one is the truth. (Positions in a request's parts.)
fn may_be_null(request: &Request, index: usize) -> bool {
    match (request.key, &request.body[index]) {
        // A transactional id; records; the topics of Metadata; a config's value; a filter of names; assignments.
        (_, NullText) | (0, Blob(_)) => true,
        (3, Count(_)) => index == 0,
        (3, Text(_)) => false,
        (19, Text(text)) => *text == "1000",
        (32, Count(_)) => index == 3,
        (37, Count(_)) => index == 3,
        _ => false,
    }
}

fn put_varint(frame: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        frame.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    frame.put_u8(value as u8);
}

/// Puts a length; a lie instead of it where there is one.
fn put(frame: &mut BytesMut, flexible: bool, is_text: bool, length: i32, lie: Option<Lie>) {
    let told = match lie {
        None => length,
        Some(Lie::Negative(length) | Lie::Beyond(length)) => length,
        Some(Lie::Overlong) => {
            return frame.put_slice(&[0xff; 6]);
        }
    };
    match (flexible, is_text) {
        (true, _) => put_varint(frame, told.wrapping_add(1) as u32),
        (false, true) => frame.put_i16(told.clamp(i16::MIN.into(), i16::MAX.into()) as i16),
        (false, false) => frame.put_i32(told),
    }
}

/// The request as a frame; the part at `lying` has its length replaced.
fn frame(request: &Request, flexible: bool, lying: Option<(usize, Lie)>) -> BytesMut {
    let version = if flexible {
        request.flexible
    } else {
        request.classic.expect("there is one")
    };
    let mut frame = BytesMut::from(&header_of(request.key, version, flexible)[..]);
    for (index, part) in request.body.iter().enumerate() {
        let lie = lying.filter(|(at, _)| *at == index).map(|(_, lie)| lie);
        match part {
            Raw(bytes) => frame.put_slice(bytes),
            Added(bytes) if flexible => frame.put_slice(bytes),
            Count(count) => put(&mut frame, flexible, false, *count, lie),
            NullText => put(&mut frame, flexible, true, -1, lie),
            Text(text) => {
                put(&mut frame, flexible, true, text.len() as i32, lie);
                frame.put_slice(text.as_bytes());
            }
            Blob(bytes) => {
                put(&mut frame, flexible, false, bytes.len() as i32, lie);
                frame.put_slice(bytes);
            }
            Tags if flexible => match lie {
                None => frame.put_u8(0),
                // So many tags, or one that is so long.
                Some(Lie::Negative(count)) => put_varint(&mut frame, count as u32),
                Some(Lie::Beyond(bytes)) => {
                    frame.put_slice(&[1, 99]);
                    put_varint(&mut frame, bytes as u32);
                }
                Some(Lie::Overlong) => frame.put_slice(&[0xff; 6]),
            },
            Added(_) | Tags => {}
        }
    }
    set_length(&mut frame);
    frame
}

/// Whether this lie at this part makes the frame malformed in this form.
fn is_malformed(request: &Request, index: usize, flexible: bool, lie: Lie) -> bool {
    let part = &request.body[index];
    let is_length = !matches!(part, Raw(_) | Added(_) | Tags);
    match lie {
        Lie::Overlong => flexible && (is_length || matches!(part, Tags)),
        Lie::Beyond(_) => is_length || (flexible && matches!(part, Tags)),
        // In compact form null is 0 and nothing is below it: -2 becomes a length beyond all frames. (Kafka takes it for null, and
        // for no tags.)
        Lie::Negative(-1) => is_length && !may_be_null(request, index),
        Lie::Negative(_) if flexible => {
            let is_null = matches!(part, Tags) || may_be_null(request, index);
            (is_length || matches!(part, Tags)) && !(peer() == Peer::Kafka && is_null)
        }
        Lie::Negative(_) => is_length && !may_be_null(request, index),
    }
}

#[test]
fn negative_and_lying_lengths_of_every_request() {
    let mut broker = Broker::start("bad-lying-lengths");
    create_topic(&broker, "victim", 2, &[]);
    let mut honest = Honest::new(&broker);
    let requests = requests();
    let keys: Vec<i16> = requests.iter().map(|request| request.key).collect();
    if only_of_ringtail("the requests are those that it serves") {
        let served: Vec<i16> = offered(&broker.address()).into_keys().collect();
        assert_eq!(keys, served, "every key that is served has a request here");
    }
    let before = broker.resident_bytes();
    let mut lie_count = 0;
    for request in &requests {
        for flexible in [false, true] {
            if !flexible && request.classic.is_none() {
                continue;
            }
            let key = request.key;
            let mut connection = Connection::open(&broker.address());
            connection.send(&frame(request, flexible, None));
            assert!(
                matches!(connection.answer(), Answer::Frame(_)),
                "key {key}, flexible {flexible}: the true request is answered"
            );
            let parts = (0..request.body.len()).flat_map(|index| LIES.map(|lie| (index, lie)));
            for (index, lie) in parts.filter(|&(index, lie)| is_malformed(request, index, flexible, lie)) {
                let mut connection = Connection::open(&broker.address());
                connection.send(&frame(request, flexible, Some((index, lie))));
                assert_eq!(
                    connection.answer(),
                    Answer::Closed,
                    "key {key}, flexible {flexible}, part {index}: {lie:?}"
                );
                lie_count += 1;
            }
            broker.assert_alive();
            honest.is_served();
        }
    }
    println!("{lie_count} lies");
    assert!(lie_count > 700, "{lie_count} lies");
    assert_bounded(&broker, before, GROWTH_BYTES_MAX);
}
