//! What is lost, what is kept, and what the disk refuses to be asked.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::buffer::{Arena, Region};
use crate::io::sim::{DiskImage, LossMode, ProcessId};
use crate::io::{read_file, replace_file};

const BLOCK: usize = BLOCK_BYTES;
const TORN: LossMode = LossMode::Torn { sector_bytes: 512 };

/// The disk after `root` ran to its end.
fn image_after<F: Future<Output = ()> + 'static>(seed: u64, root: impl FnOnce(SimEnv) -> F) -> DiskImage {
    let world = world(seed);
    world.block_on(0, root);
    world.disk_image(0)
}

#[test]
fn only_what_was_made_durable_surely_survives() {
    let image = image_after(1, |env| async move {
        let file = allocated(&env, "/data/a", 4).await;
        write(&env, &file, blocks(1, 1), 0, Durability::Cached).await;
        env.flush(&file).await.expect("flushed");
        write(&env, &file, blocks(1, 2), 1, Durability::Device).await;
        write(&env, &file, blocks(1, 3), 2, Durability::Cached).await;
    });
    let byte = |image: &DiskImage, block: usize| image.content("/data/a").expect("a file")[block * BLOCK];
    let lost = image.after_power_cut(LossMode::LoseAll, 0);
    assert_eq!([0, 1, 2, 3].map(|block| byte(&lost, block)), [1, 2, 0, 0]);
    let kept = image.after_power_cut(LossMode::KeepAll, 0);
    assert_eq!([0, 1, 2, 3].map(|block| byte(&kept, block)), [1, 2, 3, 0]);
    let seen: BTreeSet<u8> = (0..40)
        .map(|seed| byte(&image.after_power_cut(LossMode::Random, seed), 2))
        .collect();
    assert_eq!(seen, BTreeSet::from([0, 3]));
}

#[test]
fn a_device_write_takes_the_size_and_extents_it_needs_with_it() {
    let image = image_after(2, |env| async move {
        let path = Path::new("/data/a");
        let file = env.open(path, OpenOptions::CREATE_DIRECT).await.expect("created");
        env.flush_directory(Path::new("/data")).await.expect("flushed");
        env.allocate(&file, 0, 8 * BLOCK as u64).await.expect("allocated");
        write(&env, &file, blocks(1, 1), 4, Durability::Cached).await;
        write(&env, &file, blocks(1, 2), 5, Durability::Device).await;
    });
    let content = image
        .after_power_cut(LossMode::LoseAll, 0)
        .content("/data/a")
        .expect("a file");
    assert_eq!(content.len(), 8 * BLOCK);
    assert_eq!((content[4 * BLOCK], content[5 * BLOCK]), (0, 2));
}

#[test]
fn an_older_unflushed_write_never_comes_over_a_newer_durable_one() {
    let image = image_after(3, |env| async move {
        let file = allocated(&env, "/data/a", 1).await;
        write(&env, &file, blocks(1, 1), 0, Durability::Cached).await;
        write(&env, &file, blocks(1, 2), 0, Durability::Device).await;
    });
    for mode in [LossMode::LoseAll, LossMode::KeepAll, LossMode::Random, TORN] {
        for seed in 0..20 {
            let content = image.after_power_cut(mode, seed).content("/data/a");
            assert_eq!(content.expect("a file"), vec![2; BLOCK]);
        }
    }
}

#[test]
fn torn_writes_mix_old_and_new_sectors() {
    let image = image_after(4, |env| async move {
        let file = allocated(&env, "/data/a", 2).await;
        write(&env, &file, blocks(2, 1), 0, Durability::Device).await;
        write(&env, &file, blocks(2, 2), 0, Durability::Cached).await;
    });
    for sector_bytes in [512, 4096] {
        let mut mixed = 0;
        for seed in 0..50 {
            let mode = LossMode::Torn { sector_bytes };
            let content = image.after_power_cut(mode, seed).content("/data/a").expect("a file");
            let sectors: Vec<&[u8]> = content.chunks(sector_bytes as usize).collect();
            assert!(
                sectors
                    .iter()
                    .all(|sector| sector.iter().all(|b| *b == sector[0] && (1..=2).contains(b)))
            );
            mixed += usize::from(sectors.iter().any(|sector| sector[0] != sectors[0][0]));
        }
        assert!(mixed > 5, "{mixed} of 50 torn at {sector_bytes}");
    }
}

#[test]
fn size_and_data_of_a_growing_write_are_lost_apart() {
    let image = image_after(5, |env| async move {
        let path = Path::new("/data/a");
        let file = env.open(path, OpenOptions::CREATE_DIRECT).await.expect("created");
        env.flush_directory(Path::new("/data")).await.expect("flushed");
        write(&env, &file, blocks(1, 7), 0, Durability::Cached).await;
    });
    let outcome = |seed| {
        let content = image.after_power_cut(LossMode::Random, seed).content("/data/a");
        content.expect("a file").first().copied()
    };
    let seen: BTreeSet<Option<u8>> = (0..60).map(outcome).collect();
    assert_eq!(seen, BTreeSet::from([None, Some(0), Some(7)]));
}

#[test]
fn what_lies_beyond_the_size_after_a_crash_never_comes_back() {
    let image = image_after(6, |env| async move {
        let path = Path::new("/data/a");
        let file = env.open(path, OpenOptions::CREATE_DIRECT).await.expect("created");
        env.flush_directory(Path::new("/data")).await.expect("flushed");
        write(&env, &file, blocks(4, 7), 0, Durability::Cached).await;
    });
    for seed in 0..30 {
        let crashed = image.after_power_cut(LossMode::Random, seed);
        let survived = crashed.content("/data/a").expect("a file").len();
        let world = world(0).with_disk(0, &crashed);
        world.block_on(0, move |env| async move {
            let file = env
                .open(Path::new("/data/a"), OpenOptions::WRITE_DIRECT)
                .await
                .expect("opened");
            env.allocate(&file, 0, 8 * BLOCK as u64).await.expect("allocated");
        });
        let content = world.disk_image(0).content("/data/a").expect("a file");
        assert!(content[survived..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn each_directory_entry_is_lost_alone_until_its_directory_is_flushed() {
    let image = image_after(7, |env| async move {
        for name in ["/data/a", "/data/b"] {
            let file = env.open(Path::new(name), OpenOptions::CREATE).await.expect("created");
            env.flush(&file).await.expect("flushed");
        }
        let kept = allocated(&env, "/data/c", 1).await;
        drop(kept);
        env.open(Path::new("/data/d"), OpenOptions::CREATE)
            .await
            .expect("created");
        env.unlink(Path::new("/data/c")).await.expect("unlinked");
    });
    let names = |mode, seed| {
        let crashed = image.after_power_cut(mode, seed);
        ["a", "b", "c", "d"].map(|name| crashed.content(format!("/data/{name}")).is_some())
    };
    assert_eq!(names(LossMode::LoseAll, 0), [true, true, true, false]);
    assert_eq!(names(LossMode::KeepAll, 0), [true, true, false, true]);
    let seen: BTreeSet<[bool; 4]> = (0..60).map(|seed| names(LossMode::Random, seed)).collect();
    assert_eq!(seen.len(), 4, "c and d each there or not: {seen:?}");
}

#[test]
fn a_rename_is_the_old_or_the_new_name() {
    let image = image_after(8, |env| async move {
        drop(allocated(&env, "/data/old", 1).await);
        env.rename(Path::new("/data/old"), Path::new("/data/new"))
            .await
            .expect("renamed");
    });
    let names = |seed| {
        let crashed = image.after_power_cut(LossMode::Random, seed);
        ["/data/old", "/data/new"].map(|path| crashed.content(path).is_some())
    };
    let seen: BTreeSet<[bool; 2]> = (0..40).map(names).collect();
    assert_eq!(seen, BTreeSet::from([[true, false], [false, true]]));
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_at_every_completion() {
    let world = world(9);
    world.block_on(0, |env| async move {
        let content = Bytes::from_static(b"first");
        replace_file(&env, Path::new("/data/f"), content)
            .await
            .expect("replaced");
    });
    let images = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let taken = images.clone();
    world.on_each_completion(move |world, _| taken.borrow_mut().push(world.disk_image(0)));
    world.block_on(0, |env| async move {
        let content = Bytes::from_static(b"second, longer");
        replace_file(&env, Path::new("/data/f"), content)
            .await
            .expect("replaced");
    });
    let mut seen = BTreeSet::new();
    for image in images.borrow().iter() {
        for seed in 0..20 {
            seen.insert(
                image
                    .after_power_cut(TORN, seed)
                    .content("/data/f")
                    .expect("one of them"),
            );
            seen.insert(image.after_kill(seed).content("/data/f").expect("one of them"));
        }
    }
    assert_eq!(seen, BTreeSet::from([b"first".to_vec(), b"second, longer".to_vec()]));
}

#[test]
fn buffered_files_read_back_and_hold_their_exact_size() {
    let world = world(10);
    world.block_on(0, |env| async move {
        let file = env
            .open(Path::new("/data/f"), OpenOptions::CREATE)
            .await
            .expect("created");
        let text: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        env.write_at(&file, text.clone().into(), 0, Durability::Cached)
            .await
            .expect("written");
        assert_eq!(
            read_file(&env, Path::new("/data/f"), 1 << 20).await.expect("read"),
            text
        );
        env.zero(&file, 100, 9000).await.expect("zeroed");
        env.truncate(&file, 9_500).await.expect("truncated");
        env.truncate(&file, 10_000).await.expect("lengthened");
        let mut expected = text;
        expected[100..9100].fill(0);
        expected[9500..].fill(0);
        assert_eq!(
            read_file(&env, Path::new("/data/f"), 1 << 20).await.expect("read"),
            expected
        );
        let free = env.free_bytes(Path::new("/data")).await.expect("known");
        assert_eq!((1 << 40) - free, 2 * BLOCK as u64 + BLOCK as u64);
        let missing = env.open(Path::new("/data/none/f"), OpenOptions::CREATE).await;
        assert_eq!(missing.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    });
}

/// A process with a write in flight, killed; with or without the lock held by the ring.
fn killed_writer(world: &World, hold: bool) -> ProcessId {
    let submitted = std::rc::Rc::new(std::cell::Cell::new(false));
    let process = world.spawn_process(0, 1, |env, _| {
        let submitted = submitted.clone();
        async move {
            let lock = env.lock(Path::new("/data/.lock")).await.expect("free");
            if hold {
                env.hold(lock.clone()).expect("held");
            }
            let file = allocated(&env, "/data/a", 1).await;
            let _write = env.write_at(&file, blocks(1, 5), 0, Durability::Cached);
            submitted.set(true);
            std::future::pending::<()>().await;
            drop(lock);
        }
    });
    assert!(world.run_until(|| submitted.get()));
    process
}

fn try_lock(world: &World) -> Option<ErrorKind> {
    world.block_on(0, |env| async move {
        env.lock(Path::new("/data/.lock")).await.err().map(|e| e.kind())
    })
}

#[test]
fn a_lock_lives_as_long_as_the_writes_of_a_killed_process_if_its_ring_holds_it() {
    let mut options = Options::default();
    options.disk.write_cached = 1_000_000_000..1_000_000_001;
    options.disk.orphan_lost_ppm = 0;
    options.disk.orphan_delay = 50_000_000..60_000_000;
    for hold in [false, true] {
        let world = World::new(11, options.clone());
        let process = killed_writer(&world, hold);
        assert_eq!(try_lock(&world), Some(ErrorKind::WouldBlock));
        world.kill(process);
        assert_eq!(try_lock(&world), hold.then_some(ErrorKind::WouldBlock));
        assert!(
            world.disk_image(0).content("/data/a") == Some(vec![0; BLOCK]),
            "not landed"
        );
        world.run_for(70);
        assert!(
            world.disk_image(0).content("/data/a") == Some(vec![5; BLOCK]),
            "it landed"
        );
        assert_eq!(try_lock(&world), None);
    }
}

#[test]
fn a_write_of_a_killed_process_may_never_land() {
    let mut options = Options::default();
    options.disk.orphan_lost_ppm = 1_000_000;
    let world = World::new(12, options);
    let process = killed_writer(&world, true);
    world.kill(process);
    assert_eq!(try_lock(&world), None);
    world.run_for(100);
    assert!(
        world.disk_image(0).content("/data/a") == Some(vec![0; BLOCK]),
        "not landed"
    );
}

#[test]
fn files_in_the_memory_directory_are_gone_after_a_power_cut() {
    let image = image_after(13, |env| async move {
        let file = env
            .open(Path::new("/dev/shm/f"), OpenOptions::CREATE)
            .await
            .expect("created");
        env.flush_file_system(Path::new("/dev/shm")).await.expect("flushed");
        drop(file);
    });
    assert!(image.after_kill(0).content("/dev/shm/f").is_some());
    assert!(
        image
            .after_power_cut(LossMode::KeepAll, 0)
            .content("/dev/shm/f")
            .is_none()
    );
}

#[test]
fn a_power_cut_in_a_running_world_loses_and_the_next_process_finds_the_rest() {
    let world = world(14);
    world.block_on(0, |env| async move {
        let file = allocated(&env, "/data/a", 2).await;
        write(&env, &file, blocks(1, 1), 0, Durability::Device).await;
        write(&env, &file, blocks(1, 2), 1, Durability::Cached).await;
    });
    world.power_cut(0, LossMode::LoseAll);
    world.block_on(0, |env| async move {
        let content = read_file(&env, Path::new("/data/a"), 1 << 20).await.expect("read");
        assert_eq!((content[0], content[BLOCK]), (1, 0));
    });
}

#[test]
fn growing_and_mixed_writes_are_counted() {
    let world = world(15);
    world.block_on(0, |env| async move {
        let file = allocated(&env, "/data/a", 4).await;
        write(&env, &file, blocks(2, 1), 0, Durability::Cached).await;
        write(&env, &file, blocks(2, 1), 0, Durability::Cached).await;
    });
    let counters = world.disk_counters(0);
    assert_eq!(
        (counters.writes, counters.writes_growing, counters.writes_mixed),
        (2, 0, 0)
    );
    world.block_on(0, |env| async move {
        let file = env
            .open(Path::new("/data/a"), OpenOptions::WRITE_DIRECT)
            .await
            .expect("opened");
        write(&env, &file, blocks(2, 1), 1, Durability::Cached).await;
        write(&env, &file, blocks(2, 1), 3, Durability::Cached).await;
    });
    let counters = world.disk_counters(0);
    assert_eq!((counters.writes_growing, counters.writes_mixed), (1, 2));
    world.block_on(0, |env| async move {
        let file = allocated(&env, "/data/b", 4).await;
        let growing = env.allocate(&file, 4 * BLOCK as u64, BLOCK as u64);
        write(&env, &file, blocks(2, 1), 0, Durability::Cached).await;
        growing.await.expect("allocated");
        write(&env, &file, blocks(2, 1), 2, Durability::Cached).await;
    });
    assert_eq!(world.disk_counters(0).writes_beside_change, 1);
}

#[test]
fn a_read_during_a_write_sees_a_mixture() {
    let mut options = Options::default();
    options.disk.write_cached = 10_000_000..10_000_001;
    let world = World::new(16, options);
    world.block_on(0, |env| async move {
        let file = allocated(&env, "/data/a", 1).await;
        write(&env, &file, blocks(1, 1), 0, Durability::Device).await;
        let pending = env.write_at(&file, blocks(1, 2), 0, Durability::Cached);
        let (read, buffer) = env.read_at(&file, AlignedBuf::new(BLOCK), 0).await;
        assert_eq!(read.expect("read"), BLOCK);
        assert!(buffer.contains(&1) && buffer.contains(&2));
        pending.await.expect("written");
        let (_, buffer) = env.read_at(&file, AlignedBuf::new(BLOCK), 0).await;
        assert_eq!(buffer[..], [2; BLOCK]);
    });
}

#[test]
#[should_panic(expected = "not in whole aligned blocks")]
fn unaligned_direct_writes_are_a_mistake() {
    image_after(20, |env| async move {
        let file = allocated(&env, "/data/a", 1).await;
        write(&env, &file, blocks(1, 1).slice(..512), 0, Durability::Cached).await;
    });
}

#[test]
#[should_panic(expected = "overlaps one in flight (seed 21")]
fn overlapping_writes_in_flight_are_a_mistake() {
    image_after(21, |env| async move {
        let file = allocated(&env, "/data/a", 4).await;
        let first = env.write_at(&file, blocks(2, 1), 0, Durability::Cached);
        write(&env, &file, blocks(2, 1), 1, Durability::Cached).await;
        first.await.expect("written");
    });
}

#[test]
#[should_panic(expected = "changed in flight (seed 22")]
fn a_buffer_that_changes_in_flight_is_a_mistake() {
    image_after(22, |env| async move {
        let file = allocated(&env, "/data/a", 1).await;
        // Two arenas over the same memory, as no careful program has them.
        let region = Arc::new(Region::from_buffer(AlignedBuf::new(1 << 16)));
        let mut chunk = Arena::format(region.clone(), 16384, 0).take(1, &[0; 80]).expect("room");
        let mut other = Arena::format(region, 16384, 0).take(1, &[0; 80]).expect("room");
        chunk.append(&[1; BLOCK]);
        let pending = env.write_at(&file, chunk.view(0, BLOCK), 0, Durability::Cached);
        other.append(&[2; BLOCK]);
        pending.await.expect("written");
    });
}

#[test]
#[should_panic(expected = "a file of another process")]
fn a_file_of_another_process_is_a_mistake() {
    let world = world(23);
    let file = world.block_on(0, |env| async move { allocated(&env, "/data/a", 1).await });
    world.block_on(0, |env| async move {
        write(&env, &file, blocks(1, 1), 0, Durability::Cached).await
    });
}
