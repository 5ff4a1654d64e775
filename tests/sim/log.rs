//! The log alone: appends, restarts, and crashes at every I/O completion.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use ringtail::base::buffer::BLOCK_BYTES;
use ringtail::io::sim::{DiskImage, LossMode, SimEnv, World};
use ringtail::io::{Env, OpenOptions, read_file};
use ringtail::storage::{AppendError, Appending, DurabilityClass, LogOptions, Partition, Store, StoreOptions};

use crate::model::{
    DATA, Histories, History, batch, batch_of, check, log_options, open, open_with, options, payload, read_all, spec,
    store_options, world,
};

#[test]
fn batches_are_read_back_and_outlive_a_clean_restart() {
    for durability in [DurabilityClass::Flushed, DurabilityClass::Written] {
        let world = World::new(1, options());
        let history = world.block_on(0, move |env| async move {
            let store = open(&env).await;
            let partition = store
                .open_partition(spec(0, log_options(durability, 100_000)))
                .await
                .expect("opens");
            let mut history = History::default();
            for sequence in 0..200 {
                let bytes = batch(1, sequence, &payload(0, sequence, 10 + (sequence as usize * 37) % 3000));
                history.sent.insert(sequence, bytes.clone());
                let appended = partition.append(bytes).await.expect("appended");
                assert_eq!(appended.base_offset, i64::from(sequence));
                history.acked.insert(sequence, appended.base_offset);
            }
            check(0, &history, &partition).await;
            store.close().await.expect("closes");
            history
        });
        world.block_on(0, move |env| async move {
            let store = open(&env).await;
            let partition = store
                .open_partition(spec(0, log_options(durability, 100_000)))
                .await
                .expect("opens");
            assert_eq!(partition.high_watermark(), 200);
            check(0, &history, &partition).await;
            let again = partition
                .append(history.sent[&199].clone())
                .await
                .expect("a duplicate is answered");
            assert_eq!(again.base_offset, 199);
            let next = partition.append(batch(1, 200, b"next")).await.expect("appended");
            assert_eq!(next.base_offset, 200);
            store.close().await.expect("closes");
        });
    }
}

/// What need not be waited for is not: the request that it came in is answered in the same turn.
#[test]
fn a_written_append_and_a_late_retry_are_answered_at_once() {
    for class in [DurabilityClass::Flushed, DurabilityClass::Written] {
        World::new(9, options()).block_on(0, move |env| async move {
            let store = open(&env).await;
            let spec = spec(0, log_options(class, 100_000));
            let partition = store.open_partition(spec).await.expect("opens");
            partition.append(batch(1, 0, b"first")).await.expect("appended");
            let second = batch(1, 1, b"second");
            let told = partition.advanced().notified();
            let append = partition.append(second.clone());
            let known = matches!(&append, Appending::Known(Ok(appended)) if appended.base_offset == 1);
            let is_written = class == DurabilityClass::Written;
            assert_eq!(
                (known, partition.high_watermark()),
                (is_written, 1 + i64::from(is_written))
            );
            assert_eq!(append.await.expect("appended").base_offset, 1);
            told.await;
            let again = partition.append(second);
            assert!(matches!(again, Appending::Known(Ok(appended)) if appended.base_offset == 1));
            store.close().await.expect("closes");
        });
    }
}

/// Where the arenas lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arenas {
    /// On tmpfs: a power cut takes them.
    Memory,
    /// Beside the logs, where a power cut may leave any of their pages.
    Disk,
}

impl Arenas {
    fn world(self, seed: u64) -> World {
        let mut options = options();
        options.disk.mapped_pages_survive = self == Self::Disk;
        World::new(seed, options)
    }

    async fn open(self, env: &SimEnv) -> Rc<Store<SimEnv>> {
        let mut options = store_options(0);
        if self == Self::Disk {
            options.arena_directory = DATA.into();
        }
        open_with(env, options).await
    }
}

/// The mixed workload of the crash tests.
struct Workload {
    partitions: i32,
    rounds: i32,
}

fn class_of(index: i32) -> LogOptions {
    let durability = if index % 4 == 3 {
        DurabilityClass::Written
    } else {
        DurabilityClass::Flushed
    };
    log_options(durability, 600_000)
}

fn size_of(index: i32, sequence: i32) -> usize {
    match (index * 7 + sequence) % 23 {
        0 => 150_000,
        1..=4 => 9_000,
        5 => 40_000,
        _ => 50 + (sequence as usize * 131) % 900,
    }
}

async fn produce(
    env: SimEnv,
    partition: Rc<Partition<SimEnv>>,
    index: i32,
    from: i32,
    rounds: i32,
    histories: Histories,
) {
    let mut pending = Vec::new();
    for sequence in from..from + rounds {
        let bytes = batch(
            i64::from(index),
            sequence,
            &payload(index, sequence, size_of(index, sequence)),
        );
        histories
            .borrow_mut()
            .entry(index)
            .or_default()
            .sent
            .insert(sequence, bytes.clone());
        let (partition, histories) = (partition.clone(), histories.clone());
        pending.push(async move {
            let Ok(appended) = partition.append(bytes).await else {
                return;
            };
            histories
                .borrow_mut()
                .entry(index)
                .or_default()
                .acked
                .insert(sequence, appended.base_offset);
        });
        if pending.len() == 4 {
            ringtail::base::sync::join_all(std::mem::take(&mut pending)).await;
            env.sleep_until(env.now().plus_ms(env.random() % 3)).await;
        }
    }
    ringtail::base::sync::join_all(pending).await;
}

impl Workload {
    async fn run(&self, env: SimEnv, store: Rc<Store<SimEnv>>, from: i32, histories: Histories) {
        let mut producers = Vec::new();
        for index in 0..self.partitions {
            let partition = store.open_partition(spec(index, class_of(index))).await.expect("opens");
            producers.push(produce(
                env.clone(),
                partition,
                index,
                from,
                self.rounds,
                histories.clone(),
            ));
        }
        ringtail::base::sync::join_all(producers).await;
    }
}

/// A disk at a completion, with what had been acknowledged by then.
struct Moment {
    index: u64,
    image: DiskImage,
    histories: BTreeMap<i32, History>,
}

/// Runs the workload and keeps the disk at every `stride`-th completion.
fn moments(seed: u64, workload: Workload, stride: u64, histories: Histories, arenas: Arenas) -> (Vec<Moment>, u64) {
    let world = arenas.world(seed);
    let kept: Rc<RefCell<Vec<Moment>>> = Rc::default();
    let (keep, seen) = (kept.clone(), histories.clone());
    world.on_each_completion(move |world, index| {
        if index % stride == seed % stride {
            let histories = seen.borrow().clone();
            keep.borrow_mut().push(Moment {
                index,
                image: world.disk_image(0),
                histories,
            });
        }
    });
    world.block_on(0, move |env| async move {
        let store = arenas.open(&env).await;
        workload.run(env.clone(), store.clone(), 0, histories).await;
        store.close().await.expect("closes");
    });
    let count = world.completions();
    drop(world);
    let moments = Rc::try_unwrap(kept)
        .map_err(|_| "the world is gone")
        .expect("only holder")
        .into_inner();
    (moments, count)
}

/// Recovery leaves zeros behind the whole blocks of a log's last segment: nothing old can follow new batches there.
async fn assert_nothing_behind_the_end(env: &SimEnv, index: i32, partition: &Rc<Partition<SimEnv>>) {
    let folder = Path::new(DATA).join(format!("topic-{index}"));
    let names = env
        .list(&folder)
        .await
        .expect("listed")
        .into_iter()
        .map(|entry| entry.name);
    let last = names
        .filter(|name| name.ends_with(".log"))
        .max()
        .expect("a log has a segment");
    let base: i64 = last.trim_end_matches(".log").parse().expect("named by its base");
    let batches = read_all(partition).await.into_iter();
    let end: usize = batches
        .filter(|(offset, _)| *offset >= base)
        .map(|(_, bytes)| bytes.len())
        .sum();
    let content = read_file(env, &folder.join(&last), 1 << 30).await.expect("read");
    let behind = content.get(end / BLOCK_BYTES * BLOCK_BYTES..).unwrap_or_default();
    assert!(
        behind.iter().all(|byte| *byte == 0),
        "{index}: something lies behind {end} of {last}"
    );
}

/// Recovers from `image`, checks every partition, and appends on top.
fn recover_and_check(seed: u64, image: &DiskImage, histories: &BTreeMap<i32, History>, lossy: bool, arenas: Arenas) {
    let world = arenas.world(seed).with_disk(0, image);
    let histories = histories.clone();
    world.block_on(0, move |env| async move {
        let store = arenas.open(&env).await;
        for (index, history) in &histories {
            let options = class_of(*index);
            let volatile = options.durability == DurabilityClass::Written && lossy;
            let partition = store.open_partition(spec(*index, options)).await.expect("opens");
            let mut history = history.clone();
            if volatile {
                history.acked.clear();
            }
            check(*index, &history, &partition).await;
            assert_nothing_behind_the_end(&env, *index, &partition).await;
            if let Some((sequence, offset)) = history.acked.last_key_value() {
                let again = partition
                    .append(history.sent[sequence].clone())
                    .await
                    .expect("a duplicate is answered");
                assert_eq!(again.base_offset, *offset);
            }
            let end = partition.high_watermark();
            let next = partition
                .append(batch(1000, 0, b"after the crash"))
                .await
                .expect("appended");
            assert_eq!(next.base_offset, end);
            assert_eq!(read_all(&partition).await.last().map(|(offset, _)| *offset), Some(end));
        }
    });
}

fn crash_everywhere(seed: u64, workload: Workload, stride: u64, arenas: Arenas) -> u64 {
    let histories = Histories::default();
    let (moments, count) = moments(seed, workload, stride, histories, arenas);
    let only: Option<u64> = std::env::var("INDEX").ok().and_then(|s| s.parse().ok());
    for moment in moments.iter().filter(|m| only.is_none_or(|o| o == m.index)) {
        let modes = [
            LossMode::LoseAll,
            LossMode::KeepAll,
            LossMode::Random,
            LossMode::Torn { sector_bytes: 512 },
            LossMode::Torn { sector_bytes: 4096 },
        ];
        for (i, mode) in modes.into_iter().enumerate() {
            if i as u64 != moment.index % 5 && mode != LossMode::LoseAll {
                continue;
            }
            eprintln!("seed {seed} index {} {mode:?}", moment.index);
            let image = moment.image.after_power_cut(mode, seed ^ moment.index);
            recover_and_check(seed, &image, &moment.histories, true, arenas);
        }
        eprintln!("seed {seed} index {} kill", moment.index);
        recover_and_check(
            seed,
            &moment.image.after_kill(seed ^ moment.index),
            &moment.histories,
            false,
            arenas,
        );
    }
    count
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_acknowledged_is_lost_by_a_crash_at_any_completion() {
    let workload = Workload {
        partitions: 4,
        rounds: from_environment("ROUNDS", 60) as i32,
    };
    let (seed, stride) = (from_environment("SEED", 7), from_environment("STRIDE", 40));
    let count = crash_everywhere(seed, workload, stride, Arenas::Memory);
    eprintln!("completions {count}");
    assert!(count > 200, "{count} completions");
}

/// Of an arena that a power cut left any page may be missing, and what it says to be stored the segment may lack.
#[test]
fn memory_that_a_power_cut_left_is_not_believed_about_the_disk() {
    for seed in 0..4 {
        let workload = Workload {
            partitions: 4,
            rounds: 60,
        };
        crash_everywhere(seed, workload, from_environment("STRIDE", 40), Arenas::Disk);
    }
}

/// The times that a producer gives its records say nothing of when it was last here.
#[test]
fn a_retry_after_a_kill_is_known_however_old_its_records_are() {
    for class in [DurabilityClass::Flushed, DurabilityClass::Written] {
        let world = world(8);
        let old = batch_of(1_000, 1, 0, b"of long ago");
        let sent = old.clone();
        world.block_on(0, move |env| async move {
            let store = open(&env).await;
            let spec = spec(0, log_options(class, 10_000_000));
            let partition = store.open_partition(spec).await.expect("opens");
            let appended = partition.append(sent).await.expect("appended");
            assert_eq!(appended.base_offset, 0);
            // The process ends without closing.
        });
        world.block_on(0, move |env| async move {
            let store = open(&env).await;
            let spec = spec(0, log_options(class, 10_000_000));
            let partition = store.open_partition(spec).await.expect("opens");
            // So much that a checkpoint is due, which forgets who has been idle for too long.
            for sequence in 0..100 {
                let other = batch(2, sequence, &payload(0, sequence, 30_000));
                partition.append(other).await.expect("appended");
            }
            env.sleep_until(env.now().plus_ms(1_500)).await;
            let again = partition.append(old).await.expect("a duplicate is answered");
            assert_eq!(again.base_offset, 0, "{class:?}");
        });
    }
}

/// Nobody who reads a log back believes in one that is larger.
#[test]
fn a_batch_that_would_not_be_believed_is_refused() {
    world(7).block_on(0, |env| async move {
        let memory = StoreOptions {
            memory_bytes: 4 << 30,
            ..store_options(0)
        };
        let store = open_with(&env, memory).await;
        let options = log_options(DurabilityClass::Written, 1 << 30);
        let partition = store.open_partition(spec(0, options)).await.expect("opens");
        let appended = partition.append(batch(1, 0, &vec![b'v'; 256 << 20])).await;
        assert_eq!(appended.expect_err("too large"), AppendError::TooLargeForSegment);
        store.close().await.expect("closes");
    });
}

/// What memory holds ahead of the disk is so bounded by what comes next, not by time.
#[test]
fn a_chunk_that_is_full_is_stored_at_once() {
    let world = Rc::new(world(6));
    let counted = world.clone();
    world.block_on(0, move |env| async move {
        let store = open(&env).await;
        let options = log_options(DurabilityClass::Written, 10_000_000);
        let partition = store.open_partition(spec(0, options)).await.expect("opens");
        let before = counted.disk_counters(0).bytes_written;
        for sequence in 0..20 {
            let bytes = batch(1, sequence, &payload(0, sequence, 10_000));
            partition.append(bytes).await.expect("appended");
        }
        // Long before a settling round.
        env.sleep_until(env.now().plus_ms(50)).await;
        let written = counted.disk_counters(0).bytes_written - before;
        assert!(written > 50_000, "{written}");
        store.close().await.expect("closes");
    });
}

/// What memory says to be stored is only believed of a file that is there and long enough.
#[test]
fn a_segment_that_went_missing_after_a_kill_comes_back_from_memory() {
    for cut_to in [None, Some(8192)] {
        let world = world(5);
        let options = log_options(DurabilityClass::Written, 10_000_000);
        let appended = options.clone();
        let history = world.block_on(0, move |env| async move {
            let store = open(&env).await;
            let partition = store.open_partition(spec(0, appended)).await.expect("opens");
            let mut history = History::default();
            for sequence in 0..50 {
                let bytes = batch(1, sequence, &payload(0, sequence, 2000));
                history.sent.insert(sequence, bytes.clone());
                let appended = partition.append(bytes).await.expect("appended");
                history.acked.insert(sequence, appended.base_offset);
            }
            // A settling round stores whole blocks. The process ends without closing.
            env.sleep_until(env.now().plus_ms(2000)).await;
            history
        });
        world.block_on(0, move |env| async move {
            let path = Path::new(DATA).join("topic-0/00000000000000000000.log");
            match cut_to {
                Some(bytes) => {
                    let file = env.open(&path, OpenOptions::WRITE_DIRECT).await.expect("opens");
                    assert!(env.size(&file).await.expect("sized") > bytes);
                    env.truncate(&file, bytes).await.expect("cut");
                }
                None => env.unlink(&path).await.expect("was there"),
            }
            let store = open(&env).await;
            let partition = store.open_partition(spec(0, options)).await.expect("opens");
            check(0, &history, &partition).await;
            assert_eq!(partition.high_watermark(), 50);
        });
    }
}

/// A device that loses its cache under a machine that runs on: memory says that it is stored, the file lacks it, and the
/// journal has it.
#[test]
fn flushed_records_outlive_a_device_that_loses_its_cache_alone() {
    let options = log_options(DurabilityClass::Flushed, 10_000_000);
    let history = Rc::new(RefCell::new(History::default()));
    let moments = Rc::new(RefCell::new(Vec::new()));
    let before = world(6);
    let (known, seen) = (history.clone(), moments.clone());
    before.on_each_completion(move |world, _| seen.borrow_mut().push((world.disk_image(0), known.borrow().clone())));
    let (appended, told) = (options.clone(), history);
    before.block_on(0, move |env| async move {
        let store = open(&env).await;
        let partition = store.open_partition(spec(0, appended)).await.expect("opens");
        for sequence in 0..50 {
            let bytes = batch(1, sequence, &payload(0, sequence, 2000));
            told.borrow_mut().sent.insert(sequence, bytes.clone());
            let appended = partition.append(bytes).await.expect("appended");
            told.borrow_mut().acked.insert(sequence, appended.base_offset);
        }
        // A settling round stores and flushes what the journal has.
        env.sleep_until(env.now().plus_ms(3000)).await;
    });
    let moments = moments.take();
    assert!(moments.iter().any(|(_, history)| history.acked.len() == 50));
    for (index, (image, history)) in moments.into_iter().enumerate() {
        let left = image.after_cache_loss(LossMode::LoseAll, index as u64);
        let options = options.clone();
        let after = world(index as u64).with_disk(0, &left);
        after.block_on(0, move |env| async move {
            let store = open(&env).await;
            let partition = store.open_partition(spec(0, options)).await.expect("opens");
            check(0, &history, &partition).await;
        });
    }
}
