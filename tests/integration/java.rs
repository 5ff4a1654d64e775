//! Apache Kafka's own Java tools, as their shell scripts would start them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, Peer, peer, ringtail};
use crate::harness::clients::{kafka_class, kcat, run, run_any, run_with_input};
use crate::harness::wait_for;

fn tool(broker: &Broker, class: &str) -> Command {
    let mut command = kafka_class(class, 256);
    command.arg("--bootstrap-server").arg(broker.address());
    command
}

fn topics(broker: &Broker, arguments: &[&str]) -> String {
    let mut command = tool(broker, "org.apache.kafka.tools.TopicCommand");
    command.args(arguments);
    run(command)
}

#[test]
fn kafka_topics() {
    let broker = Broker::start("java-topics");
    let created = topics(
        &broker,
        &[
            "--create",
            "--topic",
            "jt",
            "--partitions",
            "3",
            "--replication-factor",
            "1",
            "--config",
            "retention.ms=7200000",
        ],
    );
    assert!(created.contains("Created topic jt."), "{created}");
    topics(&broker, &["--create", "--topic", "defaults"]);
    topics(&broker, &["--create", "--topic", "jt", "--if-not-exists"]);
    let listed = topics(&broker, &["--list"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["defaults", "jt"]);

    let described = topics(&broker, &["--describe", "--topic", "jt"]);
    assert!(
        described.contains("PartitionCount: 3") && described.contains("ReplicationFactor: 1"),
        "{described}"
    );
    assert!(described.contains("retention.ms=7200000"), "{described}");
    assert_eq!(described.matches("Partition: ").count(), 3, "{described}");

    topics(&broker, &["--alter", "--topic", "jt", "--partitions", "6"]);
    let described = wait_for("six partitions", || {
        let described = topics(&broker, &["--describe", "--topic", "jt"]);
        described.contains("PartitionCount: 6").then_some(described)
    });
    assert_eq!(described.matches("Partition: ").count(), 6, "{described}");

    topics(&broker, &["--delete", "--topic", "jt"]);
    wait_for("the topic to be gone", || {
        (topics(&broker, &["--list"]).trim() == "defaults").then_some(())
    });
    let mut again = tool(&broker, "org.apache.kafka.tools.TopicCommand");
    again.args(["--delete", "--topic", "jt"]);
    let refused = run_any(again, b"");
    assert!(!refused.status.success(), "a topic that is not there cannot be deleted");
}

fn console_consume(broker: &Broker, topic: &str, count: usize) -> String {
    let mut consume = tool(broker, "org.apache.kafka.tools.consumer.ConsoleConsumer");
    consume.args(["--topic", topic, "--partition", "0", "--offset", "earliest"]);
    consume.args(["--max-messages", &count.to_string()]);
    consume.args([
        "--formatter-property",
        "print.key=true",
        "--formatter-property",
        "print.offset=true",
    ]);
    run(consume)
}

#[test]
fn console_producer_and_consumer() {
    let broker = Broker::start("java-console");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("console-{codec}");
        create_topic(&broker, &topic, 1, &[]);
        let mut produce = tool(&broker, "org.apache.kafka.tools.ConsoleProducer");
        produce.args(["--topic", &topic, "--compression-codec", codec]);
        produce.args([
            "--reader-property",
            "parse.key=true",
            "--reader-property",
            "key.separator=:",
        ]);
        let input: String = (0..300).map(|i| format!("k{i}:line {i}\n")).collect();
        run_with_input(produce, input.as_bytes());
        let expected: String = (0..300).map(|i| format!("Offset:{i}\tk{i}\tline {i}\n")).collect();
        assert_eq!(console_consume(&broker, &topic, 300), expected, "codec {codec}");
    }
}

#[test]
fn kafka_get_offsets() {
    let broker = Broker::start("java-offsets");
    create_topic(&broker, "offsets", 2, &[]);
    // The latest time stands in the middle.
    for (partition, count) in [(0, 120), (1, 7)] {
        let input: String = (0..count).map(|i| format!("{i}\n")).collect();
        let mut produce = kcat();
        produce.args([
            "-P",
            "-b",
            &broker.address(),
            "-t",
            "offsets",
            "-p",
            &partition.to_string(),
        ]);
        run_with_input(produce, input.as_bytes());
    }
    let offsets = |time: &str| {
        let mut command = tool(&broker, "org.apache.kafka.tools.GetOffsetShell");
        command.args(["--topic", "offsets", "--time", time]);
        run(command)
    };
    assert_eq!(offsets("earliest"), "offsets:0:0\noffsets:1:0\n");
    assert_eq!(offsets("latest"), "offsets:0:120\noffsets:1:7\n");
    // The last of the records with the highest time; kcat gives a whole batch few different ones.
    let newest = offsets("max-timestamp");
    let of = |partition: u32| -> u64 {
        let line = newest
            .lines()
            .find(|line| line.starts_with(&format!("offsets:{partition}:")))
            .expect("both answer");
        line.rsplit(':')
            .next()
            .expect("split gives one")
            .parse()
            .expect("an offset")
    };
    assert!(of(0) < 120 && of(1) < 7, "{newest}");
}

#[test]
fn producer_perf_test() {
    let broker = Broker::start("java-perf");
    create_topic(&broker, "perf", 4, &[]);
    let mut command = kafka_class("org.apache.kafka.tools.ProducerPerformance", 512);
    command.args([
        "--topic",
        "perf",
        "--num-records",
        "20000",
        "--record-size",
        "1000",
        "--throughput",
        "-1",
    ]);
    command.args([
        "--producer-props",
        &format!("bootstrap.servers={}", broker.address()),
        "acks=all",
    ]);
    let printed = run(command);
    assert!(printed.contains("20000 records sent"), "{printed}");
    let mut command = tool(&broker, "org.apache.kafka.tools.GetOffsetShell");
    command.args(["--topic", "perf", "--time", "latest"]);
    let sum: u64 = run(command)
        .lines()
        .map(|line| line.rsplit(':').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 20_000);
}

/// The segment files of a partition, oldest first.
fn segments(broker: &Broker, partition: &str) -> Vec<PathBuf> {
    let folder = broker.data().join(partition);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut logs: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}

/// Has Kafka's tool check an index file; whether it has entries. A short segment's has none, of which the tool says so and no more.
fn passes_sanity_check(index: &Path) -> bool {
    let mut check = kafka_class("org.apache.kafka.tools.DumpLogSegments", 256);
    check.args(["--index-sanity-check", "--files"]).arg(index);
    let printed = run(check);
    let bytes = fs::metadata(index).expect("the index was just read").len();
    let expected = if bytes == 0 { "is empty" } else { "passed sanity check" };
    assert!(
        printed.contains(expected) || (bytes == 0 && printed.contains("passed sanity check")),
        "{} of {bytes} bytes: {printed}",
        index.display()
    );
    bytes > 0
}

/// Our files are Kafka's files: its dump tool reads every batch and every record of a cleanly stopped broker, indexes included.
#[test]
fn kafka_dump_log() {
    let mut broker = Broker::start("java-dump");
    create_topic(&broker, "dump", 1, &[("segment.bytes", "1048576")]);
    let mut record_count = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let input: String = (0..2000).map(|i| format!("{codec} {i} {:0500}\n", i * 7919)).collect();
        let mut produce = kcat();
        produce.args(["-P", "-b", &broker.address(), "-t", "dump", "-p", "0", "-z", codec]);
        run_with_input(produce, input.as_bytes());
        record_count += 2000;
    }
    broker.stop();
    if peer() == Peer::Ringtail {
        // Active segments keep their size at a stop; sealing trims them to what Kafka's tools read.
        let mut seal = Command::new(ringtail());
        seal.args(["log", "seal", "--arena"])
            .arg(broker.arena())
            .arg(broker.data());
        run(seal);
    }
    let logs = segments(&broker, "dump-0");
    assert!(logs.len() > 1, "the test is about several segments: {logs:?}");
    let mut next_offset = 0;
    let mut indexes_with_entries = [0, 0];
    for log in &logs {
        let base: u64 = log
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .expect("the name is the base offset");
        assert_eq!(base, next_offset, "{} follows the segment before it", log.display());
        let mut dump = kafka_class("org.apache.kafka.tools.DumpLogSegments", 256);
        dump.args(["--deep-iteration", "--print-data-log", "--files"]).arg(log);
        let printed = run(dump);
        for line in printed.lines().filter(|line| line.starts_with("| offset: ")) {
            let offset: u64 = line.split_whitespace().nth(2).unwrap().parse().expect("an offset");
            assert_eq!(offset, next_offset, "{line}");
            assert!(line.contains(" payload: "), "{line}");
            next_offset += 1;
        }
        assert!(!printed.to_lowercase().contains("invalid"), "{printed}");
        for (extension, checked) in ["index", "timeindex"].into_iter().zip(&mut indexes_with_entries) {
            *checked += usize::from(passes_sanity_check(&log.with_extension(extension)));
        }
    }
    assert_eq!(next_offset, record_count);
    assert!(
        indexes_with_entries.iter().all(|checked| *checked > 0),
        "segments whose .index and .timeindex have entries: {indexes_with_entries:?}"
    );
}
