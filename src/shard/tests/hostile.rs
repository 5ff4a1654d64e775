//! Clients that are slow, greedy or mad, next to an honest one.

use super::*;
use bytes::BytesMut;

use crate::wire::kafka::{RequestHeader, encode_request};

/// Sends all of `bytes`; `false` when the broker ended the connection.
async fn sends(env: &SimEnv, stream: &<SimEnv as Env>::Stream, bytes: Bytes) -> bool {
    let mut pieces = vec![bytes];
    while !pieces.is_empty() {
        let (sent, mut back) = env.send(stream, pieces).await;
        match sent {
            Ok(sent) if sent > 0 => bytes::Buf::advance(&mut back[0], sent),
            _ => return false,
        }
        back.retain(|piece| !piece.is_empty());
        pieces = back;
    }
    true
}

/// Sends in a task of its own, for as long as it takes.
fn sends_on(env: &SimEnv, stream: &<SimEnv as Env>::Stream, bytes: Bytes) {
    let (task, stream) = (env.clone(), stream.clone());
    env.spawn(crate::io::Queue::Foreground, async move {
        sends(&task, &stream, bytes).await;
    });
}

/// The start of a frame of 90 MB.
fn half_frame(bytes: usize) -> Bytes {
    [&(90u32 << 20).to_be_bytes()[..], &vec![0; bytes]].concat().into()
}

/// Waits for the end of the connection, which gives no answer. How long it took, in milliseconds.
async fn ends_without_answer(env: &SimEnv, stream: &<SimEnv as Env>::Stream) -> u64 {
    let began = env.now();
    let (received, _) = env.receive(stream, BytesMut::with_capacity(64)).await;
    assert_eq!(received.unwrap_or(0), 0, "no answer");
    env.now().ms_since(began)
}

async fn raw(env: &SimEnv) -> <SimEnv as Env>::Stream {
    env.connect(address().parse().expect("an address"))
        .await
        .expect("the broker listens")
}

/// A request frame of `api` with `body`.
fn frame(api: i16, version: i16, body: &[u8]) -> Bytes {
    let header = [api.to_be_bytes(), version.to_be_bytes(), [0, 0], [0, 7], [0xff, 0xff]].concat();
    let bytes = (header.len() + body.len()) as u32;
    [&bytes.to_be_bytes()[..], &header, body].concat().into()
}

/// A ListOffsets of version 1 that names one partition so many times.
fn list_offsets(count: i32) -> Bytes {
    let mut body = [
        &(-1i32).to_be_bytes()[..],
        &1i32.to_be_bytes(),
        &[0, 1, b't'],
        &count.to_be_bytes(),
    ]
    .concat();
    for _ in 0..count {
        body.extend_from_slice(&0i32.to_be_bytes());
        body.extend_from_slice(&(-1i64).to_be_bytes());
    }
    frame(2, 1, &body)
}

#[test]
fn half_frames_are_dropped_when_their_time_is_over_and_honest_clients_are_served() {
    let world = world(41);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let honest = connect(&env).await;
        create(&honest).await;
        let mut slow = Vec::new();
        for bytes in [&[0u8, 0][..], &[5, 0, 0, 0, 0, 3], &(90u32 << 20).to_be_bytes()] {
            let stream = raw(&env).await;
            assert!(sends(&env, &stream, Bytes::copy_from_slice(bytes)).await);
            slow.push(stream);
        }
        let answer = honest.ask(&produce(-1, &[(0, "a"), (3, "b")]), PRODUCE).await;
        assert!(answer.is_ok(), "{:?}", answer.err());
        for (index, stream) in slow.iter().enumerate() {
            let waited_ms = ends_without_answer(&env, stream).await;
            assert!(index > 0 || (50_000..70_000).contains(&waited_ms), "{waited_ms}");
        }
        assert_eq!(fetched(&honest, fetch(&[(0, 0)], 0)).await[0].2, 1);
    });
}

#[test]
fn a_client_that_reads_nothing_of_its_answers_is_dropped() {
    let world = world(42);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let honest = connect(&env).await;
        create(&honest).await;
        let stream = raw(&env).await;
        // ApiVersions over and over: the answers fill the window.
        let flood: Vec<u8> = (0..200).flat_map(|_| frame(18, 0, &[])).collect();
        let began = env.now();
        while sends(&env, &stream, Bytes::copy_from_slice(&flood)).await {
            assert!(env.now().ms_since(began) < 120_000, "still connected");
        }
        assert!(env.now().ms_since(began) > 50_000, "not before its time was over");
        assert!(honest.ask(&produce(-1, &[(1, "a")]), PRODUCE).await.is_ok());
    });
}

#[test]
fn a_request_that_names_too_much_ends_its_connection() {
    let world = world(43);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        create(&connect(&env).await).await;
        let stream = raw(&env).await;
        assert!(sends(&env, &stream, list_offsets(100)).await);
        let (received, _) = env.receive(&stream, BytesMut::with_capacity(64)).await;
        assert!(received.is_ok_and(|bytes| bytes > 0), "a hundred are answered");
        let stream = raw(&env).await;
        sends(&env, &stream, list_offsets(100_000)).await;
        ends_without_answer(&env, &stream).await;
    });
}

/// The work is that of the four partitions there are.
#[test]
fn a_fetch_and_a_produce_of_tens_of_thousands_of_partitions_are_answered() {
    const COUNT: i32 = 90_000;
    let world = world(46);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        create(&client).await;
        let all: Vec<_> = (0..COUNT).map(|item| (item % 4, 0)).collect();
        let mut waiting = fetch(&all, 1 << 20);
        waiting.max_wait_ms = 300;
        let began = env.now();
        assert_eq!(fetched(&client, waiting).await.len(), 4);
        assert!(env.now().ms_since(began) >= 300, "it waited for its bytes");
        let all: Vec<_> = (0..COUNT / 2).map(|item| (item % 4, "")).collect();
        let answer = client.ask(&produce(-1, &all), PRODUCE).await.expect("an answer");
        let response: ProduceResponse<'_> = answer.decode().expect("decodes");
        let topic = response.responses.first().expect("one topic");
        assert_eq!(topic.partition_responses.len(), COUNT as usize / 2);
        let appended = topic.partition_responses.iter().filter(|p| p.error_code == 0);
        assert_eq!(appended.count(), 4);
        assert_eq!(fetched(&client, fetch(&[(0, 0)], 0)).await[0].2, 1);
    });
}

#[test]
fn half_frames_that_fill_the_memory_make_way_for_an_honest_one() {
    let world = world(44);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move {
        let honest = connect(&env).await;
        create(&honest).await;
        let mut greedy = Vec::new();
        for _ in 0..300 {
            let stream = raw(&env).await;
            sends_on(&env, &stream, half_frame(300_000));
            greedy.push(stream);
        }
        env.sleep_until(env.now().plus_ms(2_000)).await;
        let began = env.now();
        let large = "v".repeat(900_000);
        let all: Vec<_> = (0..4).map(|partition| produce(-1, &[(partition, &large)])).collect();
        for request in &all {
            assert!(honest.ask(request, PRODUCE).await.is_ok());
        }
        let waited_ms = env.now().ms_since(began);
        assert!(waited_ms < 15_000, "{waited_ms}");
    });
    let began = world.now();
    broker.stop(&world);
    assert!(world.now() - began < 500_000_000, "half frames do not hold up a stop");
}

/// All bytes but the first ones come one each second: that is no progress.
#[test]
fn a_byte_a_second_holds_a_connection_for_the_time_of_a_frame_and_no_longer() {
    let world = world(47);
    start_with(&world, &["ringtail.receive.timeout.ms=20000"]);
    world.block_on(CLIENT, |env| async move {
        create(&connect(&env).await).await;
        for begin in [half_frame(0), half_frame(1000)] {
            let (stream, began) = (raw(&env).await, env.now());
            assert!(sends(&env, &stream, begin).await);
            while sends(&env, &stream, Bytes::from_static(&[0])).await {
                assert!(env.now().ms_since(began) < 30_000, "still connected");
                env.sleep_until(env.now().plus_ms(1000)).await;
            }
            let held_ms = env.now().ms_since(began);
            assert!(held_ms >= 20_000, "{held_ms}");
        }
    });
}

/// A host with an address of its own.
const OTHER: usize = 2;

/// 4 MiB of a shard's memory are for buffers of frames that are not whole yet. One frame after the other may take more.
#[test]
fn frames_larger_than_the_memory_for_them_arrive_whole() {
    let world = world(48);
    start_with(&world, &["ringtail.memory.bytes=64m"]);
    world.block_on(CLIENT, |env| async move {
        create(&connect(&env).await).await;
        let streams = [raw(&env).await, raw(&env).await, raw(&env).await];
        let large = frame(18, 0, &vec![0; 20 << 20]);
        for stream in &streams {
            sends_on(&env, stream, large.clone());
        }
        for stream in &streams {
            let (received, _) = env.receive(stream, BytesMut::with_capacity(64)).await;
            assert!(received.is_ok_and(|bytes| bytes > 0), "an answer");
        }
    });
}

#[test]
fn one_address_that_fills_the_memory_holds_up_no_other() {
    let world = world_of(49, 3);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        create(&connect(&env).await).await;
    });
    world.spawn_process(OTHER, 1, |env, _| async move {
        let mut greedy = Vec::new();
        for _ in 0..300 {
            let stream = raw(&env).await;
            sends_on(&env, &stream, half_frame(300_000));
            greedy.push(stream);
        }
        std::future::pending::<()>().await;
    });
    world.run_for(2_000);
    world.block_on(CLIENT, |env| async move {
        let honest = connect(&env).await;
        let large = "v".repeat(900_000);
        for partition in 0..4 {
            let began = env.now();
            assert!(honest.ask(&produce(-1, &[(partition, &large)]), PRODUCE).await.is_ok());
            let waited_ms = env.now().ms_since(began);
            assert!(waited_ms < 1_000, "{waited_ms}");
        }
    });
}

/// Everything that a broker can say of this one, over and over.
fn describe_much(names: usize) -> DescribeConfigsRequest<'static> {
    let resource = |index: usize| DescribeConfigsResource {
        resource_type: 2,
        resource_name: format!("{index}{}", "x".repeat(240)).into(),
        configuration_keys: None,
    };
    DescribeConfigsRequest {
        resources: (0..names).map(resource).collect(),
        ..Default::default()
    }
}

/// Sends the same request on `count` connections from another address, and reads nothing.
fn ask_and_read_nothing(world: &World, count: usize, request: Bytes) {
    world.spawn_process(OTHER, 1, move |env, _| {
        let request = request.clone();
        async move {
            let mut greedy = Vec::new();
            for _ in 0..count {
                let stream = raw(&env).await;
                sends_on(&env, &stream, request.clone());
                greedy.push(stream);
            }
            std::future::pending::<()>().await;
        }
    });
    world.run_for(1_000);
}

/// Answers of 1.1 MB, for which 1.9 MB are taken in the making, of 4 MiB of a shard for peers that read nothing.
#[test]
fn answers_that_nobody_reads_hold_up_no_other_address() {
    let world = world_of(50, 3);
    start_with(&world, &["ringtail.memory.bytes=64m"]);
    world.block_on(CLIENT, |env| async move { create(&connect(&env).await).await });
    const VERSION: i16 = 1;
    let header = RequestHeader {
        api_key: 32,
        api_version: VERSION,
        correlation_id: 7,
        client_id: None,
    };
    let encoded = encode_request(&header, &describe_much(2000)).expect("encodes").concat();
    ask_and_read_nothing(&world, 8, Bytes::from(encoded));
    world.block_on(CLIENT, |env| async move {
        let (honest, other) = (connect(&env).await, connect(&env).await);
        let began = env.now();
        assert!(honest.ask(&produce(-1, &[(0, "a"), (1, "b")]), PRODUCE).await.is_ok());
        for client in [&honest, &other] {
            let answer = client.ask(&describe_much(2000), VERSION).await.expect("an answer");
            let response: DescribeConfigsResponse<'_> = answer.decode().expect("decodes");
            assert_eq!(response.results.len(), 2000);
        }
        let waited_ms = env.now().ms_since(began);
        assert!(waited_ms < 1_000, "{waited_ms}");
    });
}

/// Partitions 0 and 1 lie on different shards; each of the two connections is on one of them.
#[test]
fn what_is_asked_for_first_is_read_first_however_large_its_batches_and_short_the_memory() {
    let world = world_of(51, 3);
    start_with(&world, &["ringtail.memory.bytes=64m"]);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        create(&client).await;
        let large = "v".repeat(900_000);
        let request = produce(-1, &[(0, &large), (1, "small")]);
        assert!(client.ask(&request, PRODUCE).await.is_ok());
    });
    let header = RequestHeader {
        api_key: 1,
        api_version: FETCH,
        correlation_id: 7,
        client_id: None,
    };
    let encoded = encode_request(&header, &fetch(&[(0, 0)], 0)).expect("encodes").concat();
    ask_and_read_nothing(&world, 8, Bytes::from(encoded));
    world.block_on(CLIENT, |env| async move {
        for client in [connect(&env).await, connect(&env).await] {
            let found = fetched(&client, fetch(&[(0, 0), (1, 0)], 0)).await;
            assert!(found[0].3 > 900_000, "{found:?}");
        }
    });
}

/// An encoded request.
fn encoded<'a>(api_key: i16, api_version: i16, request: &impl crate::wire::kafka::Message<'a>) -> Bytes {
    let header = RequestHeader {
        api_key,
        api_version,
        correlation_id: 7,
        client_id: None,
    };
    encode_request(&header, request).expect("encodes").concat().into()
}

/// Answers of 3 MB, all of it about partitions that there are not, of which a shard holds at most 16 MiB for peers that read
/// nothing.
#[test]
fn answers_without_any_batch_that_nobody_reads_hold_up_no_other_address() {
    let world = world_of(52, 3);
    start(&world);
    world.block_on(CLIENT, |env| async move { create(&connect(&env).await).await });
    let all: Vec<_> = std::iter::once(0).chain(4..90_004).map(|index| (index, 0)).collect();
    ask_and_read_nothing(&world, 24, encoded(1, FETCH, &fetch(&all, 0)));
    world.block_on(CLIENT, |env| async move {
        let (honest, other) = (connect(&env).await, connect(&env).await);
        let began = env.now();
        for client in [&honest, &other] {
            let answer = client.ask(&describe_much(3000), 1).await.expect("an answer");
            let response: DescribeConfigsResponse<'_> = answer.decode().expect("decodes");
            assert_eq!(response.results.len(), 3000);
        }
        let waited_ms = env.now().ms_since(began);
        assert!(waited_ms < 1_000, "{waited_ms}");
    });
}

/// What is to be told of one request is not made before there is room for it, and made once.
#[test]
fn topics_are_created_when_there_is_room_to_tell_of_them_and_once() {
    let world = world_of(53, 3);
    start_with(&world, &["ringtail.memory.bytes=64m"]);
    world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
    ask_and_read_nothing(&world, 4, encoded(32, 1, &describe_much(3000)));
    let errors = Rc::new(RefCell::new(Vec::new()));
    let told = errors.clone();
    world.spawn_process(OTHER, 1, move |env, _| {
        let told = told.clone();
        async move {
            let client = connect(&env).await;
            let names: Vec<_> = (0..600).map(|n| format!("n{n}")).collect();
            let all = super::bounds::create_topics(&client, &names, 1, &[], false).await;
            *told.borrow_mut() = all;
        }
    });
    world.run_for(1_000);
    world.block_on(CLIENT, |env| async move {
        let named = MetadataRequestTopic {
            name: Some("n0".into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![named].into()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = connect(&env).await.call(&request).await.expect("an answer");
        let response: MetadataResponse<'_> = answer.decode().expect("decodes");
        let topic = response.topics.first().expect("the topic asked for");
        assert_ne!(topic.error_code, 0, "it is there already");
    });
    assert!(world.run_until(|| !errors.borrow().is_empty()), "an answer");
    assert!(errors.borrow().iter().all(|error| *error == 0), "{errors:?}");
}

/// A produce of one record and many partitions that there are not.
fn produce_much() -> ProduceRequest<'static> {
    let batches = (0..20_000).map(|index| (index * 4, if index == 0 { batch("a") } else { Bytes::new() }));
    produce_batches(-1, batches)
}

#[test]
fn a_produce_that_there_is_no_room_to_tell_of_waits() {
    let world = world_of(54, 3);
    start_with(&world, &["ringtail.memory.bytes=64m"]);
    world.block_on(CLIENT, |env| async move { create(&connect(&env).await).await });
    ask_and_read_nothing(&world, 4, encoded(32, 1, &describe_much(3000)));
    let told = Rc::new(Cell::new(0));
    let count = told.clone();
    world.spawn_process(OTHER, 1, move |env, _| {
        let count = count.clone();
        async move {
            let client = connect(&env).await;
            let answer = client.ask(&produce_much(), PRODUCE).await.expect("an answer");
            let response: ProduceResponse<'_> = answer.decode().expect("decodes");
            let topic = response.responses.first().expect("one topic");
            count.set(topic.partition_responses.len());
        }
    });
    world.run_for(1_000);
    world.block_on(CLIENT, |env| async move {
        let found = fetched(&connect(&env).await, fetch(&[(0, 0)], 0)).await;
        assert_eq!(found[0].2, 0, "it is appended already");
    });
    assert!(world.run_until(|| told.get() == 20_000), "an answer");
}

/// Its address holds the room for its answer until after the stop has begun.
#[test]
fn a_request_that_was_begun_before_a_stop_is_answered() {
    let world = world_of(55, 3);
    let broker = start_with(&world, &["ringtail.memory.bytes=64m"]);
    world.block_on(CLIENT, |env| async move { create(&connect(&env).await).await });
    world.spawn_process(OTHER, 1, move |env, _| async move {
        let request = encoded(32, 1, &describe_much(3000));
        let mut greedy = Vec::new();
        for _ in 0..8 {
            let stream = raw(&env).await;
            sends_on(&env, &stream, request.clone());
            greedy.push(stream);
        }
        env.sleep_until(env.now().plus_ms(1_500)).await;
        for stream in greedy {
            let task = env.clone();
            env.spawn(crate::io::Queue::Foreground, async move {
                while let (Ok(1..), _) = task.receive(&stream, BytesMut::with_capacity(64 << 10)).await {}
            });
        }
        std::future::pending::<()>().await;
    });
    world.run_for(500);
    let told = Rc::new(Cell::new(None));
    let answered = told.clone();
    world.spawn_process(OTHER, 1, move |env, _| {
        let answered = answered.clone();
        async move {
            let client = connect(&env).await;
            answered.set(Some(client.ask(&produce_much(), PRODUCE).await.is_ok()));
        }
    });
    world.run_for(500);
    assert_eq!(told.get(), None, "it waits");
    broker.stop(&world);
    assert_eq!(told.get(), Some(true), "it is answered");
}

/// Requests of 256 KiB, one after the other, each whole and behind a fetch of its own connection that waits for ten minutes.
#[test]
fn whole_requests_behind_a_long_poll_make_way_for_an_honest_one() {
    let world = world(56);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let honest = connect(&env).await;
        create(&honest).await;
        let mut greedy = Vec::new();
        for _ in 0..80 {
            let stream = raw(&env).await;
            let both = [
                encoded(1, FETCH, &fetch(&[(0, 0)], 600_000)),
                frame(18, 0, &vec![0; 256 << 10]),
            ];
            sends_on(&env, &stream, both.concat().into());
            greedy.push(stream);
            env.sleep_until(env.now().plus_ms(20)).await;
        }
        let began = env.now();
        let large = "v".repeat(900_000);
        for partition in 1..4 {
            let answer = honest.ask(&produce(-1, &[(partition, &large)]), PRODUCE).await;
            assert!(answer.is_ok(), "{:?}", answer.err());
        }
        let waited_ms = env.now().ms_since(began);
        assert!(waited_ms < 20_000, "{waited_ms}");
    });
}
