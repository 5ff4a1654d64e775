//! From the arena to the segment: whole blocks, each once; and the space they need, ahead of them.

use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::Partition;
use super::append::Lack;
use super::log::{Log, NextSegment, State};
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES, block_ceil, block_floor};
use crate::base::coverage::{Mark, mark};
use crate::base::sync::join_all;
use crate::io::{Durability, Env, OpenOptions, Queue, write_all_at};
use crate::storage::AppendError;
use crate::storage::EXTEND_BYTES_MIN;
use crate::storage::build::BatchFacts;
use crate::storage::cursor::Cursor;
use crate::storage::directory::Pace;
use crate::storage::health::is_passing;
use crate::storage::options::DurabilityClass;
use crate::storage::segment::{ClosedSegment, OpenSegment, finish_companions, path_of, store_companion};

/// The largest extension of a segment's file.
const EXTEND_BYTES_MAX: u64 = 32 << 20;
/// Below it a quarter of a file would be too little.
const QUARTER_BYTES_MIN: u64 = 256 << 10;

/// By how much a file of `allocated` bytes is extended next, after it was by `last`: twice as much, but no more than a quarter of what it
/// has, since there may be thousands of them.
fn next_step(last: u64, allocated: u64) -> u64 {
    let quarter = block_floor(allocated / 4).max(QUARTER_BYTES_MIN);
    (last * 2).min(quarter).min(EXTEND_BYTES_MAX)
}

/// Bytes that go to these positions of an open segment's file, which is stored up to `stored` then.
struct BlockWrite {
    segment: i64,
    pieces: Vec<(u64, Bytes)>,
    stored: u64,
    pace: Pace,
}

/// Whether a segment that ends at `end` lies below `target` whole.
fn ends_below(end: Cursor, target: Cursor) -> bool {
    (end.segment, end.position) <= (target.segment, target.position)
}

/// The next thing that storing does.
enum Step {
    Write(BlockWrite),
    /// The oldest open segment is stored whole: finish its files.
    Finish,
    Done,
}

impl<E: Env> Partition<E> {
    /// How far the background may store: `flushed` bytes only once they are durable elsewhere, so that nothing is written
    /// to the segment twice.
    fn storable(log: &Log<E>) -> Cursor {
        match log.options.durability {
            DurabilityClass::Flushed => log.durable,
            DurabilityClass::Written => log.appended,
        }
    }

    /// Starts storing when the oldest chunk not yet stored is full.
    pub(super) fn store_full_chunks(self: &Rc<Self>) {
        {
            let mut log = self.log.borrow_mut();
            if log.storing || log.state != State::Serving {
                return;
            }
            let target = Self::storable(&log);
            let oldest = log.oldest_open();
            let full = match oldest.end {
                Some(_) => target.segment > oldest.base,
                None => {
                    let chunk_end = log.tail.chunk_end(oldest.base, oldest.stored);
                    target.segment == oldest.base && chunk_end.is_some_and(|end| target.position >= end)
                }
            };
            if !full {
                return;
            }
            log.storing = true;
        }
        let partition = self.clone();
        self.env.spawn(Queue::Foreground, async move {
            let target = Self::storable(&partition.log.borrow());
            let stored = partition.store_to(target, Durability::Cached).await;
            partition.log.borrow_mut().storing = false;
            if stored.is_ok() {
                partition.store_full_chunks();
            }
        });
    }

    /// Stores all whole blocks below `target`, and finishes the segments that end there. An error has fenced the directory, or
    /// there is no space or descriptor: what was not done is left for the next call.
    pub(super) async fn store_to(self: &Rc<Self>, target: Cursor, durability: Durability) -> Result<(), ()> {
        let _turn = self.store_turn.acquire(1).await;
        loop {
            if matches!(self.log.borrow().state, State::Closed | State::Offline) {
                return Err(());
            }
            // A commit may wait for the turn.
            let pace = match durability == Durability::Device || self.store_turn.is_awaited() {
                true => Pace::Hurried,
                false => self.directory.pace(),
            };
            let step = Self::next_step(&self.log.borrow(), target, pace);
            let is_done = matches!(step, Step::Done);
            let done = match step {
                Step::Write(write) => self.write(write, durability).await,
                Step::Finish => self.finish_segment(durability).await,
                Step::Done => self.store_companions().await,
            };
            // Also what was stored before an error.
            self.directory.note_evictable(self);
            match done {
                Ok(()) if is_done => return Ok(()),
                Ok(()) => {}
                Err(error) if is_passing(&error) => {
                    self.directory.note_unstored(&error);
                    return Err(());
                }
                Err(error) => {
                    self.failed_at("a segment write", &error);
                    return Err(());
                }
            }
        }
    }

    /// Stores all whole blocks below `target` and nothing else: they go to space that they have, by descriptors that are open.
    /// What they are followed by is left for `store_to`. An error has fenced the directory.
    pub(super) async fn store_blocks(self: &Rc<Self>, target: Cursor, durability: Durability) -> Result<(), ()> {
        // Who has the turn may stand in the line of calm writes.
        self.hurry.notify();
        let _turn = self.store_turn.acquire(1).await;
        loop {
            if matches!(self.log.borrow().state, State::Closed | State::Offline) {
                return Err(());
            }
            let write = {
                let log = self.log.borrow();
                log.open
                    .iter()
                    .find_map(|segment| Self::next_write(&log, segment, target, Pace::Hurried))
            };
            let Some(write) = write else { return Ok(()) };
            let done = self.write(write, durability).await;
            self.directory.note_evictable(self);
            if let Err(error) = done {
                self.failed_at("a segment write", &error);
                return Err(());
            }
        }
    }

    fn next_step(log: &Log<E>, target: Cursor, pace: Pace) -> Step {
        let oldest = log.oldest_open();
        match Self::next_write(log, oldest, target, pace) {
            Some(write) => Step::Write(write),
            None if oldest
                .end
                .is_some_and(|end| oldest.stored >= end.position && ends_below(end, target)) =>
            {
                Step::Finish
            }
            None => Step::Done,
        }
    }

    /// The next blocks of `segment` below `target`, if it lacks any.
    fn next_write(log: &Log<E>, segment: &OpenSegment<E>, target: Cursor, pace: Pace) -> Option<BlockWrite> {
        let limit = match segment.end {
            Some(end) if ends_below(end, target) => end.position,
            _ if target.segment == segment.base => block_floor(target.position.min(log.segment_end(segment.base))),
            _ => 0,
        };
        if segment.stored >= limit {
            return None;
        }
        let whole = block_floor(limit);
        let mut pieces = Vec::new();
        let mut position = segment.stored;
        while position < whole && pieces.len() < pace.writes_max() {
            let views = log
                .tail
                .views(segment.base, position, whole.min(position + pace.write_bytes_max()));
            let Some(first) = views.into_iter().next() else { break };
            let first = first.slice(..block_floor(first.len() as u64) as usize);
            assert!(!first.is_empty(), "chunks hold whole blocks");
            position += first.len() as u64;
            pieces.push((position - first.len() as u64, first));
        }
        if position == whole && whole < limit && pieces.len() < pace.writes_max() {
            let mut last = AlignedBuf::new(BLOCK_BYTES);
            log.tail
                .pieces(segment.base, whole, limit)
                .for_each(|piece| last.extend(piece));
            last.pad_to_block();
            pieces.push((whole, last.freeze()));
            position = limit;
        }
        Some(BlockWrite {
            segment: segment.base,
            pieces,
            stored: position,
            pace,
        })
    }

    async fn write(self: &Rc<Self>, write: BlockWrite, durability: Durability) -> io::Result<()> {
        let BlockWrite {
            segment,
            pieces,
            stored,
            pace,
        } = write;
        let file = self.log.borrow_mut().open_segment(segment).file.clone();
        let bytes: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
        let turns = (
            self.directory.writes().turn(bytes as u64, pace, &self.hurry).await,
            self.file_turn.acquire(1).await,
        );
        let writes = pieces
            .into_iter()
            .map(|(at, piece)| write_all_at(&self.env, &file, piece, at, durability));
        for result in join_all(writes.collect()).await {
            result?;
        }
        drop(turns);
        let mut log = self.log.borrow_mut();
        let known = log.open_segment(segment);
        assert!(known.stored < stored);
        let before = std::mem::replace(&mut known.stored, stored);
        log.tail.note_stored(segment, before, stored);
        Self::build_up(&mut log, segment);
        self.count_queued(&log);
        Ok(())
    }

    /// Takes the batches that are stored into the segment's indexes and sums. The last one may lack its last bytes, which fill no
    /// block: nothing else of it need stay in memory.
    fn build_up(log: &mut Log<E>, base: i64) {
        let Log {
            open, tail, options, ..
        } = log;
        let segment = open.iter_mut().find(|segment| segment.base == base);
        let segment = segment.expect("a segment is open until it is finished");
        loop {
            if segment.built.position <= segment.stored {
                segment.whole = segment.built;
            }
            if segment.built.position >= segment.stored {
                break;
            }
            let at = segment.built;
            let Some(header) = tail.header_at(segment.base, at.position) else {
                break;
            };
            let end = at.position + header.total_bytes() as u64;
            if block_floor(end) > segment.stored {
                break;
            }
            let facts = BatchFacts {
                base_offset: at.offset,
                last_offset: header.last_offset(),
                max_timestamp_ms: header.max_timestamp(),
                bytes: header.total_bytes() as u64,
            };
            let extend_crc = |crc| header.extend_crc(crc);
            segment
                .build
                .add(at.position, &facts, extend_crc, options.index_interval_bytes);
            segment.built = Cursor {
                segment: segment.base,
                position: end,
                offset: header.next_offset(),
            };
        }
    }

    async fn store_companions(&self) -> io::Result<()> {
        let (base, build) = {
            let log = self.log.borrow();
            let oldest = log.oldest_open();
            let build = &oldest.build;
            let none = [&build.offsets, &build.times, &build.sums]
                .iter()
                .all(|g| g.full_blocks().is_empty());
            if none {
                return Ok(());
            }
            (oldest.base, build.clone())
        };
        let offsets = store_companion(&self.env, &self.folder, base, "index", &build.offsets, false).await?;
        let times = store_companion(&self.env, &self.folder, base, "timeindex", &build.times, false).await?;
        let sums = store_companion(&self.env, &self.folder, base, "sums", &build.sums, false).await?;
        let mut log = self.log.borrow_mut();
        let build = &mut log.open.front_mut().expect("a log has an active segment").build;
        build.offsets.mark_stored(offsets);
        build.times.mark_stored(times);
        build.sums.mark_stored(sums);
        Ok(())
    }

    /// Trims the files of the oldest open segment, which is stored whole, and counts it as closed.
    async fn finish_segment(self: &Rc<Self>, durability: Durability) -> io::Result<()> {
        let latest_before_ms = self.latest_closed_ms().await;
        let (file, end, build) = {
            let mut log = self.log.borrow_mut();
            let oldest = log.open.front_mut().expect("a log has an active segment");
            let end = oldest.end.expect("only a segment that ended is finished");
            assert_eq!(oldest.built, end, "a segment's last batch ends where the segment does");
            let mut build = oldest.build.clone();
            build.finish(end.position, end.offset, latest_before_ms);
            (oldest.file.clone(), end, build)
        };
        self.env.truncate(&file, end.position).await?;
        finish_companions(&self.env, &self.folder, &build).await?;
        if durability == Durability::Device {
            self.env.flush(&file).await?;
        }
        let epochs = self.log.borrow().epochs.to_text();
        let path = self.folder.join("leader-epoch-checkpoint");
        crate::io::replace_file(&self.env, &path, Bytes::from(epochs)).await?;
        // The last step: without the space for one of those before, all of them are done again.
        let mut log = self.log.borrow_mut();
        let segment = log.open.pop_front().expect("a log has an active segment");
        let largest_ms = (build.largest.0 >= 0).then_some(build.largest.0);
        log.closed.push_back(ClosedSegment {
            base: segment.base,
            bytes: end.position,
            next_offset: end.offset,
            largest_ms,
            is_latest_yet: build.is_latest_yet(latest_before_ms),
        });
        Ok(())
    }

    /// Gets what an append lacks.
    pub(super) async fn provide(self: &Rc<Self>, lack: Lack) -> Result<(), AppendError> {
        let got = match lack {
            Lack::Segment => self.make_next_segment().await,
            Lack::Space => {
                mark(Mark::SpaceAwaited);
                self.extend().await
            }
            Lack::Storing => {
                mark(Mark::StoringAwaited);
                self.directory.await_stored().await;
                Ok(())
            }
            Lack::Memory => {
                mark(Mark::MemoryAwaited);
                self.directory.free_memory().await;
                Ok(())
            }
        };
        got.map_err(|error| {
            if is_passing(&error) {
                self.directory.note_passing(&error);
                AppendError::Full
            } else {
                self.failed_at("making room in a segment", &error);
                AppendError::Offline
            }
        })
    }

    async fn make_next_segment(&self) -> io::Result<()> {
        let unused = self.log.borrow_mut().next_segment.take();
        if let Some(unused) = unused {
            self.env.unlink(&path_of(&self.folder, unused.base, "log")).await?;
        }
        let (base, bytes) = {
            let log = self.log.borrow();
            (
                log.appended.offset,
                (log.step_bytes / 2)
                    .max(EXTEND_BYTES_MIN)
                    .min(block_ceil(log.options.segment_bytes)),
            )
        };
        let options = OpenOptions {
            exclusive: false,
            ..OpenOptions::CREATE_DIRECT
        };
        let path = path_of(&self.folder, base, "log");
        let file = self.env.open(&path, options).await?;
        let made = async {
            self.env.truncate(&file, 0).await?;
            self.env.allocate(&file, 0, bytes).await?;
            self.env.flush_directory(&self.folder).await
        };
        if let Err(error) = made.await {
            // The log may get past this base before it can be made: no segment begins here then.
            self.env.unlink(&path).await.map_err(io::Error::other)?;
            return Err(error);
        }
        let mut log = self.log.borrow_mut();
        log.step_bytes = bytes;
        log.next_segment = Some(NextSegment {
            base,
            file,
            allocated: bytes,
        });
        Ok(())
    }

    /// Extends the active segment's file by its next step.
    async fn extend(&self) -> io::Result<()> {
        let _turn = self.file_turn.acquire(1).await;
        let (file, base, allocated, bytes) = {
            let log = self.log.borrow();
            let first = log.waiting.first().map_or(0, |(_, batch)| batch.len() as u64);
            let active = log.active();
            let needed = (log.appended.position + first).saturating_sub(active.allocated);
            let useful = block_ceil(log.options.segment_bytes).saturating_sub(active.allocated);
            let bytes = block_ceil(needed)
                .max(log.step_bytes.min(useful))
                .max(BLOCK_BYTES as u64);
            (active.file.clone(), active.base, active.allocated, bytes)
        };
        self.env.allocate(&file, allocated, bytes).await?;
        let mut log = self.log.borrow_mut();
        log.step_bytes = next_step(log.step_bytes, allocated + bytes);
        if let Some(segment) = log.open.iter_mut().find(|s| s.base == base) {
            segment.allocated = segment.allocated.max(allocated + bytes);
        }
        Ok(())
    }

    /// Extends the file before appends have to wait for it.
    pub(super) fn extend_ahead(self: &Rc<Self>) {
        {
            let mut log = self.log.borrow_mut();
            let (left, step) = (
                log.active().allocated.saturating_sub(log.appended.position),
                log.step_bytes,
            );
            let more = log.active().allocated < log.options.segment_bytes;
            let quiet = log.admitting || log.extending || log.appended.position == 0;
            if quiet || !more || left >= step / 2 || log.state != State::Serving {
                return;
            }
            log.extending = true;
        }
        let partition = self.clone();
        self.env.spawn(Queue::Foreground, async move {
            // A failure shows when an append lacks the space.
            let _ = partition.extend().await;
            partition.log.borrow_mut().extending = false;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_little_more_than_it_needs_after_few_steps() {
        let (mut allocated, mut last, mut steps) = (EXTEND_BYTES_MIN, EXTEND_BYTES_MIN, 0);
        for position in (0..1 << 30).step_by(16 << 10) {
            // As `extend_ahead` does.
            if allocated - position < last / 2 {
                allocated += last;
                last = next_step(last, allocated);
                steps += 1;
            }
            assert!(allocated > position);
            let surplus = allocated - position;
            assert!(
                surplus <= (position / 2).clamp(512 << 10, 48 << 20),
                "{surplus} at {position}"
            );
        }
        assert!(steps < 60, "{steps}");
    }
}
