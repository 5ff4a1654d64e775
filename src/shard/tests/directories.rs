//! Directories that fail while the broker serves, damage on the disk, and acknowledgements that do not come in time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::epochs::{epoch_end, latest, leaders};
use super::*;
use crate::base::ids::TopicId;
use crate::io::sim::{DiskOperation, EIO, Fault, FaultEffect, LossMode};
use crate::io::{read_file, replace_file};

const CORRUPT_MESSAGE: i16 = 2;
const LEADER_NOT_AVAILABLE: i16 = 5;
const REQUEST_TIMED_OUT: i16 = 7;
pub(super) const KAFKA_STORAGE_ERROR: i16 = 56;
/// A fault of everything in a directory.
pub(super) const BROKEN: FaultEffect = FaultEffect::Error(EIO);

/// Produces one record to each partition in a request of its own: their errors.
pub(super) async fn produced(connection: &Connection<SimEnv>, value: &str, timeout_ms: i32) -> Vec<i16> {
    let mut errors = Vec::new();
    for partition in 0..4 {
        let request = ProduceRequest {
            timeout_ms,
            ..produce(-1, &[(partition, value)])
        };
        let answer = connection.ask(&request, PRODUCE).await.expect("an answer");
        let response: ProduceResponse<'_> = answer.decode().expect("decodes");
        let topic = response.responses.first().expect("one topic");
        errors.push(topic.partition_responses.first().expect("one partition").error_code);
    }
    errors
}

pub(super) async fn fetch_errors(connection: &Connection<SimEnv>) -> Vec<i16> {
    let found = fetched(connection, fetch(&[(0, 0), (1, 0), (2, 0), (3, 0)], 0)).await;
    found.iter().map(|(_, error, ..)| *error).collect()
}

/// The partitions of `t` whose directory is out of service, as produce, fetch, list-offsets and metadata tell.
pub(super) async fn offline(env: SimEnv) -> Vec<i32> {
    let connection = connect(&env).await;
    let errors = produced(&connection, "x", 1000).await;
    let offline: Vec<i32> = (0..4).filter(|p| errors[*p as usize] != 0).collect();
    let expected = |error| -> Vec<i16> {
        let of = |p| if offline.contains(&p) { error } else { 0 };
        (0..4).map(of).collect()
    };
    assert_eq!(errors, expected(KAFKA_STORAGE_ERROR));
    // One shard found the failure; now the others know it too.
    assert_eq!(produced(&connection, "y", 1000).await, expected(KAFKA_STORAGE_ERROR));
    assert_eq!(fetch_errors(&connection).await, expected(KAFKA_STORAGE_ERROR));
    let mut told = Vec::new();
    for partition in 0..4 {
        told.push(latest(&connection, partition, -1).await.0);
    }
    assert_eq!(told, expected(KAFKA_STORAGE_ERROR));
    for (partition, leader) in leaders(&connection).await.into_iter().enumerate() {
        match offline.contains(&(partition as i32)) {
            true => assert_eq!(leader, (LEADER_NOT_AVAILABLE, -1, 0)),
            false => assert_eq!(leader, (0, 1, 0)),
        }
    }
    offline
}

#[test]
fn a_failed_directory_takes_its_partitions_and_the_one_of_the_metadata_the_process() {
    let world = world(31);
    let broker = start_with(&world, &["log.dirs=/data,/data2", "metadata.log.dir=/data"]);
    world.block_on(CLIENT, |env| async move { create(&connect(&env).await).await });
    world.plant(BROKER, Fault::always(DiskOperation::Write, "/data2/", BROKEN));
    let gone = world.block_on(CLIENT, offline);
    assert_eq!(gone.len(), 2, "each directory has two of the four partitions: {gone:?}");
    world.run_for(5_000);
    assert!(broker.ended.borrow().is_empty(), "the rest goes on");

    world.plant(BROKER, Fault::always(DiskOperation::Write, "/data/", BROKEN));
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        // The connection may end first.
        let _ = connection
            .ask(&produce(-1, &[(0, "z"), (1, "z"), (2, "z"), (3, "z")]), PRODUCE)
            .await;
    });
    assert!(world.run_until(|| broker.ended.borrow().len() == 2), "the process ends");
    let ended = broker.ended.borrow();
    let why: Vec<_> = ended
        .iter()
        .filter(|end| matches!(end, Err(ServeError::OutOfService { path, .. }) if path == "/data"))
        .collect();
    assert_eq!(why.len(), 1, "{ended:?}");
}

#[test]
fn damaged_bytes_are_answered_with_corrupt_message_and_nothing_else_is() {
    let world = world(32);
    let broker = start(&world);
    let value = "v".repeat(9_000);
    world.block_on(CLIENT, move |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        assert_eq!(produced(&connection, &value, 1000).await, [0; 4]);
    });
    broker.stop(&world);
    start(&world);
    // Recovery would mend it from the journal.
    world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
    let log = "/data/t-2/00000000000000000000.log";
    world.corrupt(BROKER, log, 200, 1).expect("the segment is there");
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        let found = fetched(&connection, fetch(&[(0, 0), (1, 0), (2, 0), (3, 0)], 0)).await;
        let errors: Vec<_> = found.iter().map(|(_, error, ..)| *error).collect();
        assert_eq!(errors, [0, 0, CORRUPT_MESSAGE, 0]);
    });
}

/// Where a damaged log ends nobody knows: an offset or an epoch's end would be taken for a truncation.
#[test]
fn a_damaged_partition_tells_neither_its_ends_nor_its_epochs() {
    let before = world(38);
    start(&before);
    // So large that it goes straight to its segment.
    let value = "v".repeat(200_000);
    before.block_on(CLIENT, move |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        assert_eq!(produced(&connection, &value, 1000).await, [0; 4]);
    });
    before.run_for(1_000);
    let left = before.disk_image(BROKER).after_power_cut(LossMode::LoseAll, 38);
    let after = world(38).with_disk(BROKER, &left);
    let log = "/data/t-2/00000000000000000000.log";
    after.corrupt(BROKER, log, 200, 1).expect("the segment is there");
    start(&after);
    after.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        let fetched = fetched(&connection, fetch(&[(1, 0), (2, 0)], 0)).await;
        assert_eq!((fetched[0].1, fetched[0].2), (0, 1));
        assert_eq!((fetched[1].1, fetched[1].2), (CORRUPT_MESSAGE, -1));
        assert_eq!(latest(&connection, 1, -1).await, (0, 1, 1));
        assert_eq!(latest(&connection, 2, -1).await, (CORRUPT_MESSAGE, -1, -1));
        assert_eq!(epoch_end(&connection, 1, -1, 0).await, (0, 0, 1));
        assert_eq!(epoch_end(&connection, 2, -1, 0).await, (CORRUPT_MESSAGE, -1, -1));
    });
}

#[test]
fn an_acknowledgement_that_is_late_is_told_and_the_append_stands() {
    let world = world(33);
    start(&world);
    world.block_on(CLIENT, |env| async move { create(&connect(&env).await).await });
    let stall = FaultEffect::Stall { ns: 8_000_000_000 };
    world.plant(
        BROKER,
        Fault::always(DiskOperation::Write, "/data/ringtail-journal", stall),
    );
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        let began = env.now();
        let answer = connection
            .ask(&produce(-1, &[(0, "late"), (1, "late")]), PRODUCE)
            .await
            .expect("an answer");
        let waited_ms = env.now().ms_since(began);
        assert!((1000..2500).contains(&waited_ms), "{waited_ms}");
        let response: ProduceResponse<'_> = answer.decode().expect("decodes");
        let topic = response.responses.first().expect("one topic");
        let errors: Vec<_> = topic.partition_responses.iter().map(|p| p.error_code).collect();
        assert_eq!(errors, [REQUEST_TIMED_OUT; 2]);
        env.sleep_until(env.now().plus_ms(30_000)).await;
        let found = fetched(&connection, fetch(&[(0, 0), (1, 0)], 0)).await;
        assert_eq!(found.iter().map(|p| p.2).collect::<Vec<_>>(), [1, 1]);
    });
}

/// Puts a folder there as a partition has one.
async fn plant_folder(env: &SimEnv, folder: &str, topic: TopicId) {
    let folder = Path::new(folder);
    env.create_directory(folder).await.expect("makes a folder");
    let metadata = format!("version: 0\ntopic_id: {topic}\n");
    replace_file(env, &folder.join("partition.metadata"), Bytes::from(metadata))
        .await
        .expect("writes a file");
}

#[test]
fn a_deletion_cut_short_is_finished_and_a_strangers_folder_is_set_aside() {
    let world = world(34);
    let broker = start(&world);
    let deleted = world.block_on(BROKER, |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        let text = read_file(&env, Path::new("/data/t-0/partition.metadata"), 4096)
            .await
            .expect("is there");
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some("t".into()),
                ..Default::default()
            }]
            .into(),
            timeout_ms: 5000,
            ..Default::default()
        };
        connection.ask(&request, 6).await.expect("an answer");
        String::from_utf8(text.to_vec()).expect("text")
    });
    broker.stop(&world);
    let deleted = deleted
        .trim_end()
        .rsplit(' ')
        .next()
        .and_then(TopicId::parse)
        .expect("an id");
    let stranger = TopicId([0xee; 16]);
    world.block_on(BROKER, move |env| async move {
        plant_folder(&env, "/data/t-0", deleted).await;
        plant_folder(&env, "/data/u-7", stranger).await;
    });
    start(&world);
    world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
    let names = world.block_on(BROKER, |env| async move {
        let entries = env.list(Path::new("/data")).await.expect("lists");
        let folders = entries.into_iter().filter(|entry| entry.is_directory);
        folders.map(|entry| entry.name).collect::<Vec<_>>()
    });
    assert_eq!(names, [format!("u-7.{stranger}-stray")]);
}

/// By its id alone it would be another partition's, which has no records to tell it by.
#[test]
fn a_folder_that_names_another_topic_than_its_name_does_is_left_alone() {
    let world = world(35);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        let names = ["t".to_owned(), "u".to_owned()];
        assert_eq!(
            super::bounds::create_topics(&client, &names, 4, &[], false).await,
            [0, 0]
        );
        assert_eq!(produced(&client, "x", 1000).await, [0; 4]);
    });
    broker.stop(&world);
    let before = world.block_on(BROKER, |env| async move {
        let [t, u] = ["/data/t-0/partition.metadata", "/data/u-0/partition.metadata"].map(Path::new);
        let texts = (
            read_file(&env, t, 4096).await.expect("reads"),
            read_file(&env, u, 4096).await.expect("reads"),
        );
        replace_file(&env, t, texts.1.clone()).await.expect("writes");
        replace_file(&env, u, texts.0.clone()).await.expect("writes");
        (files_in(&env, "/data/t-0").await, files_in(&env, "/data/u-0").await)
    });
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let client = connect(&env).await;
        assert_eq!(produced(&client, "y", 1000).await, [KAFKA_STORAGE_ERROR, 0, 0, 0]);
    });
    let after = world.block_on(BROKER, |env| async move {
        (files_in(&env, "/data/t-0").await, files_in(&env, "/data/u-0").await)
    });
    assert!(before == after, "left as they are");
}

type Files = BTreeMap<String, Bytes>;

async fn files_in(env: &SimEnv, folder: &str) -> Files {
    let mut files = Files::new();
    for entry in env.list(Path::new(folder)).await.expect("lists") {
        let content = read_file(env, &Path::new(folder).join(&entry.name), 1 << 30).await;
        files.insert(entry.name, content.expect("reads"));
    }
    files
}

async fn put_files(env: &SimEnv, folder: &str, files: &Files) {
    for (name, content) in files {
        let path = Path::new(folder).join(name);
        replace_file(env, &path, content.clone()).await.expect("writes a file");
    }
}

/// As Kafka leaves a partition: an offset is missing where compaction went, and there is a segment behind it.
#[test]
fn a_strangers_data_is_set_aside_as_it_is() {
    let world = world(37);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
    broker.stop(&world);
    let stranger = TopicId([0xee; 16]);
    let before = world.block_on(BROKER, move |env| async move {
        plant_folder(&env, "/data/u-7", stranger).await;
        let mut first = batch("one").to_vec();
        let mut behind_a_gap = batch("two").to_vec();
        behind_a_gap[..8].copy_from_slice(&9i64.to_be_bytes());
        first.extend(behind_a_gap);
        let files = [(0, first), (500, batch("three").to_vec())];
        let named = files.map(|(base, content)| (format!("{base:020}.log"), content.into()));
        put_files(&env, "/data/u-7", &named.into()).await;
        files_in(&env, "/data/u-7").await
    });
    start(&world);
    world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
    let aside = format!("/data/u-7.{stranger}-stray");
    let after = world.block_on(BROKER, move |env| async move { files_in(&env, &aside).await });
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(before == after, "nothing in it was changed");
}

#[test]
fn a_copy_of_a_partitions_folder_under_another_name_is_left_alone() {
    let world = world(38);
    let broker = start(&world);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        create(&connection).await;
        assert_eq!(produced(&connection, "kept", 1000).await, [0; 4]);
    });
    broker.stop(&world);
    let before = world.block_on(BROKER, |env| async move {
        let files = files_in(&env, "/data/t-0").await;
        env.create_directory(Path::new("/data/t-old-0"))
            .await
            .expect("makes a folder");
        put_files(&env, "/data/t-old-0", &files).await;
        files
    });
    start(&world);
    world.block_on(CLIENT, |env| async move {
        let connection = connect(&env).await;
        assert_eq!(fetch_errors(&connection).await, [0; 4]);
        assert_eq!(produced(&connection, "more", 1000).await, [0; 4]);
    });
    let after = world.block_on(BROKER, |env| async move { files_in(&env, "/data/t-old-0").await });
    assert!(before == after, "the copy is as it was");
}

/// The numbers of the starts whose files are on the broker's disk or in its memory.
fn starts_on_disk(world: &World) -> BTreeSet<String> {
    world.block_on(BROKER, |env| async move {
        let mut starts = BTreeSet::new();
        for directory in ["/data", "/data2", "/dev/shm"] {
            for entry in env.list(Path::new(directory)).await.expect("lists") {
                let number = entry
                    .name
                    .strip_prefix("ringtail-")
                    .and_then(|name| name.split('-').nth(1));
                starts.extend(number.and_then(|number| number.split('.').next()).map(str::to_owned));
            }
        }
        starts
    })
}

#[test]
fn files_of_earlier_starts_go_when_clients_are_served_or_at_once_where_space_is_short() {
    for capacity in [None, Some(3 << 30)] {
        let world = world(36);
        let broker = start(&world);
        world.block_on(CLIENT, |env| async move {
            let connection = connect(&env).await;
            create(&connection).await;
            assert_eq!(produced(&connection, "kept", 1000).await, [0; 4]);
        });
        world.kill(broker.id);
        world.run_for(100);
        capacity.iter().for_each(|bytes| world.set_capacity(BROKER, *bytes));
        start(&world);
        world.block_on(CLIENT, |env| async move { drop(connect(&env).await) });
        let early = starts_on_disk(&world);
        assert_eq!(early.contains("0"), capacity.is_none(), "{early:?}");
        world.run_for(2000);
        assert_eq!(starts_on_disk(&world), BTreeSet::from(["1".to_owned()]));
    }
}
