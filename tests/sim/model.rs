//! A log store under test, what was sent to it and what it acknowledged.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use ringtail::base::ids::{PartitionId, TopicId};
use ringtail::base::sync::{Budget, Holder};
use ringtail::broker::Reader;
use ringtail::io::sim::{Options, SimEnv, World};
use ringtail::storage::{
    DurabilityClass, LogDirectory, LogOptions, Partition, PartitionSpec, Recovered, Store, StoreOptions, Wanted,
    recover,
};
use ringtail::wire::batch::{BatchBuilder, BatchHeader, BatchOptions};

pub const DATA: &str = "/data";
pub const MEMORY: &str = "/dev/shm";
/// In whose name things are read and looked up.
pub const HOLDER: Holder = Holder(1);

pub fn partition_id(index: i32) -> PartitionId {
    PartitionId {
        topic: TopicId([5; 16]),
        index,
    }
}

pub fn store_options(shard: usize) -> StoreOptions {
    StoreOptions {
        directories: vec![LogDirectory {
            path: PathBuf::from(DATA),
            id: [9; 16],
        }],
        arena_directory: PathBuf::from(MEMORY),
        memory_bytes: 16 << 20,
        journal_bytes: 4 << 20,
        reserve_bytes: 0,
        producer_expiration_ms: 86_400_000,
        producer_count_max: 10_000,
        retention_check_ms: 300_000,
        shard,
        shards: 1,
    }
}

pub fn log_options(durability: DurabilityClass, segment_bytes: u64) -> LogOptions {
    LogOptions {
        durability,
        segment_bytes,
        ..LogOptions::default()
    }
}

pub fn spec(index: i32, options: LogOptions) -> PartitionSpec {
    PartitionSpec {
        id: partition_id(index),
        topic_name: "topic".into(),
        directory: 0,
        options,
    }
}

/// A world of one host.
pub fn world(seed: u64) -> World {
    World::new(seed, options())
}

pub fn options() -> Options {
    Options {
        hosts: 1,
        ..Options::default()
    }
}

/// Recovers the directories and opens the store of the only shard.
pub async fn open(env: &SimEnv) -> Rc<Store<SimEnv>> {
    open_with(env, store_options(0)).await
}

pub async fn open_with(env: &SimEnv, options: StoreOptions) -> Rc<Store<SimEnv>> {
    let recovered: std::sync::Arc<Recovered> =
        recover(env, &options.directories, &options.arena_directory, |_| Wanted::Yes)
            .await
            .expect("recovery succeeds");
    recovered.remove_superseded(env).await;
    Store::open(env.clone(), options, recovered)
        .await
        .expect("the store opens")
}

/// A batch of one producer: `payload` as the value of its only record.
pub fn batch(producer_id: i64, sequence: i32, payload: &[u8]) -> Bytes {
    batch_of(1_700_000_000_000 + i64::from(sequence), producer_id, sequence, payload)
}

/// The same, of a record with the time `timestamp_ms`.
pub fn batch_of(timestamp_ms: i64, producer_id: i64, sequence: i32, payload: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence: sequence,
        ..BatchOptions::default()
    });
    builder
        .push(timestamp_ms, None, Some(payload), &[])
        .expect("a small record");
    Bytes::copy_from_slice(builder.finish().expect("a batch"))
}

/// The payload that a sequence number stands for.
pub fn payload(index: i32, sequence: i32, bytes: usize) -> Vec<u8> {
    let mut payload = format!("{index}/{sequence}/").into_bytes();
    let mut state = (index as u64) << 32 | sequence as u64;
    while payload.len() < bytes {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        payload.push((state >> 56) as u8);
    }
    payload
}

/// What happened to one partition.
#[derive(Clone, Default)]
pub struct History {
    /// Batches handed to `append`, by sequence (as sent, before offsets).
    pub sent: BTreeMap<i32, Bytes>,
    /// Sequence → offset, for what was acknowledged.
    pub acked: BTreeMap<i32, i64>,
}

pub type Histories = Rc<RefCell<BTreeMap<i32, History>>>;

/// All batches from the log start to the high watermark.
pub async fn read_all(partition: &Rc<Partition<SimEnv>>) -> Vec<(i64, Bytes)> {
    let mut offset = partition.ends().log_start;
    let mut found = Vec::new();
    while offset < partition.high_watermark() {
        let slice = partition
            .read(offset, 300_000, true)
            .await
            .expect("stored batches are readable");
        let bytes = Bytes::from(slice.pieces.concat());
        assert_eq!(bytes.len(), slice.bytes);
        assert!(!bytes.is_empty(), "nothing at {offset} below the high watermark");
        let mut rest = bytes;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).expect("whole batches");
            let whole = rest.split_to(header.total_bytes());
            assert!(header.base_offset() <= offset.max(header.base_offset()));
            if header.next_offset() > offset {
                assert_eq!(header.base_offset(), offset, "offsets are dense");
                offset = header.next_offset();
                found.push((header.base_offset(), whole));
            }
        }
    }
    found
}

/// Everything acknowledged is there, once, at its offset, and nothing is there that was not sent.
pub async fn check(index: i32, history: &History, partition: &Rc<Partition<SimEnv>>) {
    let found = read_all(partition).await;
    let mut by_sequence = BTreeMap::new();
    for (offset, bytes) in &found {
        let header = BatchHeader::parse(bytes).expect("parsed before");
        let sequence = header.base_sequence();
        let sent = history
            .sent
            .get(&sequence)
            .unwrap_or_else(|| panic!("{index}/{sequence} was never sent"));
        assert_eq!(bytes[16..], sent[16..], "{index}/{sequence} changed");
        assert_eq!(
            by_sequence.insert(sequence, *offset),
            None,
            "{index}/{sequence} is there twice"
        );
    }
    let log_start = partition.ends().log_start;
    for (sequence, offset) in &history.acked {
        if *offset >= log_start {
            assert_eq!(
                by_sequence.get(sequence),
                Some(offset),
                "{index}/{sequence} acknowledged at {offset}, end {:?}",
                partition.ends()
            );
        }
    }
}

/// A reader that has taken answers before.
pub const READER: Reader = Reader {
    holder: HOLDER,
    is_proven: true,
};

/// The budgets of `Local`: for reads, and for those of unproven readers.
pub fn budgets(bytes: u64) -> (Rc<Budget>, Rc<Budget>) {
    let reads = Budget::new(bytes);
    (reads.clone(), reads)
}
