//! `ringtail check`, and what all commands have in common.

use serde_json::Value;

use super::{FAILED, USAGE, command, refused, values};
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::clients::{run, run_any};

const MACHINE: i32 = 3;

#[test]
fn check_tells_what_a_broker_needs() {
    if !only_of_ringtail("ringtail check") {
        return;
    }
    let broker = Broker::start("commands-check");
    let directory = broker.folder().join("tried");
    let mut check = command(&["check", "--json"]);
    check.arg(&directory);
    let findings = values(&run(check)).remove(0);
    let findings = findings.as_array().expect("a list");
    let of = |what: &str| {
        let found = findings
            .iter()
            .find(|row| row["check"].as_str().is_some_and(|name| name.starts_with(what)));
        found.unwrap_or_else(|| panic!("{what} is not in {findings:?}"))
    };
    for what in ["kernel", "io_uring", "direct I/O on ", "arena in /dev/shm"] {
        assert_eq!(of(what)["verdict"], "ok", "where tests run a broker runs");
        assert!(of(what)["fix"].is_null());
    }
    for what in [
        "locked memory",
        "open files",
        "clock source",
        "durable write to ",
        "space on ",
    ] {
        let good = of(what)["verdict"] == "ok";
        assert_eq!(
            of(what)["fix"].is_null(),
            good,
            "what is not good has a fix: {}",
            of(what)
        );
    }
    let left: Vec<_> = std::fs::read_dir(&directory).expect("it was made").collect();
    assert!(left.is_empty(), "nothing is left of the trial: {left:?}");

    let mut shown = command(&["check"]);
    shown.arg(&directory);
    let shown = run(shown);
    assert_eq!(
        shown.lines().next().map(|line| line.split_whitespace().collect()),
        Some(vec!["CHECK", "VERDICT", "FOUND"])
    );
    assert!(shown.lines().count() > findings.len(), "a line for each:\n{shown}");

    // Memory is no disk, and an arena has to be somewhere.
    let mut check = command(&["check", "--json"]);
    check.arg(broker.arena());
    let findings = values(&run(check)).remove(0);
    let told = |rows: &Value, what: &str| {
        let rows = rows.as_array().expect("a list").iter();
        rows.filter(|row| row["check"].as_str().is_some_and(|name| name.starts_with(what)))
            .map(|row| row["verdict"].as_str().expect("a word").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&findings, "file system of "), ["warning"], "{findings}");
    let mut check = command(&["check", "--json", "--arena", "/no/such/folder"]);
    check.arg(&directory);
    let ended = run_any(check, b"");
    assert_eq!(ended.status.code(), Some(MACHINE), "{}{}", ended.out, ended.err);
    let findings = values(&ended.out).remove(0);
    assert_eq!(told(&findings, "arena in "), ["fatal"], "{findings}");
    assert!(told(&findings, "file system of ").is_empty(), "a disk is fine");

    // A directory without direct I/O: a file stands where it should be.
    let file = broker.folder().join("a-file");
    std::fs::write(&file, "no directory").expect("the folder can be written");
    let mut check = command(&["check"]);
    check.arg(&file);
    let told = run_any(check, b"");
    assert_eq!(told.status.code(), Some(MACHINE), "{}{}", told.out, told.err);
    assert!(
        told.out.contains("FATAL") && told.out.contains("to fix it:"),
        "{}",
        told.out
    );
    assert_eq!(told.err.lines().count(), 1, "{}", told.err);
}

#[test]
fn a_broker_that_is_not_there_is_one_line() {
    for arguments in [
        &["topic", "list"][..],
        &["topic", "describe", "t"],
        &["produce", "t"],
        &["consume", "t"],
    ] {
        let mut absent = command(arguments);
        // Nobody listens on port 1.
        absent.args(["--bootstrap-server", "127.0.0.1:1", "--timeout-ms", "300"]);
        let said = refused(absent, "a line\n", FAILED);
        assert!(said.contains("127.0.0.1:1"), "{said}");
    }
}

#[test]
fn wrong_arguments_end_with_2_and_help_with_0() {
    for arguments in [
        &["topic"][..],
        &["topic", "create"],
        &["produce"],
        &["consume", "t", "--offset", "1", "--from-beginning"],
        &["produce", "t", "--codec", "zip"],
        &["log", "verify"],
        &["log", "seal"],
        &["no-such-command"],
        &["topic", "list", "--bootstrap-server", ","],
    ] {
        let told = run_any(command(arguments), b"");
        assert_eq!(
            told.status.code(),
            Some(USAGE),
            "{arguments:?}: {}{}",
            told.out,
            told.err
        );
        assert_eq!(told.out, "", "{arguments:?}");
    }
    for name in ["start", "topic", "produce", "consume", "check", "log"] {
        assert!(run(command(&[name, "--help"])).contains("Usage: ringtail"), "{name}");
    }
    assert!(run(command(&["help"])).contains("Exit codes: 0 done"));
}
