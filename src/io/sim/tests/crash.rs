//! Crash exploration: one run, an image at every completion, recovery from every image. A correct log survives all of
//! them, a log that acknowledges too early is found.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::io::sim::{DiskImage, LossMode};
use crate::io::{Queue, read_file};

const ENTRIES: u8 = 40;
const PATH: &str = "/data/log";

/// Appends blocks 1, 2, 3 … and acknowledges each; `early` acknowledges what is not flushed yet.
async fn append_all(env: SimEnv, acknowledged: Rc<Cell<u8>>, early: bool) {
    let file = allocated(&env, PATH, u64::from(ENTRIES)).await;
    for entry in 1..=ENTRIES {
        let (device, position) = (entry % 2 == 0, u64::from(entry - 1));
        let durability = if device { Durability::Device } else { Durability::Cached };
        write(&env, &file, blocks(1, entry), position, durability).await;
        if early {
            acknowledged.set(entry);
        }
        if !device {
            env.flush(&file).await.expect("flushed");
        }
        acknowledged.set(entry);
    }
}

/// The length of the valid prefix that a fresh process reads.
fn recover(seed: u64, image: &DiskImage) -> u8 {
    let world = World::new(seed, Options::default()).with_disk(0, image);
    world.block_on(0, |env| async move {
        let Ok(content) = read_file(&env, Path::new(PATH), 1 << 20).await else {
            return 0;
        };
        let whole = |(index, block): &(usize, &[u8])| block.iter().all(|byte| *byte as usize == index + 1);
        content.chunks(BLOCK_BYTES).enumerate().take_while(whole).count() as u8
    })
}

fn images(early: bool) -> Vec<(u8, DiskImage)> {
    let world = world(1);
    let acknowledged = Rc::new(Cell::new(0));
    let images = Rc::new(RefCell::new(Vec::new()));
    let (seen, taken) = (acknowledged.clone(), images.clone());
    world.on_each_completion(move |world, _| taken.borrow_mut().push((seen.get(), world.disk_image(0))));
    let in_run = acknowledged.clone();
    world.block_on(0, move |env| append_all(env, in_run, early));
    assert_eq!(acknowledged.get(), ENTRIES);
    images.take()
}

/// Crashes that lost something acknowledged.
fn losses(early: bool) -> usize {
    let mut lost = 0;
    for (index, (acknowledged, image)) in images(early).iter().enumerate() {
        let modes = [
            LossMode::LoseAll,
            LossMode::KeepAll,
            LossMode::Random,
            LossMode::Torn { sector_bytes: 512 },
        ];
        for (number, mode) in modes.into_iter().enumerate() {
            let seed = (index * 10 + number) as u64;
            let left = image.after_power_cut(mode, seed);
            lost += usize::from(recover(seed, &left) < *acknowledged);
        }
        assert!(recover(index as u64, &image.after_kill(index as u64)) >= *acknowledged);
    }
    lost
}

#[test]
fn a_log_that_flushes_first_survives_every_crash_and_a_hasty_one_is_found() {
    assert_eq!(losses(false), 0);
    assert!(losses(true) > 10);
}

#[test]
fn an_image_is_what_a_crash_at_that_completion_leaves() {
    let images = images(false);
    for index in [0, 5, 40, images.len() - 1] {
        let world = world(1);
        world.block_on(1, |_| async {});
        let world_run = World::new(1, Options::default());
        let left = Rc::new(RefCell::new(None));
        let slot = left.clone();
        world_run.on_completion_index(index as u64, move |world| {
            *slot.borrow_mut() = Some(world.disk_image(0).hash());
            world.power_cut(0, LossMode::LoseAll);
        });
        let acknowledged = Rc::new(Cell::new(0));
        world_run.spawn_process(0, 1, |env, _| append_all(env, acknowledged.clone(), false));
        assert!(world_run.run_until(|| left.borrow().is_some()));
        assert_eq!(left.take(), Some(images[index].1.hash()));
        let image = images[index].1.after_power_cut(LossMode::LoseAll, 9);
        assert_eq!(world_run.disk_image(0).hash(), image.hash());
    }
}

#[test]
fn hashes_tell_images_apart_and_equal_ones_together() {
    let images = images(false);
    let last = &images[images.len() - 1].1;
    assert_eq!(
        last.after_power_cut(LossMode::LoseAll, 1).hash(),
        last.after_power_cut(LossMode::LoseAll, 2).hash()
    );
    let hashes: std::collections::BTreeSet<u64> = images.iter().map(|(_, image)| image.hash()).collect();
    assert_eq!(hashes.len(), images.len(), "every completion changes something");
    let mut rotten = last.after_power_cut(LossMode::LoseAll, 1);
    let before = rotten.hash();
    rotten.corrupt(PATH, 5, 1).expect("there");
    assert_ne!(rotten.hash(), before);
}

#[test]
fn a_run_can_be_killed_at_any_completion_and_go_on() {
    for index in (0..60).step_by(7) {
        let world = world(3);
        let acknowledged = Rc::new(Cell::new(0));
        let process = world.spawn_process(0, 1, |env, _| {
            let task = append_all(env.clone(), acknowledged.clone(), false);
            env.spawn(Queue::Foreground, task);
            std::future::pending()
        });
        world.on_completion_index(index, move |world| world.kill(process));
        assert!(world.run_until(|| !world.is_alive(process)));
        world.run_for(20);
        let image = world.disk_image(0);
        assert_eq!(image.in_flight(), 0);
        assert!(recover(index, &image) >= acknowledged.get());
    }
}
