//! Two log directories, and the device under one of them fails: what its clients see, and that nobody else notices.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::fuse_disk::FaultyDisk;
use crate::bad_input::honest::{batch, fetch_request, produce, produce_request};
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::clients::{program, run};
use crate::harness::connection::{Connection, frame};
use crate::harness::wait_for;

const DISK_BYTES: u64 = 512 << 20;
/// KAFKA_STORAGE_ERROR: clients ask for the metadata again and try once more.
const STORAGE_ERROR: i16 = 56;
const NONE: i16 = 0;
/// One partition, in the directory on the disk that fails.
const FAULTY: &str = "faulty";
/// One partition, in the other one.
const SOUND: &str = "sound";

struct Pair {
    // Before its disks, so that it is killed first.
    broker: Broker,
    /// Has the metadata log.
    _sound: FaultyDisk,
    faulty: FaultyDisk,
}

fn start(test: &str, directories: &[&FaultyDisk], settings: &[(&str, &str)]) -> Broker {
    let paths: Vec<String> = directories
        .iter()
        .map(|disk| disk.data().display().to_string())
        .collect();
    let directories = paths.join(",");
    let mut all = vec![
        ("log.dirs", directories.as_str()),
        ("ringtail.journal.bytes", "16m"),
        ("ringtail.reserve.bytes", "16m"),
    ];
    all.extend(settings);
    Broker::start_with(test, &all)
}

impl Pair {
    fn start(test: &str) -> Pair {
        let sound = FaultyDisk::start(test, DISK_BYTES);
        let faulty = FaultyDisk::start(test, DISK_BYTES);
        let broker = start(test, &[&sound, &faulty], &[("log.segment.bytes", "1048576")]);
        // Each new partition goes where there are fewest.
        create_topic(&broker, SOUND, 1, &[]);
        create_topic(&broker, FAULTY, 1, &[]);
        assert!(folder(&sound, SOUND).exists() && folder(&faulty, FAULTY).exists());
        Pair {
            broker,
            _sound: sound,
            faulty,
        }
    }
}

fn send(broker: &Broker, topic: &str, value: &str) -> (i16, i64) {
    let mut connection = Connection::open(&broker.address());
    produce(&mut connection, topic, batch(&[value.as_bytes()]))
}

/// The records from there on, as bytes, or the error.
fn fetch(broker: &Broker, topic: &str, offset: i64) -> Result<Vec<u8>, i16> {
    let response = Connection::open(&broker.address()).call(11, &fetch_request(topic, offset, 1 << 20));
    let partition = &response.responses[0].partitions[0];
    let records = partition
        .records
        .as_ref()
        .map(|records| records.to_vec())
        .unwrap_or_default();
    match partition.error_code {
        NONE => Ok(records),
        error => {
            assert!(records.is_empty(), "an error comes alone");
            Err(error)
        }
    }
}

fn has(broker: &Broker, topic: &str, offset: i64, value: &str) -> bool {
    let records = fetch(broker, topic, offset).expect("a record that was acknowledged can be read");
    records.windows(value.len()).any(|window| window == value.as_bytes())
}

fn folder(disk: &FaultyDisk, topic: &str) -> PathBuf {
    disk.data().join(format!("{topic}-0"))
}

/// The first failed write or flush is never answered as if it had worked; from then on the directory is out of service until a
/// start, whatever the device does. The other directory goes on.
fn one_directory_goes_out_of_service(test: &str, fault: &str) {
    if !only_of_ringtail("a directory that fails goes out of service alone") {
        return;
    }
    let mut pair = Pair::start(test);
    assert_eq!(send(&pair.broker, FAULTY, "before"), (NONE, 0));
    assert_eq!(send(&pair.broker, SOUND, "sound 0"), (NONE, 0));
    pair.faulty.tell(fault);
    assert_eq!(
        send(&pair.broker, FAULTY, "not acknowledged").0,
        STORAGE_ERROR,
        "{fault}"
    );
    pair.faulty.tell("heal");
    pair.faulty.tell("on");
    for offset in 1..10 {
        assert_eq!(
            send(&pair.broker, FAULTY, "not acknowledged").0,
            STORAGE_ERROR,
            "healed, without a start"
        );
        assert_eq!(fetch(&pair.broker, FAULTY, 0), Err(STORAGE_ERROR), "out of service");
        assert_eq!(send(&pair.broker, SOUND, &format!("sound {offset}")), (NONE, offset));
    }
    pair.broker.assert_alive();
    let log = pair.broker.log_tail();
    let path = pair.faulty.data().display().to_string();
    let said = log
        .lines()
        .filter(|line| line.contains("out of service") && line.contains(&path));
    assert_eq!(said.count(), 1, "one line says so:\n{log}");
    pair.broker.kill();
    // The file system may have shut itself down: a mount replays its journal.
    pair.faulty.detach();
    pair.faulty.attach();
    pair.broker.restart();
    assert!(
        has(&pair.broker, FAULTY, 0, "before"),
        "what was acknowledged is there after the start"
    );
    for offset in 0..10 {
        assert!(has(&pair.broker, SOUND, offset, &format!("sound {offset}")));
    }
    assert_eq!(send(&pair.broker, FAULTY, "after").0, NONE, "in service again");
}

#[test]
fn a_failed_write_takes_its_directory_out_of_service() {
    one_directory_goes_out_of_service("eio-write", "fail write");
}

/// The disk loses what a failed flush covered: a second flush that succeeds would acknowledge what is not there.
#[test]
fn a_failed_flush_takes_its_directory_out_of_service() {
    one_directory_goes_out_of_service("eio-flush", "fail flush nth=1");
}

#[test]
fn a_device_that_vanishes_takes_its_directory_out_of_service() {
    one_directory_goes_out_of_service("vanished", "off");
}

/// Where a file lies on its device, in bytes.
fn extents(file: &Path) -> Vec<std::ops::Range<u64>> {
    let mut filefrag = program("filefrag");
    filefrag.args(["-v", "-b1"]).arg(file);
    let listed = run(filefrag);
    // ext: logical_offset: physical_offset: length: …, each offset a range `first.. last:`.
    let rows = listed.lines().filter_map(|line| {
        let row = line.split_once(':')?;
        row.0.trim().parse::<u32>().ok()?;
        let (first, last) = row.1.split(':').nth(1)?.split_once("..")?;
        Some(first.trim().parse().ok()?..last.trim().parse::<u64>().ok()? + 1)
    });
    rows.collect()
}

/// A part of the disk that cannot be read costs what lies there: an error, never other bytes, and nothing else stops.
#[test]
fn what_cannot_be_read_is_an_error_and_nothing_else_stops() {
    if !only_of_ringtail("reads of a bad part of a disk") {
        return;
    }
    let mut pair = Pair::start("eio-read");
    let value = |offset: i64| format!("{offset} {:.>60000}", "");
    let count = 60;
    for offset in 0..count {
        assert_eq!(send(&pair.broker, FAULTY, &value(offset)), (NONE, offset));
    }
    assert_eq!(send(&pair.broker, SOUND, "sound"), (NONE, 0));
    // Nothing of it in memory.
    pair.broker.stop();
    pair.broker.restart();
    let segment = folder(&pair.faulty, FAULTY).join("00000000000000000000.log");
    let bad = extents(&segment);
    assert!(!bad.is_empty(), "{} lies somewhere", segment.display());
    for range in bad {
        pair.faulty
            .tell(&format!("fail read range={}-{}", range.start, range.end));
    }
    for _ in 0..3 {
        assert_eq!(fetch(&pair.broker, FAULTY, 0), Err(STORAGE_ERROR));
        assert!(
            has(&pair.broker, FAULTY, count - 1, &value(count - 1)),
            "the rest of the partition"
        );
        assert!(has(&pair.broker, SOUND, 0, "sound"));
    }
    assert_eq!(send(&pair.broker, FAULTY, "more"), (NONE, count), "it takes records");
    pair.broker.assert_alive();
    let log = pair.broker.log_tail();
    assert!(log.contains("a segment cannot be read"), "{log}");
    assert!(pair.faulty.stats()["failed"] > 0, "the device has failed reads");
    pair.faulty.tell("heal");
    for offset in 0..count {
        assert!(
            has(&pair.broker, FAULTY, offset, &value(offset)),
            "it can be read again"
        );
    }
}

/// Whoever waits for a slow disk waits alone.
#[test]
fn a_slow_disk_delays_its_own_partitions_alone() {
    if !only_of_ringtail("a slow disk delays its own partitions alone") {
        return;
    }
    let mut pair = Pair::start("slow");
    assert_eq!(send(&pair.broker, FAULTY, "before"), (NONE, 0));
    assert_eq!(send(&pair.broker, SOUND, "sound 0"), (NONE, 0));
    let Pair { broker, faulty, .. } = &mut pair;
    faulty.tell("slow 100000");
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let answer = send(broker, FAULTY, "slowly");
            answered.store(true, Ordering::SeqCst);
            answer
        });
        wait_for("the device to be busy", || {
            (faulty.stats()["delayed"] > 0).then_some(())
        });
        for offset in 1..20 {
            assert_eq!(send(broker, SOUND, &format!("sound {offset}")), (NONE, offset));
            assert!(has(broker, SOUND, offset, &format!("sound {offset}")));
        }
        assert!(!answered.load(Ordering::SeqCst), "nobody waited for the slow one");
        faulty.tell("heal");
        assert_eq!(slow.join().expect("it does not panic"), (NONE, 1));
    });
    assert!(has(broker, FAULTY, 1, "slowly"));
}

/// Without the directory of the metadata, or without any, the broker says so and ends; a start with the disk back finds everything.
fn the_broker_ends(test: &str, metadata_elsewhere: bool, says: &str) {
    if !only_of_ringtail("a broker that cannot go on says so and ends") {
        return;
    }
    let sound = FaultyDisk::start(test, DISK_BYTES);
    let mut faulty = FaultyDisk::start(test, DISK_BYTES);
    let elsewhere = sound.data().display().to_string();
    let mut broker = if metadata_elsewhere {
        start(test, &[&faulty], &[("metadata.log.dir", elsewhere.as_str())])
    } else {
        start(test, &[&faulty, &sound], &[])
    };
    create_topic(&broker, FAULTY, 1, &[]);
    assert_eq!(send(&broker, FAULTY, "before"), (NONE, 0));
    faulty.tell("off");
    // Sent, not waited for: the broker may be gone before it answers.
    let request = produce_request(FAULTY, batch(&[b"lost"]));
    let mut connection = Connection::open(&broker.address());
    connection.send(&frame(1, 9, &request));
    let status = broker.ended();
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let log = broker.log_tail();
    assert!(log.contains(says) && !log.contains("panicked"), "{log}");
    faulty.detach();
    faulty.attach();
    broker.restart();
    assert!(has(&broker, FAULTY, 0, "before"));
    // In this order: the disks go last.
    drop((broker, faulty, sound));
}

#[test]
fn without_the_directory_of_the_metadata_the_broker_ends() {
    the_broker_ends("no-metadata", false, "has the metadata log");
}

#[test]
fn without_any_directory_the_broker_ends() {
    the_broker_ends("no-directory", true, "no other log directory is left");
}
