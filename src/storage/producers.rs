//! The idempotence window (KIP-98): what each producer last appended to one partition. Pure.
//!
//! Invariants
//! 1. At most `KEPT` batches per producer and `PRODUCERS_MAX` producers per partition (`trim` evicts the longest idle). The
//!    partitions of a shard together have a bound too (`directory::room`).
//! 2. `apply` of a batch already known changes nothing, so a replay may begin anywhere below the end.

use std::collections::{BTreeMap, VecDeque};

use super::codec::{Fields, PutFields};
use crate::base::planted::{Bug, planted};
use crate::wire::batch::BatchHeader;

/// Batches remembered per producer: a client keeps at most five in flight.
pub const WINDOW: usize = 5;
/// Batches kept: after a power cut the newest may be gone from the log, and five that are there must be left.
const KEPT: usize = 2 * WINDOW;
/// Producers remembered per partition.
pub const PRODUCERS_MAX: usize = 10_000;

/// The part of a batch header that idempotence looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequenced {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
}

impl Sequenced {
    /// `None` for a batch without a producer id.
    pub fn of(header: &BatchHeader) -> Option<Self> {
        header.has_producer_id().then(|| Self {
            producer_id: header.producer_id(),
            epoch: header.producer_epoch(),
            first_sequence: header.base_sequence(),
            last_sequence: header.last_sequence(),
        })
    }
}

/// A batch in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remembered {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
    /// When it was appended, or a recovery found it, milliseconds since 1970.
    pub time_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    epoch: i16,
    batches: VecDeque<Remembered>,
}

/// What to do with a sequenced batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The next one: append it.
    Append,
    /// A retry of this batch: answer with its offsets.
    Duplicate(Remembered),
    OutOfOrder,
    StaleEpoch,
}

/// All producers of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Producers {
    entries: BTreeMap<i64, Entry>,
}

impl Entry {
    fn last_time_ms(&self) -> i64 {
        self.batches.back().map_or(i64::MIN, |batch| batch.time_ms)
    }
}

/// The time of the last among the `count` longest idle of `times_ms`; before all times when there are none.
pub fn evicted_until_ms(times_ms: &mut [i64], count: usize) -> i64 {
    match count.min(times_ms.len()).checked_sub(1) {
        Some(last) => *times_ms.select_nth_unstable(last).1,
        None => i64::MIN,
    }
}

fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

impl Producers {
    /// Decides about a batch. An unknown producer may begin with any sequence: its state may have expired (KIP-360).
    pub fn judge(&self, batch: &Sequenced) -> Verdict {
        let Some(entry) = self.entries.get(&batch.producer_id) else {
            return Verdict::Append;
        };
        if batch.epoch < entry.epoch {
            return Verdict::StaleEpoch;
        }
        if batch.epoch > entry.epoch {
            return if batch.first_sequence == 0 {
                Verdict::Append
            } else {
                Verdict::OutOfOrder
            };
        }
        let same = |b: &&Remembered| b.first_sequence == batch.first_sequence && b.last_sequence == batch.last_sequence;
        if let Some(duplicate) = entry
            .batches
            .iter()
            .rev()
            .take(WINDOW - usize::from(planted(Bug::WindowOfFour)))
            .find(same)
        {
            return Verdict::Duplicate(*duplicate);
        }
        match entry.batches.back() {
            Some(last) if next_sequence(last.last_sequence) == batch.first_sequence => Verdict::Append,
            Some(_) => Verdict::OutOfOrder,
            None => Verdict::Append,
        }
    }

    /// Remembers an appended batch.
    pub fn apply(&mut self, batch: &Sequenced, base_offset: i64, last_offset: i64, time_ms: i64) {
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| Entry {
            epoch: batch.epoch,
            batches: VecDeque::new(),
        });
        if entry.batches.back().is_some_and(|last| last.last_offset >= last_offset) {
            return;
        }
        if entry.epoch != batch.epoch {
            entry.epoch = batch.epoch;
            entry.batches.clear();
        }
        if entry.batches.len() == KEPT {
            entry.batches.pop_front();
        }
        let (first_sequence, last_sequence) = (batch.first_sequence, batch.last_sequence);
        entry.batches.push_back(Remembered {
            first_sequence,
            last_sequence,
            base_offset,
            last_offset,
            time_ms,
        });
        if self.entries.len() > PRODUCERS_MAX {
            self.trim(PRODUCERS_MAX - PRODUCERS_MAX / 10);
        }
    }

    /// Forgets what lies at or above `end`: those batches are not in the log.
    pub fn truncate(&mut self, end: i64) {
        self.entries.retain(|_, entry| {
            entry.batches.retain(|b| b.last_offset < end);
            !entry.batches.is_empty()
        });
    }

    /// Forgets producers whose last append was before `before_ms`.
    pub fn expire(&mut self, before_ms: i64) {
        self.entries
            .retain(|_, entry| entry.batches.back().is_some_and(|b| b.time_ms >= before_ms));
    }

    /// Producers remembered.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// When each of them last appended, in no order.
    pub fn last_times_ms(&self) -> impl Iterator<Item = i64> + '_ {
        self.entries.values().map(Entry::last_time_ms)
    }

    fn trim(&mut self, keep: usize) {
        let surplus = self.entries.len().saturating_sub(keep);
        let mut times: Vec<i64> = self.last_times_ms().collect();
        self.evict(surplus, evicted_until_ms(&mut times, surplus));
    }

    /// Forgets up to `count_max` producers whose last append was not after `until_ms`. How many those were.
    pub fn evict(&mut self, count_max: usize, until_ms: i64) -> usize {
        let mut evicted = 0;
        self.entries.retain(|_, entry| {
            let stays = evicted == count_max || entry.last_time_ms() > until_ms;
            evicted += usize::from(!stays);
            stays
        });
        evicted
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.entries.len() as u32);
        for (id, entry) in &self.entries {
            out.put_i64(*id);
            out.put_u16(entry.epoch as u16);
            out.put_u8(entry.batches.len() as u8);
            for batch in &entry.batches {
                out.put_i32(batch.first_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.base_offset);
                out.put_i64(batch.last_offset);
                out.put_i64(batch.time_ms);
            }
        }
    }

    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let count = fields.u32()?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let id = fields.i64()?;
            let epoch = fields.u16()? as i16;
            let batches = (0..fields.u8()?)
                .map(|_| Self::decode_batch(fields))
                .collect::<Option<VecDeque<_>>>()?;
            if batches.is_empty() || batches.len() > KEPT {
                return None;
            }
            entries.insert(id, Entry { epoch, batches });
        }
        Some(Self { entries })
    }

    fn decode_batch(fields: &mut Fields<'_>) -> Option<Remembered> {
        Some(Remembered {
            first_sequence: fields.i32()?,
            last_sequence: fields.i32()?,
            base_offset: fields.i64()?,
            last_offset: fields.i64()?,
            time_ms: fields.i64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, last: i32) -> Sequenced {
        Sequenced {
            producer_id: 7,
            epoch,
            first_sequence: first,
            last_sequence: last,
        }
    }

    fn with(batches: &[(i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        for (i, &(first, last)) in batches.iter().enumerate() {
            let sequenced = batch(0, first, last);
            assert_eq!(producers.judge(&sequenced), Verdict::Append);
            producers.apply(&sequenced, i as i64 * 10, i as i64 * 10 + 9, i as i64);
        }
        producers
    }

    #[test]
    fn five_batches_are_remembered_and_the_sixth_is_forgotten() {
        let producers = with(&[(0, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59)]);
        assert_eq!(producers.judge(&batch(0, 0, 9)), Verdict::OutOfOrder);
        for (i, first) in [10, 20, 30, 40, 50].into_iter().enumerate() {
            match producers.judge(&batch(0, first, first + 9)) {
                Verdict::Duplicate(b) => assert_eq!(b.base_offset, 10 + 10 * i as i64),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(producers.judge(&batch(0, 60, 60)), Verdict::Append);
        assert_eq!(producers.judge(&batch(0, 61, 61)), Verdict::OutOfOrder);
    }

    #[test]
    fn epochs_fence_and_restart_the_sequence() {
        let producers = with(&[(0, 9)]);
        assert_eq!(producers.judge(&batch(-1, 10, 10)), Verdict::StaleEpoch);
        assert_eq!(producers.judge(&batch(1, 0, 3)), Verdict::Append);
        assert_eq!(producers.judge(&batch(1, 10, 13)), Verdict::OutOfOrder);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let producers = with(&[(i32::MAX - 1, i32::MAX)]);
        assert_eq!(producers.judge(&batch(0, 0, 4)), Verdict::Append);
    }

    #[test]
    fn replay_and_truncation_leave_what_the_log_holds() {
        let mut producers = with(&[(0, 9), (10, 19), (20, 29)]);
        let before = producers.clone();
        producers.apply(&batch(0, 10, 19), 10, 19, 1);
        assert_eq!(producers, before);
        producers.truncate(20);
        assert_eq!(producers.judge(&batch(0, 20, 29)), Verdict::Append);
        producers.truncate(0);
        assert_eq!(producers, Producers::default());
    }

    #[test]
    fn state_survives_its_encoding_and_no_cut_of_it_panics() {
        let producers = with(&[(0, 9), (10, 19)]);
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert_eq!(Producers::decode(&mut Fields(&bytes)), Some(producers));
        for cut in 0..bytes.len() {
            assert_eq!(Producers::decode(&mut Fields(&bytes[..cut])), None);
        }
    }

    #[test]
    fn the_longest_idle_are_evicted_at_the_bound() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            let sequenced = Sequenced {
                producer_id: id,
                ..batch(0, 0, 0)
            };
            producers.apply(&sequenced, id, id, id);
        }
        assert_eq!(producers.entries.len(), PRODUCERS_MAX - PRODUCERS_MAX / 10);
        assert!(!producers.entries.contains_key(&0));
        assert!(producers.entries.contains_key(&(PRODUCERS_MAX as i64)));
    }
}
