//! kcat (librdkafka 2.0.2 from Debian): the client that everybody has at hand.

use crate::harness::admin::create_topic;
use crate::harness::broker::Broker;
use crate::harness::clients::{kcat, kcat_reading, run, run_with_input};

pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// What a person does first: a topic that nobody made, one record in, one record out. Also the quick form's only broker.
#[test]
fn first_record() {
    let broker = Broker::start("kcat-first");
    let mut produce = kcat();
    produce.args(["-P", "-b", &broker.address(), "-t", "first"]);
    run_with_input(produce, b"hello\n");
    assert_eq!(run(kcat_reading(&broker.address(), "first")), "hello\n");
}

#[test]
fn every_codec_round_trips_with_keys_and_headers() {
    let broker = Broker::start("kcat-codecs");
    for codec in CODECS {
        let topic = format!("codec-{codec}");
        create_topic(&broker, &topic, 1, &[]);
        let records: Vec<(String, String)> = (0..2000)
            .map(|i| (format!("key{i}"), format!("value {i} {}", "abc".repeat(i % 60))))
            .collect();
        let input: String = records.iter().map(|(key, value)| format!("{key}:{value}\n")).collect();
        let mut produce = kcat();
        produce.args([
            "-P",
            "-b",
            &broker.address(),
            "-t",
            &topic,
            "-p",
            "0",
            "-K",
            ":",
            "-z",
            codec,
        ]);
        produce.args(["-H", "origin=test", "-H", "codec=yes"]);
        run_with_input(produce, input.as_bytes());

        let mut consume = kcat();
        consume.args([
            "-C",
            "-b",
            &broker.address(),
            "-t",
            &topic,
            "-p",
            "0",
            "-o",
            "beginning",
            "-e",
            "-q",
        ]);
        consume.args(["-X", "check.crcs=true", "-f", "%o|%h|%k|%s\n"]);
        let expected: String = records
            .iter()
            .enumerate()
            .map(|(offset, (key, value))| format!("{offset}|origin=test,codec=yes|{key}|{value}\n"))
            .collect();
        assert_eq!(run(consume), expected, "codec {codec}");
    }
}

#[test]
fn offsets_from_the_end_and_by_time() {
    let broker = Broker::start("kcat-offsets");
    create_topic(&broker, "numbers", 1, &[]);
    let input: String = (0..100).map(|i| format!("{i}\n")).collect();
    let mut produce = kcat();
    produce.args(["-P", "-b", &broker.address(), "-t", "numbers", "-p", "0"]);
    run_with_input(produce, input.as_bytes());
    let consume = |from: &str| {
        let mut consume = kcat();
        consume.args([
            "-C",
            "-b",
            &broker.address(),
            "-t",
            "numbers",
            "-p",
            "0",
            "-o",
            from,
            "-e",
            "-q",
        ]);
        run(consume)
    };
    assert_eq!(consume("-3"), "97\n98\n99\n");
    assert_eq!(consume("98"), "98\n99\n");
    assert_eq!(consume("end"), "");
    assert_eq!(
        consume("s@1").lines().count(),
        100,
        "all records are later than the first millisecond of 1970"
    );

    let query = |time: &str| {
        let mut query = kcat();
        query.args(["-Q", "-b", &broker.address(), "-t", &format!("numbers:0:{time}")]);
        run(query)
    };
    assert_eq!(query("-1").trim(), "numbers [0] offset 100");
    assert_eq!(query("-2").trim(), "numbers [0] offset 0");
}

#[test]
fn metadata_lists_brokers_topics_and_partitions() {
    let broker = Broker::start("kcat-metadata");
    create_topic(&broker, "listed", 3, &[]);
    let mut list = kcat();
    list.args(["-L", "-b", &broker.address()]);
    let listed = run(list);
    assert!(listed.contains(&format!(" at {}", broker.address())), "{listed}");
    assert!(listed.contains("topic \"listed\" with 3 partitions:"), "{listed}");
    for partition in 0..3 {
        assert!(listed.contains(&format!("partition {partition}, leader ")), "{listed}");
    }
}
