use std::collections::BTreeMap;

use super::*;
use crate::config::*;

fn machine() -> Machine {
    Machine {
        host_name: "host.example".into(),
        cpus: 4,
        memory_bytes: 8 << 30,
    }
}

fn load_text(text: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Result<Loaded, ConfigErrors> {
    let environment = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
    load(Input {
        file: Some(("server.properties", text)),
        environment,
        arguments: &arguments,
        machine: machine(),
    })
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(Warning::to_string).collect()
}

#[test]
fn nothing_set_is_kafkas_defaults_on_this_machine() {
    let loaded = load_text("", &[], &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.identity, Identity { node_id: 1, rack: None });
    assert_eq!(config.directories.data, [std::path::PathBuf::from("ringtail-data")]);
    assert_eq!(config.directories.metadata, config.directories.data[0]);
    assert_eq!(
        (config.shards.count, config.shards.spin_us, config.shards.memory_bytes),
        (4, 0, 2 << 30)
    );
    assert_eq!(config.network.request_bytes_max, 100 << 20);
    assert_eq!(config.network.connection_idle_ms_max, Some(600_000));
    assert_eq!((config.topics.partition_count, config.topics.auto_create), (1, true));
    let options = config.topics.options;
    assert_eq!(
        (options.durability, options.segment_bytes),
        (Durability::Flushed, 1 << 30)
    );
    assert_eq!(
        (options.retention_ms, options.segment_ms),
        (7 * 86_400_000, 7 * 86_400_000)
    );
    assert_eq!((options.message_bytes_max, options.retention_bytes), (1_048_588, -1));
}

#[test]
fn a_stock_kafka_file_loads_with_warnings_only() {
    let text = "process.roles=broker,controller\nnode.id=7\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
        num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\nlog.dirs=/d1, /d2\n\
        num.partitions=3\nnum.recovery.threads.per.data.dir=2\noffsets.topic.replication.factor=1\n\
        log.retention.hours=24\nlog.segment.bytes=1073741824\n";
    let loaded = load_text(text, &[], &[]).unwrap();
    let told = warnings(&loaded);
    assert!(
        told.contains(
            &"server.properties:15: offsets.topic.replication.factor has no effect: consumer, share and \
        streams groups are not served yet"
                .to_string()
        ),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|text| text.contains("CONTROLLER is for Kafka's controllers")),
        "{told:?}"
    );
    // Options at their default have nothing to tell.
    assert!(!told.iter().any(|text| text.contains("num.io.threads")), "{told:?}");
    assert_eq!(loaded.config.identity.node_id, 7);
    assert_eq!(loaded.config.directories.data.len(), 2);
    assert_eq!(loaded.config.topics.options.retention_ms, 86_400_000);
}

#[test]
fn arguments_go_before_the_environment_and_that_before_the_file() {
    let environment = [
        ("RINGTAIL_LOG_DIRS", "/env"),
        ("RINGTAIL_SHARDS", "2"),
        ("RINGTAIL_NUM_PARTITIONS", "5"),
        ("RINGTAIL_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let loaded = load_text(
        "log.dirs=/file\nnum.partitions=4\nbroker.rack=r1",
        &environment,
        &["num.partitions=6"],
    )
    .unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.directories.data, [std::path::PathBuf::from("/env")]);
    assert_eq!(
        (loaded.config.shards.count, loaded.config.topics.partition_count),
        (2, 6)
    );
    assert_eq!(loaded.config.identity.rack.as_deref(), Some("r1"));
}

#[test]
fn a_bad_value_names_file_line_key_and_range() {
    let error = load_text(
        "# top\nnum.partitions=0\nlog.retention.ms=soon",
        &[],
        &["ringtail.memory.bytes=1m", "oops"],
    );
    let text = error.unwrap_err().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "server.properties:2: Invalid value \"0\" for num.partitions: expected a whole number (32 bit) from 1 to 10000"
    );
    assert!(
        lines[1].starts_with("server.properties:3: Invalid value \"soon\" for log.retention.ms"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("--set: Invalid value \"1m\" for ringtail.memory.bytes"),
        "{text}"
    );
    assert_eq!(lines[3], "--set: expected key=value, found \"oops\"");
}

#[test]
fn contradictions_are_errors() {
    let refused = [
        (
            "node.id=1\nbroker.id=2",
            "server.properties:2: broker.id: is 2, but node.id is 1; set one of them",
        ),
        ("log.dirs=/a,/b,/a", "server.properties:1: log.dirs: names /a twice"),
        ("log.dirs=,", "server.properties:1: log.dirs: names no directory"),
        ("ringtail.memory.bytes=9g", "the machine has 8589934592"),
        ("ringtail.memory.bytes=0%", "expected a size such as 512m or 25%"),
        ("bad=\\uzzzz", "server.properties:1: \\u needs four hexadecimal digits"),
    ];
    for (text, expected) in refused {
        let error = load_text(text, &[], &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(load_text("broker.id=-1", &[], &[]).unwrap().config.identity.node_id, 1);
}

#[test]
fn strangers_get_a_warning_that_helps() {
    let text = "log.retenton.ms=1\nzookeeper.connect=z:2181\nfoo=1\nssl.keystore.password=hunter2\nnum.partitions=1\nnum.partitions=2\nlistener.name.x.y=1";
    let loaded = load_text(text, &[], &[]).unwrap();
    let told = warnings(&loaded);
    assert_eq!(
        told[0],
        "server.properties:1: unknown option log.retenton.ms; the nearest known one is log.retention.ms"
    );
    assert!(told[1].contains("Ringtail needs no ZooKeeper"), "{told:?}");
    assert_eq!(told[2], "server.properties:3: unknown option foo");
    assert!(
        told[3].contains("TLS, SASL and ACLs are not served yet") && !told[3].contains("hunter2"),
        "{told:?}"
    );
    assert!(told[4].contains("already set in line 5"), "{told:?}");
    assert!(told[5].contains("listener.name.x.y has no effect"), "{told:?}");
    assert_eq!(told.len(), 6);
    assert_eq!(loaded.config.topics.partition_count, 2);
}

#[test]
fn an_option_without_effect_is_told() {
    let text = "compression.type=lz4\nlog.segment.delete.delay.ms=5\nringtail.spin.us=5";
    let loaded = load_text(text, &[], &[]).unwrap();
    assert_eq!(
        warnings(&loaded),
        [
            "server.properties:1: compression.type has no effect: it is not supported yet",
            "server.properties:2: log.segment.delete.delay.ms has no effect: the file of a deleted segment goes at once",
        ]
    );
    let delayed = BTreeMap::from([("file.delete.delay.ms".to_owned(), "5".to_owned())]);
    assert_eq!(topic_config_warnings(&delayed).len(), 1);
}

fn topic<'a>(configs: &'a [(&'a str, &'a str)], config: &BrokerConfig) -> TopicOptions {
    TopicOptions::new(configs.iter().copied(), config)
}

#[test]
fn a_topic_inherits_in_kafkas_order_and_unit() {
    let config = load_text(
        "log.retention.minutes=10\nlog.retention.hours=1\nlog.roll.hours=2",
        &[],
        &[],
    )
    .unwrap()
    .config;
    assert_eq!(topic(&[], &config).retention_ms, 600_000);
    assert_eq!(topic(&[], &config).segment_ms, 7_200_000);
    assert_eq!(topic(&[("retention.ms", "5")], &config).retention_ms, 5);
    let config = load_text("log.retention.ms=-1\nlog.retention.hours=1", &[], &[])
        .unwrap()
        .config;
    assert_eq!(topic(&[], &config).retention_ms, -1);
    let config = load_text("log.retention.hours=-1", &[], &[]).unwrap().config;
    assert_eq!(topic(&[], &config).retention_ms, -1);
    assert_eq!(
        topic(&[("internal.segment.bytes", "4096")], &config).segment_bytes,
        4096
    );
    let compact = topic(&[("cleanup.policy", "compact,delete")], &config);
    assert!(compact.cleanup_compact && compact.cleanup_delete);
}

#[test]
fn asking_for_a_flush_of_every_message_asks_for_flushed() {
    let written = load_text("ringtail.durability=written", &[], &[]).unwrap().config;
    assert_eq!(topic(&[], &written).durability, Durability::Written);
    assert_eq!(
        topic(&[("flush.messages", "1")], &written).durability,
        Durability::Flushed
    );
    assert_eq!(
        topic(&[("flush.messages", "2")], &written).durability,
        Durability::Written
    );
    assert_eq!(
        topic(&[("ringtail.durability", "flushed")], &written).durability,
        Durability::Flushed
    );
    let both = [("ringtail.durability", "written"), ("flush.messages", "1")];
    assert_eq!(topic(&both, &written).durability, Durability::Flushed);
    let every = load_text("ringtail.durability=written\nlog.flush.interval.messages=1", &[], &[])
        .unwrap()
        .config;
    assert_eq!(topic(&[], &every).durability, Durability::Flushed);
    assert_eq!(
        topic(&[("ringtail.durability", "written")], &every).durability,
        Durability::Written
    );
}

#[test]
fn topic_configs_are_checked_and_their_lack_of_effect_is_told() {
    let unknown = check_topic_config("dummy.doesntexist", "1").unwrap_err().to_string();
    assert!(
        unknown.starts_with("Unknown topic config name: dummy.doesntexist"),
        "{unknown}"
    );
    let near = check_topic_config("retention.mss", "1").unwrap_err().to_string();
    assert_eq!(
        near,
        "Unknown topic config name: retention.mss (the nearest known one is retention.ms)"
    );
    assert!(check_topic_config("internal.segment.bytes", "4096").is_err());
    assert_eq!(check_topic_config("retention.ms", " 5 "), Ok("5"));
    assert!(check_topic_config("retention.ms", "-2").is_err());
    let set = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    };
    assert!(check_topic_configs(&set(&[("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")])).is_err());
    let told = topic_config_warnings(&set(&[
        ("cleanup.policy", "compact"),
        ("flush.messages", "7"),
        ("min.insync.replicas", "2"),
        ("retention.ms", "1"),
    ]));
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn descriptions_show_value_source_and_synonyms() {
    let config = load_text("log.retention.hours=24\nssl.key.password=hunter2", &[], &[])
        .unwrap()
        .config;
    let own = |name: &str| (name == "segment.bytes").then_some("2097152");
    let entries = describe_topic(own, &config, true);
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap().clone();
    let retention = find("retention.ms");
    assert_eq!(
        (retention.value.as_deref(), retention.source),
        (Some("86400000"), Source::StaticBroker)
    );
    let places: Vec<_> = retention
        .synonyms
        .iter()
        .map(|s| (s.name, s.value.as_deref().unwrap(), s.source.code()))
        .collect();
    assert_eq!(
        places,
        [("log.retention.hours", "24", 4), ("log.retention.hours", "168", 5)]
    );
    let segment = find("segment.bytes");
    assert_eq!(
        (segment.value.as_deref(), segment.source, segment.read_only),
        (Some("2097152"), Source::Topic, false)
    );
    assert_eq!(segment.synonyms.len(), 2);
    assert_eq!(find("retention.bytes").value.as_deref(), Some("-1"));
    assert_eq!(find("retention.bytes").source, Source::Default);
    assert!(!entries.iter().any(|entry| entry.name.starts_with("internal.")));

    let entries = describe_broker(&config, false);
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).unwrap();
    let secret = find("ssl.key.password");
    assert_eq!(
        (secret.value.as_deref(), secret.is_sensitive, secret.kind.code()),
        (None, true, 9)
    );
    assert_eq!(
        find("advertised.listeners").value.as_deref(),
        Some("PLAINTEXT://localhost:9092")
    );
    assert!(find("advertised.listeners").read_only && !find("log.retention.ms").read_only);
    assert_eq!(find("log.retention.ms").value.as_deref(), Some("86400000"));
}

#[test]
fn dynamic_values_go_before_static_ones() {
    let config = load_text("log.retention.ms=1000\nmessage.max.bytes=5000", &[], &[])
        .unwrap()
        .config;
    let of_all = [
        ("log.retention.ms", "2000"),
        ("message.max.bytes", "6000"),
        ("log.segment.bytes", "nonsense"),
    ];
    let dynamic = config.with_dynamic(of_all, [("log.retention.ms", "3000")]).unwrap();
    assert_eq!(dynamic.topics.options.retention_ms, 3000);
    assert_eq!(
        (
            dynamic.topics.options.message_bytes_max,
            dynamic.topics.options.segment_bytes
        ),
        (6000, 1 << 30)
    );
    let entry = describe_topic(|_| None, &dynamic, true)
        .into_iter()
        .find(|entry| entry.name == "retention.ms")
        .unwrap();
    assert_eq!(entry.source, Source::DynamicBroker);
    assert_eq!(
        entry.synonyms.iter().map(|s| s.source.code()).collect::<Vec<_>>(),
        [2, 3, 4, 5]
    );
    assert_eq!(dynamic.with_dynamic([], []).unwrap().topics.options.retention_ms, 1000);
}

#[test]
fn an_address_may_have_a_limit_of_connections_of_its_own() {
    let set = |value: &str| load_text(&format!("max.connections.per.ip.overrides={value}"), &[], &[]);
    let config = set("10.0.0.7:5, [::1]:6,::2:7").unwrap().config;
    let expected = [("10.0.0.7", 5), ("::1", 6), ("::2", 7)].map(|(ip, count)| (ip.parse().unwrap(), count));
    assert_eq!(config.network.connections_by_ip_max, expected.into());
    for bad in ["10.0.0.7", "10.0.0.7:", "10.0.0.7:-1", "somewhere:5"] {
        let errors = set(bad).unwrap_err().to_string();
        assert!(errors.contains("max.connections.per.ip.overrides"), "{errors}");
    }
}
