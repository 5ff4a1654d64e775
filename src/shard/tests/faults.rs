//! Faults of the disk, of the clock and of the process under the whole broker, as docs/faults.md tells them.

use std::path::Path;

use super::directories::{BROKEN, KAFKA_STORAGE_ERROR, fetch_errors, offline, produced};
use super::*;
use crate::io::sim::{DiskOperation, EDQUOT, ENOSPC, Fault, FaultEffect};
use crate::io::{EMFILE, Queue};

/// Produce is to be taken up within this time of there being space again.
const RESUMES_MS_MAX: u64 = 5_000;

/// Two log directories, the metadata log in the first.
fn start_on_two(world: &World) -> Started {
    start_with(world, &["log.dirs=/data,/data2", "metadata.log.dir=/data"])
}

fn create_on(world: &World) {
    world.block_on(CLIENT, |env| async move { create(&connect(&env).await).await });
}

/// The end of each partition of `t`.
async fn ends(env: SimEnv) -> Vec<i64> {
    let connection = connect(&env).await;
    let found = fetched(&connection, fetch(&[(0, 0), (1, 0), (2, 0), (3, 0)], 0)).await;
    found.iter().map(|(_, _, end, _)| *end).collect()
}

/// Produces until all partitions take it; how long that took, in milliseconds.
async fn resumes(env: SimEnv) -> u64 {
    let connection = connect(&env).await;
    let began = env.now();
    while produced(&connection, "again", 1000).await != [0; 4] {
        env.sleep_until(env.now().plus_ms(50)).await;
    }
    env.now().ms_since(began)
}

fn takes_produce_up_again(world: &World) {
    let took_ms = world.block_on(CLIENT, resumes);
    assert!(took_ms <= RESUMES_MS_MAX, "{took_ms}");
}

#[test]
fn a_failed_flush_takes_its_directory_out_of_service_and_is_not_tried_again() {
    let world = world(61);
    let settings = [
        "log.dirs=/data,/data2",
        "metadata.log.dir=/data",
        "ringtail.durability=written",
    ];
    let broker = start_with(&world, &settings);
    create_on(&world);
    world.run_for(1_000);
    // The next flush would succeed.
    world.plant(BROKER, Fault::nth(DiskOperation::Flush, "/data2", 0, BROKEN));
    world.block_on(CLIENT, |env| async move {
        assert_eq!(produced(&connect(&env).await, "kept", 1000).await, [0; 4]);
    });
    world.run_for(2_000);
    let gone = world.block_on(CLIENT, offline);
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert!(broker.ended.borrow().is_empty(), "the rest goes on");
    world.kill(broker.id);
    world.run_for(100);
    start_with(&world, &settings);
    let ends = world.block_on(CLIENT, ends);
    assert!(
        ends.iter().all(|end| *end >= 1),
        "what was acknowledged is there: {ends:?}"
    );
}

#[test]
fn a_segment_that_cannot_be_read_is_told_and_everything_else_goes_on() {
    let world = world(62);
    let broker = start(&world);
    let value = "v".repeat(9_000);
    world.block_on(CLIENT, move |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        assert_eq!(produced(&connection, &value, 1000).await, [0; 4]);
    });
    broker.stop(&world);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
    world.plant(BROKER, Fault::always(DiskOperation::Read, "/data/t-2/0000", BROKEN));
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        assert_eq!(fetch_errors(&connection).await, [0, 0, KAFKA_STORAGE_ERROR, 0]);
        assert_eq!(produced(&connection, "more", 1000).await, [0; 4]);
    });
    world.clear_faults(BROKER);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        assert_eq!(fetch_errors(&connection).await, [0; 4], "a read may be tried again");
    });
    assert!(broker.ended.borrow().is_empty());
}

fn used_bytes(world: &World) -> u64 {
    const ALL: u64 = 1 << 40;
    world.set_capacity(BROKER, ALL);
    ALL - world.block_on(BROKER, |env| async move {
        env.free_bytes(Path::new("/data")).await.expect("told")
    })
}

async fn created(connection: &Connection<SimEnv>, name: &'static str) -> i16 {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic].into(),
        timeout_ms: 5000,
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: CreateTopicsResponse<'_> = answer.decode().expect("decodes");
    response.topics.first().expect("one topic").error_code
}

async fn deleted(connection: &Connection<SimEnv>, name: &'static str) -> i16 {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(name.into()),
            ..Default::default()
        }]
        .into(),
        timeout_ms: 5000,
        ..Default::default()
    };
    let answer = connection.ask(&request, 6).await.expect("an answer");
    let response: DeleteTopicsResponse<'_> = answer.decode().expect("decodes");
    response.responses.first().expect("one topic").error_code
}

/// The first offset of partition 0 of `t`.
async fn log_start(connection: &Connection<SimEnv>) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: 0,
                current_leader_epoch: -1,
                timestamp: -2,
            }]
            .into(),
        }]
        .into(),
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: ListOffsetsResponse<'_> = answer.decode().expect("decodes");
    let topic = response.topics.first().expect("one topic");
    let told = topic.partitions.first().expect("one partition");
    assert_eq!(told.error_code, 0);
    told.offset
}

/// A reserve that is reached, and a disk without a byte: both refuse produce and new topics, and nothing else.
#[test]
fn below_the_reserve_produce_is_refused_and_the_rest_goes_on_until_there_is_space() {
    for (seed, left) in [(63, 32 << 20), (64, 0)] {
        let world = world(seed);
        let broker = start_with(
            &world,
            &[
                "ringtail.reserve.bytes=64m",
                "log.segment.bytes=1048576",
                "log.retention.check.interval.ms=20000",
            ],
        );
        world.block_on(CLIENT, |env| async move {
            let connection = connect(&env).await;
            create(&connection).await;
            assert_eq!(created(&connection, "other").await, 0);
            let value = "v".repeat(700_000);
            for _ in 0..4 {
                assert_eq!(produced(&connection, &value, 1000).await, [0; 4]);
            }
            assert_eq!(log_start(&connection).await, 0);
        });
        world.set_capacity(BROKER, used_bytes(&world) + left);
        world.run_for(1_500);
        world.block_on(CLIENT, |env| async move {
            let connection = connect(&env).await;
            assert_eq!(produced(&connection, "x", 1000).await, [KAFKA_STORAGE_ERROR; 4]);
            assert_eq!(created(&connection, "new").await, KAFKA_STORAGE_ERROR);
            assert_eq!(fetch_errors(&connection).await, [0; 4]);
            assert_eq!(deleted(&connection, "other").await, 0);
            while log_start(&connection).await == 0 {
                env.sleep_until(env.now().plus_ms(500)).await;
            }
        });
        assert_eq!(world.block_on(CLIENT, ends), [4; 4], "nothing was appended");
        world.set_capacity(BROKER, 1 << 40);
        takes_produce_up_again(&world);
        world.block_on(CLIENT, |env| async move {
            assert_eq!(created(&connect(&env).await, "new").await, 0);
        });
        broker.stop(&world);
    }
}

const LEADER_NOT_AVAILABLE: i16 = 5;

/// The error and leader of each partition, as told on a connection to either shard.
async fn leaders(env: SimEnv) -> Vec<(i16, i32)> {
    let mut told = Vec::new();
    for client in [connect(&env).await, connect(&env).await] {
        let named = MetadataRequestTopic {
            name: Some("t".into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![named].into()),
            ..Default::default()
        };
        let answer = client.call(&request).await.expect("an answer");
        let response: MetadataResponse<'_> = answer.decode().expect("decodes");
        let partitions = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().collect::<Vec<_>>());
        told.extend(partitions.map(|partition| (partition.error_code, partition.leader_id)));
    }
    told
}

/// What a new partition needs is there only later: until then it is offline, and the others are not.
#[test]
fn a_partition_that_lacked_space_or_descriptors_when_it_was_made_is_opened_later() {
    let lacks = [
        (DiskOperation::Open, ".log", EMFILE),
        (DiskOperation::Any, "/data", EMFILE),
        (DiskOperation::Shape, ".log", ENOSPC),
        (DiskOperation::Shape, ".log", EDQUOT),
        (DiskOperation::Open, "partition.metadata", ENOSPC),
        (DiskOperation::Flush, "/data", EMFILE),
    ];
    for (seed, (operation, path, errno)) in (70..).zip(lacks) {
        let world = world(seed);
        let broker = start(&world);
        world.block_on(CLIENT, |env| async move {
            assert_eq!(created(&connect(&env).await, "before").await, 0);
        });
        world.plant(BROKER, Fault::always(operation, path, FaultEffect::Error(errno)));
        create_on(&world);
        let errors = world.block_on(
            CLIENT,
            |env| async move { produced(&connect(&env).await, "x", 1000).await },
        );
        assert_eq!(errors, [KAFKA_STORAGE_ERROR; 4], "{operation:?} {path} {errno}");
        world.run_for(3_000);
        assert_eq!(world.block_on(CLIENT, leaders), [(LEADER_NOT_AVAILABLE, -1); 8]);
        world.clear_faults(BROKER);
        takes_produce_up_again(&world);
        assert_eq!(world.block_on(CLIENT, leaders), [(0, 1); 8]);
        world.block_on(CLIENT, |env| async move {
            assert_eq!(deleted(&connect(&env).await, "t").await, 0);
        });
        broker.stop(&world);
    }
}

#[test]
fn a_topic_deleted_before_its_partitions_could_be_made_leaves_none() {
    let world = world(76);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
    world.plant(
        BROKER,
        Fault::always(DiskOperation::Open, ".log", FaultEffect::Error(EMFILE)),
    );
    create_on(&world);
    world.run_for(1_100);
    world.block_on(CLIENT, |env| async move {
        assert_eq!(deleted(&connect(&env).await, "t").await, 0);
    });
    world.clear_faults(BROKER);
    world.run_for(5_000);
    create_on(&world);
    takes_produce_up_again(&world);
    assert_eq!(world.block_on(CLIENT, ends), [1; 4], "it is another topic");
    broker.stop(&world);
}

#[test]
fn a_partition_that_a_broken_device_keeps_from_being_made_ends_its_directory() {
    for operation in [DiskOperation::Flush, DiskOperation::Name] {
        let world = world(77);
        let broker = start_on_two(&world);
        world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
        world.plant(BROKER, Fault::nth(operation, "/data2/t-", 0, BROKEN));
        create_on(&world);
        let gone = world.block_on(CLIENT, offline);
        assert_eq!(gone.len(), 2, "{operation:?}: {gone:?}");
        assert!(broker.ended.borrow().is_empty());
    }
}

#[test]
fn new_topics_go_to_the_directories_that_are_left() {
    let world = world(78);
    start_on_two(&world);
    create_on(&world);
    world.plant(BROKER, Fault::always(DiskOperation::Write, "/data2/", BROKEN));
    assert_eq!(world.block_on(CLIENT, offline).len(), 2);
    world.run_for(1_000);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        assert_eq!(deleted(&connection, "t").await, 0);
        create(&connection).await;
        assert_eq!(produced(&connection, "x", 1000).await, [0; 4]);
    });
}

#[test]
fn a_directory_lost_while_the_broker_was_down_is_offline_until_it_is_back() {
    let world = world(79);
    let broker = start_on_two(&world);
    create_on(&world);
    world.block_on(CLIENT, |env| async move {
        assert_eq!(produced(&connect(&env).await, "kept", 1000).await, [0; 4]);
    });
    broker.stop(&world);
    let rename = |from: &'static str, to: &'static str| {
        world.block_on(BROKER, move |env| async move {
            env.rename(Path::new(from), Path::new(to)).await.expect("renames");
        });
    };
    rename("/data2", "/unmounted");
    // What is there instead is empty.
    world.make_directory(BROKER, "/data2");
    let broker = start_on_two(&world);
    let errors = world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        let errors = produced(&connection, "more", 1000).await;
        assert_eq!(fetch_errors(&connection).await, errors);
        errors
    });
    let lost = errors.iter().filter(|error| **error == KAFKA_STORAGE_ERROR).count();
    assert_eq!((lost, errors.iter().filter(|error| **error == 0).count()), (2, 2));
    let left = world.block_on(BROKER, |env| async move {
        env.list(Path::new("/data2")).await.expect("lists").len()
    });
    broker.stop(&world);
    assert!(left <= 1, "nothing but a lock was put there");
    rename("/data2", "/empty");
    rename("/unmounted", "/data2");
    start_on_two(&world);
    let ends = world.block_on(CLIENT, ends);
    assert!(ends.iter().all(|end| *end >= 1), "{ends:?}");
}

/// Days ahead and back while appends and a long poll are under way.
#[test]
fn clock_jumps_change_no_acknowledgement_and_no_deadline() {
    const DAYS: i64 = 24 * 3600 * 1000;
    for (seed, by_ms) in [(80, 40 * DAYS), (81, -40 * DAYS), (82, 3_600_000), (83, -3_600_000)] {
        let world = world(seed);
        let broker = start(&world);
        world.block_on(CLIENT, |env| async move {
            let connection = connect(&env).await;
            create(&connection).await;
            assert_eq!(produced(&connection, "before", 1000).await, [0; 4]);
        });
        let waited = Rc::new(Cell::new(0));
        let out = waited.clone();
        world.spawn_process(CLIENT, 1, move |env, _| {
            let out = out.clone();
            async move {
                let (connection, began) = (connect(&env).await, env.now());
                fetched(&connection, fetch(&[(0, 1), (1, 1), (2, 1), (3, 1)], 5_000)).await;
                out.set(env.now().ms_since(began));
            }
        });
        world.run_for(1_000);
        world.jump_wall_clock(BROKER, by_ms);
        assert!(world.run_until(|| waited.get() > 0));
        assert!((5_000..5_600).contains(&waited.get()), "{}", waited.get());
        world.block_on(CLIENT, |env| async move {
            let connection = connect(&env).await;
            assert_eq!(produced(&connection, "after", 1000).await, [0; 4]);
        });
        assert_eq!(world.block_on(CLIENT, ends), [2; 4]);
        broker.stop(&world);
        start(&world);
        assert_eq!(world.block_on(CLIENT, ends), [2; 4]);
    }
}

#[test]
fn a_broker_that_was_paused_goes_on_with_its_connections() {
    let world = world(84);
    let broker = start(&world);
    create_on(&world);
    let acks = Rc::new(Cell::new(0));
    let out = acks.clone();
    world.spawn_process(CLIENT, 1, move |env, _| {
        let out = out.clone();
        async move {
            let connection = connect(&env).await;
            while produced(&connection, "x", 30_000).await == [0; 4] {
                out.set(out.get() + 1);
            }
            panic!("an append of a broker that was paused fails");
        }
    });
    assert!(world.run_until(|| acks.get() > 5));
    world.pause(broker.id);
    let before = acks.get();
    world.run_for(20_000);
    assert!(acks.get() <= before + 1, "nobody answers");
    world.resume(broker.id);
    assert!(world.run_until(|| acks.get() > before + 5));
}

/// Shared memory that is full: appends do with the tail memory there is.
#[test]
fn tail_memory_that_cannot_grow_is_done_without() {
    let world = world(85);
    let broker = start(&world);
    create_on(&world);
    world.plant(
        BROKER,
        Fault::always(DiskOperation::Open, "/dev/shm", FaultEffect::Error(ENOSPC)),
    );
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        let value = "v".repeat(700_000);
        for _ in 0..25 {
            assert_eq!(produced(&connection, &value, 30_000).await, [0; 4]);
        }
        assert_eq!(fetch_errors(&connection).await, [0; 4]);
    });
    broker.stop(&world);
}

/// Partitions of `t` in a directory.
fn partitions_in(world: &World, directory: &'static str) -> Vec<i32> {
    world.block_on(BROKER, move |env| async move {
        let entries = env.list(Path::new(directory)).await.expect("lists");
        let index = |name: &str| name.strip_prefix("t-")?.parse().ok();
        entries.iter().filter_map(|entry| index(&entry.name)).collect()
    })
}

/// One produce to one partition: its error, and how long it took in milliseconds.
async fn timed(connection: &Connection<SimEnv>, env: &SimEnv, partition: i32, value: &str) -> (i16, u64) {
    let request = ProduceRequest {
        timeout_ms: 30_000,
        ..produce(-1, &[(partition, value)])
    };
    let began = env.now();
    let answer = connection.ask(&request, PRODUCE).await.expect("an answer");
    let response: ProduceResponse<'_> = answer.decode().expect("decodes");
    let topic = response.responses.first().expect("one topic");
    let told = topic.partition_responses.first().expect("one partition");
    (told.error_code, env.now().ms_since(began))
}

/// The worst produce of `value` to the partitions of `fast` in so many rounds.
async fn worst_of(env: &SimEnv, fast: &[i32], value: &str, rounds: usize) -> u64 {
    let connection = connect(env).await;
    let mut worst = 0;
    for round in 0..rounds {
        let (error, took_ms) = timed(&connection, env, fast[round % fast.len()], value).await;
        assert_eq!(error, 0);
        worst = worst.max(took_ms);
        env.sleep_until(env.now().plus_ms(50)).await;
    }
    worst
}

/// Produces the same again and again, whatever the answer is.
async fn insist(env: SimEnv, connection: Connection<SimEnv>, partition: i32, value: Rc<str>) {
    let request = ProduceRequest {
        timeout_ms: 30_000,
        ..produce(-1, &[(partition, &*value)])
    };
    while connection.ask(&request, PRODUCE).await.is_ok() {
        env.sleep_until(env.now().plus_ms(1_000)).await;
    }
}

/// How many clients insist on the partitions of a slow directory, each on how many values of how many bytes at once; the bytes
/// of an honest client's, and how long it may wait: at first, and later.
struct Crowd {
    clients: usize,
    values: &'static [(usize, usize)],
    honest_bytes: usize,
    waits_ms_max: [u64; 2],
}

/// A few well-behaved clients; and a crowd on another host whose requests take all of the memory for requests, down to the last bytes.
#[test]
fn a_slow_directory_delays_only_its_own_partitions() {
    let few = Crowd {
        clients: 2,
        values: &[(1, 10)],
        honest_bytes: 10,
        waits_ms_max: [200, 200],
    };
    let many = Crowd {
        clients: 120,
        values: &[(1, 900_000), (16, 30_000)],
        honest_bytes: 60_000,
        waits_ms_max: [2_000, 1_000],
    };
    for (seed, crowd) in [(86, few), (87, many)] {
        let world = world_of(seed, 3);
        start_on_two(&world);
        create_on(&world);
        let (fast, slow) = (partitions_in(&world, "/data"), partitions_in(&world, "/data2"));
        assert_eq!((fast.len(), slow.len()), (2, 2));
        let stall = FaultEffect::Stall { ns: 3_000_000_000 };
        world.plant(BROKER, Fault::always(DiskOperation::Any, "/data2", stall));
        let Crowd { clients, values, .. } = crowd;
        world.spawn_process(CLIENT + 1, 1, move |env, _| {
            let slow = slow.clone();
            async move {
                for client in 0..clients {
                    let connection = connect(&env).await;
                    let (count, bytes) = values[client % values.len()];
                    let value: Rc<str> = "s".repeat(bytes).into();
                    for _ in 0..count {
                        let partition = slow[client / 2 % slow.len()];
                        let insisting = insist(env.clone(), connection.clone(), partition, value.clone());
                        env.spawn(Queue::Foreground, insisting);
                    }
                }
                std::future::pending::<()>().await;
            }
        });
        world.run_for(1_000);
        let worst = world.block_on(CLIENT, move |env| async move {
            let value = "f".repeat(crowd.honest_bytes);
            [
                worst_of(&env, &fast, &value, 40).await,
                worst_of(&env, &fast, &value, 100).await,
            ]
        });
        println!("{clients} clients: {worst:?}");
        assert!(
            worst[0] < crowd.waits_ms_max[0] && worst[1] < crowd.waits_ms_max[1],
            "{clients} clients: {worst:?}"
        );
    }
}
