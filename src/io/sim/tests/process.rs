use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::base::buffer::Arena;
use crate::base::mailbox::mailbox;
use crate::io::Queue;
use crate::io::sim::{LossMode, Schedule};

/// Disk and network traffic of two hosts with two shards each, and its trace.
fn busy_run(seed: u64, schedule: Schedule) -> (u64, Vec<u64>) {
    let options = Options {
        schedule,
        ..Options::default()
    };
    let world = World::new(seed, options);
    let order = Rc::new(RefCell::new(Vec::new()));
    for host in 0..2 {
        world.spawn_process(host, 2, |env, shard| {
            let order = order.clone();
            async move {
                let file = allocated(&env, &format!("/data/{shard}"), 4).await;
                for round in 0..20 {
                    write(&env, &file, blocks(1, round), u64::from(round) % 4, Durability::Cached).await;
                    let deadline = env.now().plus_ms(env.random() % 3);
                    env.sleep_until(deadline).await;
                    order
                        .borrow_mut()
                        .push(host as u64 * 1000 + shard as u64 * 100 + u64::from(round));
                }
            }
        });
    }
    assert!(world.run_until_idle());
    world.run_for(1000);
    let order = order.take();
    assert_eq!(order.len(), 80);
    (world.trace_hash(), order)
}

#[test]
fn same_seed_same_trace() {
    for schedule in [Schedule::Random, Schedule::Fifo] {
        let first = busy_run(7, schedule);
        assert_eq!(first, busy_run(7, schedule));
        let other = busy_run(8, schedule);
        assert_ne!(first.0, other.0);
        assert_ne!(first.1, other.1);
    }
}

#[test]
fn shards_talk_through_mailboxes_and_time_is_virtual() {
    let world = world(1);
    let (sender, receiver) = mailbox::<u32>(2);
    let mut ends = (Some(sender), Some(receiver));
    let sum = Rc::new(Cell::new(0));
    world.spawn_process(0, 2, |env, shard| {
        let (sender, sum) = (if shard == 0 { ends.0.take() } else { None }, sum.clone());
        let receiver = if shard == 1 { ends.1.take() } else { None };
        async move {
            if let Some(sender) = sender {
                for i in 1..=100 {
                    env.sleep_until(env.now().plus_ms(1000)).await;
                    sender.send(i).await.expect("the receiver lives");
                }
            }
            if let Some(mut receiver) = receiver {
                let mut queue = VecDeque::new();
                while receiver.receive_all(&mut queue).await {
                    sum.set(sum.get() + queue.drain(..).sum::<u32>());
                }
            }
        }
    });
    let began = world.now();
    assert!(world.run_until(|| sum.get() == 5050));
    assert!(world.now() - began >= 100_000_000_000);
}

#[test]
fn a_yielding_task_does_not_stop_time() {
    let world = world(1);
    let done = Rc::new(Cell::new(false));
    world.spawn_process(0, 1, |env, _| {
        let done = done.clone();
        async move {
            let spinner = env.clone();
            env.spawn(Queue::Background, async move {
                loop {
                    spinner.yield_now().await;
                }
            });
            env.sleep_until(env.now().plus_ms(1)).await;
            done.set(true);
        }
    });
    assert!(world.run_until(|| done.get()));
}

#[test]
fn pause_stops_tasks_and_wall_clock_jumps() {
    let world = world(1);
    let ticks = Rc::new(Cell::new(0));
    let process = world.spawn_process(0, 1, |env, _| {
        let ticks = ticks.clone();
        async move {
            loop {
                env.sleep_until(env.now().plus_ms(10)).await;
                ticks.set(ticks.get() + 1);
            }
        }
    });
    world.run_for(105);
    assert_eq!(ticks.get(), 10);
    world.pause(process);
    world.run_for(100);
    assert_eq!(ticks.get(), 10);
    world.resume(process);
    world.run_for(15);
    assert!(ticks.get() >= 11);
    let before = world.block_on(0, |env| async move { env.wall_ms() });
    world.jump_wall_clock(0, -5000);
    let after = world.block_on(0, |env| async move { env.wall_ms() });
    assert!(after < before - 4000);
}

/// Maps an arena, publishes a chunk in it, and stays.
fn spawn_arena_owner(world: &World) -> crate::io::sim::ProcessId {
    let ready = Rc::new(Cell::new(false));
    let process = world.spawn_process(0, 1, |env, _| {
        let ready = ready.clone();
        async move {
            let region = env.map(Path::new("/dev/shm/arena"), 1 << 20).await.expect("mapped");
            let arena = Arena::format(region, 16384, 0);
            let mut chunk = arena.take(1, &[3; 80]).expect("room");
            chunk.append(b"acknowledged");
            chunk.publish();
            ready.set(true);
            std::future::pending::<()>().await;
            drop(chunk);
        }
    });
    assert!(world.run_until(|| ready.get()));
    process
}

fn recovered_chunks(world: &World) -> Vec<Vec<u8>> {
    world.block_on(0, |env| async move {
        let region = env.map(Path::new("/dev/shm/arena"), 1 << 20).await.expect("mapped");
        Arena::recover(&region, 0)
            .iter()
            .map(|chunk| chunk.bytes.to_vec())
            .collect()
    })
}

#[test]
fn mapped_memory_survives_a_kill_but_not_a_power_cut() {
    let world = world(3);
    let process = spawn_arena_owner(&world);
    let image = world.disk_image(0);
    world.kill(process);
    assert_eq!(recovered_chunks(&world), [b"acknowledged".to_vec()]);

    let killed = World::new(4, Options::default()).with_disk(0, &image.after_kill(1));
    assert_eq!(recovered_chunks(&killed), [b"acknowledged".to_vec()]);
    let cut = image.after_power_cut(LossMode::KeepAll, 1);
    let cut = World::new(4, Options::default()).with_disk(0, &cut);
    let names = cut.block_on(0, |env| async move {
        env.list(Path::new("/dev/shm")).await.expect("listed")
    });
    assert!(names.is_empty());
    assert!(recovered_chunks(&cut).is_empty());
}

#[test]
fn a_mapped_file_is_listed_and_can_be_unlinked() {
    let world = world(3);
    let process = spawn_arena_owner(&world);
    world.kill(process);
    world.block_on(0, |env| async move {
        let entries = env.list(Path::new("/dev/shm")).await.expect("listed");
        assert_eq!((entries[0].name.as_str(), entries[0].bytes), ("arena", 1 << 20));
        env.unlink(Path::new("/dev/shm/arena")).await.expect("unlinked");
    });
    assert!(recovered_chunks(&world).is_empty());
}

#[test]
fn a_process_ends_with_its_roots_and_drops_the_rest() {
    let world = world(1);
    let witness = Rc::new(());
    let process = world.spawn_process(0, 2, |env, _| {
        let witness = witness.clone();
        async move {
            env.spawn(Queue::Foreground, async move {
                let _witness = witness;
                std::future::pending::<()>().await;
            });
            env.sleep_until(env.now().plus_ms(5)).await;
        }
    });
    world.run_for(4);
    assert!(world.is_alive(process) && Rc::strong_count(&witness) == 3);
    world.run_for(4);
    assert!(!world.is_alive(process) && Rc::strong_count(&witness) == 1);
}
