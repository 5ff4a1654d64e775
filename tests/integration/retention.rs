//! Segments end by age, and whole ones are deleted by age and by size: what clients and the directory then show.

use std::path::PathBuf;

use crate::bad_input::samples::list_offsets;
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, Peer, peer};
use crate::harness::clients::{kcat, run, run_with_input};
use crate::harness::connection::Connection;
use crate::harness::wait_for;

/// Retention looks often. (Kafka waits for half a minute before it looks for the first time.)
const OFTEN: &[(&str, &str)] = &[
    ("log.retention.check.interval.ms", "50"),
    ("log.initial.task.delay.ms", "0"),
];
const SEGMENT_BYTES: (&str, &str) = ("segment.bytes", "1048576");
const LINE_BYTES: usize = 1000;

fn broker(test: &str) -> Broker {
    // The second option is Kafka's alone.
    let options = if peer() == Peer::Kafka { OFTEN } else { &OFTEN[..1] };
    Broker::start_with(test, options)
}

/// Appends lines that hold their offset.
fn produce(broker: &Broker, topic: &str, offsets: std::ops::Range<u64>) {
    let lines: String = offsets.map(|offset| format!("{offset:0LINE_BYTES$}\n")).collect();
    let mut produce = kcat();
    produce.args(["-P", "-b", &broker.address(), "-t", topic, "-p", "0"]);
    produce.args(["-X", "batch.size=65536"]);
    run_with_input(produce, lines.as_bytes());
}

/// The offsets of all records that can be read, each of which has to hold its own.
fn readable(broker: &Broker, topic: &str) -> Vec<u64> {
    let mut consume = kcat();
    consume.args(["-C", "-b", &broker.address(), "-t", topic, "-p", "0"]);
    consume.args(["-o", "beginning", "-e", "-q", "-f", "%o %s\n", "-X", "check.crcs=true"]);
    let printed = run(consume);
    let offset = |line: &str| {
        let (offset, value) = line.split_once(' ').expect("offset and value");
        let offset: u64 = offset.parse().expect("an offset");
        assert_eq!(value.parse(), Ok(offset), "the record of this offset");
        offset
    };
    printed.lines().map(offset).collect()
}

/// The first offset of the log.
fn log_start(broker: &Broker, topic: &str) -> u64 {
    let mut request = list_offsets(topic);
    request.topics[0].partitions[0].timestamp = -2;
    let response = Connection::open(&broker.address()).call(5, &request);
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    partition.offset.try_into().expect("there is a log")
}

/// First offset and bytes of each segment file, oldest first.
fn segments(broker: &Broker, topic: &str) -> Vec<(u64, u64)> {
    let folder = broker.data().join(format!("{topic}-0"));
    let paths = std::fs::read_dir(&folder).expect("the partition has a folder");
    let of = |path: PathBuf| {
        let base = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
        // It may be deleted meanwhile.
        Some((base, path.metadata().ok()?.len()))
    };
    let mut found: Vec<(u64, u64)> = paths
        .filter_map(|entry| of(entry.expect("a folder can be read").path()))
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn retention_bytes_deletes_the_oldest_whole_segments() {
    let mut broker = broker("retention-bytes");
    create_topic(&broker, "sized", 1, &[SEGMENT_BYTES, ("retention.bytes", "2500000")]);
    create_topic(&broker, "kept", 1, &[SEGMENT_BYTES, ("retention.bytes", "-1")]);
    produce(&broker, "kept", 0..6000);
    produce(&broker, "sized", 0..6000);
    // Of about six segments as many go as leave 2.5 MB: less than one segment more.
    let left = |start: u64| (6000 - start) as usize * LINE_BYTES;
    wait_for("the oldest segments to go", || {
        (left(log_start(&broker, "sized")) < 2_500_000 + 1_048_576).then_some(())
    });
    let start = log_start(&broker, "sized");
    assert!(
        (6000 - start) as usize * LINE_BYTES >= 2_500_000 - 100_000,
        "no more goes than has to: {start}"
    );
    wait_for("their files to go", || {
        (segments(&broker, "sized")[0].0 == start).then_some(())
    });
    assert_eq!(readable(&broker, "sized"), Vec::from_iter(start..6000));
    assert_eq!(log_start(&broker, "kept"), 0, "without a limit all stays");
    assert_eq!(readable(&broker, "kept").len(), 6000);

    broker.kill();
    broker.restart();
    assert_eq!(
        log_start(&broker, "sized"),
        start,
        "what was deleted does not come back"
    );
    assert_eq!(readable(&broker, "sized"), Vec::from_iter(start..6000));
    produce(&broker, "sized", 6000..7500);
    wait_for("more to go", || (log_start(&broker, "sized") > start).then_some(()));
    assert_eq!(readable(&broker, "sized").last(), Some(&7499));
}

#[test]
fn retention_ms_deletes_segments_that_are_over() {
    let mut broker = broker("retention-ms");
    create_topic(&broker, "aged", 1, &[SEGMENT_BYTES, ("retention.ms", "1")]);
    create_topic(&broker, "young", 1, &[SEGMENT_BYTES, ("retention.ms", "3600000")]);
    produce(&broker, "young", 0..3500);
    produce(&broker, "aged", 0..3500);
    let active = wait_for("all segments but the active one to go", || {
        let left = segments(&broker, "aged");
        (left.len() == 1 && left[0].0 > 0).then(|| left[0].0)
    });
    // Kafka ends an active segment of which all is too old; Ringtail keeps it.
    if peer() == Peer::Ringtail {
        assert_eq!(log_start(&broker, "aged"), active);
        assert_eq!(readable(&broker, "aged"), Vec::from_iter(active..3500));
    }
    assert_eq!(readable(&broker, "young").len(), 3500, "what is younger stays");
    broker.stop();
    broker.restart();
    assert!(log_start(&broker, "aged") >= active);
    produce(&broker, "aged", 3500..3501);
    assert_eq!(log_start(&broker, "young"), 0);
}

#[test]
fn segment_ms_ends_a_segment_by_its_age() {
    let broker = broker("segment-ms");
    create_topic(&broker, "rolled", 1, &[("segment.ms", "30")]);
    create_topic(&broker, "whole", 1, &[]);
    let mut count = 0;
    // An append finds the segment too old, whenever that is.
    wait_for("four segments", || {
        produce(&broker, "rolled", count..count + 1);
        produce(&broker, "whole", count..count + 1);
        count += 1;
        (segments(&broker, "rolled").len() >= 4).then_some(())
    });
    let bases: Vec<u64> = segments(&broker, "rolled").into_iter().map(|(base, _)| base).collect();
    assert!(
        bases[0] == 0 && bases.iter().all(|base| *base < count),
        "{bases:?} of {count} records"
    );
    assert_eq!(readable(&broker, "rolled"), Vec::from_iter(0..count));
    assert_eq!(segments(&broker, "whole").len(), 1, "a week is not over");
}
