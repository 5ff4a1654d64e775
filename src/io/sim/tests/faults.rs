//! Planted faults do what they say, and only that.

use std::path::Path;

use super::*;
use crate::io::sim::{DiskOperation, EIO, ENOSPC, Fault, FaultEffect, LossMode};

const BLOCK: usize = BLOCK_BYTES;

#[test]
fn the_nth_write_to_a_path_fails_and_the_others_do_not() {
    let world = world(1);
    world.plant(
        0,
        Fault::nth(DiskOperation::Write, "/data/a", 1, FaultEffect::Error(EIO)),
    );
    world.block_on(0, |env| async move {
        let (a, b) = (allocated(&env, "/data/a", 4).await, allocated(&env, "/data/b", 4).await);
        for block in 0..3u64 {
            write(&env, &b, blocks(1, 1), block, Durability::Cached).await;
            let result = env
                .write_at(&a, blocks(1, 1), block * BLOCK as u64, Durability::Cached)
                .await;
            assert_eq!(
                result.err().and_then(|error| error.raw_os_error()),
                (block == 1).then_some(EIO)
            );
        }
    });
}

#[test]
fn what_a_failed_flush_lost_no_later_flush_brings_back() {
    let world = world(2);
    world.block_on(0, |env| async move { drop(allocated(&env, "/data/a", 2).await) });
    world.plant(
        0,
        Fault::nth(DiskOperation::Flush, "/data/a", 0, FaultEffect::Error(EIO)),
    );
    world.block_on(0, |env| async move {
        let file = env
            .open(Path::new("/data/a"), OpenOptions::WRITE_DIRECT)
            .await
            .expect("opened");
        write(&env, &file, blocks(1, 1), 0, Durability::Cached).await;
        assert!(env.flush(&file).await.is_err());
        write(&env, &file, blocks(1, 2), 1, Durability::Cached).await;
        env.flush(&file).await.expect("the fault is spent");
    });
    let image = world.disk_image(0);
    let seen = image.content("/data/a").expect("a file");
    assert_eq!((seen[0], seen[BLOCK]), (1, 2));
    let left = image
        .after_power_cut(LossMode::LoseAll, 0)
        .content("/data/a")
        .expect("a file");
    assert_eq!((left[0], left[BLOCK]), (0, 2));
}

#[test]
fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    let world = world(3);
    world.set_capacity(0, 8 * BLOCK as u64);
    world.block_on(0, |env| async move {
        let file = allocated(&env, "/data/a", 6).await;
        let refused = env.allocate(&file, 6 * BLOCK as u64, 4 * BLOCK as u64).await;
        assert_eq!(refused.err().and_then(|error| error.raw_os_error()), Some(ENOSPC));
        write(&env, &file, blocks(6, 1), 0, Durability::Cached).await;
        drop(file);
        env.unlink(Path::new("/data/a")).await.expect("unlinked");
        env.flush_directory(Path::new("/data")).await.expect("flushed");
        assert_eq!(
            env.free_bytes(Path::new("/data")).await.expect("known"),
            8 * BLOCK as u64
        );
        drop(allocated(&env, "/data/b", 8).await);
    });
}

#[test]
fn rot_flips_durable_bits_and_a_misdirected_write_reports_success() {
    let world = world(4);
    let position = 3 * BLOCK as u64;
    world.plant(
        0,
        Fault::nth(DiskOperation::Write, "/data/a", 1, FaultEffect::Misdirect { position }),
    );
    world.block_on(0, |env| async move {
        let file = allocated(&env, "/data/a", 4).await;
        write(&env, &file, blocks(1, 1), 0, Durability::Device).await;
        write(&env, &file, blocks(1, 2), 1, Durability::Device).await;
    });
    world.corrupt(0, "/data/a", 7, 0x10).expect("there");
    let left = world.disk_image(0).after_power_cut(LossMode::LoseAll, 0);
    let content = left.content("/data/a").expect("a file");
    assert_eq!(
        (content[6], content[7], content[BLOCK], content[3 * BLOCK]),
        (1, 0x11, 0, 2)
    );
}

#[test]
fn short_and_stalled_operations() {
    let world = world(5);
    world.plant(0, Fault::nth(DiskOperation::Write, "/data/a", 0, FaultEffect::Short));
    world.plant(0, Fault::nth(DiskOperation::Read, "/data/a", 0, FaultEffect::Short));
    world.plant(
        0,
        Fault::nth(
            DiskOperation::Read,
            "/data/a",
            0,
            FaultEffect::Stall { ns: 5_000_000_000 },
        ),
    );
    world.block_on(0, |env| async move {
        let file = allocated(&env, "/data/a", 8).await;
        let written = env
            .write_at(&file, blocks(8, 1), 0, Durability::Cached)
            .await
            .expect("written");
        assert!(written < 8 * BLOCK && written > 0 && written.is_multiple_of(BLOCK));
        let (read, buffer) = env.read_at(&file, AlignedBuf::new(8 * BLOCK), 0).await;
        let read = read.expect("read");
        assert!(read < 8 * BLOCK && read == buffer.len() && read.is_multiple_of(BLOCK));
        let before = env.now();
        let (read, _) = env.read_at(&file, AlignedBuf::new(8 * BLOCK), 0).await;
        assert_eq!(read.expect("read"), 8 * BLOCK);
        assert!(env.now().ms_since(before) >= 5000);
    });
}

/// As of a file's bytes, of which the kernel tells a failed flush once and then believes them to be written.
#[test]
fn names_that_a_failed_flush_covered_do_not_reach_the_device_by_a_later_one() {
    for whole in [false, true] {
        let world = world(12);
        let failing = Fault::nth(DiskOperation::Flush, "/data", 0, FaultEffect::Error(EIO));
        world.plant(0, failing);
        world.block_on(0, move |env| async move {
            let data = Path::new("/data");
            let make = async |path| env.open(Path::new(path), OpenOptions::CREATE).await.expect("created");
            make("/data/a").await;
            let flushed = match whole {
                true => env.flush_file_system(data).await,
                false => env.flush_directory(data).await,
            };
            assert!(flushed.is_err());
            make("/data/b").await;
            env.flush_directory(data).await.expect("flushed");
        });
        let left = world.disk_image(0).after_power_cut(LossMode::LoseAll, 0);
        let has = |path| left.content(path).is_some();
        assert_eq!([has("/data/a"), has("/data/b")], [false, true]);
    }
}
