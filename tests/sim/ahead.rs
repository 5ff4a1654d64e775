//! Readers that go on: what they get, and what it costs the disk.

use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use ringtail::base::ids::{PartitionId, TopicId};
use ringtail::io::sim::{SimEnv, World};
use ringtail::io::{Env, Queue};
use ringtail::storage::{DurabilityClass, Partition, PartitionSpec, ReadError, Store, StoreOptions, WantedBatches};
use ringtail::wire::batch::BatchHeader;

use crate::model::{DATA, batch, log_options, open, open_with, options, payload, spec, store_options, world};

pub const BATCHES: i32 = 300;
const SEGMENT_BYTES: u64 = 1 << 20;
/// Of one batch in the log.
const BATCH_BYTES: usize = 10_000;

/// A log of several segments, none of it in memory; what is appended is what sequence and offset say.
pub fn cold_log(world: &World) {
    world.block_on(0, |env| async move {
        let store = open(&env).await;
        let options = log_options(DurabilityClass::Flushed, SEGMENT_BYTES);
        let partition = store.open_partition(spec(0, options)).await.expect("opens");
        for sequence in 0..BATCHES {
            let appended = partition.append(sent(sequence)).await.expect("appended");
            assert_eq!(appended.base_offset, i64::from(sequence));
        }
        store.close().await.expect("closes");
    });
}

pub fn sent(sequence: i32) -> Bytes {
    batch(1, sequence, &payload(0, sequence, BATCH_BYTES))
}

/// Memory of a store that takes a window of 1 MiB, and no second one.
pub const ONE_WINDOW: u64 = 4 << 20;

pub fn with_memory(memory_bytes: u64) -> StoreOptions {
    StoreOptions {
        memory_bytes,
        ..store_options(0)
    }
}

/// Runs `reader` over the log, opened again; how often it had the disk read.
pub fn with_reader<F: Future<Output = ()> + 'static>(
    world: &World,
    memory_bytes: u64,
    reader: impl FnOnce(SimEnv, Rc<Partition<SimEnv>>) -> F + 'static,
) -> u64 {
    world.block_on(0, |env| async move {
        let store = open_with(&env, with_memory(memory_bytes)).await;
        let options = log_options(DurabilityClass::Flushed, SEGMENT_BYTES);
        let partition = store.open_partition(spec(0, options)).await.expect("opens");
        let reads = || env.disk_counters().reads;
        let before = reads();
        reader(env.clone(), partition).await;
        let reads = reads() - before;
        store.close().await.expect("closes");
        reads
    })
}

/// Reads whole batches from `offset` on, `bytes_max` at a time, until one fails or there are no more; where it ended, with how many reads.
pub async fn read_on(
    partition: &Rc<Partition<SimEnv>>,
    mut offset: i64,
    bytes_max: usize,
) -> (i64, u64, Option<ReadError>) {
    let mut reads = 0;
    while offset < partition.high_watermark() {
        reads += 1;
        let slice = match partition.read(offset, bytes_max, true).await {
            Ok(slice) => slice,
            Err(error) => return (offset, reads, Some(error)),
        };
        assert!(slice.bytes <= bytes_max.max(BATCH_BYTES * 2) && slice.bytes > 0);
        offset = check_sent(slice.pieces.concat().into(), offset);
    }
    (offset, reads, None)
}

/// Looks at batches that were asked for at `offset`; the offset behind them.
pub fn check_sent(mut rest: Bytes, mut offset: i64) -> i64 {
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest).expect("whole batches");
        let whole = rest.split_to(header.total_bytes());
        assert_eq!(header.base_offset(), offset, "dense, from where it was asked");
        assert_eq!(whole[16..], sent(offset as i32)[16..], "as it was appended");
        offset = header.next_offset();
    }
    offset
}

#[test]
fn a_reader_that_goes_on_gets_the_log_in_few_reads_of_the_disk() {
    let world = world(71);
    cold_log(&world);
    for bytes_max in [1, 25_000, 90_000, 700_000, 3 << 20] {
        let asked = Rc::new(Cell::new(0));
        let counted = asked.clone();
        let disk_reads = with_reader(&world, ONE_WINDOW, move |_, partition| async move {
            let (end, reads, error) = read_on(&partition, 0, bytes_max).await;
            assert_eq!((end, error), (i64::from(BATCHES), None));
            counted.set(reads);
        });
        // Three megabytes in windows of one, and three files of each of three segments.
        assert!(
            disk_reads <= 17,
            "{disk_reads} for {} of {bytes_max} bytes",
            asked.get()
        );
    }
}

#[test]
fn readers_by_lot_have_nothing_read_ahead() {
    let world = world(72);
    cold_log(&world);
    let disk_reads = with_reader(&world, 32 * ONE_WINDOW, |env, partition| async move {
        for _ in 0..100 {
            let offset = (env.random() % BATCHES as u64) as i64;
            let slice = partition.read(offset, 1, true).await.expect("read");
            assert!(slice.bytes > BATCH_BYTES / 2);
        }
    });
    // One each, and the files of three segments.
    assert!((90..120).contains(&disk_reads), "{disk_reads}");
}

#[test]
fn two_readers_at_one_place_get_the_same() {
    let world = world(73);
    cold_log(&world);
    with_reader(&world, ONE_WINDOW, |env, partition| async move {
        let done = Rc::new(Cell::new(0));
        for _ in 0..2 {
            let (partition, done) = (partition.clone(), done.clone());
            env.spawn(Queue::Foreground, async move {
                let (end, _, error) = read_on(&partition, 0, 60_000).await;
                assert_eq!((end, error), (i64::from(BATCHES), None));
                done.set(done.get() + 1);
            });
        }
        while done.get() < 2 {
            env.sleep_until(env.now().plus_ms(1)).await;
        }
    });
}

/// The rows of a segment that grows stand in several blocks of a file, and in memory: whoever goes on looks at each once, beside another.
#[test]
fn readers_of_a_long_segment_that_grows_read_little_more_than_it() {
    const LONG_BATCH_BYTES: usize = 66_000;
    // Of a block of rows each; the last that is in the file is a third.
    const EACH_READS: i64 = 250;
    let world = Rc::new(world(78));
    let counted = world.clone();
    world.block_on(0, move |env| async move {
        // Two windows, one for each reader.
        let store = open_with(&env, with_memory(2 * ONE_WINDOW)).await;
        let options = log_options(DurabilityClass::Flushed, 128 << 20);
        let partition = store.open_partition(spec(0, options)).await.expect("opens");
        for sequence in 0..1000 {
            let long = batch(1, sequence, &payload(0, sequence, LONG_BATCH_BYTES));
            partition.append(long).await.expect("appended");
        }
        let (before, mut bytes) = (counted.disk_counters(0), 0);
        // Two readers, in turns.
        let mut offsets = [0, EACH_READS];
        while offsets[0] < EACH_READS {
            for offset in &mut offsets {
                let slice = partition.read(*offset, 1 << 20, true).await.expect("read");
                bytes += slice.bytes as u64;
                let mut rest = Bytes::from(slice.pieces.concat());
                while !rest.is_empty() {
                    let header = BatchHeader::parse(&rest).expect("whole batches");
                    rest = rest.split_off(header.total_bytes());
                    *offset = header.next_offset();
                }
            }
        }
        let after = counted.disk_counters(0);
        let (reads, read) = (after.reads - before.reads, after.bytes_read - before.bytes_read);
        // Fifteen batches in a window; blocks at its ends, and windows that are ahead.
        assert!(reads <= 2 * EACH_READS as u64 / 15 + 12, "{reads} reads");
        assert!(read <= bytes + bytes / 50 + (1 << 20), "{read} bytes for {bytes}");
        store.close().await.expect("closes");
    });
}

/// Whoever came by a window has the next two read while he is away, if there is room for others, too.
#[test]
fn a_reader_that_goes_on_has_the_disk_ahead_of_him() {
    // Of the room for three, one reader's second window would leave others none.
    for (memory_bytes, finds_all) in [(8 * ONE_WINDOW, true), (3 * ONE_WINDOW, false), (ONE_WINDOW, false)] {
        let world = Rc::new(world(77));
        cold_log(&world);
        let counted = world.clone();
        with_reader(&world, memory_bytes, move |env, partition| async move {
            let mut offset = 0;
            while offset < 85 {
                let slice = partition.read(offset, 100_000, true).await.expect("read");
                offset = check_sent(slice.pieces.concat().into(), offset);
            }
            env.sleep_until(env.now().plus_ms(100)).await;
            let before = counted.disk_counters(0).reads;
            let (end, _, error) = read_on(&partition, offset, 100_000).await;
            assert_eq!((end, error), (i64::from(BATCHES), None));
            let reads = counted.disk_counters(0).reads - before;
            assert_eq!(reads == 0, finds_all, "{reads}");
        });
    }
}

#[test]
fn what_is_asked_for_soon_is_read_before_and_who_passes_by_has_nothing_read_ahead() {
    // What comes is what was read: rows that are read again count as warm, and are not read ahead.
    const BYTES: usize = 130_000;
    let world = Rc::new(world(79));
    cold_log(&world);
    let counted = world.clone();
    with_reader(&world, 32 * ONE_WINDOW, move |env, partition| async move {
        let reads = || counted.disk_counters(0).reads;
        let later = || env.sleep_until(env.now().plus_ms(100));
        let pass = async |offset| {
            let wanted = WantedBatches::new(offset, BYTES, true).in_passing();
            let slice = partition.read_to_send(wanted).await.expect("read");
            later().await;
            check_sent(slice.pieces.concat().into(), offset)
        };
        partition.read_soon(0);
        later().await;
        let before = reads();
        let mut offset = 0;
        // Most of the window, and nothing is read behind it.
        while offset < 70 {
            offset = pass(offset).await;
            assert_eq!(reads(), before, "it was there at {offset}");
        }
        // Behind the window.
        offset += 80;
        let mut before = reads();
        for round in 0..5 {
            offset = pass(offset).await;
            // The first opens a segment's files.
            assert!(round == 0 || reads() == before + 1, "{} at {offset}", reads() - before);
            before = reads();
        }
        partition.read_soon(offset);
        partition.read_soon(offset);
        later().await;
        assert_eq!(reads() - before, 1, "one window");
    });
}

#[test]
fn what_does_not_verify_is_not_read_ahead_either() {
    let world = world(74);
    cold_log(&world);
    // In the middle of the first segment, and not in the first window of it.
    let path = Path::new(DATA).join("topic-0/00000000000000000000.log");
    world.corrupt(0, path, 700_000, 1).expect("the file is there");
    with_reader(&world, ONE_WINDOW, |_, partition| async move {
        let (end, _, error) = read_on(&partition, 0, 60_000).await;
        assert_eq!(error, Some(ReadError::Corrupt));
        assert!(end < 70 && end > 60, "{end}");
        for offset in [end, end] {
            let read = partition.read(offset, 60_000, true).await;
            assert_eq!(read.err(), Some(ReadError::Corrupt));
        }
        let (end, _, error) = read_on(&partition, 110, 60_000).await;
        assert_eq!((end, error), (i64::from(BATCHES), None));
    });
}

#[test]
fn a_first_batch_beyond_the_bounds_is_left_for_who_takes_it_whole() {
    let world = world(75);
    cold_log(&world);
    with_reader(&world, ONE_WINDOW, |_, partition| async move {
        for offset in 0..5 {
            let none = partition.read(offset, 100, false).await.expect("read");
            assert_eq!(none.bytes, 0);
            let one = partition.read(offset, 100, true).await.expect("read");
            assert!(one.bytes > 100);
        }
    });
}

/// A log under the name of the other tests', in a store whose memory takes little of it.
async fn fill(store: &Rc<Store<SimEnv>>, topic: u8) -> Rc<Partition<SimEnv>> {
    let spec = PartitionSpec {
        id: PartitionId {
            topic: TopicId([topic; 16]),
            index: 0,
        },
        ..spec(0, log_options(DurabilityClass::Flushed, SEGMENT_BYTES))
    };
    let partition = store.open_partition(spec).await.expect("the name is free");
    for sequence in 0..BATCHES {
        let batch = batch(1, sequence, &payload(i32::from(topic), sequence, BATCH_BYTES));
        partition.append(batch).await.expect("appended");
    }
    partition
}

/// Whoever reads a topic that is deleted leaves nothing behind that a topic of its name would be read from, or that keeps its space.
#[test]
fn a_topic_deleted_under_its_readers_is_gone() {
    for seed in 80..90 {
        let mut options = options();
        options.disk.capacity_bytes = 64 << 20;
        World::new(seed, options).block_on(0, |env| async move {
            let store = open_with(&env, with_memory(2 << 20)).await;
            let first = fill(&store, 6).await;
            let before = env.free_bytes(Path::new(DATA)).await.expect("told");
            for offset in [0, 30, 60] {
                let first = first.clone();
                // Its outcome depends on what comes first.
                env.spawn(Queue::Foreground, async move {
                    drop(first.read(offset, 1, true).await);
                });
            }
            env.yield_now().await;
            store.delete_partition(first.id()).await.expect("deleted");
            drop(first);
            env.sleep_until(env.now().plus_ms(1_000)).await;
            // The space is free when the names are gone for good.
            env.flush_file_system(Path::new(DATA)).await.expect("flushed");
            let freed = env.free_bytes(Path::new(DATA)).await.expect("told") - before;
            assert!(
                freed >= BATCHES as u64 * BATCH_BYTES as u64,
                "seed {seed}: {freed} bytes"
            );

            let second = fill(&store, 7).await;
            for sequence in 0..BATCHES {
                let slice = second.read(i64::from(sequence), 1, true).await.expect("read");
                let expected = batch(1, sequence, &payload(7, sequence, BATCH_BYTES));
                assert_eq!(slice.pieces.concat()[16..], expected[16..], "seed {seed}");
            }
            store.close().await.expect("closes");
        });
    }
}
