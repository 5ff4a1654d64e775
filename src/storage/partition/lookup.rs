//! Look-ups in the companion files of a segment: from an offset to a position, from a time to an offset.

use std::io;

use super::Partition;
use crate::base::buffer::BLOCK_BYTES;
use crate::base::planted::{Bug, planted};
use crate::io::{Env, OpenOptions};
use crate::storage::ReadError;
use crate::storage::cold::{Sealing, Sums, crc_of_file, read_range, sealing_of};
use crate::storage::cursor::Cursor;
use crate::storage::growing::Growing;
use crate::storage::index::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry, last_where};
use crate::storage::segment::{ClosedSegment, path_of};

/// Segments that are asked for their largest timestamp when one ends. After a start the last one is read, and those before it while they
/// are not later than all others.
const ASKED_MAX: usize = 32;

impl<E: Env> Partition<E> {
    /// Whether the log's first segment is there: where it is missing, nobody can tell which records come first.
    pub(super) fn check_first_segment(&self) -> Result<(), ReadError> {
        let start = self.log.borrow().ends.log_start;
        self.plan_cold(start).map(drop).or_else(|error| match error {
            ReadError::OutOfRange => Ok(()),
            error => Err(error),
        })
    }

    /// A batch boundary at or before `offset` in a closed segment, as far as its index tells the truth.
    pub(super) async fn locate_cold(&self, segment: i64, offset: i64) -> Result<Cursor, ReadError> {
        let relative = (offset - segment) as u64;
        let below = |entry: &OffsetEntry| u64::from(entry.relative) <= relative;
        let found = self
            .search_file(segment, "index", None, OFFSET_ENTRY_BYTES, OffsetEntry::decode, below)
            .await
            .map_err(|error| self.read_failed(error))?;
        // An entry names the last offset of its batch; the batch's base is only known once it is read, and not needed:
        // whoever reads from here skips by the headers.
        Ok(found.map_or(Cursor::segment_start(segment), |entry| Cursor {
            segment,
            position: u64::from(entry.position),
            offset: segment,
        }))
    }

    /// Binary search by blocks in a companion file: the last entry for which `below` holds.
    async fn search_file<T>(
        &self,
        segment: i64,
        kind: &str,
        bytes: Option<u64>,
        entry_bytes: usize,
        decode: impl Fn(&[u8]) -> Option<T> + Copy,
        below: impl Fn(&T) -> bool + Copy,
    ) -> io::Result<Option<T>> {
        let file = match self
            .env
            .open(&path_of(&self.folder, segment, kind), OpenOptions::READ_DIRECT)
            .await
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => self.env.size(&file).await?,
        };
        let entries = bytes / entry_bytes as u64;
        let per_page = (BLOCK_BYTES / entry_bytes) as u64;
        let (mut low, mut high) = (0, entries.div_ceil(per_page));
        let mut found = None;
        while low < high {
            let page = (low + high) / 2;
            let first = page * per_page;
            let count = per_page.min(entries - first);
            let from = first * entry_bytes as u64;
            let content = read_range(&self.env, &file, from, from + count * entry_bytes as u64).await?;
            match last_where(&content, entry_bytes, decode, below) {
                Some(entry) => {
                    found = Some(entry);
                    low = page + 1;
                }
                None => high = page,
            }
        }
        Ok(found)
    }

    /// The largest timestamp of a closed segment: what its sums say, or the last entry of its time index where it has none.
    /// `None` where neither can be told. Read once per start.
    pub(super) async fn largest_time_of(&self, segment: i64) -> io::Result<Option<i64>> {
        let closed = self.log.borrow().closed_segment(segment);
        let known = closed.as_ref().and_then(|s| s.largest_ms);
        if known.is_some() {
            return Ok(known);
        }
        // Where the segment behind it is missing, its part of the log has no largest time: a walk through it meets the gap.
        let goes_on_at = |next_offset| {
            let is_next = closed.as_ref().is_none_or(|s| s.next_offset == next_offset);
            is_next || planted(Bug::TimeLookupOverGap)
        };
        let (largest_ms, is_latest_yet) =
            match sealing_of(&self.env, &self.folder, self.owner.partition, segment).await? {
                Sealing::Whole(trailer) if !goes_on_at(trailer.next_offset) => return Ok(None),
                Sealing::Whole(trailer) => {
                    let largest_ms = Some(trailer.largest_ms).filter(|largest| *largest >= 0);
                    (largest_ms, trailer.is_latest_yet)
                }
                Sealing::None => (self.last_time_entry(segment).await?, false),
                Sealing::Damaged => (None, false),
            };
        self.note_largest_time(segment, largest_ms, is_latest_yet);
        Ok(largest_ms)
    }

    pub(super) fn note_largest_time(&self, segment: i64, largest_ms: Option<i64>, is_latest_yet: bool) {
        let mut log = self.log.borrow_mut();
        if let Some(closed) = log.closed_segment_mut(segment).filter(|s| s.largest_ms.is_none()) {
            closed.largest_ms = largest_ms;
            closed.is_latest_yet = is_latest_yet && largest_ms.is_some();
        }
    }

    /// Whether a closed segment is known to have a timestamp larger than any before it.
    pub(super) fn is_latest_yet(&self, segment: i64) -> bool {
        let closed = self.log.borrow().closed_segment(segment);
        closed.is_some_and(|s| s.is_latest_yet)
    }

    /// The largest timestamp of all closed segments, if a few of the last ones tell it.
    pub(super) async fn latest_closed_ms(&self) -> Option<i64> {
        let last: Vec<i64> = {
            let log = self.log.borrow();
            log.closed.iter().rev().take(ASKED_MAX + 1).map(|s| s.base).collect()
        };
        let mut latest = i64::MIN;
        for (asked, base) in last.into_iter().enumerate() {
            if asked == ASKED_MAX {
                return None;
            }
            // What cannot be read is not known.
            latest = latest.max(self.largest_time_of(base).await.ok()??);
            if self.is_latest_yet(base) {
                break;
            }
        }
        Some(latest)
    }

    /// The timestamp in the last entry of the time index.
    pub(super) async fn last_time_entry(&self, segment: i64) -> io::Result<Option<i64>> {
        let last = self
            .search_file(segment, "timeindex", None, TIME_ENTRY_BYTES, TimeEntry::decode, |_| {
                true
            })
            .await?;
        Ok(last.map(|entry| entry.timestamp_ms))
    }

    /// An offset of the segment before which no record is as late as `target_ms`; its base if the index is not to be
    /// trusted.
    pub(super) async fn time_entry_before(&self, segment: i64, target_ms: i64) -> Result<i64, ReadError> {
        let (growing, closed) = {
            let log = self.log.borrow();
            let open = log.open.iter().find(|s| s.base == segment);
            (open.map(|s| s.build.times.clone()), log.closed_segment(segment))
        };
        let stored = growing.as_ref().map(Growing::stored);
        let below = |entry: &TimeEntry| entry.timestamp_ms < target_ms;
        // Entries of 12 bytes may straddle the end of what is stored: the rest may begin inside one.
        let rest = growing.as_ref().map(|times| {
            let skip = times.stored().next_multiple_of(TIME_ENTRY_BYTES as u64) - times.stored();
            times.rest().get(skip as usize..).unwrap_or_default()
        });
        let mut found = rest.and_then(|rest| last_where(rest, TIME_ENTRY_BYTES, TimeEntry::decode, below));
        if found.is_none() && stored != Some(0) {
            if !self.times_verify(segment, growing.as_ref(), closed).await? {
                return Ok(segment);
            }
            found = self
                .search_file(segment, "timeindex", stored, TIME_ENTRY_BYTES, TimeEntry::decode, below)
                .await
                .map_err(|error| self.read_failed(error))?;
        }
        let end = closed.map_or(i64::MAX, |closed| closed.next_offset);
        let offset = found.map_or(segment, |entry| segment + i64::from(entry.relative));
        Ok(if offset < end { offset } else { segment })
    }

    /// Whether the stored part of a `.timeindex` is what was written; looked at once per length and open descriptor.
    async fn times_verify(
        &self,
        base: i64,
        growing: Option<&Growing>,
        closed: Option<ClosedSegment>,
    ) -> Result<bool, ReadError> {
        let Ok(plan) = self.plan_cold(base) else {
            return Ok(false);
        };
        let failed = |error| self.read_failed(error);
        let cold = self.cold_segment(plan.place()).await?;
        let trailer = match &cold.sums {
            Sums::Present(sums) => sums.trailer,
            _ => None,
        };
        let stored = growing.map(Growing::stored);
        if closed.is_some() && matches!(cold.sums, Sums::Absent)
            || (stored.is_some() && cold.times_checked.get() == stored)
        {
            return Ok(true);
        }
        if let Some(good) = cold.times_good.get().filter(|_| closed.is_some()) {
            return Ok(good);
        }
        let path = path_of(&self.folder, base, "timeindex");
        let (file_crc, bytes) = crc_of_file(&self.env, &path, stored).await.map_err(failed)?;
        let good = match growing {
            Some(times) => bytes == times.stored() && crc32c::crc32c_append(file_crc, times.rest()) == times.crc(),
            None => trailer.is_some_and(|trailer| trailer.times_crc == file_crc),
        };
        if !good {
            let file = path.display();
            tracing::error!(%file, "a time index does not verify: look-ups by time read the segment from its beginning");
        }
        cold.times_checked.set(stored.filter(|_| good));
        cold.times_good.set(closed.map(|_| good));
        Ok(good)
    }
}
