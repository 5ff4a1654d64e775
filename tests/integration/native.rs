//! The native protocol over real sockets: the commands in it, beside clients that speak Kafka's.

use std::process::Command;

use crate::harness::broker::{Broker, Peer, free_port, ringtail};
use crate::harness::clients::{kcat, kcat_reading, run, run_any, run_with_input};

/// A broker with a native listener, and its address.
fn start(test: &str) -> (Broker, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let broker = Broker::start_peer(Peer::Ringtail, test, &[("ringtail.native.listeners", &address)]);
    (broker, address)
}

fn native(address: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(ringtail());
    command.args(arguments).args(["--native", "-b", address]);
    command
}

#[test]
fn lines_go_in_and_out_in_both_protocols_and_over_a_kill() {
    let (mut broker, address) = start("native-lines");
    let mut create = Command::new(ringtail());
    create.args(["topic", "create", "lines", "--partitions", "3", "-b", &broker.address()]);
    run(create);
    let lines: Vec<String> = (0..500).map(|number| format!("native {number}")).collect();
    run_with_input(
        native(&address, &["produce", "lines"]),
        format!("{}\n", lines.join("\n")).as_bytes(),
    );
    let mut produce = kcat();
    produce.args(["-P", "-b", &broker.address(), "-t", "lines"]);
    run_with_input(produce, b"kafka 1\nkafka 2\n");
    broker.kill();
    broker.restart();

    let mut expected = lines;
    expected.extend(["kafka 1".to_owned(), "kafka 2".to_owned()]);
    expected.sort();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let consumed = run(native(
        &address,
        &["consume", "lines", "--from-beginning", "--exit-at-end"],
    ));
    assert_eq!(sorted(&consumed), expected);
    let consumed = run(kcat_reading(&broker.address(), "lines"));
    assert_eq!(sorted(&consumed), expected);
}

#[test]
fn what_is_not_served_natively_is_refused_with_its_name() {
    let (_broker, address) = start("native-refused");
    let refused = run_any(native(&address, &["topic", "create", "t"]), b"");
    assert!(!refused.status.success());
    let told = refused.err;
    assert!(
        told.contains("CreateTopics") && told.contains("not in the native protocol"),
        "{told}"
    );
}
