//! `ringtail topic`

use serde_json::{Value, json as value};

use super::{FAILED, USAGE, json, out, refused, to, values};
use crate::harness::broker::{Broker, Peer};
use crate::harness::clients::{Output, run_any};
use crate::harness::wait_for;

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    a_life(&Broker::start("commands-topic"));
}

#[test]
fn a_topic_command_that_fails_says_why() {
    refusals(&Broker::start("commands-topic-refused"));
}

/// Kafka answers a change some time before its metadata tells of it.
fn described(broker: &Broker, topic: &str, partition_count: usize) -> Value {
    wait_for("the topic with all its partitions", || {
        let told = run_any(to(broker, &["topic", "describe", topic, "--json"]), b"");
        if peer_lags(broker, &told) {
            return None;
        }
        assert!(told.status.success(), "{}{}", told.out, told.err);
        let described = values(&told.out).remove(0);
        let partitions = described["partitions"].as_array().expect("a list").clone();
        let whole = partitions.len() == partition_count && partitions.iter().all(|row| row["leader"].is_i64());
        whole.then_some(described)
    })
}

/// Apache Kafka does not know yet what it has just said it made.
fn peer_lags(broker: &Broker, told: &Output) -> bool {
    broker.peer() == Peer::Kafka && told.err.contains("UNKNOWN_TOPIC_OR_PARTITION")
}

fn names(broker: &Broker) -> Vec<String> {
    let listed = json(broker, &["topic", "list"]).remove(0);
    let name = |topic: &Value| topic["name"].as_str().expect("a name").to_owned();
    listed.as_array().expect("a list").iter().map(name).collect()
}

pub fn a_life(broker: &Broker) {
    let create = [
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "--replication-factor",
        "1",
    ];
    let checked = out(
        broker,
        &["topic", "create", "checked", "--partitions", "2", "--validate-only"],
    );
    assert_eq!(checked, "topic checked could be created\n");
    let mut with_configs = create.to_vec();
    with_configs.extend(["--config", "retention.ms=7200000", "--config", "segment.bytes=1048576"]);
    let created = out(broker, &with_configs);
    let told = created.strip_prefix("created topic orders (");
    let id = told
        .and_then(|rest| rest.strip_suffix(")\n"))
        .expect("name and id")
        .to_owned();
    assert_eq!(id.len(), 22, "an id as Kafka writes them: {id}");
    let with_default = json(broker, &["topic", "create", "by-default"]).remove(0);
    assert_eq!(with_default["created"], "by-default");
    assert_eq!(described(broker, "by-default", 1)["partitions"][0]["partition"], 0);

    let described_orders = described(broker, "orders", 3);
    assert_eq!(described_orders["name"], "orders");
    assert_eq!(described_orders["id"], *id);
    let topic_config = |value: &str| value!({"value": value, "source": "DYNAMIC_TOPIC_CONFIG"});
    assert_eq!(
        described_orders["configs"],
        value!({"retention.ms": topic_config("7200000"), "segment.bytes": topic_config("1048576")})
    );
    for (index, row) in described_orders["partitions"]
        .as_array()
        .expect("a list")
        .iter()
        .enumerate()
    {
        assert_eq!(
            (&row["partition"], &row["earliest"], &row["latest"]),
            (&value!(index), &value!(0), &value!(0))
        );
        assert_eq!(row["replicas"], value!([row["leader"]]));
        assert_eq!(row["isr"], value!([row["leader"]]));
    }
    tables(broker, &id);

    let all = json(broker, &["topic", "describe", "orders", "--all-configs"]).remove(0);
    assert_eq!(all["configs"]["cleanup.policy"]["value"], "delete");
    assert_eq!(all["configs"]["cleanup.policy"]["source"], "DEFAULT_CONFIG");
    assert_eq!(
        names(broker),
        ["by-default", "orders"],
        "what was only checked is not there"
    );

    let mut again = create.to_vec();
    again.push("--if-not-exists");
    assert_eq!(out(broker, &again), "there is a topic orders already\n");
    assert_eq!(
        out(broker, &["topic", "alter", "orders", "--partitions", "5"]),
        "topic orders has 5 partitions\n"
    );
    described(broker, "orders", 5);

    assert_eq!(
        out(broker, &["topic", "delete", "orders", "by-default"]),
        "deleted topic orders\ndeleted topic by-default\n"
    );
    wait_for("the topics to be gone", || names(broker).is_empty().then_some(()));
    let absent = out(broker, &["topic", "delete", "orders", "--if-exists"]);
    assert_eq!(absent, "there is no topic orders\n");
}

/// What a person sees.
fn tables(broker: &Broker, id: &str) {
    let listed = out(broker, &["topic", "list"]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TOPIC", "PARTITIONS", "REPLICAS", "ID"]);
    assert_eq!(rows[2], ["orders", "3", "1", id]);
    assert_eq!(rows.len(), 3, "{listed}");
    let columns = |line: &str| line.find(|c: char| c.is_whitespace());
    assert!(listed.lines().all(|line| columns(line).is_some()), "{listed}");

    let described = out(broker, &["topic", "describe", "orders"]);
    let lines: Vec<&str> = described.lines().collect();
    assert_eq!(lines[0], format!("topic orders ({id}), 3 partitions"));
    assert_eq!(lines[1..3], ["  retention.ms=7200000", "  segment.bytes=1048576"]);
    assert_eq!(
        lines[3].split_whitespace().collect::<Vec<_>>(),
        [
            "PARTITION",
            "LEADER",
            "EPOCH",
            "EARLIEST",
            "LATEST",
            "REPLICAS",
            "IN",
            "SYNC"
        ]
    );
    assert_eq!(lines.len(), 4 + 3, "{described}");
    let ends: Vec<usize> = lines[3..].iter().map(|line| line.len()).collect();
    assert!(
        ends.windows(2).all(|pair| pair[0] == pair[1]),
        "columns line up:\n{described}"
    );
}

pub fn refusals(broker: &Broker) {
    out(broker, &["topic", "create", "taken", "--partitions", "2"]);
    for (arguments, why) in [
        (&["topic", "create", "taken"][..], "TOPIC_ALREADY_EXISTS"),
        (&["topic", "create", "a/b"], "INVALID_TOPIC_EXCEPTION"),
        (
            &["topic", "create", "odd", "--config", "no.such.option=1"],
            "INVALID_CONFIG",
        ),
        (
            &["topic", "create", "odd", "--config", "retention.ms=soon"],
            "INVALID_CONFIG",
        ),
        (
            &["topic", "create", "odd", "--replication-factor", "3"],
            "INVALID_REPLICATION_FACTOR",
        ),
        (&["topic", "describe", "missing"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (&["topic", "delete", "missing"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (&["topic", "alter", "taken", "--partitions", "1"], "INVALID_PARTITIONS"),
    ] {
        let said = refused(to(broker, arguments), "", FAILED);
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    refused(
        to(broker, &["topic", "create", "odd", "--config", "retention.ms"]),
        "",
        USAGE,
    );
    wait_for("the first topic", || (names(broker) == ["taken"]).then_some(()));
    out(broker, &["topic", "delete", "taken"]);
    wait_for("it to be gone", || names(broker).is_empty().then_some(()));
}
