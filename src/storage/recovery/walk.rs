//! One partition's recovery: from its checkpoint over what journal, arena and segments hold to its end.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Found;
use super::evidence::{PartitionEvidence, Piece, Source};
use crate::base::buffer::{AlignedBuf, block_ceil, block_floor};
use crate::base::coverage::{Mark, mark};
use crate::base::ids::PartitionId;
use crate::base::planted::{Bug, planted};
use crate::io::{Durability, Env, OpenOptions, read_up_to, write_all_at};
use crate::storage::EXTEND_BYTES_MIN;
use crate::storage::build::{BATCH_BYTES_MAX, BatchFacts, SegmentBuild, SegmentIdentity};
use crate::storage::cursor::Cursor;
use crate::storage::epochs::Epochs;
use crate::storage::producers::{Producers, Sequenced};
use crate::storage::segment::{base_of, finish_companions, path_of, unlink_segment};
use crate::storage::state::PartitionState;
use crate::wire::batch::{BatchHeader, ScanOptions, StopReason, TimestampType, scan};

/// Bytes looked at at once: few at first, since most logs end where their checkpoint says.
const FIRST_WINDOW_BYTES: u64 = 16 << 10;
const WINDOW_BYTES: u64 = 1 << 20;
/// How far behind the end to look for stale bytes (only to count them: all of it is erased).
const STALE_LOOK_BYTES: usize = 64;

/// The walk over one partition.
struct Walk<'a, E: Env> {
    env: &'a E,
    folder: PathBuf,
    segments: Segments,
    /// The file of the segment that the walk is in, once it was needed.
    file: Option<E::File>,
    /// The size it was found with.
    found: u64,
    pieces: Vec<Piece>,
    at: Cursor,
    /// The leader epoch of all batches behind the checkpoint: a start has one, and it lies outside a batch's own check sum.
    epoch: Option<i32>,
    /// When the recovery began, by the wall clock.
    began_ms: i64,
    build: SegmentBuild,
    epochs: Epochs,
    producers: Producers,
    /// The accepted bytes behind the last whole block.
    tail: Bytes,
    restored: u64,
}

/// The segments in a partition's folder, with the sizes of their files.
pub type Segments = BTreeMap<i64, u64>;

/// A partition's end, and what of its files is known.
pub struct Walked<E: Env> {
    pub state: PartitionState,
    pub segments: Segments,
    /// Bytes that its files lacked.
    pub restored: u64,
    /// The file that takes the next appends; a damaged partition has none.
    active: Option<E::File>,
}

impl<E: Env> Walked<E> {
    /// What the partition is opened with.
    pub fn found(self) -> (PartitionId, Found) {
        let Self { state, segments, .. } = self;
        (state.id, Found { state, segments })
    }

    /// Nothing of its files was or will be changed.
    fn damaged(state: PartitionState, segments: Segments) -> Self {
        assert!(state.damaged);
        Self {
            state,
            segments,
            restored: 0,
            active: None,
        }
    }
}

/// Finds a partition's end and makes every accepted whole block part of its segments (not yet flushed).
pub async fn recover_partition<E: Env>(env: &E, folder: PathBuf, evidence: PartitionEvidence) -> io::Result<Walked<E>> {
    let entries = env.list(&folder).await?.into_iter();
    let segments: Segments = entries.filter_map(|e| Some((base_of(&e.name)?, e.bytes))).collect();
    let first = segments.keys().next().copied().unwrap_or(0);
    let original = evidence.state.clone().unwrap_or_else(|| fresh(env, &evidence, first));
    if original.damaged {
        return Ok(Walked::damaged(original, segments));
    }
    let mut pieces = evidence.pieces;
    if !original.tail.is_empty() {
        let (segment, position) = (original.boundary.segment, original.stored);
        pieces.push(Piece {
            segment,
            position,
            bytes: original.tail.clone(),
            source: Source::Journal,
        });
    }
    // What the checkpoint has behind it is looked at no more.
    let boundary = original.boundary;
    pieces.retain(|p| (p.segment, p.end()) > (boundary.segment, block_floor(boundary.position)));
    let state = original.clone();
    let mut walk = Walk {
        env,
        folder,
        found: segments.get(&boundary.segment).copied().unwrap_or(0),
        segments,
        file: None,
        pieces,
        at: state.boundary,
        epoch: evidence.epoch.filter(|_| evidence.state.is_some()),
        began_ms: env.wall_ms(),
        build: state.build,
        epochs: state.epochs,
        producers: state.producers,
        tail: Bytes::new(),
        restored: 0,
    };
    let log_start = evidence.log_start.max(original.log_start);
    walk.tell_what_lacks(log_start, original.stored);
    walk.run().await?;
    if walk.at.offset < log_start {
        walk.skip_to(log_start);
        walk.run().await?;
    }
    let end = walk.at;
    let ends_early = end.offset < evidence.reach && !planted(Bug::CorruptionIsTornTail);
    // Nobody has the last block, which the next append would begin in.
    let lacks_block = walk.tail.len() as u64 != end.position - block_floor(end.position);
    if ends_early || lacks_block {
        tracing::error!(
            file = %path_of(&walk.folder, end.segment, "log").display(),
            position = end.position,
            end = end.offset,
            durable = evidence.reach,
            "durable batches are missing or wrong: the partition is not served and nothing of it is changed"
        );
        let state = PartitionState {
            damaged: true,
            reach: evidence.reach,
            ..original
        };
        return Ok(Walked::damaged(state, walk.segments));
    }
    walk.finish(log_start).await
}

/// A partition that no checkpoint knows: made during the start that ended, or put there by somebody.
fn fresh<E: Env>(env: &E, evidence: &PartitionEvidence, first: i64) -> PartitionState {
    PartitionState::fresh(evidence.id, first, env.random())
}

impl<E: Env> Walk<'_, E> {
    /// Tells of files that are missing or too short below the checkpoint's boundary: reads of what they held are answered with an
    /// error, and all else goes on.
    fn tell_what_lacks(&self, log_start: i64, stored: u64) {
        let is_known = self.epoch.is_some();
        let first = self.segments.keys().next().copied().unwrap_or(self.at.segment);
        if is_known && first > log_start {
            let file = path_of(&self.folder, log_start, "log");
            tracing::error!(file = %file.display(), next = first, "the first segment of a log is missing");
        }
        if self.found < stored && self.at.offset > log_start {
            let file = path_of(&self.folder, self.at.segment, "log");
            tracing::error!(file = %file.display(), bytes = self.found, stored, "a segment is shorter than what was stored in it");
        }
    }

    /// Walks to the end of what continues here.
    async fn run(&mut self) -> io::Result<()> {
        while self.segment().await? {
            self.enter_next().await?;
        }
        Ok(())
    }

    /// Retention deleted the segments that are missing here: the log goes on where it starts now. Producers whose last
    /// batches were among them are unknown from here on, rather than known by batches that were not their last.
    fn skip_to(&mut self, log_start: i64) {
        mark(Mark::DeletedSkipped);
        self.producers = Producers::default();
        self.begin_segment(log_start);
    }

    fn pieces_end(&self) -> u64 {
        self.pieces
            .iter()
            .filter(|p| p.segment == self.at.segment)
            .map(Piece::end)
            .max()
            .unwrap_or(0)
    }

    /// Accepts batches of the current segment until one is missing or wrong; `true` if the log goes on in another segment.
    async fn segment(&mut self) -> io::Result<bool> {
        let in_memory = self.end_in_memory();
        let available = in_memory.unwrap_or_else(|| self.found.max(self.pieces_end()));
        let (mut ahead, mut needed) = (FIRST_WINDOW_BYTES, 0);
        loop {
            let start = block_floor(self.at.position);
            let (bytes, overlaid) = match self.piece_at(start).filter(|_| needed == 0) {
                Some(bytes) => {
                    ahead = FIRST_WINDOW_BYTES;
                    (bytes, true)
                }
                None => {
                    let end = available.min(start + needed.max(ahead));
                    ahead = (ahead * 4).min(WINDOW_BYTES);
                    self.gather(start, end).await?
                }
            };
            let end = start + bytes.len() as u64;
            let before = self.at;
            let stop = self.accept(&bytes, start);
            if self.at.position > before.position {
                self.keep(&bytes, start, overlaid).await?;
                needed = 0;
                if end < available {
                    continue;
                }
            } else if let Some(StopReason::Incomplete { bytes_needed }) = stop
                && end < available
            {
                needed = self.at.position - start + bytes_needed as u64;
                continue;
            } else if self.at.position > start && self.tail.is_empty() && bytes.len() as u64 >= self.at.position - start
            {
                // Nothing new: the boundary itself lies inside a block. (Of a segment that retention deleted nothing is here.)
                self.tail = bytes.slice(..(self.at.position - start) as usize);
            }
            let behind = bytes.get((self.at.position - start) as usize..).unwrap_or_default();
            if behind.iter().take(STALE_LOOK_BYTES).any(|byte| *byte != 0) {
                mark(Mark::StaleErased);
            }
            return Ok(self.goes_on());
        }
    }

    fn goes_on(&self) -> bool {
        let next = self.at.offset;
        let known = self.segments.contains_key(&next) || self.pieces.iter().any(|p| p.segment == next);
        self.at.position > 0 && next > self.at.segment && known
    }

    /// Where the segment ends, if memory of this boot tells: appends go there first, so the file has nothing beyond.
    fn end_in_memory(&self) -> Option<u64> {
        let here = self.pieces.iter().filter(|p| p.segment == self.at.segment);
        let last = here.max_by_key(|p| p.end())?;
        let tells = last.source != Source::Journal && last.end() >= self.at.position;
        tells.then(|| last.end())
    }

    /// What a chunk of memory holds from block `start` of the current segment on, where it lies, if that is beyond the end.
    fn piece_at(&self, start: u64) -> Option<Bytes> {
        let here = self.pieces.iter().filter(|p| {
            let whole = p.position <= start && p.end() > self.at.position;
            p.segment == self.at.segment && whole && p.source != Source::Journal
        });
        let longest = here.max_by_key(|p| p.end())?;
        Some(longest.bytes.slice((start - longest.position) as usize..))
    }

    /// Bytes `[start, end)` of the current segment: the file's, with the pieces laid over them; whether any piece was.
    async fn gather(&mut self, start: u64, end: u64) -> io::Result<(Bytes, bool)> {
        let end = end.max(start);
        let mut buffer = AlignedBuf::new((block_ceil(end) - start) as usize);
        if start < self.size() {
            let file = self.open().await?;
            buffer = read_up_to(self.env, &file, start, (block_ceil(end) - start) as usize).await?;
        }
        let read = buffer.len().min((end - start) as usize);
        buffer.set_len((end - start) as usize);
        buffer[read..].fill(0);
        let mut overlaid = false;
        for piece in self
            .pieces
            .iter()
            .filter(|p| p.segment == self.at.segment && p.position < end && p.end() > start)
        {
            let (from, to) = (piece.position.max(start), piece.end().min(end));
            let source = &piece.bytes[(from - piece.position) as usize..(to - piece.position) as usize];
            buffer[(from - start) as usize..(to - start) as usize].copy_from_slice(source);
            overlaid = true;
        }
        Ok((buffer.freeze(), overlaid))
    }

    /// Takes in the good batches that continue the log.
    fn accept(&mut self, bytes: &Bytes, start: u64) -> Option<StopReason> {
        let skip = (self.at.position - start) as usize;
        let options = ScanOptions {
            crc_check: true,
            batch_bytes_max: BATCH_BYTES_MAX,
        };
        for batch in scan(bytes.get(skip..)?, options) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(stop) => return Some(stop.reason),
            };
            let epoch = batch.header.partition_leader_epoch();
            if batch.header.base_offset() != self.at.offset || self.epoch.is_some_and(|known| known != epoch) {
                return None;
            }
            self.take_in(&batch.header);
        }
        None
    }

    /// Takes in a batch whose CRC is right.
    fn take_in(&mut self, header: &BatchHeader) {
        let facts = BatchFacts {
            base_offset: self.at.offset,
            last_offset: header.last_offset(),
            max_timestamp_ms: header.max_timestamp(),
            bytes: header.total_bytes() as u64,
        };
        self.build
            .add(self.at.position, &facts, |crc| header.extend_crc(crc), 0);
        if let Some(sequenced) = Sequenced::of(header).filter(|_| !planted(Bug::ForgetProducersInReplay)) {
            // A time that the producer gave its records says nothing of when it was here: those it sends may be of long ago.
            let appended_ms = match header.timestamp_type() {
                TimestampType::LogAppendTime => header.max_timestamp(),
                TimestampType::CreateTime => self.began_ms,
            };
            self.producers
                .apply(&sequenced, self.at.offset, header.last_offset(), appended_ms);
        }
        self.epochs.note(header.partition_leader_epoch(), self.at.offset);
        self.at.position += header.total_bytes() as u64;
        self.at.offset = header.next_offset();
    }

    /// Writes the accepted whole blocks of a window that are not (known to be) in the file; remembers what follows them.
    async fn keep(&mut self, bytes: &Bytes, start: u64, overlaid: bool) -> io::Result<()> {
        let whole = block_floor(self.at.position);
        self.tail = bytes.slice((whole - start) as usize..(self.at.position - start) as usize);
        if !overlaid {
            return Ok(());
        }
        for Range { start: from, end } in self.lacking(start, whole) {
            mark(Mark::BlocksRestored);
            let file = self.open_with_room(end.max(self.pieces_end())).await?;
            let blocks = bytes.slice((from - start) as usize..(end - start) as usize);
            write_all_at(self.env, &file, blocks, from, Durability::Cached).await?;
            self.restored += end - from;
        }
        Ok(())
    }

    /// The blocks of `[start, end)` of the current segment that its file may lack: what the journal has, and what no process of
    /// this boot stored, or is beyond the end that the file was found with.
    fn lacking(&self, start: u64, end: u64) -> Vec<Range<u64>> {
        let (mut stored, mut lacking) = (0, Vec::new());
        for piece in self.pieces.iter().filter(|p| p.segment == self.at.segment) {
            match piece.source {
                Source::Arena { stored: known } => stored = stored.max(known),
                Source::Journal => lacking.push(block_floor(piece.position)..block_ceil(piece.end())),
            }
        }
        lacking.push(block_floor(stored.min(self.found))..end);
        lacking.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in lacking {
            let range = range.start.max(start)..range.end.min(end);
            match merged.last_mut() {
                _ if range.is_empty() => {}
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// The size of the current segment's file; 0 if there is none.
    fn size(&self) -> u64 {
        self.segments.get(&self.at.segment).copied().unwrap_or(0)
    }

    /// The current segment's file, made if it is not there.
    async fn open(&mut self) -> io::Result<E::File> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let options = OpenOptions {
            exclusive: false,
            ..OpenOptions::CREATE_DIRECT
        };
        let path = path_of(&self.folder, self.at.segment, "log");
        let file = self.env.open(&path, options).await?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// The same, with room for `bytes`.
    async fn open_with_room(&mut self, bytes: u64) -> io::Result<E::File> {
        let (file, size) = (self.open().await?, self.size());
        // A file that was trimmed to its last byte takes whole blocks again.
        if size < bytes || size != block_ceil(size) {
            let bytes = bytes.max(size).next_multiple_of(EXTEND_BYTES_MIN);
            self.env.allocate(&file, 0, bytes).await?;
            self.segments.insert(self.at.segment, bytes);
        }
        Ok(file)
    }

    /// Finishes the current segment's files and goes to the one that begins where it ends.
    async fn enter_next(&mut self) -> io::Result<()> {
        mark(Mark::RollRecovered);
        self.store_rest().await?;
        self.build.finish(self.at.position, self.at.offset, None);
        let file = self.open_with_room(self.at.position).await?;
        self.env.truncate(&file, self.at.position).await?;
        self.segments.insert(self.at.segment, self.at.position);
        finish_companions(self.env, &self.folder, &self.build).await?;
        self.begin_segment(self.at.offset);
        Ok(())
    }

    fn begin_segment(&mut self, base: i64) {
        let partition = self.build.identity.partition;
        self.build = SegmentBuild::new(SegmentIdentity {
            partition,
            base,
            uid: self.env.random(),
        });
        self.at = Cursor::segment_start(base);
        (self.file, self.found) = (None, self.size());
        self.tail = Bytes::new();
    }

    /// Writes the last, partial block of a segment that is over.
    async fn store_rest(&mut self) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let start = block_floor(self.at.position);
        let file = self.open_with_room(block_ceil(self.at.position)).await?;
        let mut block = AlignedBuf::copy_of(&self.tail);
        block.pad_to_block();
        write_all_at(self.env, &file, block.freeze(), start, Durability::Cached).await
    }

    /// The state at the end.
    async fn finish(mut self, log_start: i64) -> io::Result<Walked<E>> {
        let active = Some(self.open_with_room(EXTEND_BYTES_MIN).await?);
        self.producers.truncate(self.at.offset);
        self.epochs.truncate(self.at.offset);
        let state = PartitionState {
            id: self.build.identity.partition,
            log_start,
            boundary: self.at,
            stored: block_floor(self.at.position),
            tail: self.tail,
            reach: self.at.offset,
            damaged: false,
            build: self.build,
            epochs: self.epochs,
            producers: self.producers,
        };
        Ok(Walked {
            state,
            segments: self.segments,
            restored: self.restored,
            active,
        })
    }
}

/// Makes everything behind a partition's end read as zeros, and removes segments that begin behind it or end below its
/// start.
pub async fn erase_behind<E: Env>(env: &E, folder: &Path, walked: &mut Walked<E>) -> io::Result<()> {
    let Walked {
        state,
        segments,
        active,
        ..
    } = walked;
    let last = state.boundary.segment;
    let nexts = segments.keys().skip(1).map(Some).chain([None]);
    let ends_below = |base: i64, next: Option<&i64>| base < last && next.is_some_and(|next| *next <= state.log_start);
    let pairs = segments.keys().zip(nexts);
    let superfluous = pairs.filter(|(base, next)| **base > last || ends_below(**base, *next));
    for base in superfluous.map(|(base, _)| *base).collect::<Vec<i64>>() {
        mark(Mark::SegmentRemoved);
        unlink_segment(env, folder, base).await?;
        segments.remove(&base);
    }
    let size = segments.get(&last).copied().unwrap_or(0);
    if let Some(file) = active
        .take()
        .filter(|_| size > state.stored && !planted(Bug::StaleBytesStay))
    {
        env.zero(&file, state.stored, block_ceil(size) - state.stored).await?;
    }
    Ok(())
}
