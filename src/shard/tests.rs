//! The whole broker in the simulator: two shards, clients on another host, sockets and disks of the same seed.

mod bounds;
mod directories;
mod epochs;
mod faults;
mod hostile;
mod listeners;
mod native;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::{Process, ServeError, serve};
use crate::base::ids::TopicId;
use crate::base::sync::Signal;
use crate::client::{ClientError, Connection, ConnectionOptions};
use crate::config::{Input, Machine, load};
use crate::io::Env;
use crate::io::sim::{DiskOptions, Options, ProcessId, SimEnv, World, host_address};
use crate::wire::batch::{BatchBuilder, BatchOptions};
use crate::wire::kafka::Records;
use crate::wire::kafka::messages::*;

const BROKER: usize = 0;
const CLIENT: usize = 1;

fn world(seed: u64) -> World {
    world_of(seed, 2)
}

fn world_of(seed: u64, hosts: usize) -> World {
    let options = Options {
        hosts,
        disk: DiskOptions {
            directories: vec!["/data".into(), "/data2".into(), "/dev/shm".into()],
            memory_directory: "/dev/shm".into(),
            ..Default::default()
        },
        ..Options::default()
    };
    World::new(seed, options)
}

fn address() -> String {
    SocketAddr::new(host_address(BROKER), 9092).to_string()
}

/// A broker of two shards that was started.
struct Started {
    id: ProcessId,
    process: std::sync::Arc<Process<SimEnv>>,
    /// Raised: it stops. A shard that fails raises it for the others.
    stop: Rc<Signal>,
    /// How each shard ended.
    ended: Rc<RefCell<Vec<Result<(), ServeError>>>>,
}

/// Starts a broker; `settings` go before those that all tests share.
fn start_with(world: &World, settings: &[&str]) -> Started {
    let mut arguments = vec![
        "listeners=PLAINTEXT://:9092".to_owned(),
        format!("advertised.listeners=PLAINTEXT://{}:9092", host_address(BROKER)),
        "log.dirs=/data".to_owned(),
        "ringtail.shards=2".to_owned(),
        "num.partitions=4".to_owned(),
        "ringtail.memory.bytes=256m".to_owned(),
    ];
    arguments.extend(settings.iter().map(|setting| setting.to_string()));
    let loaded = load(Input {
        file: None,
        environment: Vec::new(),
        arguments: &arguments,
        machine: Machine {
            host_name: "broker".into(),
            cpus: 2,
            memory_bytes: 1 << 30,
        },
    });
    let process: std::sync::Arc<Process<SimEnv>> = Process::new(loaded.expect("a good configuration").config);
    let (stop, ended) = (Rc::new(Signal::default()), Rc::<RefCell<Vec<_>>>::default());
    let (signal, all) = (stop.clone(), ended.clone());
    let started = process.clone();
    let id = world.spawn_process(BROKER, 2, move |env, index| {
        let (process, signal, all) = (process.clone(), signal.clone(), all.clone());
        async move {
            let stop = async { signal.raised().await };
            let result = serve(env, index, process, stop).await;
            if result.is_err() {
                signal.raise();
            }
            all.borrow_mut().push(result);
        }
    });
    Started {
        id,
        process: started,
        stop,
        ended,
    }
}

fn start(world: &World) -> Started {
    start_with(world, &[])
}

impl Started {
    /// Asks for the stop and waits until both shards are done.
    fn stop(&self, world: &World) {
        self.stop.raise();
        assert!(world.run_until(|| self.ended.borrow().len() == 2), "the broker stops");
        for result in &*self.ended.borrow() {
            assert!(result.is_ok(), "{result:?}");
        }
    }
}

async fn connect(env: &SimEnv) -> Connection<SimEnv> {
    loop {
        match Connection::open(env, &address(), ConnectionOptions::default()).await {
            Ok(connection) => return connection,
            Err(_) => env.sleep_until(env.now().plus_ms(50)).await,
        }
    }
}

fn batch(value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder
        .push(1_000, None, Some(value.as_bytes()), &[])
        .expect("a small record");
    Bytes::copy_from_slice(builder.finish().expect("a batch of one record"))
}

fn produce(acks: i16, partitions: &[(i32, &str)]) -> ProduceRequest<'static> {
    produce_batches(acks, partitions.iter().map(|(index, value)| (*index, batch(value))))
}

fn produce_batches(acks: i16, batches: impl Iterator<Item = (i32, Bytes)>) -> ProduceRequest<'static> {
    let data = batches.map(|(index, batch)| PartitionProduceData {
        index,
        records: Some(Records::from(batch)),
    });
    ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: data.collect(),
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    }
}

fn fetch(partitions: &[(i32, i64)], max_wait_ms: i32) -> FetchRequest<'static> {
    let partitions = partitions.iter().map(|(partition, fetch_offset)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: partitions.collect(),
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    }
}

/// The version in which topics go by name still.
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;

/// (partition, error, high watermark, bytes of batches)
async fn fetched(connection: &Connection<SimEnv>, request: FetchRequest<'static>) -> Vec<(i32, i16, i64, usize)> {
    let answer = connection.ask(&request, FETCH).await.expect("an answer");
    let response: FetchResponse<'_> = answer.decode().expect("decodes");
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| topic.partitions.iter().collect::<Vec<_>>());
    let told = partitions.map(|p| {
        (
            p.partition_index,
            p.error_code,
            p.high_watermark,
            p.records.map_or(0, |records| records.len()),
        )
    });
    told.collect()
}

async fn create(connection: &Connection<SimEnv>) {
    let named = MetadataRequestTopic {
        name: Some("t".into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![named].into()),
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: MetadataResponse<'_> = answer.decode().expect("decodes");
    let topic = response.topics.first().expect("the topic asked for");
    assert_eq!((topic.error_code, topic.partitions.len()), (0, 4));
    assert!(!topic.topic_id.is_zero());
}

/// Pipelined produces to partitions of both shards, their answers, and what is read back on another connection.
async fn round_trip(env: SimEnv) {
    let (one, other) = (connect(&env).await, connect(&env).await);
    create(&one).await;
    let all = [(0, "a"), (1, "b"), (3, "c"), (2, "d")];
    let requests: Vec<_> = (0..20)
        .map(|i| produce(-1, &all[..3 + usize::from(i % 4 == 0)]))
        .collect();
    let answers = crate::base::sync::join_all(requests.iter().map(|request| one.ask(request, PRODUCE)).collect()).await;
    let mut last = [-1; 4];
    for answer in answers {
        let answer = answer.expect("an answer");
        let response: ProduceResponse<'_> = answer.decode().expect("decodes");
        for partition in response
            .responses
            .first()
            .expect("one topic")
            .partition_responses
            .iter()
        {
            assert_eq!(partition.error_code, 0);
            let last = &mut last[partition.index as usize];
            assert_eq!(
                partition.base_offset,
                *last + 1,
                "offsets follow the order of the requests"
            );
            *last = partition.base_offset;
        }
    }
    assert_eq!(last, [19, 19, 4, 19]);
    let one_batch = batch("a").len();
    let all = fetched(&other, fetch(&[(0, 0), (1, 15), (2, 5), (3, 20)], 10_000)).await;
    assert_eq!(
        all,
        [
            (0, 0, 20, 20 * one_batch),
            (1, 0, 20, 5 * one_batch),
            (2, 0, 5, 0),
            (3, 0, 20, 0)
        ]
    );
    assert_eq!(
        fetched(&other, fetch(&[(0, 21), (9, 0)], 10_000)).await[0].1,
        1,
        "out of range"
    );
}

#[test]
fn produced_records_are_fetched_in_order_across_shards() {
    for seed in 0..8 {
        let world = world(seed);
        let broker = start(&world);
        world.block_on(CLIENT, round_trip);
        let began = world.now();
        broker.stop(&world);
        assert!(world.now() - began < 5_000_000_000, "seed {seed}: within five seconds");
    }
}

#[test]
fn a_long_poll_ends_when_a_partition_of_another_shard_gets_a_record() {
    let world = world(11);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let (reader, writer) = (connect(&env).await, connect(&env).await);
        create(&writer).await;
        for partition in 0..4 {
            let (began, waits) = (env.now(), Rc::new(Cell::new(true)));
            let got = Rc::new(RefCell::new(Vec::new()));
            let (task, out, waiting) = (reader.clone(), got.clone(), waits.clone());
            env.spawn(crate::io::Queue::Foreground, async move {
                *out.borrow_mut() = fetched(&task, fetch(&[(0, 0), (1, 0), (2, 0), (3, 0)], 60_000)).await;
                waiting.set(false);
            });
            env.sleep_until(began.plus_ms(500)).await;
            assert_eq!(
                waits.get(),
                partition == 0,
                "there is nothing to read until the first record"
            );
            writer
                .ask(&produce(1, &[(partition, "x")]), PRODUCE)
                .await
                .expect("an answer");
            while waits.get() {
                env.sleep_until(env.now().plus_ms(10)).await;
            }
            assert!(env.now().ms_since(began) < 5_000);
            assert!(got.borrow().iter().any(|(.., bytes)| *bytes > 0));
        }
    });
}

#[test]
fn an_error_on_acks_0_closes_the_connection_and_success_is_silent() {
    let world = world(12);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        connection
            .tell(&produce(0, &[(2, "silent")]), PRODUCE)
            .await
            .expect("sent");
        let found = fetched(&connection, fetch(&[(2, 0)], 10_000)).await;
        assert_eq!(found[0].2, 1, "answers go on after a request without one");
        connection
            .tell(&produce(0, &[(77, "nowhere")]), PRODUCE)
            .await
            .expect("sent");
        let after = connection.ask(&fetch(&[(2, 0)], 0), FETCH).await;
        assert!(after.is_err(), "closed");
    });
}

/// Of a request that has no answer only the socket says that nobody takes it, and that says nothing.
#[test]
fn acks_0_to_a_broker_that_stands_still_ends_in_the_time_of_a_request() {
    let world = world(14);
    let broker = start(&world);
    let (is_ready, error) = (Rc::new(Cell::new(false)), Rc::<RefCell<Option<ClientError>>>::default());
    let (ready, told) = (is_ready.clone(), error.clone());
    world.spawn_process(CLIENT, 1, move |env, _| {
        let (ready, told) = (ready.clone(), told.clone());
        async move {
            let connection = connect(&env).await;
            create(&connection).await;
            ready.set(true);
            env.sleep_until(env.now().plus_ms(1_000)).await;
            let large = "x".repeat(50_000);
            while told.borrow().is_none() {
                *told.borrow_mut() = connection.tell(&produce(0, &[(2, &large)]), PRODUCE).await.err();
            }
            assert!(connection.is_closed());
        }
    });
    assert!(world.run_until(|| is_ready.get()));
    world.pause(broker.id);
    assert!(world.run_until(|| error.borrow().is_some()), "it waits for ever");
    let error = error.take();
    assert!(matches!(error, Some(ClientError::Timeout { .. })), "{error:?}");
}

#[test]
fn acknowledged_records_are_there_after_kill_and_restart() {
    let world = world(13);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        connection
            .ask(&produce(-1, &[(0, "x"), (1, "y"), (3, "z")]), PRODUCE)
            .await
            .expect("acknowledged");
    });
    world.kill(broker.id);
    world.run_for(100);
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        let found = fetched(&connection, fetch(&[(0, 0), (1, 0), (2, 0), (3, 0)], 0)).await;
        let watermarks: Vec<_> = found
            .iter()
            .map(|(_, error, watermark, _)| (*error, *watermark))
            .collect();
        assert_eq!(watermarks, [(0, 1), (0, 1), (0, 0), (0, 1)]);
    });
}

/// Holds the broker's port as another process.
fn hold_port(world: &World) -> ProcessId {
    let id = world.spawn_process(BROKER, 1, |env, _| async move {
        let _listener = env
            .listen(address().parse().expect("an address"))
            .expect("the port is free");
        std::future::pending::<()>().await;
    });
    world.run_for(1);
    id
}

#[test]
fn a_port_that_a_killed_process_still_holds_is_waited_for_and_another_ones_is_told() {
    let world = world(35);
    let holder = hold_port(&world);
    let broker = start(&world);
    world.run_for(1000);
    assert!(broker.ended.borrow().is_empty(), "it asks again");
    world.kill(holder);
    world.block_on(CLIENT, round_trip);
    broker.stop(&world);

    hold_port(&world);
    let refused = start(&world);
    assert!(world.run_until(|| refused.ended.borrow().len() == 2), "it gives up");
    let ended = refused.ended.borrow();
    let told = ended.iter().any(|end| matches!(end, Err(ServeError::Listen { .. })));
    assert!(told, "{ended:?}");
}
