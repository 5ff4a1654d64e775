//! Look-ups by time: right over rolls and restarts, bounded whatever is asked and whatever the batches claim.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use ringtail::base::sync::{Holder, Signal, race};
use ringtail::broker::route::{Local, OffsetAt, OffsetQuery, Reply, Request};
use ringtail::io::sim::{SimEnv, World};
use ringtail::io::{Env, Queue};
use ringtail::storage::{DurabilityClass, Partition, ReadError, StoreOptions};
use ringtail::wire::batch::{BatchBuilder, BatchOptions, Codec};

use crate::model::{
    DATA, HOLDER, budgets, log_options, open, open_with, partition_id, payload, spec, store_options, world,
};

const SEGMENT_BYTES: u64 = 128 << 10;

fn batch_at(times_ms: &[i64], value: &[u8], codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        codec,
        ..BatchOptions::default()
    });
    for time_ms in times_ms {
        builder.push(*time_ms, None, Some(value), &[]).expect("a small record");
    }
    Bytes::copy_from_slice(builder.finish().expect("a batch"))
}

/// The batch with another largest timestamp in its header.
fn claiming(batch: &Bytes, max_timestamp_ms: i64) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    batch[35..43].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// Every answer is what a walk over all records would give; `times_ms` is by offset.
async fn check(partition: &Rc<Partition<SimEnv>>, times_ms: &[i64]) {
    let largest = times_ms.iter().max().copied();
    let found = partition.max_timestamp(HOLDER).await.expect("readable");
    let expected = times_ms.iter().position(|time_ms| Some(*time_ms) == largest);
    assert_eq!(
        found.map(|f| (f.timestamp_ms, f.offset as usize)),
        largest.zip(expected)
    );
    for target_ms in (0..2_000).step_by(97) {
        let found = partition.offset_for_time(HOLDER, target_ms).await.expect("readable");
        let expected = times_ms.iter().position(|time_ms| *time_ms >= target_ms);
        assert_eq!(found.map(|f| f.offset as usize), expected, "{target_ms}");
    }
}

/// Appends batches of two records with times in no order, `peak` among them once.
async fn append(env: &SimEnv, partition: &Rc<Partition<SimEnv>>, times_ms: &mut Vec<i64>, batches: i32, peak: i64) {
    let at = env.random() % batches as u64;
    for sequence in 0..batches {
        let mut both = [env.random() % 1_000, env.random() % 1_000].map(|ms| ms as i64);
        if sequence as u64 == at {
            both[1] = peak;
        }
        let value = payload(0, sequence, 9_000);
        partition
            .append(batch_at(&both, &value, Codec::None))
            .await
            .expect("appended");
        times_ms.extend(both);
    }
}

#[test]
fn the_latest_record_and_the_first_at_a_time_are_found_over_rolls_and_restarts() {
    for seed in 0..6 {
        world(seed).block_on(0, |env| async move {
            let mut times_ms = Vec::new();
            // The largest of all comes in the middle, and once more later.
            for peak in [1_500, 1_900, 1_200, 1_900] {
                let store = open(&env).await;
                let partition = store
                    .open_partition(spec(0, log_options(DurabilityClass::Flushed, SEGMENT_BYTES)))
                    .await
                    .expect("opens");
                check(&partition, &times_ms).await;
                append(&env, &partition, &mut times_ms, 40, peak).await;
                check(&partition, &times_ms).await;
                store.close().await.expect("closes");
            }
        });
    }
}

/// A log of many segments, opened again: nothing of it is in memory.
async fn cold(env: &SimEnv) -> (Local<SimEnv>, Vec<i64>) {
    let spec = spec(0, log_options(DurabilityClass::Flushed, SEGMENT_BYTES));
    let mut times_ms = Vec::new();
    let store = open(env).await;
    let partition = store.open_partition(spec.clone()).await.expect("opens");
    append(env, &partition, &mut times_ms, 200, 1_999).await;
    store.close().await.expect("closes");
    drop((partition, store));
    let store = open(env).await;
    store.open_partition(spec).await.expect("opens");
    (
        Local::new(env.clone(), store, Default::default(), budgets(64 << 20)),
        times_ms,
    )
}

fn query(at: OffsetAt) -> OffsetQuery {
    OffsetQuery {
        id: partition_id(0),
        leader_epoch: -1,
        at,
    }
}

/// A segment whose times nobody knows hides no later one.
#[test]
fn a_look_up_by_time_does_not_pass_over_a_missing_segment() {
    world(32).block_on(0, |env| async move {
        let spec = spec(0, log_options(DurabilityClass::Flushed, SEGMENT_BYTES));
        let store = open(&env).await;
        let partition = store.open_partition(spec.clone()).await.expect("opens");
        for sequence in 0..60 {
            let value = payload(0, sequence, 9_000);
            let times_ms = [i64::from(sequence) * 10; 2];
            let batch = batch_at(&times_ms, &value, Codec::None);
            partition.append(batch).await.expect("appended");
        }
        let folder = Path::new(DATA).join("topic-0");
        store.close().await.expect("closes");
        drop((partition, store));
        let mut bases = Vec::new();
        for entry in env.list(&folder).await.expect("listed") {
            bases.extend(
                entry
                    .name
                    .strip_suffix(".log")
                    .map(|base| base.parse::<i64>().expect("a base")),
            );
        }
        bases.sort_unstable();
        assert!(bases.len() > 5, "{bases:?}");
        let (missing, told) = (bases[2], bases[4]);
        env.unlink(&folder.join(format!("{missing:020}.log")))
            .await
            .expect("removed");
        let store = open(&env).await;
        let partition = store.open_partition(spec).await.expect("opens");
        for offset in (0..120).step_by(2) {
            let found = partition.offset_for_time(HOLDER, offset * 5).await;
            // What is missing may hold a record of any time up to the largest of the segment behind it, which says that it is.
            match (missing..told).contains(&offset) {
                true => assert!(matches!(found, Err(ReadError::Corrupt)), "{offset}: {found:?}"),
                false => {
                    let found = found.expect("readable").map(|found| found.offset);
                    assert_eq!(found, Some(offset));
                }
            }
        }
    });
}

/// Opens a log of a hundred segments and asks for a time, or for the latest; how often the disk was read.
fn reads_of(world: &World, target: Option<OffsetAt>) -> u64 {
    let before = world.disk_counters(0).reads;
    world.block_on(0, |env| async move {
        let spec = spec(0, log_options(DurabilityClass::Flushed, SEGMENT_BYTES));
        let store = open(&env).await;
        let partition = store.open_partition(spec).await.expect("opens");
        let found = match target {
            Some(OffsetAt::Time(target_ms)) => partition.offset_for_time(HOLDER, target_ms).await.expect("readable"),
            Some(_) => partition.max_timestamp(HOLDER).await.expect("readable"),
            None => None,
        };
        match target {
            Some(OffsetAt::Time(target_ms)) => {
                let expected = (target_ms < 7_000).then_some(target_ms / 10 * 2);
                assert_eq!(found.map(|found| found.offset), expected);
            }
            Some(_) => assert_eq!(found.map(|found| found.offset), Some(2 * 699)),
            None => {}
        }
        store.close().await.expect("closes");
    });
    world.disk_counters(0).reads - before
}

#[test]
fn a_look_up_by_time_asks_few_of_many_segments() {
    let world = world(36);
    world.block_on(0, |env| async move {
        let spec = spec(0, log_options(DurabilityClass::Flushed, SEGMENT_BYTES));
        let store = open(&env).await;
        let partition = store.open_partition(spec).await.expect("opens");
        for sequence in 0..700 {
            let value = payload(0, sequence, 9_000);
            let batch = batch_at(&[i64::from(sequence) * 10; 2], &value, Codec::None);
            partition.append(batch).await.expect("appended");
        }
        store.close().await.expect("closes");
    });
    // The first start has the end of the log to read.
    reads_of(&world, None);
    let opening = reads_of(&world, None);
    for target in [0, 10, 3_330, 6_980, 6_990, 9_000].map(OffsetAt::Time) {
        let reads = reads_of(&world, Some(target)).saturating_sub(opening);
        // Of a hundred: seven halvings, and a walk of a few batches with what tells where it begins.
        assert!(reads <= 40, "{reads}");
    }
    let reads = reads_of(&world, Some(OffsetAt::MaxTimestamp)).saturating_sub(opening);
    assert!(reads <= 25, "{reads}");
}

#[test]
fn equal_queries_of_a_request_cost_one_look_up() {
    world(31).block_on(0, |env| async move {
        let (local, times_ms) = cold(&env).await;
        let largest = times_ms.iter().max().copied().expect("there are records");
        let mut took_ns = Vec::new();
        // The first one learns what the others know.
        for count in [1, 1, 20_000] {
            let began = env.now();
            let mut queries = vec![query(OffsetAt::MaxTimestamp); count];
            queries.push(query(OffsetAt::Time(3_000)));
            let found = local.offsets(queries, HOLDER).await;
            let last = found.last().cloned().expect("as many answers").expect("readable");
            assert_eq!((found.len(), last.offset), (count + 1, -1));
            let largest_ones = found[..count].iter().flatten().filter(|f| f.timestamp_ms == largest);
            assert_eq!(largest_ones.count(), count);
            took_ns.push(env.now().0 - began.0);
        }
        assert!(took_ns[2] <= 3 * took_ns[1], "{took_ns:?}");
    });
}

/// Two hundred requests are there first.
#[test]
fn look_ups_of_one_holder_do_not_hold_up_those_of_another() {
    world(34).block_on(0, |env| async move {
        let (local, _) = cold(&env).await;
        let (local, done) = (Rc::new(local), Rc::new(Cell::new(0)));
        for request in 0..200 {
            let (local, done) = (local.clone(), done.clone());
            env.spawn(Queue::Foreground, async move {
                let queries = (0..8).map(|ms| query(OffsetAt::Time(request * 8 + ms))).collect();
                local.offsets(queries, HOLDER).await;
                done.set(done.get() + 1);
            });
        }
        env.yield_now().await;
        local.offsets(vec![query(OffsetAt::Time(1_999))], Holder(2)).await;
        assert!(done.get() < 100, "{} requests were served before", done.get());
    });
}

#[test]
fn look_ups_that_nobody_waits_for_any_more_end() {
    let world = world(32);
    let took_ms = world.block_on(0, |env| async move {
        let (local, _) = cold(&env).await;
        let cancel = Rc::new(Signal::default());
        let queries = (0..50_000).map(|ms| query(OffsetAt::Time(ms))).collect();
        let Ok(answer) = local.execute(Request::Offsets(queries, HOLDER), &cancel) else {
            panic!("it is about partitions")
        };
        let began = env.now();
        let answer = race(answer, async {
            env.sleep_until(began.plus_ms(5)).await;
            cancel.raise();
            std::future::pending().await
        });
        assert!(matches!(answer.await, Reply::Offsets(found) if found.is_empty()));
        env.now().ms_since(began)
    });
    assert!(took_ms < 10, "{took_ms}");
}

#[test]
fn a_look_up_believes_headers_where_looking_inside_costs_too_much() {
    world(33).block_on(0, |env| async move {
        let store = open(&env).await;
        let spec = spec(0, log_options(DurabilityClass::Written, 8 << 20));
        let partition = store.open_partition(spec).await.expect("opens");
        // Forty megabytes in a few kilobytes, with the time asked for at their end.
        let value = vec![0; 20 << 20];
        let bomb = batch_at(&[10, 20, 30], &value, Codec::Zstd);
        partition.append(bomb).await.expect("appended");
        let found = partition
            .offset_for_time(HOLDER, 30)
            .await
            .expect("readable")
            .expect("there");
        assert_eq!(
            (found.timestamp_ms, found.offset),
            (30, 0),
            "the batch, if not the record"
        );
        let found = partition.max_timestamp(HOLDER).await.expect("readable").expect("there");
        assert_eq!((found.timestamp_ms, found.offset), (30, 0));
        // Batches that claim what none of their records is.
        for _ in 0..20 {
            let liar = claiming(&batch_at(&[40], b"", Codec::Zstd), 500);
            partition.append(liar).await.expect("appended");
        }
        let found = partition
            .offset_for_time(HOLDER, 400)
            .await
            .expect("readable")
            .expect("there");
        assert_eq!(
            (found.timestamp_ms, found.offset),
            (500, 3 + 8),
            "the ninth is believed"
        );
    });
}

/// Others read on and on, and leave room for small reads only.
#[test]
fn a_batch_larger_than_the_room_for_cold_reads_is_read_beside_others() {
    world(35).block_on(0, |env| async move {
        let options = || StoreOptions {
            memory_bytes: 256 << 20,
            ..store_options(0)
        };
        let spec = spec(0, log_options(DurabilityClass::Flushed, 64 << 20));
        let store = open_with(&env, options()).await;
        let partition = store.open_partition(spec.clone()).await.expect("opens");
        for (sequence, bytes) in [1 << 20, 1 << 20, 20 << 20].into_iter().enumerate() {
            let value = payload(0, sequence as i32, bytes);
            let batch = batch_at(&[10], &value, Codec::None);
            partition.append(batch).await.expect("appended");
        }
        store.close().await.expect("closes");
        drop((partition, store));
        let store = open_with(&env, options()).await;
        let partition = store.open_partition(spec).await.expect("opens");
        for offset in [0, 1, 0, 1] {
            let (task, partition) = (env.clone(), partition.clone());
            env.spawn(Queue::Foreground, async move {
                loop {
                    partition.read(offset, 1 << 20, true).await.expect("readable");
                    task.yield_now().await;
                }
            });
        }
        let read = async { partition.read(2, 1 << 20, true).await.map(|slice| slice.bytes) };
        let given_up = async {
            env.sleep_until(env.now().plus_ms(10_000)).await;
            Ok(0)
        };
        let bytes = race(read, given_up).await.expect("readable");
        assert!(bytes > 20 << 20, "{bytes}");
    });
}
