//! `ringtail produce` and `ringtail consume`

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json as value};

use super::{FAILED, USAGE, json, out, out_of, refused, to, values};
use crate::harness::admin::create_topic;
use crate::harness::broker::Broker;
use crate::harness::clients::{run, run_with_input};
use crate::harness::wait_for;

#[test]
fn keys_and_headers_come_back_in_every_form() {
    keys_headers_and_formats(&Broker::start("commands-fields"));
}

#[test]
fn consume_begins_where_it_is_told() {
    places_to_begin(&Broker::start("commands-places"));
}

#[test]
fn produce_knows_every_codec_and_kind_of_acknowledgement() {
    every_codec_and_acks(&Broker::start("commands-codecs"));
}

#[test]
fn consume_waits_for_what_comes_and_ends_when_asked() {
    what_comes_from_now_on(&Broker::start("commands-live"));
}

/// Reads a topic from its beginning to its end.
fn whole<'a>(topic: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["consume", topic, "--from-beginning", "--exit-at-end"], more].concat()
}

pub fn keys_headers_and_formats(broker: &Broker) {
    create_topic(broker, "fields", 1, &[]);
    let produce = [
        "produce",
        "fields",
        "--key-separator",
        "=>",
        "--parse-headers",
        "--header",
        "origin=test",
    ];
    let offsets = out_of(
        broker,
        &[&produce[..], &["--null", "NULL", "--offsets"]].concat(),
        "a:1,b:2\talice=>one book\n\tbob=>\n\tNULL=>no key\n\tcarol=>NULL\nlast:\u{e9}\tk=>v=>w",
    );
    assert_eq!(offsets, "0 0\n0 1\n0 2\n0 3\n0 4\n");

    assert_eq!(
        out(broker, &whole("fields", &[])),
        "one book\n\nno key\n\nv=>w\n",
        "values alone"
    );
    assert_eq!(
        out(broker, &whole("fields", &["--keys", "--headers"])),
        "origin=test,a=1,b=2\talice\tone book\norigin=test\tbob\t\norigin=test\t\tno key\norigin=test\tcarol\t\n\
         origin=test,last=\u{e9}\tk\tv=>w\n"
    );
    assert_eq!(
        out(
            broker,
            &whole("fields", &["--format", r"%t/%p@%o %K:%V %k%%\x7c%v [%h]\n"])
        ),
        "fields/0@0 5:8 alice%|one book [origin=test,a=1,b=2]\nfields/0@1 3:0 bob%| [origin=test]\n\
         fields/0@2 -1:6 %|no key [origin=test]\nfields/0@3 5:-1 carol%| [origin=test]\n\
         fields/0@4 1:4 k%|v=>w [origin=test,last=\u{e9}]\n"
    );
    let with_offsets = out(broker, &whole("fields", &["--offsets", "--keys", "-n", "1"]));
    let columns: Vec<&str> = with_offsets.trim_end().split('\t').collect();
    assert_eq!(
        (columns.len(), &columns[..2], &columns[3..]),
        (5, &["0", "0"][..], &["alice", "one book"][..])
    );
    assert!(
        columns[2].parse::<u64>().is_ok_and(|ms| ms > 1_600_000_000_000),
        "{with_offsets}"
    );

    let mut read = json(broker, &whole("fields", &[]));
    for record in &mut read {
        let members = record.as_object_mut().expect("an object");
        assert!(members.remove("timestamp").is_some_and(|ms| ms.is_i64()));
    }
    let origin = value!({"key": "origin", "value": "test"});
    let record = |offset: u64, key: Value, text: Value| value!({"topic": "fields", "partition": 0, "offset": offset, "key": key, "value": text, "headers": [origin]});
    assert_eq!(
        read[1..4],
        [
            record(1, value!("bob"), value!("")),
            record(2, Value::Null, value!("no key")),
            record(3, value!("carol"), Value::Null),
        ]
    );
    assert_eq!(
        read[0]["headers"],
        value!([origin, {"key": "a", "value": "1"}, {"key": "b", "value": "2"}])
    );

    // Bytes that are no text.
    run_with_input(to(broker, &["produce", "fields"]), b"\xff\x00\n");
    let last = json(broker, &["consume", "fields", "--offset", "5", "--exit-at-end"]).remove(0);
    assert_eq!((&last["value_base64"], last.get("value")), (&value!("/wA="), None));

    for (input, more) in [
        ("no separator\n", &["--key-separator", ":"][..]),
        ("none\n", &["--parse-headers"]),
    ] {
        refused(to(broker, &[&["produce", "fields"], more].concat()), input, FAILED);
    }
    for more in [
        &["--key-separator", ""][..],
        &["--header", "no-value"],
        &["--key-separator", "\\"],
    ] {
        refused(to(broker, &[&["produce", "fields"], more].concat()), "", USAGE);
    }
    refused(to(broker, &["consume", "fields", "--format", "%q"]), "", USAGE);
}

pub fn places_to_begin(broker: &Broker) {
    create_topic(broker, "places", 2, &[]);
    let lines = |range: std::ops::Range<u32>| range.map(|i| format!("{i}\n")).collect::<String>();
    let told = run_with_input(
        {
            let mut produce = to(broker, &["produce", "places", "--partition", "0"]);
            produce.arg("--json");
            produce
        },
        lines(0..50).as_bytes(),
    );
    let told = values(&told).remove(0);
    assert_eq!((&told["topic"], &told["records"]), (&value!("places"), &value!(50)));
    out_of(broker, &["produce", "places", "-p", "1"], &lines(100..110));

    let consume = |more: &[&str]| out(broker, &[&["consume", "places", "--exit-at-end"], more].concat());
    assert_eq!(consume(&["--partition", "0", "--from-beginning"]), lines(0..50));
    assert_eq!(consume(&["--partition", "1", "--offset", "earliest"]), lines(100..110));
    assert_eq!(consume(&["--partition", "0", "--offset", "47"]), lines(47..50));
    assert_eq!(consume(&["--partition", "0", "--offset", "-2"]), lines(48..50));
    assert_eq!(consume(&["--partition", "0", "--offset", "50"]), "");
    assert_eq!(consume(&["--offset", "latest"]), "");
    assert_eq!(consume(&[]), "", "without a place only what comes");
    assert_eq!(consume(&["--partition", "0", "--offset", "@0", "-n", "3"]), lines(0..3));
    assert_eq!(consume(&["--partition", "0", "--offset", "@9999999999999"]), "");
    let both = consume(&["--from-beginning", "--format", "%p %v\\n"]);
    let of = |partition: &str| {
        let own = both
            .lines()
            .filter_map(|line| line.strip_prefix(partition)?.strip_prefix(' '));
        own.map(|value| format!("{value}\n")).collect::<String>()
    };
    assert_eq!(
        (of("0"), of("1")),
        (lines(0..50), lines(100..110)),
        "each partition in its order"
    );
    let last_of_each = consume(&["--offset", "-1"]);
    let mut last_of_each: Vec<&str> = last_of_each.lines().collect();
    last_of_each.sort_unstable();
    assert_eq!(last_of_each, ["109", "49"]);

    refused(to(broker, &["consume", "places", "--offset", "soon"]), "", USAGE);
    let said = refused(to(broker, &["consume", "places", "--partition", "2"]), "", FAILED);
    assert!(said.contains("has no partition 2"), "{said}");
    let said = refused(
        to(broker, &["consume", "places", "-p", "0", "--offset", "51"]),
        "",
        FAILED,
    );
    assert!(said.contains("OFFSET_OUT_OF_RANGE"), "{said}");
    let said = refused(to(broker, &["consume", "missing", "--from-beginning"]), "", FAILED);
    assert!(said.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{said}");
}

pub fn every_codec_and_acks(broker: &Broker) {
    let lines: String = (0..3000)
        .map(|i| format!("k{}:line {i} {}\n", i % 7, "abc".repeat(i % 50)))
        .collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        // The topic is made on demand.
        let topic = format!("codec-{codec}");
        out_of(broker, &["produce", &topic, "-K", ":", "--codec", codec], &lines);
        assert_eq!(out(broker, &whole(&topic, &["--format", "%k:%v\\n"])), lines, "{codec}");
    }
    create_topic(broker, "acks", 3, &[]);
    for (acks, offset) in [("all", "0 0\n"), ("1", "0 1\n"), ("0", "0 -\n")] {
        let told = out_of(
            broker,
            &["produce", "acks", "-p", "0", "--acks", acks, "--offsets"],
            "x\n",
        );
        assert_eq!(told, offset, "acks={acks}");
    }
    // Nobody says when a record without acknowledgement is there.
    wait_for("the record that nobody acknowledged", || {
        (out(broker, &whole("acks", &["-p", "0"])) == "x\nx\nx\n").then_some(())
    });
    // Where Kafka's Java client puts these keys among three partitions.
    let told = out_of(
        broker,
        &["produce", "acks", "-K", ":", "--offsets", "--no-idempotence"],
        "21:x\nfoobar:x\nabc:x\n",
    );
    let partitions: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    let of = |hash: i32| ((hash & 0x7fff_ffff) % 3).to_string();
    assert_eq!(partitions, [of(-973_932_308), of(-790_332_482), of(479_470_107)]);
}

pub fn what_comes_from_now_on(broker: &Broker) {
    create_topic(broker, "live", 1, &[]);
    out_of(broker, &["produce", "live"], "before\n");
    let mut waiting = to(broker, &["consume", "live", "--max-messages", "1"]);
    let mut waiting = waiting.stdout(Stdio::piped()).spawn().expect("ringtail starts");
    // It does not tell when it has found the end: there is a record for it whenever that is.
    wait_for("the consumer to see a record", || {
        out_of(broker, &["produce", "live"], "now\n");
        waiting.try_wait().expect("an own child can be waited for")
    });
    let seen = waiting.wait_with_output().expect("an own child can be waited for");
    assert!(seen.status.success());
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "now\n");

    let mut endless = to(broker, &["consume", "live", "--from-beginning"]);
    let mut endless = endless.stdout(Stdio::piped()).spawn().expect("ringtail starts");
    let mut line = String::new();
    let mut lines = BufReader::new(endless.stdout.take().expect("stdout is piped"));
    lines.read_line(&mut line).expect("a pipe can be read");
    assert_eq!(line, "before\n");
    let mut interrupt = Command::new("kill");
    interrupt.args(["-INT", &endless.id().to_string()]);
    run(interrupt);
    assert!(
        endless.wait().expect("an own child can be waited for").success(),
        "Ctrl-C is a good end"
    );
}
