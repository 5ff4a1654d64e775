//! Faulty disks under the log store: slow and short operations change nothing, failed ones lose nothing acknowledged.

use std::cell::RefCell;
use std::rc::Rc;

use ringtail::base::coverage::{Mark, count};
use ringtail::io::sim::{DiskOperation, EIO, Fault, FaultEffect, LossMode, World};

use crate::history::{History, Shared, read_log};
use crate::workload::{Case, Life, open_store, owned, roster, shard_of_workload, world_options};

/// Virtual time within which every operation that is made to fail has come, and its failure is noticed.
const NOTICED_WITHIN_NS: u64 = 60_000_000_000;

/// Restarts from the disk of `world` as a crash leaves it, and judges all partitions.
fn judge_after(world: &World, history: &Shared, seed: u64) {
    let (image, now) = (world.disk_image(0), world.now());
    for (left, cut_ns) in [
        (image.after_power_cut(LossMode::LoseAll, seed), Some(now)),
        (
            image.after_power_cut(LossMode::Torn { sector_bytes: 512 }, seed),
            Some(now),
        ),
        (image.after_kill(seed), None),
    ] {
        let (world, history) = (World::new(seed, world_options()).with_disk(0, &left), history.clone());
        world.block_on(0, move |env| async move {
            let store = open_store(&env, 1, &Rc::new(Life::default()), &history).await;
            for spec in owned(&env, 1, &history) {
                let id = spec.id;
                let partition = store.open_partition(spec).await.expect("opens");
                let found = read_log(&partition).await;
                history.borrow_mut().log(id).judge(&found, cut_ns, &[]);
            }
        });
    }
}

#[test]
fn stalls_and_short_operations_change_nothing() {
    for seed in 1..=4 {
        let mut options = world_options();
        (options.disk.stall_ppm, options.disk.stall) = (3_000, 1_000_000..60_000_000);
        (options.disk.short_write_ppm, options.disk.short_read_ppm) = (30_000, 30_000);
        let world = World::new(seed, options);
        let history: Shared = Rc::new(RefCell::new(History::new(roster())));
        for _ in 0..3 {
            let life = Rc::new(Life::default());
            let process = world.spawn_process(0, 2, |env, _| shard_of_workload(env, 2, life.clone(), history.clone()));
            let until = world.completions() + 900;
            assert!(world.run_until(|| world.completions() >= until));
            judge_after(&world, &history, seed);
            world.kill(process);
        }
    }
}

/// A device that fails once and works again: its directory is out of service from then on, nothing is tried again as if it had worked,
/// and a restart finds what was acknowledged, before the failure and behind it in the other directory.
#[test]
fn an_operation_that_failed_once_loses_nothing_acknowledged() {
    let operations = [
        (DiskOperation::Write, "/data/a/ringtail-journal"),
        (DiskOperation::Write, "/data/a/topic"),
        // Of what is not about to be deleted: that one has to be noticed.
        (DiskOperation::Flush, "/data/a/topic"),
        // What a settling round counts on: tried again it would succeed, and what it lost would count as settled.
        (DiskOperation::FlushFileSystem, "/data/a"),
    ];
    for seed in 1..=6 {
        for (operation, path) in operations {
            let _case = Case(format!("seed {seed}, {operation:?} of {path}"));
            let world = World::new(seed, world_options());
            let history: Shared = Rc::new(RefCell::new(History::new(roster())));
            let life = Rc::new(Life::default());
            life.faulty.set(true);
            let alive = life.clone();
            let (shards, known) = (2, history.clone());
            world.spawn_process(0, shards, move |env, _| {
                shard_of_workload(env, shards, alive.clone(), known.clone())
            });
            assert!(world.run_until(|| life.judged.get() == shards));
            // A directory that is out of service settles nothing more: a later power cut takes what came shortly before.
            history.borrow_mut().power_cut(world.now());
            let fenced = count(Mark::Fenced);
            world.plant(0, Fault::nth(operation, path, seed * 5, FaultEffect::Error(EIO)));
            let until = world.now() + NOTICED_WITHIN_NS;
            world.run_until(|| !life.is_in_service() || world.now() > until);
            assert!(!life.is_in_service(), "nobody noticed");
            // Longer than what a power cut may take of `written`.
            world.run_for(5_000);
            assert_eq!(count(Mark::Fenced), fenced + 1, "one directory is out of service");
            judge_after(&world, &history, seed);
        }
    }
}

#[test]
fn a_workload_replays_exactly() {
    let run = || {
        let world = World::new(9, world_options());
        let history: Shared = Rc::new(RefCell::new(History::new(roster())));
        let life = Rc::new(Life::default());
        world.spawn_process(0, 2, |env, _| shard_of_workload(env, 2, life.clone(), history.clone()));
        assert!(world.run_until(|| world.completions() >= 700));
        (world.trace_hash(), history.borrow().acks)
    };
    assert_eq!(run(), run());
    assert!(run().1 > 20);
}
