//! A disk without space: produce is refused, nothing is lost, and all goes on by itself when there is space.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use ringtail::base::coverage::{Mark, count};
use ringtail::base::sync::race;
use ringtail::io::sim::{DiskOperation, EDQUOT, ENOSPC, Fault, FaultEffect, Options, SimEnv, World};
use ringtail::io::{EMFILE, Env};
use ringtail::storage::{AppendError, DurabilityClass, Partition};

use crate::model::{DATA, History, batch, check, log_options, open, payload, spec};

/// Appends `sequences`, trying again while there is no space.
async fn append_all(env: &SimEnv, partition: &Rc<Partition<SimEnv>>, sequences: std::ops::Range<i32>) -> History {
    append_sized(env, partition, sequences, 30_000).await
}

async fn append_sized(
    env: &SimEnv,
    partition: &Rc<Partition<SimEnv>>,
    sequences: std::ops::Range<i32>,
    bytes: usize,
) -> History {
    let mut history = History::default();
    for sequence in sequences {
        let bytes = batch(1, sequence, &payload(0, sequence, bytes));
        history.sent.insert(sequence, bytes.clone());
        loop {
            match partition.append(bytes.clone()).await {
                Ok(appended) => {
                    history.acked.insert(sequence, appended.base_offset);
                    break;
                }
                Err(AppendError::Full) => env.sleep_until(env.now().plus_ms(100)).await,
                Err(error) => panic!("{sequence}: {error:?}"),
            }
        }
    }
    history
}

/// What grows beside the logs meets the end of the space first: companions, checkpoints, new segments, journal files.
#[test]
fn a_lack_of_space_for_any_file_takes_no_directory_out_of_service() {
    for class in [DurabilityClass::Flushed, DurabilityClass::Written] {
        for file in [
            ".index",
            ".timeindex",
            ".sums",
            ".ckpt",
            "leader-epoch",
            ".log",
            "ringtail-journal",
        ] {
            for operation in [
                DiskOperation::Shape,
                DiskOperation::Write,
                DiskOperation::Open,
                DiskOperation::Name,
            ] {
                // Writes to those go to space allocated before, and a journal file is opened to be used again, too.
                let needs_none = matches!(
                    (file, operation),
                    (".log" | "ringtail-journal", DiskOperation::Write) | ("ringtail-journal", DiskOperation::Open)
                );
                if needs_none {
                    continue;
                }
                let full = Fault::always(operation, file, FaultEffect::Error(ENOSPC));
                outlive(class, SMALL, full);
            }
        }
    }
    assert!(count(Mark::Full) > 0 && count(Mark::SpaceBack) > 0, "the faults hit");
}

/// A quota is told when something is allocated, while the file system itself has space.
#[test]
fn a_quota_that_is_used_up_takes_no_directory_out_of_service() {
    for class in [DurabilityClass::Flushed, DurabilityClass::Written] {
        for file in [
            ".index",
            ".sums",
            ".ckpt",
            "leader-epoch",
            ".log",
            "ringtail-journal",
            "/",
        ] {
            let quota = Fault::always(DiskOperation::Shape, file, FaultEffect::Error(EDQUOT));
            outlive(class, SMALL, quota);
        }
        // A directory takes a block for one more name.
        let quota = Fault::always(DiskOperation::Name, "ringtail-journal", FaultEffect::Error(EDQUOT));
        outlive(class, SMALL, quota);
    }
}

/// Batches that go to their segments beside the commit need nothing that has no space yet.
#[test]
fn a_lack_of_space_beside_a_commit_of_large_batches_takes_no_directory_out_of_service() {
    let before = count(Mark::DirectPath);
    for file in [".index", ".timeindex", ".sums", "leader-epoch", ".log", ".ckpt"] {
        for operation in [DiskOperation::Shape, DiskOperation::Open] {
            let full = Fault::always(operation, file, FaultEffect::Error(ENOSPC));
            outlive(DurabilityClass::Flushed, LARGE, full);
        }
    }
    assert!(count(Mark::DirectPath) > before, "the batches are large");
}

/// Connections may take all descriptors: what cannot be opened is opened later.
#[test]
fn a_lack_of_descriptors_takes_no_directory_out_of_service() {
    let lack = || Fault::always(DiskOperation::Any, "/", FaultEffect::Error(EMFILE));
    for class in [DurabilityClass::Flushed, DurabilityClass::Written] {
        outlive(class, SMALL, lack());
    }
    outlive(DurabilityClass::Flushed, LARGE, lack());
    assert!(count(Mark::Full) > 0 && count(Mark::SpaceBack) > 0, "the faults hit");
}

/// How many appends of how many bytes, and the bytes of a segment.
#[derive(Clone, Copy, Debug)]
struct Load {
    count: i32,
    bytes: usize,
    segment_bytes: u64,
}

const SMALL: Load = Load {
    count: 250,
    bytes: 30_000,
    segment_bytes: 200_000,
};
const LARGE: Load = Load {
    count: 60,
    bytes: 200_000,
    segment_bytes: 700_000,
};

/// Everything goes on when the fault, which comes in the middle of the load, is over.
fn outlive(class: DurabilityClass, load: Load, fault: Fault) {
    eprintln!("{class:?} {load:?} {fault:?}");
    let world = World::new(31, Options::default());
    let done = Rc::new(RefCell::new(false));
    let out = done.clone();
    let process = world.spawn_process(0, 1, move |env, _| {
        let out = out.clone();
        async move {
            let store = open(&env).await;
            let spec = spec(0, log_options(class, load.segment_bytes));
            let partition = store.open_partition(spec).await.expect("opens");
            let history = append_sized(&env, &partition, 0..load.count, load.bytes).await;
            env.sleep_until(env.now().plus_ms(4_000)).await;
            check(0, &history, &partition).await;
            store.close().await.expect("closes: nothing is left undone");
            *out.borrow_mut() = true;
        }
    });
    world.run_for(30);
    assert!(!*done.borrow());
    world.plant(0, fault);
    world.run_for(2_500);
    world.clear_faults(0);
    assert!(world.run_until(|| *done.borrow()), "it goes on when there is space");
    world.kill(process);
}

/// A commit that waits for a journal file while the store stops is whole, or was never there.
#[test]
fn a_stop_while_a_commit_waits_for_the_journal_leaves_no_partition_damaged() {
    let world = World::new(35, Options::default());
    let phase: Rc<Cell<Phase>> = Rc::default();
    let shared = phase.clone();
    world.spawn_process(0, 1, move |env, _| {
        let phase = shared.clone();
        async move {
            let store = open(&env).await;
            let mut partitions = Vec::new();
            for index in 0..2 {
                let spec = spec(index, log_options(DurabilityClass::Flushed, 64 << 20));
                partitions.push(store.open_partition(spec).await.expect("opens"));
            }
            // So much that a checkpoint is due, and there is one.
            append_all(&env, &partitions[0], 0..100).await;
            env.sleep_until(env.now().plus_ms(1_000)).await;
            phase.set(Phase::Serves);
            while phase.get() != Phase::IsFull {
                env.sleep_until(env.now().plus_ms(1)).await;
            }
            let mut sequences = [100, 0];
            for round in 0.. {
                assert!(round < 2_000, "the journal has no room for so much");
                let small = batch(1, sequences[0], &payload(0, sequences[0], 90_000));
                let large = batch(2, sequences[1], &payload(1, sequences[1], 150_000));
                let (small, large) = (partitions[0].append(small), partitions[1].append(large));
                let both = async { Some([small.await, large.await]) };
                let late = async {
                    env.sleep_until(env.now().plus_ms(3_000)).await;
                    None
                };
                let Some(answers) = race(both, late).await else { break };
                for (sequence, answer) in sequences.iter_mut().zip(answers) {
                    *sequence += i32::from(answer.is_ok());
                }
                // Full for now: until the next look at the space.
                env.sleep_until(env.now().plus_ms(20)).await;
            }
            phase.set(Phase::Refused);
            while phase.get() != Phase::HasSpace {
                env.sleep_until(env.now().plus_ms(1)).await;
            }
            // With or without the last commits.
            let _ = store.close().await;
            phase.set(Phase::Closed);
        }
    });
    assert!(world.run_until(|| phase.get() == Phase::Serves));
    world.plant(
        0,
        Fault::always(DiskOperation::Open, ".ckpt", FaultEffect::Error(ENOSPC)),
    );
    phase.set(Phase::IsFull);
    assert!(world.run_until(|| phase.get() == Phase::Refused));
    world.clear_faults(0);
    phase.set(Phase::HasSpace);
    assert!(world.run_until(|| phase.get() == Phase::Closed));
    world.block_on(0, |env| async move {
        let store = open(&env).await;
        for index in 0..2 {
            let spec = spec(index, log_options(DurabilityClass::Flushed, 64 << 20));
            let partition = store.open_partition(spec).await.expect("opens");
            assert!(!partition.is_damaged(), "{index}");
        }
    });
}

/// Killed on a full disk, started on it: what is there is served, produce is refused, and taken up again with space.
#[test]
fn a_start_on_a_full_disk_serves_and_takes_produce_up_again_with_space() {
    let world = World::new(32, Options::default());
    let history: Rc<RefCell<Option<History>>> = Rc::default();
    let out = history.clone();
    world.spawn_process(0, 1, move |env, _| {
        let out = out.clone();
        async move {
            let store = open(&env).await;
            let spec = spec(0, log_options(DurabilityClass::Flushed, 600_000));
            let partition = store.open_partition(spec).await.expect("opens");
            let history = append_all(&env, &partition, 0..150).await;
            // The journal's next file is made ready.
            env.sleep_until(env.now().plus_ms(1_000)).await;
            *out.borrow_mut() = Some(history);
            std::future::pending::<()>().await;
        }
    });
    assert!(world.run_until(|| history.borrow().is_some()));
    let killed = world.disk_image(0).after_kill(32);
    let world = World::new(33, Options::default()).with_disk(0, &killed);
    let history = history.take().expect("it ran");
    world.set_capacity(0, used_bytes(&world));
    let phase: Rc<Cell<Phase>> = Rc::default();
    let shared = phase.clone();
    world.spawn_process(0, 1, move |env, _| {
        let (phase, mut history) = (shared.clone(), history.clone());
        async move {
            let store = open(&env).await;
            let spec = spec(0, log_options(DurabilityClass::Flushed, 600_000));
            let partition = store.open_partition(spec).await.expect("opens");
            check(0, &history, &partition).await;
            phase.set(Phase::Serves);
            while phase.get() != Phase::IsFull {
                env.sleep_until(env.now().plus_ms(1)).await;
            }
            let mut sequence = 150;
            let refused = loop {
                let bytes = batch(1, sequence, &payload(0, sequence, 30_000));
                history.sent.insert(sequence, bytes.clone());
                match partition.append(bytes).await {
                    Ok(appended) => history.acked.insert(sequence, appended.base_offset),
                    Err(error) => break error,
                };
                sequence += 1;
                assert!(sequence < 1_000, "there is no space for so many");
            };
            assert_eq!(refused, AppendError::Full);
            check(0, &history, &partition).await;
            phase.set(Phase::Refused);
            while phase.get() != Phase::HasSpace {
                env.sleep_until(env.now().plus_ms(1)).await;
            }
            env.sleep_until(env.now().plus_ms(1_500)).await;
            let end = partition.high_watermark();
            let appended = partition.append(batch(77, 0, b"again")).await.expect("there is space");
            assert_eq!(appended.base_offset, end);
            store.close().await.expect("closes");
            phase.set(Phase::Closed);
        }
    });
    assert!(world.run_until(|| phase.get() == Phase::Serves));
    world.set_capacity(0, used_bytes(&world));
    phase.set(Phase::IsFull);
    assert!(world.run_until(|| phase.get() == Phase::Refused));
    world.set_capacity(0, CAPACITY_BYTES);
    phase.set(Phase::HasSpace);
    assert!(world.run_until(|| phase.get() == Phase::Closed));
}

const CAPACITY_BYTES: u64 = 1 << 40;

/// How far the process and the test are, each waiting for the other.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Starts,
    Serves,
    IsFull,
    Refused,
    HasSpace,
    Closed,
}

fn used_bytes(world: &World) -> u64 {
    world.set_capacity(0, CAPACITY_BYTES);
    CAPACITY_BYTES
        - world.block_on(
            0,
            |env| async move { env.free_bytes(Path::new(DATA)).await.expect("told") },
        )
}
