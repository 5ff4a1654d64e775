//! Readers that follow each other: what is read again comes through the page cache, and from there without a look at it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use ringtail::io::Env;
use ringtail::io::sim::{SimEnv, World, rest_of};
use ringtail::storage::{DurabilityClass, LogSlice, Partition, ReadError, WantedBatches};

use crate::ahead::{BATCHES, ONE_WINDOW, check_sent, cold_log, read_on, with_memory, with_reader};
use crate::model::{DATA, batch, log_options, open_with, options, payload, spec};

/// A world with a cold log, whose page cache loses what it has so often, and as often has nothing to pin it with.
fn world(seed: u64, evict_ppm: u32, refuse_pin_ppm: u32) -> World {
    let mut options = options();
    (options.disk.evict_ppm, options.disk.refuse_pin_ppm) = (evict_ppm, refuse_pin_ppm);
    let world = World::new(seed, options);
    cold_log(&world);
    world
}

/// What would be sent of a slice, and how much of that is pinned.
fn bytes_of(slice: LogSlice) -> (Bytes, usize) {
    let pinned: Vec<Bytes> = slice.pinned.iter().map(rest_of).collect();
    assert!(pinned.is_empty() || slice.pieces.is_empty(), "one or the other");
    let bytes = [slice.pieces.concat(), pinned.concat()].concat();
    assert_eq!(bytes.len(), slice.bytes);
    (bytes.into(), pinned.concat().len())
}

/// Sends whole batches from `offset` on, `bytes_max` at a time, until one fails or there are no more: where that ended, with how many
/// bytes in all and pinned.
async fn send_on(
    partition: &Rc<Partition<SimEnv>>,
    mut offset: i64,
    bytes_max: usize,
) -> (i64, usize, usize, Option<ReadError>) {
    let (mut bytes, mut bytes_pinned) = (0, 0);
    while offset < partition.high_watermark() {
        let slice = match partition
            .read_to_send(WantedBatches::new(offset, bytes_max, true))
            .await
        {
            Ok(slice) => slice,
            Err(error) => return (offset, bytes, bytes_pinned, Some(error)),
        };
        let (rest, pinned) = bytes_of(slice);
        assert!(!rest.is_empty() && (pinned == 0 || rest.len() <= bytes_max));
        bytes += rest.len();
        bytes_pinned += pinned;
        offset = check_sent(rest, offset);
    }
    (offset, bytes, bytes_pinned, None)
}

#[test]
fn what_was_read_twice_is_sent_from_the_page_cache() {
    for bytes_max in [200_000, 1 << 20, 3 << 20] {
        let world = world(91, 0, 0);
        let passes = Rc::new(RefCell::new(Vec::new()));
        let told = passes.clone();
        with_reader(&world, ONE_WINDOW, move |_, partition| async move {
            for _ in 0..4 {
                let (end, bytes, pinned, error) = send_on(&partition, 0, bytes_max).await;
                assert_eq!((end, error), (i64::from(BATCHES), None));
                told.borrow_mut().push((bytes, pinned));
            }
        });
        let passes = passes.take();
        let (first, second, third, fourth) = (passes[0], passes[1], passes[2], passes[3]);
        assert_eq!((first.1, second.1), (0, 0), "{bytes_max}");
        // Two segments of three: the last one still grows.
        assert!(third.1 * 5 > third.0 * 3, "{third:?} of {bytes_max}");
        assert_eq!(third, fourth);
    }
}

#[test]
fn pinned_reads_read_no_device() {
    let world = world(92, 0, 0);
    let reads_of = |passes: u64| {
        with_reader(&world, ONE_WINDOW, move |_, partition| async move {
            for _ in 0..passes {
                assert_eq!(send_on(&partition, 0, 1 << 20).await.3, None);
            }
        })
    };
    let (two, twelve) = (reads_of(2), reads_of(12));
    // Each of the ten others reads what still grows.
    assert!(twelve - two <= 30, "{twelve} after {two}");
}

/// Sends all of the log so many times; bytes of all, and of those that came pinned.
async fn send_again(partition: &Rc<Partition<SimEnv>>, times: u32) -> (usize, usize) {
    let (mut all, mut some) = (0, 0);
    for _ in 0..times {
        let (end, bytes, pinned, error) = send_on(partition, 0, 150_000).await;
        assert_eq!((end, error), (i64::from(BATCHES), None));
        (all, some) = (all + bytes, some + pinned);
    }
    (all, some)
}

#[test]
fn what_left_the_page_cache_is_read_and_verified_again() {
    for seed in 93..98 {
        let world = world(seed, 300_000, 100_000);
        with_reader(&world, ONE_WINDOW, |_, partition| async move {
            let (all, some) = send_again(&partition, 12).await;
            assert!(some > 0 && some < all, "{some} of {all}");
        });
    }
}

/// Whoever lost something counts again from the beginning once something was there: without that a quarter came pinned here.
#[test]
fn a_cache_that_loses_little_is_of_use_all_the_same() {
    let world = world(104, 50_000, 0);
    with_reader(&world, ONE_WINDOW, move |_, partition| async move {
        let (all, some) = send_again(&partition, 20).await;
        assert!(some * 5 > all * 2, "{some} of {all}");
    });
}

#[test]
fn what_the_page_cache_has_is_not_read_ahead() {
    let world = Rc::new(world(105, 0, 0));
    let counted = world.clone();
    with_reader(&world, 32 * ONE_WINDOW, |env, partition| async move {
        send_again(&partition, 3).await;
        let before = counted.disk_counters(0).reads;
        for offset in [0, 100, 200] {
            partition.read_soon(offset);
        }
        env.sleep_until(env.now().plus_ms(100)).await;
        assert_eq!(counted.disk_counters(0).reads, before);
    });
}

#[test]
fn that_nothing_more_can_be_pinned_forgets_nothing() {
    let world = world(98, 0, 200_000);
    with_reader(&world, ONE_WINDOW, |_, partition| async move {
        send_again(&partition, 2).await;
        let (all, some) = send_again(&partition, 12).await;
        // Four fifths of the two thirds that grow no more.
        assert!(some * 100 > all * 42, "{some} of {all}");
    });
}

#[test]
fn damage_that_comes_between_two_reads_is_found_by_the_second() {
    let world = Rc::new(world(99, 0, 0));
    let (damaged, path) = (world.clone(), Path::new(DATA).join("topic-0/00000000000000000000.log"));
    with_reader(&world, ONE_WINDOW, move |_, partition| async move {
        assert_eq!(send_on(&partition, 0, 100_000).await.3, None);
        damaged.corrupt(0, &path, 700_000, 1).expect("the file is there");
        for _ in 0..3 {
            let (end, _, _, error) = send_on(&partition, 0, 100_000).await;
            assert_eq!(error, Some(ReadError::Corrupt));
            assert!(end < 70 && end > 60, "{end}");
        }
        let (end, _, _, error) = send_on(&partition, 110, 100_000).await;
        assert_eq!((end, error), (i64::from(BATCHES), None));
    });
}

#[test]
fn who_begins_inside_a_row_or_wants_less_than_one_gets_bytes() {
    let world = world(100, 0, 0);
    with_reader(&world, ONE_WINDOW, |env, partition| async move {
        for _ in 0..3 {
            assert_eq!(send_on(&partition, 0, 1 << 20).await.3, None);
        }
        let slice = partition
            .read_to_send(WantedBatches::new(0, 30_000, true))
            .await
            .expect("read");
        assert!(slice.pinned.is_empty() && slice.bytes <= 30_000);
        let slice = partition
            .read_to_send(WantedBatches::new(1, 1 << 20, true))
            .await
            .expect("read");
        assert!(slice.pinned.is_empty() && slice.bytes > 0);
        // Whoever goes on from there is in step again.
        let offset = check_sent(bytes_of(slice).0, 1);
        let slice = partition
            .read_to_send(WantedBatches::new(offset, 1 << 20, true))
            .await
            .expect("read");
        assert!(!slice.pinned.is_empty());
        // What is held is held, whatever becomes of the log.
        let held = slice.clone();
        drop(partition);
        env.yield_now().await;
        assert_eq!(bytes_of(held), bytes_of(slice));
    });
}

/// What was read ahead for a reader that was then served from the page cache keeps no room.
#[test]
fn nothing_stays_read_ahead_for_who_needs_it_no_more() {
    let world = world(101, 0, 0);
    let reads = with_reader(&world, ONE_WINDOW, |env, partition| async move {
        assert_eq!(send_on(&partition, 0, 200_000).await.3, None);
        let mut offset = 0;
        // Slowly, so that what is read ahead is there, and in the cache, when it would be asked for.
        while offset < 90 {
            let slice = partition
                .read_to_send(WantedBatches::new(offset, 200_000, true))
                .await
                .expect("read");
            offset = check_sent(bytes_of(slice).0, offset);
            env.sleep_until(env.now().plus_ms(20)).await;
        }
        // Batch by batch, which is cheap only for who has the next ones read ahead.
        let (end, _, error) = read_on(&partition, 200, 1).await;
        assert_eq!((end, error), (i64::from(BATCHES), None));
    });
    assert!(reads <= 60, "{reads} reads");
}

/// A row each, and more of them than three blocks of rows hold.
const LARGE_BATCHES: i32 = 1300;
const LARGE_BYTES: usize = 66_000;
/// Of those batches.
const READ: i64 = 800;

fn large(sequence: i32) -> Bytes {
    batch(1, sequence, &payload(0, sequence, LARGE_BYTES))
}

/// Rows of the sums are read again when others were looked at in between. Damage that they took meanwhile does not shift what is sent.
#[test]
fn rows_that_are_damaged_later_send_nothing_from_the_page_cache() {
    // Of the rows in the first block: the end of one, its sum, the offset behind it.
    for (row, byte) in [(3, 0), (3, 9), (3, 12)] {
        let mut options = options();
        (options.disk.evict_ppm, options.disk.refuse_pin_ppm) = (0, 0);
        let world = Rc::new(World::new(102, options));
        let (damaged, path) = (world.clone(), Path::new(DATA).join("topic-0/00000000000000000000.sums"));
        world.block_on(0, |env| async move {
            let store = open_with(&env, with_memory(2 * ONE_WINDOW)).await;
            let options = log_options(DurabilityClass::Flushed, 128 << 20);
            let partition = store.open_partition(spec(0, options)).await.expect("opens");
            for sequence in 0..LARGE_BATCHES {
                partition.append(large(sequence)).await.expect("appended");
            }
            let flip = || {
                let flipped = damaged.corrupt(0, &path, 64 + 16 * row + byte, 1);
                flipped.expect("the file is there");
            };
            let mut corrupt = Vec::new();
            for pass in 0..4 {
                if pass == 3 {
                    // The page of these rows is not among the last that were looked at.
                    flip();
                }
                for sequence in 0..READ {
                    let read = || partition.read_to_send(WantedBatches::new(sequence, 100_000, true));
                    match read().await {
                        Ok(slice) => {
                            let (bytes, pinned) = bytes_of(slice);
                            assert_eq!(bytes[16..], large(sequence as i32)[16..], "pass {pass}");
                            // What was read ahead behind the last is not the same in every pass.
                            assert!(pinned > 0 || pass != 2 || sequence + 30 > READ, "{sequence}");
                        }
                        Err(error) => {
                            corrupt.push((pass, sequence, error));
                            // What did not verify is read again, its rows as well.
                            flip();
                            let (bytes, _) = bytes_of(read().await.expect("as it was"));
                            assert_eq!(bytes[16..], large(sequence as i32)[16..]);
                        }
                    }
                }
            }
            let [(3, sequence, _)] = corrupt[..] else {
                panic!("{corrupt:?}")
            };
            // A row that cannot be one ends its block.
            assert!(sequence < 256, "{sequence}");
            store.close().await.expect("closes");
        });
    }
}
