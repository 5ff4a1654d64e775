//! Reading: from the arena without a copy, from the segment with a check.

use std::rc::Rc;

use bytes::Bytes;

use super::Partition;
use super::log::{Log, State};
use crate::base::buffer::{AlignedBuf, block_ceil, block_floor};
use crate::io::Env;
use crate::storage::cursor::Cursor;
use crate::storage::{LogSlice, ReadError};
use crate::wire::batch::{ScanOptions, StopReason, scan};

/// No batch on the disk is larger: the broker's frame limit is below it.
const BATCH_BYTES_MAX: usize = 256 << 20;
/// A cold read takes at least this much: a reader usually goes on.
const READ_BYTES_MIN: usize = 128 << 10;
/// A cold read takes at most this much at once, unless one batch is larger.
const READ_BYTES_MAX: usize = 1 << 20;
/// Places remembered where cold readers will go on.
const READERS_MAX: usize = 32;

/// What a cold read was told before it began, so that it needs the log no more.
struct ColdPlan<E: Env> {
    /// A batch boundary at or before the offset.
    at: Cursor,
    file: Option<E::File>,
    /// Bytes of the segment that lie in the file.
    stored: u64,
    /// Bytes behind them that are visible, from the arena.
    rest: Vec<u8>,
    /// Where the visible bytes of the segment end.
    limit: u64,
}

impl<E: Env> Partition<E> {
    /// Batches from the one that holds `offset` up to the high watermark, at most `bytes_max` bytes; with `whole_first` the
    /// first batch comes whole even if it alone is larger (KIP-74). At the high watermark: an empty slice.
    pub async fn read(
        self: &Rc<Self>,
        offset: i64,
        bytes_max: usize,
        whole_first: bool,
    ) -> Result<LogSlice, ReadError> {
        if let Some(answer) = self.read_tail(offset, bytes_max, whole_first) {
            return answer;
        }
        let at = match self.remembered_place(offset) {
            Some(at) => at,
            None => self.locate_cold(offset).await?,
        };
        let plan = self.plan_cold(at)?;
        let slice = self.read_cold(plan, offset, bytes_max, whole_first).await?;
        if offset < self.ends().log_start {
            return Err(ReadError::OutOfRange);
        }
        Ok(slice)
    }

    fn check_range(&self, log: &Log<E>, offset: i64) -> Result<(), ReadError> {
        match log.state {
            State::Serving => {}
            State::Closed => return Err(ReadError::Closed),
            State::Offline => return Err(ReadError::Offline),
            State::Damaged => return Err(ReadError::Corrupt),
        }
        let within = offset >= log.ends.log_start && offset <= log.visible.offset;
        if within { Ok(()) } else { Err(ReadError::OutOfRange) }
    }

    /// `None` when the offset is not in the arena.
    fn read_tail(&self, offset: i64, bytes_max: usize, whole_first: bool) -> Option<Result<LogSlice, ReadError>> {
        let log = self.log.borrow();
        if let Err(error) = self.check_range(&log, offset) {
            return Some(Err(error));
        }
        if offset == log.visible.offset {
            return Some(Ok(LogSlice::default()));
        }
        let at = log.tail.locate(offset)?;
        let limit = visible_end(&log, at.segment);
        let end = log.tail.batches_end(at, limit, bytes_max, whole_first);
        let pieces = log.tail.views(at.segment, at.position, end);
        Some(Ok(LogSlice {
            bytes: (end - at.position) as usize,
            pieces,
        }))
    }

    fn remembered_place(&self, offset: i64) -> Option<Cursor> {
        self.log
            .borrow()
            .readers
            .iter()
            .find(|place| place.offset == offset)
            .copied()
    }

    fn remember_place(&self, from: i64, place: Cursor) {
        let mut log = self.log.borrow_mut();
        log.readers.retain(|p| p.offset != from && p.offset != place.offset);
        if log.readers.len() == READERS_MAX {
            log.readers.pop_front();
        }
        log.readers.push_back(place);
    }

    fn plan_cold(&self, at: Cursor) -> Result<ColdPlan<E>, ReadError> {
        let log = self.log.borrow();
        let limit = visible_end(&log, at.segment);
        let open = log.open.iter().find(|s| s.base == at.segment);
        let Some(open) = open else {
            let bytes = log.closed_segment(at.segment).ok_or(ReadError::OutOfRange)?.bytes;
            return Ok(ColdPlan {
                at,
                file: None,
                stored: bytes,
                rest: Vec::new(),
                limit,
            });
        };
        let stored = open.stored.min(limit);
        let rest = if limit - stored > 0 && log.tail.holds(at.segment, stored) {
            log.tail
                .slices(at.segment, stored, limit.min(stored + READ_BYTES_MAX as u64))
                .concat()
        } else {
            Vec::new()
        };
        Ok(ColdPlan {
            at,
            file: Some(open.file.clone()),
            stored,
            rest,
            limit,
        })
    }

    async fn read_cold(
        &self,
        plan: ColdPlan<E>,
        offset: i64,
        bytes_max: usize,
        whole_first: bool,
    ) -> Result<LogSlice, ReadError> {
        let file = match &plan.file {
            Some(file) => file.clone(),
            None => self
                .directory
                .open_segment(&self.folder, plan.at.segment)
                .await
                .map_err(|e| self.read_failed(e))?,
        };
        let mut want = bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX) as u64;
        loop {
            let end = plan.limit.min(plan.at.position + want);
            let bytes = self.gather(&plan, &file, end).await?;
            let mut found = CutOut::new(offset, bytes_max, whole_first);
            let stop = found.walk(&bytes);
            match stop {
                Some(StopReason::Incomplete { bytes_needed }) if found.is_empty() && end < plan.limit => {
                    let needed = (found.position + bytes_needed) as u64;
                    want = needed.max(want * 2);
                    continue;
                }
                Some(StopReason::Incomplete { .. }) if !found.is_empty() || end < plan.limit => {}
                Some(reason) if found.is_empty() => {
                    let position = plan.at.position + found.position as u64;
                    let (folder, segment) = (self.folder.display(), plan.at.segment);
                    tracing::error!(%folder, segment, position, ?reason, "stored bytes do not verify");
                    return Err(ReadError::Corrupt);
                }
                _ => {}
            }
            if let Some((from, to, next_offset)) = found.range() {
                let place = Cursor {
                    segment: plan.at.segment,
                    position: plan.at.position + to as u64,
                    offset: next_offset,
                };
                if place.position < plan.limit {
                    self.remember_place(offset, place);
                }
                return Ok(LogSlice {
                    bytes: to - from,
                    pieces: vec![bytes.slice(from..to)],
                });
            }
            return Ok(LogSlice::default());
        }
    }

    /// Bytes `[at, end)` of the segment, from the file and behind it from the arena.
    async fn gather(&self, plan: &ColdPlan<E>, file: &E::File, end: u64) -> Result<Bytes, ReadError> {
        let start = block_floor(plan.at.position);
        let file_end = end.min(plan.stored);
        let skip = (plan.at.position - start) as usize;
        let mut buffer = self.directory.read_buffer((block_ceil(end) - start) as usize);
        if file_end > start {
            buffer = read_exactly(&self.env, file, buffer, start, (file_end - start) as usize)
                .await
                .map_err(|error| self.read_failed(error))?;
        }
        if end > plan.stored {
            let from = plan.at.position.saturating_sub(plan.stored) as usize;
            let rest = &plan.rest[from.min(plan.rest.len())..((end - plan.stored) as usize).min(plan.rest.len())];
            if file_end <= start {
                buffer.set_len(skip);
            }
            buffer.extend(rest);
        }
        Ok(buffer.freeze().slice(skip..))
    }

    pub(super) fn read_failed(&self, error: std::io::Error) -> ReadError {
        tracing::error!(folder = %self.folder.display(), %error, "a segment cannot be read");
        ReadError::Offline
    }

    /// Bytes that a `read` from `offset` could give, up to `enough` (for the long poll's min_bytes); cheap.
    pub fn readable_bytes(&self, offset: i64, enough: usize) -> usize {
        let log = self.log.borrow();
        if offset >= log.visible.offset {
            return 0;
        }
        match log.tail.locate(offset) {
            Some(at) if at.segment == log.visible.segment => {
                ((log.visible.position - at.position) as usize).min(enough)
            }
            // Older than the arena, or in an earlier segment: take it that there is enough.
            _ => enough,
        }
    }
}

/// Where the visible bytes of `segment` end.
fn visible_end<E: Env>(log: &Log<E>, segment: i64) -> u64 {
    if segment == log.visible.segment {
        log.visible.position
    } else {
        log.segment_end(segment)
    }
}

/// Reads `[position, position + bytes)`; the buffer holds just that.
async fn read_exactly<E: Env>(
    env: &E,
    file: &E::File,
    mut buffer: AlignedBuf,
    position: u64,
    bytes: usize,
) -> std::io::Result<AlignedBuf> {
    let result;
    (result, buffer) = env.read_at(file, buffer, position).await;
    let read = result?;
    if read < bytes {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            format!("{read} of {bytes} bytes at {position}"),
        ));
    }
    buffer.set_len(bytes);
    Ok(buffer)
}

/// Finds the whole batches to give out in bytes that begin at a boundary.
struct CutOut {
    offset: i64,
    bytes_max: usize,
    whole_first: bool,
    start: Option<usize>,
    end: usize,
    next_offset: i64,
    position: usize,
}

impl CutOut {
    fn new(offset: i64, bytes_max: usize, whole_first: bool) -> Self {
        Self {
            offset,
            bytes_max,
            whole_first,
            start: None,
            end: 0,
            next_offset: 0,
            position: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.start.is_none()
    }

    fn range(&self) -> Option<(usize, usize, i64)> {
        self.start.map(|start| (start, self.end, self.next_offset))
    }

    fn walk(&mut self, bytes: &[u8]) -> Option<StopReason> {
        for batch in scan(
            bytes,
            ScanOptions {
                crc_check: true,
                batch_bytes_max: BATCH_BYTES_MAX,
            },
        ) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(stop) => {
                    self.position = stop.position;
                    return Some(stop.reason);
                }
            };
            let end = batch.position + batch.bytes.len();
            self.position = end;
            if batch.header.next_offset() <= self.offset {
                continue;
            }
            let start = *self.start.get_or_insert(batch.position);
            let first = start == batch.position;
            if end - start > self.bytes_max && !(first && self.whole_first) {
                if first {
                    self.start = None;
                }
                return None;
            }
            (self.end, self.next_offset) = (end, batch.header.next_offset());
        }
        None
    }
}
