//! A log that is read again and again: it comes out of the page cache then, and is the same.

use std::fs;

use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, Peer, free_port, ringtail};
use crate::harness::clients::{kcat, kcat_reading, run, run_with_input};

const LINES: usize = 60_000;

fn line(offset: usize) -> String {
    format!("{offset} {}", "x".repeat(offset % 900))
}

/// Pipes that the broker has open: it holds pages in them.
fn pipes(broker: &Broker) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", broker.pid())).expect("the broker runs");
    let is_pipe = |entry: std::io::Result<fs::DirEntry>| {
        let target = fs::read_link(entry.expect("a descriptor").path());
        target.is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"))
    };
    descriptors.map(is_pipe).filter(|is| *is).count()
}

#[test]
fn a_log_read_again_and_again_is_sent_from_the_page_cache() {
    let native = format!("127.0.0.1:{}", free_port());
    let settings = [
        ("ringtail.memory.bytes", "64m"),
        ("ringtail.native.listeners", native.as_str()),
    ];
    let mut broker = Broker::start_peer(Peer::Ringtail, "again", &settings);
    create_topic(&broker, "again", 1, &[("segment.bytes", "4194304")]);
    let expected: String = (0..LINES).map(|offset| line(offset) + "\n").collect();
    let mut produce = kcat();
    produce.args(["-P", "-b", &broker.address(), "-t", "again", "-p", "0"]);
    produce.args(["-X", "batch.size=30000"]);
    run_with_input(produce, expected.as_bytes());
    broker.stop();
    broker.restart();

    let before = pipes(&broker);
    for round in 0..4 {
        let mut consume = kcat_reading(&broker.address(), "again");
        consume.args(["-X", "check.crcs=true"]);
        assert!(run(consume) == expected, "round {round} reads something else");
    }
    assert!(pipes(&broker) > before, "nothing was sent from the page cache");
    let mut consume = std::process::Command::new(ringtail());
    consume.args([
        "consume",
        "again",
        "--from-beginning",
        "--exit-at-end",
        "--native",
        "-b",
        &native,
    ]);
    assert!(run(consume) == expected, "the native protocol reads something else");
    broker.assert_alive();
}
