//! `kill -9` under load, again and again, while several idempotent producers and readers go on. At the end `ringtail-checker` judges the
//! whole history: what was acknowledged is there once, in order, at its offset.
//!
//! Ten kills per durability class; `tests/soak.sh kills` is the long form.

use std::thread;
use std::time::Duration;

use crate::harness::admin::{Durability, create_topic, delete_topic};
use crate::harness::broker::Broker;
use crate::harness::load::{Load, Recorder};
use crate::harness::random::Random;
use crate::harness::wait_for;

/// Kills of one topic's life, so that a history fits into memory however long the soak is.
const KILLS_PER_ROUND: u64 = 10;
const LOAD: Load = Load {
    topic: "killed",
    partition_count: 4,
    producer_count: 3,
    reader_count: 2,
};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| {
        value.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// Kills the broker at random moments: after up to so many more acknowledgements, and a little later.
fn kill_and_start(broker: &mut Broker, random: &mut Random, recorder: &Recorder, kill_count: u64, acks_between: u64) {
    for _ in 0..kill_count {
        let enough = recorder.acked_count() + random.between(1, acks_between);
        wait_for("acknowledgements", || {
            (recorder.acked_count() >= enough || recorder.has_trouble()).then_some(())
        });
        if recorder.has_trouble() {
            return;
        }
        thread::sleep(Duration::from_micros(random.between(0, 20_000)));
        broker.assert_alive();
        broker.kill();
        thread::sleep(Duration::from_millis(random.between(0, 100)));
        broker.restart();
    }
}

fn survives_kills(test: &str, durability: Durability) {
    let kill_count = number("RINGTAIL_TEST_KILLS", 10);
    let acks_between = number("RINGTAIL_TEST_ACKS_PER_KILL", 2000) * 2;
    let mut random = Random::seeded(test);
    let mut broker = Broker::start(test);
    let (mut killed, mut acked_count) = (0, 0);
    while killed < kill_count {
        // Small segments: kills fall into rolls, too.
        let configs = [durability.config(), ("segment.bytes", "1048576")];
        create_topic(&broker, LOAD.topic, LOAD.partition_count as i32, &configs);
        let kills = KILLS_PER_ROUND.min(kill_count - killed);
        let report = LOAD.run(&mut broker, |broker, recorder| {
            kill_and_start(broker, &mut random, recorder, kills, acks_between);
        });
        // A history in which nothing happened proves nothing.
        assert!(report.acked_count > 100 * kills, "{report}");
        (killed, acked_count) = (killed + kills, acked_count + report.acked_count);
        println!("{test}: {killed} kills, {acked_count} acknowledged; the last round: {report}");
        delete_topic(&broker, LOAD.topic);
    }
}

#[test]
fn flushed_records_survive_kills() {
    survives_kills("killed-flushed", Durability::Flushed);
}

#[test]
fn written_records_survive_kills() {
    survives_kills("killed-written", Durability::Written);
}
