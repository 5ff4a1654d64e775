//! One partition's recovery: from its checkpoint over what journal, arena and segments hold to its end.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::evidence::{PartitionEvidence, Piece, Source};
use crate::base::buffer::{AlignedBuf, block_ceil, block_floor};
use crate::base::coverage::{Mark, mark};
use crate::io::{Durability, Env, OpenOptions, read_up_to, write_all_at};
use crate::storage::EXTEND_BYTES_MIN;
use crate::storage::build::{BatchFacts, SegmentBuild, SegmentIdentity};
use crate::storage::cursor::Cursor;
use crate::storage::epochs::Epochs;
use crate::storage::producers::{Producers, Sequenced};
use crate::storage::segment::{base_of, finish_companions, path_of, unlink_segment};
use crate::storage::state::PartitionState;
use crate::wire::batch::{BatchHeader, ScanOptions, StopReason, scan};

/// Bytes looked at at once: few at first, since most logs end where their checkpoint says.
const FIRST_WINDOW_BYTES: u64 = 16 << 10;
const WINDOW_BYTES: u64 = 1 << 20;
/// How far behind the end to look for stale bytes (only to count them: all of it is erased).
const STALE_LOOK_BYTES: usize = 64;
/// No batch is larger.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// The walk over one partition.
struct Walk<'a, E: Env> {
    env: &'a E,
    folder: PathBuf,
    bases: Vec<i64>,
    pieces: Vec<Piece>,
    at: Cursor,
    /// The leader epoch of all batches behind the checkpoint: a start has one, and it lies outside a batch's own check sum.
    epoch: Option<i32>,
    build: SegmentBuild,
    epochs: Epochs,
    producers: Producers,
    /// The accepted bytes behind the last whole block.
    tail: Bytes,
}

/// A partition's end, and the segments found in its folder.
pub struct Walked {
    pub state: PartitionState,
    bases: Vec<i64>,
}

/// Finds a partition's end and makes every accepted whole block part of its segments (not yet flushed).
pub async fn recover_partition<E: Env>(env: &E, folder: PathBuf, evidence: PartitionEvidence) -> io::Result<Walked> {
    let mut bases: Vec<i64> = env
        .list(&folder)
        .await?
        .iter()
        .filter_map(|e| base_of(&e.name))
        .collect();
    bases.sort_unstable();
    let first = bases.first().copied().unwrap_or(0);
    let original = evidence.state.clone().unwrap_or_else(|| fresh(env, &evidence, first));
    if original.damaged {
        let state = original;
        return Ok(Walked { state, bases });
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
        bases,
        pieces,
        at: state.boundary,
        epoch: evidence.epoch.filter(|_| evidence.state.is_some()),
        build: state.build,
        epochs: state.epochs,
        producers: state.producers,
        tail: Bytes::new(),
    };
    let log_start = evidence.log_start.max(original.log_start);
    walk.run().await?;
    if walk.at.offset < log_start {
        walk.skip_to(log_start);
        walk.run().await?;
    }
    let end = walk.at;
    if end.offset < evidence.reach {
        let (folder, segment, position) = (walk.folder.display().to_string(), end.segment, end.position);
        tracing::error!(
            folder,
            segment,
            position,
            end = end.offset,
            durable = evidence.reach,
            "durable batches are missing or wrong: the partition is not served and nothing of it is changed"
        );
        let state = PartitionState {
            damaged: true,
            reach: evidence.reach,
            ..original
        };
        let bases = walk.bases;
        return Ok(Walked { state, bases });
    }
    walk.finish(log_start).await
}

/// A partition that no checkpoint knows: made during the start that ended, or put there by somebody.
fn fresh<E: Env>(env: &E, evidence: &PartitionEvidence, first: i64) -> PartitionState {
    let identity = SegmentIdentity {
        partition: evidence.id,
        base: first,
        uid: env.random(),
    };
    PartitionState {
        id: evidence.id,
        log_start: first,
        boundary: Cursor::segment_start(first),
        stored: 0,
        tail: Bytes::new(),
        reach: 0,
        damaged: false,
        build: SegmentBuild::new(identity),
        epochs: Epochs::default(),
        producers: Producers::default(),
    }
}

/// The file of the segment that the walk is in.
struct Opened<E: Env> {
    path: PathBuf,
    file: Option<E::File>,
    size: u64,
    /// The size it was found with.
    found: u64,
}

impl<E: Env> Walk<'_, E> {
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
        let path = path_of(&self.folder, self.at.segment, "log");
        let file = match self.env.open(&path, OpenOptions::WRITE_DIRECT).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(file?),
        };
        let size = match &file {
            Some(file) => self.env.size(file).await?,
            None => 0,
        };
        let mut opened = Opened {
            path,
            file,
            size,
            found: size,
        };
        let available = self.end_in_memory().unwrap_or_else(|| size.max(self.pieces_end()));
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
                    self.gather(&opened, start, end).await?
                }
            };
            let end = start + bytes.len() as u64;
            let before = self.at;
            let stop = self.accept(&bytes, start);
            if self.at.position > before.position {
                self.keep(&mut opened, &bytes, start, overlaid).await?;
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
        let known = self.bases.contains(&next) || self.pieces.iter().any(|p| p.segment == next);
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
    async fn gather(&self, opened: &Opened<E>, start: u64, end: u64) -> io::Result<(Bytes, bool)> {
        let end = end.max(start);
        let mut buffer = AlignedBuf::new((block_ceil(end) - start) as usize);
        if let Some(file) = opened.file.as_ref().filter(|_| start < opened.size) {
            buffer = read_up_to(self.env, file, start, (block_ceil(end) - start) as usize).await?;
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
            self.take_in(&batch.header, batch.bytes);
        }
        None
    }

    fn take_in(&mut self, header: &BatchHeader, bytes: &[u8]) {
        let facts = BatchFacts {
            base_offset: self.at.offset,
            last_offset: header.last_offset(),
            max_timestamp_ms: header.max_timestamp(),
            bytes: bytes.len() as u64,
        };
        self.build.add(self.at.position, &facts, &[bytes], 0);
        if header.has_producer_id() {
            let sequenced = Sequenced {
                producer_id: header.producer_id(),
                epoch: header.producer_epoch(),
                first_sequence: header.base_sequence(),
                last_sequence: header.last_sequence(),
            };
            self.producers.apply(
                &sequenced,
                self.at.offset,
                header.last_offset(),
                header.max_timestamp().max(0),
            );
        }
        self.epochs.note(header.partition_leader_epoch(), self.at.offset);
        self.at.position += bytes.len() as u64;
        self.at.offset = header.next_offset();
    }

    /// Writes the accepted whole blocks of a window that are not (known to be) in the file; remembers what follows them.
    async fn keep(&mut self, opened: &mut Opened<E>, bytes: &Bytes, start: u64, overlaid: bool) -> io::Result<()> {
        let whole = block_floor(self.at.position);
        self.tail = bytes.slice((whole - start) as usize..(self.at.position - start) as usize);
        if !overlaid {
            return Ok(());
        }
        for Range { start: from, end } in self.lacking(opened.found, start, whole) {
            mark(Mark::BlocksRestored);
            if opened.file.is_none() || opened.size < end {
                let file = self.file_of(&opened.path, end).await?;
                opened.size = self.env.size(&file).await?;
                opened.file = Some(file);
            }
            let blocks = bytes.slice((from - start) as usize..(end - start) as usize);
            let file = opened.file.as_ref().expect("opened above");
            write_all_at(self.env, file, blocks, from, Durability::Cached).await?;
        }
        Ok(())
    }

    /// The blocks of `[start, end)` of the current segment that its file may lack: what the journal has, and what no process of
    /// this boot stored, or is beyond the end that the file was found with.
    fn lacking(&self, found: u64, start: u64, end: u64) -> Vec<Range<u64>> {
        let (mut stored, mut lacking) = (0, Vec::new());
        for piece in self.pieces.iter().filter(|p| p.segment == self.at.segment) {
            match piece.source {
                Source::Arena { stored: known } => stored = stored.max(known),
                Source::Journal => lacking.push(block_floor(piece.position)..block_ceil(piece.end())),
            }
        }
        lacking.push(block_floor(stored.min(found))..end);
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

    async fn file_of(&self, path: &Path, bytes: u64) -> io::Result<E::File> {
        let options = OpenOptions {
            exclusive: false,
            ..OpenOptions::CREATE_DIRECT
        };
        let file = self.env.open(path, options).await?;
        let size = self.env.size(&file).await?;
        // A file that was trimmed to its last byte takes whole blocks again.
        if size < bytes || size != block_ceil(size) {
            let bytes = bytes.max(size).next_multiple_of(EXTEND_BYTES_MIN);
            self.env.allocate(&file, 0, bytes).await?;
        }
        Ok(file)
    }

    /// Finishes the current segment's files and goes to the one that begins where it ends.
    async fn enter_next(&mut self) -> io::Result<()> {
        mark(Mark::RollRecovered);
        self.store_rest().await?;
        self.build.finish(self.at.position, self.at.offset);
        let path = path_of(&self.folder, self.at.segment, "log");
        let file = self.file_of(&path, self.at.position).await?;
        self.env.truncate(&file, self.at.position).await?;
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
        self.tail = Bytes::new();
    }

    /// Writes the last, partial block of a segment that is over.
    async fn store_rest(&self) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let path = path_of(&self.folder, self.at.segment, "log");
        let start = block_floor(self.at.position);
        let file = self.file_of(&path, block_ceil(self.at.position)).await?;
        let mut block = AlignedBuf::copy_of(&self.tail);
        block.pad_to_block();
        write_all_at(self.env, &file, block.freeze(), start, Durability::Cached).await
    }

    /// The state at the end.
    async fn finish(mut self, log_start: i64) -> io::Result<Walked> {
        // Retention may have removed segments whose log start the journal no longer tells.
        let log_start = log_start.max(self.bases.first().copied().unwrap_or(0).min(self.at.offset));
        let path = path_of(&self.folder, self.at.segment, "log");
        self.file_of(&path, EXTEND_BYTES_MIN).await?;
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
        let bases = self.bases;
        Ok(Walked { state, bases })
    }
}

/// Makes everything behind a partition's end read as zeros, and removes segments that begin behind it or end below its
/// start.
pub async fn erase_behind<E: Env>(env: &E, folder: &Path, walked: &Walked) -> io::Result<()> {
    let Walked { state, bases } = walked;
    for (i, &base) in bases.iter().enumerate() {
        let ends_below = bases.get(i + 1).is_some_and(|&next| next <= state.log_start) && base < state.boundary.segment;
        if base > state.boundary.segment || ends_below {
            mark(Mark::SegmentRemoved);
            unlink_segment(env, folder, base).await?;
        }
    }
    let file = env
        .open(
            &path_of(folder, state.boundary.segment, "log"),
            OpenOptions::WRITE_DIRECT,
        )
        .await?;
    let size = env.size(&file).await?;
    if size > state.stored {
        env.zero(&file, state.stored, block_ceil(size) - state.stored).await?;
    }
    Ok(())
}
