//! The metadata log and the start under crashes, in the simulated environment.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::base::ids::TopicId;
use crate::cluster::decide::tests::{config, create};
use crate::cluster::{
    Command, ConfigChange, Context, CreatePartitions, CreateTopic, DecideError, Image, OfflineReason,
    PRODUCER_ID_BLOCK, Record, Response, SetTopicConfigs, TopicRef, decide,
};
use crate::config::BrokerConfig;
use crate::io::Env;
use crate::io::sim::{DiskOperation, EIO, Fault, FaultEffect, LossMode, Options, SimEnv, World};

fn broker() -> Arc<BrokerConfig> {
    Arc::new(config("log.dirs=/data/a,/data/b"))
}

fn world(seed: u64) -> World {
    let mut options = Options {
        hosts: 1,
        ..Options::default()
    };
    options.disk.short_write_ppm = 200_000;
    options.disk.short_read_ppm = 200_000;
    World::new(seed, options)
}

fn controller(env: &SimEnv, opened: Opened<SimEnv>, publish: Publish) -> Controller<SimEnv> {
    let online = opened.directories.iter().filter_map(Directory::online).collect();
    Controller::new(env.clone(), opened.log, opened.image, broker(), online, publish)
}

/// What the broker does at start: the lock first, which is held until the last write of a killed process is over.
async fn open_locked(env: &SimEnv, broker: &BrokerConfig) -> Result<Opened<SimEnv>, StartError> {
    loop {
        match env.lock(Path::new("/data/.lock")).await {
            Ok(lock) => {
                env.hold(lock).unwrap();
                break;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        env.sleep_until(env.now().plus_ms(1)).await;
    }
    open_cluster(env, broker).await
}

/// Runs one process to its end.
fn run<F>(world: &World, root: impl FnOnce(SimEnv) -> F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    world.block_on(0, root)
}

fn nowhere() -> Publish {
    Box::new(|_| Box::pin(std::future::ready(())))
}

/// Topics made, grown, altered and deleted, and configs large enough that the log is rewritten on the way.
fn commands() -> Vec<Command> {
    let named = |name: &str| TopicRef::Name(name.into());
    let configs = |topic: &str, byte: usize| {
        let replicas = format!("{byte}:1,").repeat(25_000);
        let change = ConfigChange::Replace(vec![("leader.replication.throttled.replicas".into(), Some(replicas))]);
        Command::SetTopicConfigs(SetTopicConfigs {
            topic: topic.into(),
            change,
            validate_only: false,
        })
    };
    let mut all = vec![
        Command::CreateTopic(CreateTopic {
            partition_count: 5,
            ..create(1, "first")
        }),
        Command::CreateTopic(CreateTopic {
            partition_count: 3,
            ..create(2, "second")
        }),
        Command::DeleteTopic(named("first")),
        Command::AllocateProducerIds,
    ];
    all.extend((0..4).map(|byte| configs("second", byte)));
    all.push(Command::CreateTopic(create(3, "first")));
    let grow = CreatePartitions {
        topic: "first".into(),
        count: 4,
        assignments: None,
        validate_only: false,
    };
    all.push(Command::CreatePartitions(grow));
    all.push(Command::DeleteTopic(named("second")));
    all.push(Command::AllocateProducerIds);
    all
}

/// What a run knew when it ended: the image after each command that was begun, and how many were answered.
#[derive(Default)]
struct History {
    images: Vec<Image>,
    answered: usize,
}

async fn workload(env: SimEnv, history: Rc<RefCell<History>>) {
    let opened = open_locked(&env, &broker()).await.unwrap();
    let online: Vec<_> = opened.directories.iter().filter_map(Directory::online).collect();
    history.borrow_mut().images.push(opened.image.clone());
    let replica = Rc::new(RefCell::new(opened.image.clone()));
    let published = replica.clone();
    let publish: Publish = Box::new(move |records: Arc<[Record]>| {
        records.iter().for_each(|record| published.borrow_mut().apply(record));
        Box::pin(std::future::ready(()))
    });
    let controller = controller(&env, opened, publish);
    for command in commands() {
        let mut next = history.borrow().images.last().unwrap().clone();
        let broker = broker();
        let decision = decide(
            &next,
            Context {
                config: &broker,
                directories: &online,
            },
            &command,
        )
        .unwrap();
        decision.records.iter().for_each(|record| next.apply(record));
        history.borrow_mut().images.push(next.clone());
        let response = controller.execute(command).await.unwrap();
        assert_eq!(response, decision.response);
        assert_eq!(*replica.borrow(), next, "an answer comes after its records");
        history.borrow_mut().answered += 1;
    }
}

#[derive(Clone, Copy, Debug)]
enum Crash {
    Kill,
    Power(LossMode),
}

impl Crash {
    fn strike(self, world: &World, process: crate::io::sim::ProcessId) {
        match self {
            // It ended before.
            _ if !world.is_alive(process) => {}
            Self::Kill => world.kill(process),
            Self::Power(mode) => world.power_cut(0, mode),
        }
    }
}

const CRASHES: [Crash; 5] = [
    Crash::Kill,
    Crash::Power(LossMode::LoseAll),
    Crash::Power(LossMode::KeepAll),
    Crash::Power(LossMode::Random),
    Crash::Power(LossMode::Torn { sector_bytes: 512 }),
];

/// Crashes the workload at completion `index`, crashes the next start a few completions in, and starts once more.
/// `false` when the workload had ended before.
fn crash_twice(crash: Crash, index: u64) -> bool {
    let world = world(index);
    let history = Rc::new(RefCell::new(History::default()));
    let process = world.spawn_process(0, 1, |env, _| workload(env, history.clone()));
    world.on_completion_index(index, move |world| crash.strike(world, process));
    assert!(world.run_until(|| !world.is_alive(process)));
    let was_cut = history.borrow().answered < commands().len();
    let start = |env: SimEnv, _| async move {
        open_locked(&env, &broker()).await.unwrap();
    };
    let second = world.spawn_process(0, 1, start);
    world.on_completion_index(world.completions() + index % 9, move |world| {
        crash.strike(world, second)
    });
    assert!(world.run_until(|| !world.is_alive(second)));
    let recovered = run(&world, |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        assert!(opened.directories.iter().all(|directory| directory.online().is_some()));
        let image = opened.image.clone();
        let controller = controller(&env, opened, nowhere());
        let another = controller
            .execute(Command::CreateTopic(create(9, "another")))
            .await
            .unwrap();
        assert_eq!(
            another,
            Response::TopicCreated {
                id: TopicId([9; 16]),
                partition_count: 1,
                replication_factor: 1
            }
        );
        image
    });
    assert_eq!(recovered.directories().count(), 2);
    let History { images, answered } = &*history.borrow();
    if !images.is_empty() {
        let is_there = images[*answered..].contains(&recovered);
        assert!(
            is_there,
            "{crash:?} at {index}: what was answered is there, and nothing by half"
        );
    }
    let again = world.block_on(
        0,
        |env| async move { open_locked(&env, &broker()).await.unwrap().image },
    );
    assert!(again.topic("another").is_some());
    was_cut
}

#[test]
fn a_crash_at_any_completion_leaves_whole_commands() {
    for crash in CRASHES {
        let mut index = 0;
        while crash_twice(crash, index) {
            index += 1;
        }
        assert!(index > 60, "{crash:?}: the workload has more completions than {index}");
    }
}

#[test]
fn the_log_is_rewritten_and_stays_small() {
    let world = world(1);
    let bytes = run(&world, |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        let directory = broker().directories.metadata.clone();
        let controller = controller(&env, opened, nowhere());
        for _ in 0..20 {
            for command in commands() {
                let _ = controller.execute(command).await;
            }
            for name in ["first", "second"] {
                controller
                    .execute(Command::DeleteTopic(TopicRef::Name(name.into())))
                    .await
                    .ok();
            }
        }
        let file = env
            .open(&metadata_log_path(&directory), crate::io::OpenOptions::READ)
            .await
            .unwrap();
        env.size(&file).await.unwrap()
    });
    // 20 times 400 KB went in; 1 MiB is room.
    assert!(bytes < 2_000_000, "{bytes}");
}

#[test]
fn commands_at_once_share_flushes_and_each_gets_its_answer() {
    let world = world(2);
    let flushes = |world: &World| world.disk_counters(0).flushes;
    let answers = Rc::new(RefCell::new(Vec::new()));
    let all = answers.clone();
    let before = flushes(&world);
    run(&world, move |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        let controller = controller(&env, opened, nowhere());
        for i in 0..100u8 {
            let (controller, all) = (controller.clone(), all.clone());
            env.spawn(crate::io::Queue::Foreground, async move {
                // Every second name is taken already by the one before it.
                let answer = controller
                    .execute(Command::CreateTopic(create(i + 1, &format!("t{}", i / 2))))
                    .await;
                all.borrow_mut().push(answer);
            });
        }
        while all.borrow().len() < 100 {
            env.sleep_until(env.now().plus_ms(1)).await;
        }
    });
    let (made, refused): (Vec<_>, Vec<_>) = answers.borrow().iter().cloned().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (50, 50));
    assert!(
        refused
            .iter()
            .all(|answer| matches!(answer, Err(ClusterError::Refused(DecideError::TopicExists(_)))))
    );
    let flushes = flushes(&world) - before;
    assert!(flushes < 30, "50 topics took {flushes} flushes");
    let image = world.block_on(
        0,
        |env| async move { open_locked(&env, &broker()).await.unwrap().image },
    );
    assert_eq!(image.topics().len(), 50);
}

#[test]
fn producer_ids_are_never_given_twice_across_restarts() {
    let world = world(3);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let ids = run(&world, |env| async move {
            let opened = open_locked(&env, &broker()).await.unwrap();
            let controller = controller(&env, opened, nowhere());
            let mut ids = Vec::new();
            for _ in 0..2 {
                match controller.execute(Command::AllocateProducerIds).await.unwrap() {
                    Response::ProducerIds(block) => ids.extend(block),
                    other => panic!("{other:?}"),
                }
            }
            ids
        });
        assert!(ids.into_iter().all(|id| seen.insert(id)));
    }
    assert_eq!(seen.len(), 6000);
}

#[test]
fn after_a_failed_flush_nothing_is_answered_any_more() {
    let world = world(4);
    let (first, second) = {
        let opened = world.block_on(
            0,
            |env| async move { open_locked(&env, &broker()).await.map(drop).is_ok() },
        );
        assert!(opened);
        world.plant(
            0,
            Fault::nth(
                DiskOperation::Flush,
                "ringtail-metadata.log",
                2,
                FaultEffect::Error(EIO),
            ),
        );
        run(&world, |env| async move {
            let opened = open_locked(&env, &broker()).await.unwrap();
            let controller = controller(&env, opened, nowhere());
            let mut answers = Vec::new();
            for i in 1..5 {
                answers.push(
                    controller
                        .execute(Command::CreateTopic(create(i, &format!("t{i}"))))
                        .await
                        .is_ok(),
                );
            }
            let first_failure = answers.iter().position(|answer| !answer);
            (first_failure, answers.last().copied())
        })
    };
    assert!(first.is_some());
    assert_eq!(second, Some(false));
}

/// What a flush that failed left in the page cache reads as written, and no later flush brings it to the device: a start that built on it
/// would lose what follows at the next power cut.
#[test]
fn a_commit_whose_flush_failed_is_written_again_before_another_follows() {
    for nth in 1..6 {
        let world = world(nth);
        let create = |number: u64| Command::CreateTopic(create(number as u8, &format!("t{number}")));
        let execute = |number: u64| {
            run(&world, |env| async move {
                let opened = open_locked(&env, &broker()).await?;
                let controller = controller(&env, opened, nowhere());
                let answer = controller.execute(create(number)).await;
                Ok::<bool, StartError>(answer.is_ok())
            })
        };
        assert!(execute(1).unwrap());
        world.plant(
            0,
            Fault::nth(
                DiskOperation::Flush,
                "ringtail-metadata.log",
                nth,
                FaultEffect::Error(EIO),
            ),
        );
        let failed = execute(2);
        world.clear_faults(0);
        assert!(execute(3).unwrap(), "after {failed:?}");
        world.power_cut(0, LossMode::LoseAll);
        let image = run(&world, |env| async move {
            open_locked(&env, &broker()).await.map(|opened| opened.image)
        });
        let names: Vec<String> = image.unwrap().topics().map(|topic| topic.name.to_string()).collect();
        let is_there = |name: &str| names.iter().any(|found| found == name);
        assert!(is_there("t1") && is_there("t3"), "flush {nth}: {names:?}");
        assert!(
            is_there("t2") || failed.is_err() || !failed.unwrap(),
            "flush {nth}: {names:?}"
        );
    }
}

const CAPACITY_BYTES: u64 = 1 << 40;

/// Leaves `bytes` of space on the disk.
fn leave_space(world: &World, bytes: u64) {
    world.set_capacity(0, CAPACITY_BYTES);
    let free = run(
        world,
        |env| async move { env.free_bytes(Path::new("/data")).await.unwrap() },
    );
    world.set_capacity(0, CAPACITY_BYTES - free + bytes);
}

#[test]
fn without_space_commands_are_refused_and_the_log_goes_on() {
    let world = world(8);
    run(&world, |env| async move {
        open_locked(&env, &broker()).await.map(drop).is_ok()
    });
    leave_space(&world, 0);
    let before = run(&world, |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        let controller = controller(&env, opened, nowhere());
        let mut count = 0;
        let refused = loop {
            match controller.execute(Command::AllocateProducerIds).await {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
            assert!(count < 100_000, "there is no space for so many");
        };
        assert_eq!(refused, ClusterError::NoSpace);
        assert!(count > 100, "there was room ahead");
        let again = controller.execute(Command::AllocateProducerIds).await;
        assert_eq!(again, Err(ClusterError::NoSpace));
        assert!(!controller.is_closed());
        count
    });
    // Also a start needs no space, and takes up what was answered.
    let end = run(&world, |env| async move {
        open_locked(&env, &broker()).await.unwrap().image.producer_ids_end()
    });
    assert_eq!(end, before * PRODUCER_ID_BLOCK);
    world.set_capacity(0, CAPACITY_BYTES);
    run(&world, |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        let controller = controller(&env, opened, nowhere());
        controller.execute(Command::AllocateProducerIds).await.unwrap();
    });
}

#[test]
fn partitions_that_would_take_the_reserve_are_refused() {
    let world = world(9);
    run(&world, |env| async move {
        open_locked(&env, &broker()).await.map(drop).is_ok()
    });
    leave_space(&world, broker().storage.reserve_bytes + (160 << 10));
    run(&world, |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        let controller = controller(&env, opened, nowhere());
        let of = |id, name: &str, partition_count| {
            Command::CreateTopic(CreateTopic {
                partition_count,
                ..create(id, name)
            })
        };
        let refused = controller.execute(of(1, "many", 3)).await;
        assert!(
            matches!(refused, Err(ClusterError::Refused(DecideError::NoSpace(_)))),
            "{refused:?}"
        );
        controller.execute(of(2, "few", 2)).await.unwrap();
        let grow = CreatePartitions {
            topic: "few".into(),
            count: 100,
            assignments: None,
            validate_only: false,
        };
        let refused = controller.execute(Command::CreatePartitions(grow)).await;
        assert!(
            matches!(refused, Err(ClusterError::Refused(DecideError::NoSpace(_)))),
            "{refused:?}"
        );
    });
}

#[test]
fn damage_is_found_and_named() {
    let world = world(5);
    run(&world, |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        let controller = controller(&env, opened, nowhere());
        controller.execute(Command::CreateTopic(create(1, "t"))).await.unwrap();
        // The confirmation is written after the answer.
        env.sleep_until(env.now().plus_ms(1000)).await;
    });
    world
        .corrupt(0, metadata_log_path(Path::new("/data/a")), 200, 0x20)
        .unwrap();
    let text = run(&world, |env| async move {
        open_locked(&env, &broker()).await.map(drop).unwrap_err().to_string()
    });
    assert!(
        text.starts_with("/data/a/ringtail-metadata.log is corrupt at position"),
        "{text}"
    );
}

#[test]
fn directories_are_judged_at_start() {
    let world = world(6);
    let id = run(&world, |env| async move {
        let opened = open_locked(&env, &broker()).await.unwrap();
        opened.directories[1].online().unwrap()
    });
    let text = run(&world, |env| async move {
        let other = config("log.dirs=/data/b,/data/a");
        open_locked(&env, &other).await.map(drop).unwrap_err().to_string()
    });
    assert!(
        text.contains("its metadata log /data/b/ringtail-metadata.log is missing"),
        "{text}"
    );
    let text = run(&world, |env| async move {
        let other = config("log.dirs=/data/a,/data/b\nnode.id=2");
        open_locked(&env, &other).await.map(drop).unwrap_err().to_string()
    });
    assert_eq!(text, "node.id is 2, but the metadata log belongs to broker 1");
    let states = run(&world, |env| async move {
        env.unlink(Path::new("/data/b/meta.properties")).await.unwrap();
        let other = config("log.dirs=/data/a,/data/b,/data/deep/c");
        open_locked(&env, &other).await.unwrap().directories
    });
    assert_eq!(states[1].state, DirectoryState::Offline(OfflineReason::Lost(id)));
    assert!(states[0].online().is_some() && states[2].online().is_some());
}
