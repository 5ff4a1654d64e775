//! Power cuts under load: the disk loses its write cache, in part and in any order, and the broker dies in the same moment; what is left is
//! mounted again and the broker started on it, while clients go on.
//!
//! A broker that is killed keeps its arenas, which are in memory; a power cut takes memory, too. So the arenas' folder is emptied by hand:
//! this machine runs on.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::fuse_disk::{EVERY_LOSS, FaultyDisk, Loss};
use super::number;
use super::written::Written;
use crate::harness::admin::{Durability, create_topic, delete_topic};
use crate::harness::broker::{Broker, only_of_ringtail};
use crate::harness::load::{Load, Recorder};
use crate::harness::random::Random;
use crate::harness::wait_for;

const DISK_BYTES: u64 = 1 << 30;
/// Cuts of one topic's life at most, so that a history fits into memory however long the soak is.
const CUTS_PER_ROUND: u64 = 10;
/// How long each request of the device takes at most.
const SLOWEST_MS: u64 = 4;
/// A life in which acknowledgements of `written` get as old as they may be lost, and older.
const LONG_LIFE: Duration = Duration::from_secs(12);
const LOAD: Load = Load {
    topic: "flushed",
    partition_count: 4,
    producer_count: 3,
    reader_count: 2,
};

/// What becomes of the arenas in a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Memory {
    /// The machine lost its power.
    Lost,
    /// The device alone did.
    Kept,
}

struct Machine {
    // Before its disk, so that it is killed first.
    broker: Broker,
    disk: FaultyDisk,
}

impl Machine {
    fn start(test: &str) -> Machine {
        let disk = FaultyDisk::start(test, DISK_BYTES);
        let data = disk.data().display().to_string();
        let settings = [
            ("log.dirs", data.as_str()),
            ("ringtail.journal.bytes", "32m"),
            ("ringtail.reserve.bytes", "16m"),
        ];
        let broker = Broker::start_with(test, &settings);
        Machine { broker, disk }
    }
}

/// Everything in the folder; the folder stays.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).expect("the arenas' folder is there") {
        fs::remove_file(entry.expect("it can be listed").path()).expect("an arena can be removed");
    }
}

/// One cut, and the start after it. `written` goes on in between.
fn cut_and_start(
    broker: &mut Broker,
    disk: &mut FaultyDisk,
    written: &mut Written,
    (loss, memory): (Loss, Memory),
    seed: u64,
) {
    broker.assert_alive();
    let cut = Instant::now();
    let left = disk.cut(loss, seed);
    broker.kill();
    written.stop();
    disk.tell("heal");
    disk.detach();
    if memory == Memory::Lost {
        empty(broker.arena());
    }
    disk.attach();
    let took = broker.restart();
    println!("{loss:?}, memory {memory:?}: {left}; up again in {took:?}");
    match memory {
        Memory::Lost => written.judge(broker, cut, took),
        Memory::Kept => written.forget(broker),
    }
}

/// Cuts at random moments: after up to so many more acknowledgements, and a little later.
fn cut_again_and_again(
    broker: &mut Broker,
    disk: &mut FaultyDisk,
    (recorder, written): (&Recorder, &mut Written),
    (loss, memory): (Loss, Memory),
    random: &mut Random,
    cuts: u64,
) {
    let acks_between = 2 * number("RINGTAIL_TEST_ACKS_PER_CUT", 2000);
    for cut in 0..cuts {
        written.go_on(broker);
        let begin = Instant::now();
        let enough = recorder.acked_count() + random.between(1, acks_between);
        let is_long = cut == 0 && loss == Loss::All;
        if !is_long {
            // A slow device has more that no flush has covered.
            disk.tell(&format!("slow {}", random.between(1, SLOWEST_MS + 1)));
        }
        wait_for("acknowledgements", || {
            let goes_on = recorder.acked_count() < enough || is_long && begin.elapsed() < LONG_LIFE;
            (!goes_on || recorder.has_trouble()).then_some(())
        });
        if recorder.has_trouble() {
            return;
        }
        thread::sleep(Duration::from_micros(random.between(0, 20_000)));
        // Most cuts should have something to lose.
        let mut tries = 0..random.between(0, 2000);
        while disk.stats()["unflushed"] == 0 && tries.next().is_some() {}
        cut_and_start(broker, disk, written, (loss, memory), random.u64());
    }
}

fn survives_cuts(test: &str, memory: Memory, cut_count: u64) {
    if !only_of_ringtail("nothing acknowledged is lost by a power cut") {
        return;
    }
    let mut random = Random::seeded(test);
    let mut machine = Machine::start(test);
    let begin = Instant::now();
    let mut written = Written::default();
    let (mut cuts, mut acked_count) = (0, 0);
    let per_round = CUTS_PER_ROUND.min(cut_count.div_ceil(EVERY_LOSS.len() as u64));
    for loss in EVERY_LOSS.into_iter().cycle() {
        let now = per_round.min(cut_count - cuts);
        if now == 0 {
            break;
        }
        // Small segments: cuts fall into rolls, too.
        let segments = ("segment.bytes", "1048576");
        create_topic(
            &machine.broker,
            LOAD.topic,
            LOAD.partition_count as i32,
            &[Durability::Flushed.config(), segments],
        );
        written.begin(&machine.broker);
        let report = LOAD.run(&mut machine.broker, |broker, recorder| {
            let both = (recorder, &mut written);
            cut_again_and_again(broker, &mut machine.disk, both, (loss, memory), &mut random, now);
        });
        // A history in which nothing happened proves nothing.
        assert!(report.acked_count > 100 * now, "{report}");
        (cuts, acked_count) = (cuts + now, acked_count + report.acked_count);
        written.end(&machine.broker);
        delete_topic(&machine.broker, LOAD.topic);
        println!(
            "{test}: {cuts} cuts, {acked_count} acknowledged flushed, lost 0; {written}; {:.0?}",
            begin.elapsed()
        );
    }
    println!("{test}: the disk: {:?}", machine.disk.stats());
}

#[test]
fn nothing_flushed_is_lost_by_a_power_cut() {
    survives_cuts("power", Memory::Lost, number("RINGTAIL_TEST_CUTS", 16));
}

/// A device that comes back without its cache, on a machine that runs on: the arenas say more than the disk holds.
#[test]
fn nothing_flushed_is_lost_by_a_device_that_loses_its_cache() {
    survives_cuts("cache", Memory::Kept, number("RINGTAIL_TEST_CUTS", 16).div_ceil(4));
}
