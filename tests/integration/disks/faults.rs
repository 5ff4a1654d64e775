//! Faults that a kernel brings about: no space, read-only, gone, slow; no descriptors, no memory, a stopped process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::loop_image::{Group, LoopImage};
use super::needs_root;
use crate::bad_input::honest::{batch, fetch_request, produce_request};
use crate::bad_input::samples::list_offsets;
use crate::harness::admin::{admin, block_on, create_topic};
use crate::harness::broker::Broker;
use crate::harness::clients::{kcat, program, run, run_with_input};
use crate::harness::connection::{Answer, Connection};
use crate::harness::{HANGS, wait_for};

const KAFKA_STORAGE_ERROR: i16 = 56;
const DATA_UNUSABLE: i32 = 5;
/// Produce is taken up again within this time of there being space.
const RESUMES: Duration = Duration::from_secs(5);
/// Of `data` or `written` records, below every bound.
const VALUE_BYTES: usize = 100_000;
const MIB: usize = 1 << 20;

/// A broker on the log directories of these disks; the metadata log is on `metadata`.
fn broker_on(test: &str, disks: &[&LoopImage], metadata: &LoopImage, more: &[(&str, &str)]) -> Broker {
    let paths: Vec<String> = disks.iter().map(|disk| disk.data().display().to_string()).collect();
    let (directories, metadata) = (paths.join(","), metadata.data().display().to_string());
    let mut settings = vec![
        ("log.dirs", directories.as_str()),
        ("metadata.log.dir", metadata.as_str()),
        ("ringtail.shards", "1"),
        ("ringtail.memory.bytes", "64m"),
        ("ringtail.journal.bytes", "8m"),
        ("ringtail.reserve.bytes", "8m"),
    ];
    settings.extend(more);
    Broker::start_with(test, &settings)
}

/// Produces one record of so many bytes; the error code.
fn produce(connection: &mut Connection, topic: &str, partition: i32, bytes: usize) -> i16 {
    let mut request = produce_request(topic, batch(&[vec![b'v'; bytes].as_slice()]));
    request.topic_data[0].partition_data[0].index = partition;
    let response = connection.call(9, &request);
    response.responses[0].partition_responses[0].error_code
}

fn fetch_error(connection: &mut Connection, topic: &str, partition: i32) -> i16 {
    let mut request = fetch_request(topic, 0, 1 << 20);
    request.topics[0].partitions[0].partition = partition;
    let response = connection.call(11, &request);
    response.responses[0].partitions[0].error_code
}

/// First or last offset of a partition.
fn offset(broker: &Broker, topic: &str, partition: i32, at: i64) -> i64 {
    let mut request = list_offsets(topic);
    request.topics[0].partitions[0].partition_index = partition;
    request.topics[0].partitions[0].timestamp = at;
    let response = Connection::open(&broker.address()).call(5, &request);
    let told = &response.topics[0].partitions[0];
    assert_eq!(told.error_code, 0, "{topic} {partition}");
    told.offset
}

const FIRST: i64 = -2;
const END: i64 = -1;

/// How many records of partition 0 can be read.
fn readable(broker: &Broker, topic: &str) -> usize {
    let mut consume = kcat();
    consume.args(["-C", "-b", &broker.address(), "-t", topic, "-p", "0"]);
    consume.args(["-o", "beginning", "-e", "-q", "-f", "%o\n", "-X", "check.crcs=true"]);
    run(consume).lines().count()
}

fn delete_topic(broker: &Broker, topic: &str) {
    let deleted = block_on(admin(broker).delete_topics(&[topic], &Default::default()));
    assert_eq!(deleted.expect("DeleteTopics is answered"), [Ok(topic.to_string())]);
}

/// The first partition of a topic whose folder is in a directory.
fn partition_in(directory: &Path, topic: &str) -> i32 {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let index = |name: &str| name.strip_prefix(topic)?.strip_prefix('-')?.parse().ok();
    let found = entries.filter_map(|entry| index(entry.expect("it can be read").file_name().to_str()?));
    found.min().expect("the topic has a partition there")
}

/// Waits until produce is taken up again, which has to be soon.
fn takes_produce_up_again(connection: &mut Connection, topic: &str) {
    let begin = Instant::now();
    wait_for("produce to be taken up again", || {
        (produce(connection, topic, 0, 10) == 0).then_some(())
    });
    assert!(begin.elapsed() < RESUMES, "{:?}", begin.elapsed());
}

#[test]
fn a_full_disk_refuses_produce_and_takes_it_up_again_by_itself() {
    let disk = LoopImage::new("full", 192);
    let options = [("log.retention.check.interval.ms", "100")];
    let mut broker = broker_on("full", &[&disk], &disk, &options);
    let segments = ("segment.bytes", "1048576");
    // The records say that they are years old.
    create_topic(&broker, "kept", 1, &[segments, ("retention.ms", "-1")]);
    create_topic(&broker, "gone", 1, &[]);
    // Old enough for retention some time after the disk is full.
    let times = ("message.timestamp.type", "LogAppendTime");
    create_topic(&broker, "aging", 1, &[segments, times, ("retention.ms", "20000")]);
    let mut connection = Connection::open(&broker.address());
    let mut acknowledged = 0;
    for _ in 0..3 * MIB / VALUE_BYTES {
        assert_eq!(produce(&mut connection, "kept", 0, VALUE_BYTES), 0);
        assert_eq!(produce(&mut connection, "aging", 0, VALUE_BYTES), 0);
        acknowledged += 1;
    }
    disk.fill();
    assert_eq!(
        offset(&broker, "aging", 0, FIRST),
        0,
        "the disk is full before retention begins"
    );
    wait_for("produce to be refused", || {
        let error = produce(&mut connection, "kept", 0, VALUE_BYTES);
        acknowledged += usize::from(error == 0);
        assert!(error == 0 || error == KAFKA_STORAGE_ERROR, "{error}");
        (error == KAFKA_STORAGE_ERROR).then_some(())
    });
    // librdkafka tries again by itself until there is space.
    let mut late = kcat();
    late.args(["-P", "-b", &broker.address(), "-t", "kept", "-p", "0"]);
    late.args(["-X", "message.timeout.ms=120000"]);
    let late = thread::spawn(move || run_with_input(late, b"late\n"));
    assert_eq!(readable(&broker, "kept"), acknowledged);
    delete_topic(&broker, "gone");
    wait_for("retention", || (offset(&broker, "aging", 0, FIRST) > 0).then_some(()));
    assert!(!late.is_finished(), "nothing was taken meanwhile");
    assert_eq!(offset(&broker, "kept", 0, END), acknowledged as i64);
    disk.give_space_back();
    takes_produce_up_again(&mut connection, "kept");
    late.join().expect("the record arrives");
    assert_eq!(readable(&broker, "kept"), acknowledged + 2);
    let log = broker.log_text();
    assert!(log.contains("produce is refused until there is more"), "{log}");
    assert!(log.contains("there is space again: produce goes on"), "{log}");
    let (_, status) = broker.stop();
    assert!(status.success(), "{status}");
}

#[test]
fn a_start_without_a_byte_free_serves() {
    let disk = LoopImage::new("start-full", 192);
    let mut broker = broker_on("start-full", &[&disk], &disk, &[]);
    create_topic(&broker, "kept", 1, &[("segment.bytes", "1048576")]);
    let mut connection = Connection::open(&broker.address());
    let count = 5 * MIB / VALUE_BYTES;
    for _ in 0..count {
        assert_eq!(produce(&mut connection, "kept", 0, VALUE_BYTES), 0);
    }
    disk.fill();
    broker.kill();
    broker.restart();
    assert_eq!(readable(&broker, "kept"), count);
    let mut connection = Connection::open(&broker.address());
    wait_for("produce to be refused", || {
        (produce(&mut connection, "kept", 0, 10) == KAFKA_STORAGE_ERROR).then_some(())
    });
    let end = offset(&broker, "kept", 0, END);
    disk.give_space_back();
    takes_produce_up_again(&mut connection, "kept");
    assert_eq!(offset(&broker, "kept", 0, END), end + 1);
    let (_, status) = broker.stop();
    assert!(status.success(), "{status}");
}

/// A commit is written into blocks that the file has: at no moment does a journal file lack some.
#[test]
fn the_journal_is_allocated_whole_and_without_holes() {
    let disk = LoopImage::new("journal", 192);
    let broker = broker_on("journal", &[&disk], &disk, &[]);
    create_topic(&broker, "t", 4, &[]);
    let journals = || -> Vec<(PathBuf, u64, u64)> {
        let entries = fs::read_dir(disk.data()).expect("the directory is there");
        let of = |path: PathBuf| {
            let is_journal = path.file_name()?.to_str()?.starts_with("ringtail-journal-");
            // It may be renamed meanwhile.
            let metadata = is_journal.then(|| path.metadata().ok()).flatten()?;
            Some((path, metadata.len(), metadata.blocks() * 512))
        };
        entries
            .filter_map(|entry| of(entry.expect("it can be read").path()))
            .collect()
    };
    let mut connection = Connection::open(&broker.address());
    let mut names = std::collections::BTreeSet::new();
    for round in 0..400 {
        assert_eq!(produce(&mut connection, "t", round % 4, VALUE_BYTES), 0);
        for (path, bytes, allocated) in journals() {
            assert!(allocated >= bytes, "{}: {allocated} of {bytes}", path.display());
            names.insert(path);
        }
    }
    assert!(names.len() > 8, "the journal went round: {names:?}");
}

/// Two disks, a topic with partitions on both, something in each. The partitions: of the first disk, of the second.
fn on_two_disks(test: &str, metadata: Option<&LoopImage>) -> (LoopImage, LoopImage, Broker, [i32; 2]) {
    let (first, second) = (LoopImage::new(test, 96), LoopImage::new(test, 96));
    let broker = broker_on(test, &[&first, &second], metadata.unwrap_or(&first), &[]);
    create_topic(&broker, "t", 8, &[]);
    let partitions = [&first, &second].map(|disk| partition_in(&disk.data(), "t"));
    let mut connection = Connection::open(&broker.address());
    for partition in partitions {
        assert_eq!(produce(&mut connection, "t", partition, VALUE_BYTES), 0);
    }
    (first, second, broker, partitions)
}

/// The second of the two disks failed: its partitions are offline, the others are not.
fn only_the_second_is_lost(broker: &mut Broker, [first, second]: [i32; 2]) {
    let mut connection = Connection::open(&broker.address());
    for _ in 0..3 {
        assert_eq!(produce(&mut connection, "t", second, VALUE_BYTES), KAFKA_STORAGE_ERROR);
        assert_eq!(fetch_error(&mut connection, "t", second), KAFKA_STORAGE_ERROR);
        assert_eq!(produce(&mut connection, "t", first, VALUE_BYTES), 0);
        assert_eq!(fetch_error(&mut connection, "t", first), 0);
    }
    broker.assert_alive();
    let log = broker.log_text();
    assert!(log.contains("out of service until a restart"), "{log}");
}

#[test]
fn a_file_system_that_turns_read_only_takes_its_directory_alone() {
    let (_first, second, mut broker, partitions) = on_two_disks("read-only", None);
    second.turn_read_only();
    only_the_second_is_lost(&mut broker, partitions);
    let log = broker.log_text();
    assert!(log.contains("Read-only file system"), "{log}");
}

#[test]
fn a_disk_that_vanishes_takes_its_directory_alone_and_brings_it_back() {
    let (_first, second, mut broker, partitions) = on_two_disks("vanishes", None);
    second.vanish();
    only_the_second_is_lost(&mut broker, partitions);
    let (_, status) = broker.stop();
    assert_eq!(status.code(), Some(DATA_UNUSABLE), "{}", broker.log_text());
    second.come_back();
    broker.restart();
    everything_is_there(&broker, partitions);
    let mut connection = Connection::open(&broker.address());
    for partition in partitions {
        assert_eq!(fetch_error(&mut connection, "t", partition), 0);
        assert_eq!(produce(&mut connection, "t", partition, VALUE_BYTES), 0);
    }
}

/// What `on_two_disks` and `only_the_second_is_lost` had acknowledged is there. So may be the one append of each disk that found it
/// lost: its bytes outlived the process in memory.
fn everything_is_there(broker: &Broker, partitions: [i32; 2]) {
    let [first, second] = partitions.map(|partition| offset(broker, "t", partition, END));
    assert!(
        (4..=5).contains(&first) && (1..=2).contains(&second),
        "{first} {second}"
    );
}

/// The broker ends by itself, saying why.
fn ends_because(broker: &mut Broker, why: &str) {
    let status = broker.ended();
    let log = broker.log_text();
    assert_eq!(status.code(), Some(DATA_UNUSABLE), "{log}");
    let last = log.lines().last().expect("it says something");
    assert!(last.starts_with("ringtail: ") && last.contains(why), "{log}");
}

#[test]
fn without_its_last_directory_the_broker_says_so_and_ends() {
    let metadata = LoopImage::new("last-metadata", 64);
    let (first, second, mut broker, partitions) = on_two_disks("last", Some(&metadata));
    second.vanish();
    only_the_second_is_lost(&mut broker, partitions);
    first.vanish();
    // The connection may end before the answer does.
    drop(send_produce(&broker, partitions[0]));
    ends_because(&mut broker, "no other log directory is left");
    first.come_back();
    second.come_back();
    broker.restart();
    everything_is_there(&broker, partitions);
}

/// Sends a produce and takes any answer, or none.
fn send_produce(broker: &Broker, partition: i32) -> Answer {
    let mut connection = Connection::open(&broker.address());
    let mut request = produce_request("t", batch(&[vec![b'v'; VALUE_BYTES].as_slice()]));
    request.topic_data[0].partition_data[0].index = partition;
    let frame = crate::harness::connection::frame(1, 9, &request);
    connection.send(&frame);
    connection.answer()
}

#[test]
fn without_the_metadata_directory_the_broker_says_so_and_ends() {
    let (first, _second, mut broker, partitions) = on_two_disks("metadata", None);
    first.vanish();
    drop(send_produce(&broker, partitions[0]));
    ends_because(&mut broker, "has the metadata log");

    // On a disk of its own it is found lost by the next command.
    let metadata = LoopImage::new("metadata-alone", 64);
    let (_first, _second, mut broker, _) = on_two_disks("metadata-alone", Some(&metadata));
    metadata.vanish();
    let mut create = Command::new(crate::harness::broker::ringtail());
    create.args(["topic", "create", "new", "--bootstrap-server", &broker.address()]);
    let refused = crate::harness::clients::run_any(create, b"");
    assert!(!refused.status.success(), "{}", refused.out);
    ends_because(&mut broker, "has the metadata log");
}

#[test]
fn a_slow_disk_delays_only_its_own_partitions() {
    let (_first, second, broker, [fast, slow]) = on_two_disks("slow", None);
    let group = Group::new("blkio", "slow");
    group.set(
        "blkio.throttle.write_bps_device",
        &format!("{} 32768", second.device_number()),
    );
    group.take(broker.pid());
    let address = broker.address();
    thread::scope(|scope| {
        let slow_one = scope.spawn(|| {
            let mut connection = Connection::open(&address);
            let (begin, mut slow_answers) = (Instant::now(), Vec::new());
            // More than one, to see whether anything builds up behind them.
            while slow_answers.len() < 2 && begin.elapsed() < HANGS {
                let began = Instant::now();
                assert_eq!(produce(&mut connection, "t", slow, VALUE_BYTES), 0);
                slow_answers.extend(Some(began.elapsed()).filter(|took| *took >= Duration::from_secs(2)));
            }
            slow_answers
        });
        let mut connection = Connection::open(&address);
        let (mut worst, mut count) = (Duration::ZERO, 0);
        // Until the other has ended; the pause keeps what is written small.
        while !slow_one.is_finished() {
            let began = Instant::now();
            assert_eq!(produce(&mut connection, "t", fast, 1000), 0);
            (worst, count) = (worst.max(began.elapsed()), count + 1);
            thread::sleep(Duration::from_millis(5));
        }
        let slow_answers = slow_one.join().expect("it is answered");
        println!("worst of {count} produces: {worst:?}; on the slow disk {slow_answers:?}");
        assert_eq!(slow_answers.len(), 2, "the disk is slow");
        assert!(worst < Duration::from_secs(1) && count > 50, "{worst:?}, {count}");
    });
    group.set(
        "blkio.throttle.write_bps_device",
        &format!("{} 0", second.device_number()),
    );
}

/// Connections until one is not served.
fn crowd(broker: &Broker) -> Vec<Connection> {
    // ApiVersions, version 0.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let mut crowd = Vec::new();
    loop {
        assert!(crowd.len() < 1000, "there are not so many descriptors");
        let Ok(mut connection) = Connection::try_open(&broker.address()) else {
            return crowd;
        };
        connection.send(&request);
        match connection.answer_within(Duration::from_secs(2)) {
            Answer::Frame(_) => crowd.push(connection),
            Answer::Closed | Answer::Silence => return crowd,
        }
    }
}

fn limit_descriptors(broker: &Broker, count: usize) {
    let mut prlimit = program("prlimit");
    prlimit.args(["--pid", &broker.pid().to_string()]);
    prlimit.arg(format!("--nofile={count}:{count}"));
    run(prlimit);
}

fn descriptors(broker: &Broker) -> usize {
    fs::read_dir(format!("/proc/{}/fd", broker.pid()))
        .expect("the broker runs")
        .count()
}

#[test]
fn without_descriptors_accepting_stops_and_storage_goes_on() {
    needs_root();
    let mut broker = Broker::start_with("descriptors", &[("ringtail.shards", "1")]);
    create_topic(&broker, "t", 1, &[("segment.bytes", "1048576")]);
    let mut connection = Connection::open(&broker.address());
    limit_descriptors(&broker, descriptors(&broker) + 64);
    let crowd = crowd(&broker);
    assert!(!crowd.is_empty());
    // Each of these segments is a file that is opened now.
    for round in 0..40 {
        assert_eq!(produce(&mut connection, "t", 0, VALUE_BYTES), 0, "{round}");
    }
    create_topic_on(&mut connection, "new");
    assert_eq!(produce(&mut connection, "new", 0, 10), 0);
    assert_eq!(fetch_error(&mut connection, "t", 0), 0);
    let log = broker.log_text();
    assert_eq!(log.matches("accept failed").count(), 1, "{log}");
    drop(crowd);
    wait_for("connections to be accepted again", || {
        crate::harness::connection::answers(&broker.address()).then_some(())
    });
    assert_eq!(readable(&broker, "t"), 40);
    broker.assert_alive();
}

/// On a connection that is there: no other can be had.
fn create_topic_on(connection: &mut Connection, topic: &str) {
    let response = connection.call(9, &crate::bad_input::samples::metadata_of(topic));
    let told = &response.topics[0];
    assert_eq!((told.error_code, told.partitions.is_empty()), (0, false));
}

#[test]
fn a_stopped_process_goes_on_where_it_was() {
    let mut broker = Broker::start("stopped");
    create_topic(&broker, "t", 1, &[]);
    let mut connection = Connection::open(&broker.address());
    assert_eq!(produce(&mut connection, "t", 0, VALUE_BYTES), 0);
    broker.signal("STOP");
    let waiting = thread::spawn(move || {
        let error = produce(&mut connection, "t", 0, VALUE_BYTES);
        (connection, error)
    });
    thread::sleep(Duration::from_secs(3));
    assert!(!waiting.is_finished(), "nobody answers");
    broker.signal("CONT");
    let (mut connection, error) = waiting.join().expect("it is answered");
    assert_eq!(error, 0);
    assert_eq!(produce(&mut connection, "t", 0, VALUE_BYTES), 0);
    assert_eq!(readable(&broker, "t"), 3);
    broker.assert_alive();
}

#[test]
fn what_was_acknowledged_outlives_a_kill_for_want_of_memory() {
    let group = Group::new("memory", "memory");
    group.set("memory.limit_in_bytes", "8388608");
    let mut broker = Broker::start_with("memory", &[("ringtail.shards", "1"), ("ringtail.memory.bytes", "256m")]);
    for (topic, class) in [("flushed", "flushed"), ("written", "written")] {
        create_topic(&broker, topic, 1, &[("ringtail.durability", class)]);
    }
    group.take(broker.pid());
    let address = broker.address();
    let acknowledged = ["flushed", "written"].map(|topic| {
        let address = address.clone();
        thread::spawn(move || {
            let mut connection = Connection::open(&address);
            let request = |number: u32| {
                let records = batch(&[vec![b'v'; VALUE_BYTES].as_slice()]);
                let request = produce_request(topic, records);
                crate::harness::connection::frame(number as i32, 9, &request)
            };
            let mut count = 0;
            while connection.send(&request(count)) && matches!(connection.answer(), Answer::Frame(_)) {
                count += 1;
            }
            count
        })
    });
    let status = broker.ended();
    assert_eq!(status.signal(), Some(9), "{}", broker.log_text());
    let acknowledged = acknowledged.map(|client| client.join().expect("it counts"));
    assert!(acknowledged.iter().all(|count| *count > 0), "{acknowledged:?}");
    drop(group);
    broker.restart();
    for (topic, count) in ["flushed", "written"].iter().zip(acknowledged) {
        let found = readable(&broker, topic);
        // One more may have been appended and not answered.
        assert!(
            (count as usize..=count as usize + 1).contains(&found),
            "{topic}: {found} of {count}"
        );
    }
}
