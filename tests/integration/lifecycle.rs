//! Starting, stopping, starting again: what an operator sees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DescribeConfigsRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;

use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::clients::{kcat, run, run_any, run_with_input};
use crate::harness::connection::{Answer, Connection};
use crate::harness::wait_for;

/// Topic → id and number of partitions; broker-internal topics apart.
type Topics = BTreeMap<String, (String, usize)>;

fn topics(broker: &Broker) -> Topics {
    // Of two metadata requests in a row only the second is sure to come after a start has finished.
    wait_for("metadata", || {
        let request = MetadataRequest::default().with_topics(None);
        let response: MetadataResponse = Connection::open(&broker.address()).call(12, &request);
        let ready = response.topics.iter().all(|topic| topic.error_code == 0) && !response.brokers.is_empty();
        let named = response.topics.iter().map(|topic| {
            let name = topic.name.as_ref().expect("version 12 names topics").to_string();
            (name, (topic.topic_id.to_string(), topic.partitions.len()))
        });
        ready.then(|| named.collect())
    })
}

/// The options of a topic that are not defaults.
fn configs(broker: &Broker, topic: &str) -> BTreeMap<String, String> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_string(topic.to_string()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = Connection::open(&broker.address()).call(4, &request);
    let result = &response.results[0];
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    const OF_TOPIC: i8 = 1;
    let own = result.configs.iter().filter(|config| config.config_source == OF_TOPIC);
    own.map(|config| {
        (
            config.name.to_string(),
            config.value.as_ref().expect("not secret").to_string(),
        )
    })
    .collect()
}

fn produce(broker: &Broker, topic: &str, partition: u32, lines: &str) {
    let mut produce = kcat();
    produce.args(["-P", "-b", &broker.address(), "-t", topic, "-p", &partition.to_string()]);
    run_with_input(produce, lines.as_bytes());
}

fn consume(broker: &Broker, topic: &str, partition: u32) -> String {
    let mut consume = kcat();
    consume.args(["-C", "-b", &broker.address(), "-t", topic, "-p", &partition.to_string()]);
    consume.args(["-o", "beginning", "-e", "-q", "-f", "%o %s\n"]);
    run(consume)
}

/// Both ways to end a broker keep all that was acknowledged and all that was configured; offsets go on where they were.
#[test]
fn a_start_after_stop_and_after_kill_keeps_everything() {
    let mut broker = Broker::start("lifecycle-restart");
    create_topic(
        &broker,
        "kept",
        3,
        &[("retention.ms", "123456789"), ("segment.bytes", "1048576")],
    );
    create_topic(&broker, "bare", 1, &[]);
    let before = topics(&broker);
    assert_eq!(before.len(), 2, "{before:?}");
    let mut expected = String::new();
    for round in 0..3 {
        let offset = round * 2;
        produce(&broker, "kept", 2, &format!("first of {round}\nsecond of {round}\n"));
        expected += &format!("{offset} first of {round}\n{} second of {round}\n", offset + 1);
        if round == 1 {
            broker.kill();
        } else {
            let (time, status) = broker.stop();
            assert!(
                status.success() || !only_of_ringtail("exit code 0 after SIGTERM"),
                "{status}"
            );
            assert!(time < Duration::from_secs(5), "a clean stop took {time:?}");
        }
        broker.restart();
        assert_eq!(topics(&broker), before, "round {round}");
        let own = configs(&broker, "kept");
        let own: Vec<(&str, &str)> = own.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(own, [("retention.ms", "123456789"), ("segment.bytes", "1048576")]);
        assert!(configs(&broker, "bare").is_empty());
        assert_eq!(consume(&broker, "kept", 2), expected, "round {round}");
        assert_eq!(consume(&broker, "kept", 0), "", "round {round}");
    }
}

/// SIGTERM ends the broker in time although a consumer waits, a connection idles, and records keep coming.
#[test]
fn sigterm_stops_in_time_with_clients_connected() {
    let mut broker = Broker::start("lifecycle-stop");
    create_topic(&broker, "busy", 1, &[]);
    let _idle = Connection::open(&broker.address());
    let mut waiting = kcat();
    waiting.args([
        "-C",
        "-b",
        &broker.address(),
        "-t",
        "busy",
        "-o",
        "beginning",
        "-q",
        "-u",
        "-X",
        "fetch.wait.max.ms=60000",
    ]);
    waiting.args(["-X", "socket.timeout.ms=70000"]);
    waiting
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut waiting = waiting.spawn().expect("kcat starts");
    produce(&broker, "busy", 0, "seen\n");
    wait_for("the consumer to read", || {
        use std::io::Read;
        let mut line = [0; 5];
        waiting.stdout.as_mut().expect("piped").read_exact(&mut line).ok()
    });
    let (time, status) = broker.stop();
    waiting.kill().expect("an own child can be killed");
    waiting.wait().expect("an own child can be waited for");
    if only_of_ringtail("SIGTERM ends in under 5 s with exit code 0") {
        assert!(time < Duration::from_secs(5), "a clean stop took {time:?}");
        assert!(status.success(), "{status}");
    }
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    if !only_of_ringtail("one clear line for a second process on the same data") {
        return;
    }
    let mut broker = Broker::start("lifecycle-second");
    create_topic(&broker, "first", 1, &[]);
    produce(&broker, "first", 0, "one\n");
    let mut second = broker.ringtail_command();
    second.arg("--set").arg("listeners=PLAINTEXT://127.0.0.1:0");
    let refused = run_any(second, b"");
    assert!(!refused.status.success(), "a second process ran on the same data");
    let data = broker.data().display().to_string();
    let clear = refused.err.lines().filter(|line| line.contains(&data)).count();
    assert_eq!(clear, 1, "one line names {data}:\n{}", refused.err);
    assert!(!refused.err.contains("panicked"), "{}", refused.err);
    broker.assert_alive();
    produce(&broker, "first", 0, "two\n");
    assert_eq!(consume(&broker, "first", 0), "0 one\n1 two\n");
}

#[test]
fn a_bad_option_is_one_clear_line() {
    if !only_of_ringtail("errors of the configuration") {
        return;
    }
    let broker = Broker::start("lifecycle-options");
    let mut wrong = broker.ringtail_command();
    wrong.arg("--set").arg("num.partitions=many");
    let refused = run_any(wrong, b"");
    assert!(!refused.status.success());
    assert!(
        refused.err.lines().any(|line| line.contains("num.partitions")),
        "{}",
        refused.err
    );
    assert!(!refused.err.contains("panicked"), "{}", refused.err);
}

#[test]
fn an_idle_broker_is_small() {
    if !only_of_ringtail("under 64 MiB idle") {
        return;
    }
    let mut broker = Broker::start_with("lifecycle-small", &[("ringtail.shards", "2")]);
    let resident = broker.resident_bytes();
    println!("idle: {} KiB resident", resident / 1024);
    assert!(resident < 64 << 20, "{} KiB resident when idle", resident / 1024);
    // A figure, not a check: time on a shared machine fails nothing.
    let fastest = (0..5).map(|_| {
        broker.stop();
        broker.restart()
    });
    let fastest = fastest.min().expect("five starts");
    println!("start: {fastest:?} from exec to the answer to ApiVersions");
}

/// Shards begin to listen one after the other: a connection that was made is served, whichever shard it was made with.
#[test]
fn whoever_connects_during_a_start_is_answered() {
    if !only_of_ringtail("a start that resets nobody") {
        return;
    }
    let mut broker = Broker::start_with("connected-early", &[("ringtail.shards", "2")]);
    let address = broker.address();
    for _ in 0..10 {
        broker.stop();
        let serves = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = || {
                let mut answered = 0;
                while answered < 10 || !serves.load(Ordering::Relaxed) {
                    // Refused as long as nobody listens.
                    let Ok(mut connection) = Connection::try_open(&address) else {
                        continue;
                    };
                    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
                    assert!(connection.send(&request), "a connection was reset");
                    assert!(
                        matches!(connection.answer(), Answer::Frame(_)),
                        "a connection was reset"
                    );
                    answered += 1;
                }
            };
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
            broker.restart();
            serves.store(true, Ordering::Relaxed);
            clients
                .into_iter()
                .for_each(|client| client.join().expect("it was answered"));
        });
    }
}
