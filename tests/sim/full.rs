//! A disk without space: produce is refused, nothing is lost, and all goes on by itself when there is space.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use ringtail::base::coverage::{Mark, count};
use ringtail::io::Env;
use ringtail::io::sim::{DiskOperation, ENOSPC, Fault, FaultEffect, Options, SimEnv, World};
use ringtail::storage::{AppendError, DurabilityClass, Partition};

use crate::model::{DATA, History, batch, check, log_options, open, payload, spec};

/// Appends `sequences`, trying again while there is no space.
async fn append_all(env: &SimEnv, partition: &Rc<Partition<SimEnv>>, sequences: std::ops::Range<i32>) -> History {
    let mut history = History::default();
    for sequence in sequences {
        let bytes = batch(1, sequence, &payload(0, sequence, 30_000));
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
            for operation in [DiskOperation::Shape, DiskOperation::Write, DiskOperation::Open] {
                // Writes to those go to space allocated before, and a journal file is opened to be used again, too.
                let needs_none = match file {
                    ".log" => operation == DiskOperation::Write,
                    "ringtail-journal" => operation != DiskOperation::Shape,
                    _ => false,
                };
                if needs_none {
                    continue;
                }
                eprintln!("{class:?} {file} {operation:?}");
                let world = World::new(31, Options::default());
                let done = Rc::new(RefCell::new(false));
                let out = done.clone();
                let process = world.spawn_process(0, 1, move |env, _| {
                    let out = out.clone();
                    async move {
                        let store = open(&env).await;
                        let spec = spec(0, log_options(class, 200_000));
                        let partition = store.open_partition(spec).await.expect("opens");
                        let history = append_all(&env, &partition, 0..250).await;
                        env.sleep_until(env.now().plus_ms(4_000)).await;
                        check(0, &history, &partition).await;
                        store.close().await.expect("closes: nothing is left undone");
                        *out.borrow_mut() = true;
                    }
                });
                world.run_for(30);
                assert!(!*done.borrow());
                let full = Fault::always(operation, file, FaultEffect::Error(ENOSPC));
                world.plant(0, full);
                world.run_for(2_500);
                world.clear_faults(0);
                assert!(
                    world.run_until(|| *done.borrow()),
                    "{class:?} {file} {operation:?}: it goes on when there is space"
                );
                world.kill(process);
            }
        }
    }
    assert!(count(Mark::Full) > 0 && count(Mark::SpaceBack) > 0, "the faults hit");
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
