//! The whole broker in the simulator: real shards, real client library, a network and disks that fail, judged by the history checker.
//!
//! A seed decides everything: how many shards and directories there are, what the clients do, what befalls the broker and when. Each run
//! ends with a last heal, after which everything must be answered, and a read of all that is there.
//!
//! `RINGTAIL_SIM_SEED` replays one seed (with `RINGTAIL_SIM_MINUTES`, where a run was not of the usual length). `tests/simulate.sh` runs fresh
//! seeds for simulated hours.

mod admin;
mod idempotent;
mod nemesis;
mod network;
mod offsets;
mod party;
mod payload;
mod plain;
mod process;
mod readers;
mod recorder;
mod run;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use run::{Verdict, run};
use tally::Tally;

/// Of simulated time, with faults.
const MINUTES: u64 = 5;
/// Runs that every test of the project begins with.
const FIXED: [u64; 3] = [1, 2, 3];

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn fresh_seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    let now = now ^ u64::from(std::process::id()) << 40;
    (now.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % 1_000_000_000
}

/// One seed's verdict; a panic is one, too.
fn judge(seed: u64, minutes: u64) -> Verdict {
    let judged = catch_unwind(AssertUnwindSafe(|| run(seed, minutes * 60_000)));
    let verdict = judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Verdict::panicked(seed, text.unwrap_or_default())
    });
    if !verdict.anomalies.is_empty() {
        eprintln!("seed {seed}:\n  {}", verdict.anomalies.join("\n  "));
        eprintln!(
            "replay: RINGTAIL_SIM_SEED={seed} RINGTAIL_SIM_MINUTES={minutes} cargo test --test sim broker::clients -- --nocapture"
        );
    }
    verdict
}

#[test]
fn clients_of_a_broker_among_faults_see_a_log() {
    let minutes = variable("RINGTAIL_SIM_MINUTES").unwrap_or(MINUTES);
    let mut tally = Tally::default();
    if let Some(seed) = variable("RINGTAIL_SIM_SEED") {
        let writer = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
        writer.with_max_level(tracing::Level::INFO).init();
        tally.add(&judge(seed, minutes));
    } else if let Some(total) = variable("RINGTAIL_SIM_TOTAL_MINUTES") {
        // Progress on the way: the shell adds the processes' last lines up.
        let (mut seed, mut said) = (fresh_seed(), Instant::now());
        while tally.virtual_ms < total * 60_000 {
            tally.add(&judge(seed, minutes));
            seed += 1;
            if said.elapsed().as_secs() >= 20 {
                eprintln!("{}", tally.progress());
                said = Instant::now();
            }
        }
        eprintln!("{}", tally.sum());
    } else {
        FIXED.iter().for_each(|seed| tally.add(&judge(*seed, 2)));
        tally.add(&judge(fresh_seed(), 2));
    }
    eprintln!("{}", tally.progress());
    tally.assert_clean();
}

#[test]
fn a_seed_replays_exactly() {
    let (first, second) = (judge(7, 1), judge(7, 1));
    assert_eq!((first.hash, first.operations), (second.hash, second.operations));
    assert_ne!(first.hash, judge(8, 1).hash);
}
