//! Bounds that are met: tail memory and journal far smaller than what is appended, by turns to partitions of either class.

use std::rc::Rc;

use ringtail::base::coverage::{Mark, count};
use ringtail::base::sync::join_all;
use ringtail::io::Env;
use ringtail::io::sim::SimEnv;
use ringtail::storage::{DurabilityClass, Partition, Store, StoreOptions};

use crate::model::{History, batch, check, log_options, open_with, payload, spec, store_options, world};

/// Partitions of each class.
const PARTITIONS: i32 = 6;
const BATCH_BYTES: usize = 20_000;
/// Large enough that what the last ones hold back is more than all memory.
const LARGE_BATCH_BYTES: usize = 110_000;
/// Of one partition in one burst: all of them together are several times the tail memory.
const BATCHES: i32 = 60;
/// Batches of one partition on their way at once.
const IN_FLIGHT: i32 = 5;

/// A store of small bounds.
async fn open(env: &SimEnv) -> Rc<Store<SimEnv>> {
    let options = StoreOptions {
        memory_bytes: 4 << 20,
        journal_bytes: 4 << 20,
        ..store_options(0)
    };
    open_with(env, options).await
}

/// Opens new partitions of one class.
async fn open_logs(store: &Store<SimEnv>, group: i32, class: DurabilityClass, segment_bytes: u64) -> Vec<Log> {
    let mut logs = Vec::new();
    for index in group * PARTITIONS..(group + 1) * PARTITIONS {
        let spec = spec(index, log_options(class, segment_bytes));
        let partition = store.open_partition(spec).await.expect("opens");
        let history = History::default();
        logs.push(Log {
            index,
            partition,
            history,
        });
    }
    logs
}

struct Log {
    index: i32,
    partition: Rc<Partition<SimEnv>>,
    history: History,
}

/// Appends to one partition, some at once; every append is answered.
async fn burst(log: &mut Log, from: i32, count: i32, batch_bytes: usize) {
    for first in (from..from + count).step_by(IN_FLIGHT as usize) {
        let sequences: Vec<i32> = (first..first + IN_FLIGHT).collect();
        let appends = sequences.iter().map(|&sequence| {
            let bytes = batch(1, sequence, &payload(log.index, sequence, batch_bytes));
            log.history.sent.insert(sequence, bytes.clone());
            log.partition.append(bytes)
        });
        let answers = join_all(appends.collect()).await;
        for (sequence, answer) in sequences.iter().zip(answers) {
            let appended = answer.expect("an append that waited for room is answered");
            log.history.acked.insert(*sequence, appended.base_offset);
        }
    }
}

async fn by_turns(env: SimEnv) {
    let store = open(&env).await;
    let mut classes: Vec<Vec<Log>> = Vec::new();
    for (i, class) in [DurabilityClass::Written, DurabilityClass::Flushed]
        .into_iter()
        .enumerate()
    {
        classes.push(open_logs(&store, i as i32, class, 700_000).await);
    }
    for round in 0..4 {
        for logs in &mut classes {
            join_all(
                logs.iter_mut()
                    .map(|log| burst(log, round * BATCHES, BATCHES, BATCH_BYTES))
                    .collect(),
            )
            .await;
            if env.random().is_multiple_of(2) {
                env.sleep_until(env.now().plus_ms(env.random() % 700)).await;
            }
        }
    }
    for log in classes.iter().flatten() {
        check(log.index, &log.history, &log.partition).await;
    }
    store.close().await.expect("closes");
}

async fn one_after_the_other(env: SimEnv) {
    let store = open(&env).await;
    let mut all = Vec::new();
    for group in 0..10 {
        let class = match group % 3 {
            2 => DurabilityClass::Written,
            _ => DurabilityClass::Flushed,
        };
        let mut logs = open_logs(&store, group, class, 4_000_000).await;
        let bursts = logs.iter_mut().map(|log| burst(log, 0, 10, LARGE_BATCH_BYTES));
        join_all(bursts.collect()).await;
        all.extend(logs);
    }
    // They go on where they were left.
    for log in &mut all {
        burst(log, 10, IN_FLIGHT, 300).await;
    }
    for log in &all {
        check(log.index, &log.history, &log.partition).await;
        // None was ended early for the memory that it held.
        let folder = format!("/data/topic-{}", log.index);
        let files = env.list(folder.as_ref()).await.expect("a folder");
        let segments = files.iter().filter(|file| file.name.ends_with(".log"));
        assert_eq!(segments.count(), 1, "{folder}");
    }
    store.close().await.expect("closes");
}

/// Partitions that got their data and were left alone hold no memory that others need.
#[test]
fn topics_one_after_the_other_never_stand_still() {
    let before = count(Mark::TailShrunk);
    (0..6).for_each(|seed| world(seed).block_on(0, one_after_the_other));
    assert!(count(Mark::TailShrunk) > before, "no tail was moved together");
}

/// Memory that idle partitions no longer need is found by those that do, and a journal that is full is freed; no write is of
/// the kinds that a kernel hands to worker threads.
#[test]
fn bursts_by_turns_never_stand_still() {
    let before = (count(Mark::JournalFileRecycled), count(Mark::StoringAwaited));
    for seed in 0..12 {
        let world = world(seed);
        world.block_on(0, by_turns);
        let disk = world.disk_counters(0);
        let slow = (disk.writes_growing, disk.writes_mixed, disk.writes_beside_change);
        assert_eq!(slow, (0, 0, 0), "seed {seed}, {} writes", disk.writes);
    }
    let now = (count(Mark::JournalFileRecycled), count(Mark::StoringAwaited));
    assert!(now.0 > before.0, "the journal did not go round");
    assert!(now.1 > before.1, "no append waited for the disk");
}
