//! What goes to the segments in the background, beside commits that wait for the device.

use std::rc::Rc;

use ringtail::io::Env;
use ringtail::io::sim::{DiskOperation, Fault, FaultEffect, SimEnv};
use ringtail::storage::{DurabilityClass, Partition, Store, StoreOptions};

use crate::model::{batch, log_options, open_with, payload, spec, store_options, world};

const PARTITIONS: i32 = 16;
const BATCH_BYTES: usize = 60_000;

/// Of one shard: a write to a segment, and one to the journal's next file.
const CALM_BYTES_MAX: u64 = 2 * (256 << 10);

/// Of which chunks of a mebibyte are full at the eighteenth batch.
async fn open_logs(env: &SimEnv, count: i32) -> (Rc<Store<SimEnv>>, Vec<Rc<Partition<SimEnv>>>) {
    let plenty = StoreOptions {
        memory_bytes: 512 << 20,
        journal_bytes: 256 << 20,
        ..store_options(0)
    };
    let store = open_with(env, plenty).await;
    let mut partitions = Vec::new();
    for index in 0..count {
        let options = log_options(DurabilityClass::Flushed, 1 << 30);
        partitions.push(store.open_partition(spec(index, options)).await.expect("opens"));
    }
    (store, partitions)
}

async fn append(partition: &Rc<Partition<SimEnv>>, sequence: i32, bytes: usize) {
    let sent = batch(1, sequence, &payload(0, sequence, bytes));
    partition.append(sent).await.expect("appended");
}

#[test]
fn commits_find_little_in_flight_though_all_chunks_are_full_at_once() {
    let world = Rc::new(world(81));
    let counted = world.clone();
    world.block_on(0, |env| async move {
        let (store, partitions) = open_logs(&env, PARTITIONS).await;
        for sequence in 0..60 {
            for partition in &partitions {
                append(partition, sequence, BATCH_BYTES).await;
            }
        }
        // What is left is stored in a hurry at the end.
        env.sleep_until(env.now().plus_ms(5_000)).await;
        let counters = counted.disk_counters(0);
        assert!(counters.bytes_written > 2 * 57_000_000, "{counters:?}");
        assert!(counters.bytes_before_flush_max <= CALM_BYTES_MAX, "{counters:?}");
        store.close().await.expect("closes");
    });
}

/// A large commit goes to the segment itself, behind what is being stored of it.
#[test]
fn a_commit_does_not_wait_in_the_line_of_what_nobody_waits_for() {
    const STALL_NS: u64 = 60_000_000_000;
    let world = Rc::new(world(82));
    let planted = world.clone();
    world.block_on(0, |env| async move {
        let (store, partitions) = open_logs(&env, 2).await;
        let stall = FaultEffect::Stall { ns: STALL_NS };
        planted.plant(0, Fault::nth(DiskOperation::Write, "/data/topic-1", 0, stall));
        // Less than its file has space for: it could not grow beside the write.
        for sequence in 0..4 {
            append(&partitions[1], sequence, BATCH_BYTES).await;
        }
        // That one has the turn by now, for a minute.
        env.sleep_until(env.now().plus_ms(2_000)).await;
        for sequence in 0..18 {
            append(&partitions[0], sequence, BATCH_BYTES).await;
        }
        env.sleep_until(env.now().plus_ms(100)).await;
        let began = env.now();
        append(&partitions[0], 18, 4 * BATCH_BYTES).await;
        let waited_ms = env.now().ms_since(began);
        assert!(waited_ms < 1_000, "{waited_ms} ms");
        store.close().await.expect("closes");
        assert!(env.now().ms_since(began) > STALL_NS / 2_000_000, "it was stalled");
    });
}
