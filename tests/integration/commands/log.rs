//! `ringtail log verify` and `ringtail log seal`: the directory of a broker that real clients wrote to.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{DATA_IN_USE, DATA_UNUSABLE, command, out_of, values};
use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::clients::{Output, run, run_any};

fn log_command(action: &str, directory: &Path) -> Command {
    let mut log = command(&["log", action]);
    log.arg(directory);
    log
}

fn seal(broker: &Broker) -> Command {
    let mut seal = log_command("seal", &broker.data());
    seal.arg("--arena").arg(broker.arena());
    seal
}

/// A broker with several closed and an active segment in each of two partitions, stopped.
fn written(test: &str) -> Broker {
    let mut broker = Broker::start(test);
    create_topic(&broker, "kept", 2, &[("segment.bytes", "1048576")]);
    let lines: String = (0..3000).map(|i| format!("{i:0999}\n")).collect();
    for partition in ["0", "1"] {
        out_of(
            &broker,
            &["produce", "kept", "-p", partition, "--batch-bytes", "16384"],
            &lines,
        );
    }
    broker.stop();
    broker
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|own| own == extension))
        .collect();
    found.sort();
    found
}

/// Flips the bits of one byte; again, and it is as before.
fn flip(path: &Path, position: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("the file is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("the byte is there");
    file.write_all_at(&[!byte[0]], position).expect("the file takes a byte");
}

/// The lines that `log verify` prints about problems, after it has ended with exit code 1.
fn problems(broker: &Broker) -> Vec<String> {
    let Output { status, out, err } = run_any(log_command("verify", &broker.data()), b"");
    assert_eq!(status.code(), Some(1), "{out}{err}");
    assert_eq!(err.lines().count(), 1, "one line says that there are problems: {err}");
    let mut lines: Vec<String> = out
        .lines()
        .filter(|line| !line.starts_with("note: "))
        .map(str::to_owned)
        .collect();
    let summary = lines.pop().expect("the last line sums up");
    assert!(summary.ends_with(&format!(": {} problems", lines.len())), "{summary}");
    lines
}

/// The position in a line `FILE: byte POSITION: WHAT`.
fn position(line: &str, file: &Path) -> Option<u64> {
    let rest = line.strip_prefix(&format!("{}: byte ", file.display()))?;
    rest.split_once(": ")?.0.parse().ok()
}

#[test]
fn an_intact_directory_verifies_and_every_flipped_byte_is_told() {
    if !only_of_ringtail("log verify") {
        return;
    }
    let broker = written("commands-verify");
    let good = run(log_command("verify", &broker.data()));
    assert!(
        good.ends_with(": 0 problems\n") && good.contains("2 partitions, "),
        "{good}"
    );
    let report = {
        let mut verify = log_command("verify", &broker.data());
        verify.arg("--json");
        values(&run(verify)).remove(0)
    };
    assert_eq!(report["problems"], serde_json::json!([]));
    assert_eq!(report["partitions"], 2);
    assert!(
        report["bytes"].as_u64().is_some_and(|bytes| bytes > 5_000_000),
        "{report}"
    );

    let folder = broker.data().join("kept-1");
    let logs = files(&folder, "log");
    assert!(logs.len() >= 3, "closed segments and an active one: {logs:?}");
    let closed = &logs[0];
    let content = fs::read(closed).expect("the segment can be read");
    for flipped in [0, 30, content.len() as u64 / 2, content.len() as u64 - 1] {
        flip(closed, flipped);
        let found = problems(&broker);
        assert_eq!(found.len(), 1, "byte {flipped}: {found:?}");
        let at = position(&found[0], closed).unwrap_or_else(|| panic!("no file and position: {}", found[0]));
        let length = i32::from_be_bytes(content[at as usize + 8..][..4].try_into().expect("four bytes"));
        let batch = at..at + 12 + length as u64;
        assert!(
            batch.contains(&flipped),
            "byte {flipped} is in the batch at {at}: {found:?}"
        );
        flip(closed, flipped);
    }
    // A companion, the end of the log that a checkpoint knows, the checkpoint itself, the metadata log.
    let companion = |kind: &str| closed.with_extension(kind);
    let active = logs.last().expect("three at least").clone();
    for (path, byte) in [
        (companion("sums"), 60),
        (companion("index"), 3),
        (companion("timeindex"), 3),
        (active, 100),
        (
            files(&broker.data(), "ckpt").pop().expect("a stop leaves a checkpoint"),
            90,
        ),
        (broker.data().join("ringtail-metadata.log"), 100),
    ] {
        flip(&path, byte);
        let found = problems(&broker);
        let named = format!("{}: ", path.display());
        assert!(
            found.iter().any(|line| line.starts_with(&named)),
            "{named}byte {byte}: {found:?}"
        );
        flip(&path, byte);
    }
    assert_eq!(run(log_command("verify", &broker.data())), good, "as it was before");
}

#[test]
fn a_directory_in_use_or_of_nobody_is_refused() {
    if !only_of_ringtail("log verify and log seal") {
        return;
    }
    let broker = Broker::start("commands-in-use");
    create_topic(&broker, "kept", 1, &[]);
    let data = broker.data();
    for (what, code) in [
        (log_command("verify", &data), DATA_UNUSABLE),
        (seal(&broker), DATA_IN_USE),
        (log_command("verify", broker.folder()), DATA_UNUSABLE),
        (log_command("seal", broker.folder()), DATA_UNUSABLE),
    ] {
        super::refused(what, "", code);
    }
    let mut closed_only = log_command("verify", &data);
    closed_only.arg("--closed-only");
    assert!(
        run(closed_only).ends_with(": 0 problems\n"),
        "closed segments may be read beside a broker"
    );
}

/// Sealed files end where their batches end; the broker goes on from them as if nothing had been.
#[test]
fn a_sealed_directory_is_exact_and_serves_on() {
    if !only_of_ringtail("log seal") {
        return;
    }
    let mut broker = written("commands-seal");
    let read = |broker: &Broker| {
        super::out(
            broker,
            &[
                "consume",
                "kept",
                "-p",
                "0",
                "--from-beginning",
                "--exit-at-end",
                "--format",
                "%o %v\\n",
            ],
        )
    };
    let active = files(&broker.data().join("kept-0"), "log").pop().expect("a segment");
    let before = fs::metadata(&active).expect("it is there").len();
    assert_eq!(run(seal(&broker)), "2 partitions sealed\n");
    let after = fs::read(&active).expect("it is there");
    assert!(
        (after.len() as u64) < before,
        "room for more was cut off: {before} bytes before"
    );
    let mut at = 0;
    while at < after.len() {
        let length = i32::from_be_bytes(after[at + 8..][..4].try_into().expect("four bytes"));
        assert!(length > 0, "a batch at {at} of {}", after.len());
        at += 12 + length as usize;
    }
    assert_eq!(at, after.len(), "the last batch ends with the file");
    assert!(run(log_command("verify", &broker.data())).ends_with(": 0 problems\n"));
    let mut again = seal(&broker);
    again.arg("--json");
    let told = values(&run(again)).remove(0);
    assert_eq!((&told["partitions"], &told["damaged"]), (&2.into(), &0.into()));

    broker.restart();
    let all = read(&broker);
    assert_eq!(all.lines().count(), 3000);
    assert_eq!(
        out_of(&broker, &["produce", "kept", "-p", "0", "--offsets"], "more\n"),
        "0 3000\n"
    );
    assert_eq!(read(&broker), all + "3000 more\n");
    // What a killed broker left is sealed with the memory that outlived it.
    broker.kill();
    assert_eq!(run(seal(&broker)), "2 partitions sealed\n");
    broker.restart();
    assert_eq!(read(&broker).lines().last(), Some("3000 more"));
}
