//! Records that are known again: the payload says whose it is, where it belongs, and fills the rest from that.

use bytes::Bytes;
use ringtail::io::Env;
use ringtail::io::sim::SimEnv;
use ringtail::wire::batch::{BatchBuilder, BatchOptions, Codec};
use ringtail_checker::{Content, Partition, Producer, Record};

const HEAD: usize = 16;

fn filler(state: &mut u64) -> [u8; 8] {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 7).to_le_bytes()
}

pub fn value(partition: Partition, record: Record, bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes + 8);
    value.extend(record.producer.0.to_be_bytes());
    value.extend(record.sequence.to_be_bytes());
    value.extend(partition.0.to_be_bytes());
    let mut state = u64::from(record.producer.0) << 40 | record.sequence << 8;
    while value.len() < bytes.max(HEAD) {
        value.extend(filler(&mut state));
    }
    value
}

/// What a reader makes of a payload found in `partition`.
pub fn content(partition: Partition, bytes: &[u8]) -> Content {
    let foreign = Content::Foreign(u64::from(crc32c::crc32c(bytes)));
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let part = bytes.get(range)?;
        Some(part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (Some(producer), Some(sequence), Some(place)) = (number(0..4), number(4..12), number(12..HEAD)) else {
        return foreign;
    };
    let record = Record {
        producer: Producer(producer as u32),
        sequence,
    };
    match place == u64::from(partition.0) && bytes == value(partition, record, bytes.len()) {
        true => Content::Record(record),
        false => foreign,
    }
}

/// A number below `bound`.
pub fn below(env: &SimEnv, bound: u64) -> u64 {
    env.random() % bound
}

/// Sizes as they come: most small, some larger than a block, few so large that they go beside the journal.
pub fn some_bytes(env: &SimEnv) -> usize {
    (match below(env, 40) {
        0 => 100_000 + below(env, 60_000),
        1..=5 => 4_000 + below(env, 12_000),
        _ => 20 + below(env, 600),
    }) as usize
}

/// A batch of these records, all for one partition.
pub fn batch(env: &SimEnv, partition: Partition, records: &[Record], mut options: BatchOptions) -> Bytes {
    options.codec = match below(env, 6) {
        0 => Codec::Lz4,
        1 => Codec::Zstd,
        _ => Codec::None,
    };
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let value = value(partition, *record, some_bytes(env) / records.len());
        builder
            .push(env.wall_ms(), None, Some(&value), &[])
            .expect("a small record");
    }
    Bytes::copy_from_slice(builder.finish().expect("a small batch"))
}
