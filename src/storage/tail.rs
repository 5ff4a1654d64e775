//! The end of a partition's log, in arena chunks: what is not in its segment yet, and as much behind that as memory allows.
//!
//! Chunks are consecutive within a segment; each begins at a block boundary. Bytes are addressed by (segment, position).

use std::collections::VecDeque;

use bytes::Bytes;

use super::codec::{Fields, PutFields};
use super::cursor::Cursor;
use super::journal::rows::Owner;
use crate::base::buffer::{BLOCK_BYTES, Chunk, ChunkIdentity};
use crate::wire::batch::{BatchHeader, HEADER_BYTES};

/// Marks are at least this many bytes apart: a look-up walks no further.
const MARK_BYTES: u64 = 4096;

/// A reader's part of a chunk that is smaller than this, and than an eighth of the chunk, is copied: a slow reader keeps its
/// few bytes, not the chunk.
const COPIED_BYTES_MAX: usize = 16 << 10;
const COPIED_PART: usize = 8;

/// The place of a batch's beginning.
#[derive(Clone, Copy, Debug)]
struct Mark {
    offset: i64,
    position: u64,
}

/// One chunk and the part of the log it holds.
pub struct TailChunk {
    pub segment: i64,
    /// Position of the chunk's first byte, a multiple of the block size.
    pub start: u64,
    chunk: Chunk,
    marks: Vec<Mark>,
}

impl TailChunk {
    pub fn new(segment: i64, start: u64, chunk: Chunk) -> Self {
        assert!(start.is_multiple_of(BLOCK_BYTES as u64));
        Self {
            segment,
            start,
            chunk,
            marks: Vec::new(),
        }
    }

    /// Position behind the last filled byte.
    pub fn end(&self) -> u64 {
        self.start + self.chunk.filled() as u64
    }

    pub fn capacity_end(&self) -> u64 {
        self.start + self.chunk.capacity() as u64
    }

    /// Bytes `[from, to)` of the segment.
    fn view(&self, from: u64, to: u64) -> Bytes {
        self.chunk
            .view((from - self.start) as usize, (to - self.start) as usize)
    }

    /// The same, to be kept for as long as a reader likes.
    fn part(&self, from: u64, to: u64) -> Bytes {
        let bytes = (to - from) as usize;
        match bytes < COPIED_BYTES_MAX.min(self.chunk.capacity() / COPIED_PART) {
            true => Bytes::copy_from_slice(self.slice(from, to)),
            false => self.view(from, to),
        }
    }

    fn slice(&self, from: u64, to: u64) -> &[u8] {
        &self.chunk.as_slice()[(from - self.start) as usize..(to - self.start) as usize]
    }
}

/// What a chunk's header in the arena says: whose bytes, and where they belong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkPlace {
    pub owner: Owner,
    pub segment: i64,
    pub start: u64,
}

impl ChunkPlace {
    pub fn encode(&self) -> ChunkIdentity {
        let mut out = Vec::with_capacity(80);
        out.put_partition(self.owner.partition);
        out.put_u64(self.owner.generation);
        out.put_i64(self.segment);
        out.put_u64(self.start);
        out.resize(80, 0);
        out.try_into().expect("80 bytes by construction")
    }

    pub fn decode(identity: &ChunkIdentity) -> Option<Self> {
        let mut fields = Fields(identity);
        let owner = Owner {
            partition: fields.partition()?,
            generation: fields.u64()?,
        };
        let place = Self {
            owner,
            segment: fields.i64()?,
            start: fields.u64()?,
        };
        place.start.is_multiple_of(BLOCK_BYTES as u64).then_some(place)
    }
}

/// The chunks of one partition, oldest first.
#[derive(Default)]
pub struct Tail {
    chunks: VecDeque<TailChunk>,
}

impl Tail {
    /// Where the next chunk of `segment` begins, if one of it is here.
    pub fn capacity_end(&self, segment: i64) -> Option<u64> {
        self.chunks
            .back()
            .filter(|c| c.segment == segment)
            .map(TailChunk::capacity_end)
    }

    /// Adds an empty chunk behind the others; `preload` is what its first block already holds.
    pub fn push(&mut self, mut chunk: TailChunk, preload: &[u8]) {
        if let Some(last) = self.chunks.back() {
            let consecutive = last.segment == chunk.segment && last.capacity_end() == chunk.start;
            assert!(consecutive || (last.segment < chunk.segment && chunk.start == 0));
        }
        chunk.chunk.append(preload);
        self.chunks.push_back(chunk);
    }

    /// Appends a batch given in pieces at `at`, which must be the end; the chunks have room. The bytes outlive the process
    /// when this returns.
    pub fn append(&mut self, at: Cursor, pieces: &[&[u8]]) {
        let first = self
            .chunks
            .iter()
            .rposition(|c| c.segment == at.segment && c.start <= at.position);
        let mut index = first.expect("the chunk that holds the end was pushed");
        if self.chunks[index].chunk.room() == 0 {
            index += 1;
        }
        let start = index;
        assert_eq!(
            (self.chunks[index].segment, self.chunks[index].end()),
            (at.segment, at.position)
        );
        self.mark(index, at);
        for piece in pieces {
            let mut piece = *piece;
            while !piece.is_empty() {
                if self.chunks[index].chunk.room() == 0 {
                    index += 1;
                }
                let chunk = &mut self.chunks[index].chunk;
                let (now, later) = piece.split_at(piece.len().min(chunk.room()));
                chunk.append(now);
                piece = later;
            }
        }
        for chunk in self.chunks.range(start..=index) {
            chunk.chunk.publish();
        }
    }

    fn mark(&mut self, index: usize, at: Cursor) {
        let marks = &mut self.chunks[index].marks;
        if marks.last().is_none_or(|m| at.position - m.position >= MARK_BYTES) {
            marks.push(Mark {
                offset: at.offset,
                position: at.position,
            });
        }
    }

    /// Notes in the chunks' headers that the bytes from `from` up to `end` of the segment, and all before them, are in its file.
    pub fn note_stored(&self, segment: i64, from: u64, end: u64) {
        for chunk in self.overlapping(segment, from, end) {
            chunk.chunk.note_stored((end - chunk.start) as usize);
        }
    }

    /// The oldest chunk's memory goes back when its last view is gone.
    pub fn pop_front(&mut self) -> Option<TailChunk> {
        let chunk = self.chunks.pop_front()?;
        chunk.chunk.retire();
        Some(chunk)
    }

    /// Whether byte `from` of `segment`, and all behind it, is here.
    pub fn holds(&self, segment: i64, from: u64) -> bool {
        let front = self.chunks.front();
        front.is_some_and(|c| (c.segment, c.start) <= (segment, from))
    }

    /// Bytes of memory, all chunks together.
    pub fn capacity(&self) -> usize {
        self.chunks.iter().map(|c| c.chunk.capacity()).sum()
    }

    /// Position behind the last filled byte of the last chunk's segment.
    pub fn end(&self) -> Option<u64> {
        self.chunks.back().map(TailChunk::end)
    }

    /// Puts `chunks`, empty ones in the order of their positions, in the place of all there is, with the bytes from the
    /// first one's start on. `boundary` is a batch's beginning there or behind. The new chunks are found by a restart before the
    /// old ones are not.
    pub fn move_to(&mut self, mut chunks: Vec<TailChunk>, boundary: Cursor) {
        let end = self.end().unwrap_or(0);
        for chunk in &mut chunks {
            let (from, to) = (chunk.start, chunk.capacity_end().min(end));
            for piece in self.slices(chunk.segment, from, to) {
                chunk.chunk.append(piece);
            }
            assert_eq!(chunk.end(), to, "a moved tail keeps all its bytes");
            chunk.chunk.publish();
        }
        let old = std::mem::replace(&mut self.chunks, chunks.into());
        old.iter().for_each(|chunk| chunk.chunk.retire());
        let mut at = boundary;
        while let Some(header) = self.header_at(at.segment, at.position) {
            if let Some(index) = self.chunks.iter().rposition(|c| c.start <= at.position) {
                self.mark(index, at);
            }
            at.position += header.total_bytes() as u64;
            at.offset = header.next_offset();
        }
    }

    /// Gives back the chunks at the end that hold nothing.
    pub fn pop_empty(&mut self) {
        while self.chunks.back().is_some_and(|c| c.chunk.filled() == 0) {
            self.chunks.pop_back();
        }
    }

    pub fn front(&self) -> Option<&TailChunk> {
        self.chunks.front()
    }

    pub fn back(&self) -> Option<&TailChunk> {
        self.chunks.back()
    }

    /// Chunks that hold bytes of `[from, to)` of the segment.
    fn overlapping(&self, segment: i64, from: u64, to: u64) -> impl Iterator<Item = &TailChunk> {
        let first = self.chunks.partition_point(|c| (c.segment, c.end()) <= (segment, from));
        self.chunks
            .range(first..)
            .take_while(move |c| c.segment == segment && c.start < to && from < to)
    }

    /// Where the chunk that holds byte `position` of the segment ends when it is full. Quick where that is one of the last.
    pub fn chunk_end(&self, segment: i64, position: u64) -> Option<u64> {
        let mut from_the_end = self.chunks.iter().rev();
        let chunk = from_the_end.find(|c| (c.segment, c.start) <= (segment, position))?;
        (chunk.segment == segment && position < chunk.capacity_end()).then(|| chunk.capacity_end())
    }

    /// Shared bytes `[from, to)`, which must be here.
    pub fn views(&self, segment: i64, from: u64, to: u64) -> Vec<Bytes> {
        self.overlapping(segment, from, to)
            .map(|c| c.view(from.max(c.start), to.min(c.end())))
            .collect()
    }

    /// Bytes `[from, to)` for a reader, which must be here: shared where they are much of a chunk.
    pub fn parts(&self, segment: i64, from: u64, to: u64) -> Vec<Bytes> {
        self.overlapping(segment, from, to)
            .map(|c| c.part(from.max(c.start), to.min(c.end())))
            .collect()
    }

    /// Borrowed bytes `[from, to)`, which must be here.
    pub fn slices(&self, segment: i64, from: u64, to: u64) -> Vec<&[u8]> {
        self.pieces(segment, from, to).collect()
    }

    /// The same one after the other.
    pub fn pieces(&self, segment: i64, from: u64, to: u64) -> impl Iterator<Item = &[u8]> {
        self.overlapping(segment, from, to)
            .map(move |c| c.slice(from.max(c.start), to.min(c.end())))
    }

    /// The header of the batch that begins at `position`, if it is here whole.
    pub fn header_at(&self, segment: i64, position: u64) -> Option<BatchHeader> {
        let mut bytes = [0; HEADER_BYTES];
        let mut filled = 0;
        for chunk in self.overlapping(segment, position, position + HEADER_BYTES as u64) {
            let from = position.max(chunk.start);
            let piece = chunk.slice(from, chunk.end().min(position + HEADER_BYTES as u64));
            bytes[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        if filled < HEADER_BYTES {
            None
        } else {
            BatchHeader::parse(&bytes).ok()
        }
    }

    /// The beginning of the batch that holds `offset`, if it is here. `offset` is below the end of the log.
    pub fn locate(&self, offset: i64) -> Option<Cursor> {
        let chunk = self
            .chunks
            .iter()
            .rev()
            .find(|c| c.marks.first().is_some_and(|m| m.offset <= offset))?;
        let mark = chunk.marks[chunk.marks.partition_point(|m| m.offset <= offset) - 1];
        let mut at = Cursor {
            segment: chunk.segment,
            position: mark.position,
            offset: mark.offset,
        };
        loop {
            let header = self.header_at(at.segment, at.position)?;
            if header.next_offset() > offset {
                return Some(at);
            }
            at.position += header.total_bytes() as u64;
            at.offset = header.next_offset();
        }
    }

    /// The end of the whole batches from `from` (a boundary) that fit `bytes_max` below `limit` (a boundary of the same
    /// segment); with `whole_first` at least one.
    pub fn batches_end(&self, from: Cursor, limit: u64, bytes_max: usize, whole_first: bool) -> u64 {
        if limit - from.position <= bytes_max as u64 {
            return limit;
        }
        // The last mark within the bounds is a boundary; what is left is a walk of less than two marks.
        let bound = from.position + bytes_max as u64;
        let mut position = self
            .boundary_at_or_below(from.segment, bound)
            .unwrap_or(0)
            .max(from.position);
        while let Some(header) = self.header_at(from.segment, position) {
            let next = position + header.total_bytes() as u64;
            let fits = next <= bound || (whole_first && position == from.position);
            if !fits || next > limit {
                break;
            }
            position = next;
        }
        position
    }

    fn boundary_at_or_below(&self, segment: i64, position: u64) -> Option<u64> {
        let here = self.chunks.iter().rev().filter(|c| c.segment == segment);
        here.filter_map(|c| c.marks.iter().rev().find(|m| m.position <= position))
            .map(|m| m.position)
            .next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::Arena;
    use crate::io::Env;
    use crate::io::sim::{Options, World};
    use crate::storage::memory::UNIT_BYTES;

    /// What a reader keeps of a chunk of 1 MiB: few bytes are its own, many are the chunk's.
    #[test]
    fn a_reader_of_a_few_bytes_keeps_no_chunk() {
        World::new(1, Options::default()).block_on(0, |env| async move {
            let region = env.map("/dev/shm/arena".as_ref(), 2 << 20).await.expect("mapped");
            let arena = Arena::format(region, UNIT_BYTES, 7);
            let free = arena.free_bytes();
            let mut tail = Tail::default();
            let chunk = arena.take(64, &[0; 80]).expect("room");
            tail.push(TailChunk::new(0, 0, chunk), &[]);
            tail.append(Cursor::segment_start(0), &[&[7; 100_000]]);
            let (few, many) = (tail.parts(0, 300, 600), tail.parts(0, 0, 50_000));
            tail.pop_front();
            assert_eq!(arena.free_bytes(), free - (1 << 20));
            drop(many);
            assert_eq!(arena.free_bytes(), free);
            assert_eq!(few.concat(), [7; 300]);
        });
    }
}
