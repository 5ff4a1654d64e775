//! The same for what the cluster keeps, seen by clients of the whole broker: topics, ids, directories.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use ringtail::base::ids::TopicId;
use ringtail::client::{Connection, ConnectionOptions};
use ringtail::cluster::{image_of, verify_directory};
use ringtail::config::{Input, Machine, load};
use ringtail::io::Env;
use ringtail::io::sim::{DiskImage, DiskOptions, Options, SimEnv, World, host_address};
use ringtail::shard::{Process, ServeError, serve};
use ringtail::storage::verify::{Problem, Report, VerifyOptions};
use ringtail::wire::kafka::Records;
use ringtail::wire::kafka::messages::*;

use super::bases::{Base, contents, files};
use super::damage::{Touched, apply};
use super::judge::{Seen, Verdict, logged, verdict};
use crate::model::{batch, payload};

const BROKER: usize = 0;
const CLIENT: usize = 1;
const ROOTS: [&str; 2] = ["/data", "/data2"];
const SHARDS: usize = 2;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const CORRUPT_MESSAGE: i16 = 2;

/// What clients know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    topics: BTreeMap<String, (TopicId, usize)>,
    records: BTreeMap<(String, i32), Vec<u8>>,
    producer_id: i64,
    /// Partitions that answer an error.
    failed: usize,
}

/// A broker's directories, and what is true of them.
pub struct Cluster {
    pub base: Rc<Base>,
    known: Known,
}

type Ended = Rc<RefCell<Vec<Result<(), ServeError>>>>;

fn world(seed: u64) -> World {
    World::new(
        seed,
        Options {
            hosts: 2,
            disk: DiskOptions {
                directories: vec!["/data".into(), "/data2".into(), "/dev/shm".into()],
                ..Default::default()
            },
            ..Options::default()
        },
    )
}

fn start(world: &World) -> Ended {
    let arguments: Vec<String> = [
        "listeners=PLAINTEXT://:9092".to_owned(),
        format!("advertised.listeners=PLAINTEXT://{}:9092", host_address(BROKER)),
        "log.dirs=/data,/data2".to_owned(),
        format!("ringtail.shards={SHARDS}"),
        "ringtail.memory.bytes=64m".to_owned(),
        "ringtail.journal.bytes=8m".to_owned(),
        "ringtail.scrub.bytes.per.second=1g".to_owned(),
    ]
    .into();
    let loaded = load(Input {
        file: None,
        environment: Vec::new(),
        arguments: &arguments,
        machine: Machine {
            host_name: "broker".into(),
            cpus: SHARDS,
            memory_bytes: 1 << 30,
        },
    });
    let process = Process::<SimEnv>::new(loaded.expect("a good configuration").config);
    let ended = Ended::default();
    let all = ended.clone();
    let stop = Rc::new(ringtail::base::sync::Signal::default());
    world.spawn_process(BROKER, SHARDS, move |env, index| {
        let (process, all, stop) = (process.clone(), all.clone(), stop.clone());
        async move {
            let result = serve(env, index, process, async { stop.raised().await }).await;
            if result.is_err() {
                stop.raise();
            }
            all.borrow_mut().push(result);
        }
    });
    ended
}

async fn connect(env: &SimEnv) -> Connection<SimEnv> {
    let address = SocketAddr::new(host_address(BROKER), 9092).to_string();
    loop {
        match Connection::open(env, &address, ConnectionOptions::default()).await {
            Ok(connection) => return connection,
            Err(_) => env.sleep_until(env.now().plus_ms(50)).await,
        }
    }
}

/// Runs a client until it is done or the broker has ended.
fn client<T: 'static, F>(
    world: &World,
    ended: &Ended,
    work: impl FnOnce(Connection<SimEnv>) -> F + 'static,
) -> Option<T>
where
    F: Future<Output = T> + 'static,
{
    let done = Rc::new(RefCell::new(None));
    let (out, mut work) = (done.clone(), Some(work));
    world.spawn_process(CLIENT, 1, move |env, _| {
        let (out, work) = (out.clone(), work.take().expect("one shard"));
        async move {
            let value = work(connect(&env).await).await;
            *out.borrow_mut() = Some(value);
        }
    });
    let (seen, over) = (done.clone(), ended.clone());
    let came = world.run_until(move || seen.borrow().is_some() || over.borrow().len() == SHARDS);
    assert!(came, "neither an answer nor an end");
    done.take()
}

async fn create(connection: &Connection<SimEnv>, name: &'static str, partitions: i32, segment_bytes: &'static str) {
    let configs = vec![CreatableTopicConfig {
        name: "segment.bytes".into(),
        value: Some(segment_bytes.into()),
    }];
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.into(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic].into(),
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: CreateTopicsResponse<'_> = answer.decode().expect("decodes");
    let error = response.topics.first().map(|topic| topic.error_code);
    assert_eq!(error, Some(0), "{name}");
}

async fn produce(connection: &Connection<SimEnv>, name: &'static str, partition: i32, records: Bytes) {
    let data = PartitionProduceData {
        index: partition,
        records: Some(Records::from(records)),
    };
    let topic = TopicProduceData {
        name: name.into(),
        partition_data: vec![data].into(),
        ..Default::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic].into(),
        ..Default::default()
    };
    let answer = connection.ask(&request, PRODUCE).await.expect("an answer");
    let response: ProduceResponse<'_> = answer.decode().expect("decodes");
    let topic = response.responses.first().expect("the topic");
    let partition = topic.partition_responses.first().expect("the partition");
    assert_eq!(partition.error_code, 0);
}

async fn producer_id(connection: &Connection<SimEnv>) -> i64 {
    let request = InitProducerIdRequest {
        transactional_id: None,
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: InitProducerIdResponse = answer.decode().expect("decodes");
    response.producer_id
}

/// A life of the broker: topics come and go, records come.
async fn live(connection: Connection<SimEnv>, number: i32) {
    for name in [["first", "second"], ["third", "fourth"]][number as usize] {
        create(&connection, name, 3, "1048576").await;
    }
    let gone = ["gone", "away"][number as usize];
    create(&connection, gone, 2, "2097152").await;
    for sequence in 0..40 {
        for partition in 0..3 {
            let bytes = payload(partition, sequence, 20_000);
            produce(&connection, "first", partition, batch(-1, sequence, &bytes)).await;
        }
        let small = payload(0, sequence, 50);
        produce(&connection, "second", sequence % 3, batch(-1, sequence, &small)).await;
    }
    producer_id(&connection).await;
    let request = DeleteTopicsRequest {
        topic_names: vec![gone.into()].into(),
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = connection.ask(&request, 5).await.expect("an answer");
    let response: DeleteTopicsResponse<'_> = answer.decode().expect("decodes");
    assert_eq!(response.responses.first().map(|topic| topic.error_code), Some(0));
}

/// All that a client can ask.
async fn ask(connection: Connection<SimEnv>) -> Known {
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let answer = connection.call(&request).await.expect("an answer");
    let response: MetadataResponse<'_> = answer.decode().expect("decodes");
    let mut known = Known::default();
    for topic in response.topics.iter() {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        known.topics.insert(name, (topic.topic_id, topic.partitions.len()));
    }
    for (name, (_, partitions)) in known.topics.clone() {
        for partition in 0..partitions as i32 {
            match read(&connection, &name, partition).await {
                Some(bytes) => drop(known.records.insert((name.clone(), partition), bytes)),
                None => known.failed += 1,
            }
        }
    }
    known.producer_id = producer_id(&connection).await;
    known
}

/// A partition's batches; `None` for an error.
async fn read(connection: &Connection<SimEnv>, name: &str, partition: i32) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    let mut offset = 0;
    loop {
        let name: &'static str = ["first", "second", "third", "fourth"]
            .into_iter()
            .find(|n| *n == name)?;
        let asked = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: name.into(),
            partitions: vec![asked].into(),
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 1,
            topics: vec![topic].into(),
            ..Default::default()
        };
        let answer = connection.ask(&request, FETCH).await.expect("an answer");
        let response: FetchResponse<'_> = answer.decode().expect("decodes");
        let topic = response.responses.first()?;
        let answered = topic.partitions.first()?;
        if answered.error_code != 0 {
            assert!(
                [CORRUPT_MESSAGE, 56, 6, 5, 3].contains(&answered.error_code),
                "{}",
                answered.error_code
            );
            return None;
        }
        let bytes = answered
            .records
            .as_ref()
            .and_then(|records| records.as_wire())
            .unwrap_or_default();
        if bytes.is_empty() {
            assert_eq!(
                offset, answered.high_watermark,
                "{name}-{partition}: nothing at {offset}"
            );
            return Some(found);
        }
        let mut rest = bytes;
        while let Ok(header) = ringtail::wire::batch::BatchHeader::parse(rest) {
            offset = header.next_offset();
            rest = &rest[header.total_bytes().min(rest.len())..];
        }
        found.extend_from_slice(bytes);
    }
}

fn files_of(image: &DiskImage) -> super::bases::Files {
    let world = world(1).with_disk(BROKER, image);
    let paths: Vec<PathBuf> = world.block_on(BROKER, |env| async move { files(&env, &ROOTS).await });
    contents(image, &paths)
}

/// A broker that was killed twice, and the directories it left.
pub fn cluster() -> Cluster {
    let mut image: Option<DiskImage> = None;
    let mut past = Vec::new();
    for number in 0..2 {
        let mut world = world(40 + number as u64);
        if let Some(image) = &image {
            world = world.with_disk(BROKER, image);
        }
        let ended = start(&world);
        client(&world, &ended, move |connection| live(connection, number)).expect("it serves");
        world.run_for(3_000);
        past.push(files_of(&world.disk_image(BROKER).after_kill(1)));
        let now = world.disk_image(BROKER).after_kill(number as u64);
        image = Some(now.after_power_cut(ringtail::io::sim::LossMode::LoseAll, 1));
    }
    let image = image.expect("two lives");
    let world = world(50).with_disk(BROKER, &image);
    let ended = start(&world);
    let known = client(&world, &ended, ask).expect("it serves");
    assert_eq!((known.topics.len(), known.failed), (4, 0), "{:?}", known.topics);
    let base = Base {
        name: "broker",
        is_large: false,
        files: files_of(&image),
        past,
        truth: Vec::new(),
        after: files_of(&world.disk_image(BROKER).after_kill(1)),
        image,
    };
    Cluster {
        base: Rc::new(base),
        known,
    }
}

fn verified(world: &World) -> Report {
    let mut all = Report::default();
    for root in ROOTS {
        let verified = world.block_on(BROKER, move |env| async move {
            let image = image_of(&env, &ROOTS).await;
            verify_directory(&env, Path::new(root), image.as_ref(), VerifyOptions::default(), |_| ()).await
        });
        match verified {
            Ok(report) => all.problems.extend(report.problems),
            Err(error) => all.problems.push(Problem {
                file: root.into(),
                position: None,
                what: error.0,
            }),
        }
    }
    all
}

/// Does the damage and judges what clients see of it.
pub fn judge(cluster: &Cluster, touched: &[Touched], seed: u64) -> (Seen, Report, Verdict) {
    let world = world(seed).with_disk(BROKER, &cluster.base.image);
    let doing = touched.to_vec();
    world.block_on(BROKER, |env| async move { apply(&env, &doing).await });
    let report = verified(&world);
    let before = files_of(&world.disk_image(BROKER).after_kill(1));
    let (mut seen, log) = logged(|| {
        let mut seen = Seen::default();
        let ended = start(&world);
        let known = client(&world, &ended, ask);
        match known {
            Some(known) => {
                compare(&cluster.known, &known, &mut seen);
                // A pass of the scrub.
                world.run_for(12_000);
            }
            None => {
                let errors = ended.borrow();
                let why = errors
                    .iter()
                    .filter_map(|end| end.as_ref().err())
                    .map(ServeError::to_string);
                let why = why.collect::<Vec<_>>().join("; ");
                seen.told += &why;
                seen.refused = Some(why);
            }
        }
        seen
    });
    seen.told += &log;
    let after = files_of(&world.disk_image(BROKER).after_kill(1));
    let verdict = verdict(&cluster.base, touched, &seen, &report, &before, &after);
    (seen, report, verdict)
}

fn compare(truth: &Known, known: &Known, seen: &mut Seen) {
    if truth.topics != known.topics {
        seen.wrong
            .push(format!("topics {:?}, they were {:?}", known.topics, truth.topics));
    }
    if known.producer_id < truth.producer_id {
        seen.wrong.push(format!("producer id {} again", known.producer_id));
    }
    seen.corrupt = known.failed;
    for (partition, bytes) in &known.records {
        match truth.records.get(partition) == Some(bytes) {
            true => seen.served += 1,
            false => seen.wrong.push(format!("{partition:?} is served changed")),
        }
    }
}
