//! Look-ups by time (ListOffsets): the first record that is not before a time, and the latest of all.
//!
//! A look-up goes by steps. Each reads some batches and judges them by their headers; a batch that may hold the answer is
//! looked into, up to a bound. What a step holds is given back before others run, and the steps of all look-ups share the
//! directory's room, so neither their number nor what they find takes more memory or time at once. Holders take turns at it.

use std::cmp::Reverse;
use std::rc::Rc;

use bytes::Bytes;

use super::Partition;
use crate::base::planted::{Bug, planted};
use crate::base::sync::{Holder, Permit};
use crate::io::Env;
use crate::storage::{ReadError, TimedOffset};
use crate::wire::batch::{BatchError, BatchHeader, DecodeLimits, RecordFault, max_timestamp_offset, offset_for_time};

/// Bytes read at once while looking for a batch.
const STEP_BYTES: usize = 256 << 10;
/// Decompressed bytes of one look into a batch; where a batch has more, its header is believed.
const DECODED_BYTES_MAX: u64 = 32 << 20;
/// Batches without a record as late as their header says: after so many a look-up believes the next header unseen.
const MISLED_MAX: usize = 8;

/// Closed segments in a row whose times nobody knows: so many are passed to find one behind them that tells.
const UNKNOWN_MAX: usize = 8;

/// A batch, and the room it takes of what look-ups share.
struct InHand {
    header: BatchHeader,
    bytes: Bytes,
    _step: Permit,
}

/// A part of the log and the largest timestamp in it; one that is not known counts as the latest possible.
struct Part {
    segment: i64,
    from: i64,
    end: i64,
    largest_ms: i64,
    is_closed: bool,
}

/// A batch by what its header says.
#[derive(Clone, Copy)]
struct Latest {
    timestamp_ms: i64,
    base_offset: i64,
}

impl<E: Env> Partition<E> {
    /// The first record at or above the log start whose timestamp is at least `target_ms`, below the high watermark. Of a
    /// batch that costs too much to look into, its first offset.
    pub async fn offset_for_time(
        self: &Rc<Self>,
        holder: Holder,
        target_ms: i64,
    ) -> Result<Option<TimedOffset>, ReadError> {
        self.check_first_segment()?;
        let mut bases = self.readable_segments();
        let closed = bases.len();
        bases.extend(self.log.borrow().open.iter().map(|s| s.base));
        let earlier = self.earlier_segments(&bases[..closed], target_ms).await?;
        let bases = bases.split_off(earlier);
        let mut misled = 0;
        let skipped = usize::from(planted(Bug::TimeLookupSkipsSegment) && bases.len() > 1);
        for base in bases.into_iter().skip(skipped) {
            let is_closed = self.log.borrow().closed_segment(base).is_some();
            if is_closed && self.largest_ms(base).await?.is_some_and(|largest| largest < target_ms) {
                continue;
            }
            let from = self.time_entry_before(base, target_ms).await?;
            let from = from.max(self.ends().log_start);
            if let Some(found) = self
                .first_at_or_after(holder, (from, base), target_ms, &mut misled)
                .await?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The closed segments above the log start.
    fn readable_segments(&self) -> Vec<i64> {
        let log = self.log.borrow();
        let first = log.closed.partition_point(|s| s.next_offset <= log.ends.log_start);
        log.closed.range(first..).map(|s| s.base).collect()
    }

    /// How many of the closed segments `bases` have no record as late as `target_ms`, as far as a few of them tell.
    async fn earlier_segments(&self, bases: &[i64], target_ms: i64) -> Result<usize, ReadError> {
        let (mut low, mut high) = (0, bases.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let (mut asked, mut largest) = (middle, self.largest_ms(bases[middle]).await?);
            // One whose times nobody knows may be told of by one behind it.
            while largest.is_none() && asked + 1 < high.min(middle + UNKNOWN_MAX) {
                asked += 1;
                largest = self.largest_ms(bases[asked]).await?;
            }
            match largest {
                Some(largest) if largest < target_ms => match self.is_latest_yet(bases[asked]) {
                    true => low = asked + 1,
                    // One before it may be later: they are asked one by one.
                    false => break,
                },
                _ => high = middle,
            }
        }
        Ok(low)
    }

    async fn largest_ms(&self, segment: i64) -> Result<Option<i64>, ReadError> {
        self.largest_time_of(segment)
            .await
            .map_err(|error| self.read_failed(error))
    }

    /// Walks the batches of `segment` from the one that holds `offset`.
    async fn first_at_or_after(
        self: &Rc<Self>,
        holder: Holder,
        (mut offset, segment): (i64, i64),
        target_ms: i64,
        misled: &mut usize,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let end = self.segment_limit(segment);
        loop {
            let wanted = |header: &BatchHeader| header.max_timestamp() >= target_ms;
            let Some(batch) = self.next_batch(holder, offset, end, wanted).await? else {
                return Ok(None);
            };
            let header = batch.header;
            let by_header = (header.max_timestamp(), header.base_offset().max(offset));
            let found = match *misled < MISLED_MAX {
                true => {
                    let look = |bytes: &[u8], limits: &_| offset_for_time(bytes, target_ms, offset, limits);
                    self.look_inside(holder, batch, look).await?.unwrap_or(Some(by_header))
                }
                false => Some(by_header),
            };
            if let Some((timestamp_ms, offset)) = found {
                return Ok(Some(TimedOffset {
                    timestamp_ms,
                    offset,
                    leader_epoch: header.partition_leader_epoch(),
                }));
            }
            *misled += 1;
            offset = header.next_offset();
        }
    }

    fn segment_limit(&self, segment: i64) -> i64 {
        let log = self.log.borrow();
        let end = log.end_of(segment).map_or(log.visible.offset, |end| end.offset);
        end.min(log.visible.offset)
    }

    /// The record with the largest timestamp (ListOffsets -3), the first of equals.
    pub async fn max_timestamp(self: &Rc<Self>, holder: Holder) -> Result<Option<TimedOffset>, ReadError> {
        self.check_first_segment()?;
        let mut latest: Option<Latest> = None;
        for part in self.parts_by_time().await? {
            let is_later = |latest: Latest| {
                (part.largest_ms, Reverse(part.from)) > (latest.timestamp_ms, Reverse(latest.base_offset))
            };
            if latest.is_none_or(is_later) {
                let found = self.latest_in(holder, &part).await?;
                latest = latest
                    .into_iter()
                    .chain(found)
                    .max_by_key(|l| (l.timestamp_ms, Reverse(l.base_offset)));
            }
        }
        let Some(latest) = latest else { return Ok(None) };
        let end = self.high_watermark();
        let Some(batch) = self
            .next_batch(holder, latest.base_offset.max(self.ends().log_start), end, |_| true)
            .await?
        else {
            return Ok(None);
        };
        let leader_epoch = batch.header.partition_leader_epoch();
        let by_header = (latest.timestamp_ms, latest.base_offset);
        let found = self
            .look_inside(holder, batch, max_timestamp_offset)
            .await?
            .unwrap_or(Some(by_header));
        Ok(found.map(|(timestamp_ms, offset)| TimedOffset {
            timestamp_ms,
            offset,
            leader_epoch,
        }))
    }

    /// The visible parts of the log, those with the latest records first.
    async fn parts_by_time(&self) -> Result<Vec<Part>, ReadError> {
        // Back to one that is later than all before it.
        let mut first = i64::MAX;
        for base in self.readable_segments().into_iter().rev() {
            self.largest_ms(base).await?;
            first = base;
            if self.is_latest_yet(base) {
                break;
            }
        }
        let log = self.log.borrow();
        let mut parts: Vec<Part> = log
            .closed
            .iter()
            .filter(|s| s.base >= first)
            .map(|s| Part {
                segment: s.base,
                from: s.base,
                end: s.next_offset,
                largest_ms: s.largest_ms.unwrap_or(i64::MAX),
                is_closed: true,
            })
            .collect();
        for open in &log.open {
            let part = |from, end, largest_ms| Part {
                segment: open.base,
                from,
                end,
                largest_ms,
                is_closed: false,
            };
            let (largest_ms, at) = open.build.largest;
            let from = if at < log.visible.offset { at } else { open.base };
            parts.push(part(from.max(open.base), open.built.offset, largest_ms));
            // Of what is not stored yet nothing is known.
            let end = open.end.map_or(i64::MAX, |end| end.offset);
            parts.push(part(open.built.offset, end, i64::MAX));
        }
        for part in &mut parts {
            part.from = part.from.max(log.ends.log_start);
            part.end = part.end.min(log.visible.offset);
        }
        parts.retain(|part| part.from < part.end && part.largest_ms >= 0);
        parts.sort_unstable_by_key(|part| (Reverse(part.largest_ms), part.from));
        Ok(parts)
    }

    /// The first batch of `part` with the largest timestamp, if any has one.
    async fn latest_in(self: &Rc<Self>, holder: Holder, part: &Part) -> Result<Option<Latest>, ReadError> {
        let from = match part.is_closed {
            // The last entry that is not later: none before it is later than its own.
            true => {
                self.time_entry_before(part.segment, part.largest_ms.saturating_add(1))
                    .await?
            }
            false => part.from,
        };
        let mut latest: Option<Latest> = None;
        self.next_batch(holder, from.max(part.from), part.end, |header| {
            let timestamp_ms = header.max_timestamp();
            if timestamp_ms > latest.map_or(-1, |l| l.timestamp_ms) {
                latest = Some(Latest {
                    timestamp_ms,
                    base_offset: header.base_offset(),
                });
            }
            timestamp_ms >= part.largest_ms
        })
        .await?;
        Ok(latest)
    }

    /// The first batch from the one that holds `offset` on, below `end`, that is `wanted`.
    async fn next_batch(
        self: &Rc<Self>,
        holder: Holder,
        mut offset: i64,
        end: i64,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<InHand>, ReadError> {
        while offset < end {
            let step = self.directory.reading().lookup_steps.acquire_for(holder, 1).await;
            let bytes = Bytes::from(self.read(offset, STEP_BYTES, true).await?.pieces.concat());
            let (began, mut position) = (offset, 0);
            while offset < end
                && let Ok(header) = BatchHeader::parse(&bytes[position..])
            {
                let next = bytes.len().min(position + header.total_bytes());
                if wanted(&header) {
                    let bytes = bytes.slice(position..next);
                    return Ok(Some(InHand {
                        header,
                        bytes,
                        _step: step,
                    }));
                }
                (offset, position) = (header.next_offset(), next);
            }
            if offset == began {
                return Ok(None);
            }
            drop((bytes, step));
            // Other tasks of the shard wait while a long log is walked.
            self.env.yield_now().await;
        }
        Ok(None)
    }

    /// Looks into a batch, then lets others run. `None`: it has more in it than one look may cost.
    async fn look_inside<T>(
        &self,
        holder: Holder,
        batch: InHand,
        look: impl FnOnce(&[u8], &DecodeLimits) -> Result<T, BatchError>,
    ) -> Result<Option<T>, ReadError> {
        let _turn = self.directory.reading().decode_turn.acquire_for(holder, 1).await;
        let limits = DecodeLimits {
            decompressed_bytes_max: DECODED_BYTES_MAX,
            ..DecodeLimits::default()
        };
        let found = look(&batch.bytes, &limits);
        drop(batch);
        self.env.yield_now().await;
        match found {
            Ok(found) => Ok(Some(found)),
            Err(BatchError::Record {
                fault: RecordFault::DecompressionLimit,
                ..
            }) => Ok(None),
            Err(_) => Err(ReadError::Corrupt),
        }
    }
}
