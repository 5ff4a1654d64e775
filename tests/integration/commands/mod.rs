//! The `ringtail` command as a person or a script uses it: what it prints, and how it ends.
//!
//! - `topic`, `records`: the client commands. Each scenario takes a broker; `kafka` gives them Apache Kafka, too.
//! - `log`: `log verify` and `log seal` over the directory of a stopped broker.
//! - `check`: `ringtail check`, and what all commands have in common.

use std::process::Command;

use serde_json::Value;

use crate::harness::broker::{Broker, Peer, ringtail};
use crate::harness::clients::{Output, run, run_any, run_with_input};

mod check;
mod log;
mod records;
mod topic;

/// The exit codes that `ringtail help` lists.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const DATA_IN_USE: i32 = 4;
const DATA_UNUSABLE: i32 = 5;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(ringtail());
    command.args(arguments);
    command
}

/// A client command to `broker`.
fn to(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.args(["--bootstrap-server", &broker.address()]);
    command
}

/// What a client command prints that succeeds.
fn out(broker: &Broker, arguments: &[&str]) -> String {
    run(to(broker, arguments))
}

fn out_of(broker: &Broker, arguments: &[&str], input: &str) -> String {
    run_with_input(to(broker, arguments), input.as_bytes())
}

/// What it prints with `--json`, one value a line.
fn json(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let mut command = to(broker, arguments);
    command.arg("--json");
    values(&run(command))
}

fn values(printed: &str) -> Vec<Value> {
    let value = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    printed.lines().map(value).collect()
}

/// Runs a command that has to fail: with this exit code, nothing on standard output, and one line that says why.
///
/// # Panics
/// If any of that is not so.
fn refused(command: Command, input: &str, code: i32) -> String {
    let shown = format!("{command:?}");
    let Output { status, out, err } = run_any(command, input.as_bytes());
    assert_eq!(status.code(), Some(code), "{shown}\n{out}{err}");
    assert_eq!(out, "", "{shown} prints no result");
    assert!(
        err.starts_with("ringtail: ") && err.lines().count() == 1,
        "{shown}: one line says why: {err}"
    );
    err
}

/// The same commands against the broker that they were not written beside.
#[test]
fn the_client_commands_work_with_apache_kafka() {
    let kafka = Broker::start_peer(Peer::Kafka, "commands-kafka", &[]);
    topic::a_life(&kafka);
    topic::refusals(&kafka);
    records::keys_headers_and_formats(&kafka);
    records::places_to_begin(&kafka);
    records::every_codec_and_acks(&kafka);
    records::what_comes_from_now_on(&kafka);
}
