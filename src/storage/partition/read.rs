//! Reading: from the arena without a copy of what is large, from the segment with a check.

use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::Partition;
use super::cut_out::{CutOut, cut};
use super::log::{Log, State};
use super::wanted::WantedBatches;
use crate::base::buffer::{AlignedBuf, block_ceil, block_floor};
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, planted};
use crate::io::{Env, read_up_to};
use crate::storage::ahead::Batches;
use crate::storage::build::SegmentIdentity;
use crate::storage::cold::{ColdSegment, FoundRows, SegmentPlace, Sums, SumsFile};
use crate::storage::cursor::Cursor;
use crate::storage::segment::path_of;
use crate::storage::sums::{Row, decode_rows, rows_from};
use crate::storage::warm::{RowsId, Through};
use crate::storage::{LogSlice, ReadError};
use crate::wire::batch::StopReason;

/// Places remembered where cold readers will go on.
const READERS_MAX: usize = 32;

/// What a cold read was told before it began, so that it needs the log no more.
pub(super) struct ColdPlan<E: Env> {
    place: SegmentPlace,
    /// Of a segment that still grows: what its files lack.
    growing: Option<Growing<E>>,
    /// Where the visible bytes of the segment end.
    limit: u64,
}

struct Growing<E: Env> {
    file: E::File,
    /// Rows of the sums that are not in their file.
    rows: Vec<u8>,
    /// Bytes of the segment that its file has.
    stored: u64,
    /// Those behind them that the rows cover: less than a block, and only until the first append after a start.
    unstored: Vec<u8>,
}

impl<E: Env> Partition<E> {
    /// What is wanted (`WantedBatches::new`), up to the high watermark. There: an empty slice.
    pub async fn read(
        self: &Rc<Self>,
        offset: i64,
        bytes_max: usize,
        whole_first: bool,
    ) -> Result<LogSlice, ReadError> {
        let wanted = WantedBatches::new(offset, bytes_max, whole_first);
        match self.read_tail(wanted) {
            Some(answer) => answer,
            None => self.read_stored(wanted).await,
        }
    }

    /// The same for somebody who has no use for the bytes but to send them: they may come pinned.
    pub async fn read_to_send(self: &Rc<Self>, wanted: WantedBatches) -> Result<LogSlice, ReadError> {
        if let Some(answer) = self.read_tail(wanted) {
            return answer;
        }
        match self.read_pinned(wanted).await {
            Some(slice) => Ok(slice),
            None => self.read_stored(wanted).await,
        }
    }

    async fn read_stored(self: &Rc<Self>, wanted: WantedBatches) -> Result<LogSlice, ReadError> {
        mark(Mark::ColdRead);
        let read = match self.read_ahead(wanted).await {
            Some(bytes) => Ok(bytes),
            None => self.read_and_go_on(wanted).await,
        };
        // Retention may have deleted the segment meanwhile, whatever that made of the read.
        if wanted.offset < self.ends().log_start {
            return Err(ReadError::OutOfRange);
        }
        let bytes = read?;
        Ok(LogSlice {
            bytes: bytes.len(),
            pieces: (!bytes.is_empty()).then_some(bytes).into_iter().collect(),
            ..LogSlice::default()
        })
    }

    fn check_range(&self, log: &Log<E>, offset: i64) -> Result<(), ReadError> {
        match log.state {
            State::Serving | State::Stopping => {}
            State::Closed => return Err(ReadError::Closed),
            State::Offline => return Err(ReadError::Offline),
            State::Damaged => return Err(ReadError::Corrupt),
        }
        let within = offset >= log.ends.log_start && offset <= log.visible.offset;
        if within { Ok(()) } else { Err(ReadError::OutOfRange) }
    }

    /// `None` when the offset is not in the arena.
    fn read_tail(&self, wanted: WantedBatches) -> Option<Result<LogSlice, ReadError>> {
        let (log, offset) = (self.log.borrow(), wanted.offset);
        if let Err(error) = self.check_range(&log, offset) {
            return Some(Err(error));
        }
        if offset == log.visible.offset {
            return Some(Ok(LogSlice::default()));
        }
        let at = log.tail.locate(offset)?;
        let limit = visible_end(&log, at.segment);
        let end = log.tail.batches_end(at, limit, wanted.bytes_max, wanted.whole_first);
        let pieces = log.tail.parts(at.segment, at.position, end);
        Some(Ok(LogSlice {
            bytes: (end - at.position) as usize,
            pieces,
            ..LogSlice::default()
        }))
    }

    pub(super) fn remembered_place(&self, offset: i64) -> Option<Cursor> {
        self.log
            .borrow()
            .readers
            .iter()
            .find(|place| place.offset == offset)
            .copied()
    }

    /// Notes where a reader of `segment` that began at `from` goes on: at that position and offset.
    pub(super) fn remember(&self, segment: i64, from: i64, (position, offset): (u64, i64)) {
        let mut log = self.log.borrow_mut();
        log.readers.retain(|p| p.offset != from && p.offset != offset);
        if log.readers.len() == READERS_MAX {
            log.readers.pop_front();
        }
        log.readers.push_back(Cursor {
            segment,
            position,
            offset,
        });
    }

    pub(super) async fn read_cold(&self, wanted: WantedBatches) -> Result<Batches, ReadError> {
        let plan = self.plan_cold(wanted.offset)?;
        let segment = self.cold_segment(&plan.place).await?;
        match &segment.sums {
            Sums::Present(sums) => {
                let read = self.read_rows(&plan, &segment, Some(sums), wanted).await;
                if let Err(ReadError::Corrupt) = read {
                    sums.forget_rows();
                }
                read
            }
            Sums::Absent if plan.growing.is_some() => self.read_rows(&plan, &segment, None, wanted).await,
            Sums::Absent => self.read_bare(&plan, plan.file(&segment), wanted).await,
            Sums::Damaged(path) => {
                if self.complains_at(plan.place.base, 0) {
                    let file = path.display();
                    tracing::error!(%file, "the sums of a segment are unreadable: nothing of it is served (without the file its batches are served with their own check sums alone)");
                }
                Err(ReadError::Corrupt)
            }
        }
    }

    /// A segment's descriptors. None are kept of one that was deleted meanwhile: they would keep its space.
    pub(super) async fn cold_segment(&self, place: &SegmentPlace) -> Result<Rc<ColdSegment<E>>, ReadError> {
        let reading = self.directory.reading();
        let opened = reading.segment(&self.env, &self.folder, place).await;
        let (state, log_start) = {
            let log = self.log.borrow();
            (log.state, log.ends.log_start)
        };
        let deleted = match state {
            State::Closed => Some(ReadError::Closed),
            _ => (place.next_offset <= log_start).then_some(ReadError::OutOfRange),
        };
        if let Some(deleted) = deleted {
            reading.forget_segment(self.id(), place.base);
            return Err(deleted);
        }
        opened.map_err(|error| self.read_failed(error))
    }

    pub(super) fn plan_cold(&self, offset: i64) -> Result<ColdPlan<E>, ReadError> {
        let log = self.log.borrow();
        let Some(base) = log.segment_of(offset) else {
            return Err(self.lacks_segment(&log, offset));
        };
        let partition = self.owner.partition;
        let limit = visible_end(&log, base);
        if let Some(closed) = log.closed_segment(base) {
            let place = SegmentPlace {
                partition,
                base,
                next_offset: closed.next_offset,
                log_bytes: closed.bytes,
                growing: None,
            };
            return Ok(ColdPlan {
                place,
                growing: None,
                limit,
            });
        }
        let open = log.open.iter().find(|s| s.base == base).ok_or(ReadError::OutOfRange)?;
        let built = open.built;
        let unstored = log.tail.slices(base, open.stored, built.position.max(open.stored));
        let growing = Growing {
            file: open.file.clone(),
            rows: open.build.unstored_rows(&built),
            stored: open.stored,
            unstored: unstored.concat(),
        };
        let place = SegmentPlace {
            partition,
            base,
            next_offset: built.offset,
            log_bytes: built.position,
            growing: Some((open.build.identity, open.build.stored_rows())),
        };
        Ok(ColdPlan {
            place,
            growing: Some(growing),
            limit,
        })
    }

    /// Reads whole rows of the sums and verifies them.
    async fn read_rows(
        &self,
        plan: &ColdPlan<E>,
        segment: &ColdSegment<E>,
        sums: Option<&SumsFile<E>>,
        wanted: WantedBatches,
    ) -> Result<Batches, ReadError> {
        let found = self.find_rows(plan, sums, wanted.offset).await;
        let found = found.map_err(|error| self.read_failed(error))?;
        let (Some(FoundRows { id, rows }), Some(identity)) = (found, plan.identity(sums)) else {
            let ended = sums.and_then(|sums| sums.trailer).map(|trailer| trailer.next_offset);
            if let Some(next) = ended.filter(|next| *next <= wanted.offset) {
                return Err(self.missing(next));
            }
            let position = plan.place.log_bytes;
            return Err(self.damaged(
                plan,
                position,
                format!("no row of the sums holds offset {}", wanted.offset),
            ));
        };
        let first = rows[0];
        let within = |row: &&Row| row.end - first.start <= wanted.read_bytes();
        let count = rows.iter().take_while(within).count().max(1);
        let (rows, start) = (&rows[..count], first.start);
        let (bytes, good, through) = self.gather_verified(plan, segment, &identity, rows).await?;
        segment.warmth.note(id, start..start + good as u64, through);
        if let Some(row) = rows.iter().find(|row| row.end > start + good as u64) {
            let what = format!("bytes up to {} do not match the sums", row.end);
            let error = self.damaged(plan, row.start, what);
            if row.first_offset <= wanted.offset {
                return Err(error);
            }
        }
        let mut found = CutOut::new(wanted, Some(first.first_offset));
        let visible = plan.limit.saturating_sub(start).min(good as u64) as usize;
        let stop = found.walk(&bytes[..visible]);
        match found.range() {
            Some((from, to, next_offset)) => {
                self.remember(plan.place.base, wanted.offset, (start + to as u64, next_offset));
                Ok(cut(&bytes, from, to, next_offset))
            }
            None if found.is_past_bytes_max => Ok(wanted.none()),
            None => {
                let position = start + found.position as u64;
                Err(self.damaged(
                    plan,
                    position,
                    format!("no batch holds offset {} ({stop:?})", wanted.offset),
                ))
            }
        }
    }

    /// The bytes of rows, how many of them match the sums, and how they came. What does not match as the page cache has it is read from
    /// the device.
    async fn gather_verified(
        &self,
        plan: &ColdPlan<E>,
        segment: &ColdSegment<E>,
        identity: &SegmentIdentity,
        rows: &[Row],
    ) -> Result<(Bytes, usize, Through), ReadError> {
        let (start, end) = (rows[0].start, rows[rows.len() - 1].end);
        let reading = self.directory.reading();
        if let Some(file) = self.through_cache(plan, segment, start..end).await {
            reading.turn(&self.env).await;
            let bytes = self.gather(plan, &file, start, end).await?;
            reading.turn(&self.env).await;
            let good = matching(identity, rows, &bytes);
            if good == bytes.len() {
                return Ok((bytes, good, Through::Cache));
            }
            segment.warmth.has_gone();
        }
        let bytes = self.gather(plan, plan.file(segment), start, end).await?;
        reading.turn(&self.env).await;
        let good = matching(identity, rows, &bytes);
        Ok((bytes, good, Through::Direct))
    }

    pub(super) async fn find_rows(
        &self,
        plan: &ColdPlan<E>,
        sums: Option<&SumsFile<E>>,
        offset: i64,
    ) -> io::Result<Option<FoundRows>> {
        let place = &plan.place;
        if let Some(growing) = &plan.growing {
            let last = match sums {
                Some(sums) => sums.last_row(&self.env, place).await?,
                None => None,
            };
            if last.is_none() && place.growing.is_some_and(|(_, rows)| rows > 0) {
                return Ok(None);
            }
            let before = last.map_or((0, place.base), |row| (row.end, row.next_offset));
            if offset >= before.1 {
                let rows = decode_rows(place.base, before, &growing.rows, place.log_bytes);
                return Ok(FoundRows::of(RowsId::in_memory(before), rows_from(&rows, offset)));
            }
        }
        match sums {
            Some(sums) => sums.find(&self.env, place, offset).await,
            None => Ok(None),
        }
    }

    /// Reads a segment without sums, from what its index says or from its beginning.
    async fn read_bare(&self, plan: &ColdPlan<E>, file: &E::File, wanted: WantedBatches) -> Result<Batches, ReadError> {
        let base = plan.place.base;
        let mut at = match self.remembered_place(wanted.offset) {
            Some(at) if at.segment == base => at,
            _ => self.locate_cold(base, wanted.offset).await?,
        };
        if at.position >= plan.limit {
            at = Cursor::segment_start(base);
        }
        let mut indexed = at.position > 0;
        let mut want = wanted.read_bytes();
        loop {
            let end = plan.limit.min(at.position + want);
            let bytes = self.gather(plan, file, at.position, end).await?;
            let mut found = CutOut::new(wanted, None);
            let stop = found.walk(&bytes);
            if indexed && found.first_base.is_none_or(|first| first > wanted.offset) && !is_incomplete(stop) {
                if self.complains_at(base, at.position) {
                    tracing::error!(folder = %self.folder.display(), segment = base, position = at.position, "an index entry leads astray: the segment is read from its beginning");
                }
                (at, indexed) = (Cursor::segment_start(base), false);
                continue;
            }
            if let Some((from, to, next_offset)) = found.range() {
                self.remember(base, wanted.offset, (at.position + to as u64, next_offset));
                return Ok(cut(&bytes, from, to, next_offset));
            }
            if found.is_past_bytes_max {
                return Ok(wanted.none());
            }
            let more = end < plan.limit;
            match stop {
                None | Some(StopReason::Incomplete { .. }) if more && found.position > 0 => {
                    at.position += found.position as u64;
                    indexed = false;
                }
                Some(StopReason::Incomplete { bytes_needed }) if more => want = (bytes_needed as u64).max(want * 2),
                _ => {
                    let position = at.position + found.position as u64;
                    return Err(self.damaged(
                        plan,
                        position,
                        format!("no batch holds offset {} ({stop:?})", wanted.offset),
                    ));
                }
            }
            self.env.yield_now().await;
        }
    }

    /// Bytes `[start, end)` of the segment, from the file and what it lacks.
    async fn gather(&self, plan: &ColdPlan<E>, file: &E::File, start: u64, end: u64) -> Result<Bytes, ReadError> {
        let stored = plan.stored().unwrap_or(end);
        let from = block_floor(start);
        let skip = (start - from) as usize;
        let file_end = end.min(stored);
        let budget = &self.directory.reading().room;
        let _turn = budget.acquire((block_ceil(end) - from).min(budget.limit())).await;
        let mut buffer = self.directory.reading().buffer((block_ceil(end) - from) as usize);
        if file_end > from {
            let read = read_exactly(&self.env, file, buffer, from, (file_end - from) as usize).await;
            buffer = read.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged(plan, start, error.to_string()),
                _ => self.read_failed(error),
            })?;
        }
        if let Some(growing) = plan.growing.as_ref().filter(|_| end > stored) {
            let lacking = growing
                .unstored
                .get(from.saturating_sub(stored) as usize..(end - stored) as usize);
            buffer.extend(lacking.unwrap_or_default());
        }
        if buffer.len() < (end - from) as usize {
            return Err(self.damaged(plan, start, "the log is shorter than its rows".into()));
        }
        Ok(buffer.freeze().slice(skip..))
    }

    /// No segment begins at or below `offset`, which may have been deleted meanwhile.
    fn lacks_segment(&self, log: &Log<E>, offset: i64) -> ReadError {
        match offset < log.ends.log_start {
            true => ReadError::OutOfRange,
            false => self.missing(log.ends.log_start),
        }
    }

    /// The segment that began at `base` is not there.
    fn missing(&self, base: i64) -> ReadError {
        if self.complains_at(base, 0) {
            let file = path_of(&self.folder, base, "log");
            tracing::error!(file = %file.display(), "a segment is missing");
        }
        ReadError::Corrupt
    }

    fn damaged(&self, plan: &ColdPlan<E>, position: u64, what: String) -> ReadError {
        if self.complains_at(plan.place.base, position) {
            let file = path_of(&self.folder, plan.place.base, "log");
            tracing::error!(file = %file.display(), position, what, "stored bytes do not verify");
        }
        ReadError::Corrupt
    }

    pub(super) fn read_failed(&self, error: io::Error) -> ReadError {
        if self.complains_at(-1, 0) {
            tracing::error!(folder = %self.folder.display(), %error, "a segment cannot be read");
        }
        ReadError::Offline
    }

    /// Whether what a read met at that place gets a line in the log.
    fn complains_at(&self, segment: i64, position: u64) -> bool {
        self.complaints.is_due(self.env.now(), (segment, position))
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

/// Bytes of the first rows that match the sums.
fn matching(identity: &SegmentIdentity, rows: &[Row], bytes: &[u8]) -> usize {
    let mut good = 0;
    for row in rows {
        let covered = &bytes[good..good + row.bytes() as usize];
        if !row.verifies(identity, covered) && !planted(Bug::ColdReadUnchecked) {
            break;
        }
        good += covered.len();
    }
    good
}

fn is_incomplete(stop: Option<StopReason>) -> bool {
    matches!(stop, Some(StopReason::Incomplete { .. }))
}

impl<E: Env> ColdPlan<E> {
    pub(super) fn place(&self) -> &SegmentPlace {
        &self.place
    }

    /// Where the visible bytes of the segment end.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that the file of a segment that still grows has.
    pub(super) fn stored(&self) -> Option<u64> {
        self.growing.as_ref().map(|growing| growing.stored)
    }

    fn file<'p>(&'p self, segment: &'p ColdSegment<E>) -> &'p E::File {
        self.growing.as_ref().map_or(&segment.log, |growing| &growing.file)
    }

    fn identity(&self, sums: Option<&SumsFile<E>>) -> Option<SegmentIdentity> {
        let growing = self.place.growing.map(|(identity, _)| identity);
        growing.or_else(|| sums.map(|sums| sums.identity))
    }
}

/// Where the visible bytes of `segment` end.
fn visible_end<E: Env>(log: &Log<E>, segment: i64) -> u64 {
    if segment == log.visible.segment && !planted(Bug::FetchAboveHighWatermark) {
        log.visible.position
    } else {
        log.segment_end(segment)
    }
}

/// Reads `[position, position + bytes)`; the buffer holds just that.
async fn read_exactly<E: Env>(
    env: &E,
    file: &E::File,
    buffer: AlignedBuf,
    position: u64,
    bytes: usize,
) -> std::io::Result<AlignedBuf> {
    let (result, mut buffer) = env.read_at(file, buffer, position).await;
    result?;
    if buffer.len() < bytes {
        let whole = read_up_to(env, file, position, block_ceil(bytes as u64) as usize).await?;
        // The room behind is kept: the caller may have more to add.
        buffer.set_len(0);
        buffer.extend(&whole[..whole.len().min(bytes)]);
    }
    if buffer.len() < bytes {
        let message = format!("{} of {bytes} bytes at {position}", buffer.len());
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, message));
    }
    buffer.set_len(bytes);
    Ok(buffer)
}
