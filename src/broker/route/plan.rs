//! A read of several partitions: what each gives, and what is read ahead of the request behind it.

use std::rc::Rc;

use super::{EpochEnd, PartitionError, ReadOutcome};
use crate::base::sync::{Permit, join_all, join_few};
use crate::io::Env;
use crate::storage::{LogSlice, Partition, ReadError};

/// Places whose bytes are read ahead of the request that will ask for them.
const NEXT_PLACES_MAX: usize = 4;
/// That is for who reads much at a time.
const LARGE_READ_BYTES_MIN: u64 = 512 << 10;
/// Whoever leaves more places over is long in coming back to one.
const LEFT_OVER_MAX: usize = 64;

/// A partition, and what is wanted of it.
#[derive(Clone)]
pub(super) struct Place<E: Env> {
    pub partition: Rc<Partition<E>>,
    pub offset: i64,
    pub bytes_max: usize,
}

impl<E: Env> Place<E> {
    pub fn readable_bytes(&self, enough: usize) -> usize {
        self.partition.readable_bytes(self.offset, enough.min(self.bytes_max))
    }
}

pub(super) fn partition_outcome<E: Env>(
    partition: &Partition<E>,
    result: Result<LogSlice, ReadError>,
    diverging: Option<EpochEnd>,
) -> ReadOutcome {
    ReadOutcome {
        result: result.map_err(PartitionError::Read),
        high_watermark: partition.high_watermark(),
        log_start: partition.ends().log_start,
        diverging,
    }
}

/// A place and how much to read from it: bytes, and whether the first batch comes whole.
type PlannedRead<E> = Result<(Place<E>, Option<(usize, bool)>), ReadOutcome>;

/// What is to be read.
pub(super) struct Plan<E: Env> {
    reads: Vec<PlannedRead<E>>,
    /// Bytes that will come of it, but for a first batch that is larger than its place may give.
    pub bytes: u64,
    /// As many places again, for which nothing is left: whoever asks for all of them begins with these next.
    next: Vec<Place<E>>,
    /// There are many more behind those.
    is_long: bool,
}

impl<E: Env> Plan<E> {
    /// Divides `bytes_max` among the places in their order; the first that has anything gives its first batch whole (KIP-74).
    pub fn of(places: &[Result<Place<E>, ReadOutcome>], bytes_max: usize) -> Self {
        let (mut left, mut bytes, mut count) = (bytes_max, 0, 0);
        let (mut next, mut left_over) = (Vec::new(), 0);
        let mut reads = Vec::with_capacity(places.len());
        for place in places {
            reads.push(place.clone().map(|place| {
                let is_over = left == 0 && bytes > 0;
                if is_over && next.len() >= count.min(NEXT_PLACES_MAX) {
                    left_over += 1;
                    return (place, None);
                }
                let readable = place.readable_bytes(left.max(1));
                if is_over && readable > 0 {
                    next.push(place.clone());
                }
                if is_over || readable == 0 {
                    return (place, None);
                }
                let read = (place.bytes_max.min(left), bytes == 0);
                left = left.saturating_sub(readable);
                bytes += readable as u64;
                count += 1;
                (place, Some(read))
            }));
        }
        Self {
            reads,
            bytes,
            next,
            is_long: left_over > LEFT_OVER_MAX,
        }
    }

    /// Has the next places' bytes read, too.
    pub fn read_ahead(&self) {
        let next = self.next.iter().filter(|_| self.bytes >= LARGE_READ_BYTES_MIN);
        next.for_each(|place| place.partition.read_soon(place.offset));
    }

    /// Reads what was planned; `held` is made what came of it. A first batch that comes whole is more than the plan says.
    pub async fn carry_out(self, reads_max: usize, mut held: Permit) -> (Vec<ReadOutcome>, Permit) {
        let is_few = self.reads.len() <= reads_max;
        let reads = self.reads.into_iter().map(|read| read_place(read, self.is_long));
        let outcomes = match is_few {
            true => join_all(reads.collect()).await,
            false => join_few(reads_max, reads).await,
        };
        held.resize(outcomes.iter().map(|outcome| outcome.bytes() as u64).sum());
        (outcomes, held)
    }
}

async fn read_place<E: Env>(read: PlannedRead<E>, in_passing: bool) -> ReadOutcome {
    match read {
        Err(outcome) => outcome,
        Ok((place, None)) => partition_outcome(&place.partition, Ok(LogSlice::default()), None),
        Ok((place, Some((bytes_max, whole_first)))) => {
            let Place { partition, offset, .. } = place;
            let result = match in_passing {
                true => partition.read_to_send_in_passing(offset, bytes_max, whole_first).await,
                false => partition.read_to_send(offset, bytes_max, whole_first).await,
            };
            partition_outcome(&partition, result, None)
        }
    }
}
