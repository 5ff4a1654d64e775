//! The native protocol against the broker: the client library in it, and what a client of no library sends.

use bytes::{Buf, BufMut, BytesMut};

use super::*;
use crate::client::{
    Acks, Admin, Client, ClientOptions, Fetched, NewRecord, OffsetSpec, Producer, ProducerOptions, Reader,
    ReaderOptions, StartAt,
};
use crate::wire::Protocol;
use crate::wire::batch::Codec;
use crate::wire::kafka::ErrorCode;
use crate::wire::native::{Builder, Parts, begin_request, fb, read_answer};

const NATIVE: &str = "ringtail.native.listeners=:9094";

fn native_address() -> String {
    SocketAddr::new(host_address(BROKER), 9094).to_string()
}

fn client(env: &SimEnv) -> Client<SimEnv> {
    let options = ClientOptions {
        protocol: Protocol::Native,
        bootstrap_servers: vec![native_address()],
        allow_auto_create: true,
        ..ClientOptions::default()
    };
    Client::new(env.clone(), options)
}

async fn send(producer: &Producer<SimEnv>, partition: i32, value: &str) -> Option<i64> {
    let record = NewRecord {
        value: Some(value.as_bytes()),
        ..NewRecord::default()
    };
    producer
        .send("t", Some(partition), &record)
        .await
        .expect("acknowledged")
        .offset
}

/// Reads until `count` records came.
async fn read(client: &Client<SimEnv>, partitions: &[(&str, i32, StartAt)], count: usize) -> Vec<(i32, i64, String)> {
    let reader = Reader::new(client.clone(), partitions, ReaderOptions::default());
    let mut records = Vec::new();
    while records.len() < count {
        let found: Option<Fetched> = reader.poll(1_000).await.expect("no error");
        let Some(found) = found else { continue };
        for record in found.records().expect("whole batches") {
            let value = String::from_utf8(record.value.expect("a value")).expect("text");
            records.push((found.partition, record.offset, value));
        }
    }
    records.sort();
    records
}

#[test]
fn what_is_produced_natively_is_read_in_both_protocols() {
    for seed in 0..4 {
        let world = world(600 + seed);
        start_with(&world, &[NATIVE]);
        world.block_on(CLIENT, |env| async move {
            let native = client(&env);
            let mut expected = Vec::new();
            let rounds = [
                (Acks::All, Codec::Lz4, Some(0)),
                (Acks::Leader, Codec::None, Some(1)),
                (Acks::None, Codec::None, None),
            ];
            for (round, (acks, codec, known)) in rounds.into_iter().enumerate() {
                let options = ProducerOptions {
                    acks,
                    codec,
                    idempotent: acks == Acks::All,
                    ..ProducerOptions::default()
                };
                let producer = Producer::new(native.clone(), options).expect("options that fit");
                for partition in 0..4 {
                    let value = format!("{acks:?} {partition}");
                    assert_eq!(send(&producer, partition, &value).await, known);
                    expected.push((partition, round as i64, value));
                }
            }
            expected.sort();
            let all: Vec<_> = (0..4).map(|partition| ("t", partition, StartAt::Offset(0))).collect();
            assert_eq!(read(&native, &all, 12).await, expected);
            let kafka = Client::new(
                env.clone(),
                ClientOptions {
                    bootstrap_servers: vec![address()],
                    ..ClientOptions::default()
                },
            );
            assert_eq!(read(&kafka, &all, 12).await, expected);
        });
    }
}

#[test]
fn offsets_are_found_by_place_and_by_time() {
    let world = world(610);
    start_with(&world, &[NATIVE]);
    world.block_on(CLIENT, |env| async move {
        let native = client(&env);
        let producer = Producer::new(native.clone(), ProducerOptions::default()).expect("options that fit");
        let base = env.wall_ms();
        for step in 0..5 {
            let record = NewRecord {
                value: Some(b"v"),
                timestamp_ms: Some(base + 10 * step),
                ..NewRecord::default()
            };
            producer.send("t", Some(1), &record).await.expect("acknowledged");
        }
        let admin = Admin::new(native.clone());
        for (spec, expected) in [
            (OffsetSpec::Earliest, Some(0)),
            (OffsetSpec::Latest, Some(5)),
            (OffsetSpec::MaxTimestamp, Some(4)),
            (OffsetSpec::AtTime(base + 11), Some(2)),
            (OffsetSpec::AtTime(base + 41), None),
        ] {
            let found = admin.list_offsets("t", &[0, 1], spec).await.expect("found");
            assert_eq!(found[&1].offset, expected, "{spec:?}");
        }
        let missing = admin.list_offsets("t", &[9], OffsetSpec::Latest);
        assert!(missing.await.is_err());
        // Administration is Kafka's.
        let refused = admin.delete_topic("t").await.expect_err("not served here");
        assert!(matches!(refused, ClientError::NotNative { .. }), "{refused}");
    });
}

/// A connection of no library.
struct Raw {
    env: SimEnv,
    stream: <SimEnv as Env>::Stream,
    buffer: BytesMut,
}

impl Raw {
    async fn open(env: &SimEnv) -> Self {
        let stream = env.connect(native_address().parse().expect("an address")).await;
        Self {
            env: env.clone(),
            stream: stream.expect("the broker listens"),
            buffer: BytesMut::new(),
        }
    }

    async fn sends(&self, bytes: Bytes) {
        crate::io::send_all(&self.env, &self.stream, vec![bytes])
            .await
            .expect("sent");
    }

    /// The next answer; none when the broker has ended the connection.
    async fn answer(&mut self) -> Option<Parts> {
        loop {
            let length = self
                .buffer
                .first_chunk()
                .map(|length| u32::from_le_bytes(*length) as usize);
            if let Some(bytes) = length.filter(|bytes| self.buffer.len() >= 4 + bytes) {
                self.buffer.advance(4);
                return Some(Parts::of(self.buffer.split_to(bytes).freeze()).expect("a frame"));
            }
            self.buffer.reserve(4096);
            let (received, back) = self.env.receive(&self.stream, std::mem::take(&mut self.buffer)).await;
            self.buffer = back;
            if received.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

fn produce_frame(id: u64, acks: i8, topic: TopicId, batches: &[(i32, Bytes)], cut_bytes: usize) -> Bytes {
    let mut builder = Builder::new();
    let append = |(index, batch): &(i32, Bytes)| fb::Append::new(&topic.into(), *index, batch.len() as u32);
    let appends: Vec<_> = batches.iter().map(append).collect();
    let args = fb::ProduceArgs {
        acks,
        timeout_ms: 1000,
        batches: Some(builder.create_vector(&appends)),
    };
    let ask = fb::Produce::create(&mut builder, &args).as_union_value();
    let payload: Vec<u8> = batches.iter().flat_map(|(_, batch)| batch.to_vec()).collect();
    let payload = &payload[..payload.len() - cut_bytes];
    let begin = begin_request(builder, id, fb::Ask::Produce, ask, payload.len()).expect("short");
    [&begin[..], payload].concat().into()
}

/// The same request in a frame whose payload is one byte longer than its header says.
fn with_surplus(frame: &Bytes) -> Bytes {
    let mut longer = frame.to_vec();
    longer.push(0);
    let length = longer.len() as u32 - 4;
    longer[..4].copy_from_slice(&length.to_le_bytes());
    longer.into()
}

/// The id of the topic `t`, made if it is missing.
async fn topic_id(env: &SimEnv) -> TopicId {
    client(env).topic("t").await.expect("made").id
}

#[test]
fn each_batch_has_its_own_result_in_the_order_of_the_request() {
    let world = world(611);
    start_with(&world, &[NATIVE]);
    world.block_on(CLIENT, |env| async move {
        let topic = topic_id(&env).await;
        let mut raw = Raw::open(&env).await;
        let mut broken = batch("broken").to_vec();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        let batches = [
            (2, batch("a")),
            (99, batch("b")),
            (0, broken.into()),
            (1, batch("c")),
            (1, batch("again")),
        ];
        for id in 0..3 {
            raw.sends(produce_frame(id, -1, topic, &batches, 0)).await;
        }
        for id in 0..3 {
            let parts = raw.answer().await.expect("an answer");
            let answer = read_answer(&parts.header).expect("verifies");
            assert_eq!(answer.id(), id);
            let produced = answer.told_as_produced().expect("produced");
            let results: Vec<_> = produced
                .results()
                .iter()
                .map(|r| (r.error(), r.base_offset()))
                .collect();
            let code = |code: ErrorCode| (code.code(), -1);
            let expected = [
                (0, id as i64),
                code(ErrorCode::UnknownTopicOrPartition),
                code(ErrorCode::CorruptMessage),
                (0, id as i64),
                code(ErrorCode::InvalidRequest),
            ];
            assert_eq!(results, expected);
            let refusals = produced.refusals().expect("two are told why");
            assert_eq!(refusals.iter().map(|r| r.index()).collect::<Vec<_>>(), [2, 4]);
        }
    });
}

#[test]
fn what_is_malformed_ends_the_connection_and_what_is_unknown_does_not() {
    let world = world(612);
    start_with(&world, &[NATIVE]);
    world.block_on(CLIENT, |env| async move {
        let topic = topic_id(&env).await;
        let good = produce_frame(7, -1, topic, &[(0, batch("a"))], 0);
        let mut bad_header = good.to_vec();
        bad_header[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut header_beyond = good.to_vec();
        header_beyond[4..8].copy_from_slice(&(1u32 << 20).to_le_bytes());
        let mut too_long = BytesMut::new();
        too_long.put_u32_le(u32::MAX);
        let wrong_acks_none = produce_frame(7, 0, topic, &[(99, batch("a"))], 0);
        for bytes in [
            Bytes::from(bad_header),
            header_beyond.into(),
            too_long.freeze(),
            // The header says more than the payload has.
            produce_frame(7, -1, topic, &[(0, batch("a"))], 1),
            // It says less.
            with_surplus(&good),
            // What cannot be told otherwise.
            wrong_acks_none,
            // Kafka's ApiVersions.
            Bytes::from_static(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff"),
        ] {
            let mut raw = Raw::open(&env).await;
            raw.sends(bytes.clone()).await;
            assert!(raw.answer().await.is_none(), "{bytes:?}");
        }
        let mut raw = Raw::open(&env).await;
        let mut builder = Builder::new();
        let body = fb::NewProducer::create(&mut builder, &fb::NewProducerArgs::default()).as_union_value();
        raw.sends(begin_request(builder, 5, fb::Ask(77), body, 0).expect("short"))
            .await;
        raw.sends(good).await;
        let parts = raw.answer().await.expect("an answer");
        let answer = read_answer(&parts.header).expect("verifies");
        let failure = answer.told_as_failure().expect("a failure");
        assert_eq!(
            (answer.id(), failure.error()),
            (5, ErrorCode::UnsupportedVersion.code())
        );
        let parts = raw.answer().await.expect("an answer");
        let produced = read_answer(&parts.header)
            .expect("verifies")
            .told_as_produced()
            .expect("produced");
        assert_eq!(produced.results().get(0).error(), 0);
    });
}

/// Fetch waits for what comes, and tells what cannot be read.
/// What an answer to a fetch says of each position.
fn fetched<T>(header: &[u8], of: impl Fn(&fb::Part) -> T) -> Vec<T> {
    let told = read_answer(header).expect("verifies");
    let told = told.told_as_fetched().expect("fetched");
    told.parts().iter().map(of).collect()
}

#[test]
fn a_fetch_waits_and_tells_errors_in_their_places() {
    let world = world(613);
    start_with(&world, &[NATIVE]);
    world.block_on(CLIENT, |env| async move {
        let topic = topic_id(&env).await;
        let (mut reader, writer) = (Raw::open(&env).await, Raw::open(&env).await);
        let began = env.now();
        reader.sends(fetch_frame(1, topic, &[(0, 0), (1, 0)], 60_000)).await;
        env.sleep_until(began.plus_ms(500)).await;
        writer
            .sends(produce_frame(1, -1, topic, &[(1, batch("late"))], 0))
            .await;
        let parts = reader.answer().await.expect("an answer");
        assert!((500..30_000).contains(&env.now().ms_since(began)));
        let told = fetched(&parts.header, |p| (p.error(), p.high_watermark(), p.bytes()));
        let bytes = batch("late").len() as u32;
        assert_eq!(told, [(0, 0, 0), (0, 1, bytes)]);
        assert_eq!(parts.payload.len(), bytes as usize);

        reader
            .sends(fetch_frame(2, topic, &[(1, 0), (0, 5), (9, 0)], 60_000))
            .await;
        let parts = reader.answer().await.expect("an answer");
        let told = fetched(&parts.header, |p| (p.error(), p.bytes()));
        let code = |code: ErrorCode| (code.code(), 0);
        let expected = [
            (0, bytes),
            code(ErrorCode::OffsetOutOfRange),
            code(ErrorCode::UnknownTopicOrPartition),
        ];
        assert_eq!(told, expected);

        // An error is told at once, though there is nothing to read.
        let began = env.now();
        reader.sends(fetch_frame(3, topic, &[(0, 0), (9, 0)], 60_000)).await;
        let parts = reader.answer().await.expect("an answer");
        let told = fetched(&parts.header, |p| (p.error(), p.bytes()));
        assert_eq!(told, [(0, 0), code(ErrorCode::UnknownTopicOrPartition)]);
        assert!(env.now().ms_since(began) < 30_000);
    });
}

fn fetch_frame(id: u64, topic: TopicId, positions: &[(i32, i64)], wait_ms: u32) -> Bytes {
    let mut builder = Builder::new();
    let position = |(index, offset): &(i32, i64)| fb::Position::new(&topic.into(), *index, -1, *offset, 1 << 20, -1);
    let positions: Vec<_> = positions.iter().map(position).collect();
    let args = fb::FetchArgs {
        wait_ms,
        bytes_min: 1,
        bytes_max: 1 << 20,
        positions: Some(builder.create_vector(&positions)),
    };
    let body = fb::Fetch::create(&mut builder, &args).as_union_value();
    begin_request(builder, id, fb::Ask::Fetch, body, 0).expect("short")
}

/// Each mention would be read, and waited for, by itself.
#[test]
fn a_partition_named_again_in_a_fetch_is_refused_there() {
    let world = world(614);
    start_with(&world, &[NATIVE]);
    world.block_on(CLIENT, |env| async move {
        let topic = topic_id(&env).await;
        let mut raw = Raw::open(&env).await;
        raw.sends(produce_frame(1, -1, topic, &[(0, batch("a"))], 0)).await;
        raw.answer().await.expect("an answer");
        raw.sends(fetch_frame(2, topic, &[(0, 0), (0, 0), (1, 0), (0, 1)], 60_000))
            .await;
        let parts = raw.answer().await.expect("an answer");
        let told = read_answer(&parts.header)
            .expect("verifies")
            .told_as_fetched()
            .expect("fetched");
        let told: Vec<_> = told.parts().iter().map(|part| (part.error(), part.bytes())).collect();
        let (bytes, again) = (batch("a").len() as u32, (ErrorCode::InvalidRequest.code(), 0));
        assert_eq!(told, [(0, bytes), again, (0, 0), again]);
    });
}

#[test]
fn a_request_that_names_too_much_ends_its_connection_and_refusals_are_told_within_a_frame() {
    let world = world(615);
    start_with(&world, &[NATIVE]);
    world.block_on(CLIENT, |env| async move {
        let topic = topic_id(&env).await;
        let many = |count: usize| vec![(0, Bytes::new()); count];
        let mut raw = Raw::open(&env).await;
        raw.sends(produce_frame(1, -1, topic, &many(100_001), 0)).await;
        assert!(raw.answer().await.is_none());
        let positions: Vec<_> = (0..100_001).map(|index| (index, 0)).collect();
        let mut raw = Raw::open(&env).await;
        raw.sends(fetch_frame(1, topic, &positions, 0)).await;
        assert!(raw.answer().await.is_none());

        let mut raw = Raw::open(&env).await;
        let mut batches = many(99_999);
        batches.push((1, batch("kept")));
        raw.sends(produce_frame(1, -1, topic, &batches, 0)).await;
        let parts = raw.answer().await.expect("an answer");
        let produced = read_answer(&parts.header)
            .expect("verifies")
            .told_as_produced()
            .expect("produced");
        let results = produced.results();
        assert_eq!(results.len(), 100_000);
        assert_eq!((results.get(99_999).error(), results.get(99_999).base_offset()), (0, 0));
        assert!((0..99_999).all(|index| results.get(index).error() != 0));
        let told = produced.refusals().expect("some are told why").len();
        assert!((1_000..99_999).contains(&told), "{told}");
    });
}

/// What a topic's name means changes: the next topic of that name has another id, and acks=0 has no answer that says so.
#[test]
fn a_producer_without_acks_goes_on_in_the_next_topic_of_the_name() {
    let world = world(616);
    start_with(&world, &[NATIVE]);
    world.block_on(CLIENT, |env| async move {
        let kafka = Client::new(
            env.clone(),
            ClientOptions {
                bootstrap_servers: vec![address()],
                allow_auto_create: true,
                ..ClientOptions::default()
            },
        );
        let native = client(&env);
        let options = ProducerOptions {
            acks: Acks::None,
            idempotent: false,
            ..ProducerOptions::default()
        };
        let producer = Producer::new(native.clone(), options).expect("options that fit");
        send(&producer, 0, "to the first").await;
        let admin = Admin::new(kafka.clone());
        env.sleep_until(env.now().plus_ms(1_000)).await;
        admin.delete_topic("t").await.expect("deleted");
        kafka.topic("t").await.expect("made anew");
        let count = async || admin.list_offsets("t", &[0], OffsetSpec::Latest).await.expect("listed")[&0].offset;
        for _ in 0..20 {
            send(&producer, 0, "to the second").await;
            env.sleep_until(env.now().plus_ms(500)).await;
        }
        // The first one or two are lost with the connection that ends for it.
        let stored = count().await.expect("an end");
        assert!(stored >= 15, "{stored}");
    });
}
