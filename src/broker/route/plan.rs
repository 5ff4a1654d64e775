//! A read of several partitions: what each gives, and what is read ahead of the request behind it.

use std::rc::Rc;

use super::{EpochEnd, PartitionError, ReadOutcome};
use crate::base::sync::{Permit, join_all, join_few};
use crate::io::Env;
use crate::storage::{LogSlice, Partition, ReadError, WantedBatches};

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

/// How much to read from a place: bytes, and whether the first batch comes whole.
type Part = (usize, bool);

type PlannedRead<E> = Result<(Place<E>, Option<Part>), ReadOutcome>;

/// What is to be read.
pub(super) struct Plan<E: Env> {
    reads: Vec<PlannedRead<E>>,
    /// Bytes that will come of it, but for a first batch that is larger than its place may give.
    pub bytes: u64,
    next: Vec<Place<E>>,
    is_long: bool,
}

/// How the bytes of an answer are divided among places in their order.
#[derive(Default)]
struct Division {
    left: usize,
    bytes: u64,
    parts: usize,
    /// As many places again, for which nothing is left: whoever asks for all of them begins with these next.
    next: usize,
    /// Places behind those.
    left_over: usize,
}

/// What a place gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Share {
    Part(Part),
    Nothing,
    /// The same, but it is one of the next.
    Next,
}

impl Division {
    fn of(bytes_max: usize) -> Self {
        Self {
            left: bytes_max,
            ..Self::default()
        }
    }

    /// The share of the next place that may give `bytes_max`; `readable` tells how much it has, as far as that matters.
    fn share(&mut self, bytes_max: usize, readable: impl FnOnce(usize) -> usize) -> Share {
        let is_over = self.left == 0 && self.bytes > 0;
        if is_over && self.next >= self.parts.min(NEXT_PLACES_MAX) {
            self.left_over += 1;
            return Share::Nothing;
        }
        match readable(self.left.max(1)) {
            0 => Share::Nothing,
            _ if is_over => {
                self.next += 1;
                Share::Next
            }
            readable => {
                let part = (bytes_max.min(self.left), self.bytes == 0);
                self.left = self.left.saturating_sub(readable);
                self.bytes += readable as u64;
                self.parts += 1;
                Share::Part(part)
            }
        }
    }

    /// Whether who asked is long in coming back to one of the places.
    fn is_long(&self) -> bool {
        self.left_over > LEFT_OVER_MAX
    }
}

impl<E: Env> Plan<E> {
    /// Divides `bytes_max` among the places in their order; the first that has anything gives its first batch whole (KIP-74).
    pub fn of(places: &[Result<Place<E>, ReadOutcome>], bytes_max: usize) -> Self {
        let mut division = Division::of(bytes_max);
        let mut next = Vec::new();
        let mut reads = Vec::with_capacity(places.len());
        for place in places {
            reads.push(place.clone().map(|place| {
                let share = division.share(place.bytes_max, |enough| place.readable_bytes(enough));
                if share == Share::Next {
                    next.push(place.clone());
                }
                let part = match share {
                    Share::Part(part) => Some(part),
                    Share::Nothing | Share::Next => None,
                };
                (place, part)
            }));
        }
        Self {
            reads,
            bytes: division.bytes,
            next,
            is_long: division.is_long(),
        }
    }

    /// Has the next places' bytes read, too, for who reads much at a time.
    pub fn read_ahead(&self) {
        if self.bytes >= LARGE_READ_BYTES_MIN {
            self.next
                .iter()
                .for_each(|place| place.partition.read_soon(place.offset));
        }
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
    let (place, part) = match read {
        Ok(planned) => planned,
        Err(outcome) => return outcome,
    };
    let result = match part {
        None => Ok(LogSlice::default()),
        Some((bytes_max, whole_first)) => {
            let wanted = WantedBatches::new(place.offset, bytes_max, whole_first);
            let wanted = if in_passing { wanted.in_passing() } else { wanted };
            place.partition.read_to_send(wanted).await
        }
    };
    partition_outcome(&place.partition, result, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shares of places that have so many bytes and may give 100 each, and whether there are many more.
    fn shares(bytes_max: usize, places: impl IntoIterator<Item = usize>) -> (Vec<Share>, bool) {
        let mut division = Division::of(bytes_max);
        let share = |bytes: usize| division.share(100, |enough| bytes.min(enough.min(100)));
        let shares = places.into_iter().map(share).collect();
        (shares, division.is_long())
    }

    #[test]
    fn bytes_are_divided_in_order_and_as_many_places_are_next() {
        use Share::*;
        assert_eq!(shares(100, []), (vec![], false));
        assert_eq!(shares(0, [0, 500, 500]).0, [Nothing, Part((0, true)), Next]);
        assert_eq!(
            shares(150, [0, 500, 30, 500, 0, 500, 7, 500, 500]).0,
            [
                Nothing,
                Part((100, true)),
                Part((50, false)),
                Part((20, false)),
                Nothing,
                Next,
                Next,
                Next,
                Nothing
            ]
        );
        let next = |count: usize| {
            let (all, _) = shares(100 * count, vec![100; 3 * count]);
            all.iter().filter(|share| **share == Next).count()
        };
        assert_eq!([1usize, 2, 20].map(next), [1, 2, NEXT_PLACES_MAX]);
    }

    #[test]
    fn who_leaves_many_places_over_is_long_in_coming_back() {
        let few = 2 + LEFT_OVER_MAX;
        assert_eq!(
            [few, few + 1].map(|count| shares(100, vec![1000; count]).1),
            [false, true]
        );
    }

    #[test]
    fn who_is_given_all_asks_no_more_than_he_has_to() {
        let mut division = Division::of(100);
        for place in 0..1000 {
            division.share(100, |_| if place < 2 { 100 } else { panic!("{place}") });
        }
    }
}
