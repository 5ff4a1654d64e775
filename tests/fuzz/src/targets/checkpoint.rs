//! A checkpoint of a base or of a shard: any partition states behind a head and a check sum that are right. Claims: no panic, memory
//! within the budget; what was decoded encodes to bytes that decode to the same; a start may work with whatever was decoded.
//!
//! The input: a byte (bit 0: leave head and check sum as they are), then the file.

use ringtail::base::buffer::BLOCK_BYTES;
use ringtail::storage::formats::{BatchFacts, Checkpoint, Cursor, PartitionState, Sequenced, Verdict, decode_rows};

use super::input::put;
use super::memory::bounded;

/// Magic and version.
const HEAD: [u8; 12] = *b"RTTCKPT1\x02\0\0\0";

pub fn run(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 0 {
        mend(&mut bytes);
    }
    let Some(checkpoint) = bounded(bytes.len(), || Checkpoint::decode(&bytes)) else {
        return;
    };
    let mut partitions = Vec::new();
    checkpoint
        .partitions
        .values()
        .for_each(|state| state.encode(&mut partitions));
    let again = Checkpoint::encode(
        checkpoint.directory_id,
        checkpoint.file,
        checkpoint.journal_from,
        checkpoint.partitions.len() as u32,
        &partitions,
    );
    assert_eq!(Checkpoint::decode(&again).as_ref(), Some(&checkpoint));
    checkpoint.partitions.into_values().for_each(go_on_from);
}

/// Makes magic and version right, and the check sum.
fn mend(bytes: &mut [u8]) {
    put(bytes, 0, &HEAD);
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(body).to_le_bytes();
    }
}

/// What a start does with a partition.
fn go_on_from(mut state: PartitionState) {
    let boundary = state.boundary;
    // The rows as the offline check reads them.
    let rows = state.build.unstored_rows(&boundary);
    let start = (boundary.position.min(4096), boundary.segment);
    let _ = decode_rows(boundary.segment, start, &rows, boundary.position);
    let _ = (state.build.stored_rows(), state.build.sums.full_blocks().len());
    let _ = (
        state.build.offsets.bytes(),
        state.build.times.bytes(),
        state.build.sums.bytes(),
    );
    let end = Cursor {
        offset: boundary.offset.saturating_add(1),
        ..boundary
    };
    let _ = state.build.unstored_rows(&end);

    let facts = BatchFacts {
        base_offset: boundary.offset,
        last_offset: boundary.offset.saturating_add(2).min(i64::MAX - 1),
        max_timestamp_ms: 1_000,
        bytes: 70_000,
    };
    if boundary.offset <= facts.last_offset {
        state.build.add(boundary.position, &facts, |crc| !crc, 4096);
        state
            .build
            .finish(boundary.position + facts.bytes, facts.last_offset + 1, Some(0));
    }

    let epoch = state.epochs.latest().unwrap_or(0);
    let _ = (
        state.epochs.end_of(epoch, boundary.offset),
        state.epochs.end_of(i32::MIN, 0),
    );
    state.epochs.note(epoch.saturating_add(1), boundary.offset);
    state.epochs.trim(state.log_start);
    state.epochs.truncate(boundary.offset);
    let _ = state.epochs.to_text();

    for producer_id in [0, 4, i64::MAX] {
        let mut batch = Sequenced {
            producer_id,
            epoch: 0,
            first_sequence: 0,
            last_sequence: 0,
        };
        for first_sequence in [0, 1, i32::MAX] {
            (batch.first_sequence, batch.last_sequence) = (first_sequence, first_sequence);
            if state.producers.judge(&batch) == Verdict::Append {
                state.producers.apply(&batch, boundary.offset, boundary.offset, 7);
            }
        }
    }
    state.producers.truncate(boundary.offset);
    state.producers.expire(5);
    state.producers.evict(1, i64::MAX);
    assert_eq!(state.producers.count(), state.producers.last_times_ms().count());
    assert!(state.stored.is_multiple_of(BLOCK_BYTES as u64) || state.tail.is_empty());
}
