//! Look-ups: from an offset to a position, from a time to an offset.

use std::io;
use std::rc::Rc;

use super::Partition;
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES};
use crate::io::{Env, OpenOptions};
use crate::storage::cold::{Sums, crc_of_file};
use crate::storage::cursor::Cursor;
use crate::storage::growing::Growing;
use crate::storage::index::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry, last_where};
use crate::storage::segment::{ClosedSegment, path_of};
use crate::storage::{ReadError, TimedOffset};
use crate::wire::batch::{BatchHeader, DecodeLimits, max_timestamp_offset, offset_for_time};

/// Bytes read at once while looking for a batch.
const STEP_BYTES: usize = 256 << 10;

impl<E: Env> Partition<E> {
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
            let content = self
                .read_entries(&file, first * entry_bytes as u64, (count as usize) * entry_bytes)
                .await?;
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

    /// The largest timestamp of a closed segment, by the last entry of its time index; without one the segment counts as
    /// written just now.
    pub(super) async fn largest_time_of(&self, segment: i64) -> io::Result<i64> {
        let last = self
            .search_file(segment, "timeindex", None, TIME_ENTRY_BYTES, TimeEntry::decode, |_| {
                true
            })
            .await?;
        Ok(last.map_or_else(|| self.env.wall_ms(), |entry| entry.timestamp_ms))
    }

    async fn read_entries(&self, file: &E::File, position: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let start = position - position % BLOCK_BYTES as u64;
        let skip = (position - start) as usize;
        let (read, buffer) = self.env.read_at(file, AlignedBuf::new(skip + bytes), start).await;
        let end = read?.min(skip + bytes);
        Ok(buffer.get(skip..end).unwrap_or_default().to_vec())
    }

    /// The first record at or above the log start whose timestamp is at least `target_ms`, below the high watermark.
    pub async fn offset_for_time(self: &Rc<Self>, target_ms: i64) -> Result<Option<TimedOffset>, ReadError> {
        let bases: Vec<i64> = {
            let log = self.log.borrow();
            let closed = log.closed.iter().filter(|s| {
                s.largest_ms.is_none_or(|largest| largest >= target_ms) && s.next_offset > log.ends.log_start
            });
            closed.map(|s| s.base).chain(log.open.iter().map(|s| s.base)).collect()
        };
        for base in bases {
            let from = self.time_entry_before(base, target_ms).await?;
            let log_start = self.ends().log_start;
            if let Some(found) = self.first_at_or_after(from.max(log_start), base, target_ms).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// An offset of the segment before which no record is as late as `target_ms`; its base if the index is not to be
    /// trusted.
    async fn time_entry_before(&self, segment: i64, target_ms: i64) -> Result<i64, ReadError> {
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
        let cold = self
            .directory
            .cold_segment(&self.folder, plan.place())
            .await
            .map_err(failed)?;
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

    /// Walks the batches of `segment` from the one that holds `offset`.
    async fn first_at_or_after(
        self: &Rc<Self>,
        mut offset: i64,
        segment: i64,
        target_ms: i64,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let end = self.segment_limit(segment);
        while offset < end {
            let slice = self.read(offset, STEP_BYTES, true).await?;
            if slice.bytes == 0 {
                break;
            }
            let bytes = slice.pieces.concat();
            let mut rest = &bytes[..];
            while let Ok(header) = BatchHeader::parse(rest) {
                let (batch, after) = rest.split_at(header.total_bytes().min(rest.len()));
                if header.max_timestamp() >= target_ms {
                    let limits = DecodeLimits::default();
                    let found = offset_for_time(batch, target_ms, offset, &limits).map_err(|_| ReadError::Corrupt)?;
                    if let Some((timestamp_ms, offset)) = found {
                        let leader_epoch = header.partition_leader_epoch();
                        return Ok(Some(TimedOffset {
                            timestamp_ms,
                            offset,
                            leader_epoch,
                        }));
                    }
                }
                offset = header.next_offset();
                rest = after;
            }
            // Other tasks of the shard wait while a long log is walked.
            self.env.yield_now().await;
        }
        Ok(None)
    }

    fn segment_limit(&self, segment: i64) -> i64 {
        let log = self.log.borrow();
        let next = log.closed_segment(segment).map(|s| s.next_offset);
        let next = next.or_else(|| {
            log.open
                .iter()
                .find(|s| s.base == segment)
                .and_then(|s| s.end)
                .map(|e| e.offset)
        });
        next.unwrap_or(log.visible.offset).min(log.visible.offset)
    }

    /// The record with the largest timestamp (ListOffsets -3).
    pub async fn max_timestamp(self: &Rc<Self>) -> Result<Option<TimedOffset>, ReadError> {
        let (mut offset, end, mut largest) = {
            let log = self.log.borrow();
            // The closed segment with the largest timestamp is walked, and all that is not indexed yet.
            let closed = log
                .closed
                .iter()
                .filter(|s| s.next_offset > log.ends.log_start)
                .max_by_key(|s| s.largest_ms);
            let first_open = log.oldest_open();
            let in_build = first_open.build.largest;
            let from_open = if in_build.0 >= closed.and_then(|s| s.largest_ms).unwrap_or(-1) {
                None
            } else {
                closed
            };
            let start = from_open.map_or(first_open.base, |s| s.base).max(log.ends.log_start);
            (start, log.visible.offset, None::<TimedOffset>)
        };
        while offset < end {
            let slice = self.read(offset, STEP_BYTES, true).await?;
            if slice.bytes == 0 {
                break;
            }
            let bytes = slice.pieces.concat();
            let mut rest = &bytes[..];
            while let Ok(header) = BatchHeader::parse(rest) {
                let (batch, after) = rest.split_at(header.total_bytes().min(rest.len()));
                if largest.is_none_or(|l| header.max_timestamp() > l.timestamp_ms) {
                    let found =
                        max_timestamp_offset(batch, &DecodeLimits::default()).map_err(|_| ReadError::Corrupt)?;
                    if let Some((timestamp_ms, offset)) = found.filter(|f| largest.is_none_or(|l| f.0 > l.timestamp_ms))
                    {
                        largest = Some(TimedOffset {
                            timestamp_ms,
                            offset,
                            leader_epoch: header.partition_leader_epoch(),
                        });
                    }
                }
                offset = header.next_offset();
                rest = after;
            }
            self.env.yield_now().await;
        }
        Ok(largest)
    }
}
