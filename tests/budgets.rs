//! What a request costs in steady state: allocations, calls of io_uring_enter. The broker runs in this process on the real ring; the
//! client reads and writes bytes that were made before, so whatever is allocated is the broker's.
//!
//! Many requests at once are what a broker under load sees: there the budgets are tight. One by one the shard sleeps in between, and a busy
//! machine wakes it more often than once for each: there they are what a defect would break, such as a buffer or a timer for each request.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use ringtail::client::{Admin, Client, ClientOptions, NewTopic};
use ringtail::config::{Input, Machine, load};
use ringtail::io::uring::{self, Options, ShardPlacement, UringEnv};
use ringtail::io::{Env, Queue};
use ringtail::shard::{Process, serve};
use ringtail::wire::batch::{BatchBuilder, BatchOptions};
use ringtail::wire::kafka::messages::*;
use ringtail::wire::kafka::{Message, Records, RequestHeader, Str, encode_request};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
/// Requests that are answered before anything is counted: buffers have their sizes then.
const WARM_UP: usize = 2_000;
const COUNTED: usize = 4_000;
/// How often the shard looks whether it was asked.
const TELL_MS: u64 = 10;

/// What the test and the shard tell each other.
#[derive(Default)]
struct Shared {
    /// How often the test has asked what the ring did, and how often it was answered.
    asked: AtomicU64,
    answered: AtomicU64,
    enters: AtomicU64,
    stop: AtomicBool,
}

/// A broker of one shard in a thread.
struct Broker {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    fn start(directory: &Path) -> Self {
        // Free a moment ago; whoever takes it meanwhile fails the test at once, and not silently.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = probe.local_addr().expect("bound").port();
        drop(probe);
        let settings = [
            format!("log.dirs={}", directory.display()),
            format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
            "ringtail.native.listeners=".into(),
            "ringtail.shards=1".into(),
            "ringtail.memory.bytes=512m".into(),
        ];
        let loaded = load(Input {
            file: None,
            environment: std::iter::empty::<(String, String)>(),
            arguments: &settings,
            machine: Machine {
                host_name: "localhost".into(),
                cpus: 1,
                memory_bytes: 1 << 30,
            },
        });
        let process: Arc<Process<UringEnv>> = Process::new(loaded.expect("good settings").config);
        let options = Options {
            directories: vec![directory.to_owned()],
            ..Options::default()
        };
        let shared = Arc::<Shared>::default();
        let told = shared.clone();
        let thread = std::thread::spawn(move || {
            let served = uring::run(ShardPlacement::first(1), options, move |env, index| {
                env.spawn(Queue::Foreground, tell(env.clone(), told.clone()));
                let process = process.clone();
                async move { serve(env.clone(), index, process, env.stop().requested()).await }
            });
            for shard in served.expect("the ring is there") {
                shard.expect("serves to its end");
            }
        });
        Self {
            port,
            shared,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => return stream,
                Err(_) if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) => {
                    std::thread::sleep(Duration::from_millis(TELL_MS));
                }
                Err(error) => panic!("the broker ended: {error}"),
            }
        }
    }

    fn create_topic(&self, name: &'static str, durability: &'static str) {
        let server = format!("127.0.0.1:{}", self.port);
        let created = uring::run_one(Options::default(), |env| async move {
            let options = ClientOptions {
                bootstrap_servers: vec![server],
                ..ClientOptions::default()
            };
            let topic = NewTopic {
                name: name.into(),
                partition_count: Some(1),
                configs: vec![("ringtail.durability".into(), durability.into())],
                ..NewTopic::default()
            };
            Admin::new(Client::new(env, options)).create_topic(&topic, false).await
        });
        created.expect("the ring is there").expect("created");
    }

    /// Calls of io_uring_enter up to now.
    fn enters(&self) -> u64 {
        let asked = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        while self.shared.answered.load(Ordering::SeqCst) < asked {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.enters.load(Ordering::SeqCst)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("it was started").expect("it ends well");
        }
    }
}

/// Tells what the shard's ring did, until it is asked to stop.
async fn tell(env: UringEnv, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::SeqCst) {
        let asked = shared.asked.load(Ordering::SeqCst);
        shared.enters.store(env.ring_counters().enters, Ordering::SeqCst);
        shared.answered.store(asked, Ordering::SeqCst);
        env.sleep_until(env.now().plus_ms(TELL_MS)).await;
    }
    env.stop().request();
}

fn frame<'a, M: Message<'a>>(version: i16, request: &M) -> Vec<u8> {
    let header = RequestHeader {
        api_key: M::API_KEY,
        api_version: version,
        correlation_id: 7,
        client_id: Some(Str::Borrowed("budgets")),
    };
    encode_request(&header, request).expect("encodes").concat()
}

fn produce(topic: &'static str, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value = vec![7; value_bytes];
    builder.push(1_700_000_000_000, None, Some(&value), &[]).expect("small");
    let batch = Bytes::copy_from_slice(builder.finish().expect("a batch"));
    let partition = PartitionProduceData {
        index: 0,
        records: Some(Records::from(batch)),
    };
    let topic = TopicProduceData {
        name: Str::Borrowed(topic),
        partition_data: vec![partition].into(),
        ..Default::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic].into(),
        ..Default::default()
    };
    frame(PRODUCE_VERSION, &request)
}

fn fetch(topic: &'static str, bytes_max: i32) -> Vec<u8> {
    let partition = FetchPartition {
        partition: 0,
        current_leader_epoch: -1,
        fetch_offset: 0,
        partition_max_bytes: bytes_max,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic: Str::Borrowed(topic),
        partitions: vec![partition].into(),
        ..Default::default()
    };
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: bytes_max,
        session_epoch: -1,
        topics: vec![topic].into(),
        ..Default::default()
    };
    frame(FETCH_VERSION, &request)
}

/// Sends `frames`, some requests at once, and takes their answers; `inbox` has room for the largest.
fn exchange(stream: &mut TcpStream, frames: &[u8], requests: usize, inbox: &mut [u8]) {
    stream.write_all(frames).expect("sent");
    for _ in 0..requests {
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("answered");
        let length = u32::from_be_bytes(length) as usize;
        stream.read_exact(&mut inbox[..length]).expect("whole");
    }
}

struct Case {
    name: &'static str,
    frame: Vec<u8>,
    /// Requests in one write; the next one when all are answered.
    at_once: usize,
    /// Of one request.
    allocations_max: f64,
    /// Of 1,000 requests.
    enters_max: f64,
}

impl Case {
    /// Whether it kept within its budgets.
    fn run(&self, broker: &Broker) -> bool {
        let mut stream = broker.connect();
        stream.set_nodelay(true).expect("a socket");
        let frames = self.frame.repeat(self.at_once);
        let mut inbox = vec![0; 1 << 20];
        for _ in 0..WARM_UP / self.at_once {
            exchange(&mut stream, &frames, self.at_once, &mut inbox);
        }
        let enters = broker.enters();
        let before = ALLOCATOR.stats();
        let rounds = COUNTED / self.at_once;
        for _ in 0..rounds {
            exchange(&mut stream, &frames, self.at_once, &mut inbox);
        }
        let after = ALLOCATOR.stats();
        let requests = (rounds * self.at_once) as f64;
        let grown = after.reallocations - before.reallocations;
        let allocations = (after.allocations - before.allocations + grown) as f64 / requests;
        let bytes = (after.bytes_allocated - before.bytes_allocated) as f64 / requests;
        let enters = (broker.enters() - enters) as f64 * 1000.0 / requests;
        println!(
            "{:<34} {allocations:>6.1} allocations of {bytes:>8.0} bytes a request (at most {}), {enters:>6.0} enters for 1,000 (at most {})",
            self.name, self.allocations_max, self.enters_max
        );
        allocations <= self.allocations_max && enters <= self.enters_max
    }
}

#[test]
fn requests_keep_within_their_budgets() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("budgets-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let broker = Broker::start(&directory);
    drop(broker.connect());
    broker.create_topic("w", "written");
    broker.create_topic("f", "flushed");
    // For the reader, who is the first: it stays in memory.
    broker.create_topic("r", "written");
    let mut stream = broker.connect();
    (0..100).for_each(|_| exchange(&mut stream, &produce("r", 16_000), 1, &mut [0; 1024]));
    drop(stream);
    let case = |name, frame, at_once, allocations_max, enters_max| Case {
        name,
        frame,
        at_once,
        allocations_max,
        enters_max,
    };
    let cases = [
        case("fetch 16 KB, one by one", fetch("r", 20_000), 1, 60.0, 8_000.0),
        case(
            "produce 100 B, one by one, written",
            produce("w", 100),
            1,
            25.0,
            8_000.0,
        ),
        case("produce 100 B, 50 at once, written", produce("w", 100), 50, 10.0, 250.0),
        case(
            "produce 16 KB, 10 at once, written",
            produce("w", 16_000),
            10,
            12.0,
            1_200.0,
        ),
        case("produce 100 B, 50 at once, flushed", produce("f", 100), 50, 15.0, 600.0),
    ];
    let over: Vec<_> = cases
        .iter()
        .filter(|case| !case.run(&broker))
        .map(|case| case.name)
        .collect();
    drop(broker);
    std::fs::remove_dir_all(&directory).expect("removed");
    assert!(over.is_empty(), "over their budgets: {over:?}");
}
