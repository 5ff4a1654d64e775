//! What the cold readers of a directory share: room, descriptors, buffers, what was read ahead.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::base::buffer::{AlignedBuf, Pool};
use crate::base::ids::PartitionId;
use crate::base::sync::{Budget, Holder};
use crate::io::Env;
use crate::io::turns::Turns;
use crate::storage::StoreOptions;
use crate::storage::ahead::Windows;
use crate::storage::cold::{ColdSegment, SegmentPlace};

/// Segments whose descriptors and rows are kept: 30 KiB of rows each.
const SEGMENTS_MAX: usize = 128;
/// A buffer of the pool.
const BUFFER_BYTES: usize = (1 << 20) + 8192;
const BUFFERS_KEPT: usize = 16;
/// Bytes of reads under way; a larger one is alone.
const BYTES_IN_FLIGHT_MAX: u64 = 16 << 20;
/// What part of the store's memory may be read ahead.
const WINDOWS_PART: u64 = 4;
/// Steps of look-ups by time under way; each has some batches in memory.
const LOOKUP_STEPS_MAX: u64 = 8;

type SegmentKey = (PartitionId, i64);

pub struct Reading<E: Env> {
    /// The room that reads under way share.
    pub room: Rc<Budget>,
    /// What is read before it is asked for.
    pub windows: Windows,
    /// The room that look-ups by time share, a unit for what one step reads.
    pub lookup_steps: Rc<Budget>,
    /// One look-up at a time decompresses, so that others of the shard have their turn in between.
    pub decode_turn: Rc<Budget>,
    /// A read that the page cache answers, and a check of what was read, take a quarter of a millisecond for a window.
    turns: Rc<Turns>,
    buffers: Pool,
    /// By partition and base, as a folder's name may be used again while somebody still reads what it held.
    segments: RefCell<VecDeque<(SegmentKey, Rc<ColdSegment<E>>)>>,
}

impl<E: Env> Reading<E> {
    pub(super) fn new(options: &StoreOptions) -> Self {
        Self {
            // In order: a large read is not passed by small ones for ever.
            room: Budget::in_order(BYTES_IN_FLIGHT_MAX),
            windows: Windows::new(options.memory_bytes / WINDOWS_PART / options.directories.len().max(1) as u64),
            lookup_steps: Budget::new(LOOKUP_STEPS_MAX),
            decode_turn: Budget::new(1),
            turns: Rc::default(),
            buffers: Pool::new(BUFFER_BYTES, BUFFERS_KEPT),
            segments: RefCell::default(),
        }
    }

    /// Waits for a turn to have the core for a window's worth of work.
    pub async fn turn(&self, env: &E) {
        self.turns.turn(env, Holder(0)).await;
    }

    /// A segment's descriptors.
    pub async fn segment(&self, env: &E, folder: &Path, place: &SegmentPlace) -> io::Result<Rc<ColdSegment<E>>> {
        let key = (place.partition, place.base);
        let segment = match self.take_segment(key, place) {
            Some(segment) => segment,
            None => {
                let opened = ColdSegment::open(env, folder, place).await?;
                // Another reader may have opened it meanwhile.
                self.take_segment(key, place).unwrap_or_else(|| Rc::new(opened))
            }
        };
        let mut segments = self.segments.borrow_mut();
        if segments.len() >= SEGMENTS_MAX {
            segments.pop_front();
        }
        segments.push_back((key, segment.clone()));
        Ok(segment)
    }

    /// Takes a segment out that is open; what does not fit any more is closed.
    fn take_segment(&self, key: SegmentKey, place: &SegmentPlace) -> Option<Rc<ColdSegment<E>>> {
        let mut segments = self.segments.borrow_mut();
        let index = segments.iter().position(|(k, _)| *k == key)?;
        let (_, segment) = segments.remove(index)?;
        segment.fits(place).then_some(segment)
    }

    /// A segment whose descriptors are open.
    pub fn known_segment(&self, partition: PartitionId, base: i64) -> Option<Rc<ColdSegment<E>>> {
        let segments = self.segments.borrow();
        let known = segments.iter().rev().find(|(key, _)| *key == (partition, base));
        known.map(|(_, segment)| segment.clone())
    }

    /// Closes the descriptors of a segment about to be deleted.
    pub fn forget_segment(&self, partition: PartitionId, base: i64) {
        let key = (partition, base);
        self.segments.borrow_mut().retain(|(k, _)| *k != key);
    }

    /// Closes the descriptors of a partition about to be deleted, and gives back what was read ahead of it.
    pub fn forget_partition(&self, partition: PartitionId) {
        self.windows.forget(partition);
        self.segments.borrow_mut().retain(|((of, _), _)| *of != partition);
    }

    /// A buffer for a read of `bytes`.
    pub fn buffer(&self, bytes: usize) -> AlignedBuf {
        if bytes <= BUFFER_BYTES && bytes > BUFFER_BYTES / 2 {
            self.buffers.take_of(bytes)
        } else {
            AlignedBuf::new(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;
    use crate::base::sync::join_all;
    use crate::io::OpenOptions;
    use crate::io::sim::{Options, SimEnv, World};
    use crate::storage::segment::path_of;

    #[test]
    fn readers_that_open_a_segment_at_once_share_it() {
        World::new(1, Options::default()).block_on(0, |env| async move {
            let reading = Reading::<SimEnv>::new(&StoreOptions {
                directories: Vec::new(),
                arena_directory: "/dev/shm".into(),
                memory_bytes: 1 << 20,
                journal_bytes: 1 << 20,
                reserve_bytes: 0,
                producer_expiration_ms: 1,
                producer_count_max: 1,
                retention_check_ms: 1,
                shard: 0,
                shards: 1,
            });
            let folder = Path::new("/topic-0");
            env.create_directory(folder).await.expect("made");
            env.open(&path_of(folder, 7, "log"), OpenOptions::CREATE_DIRECT)
                .await
                .expect("made");
            let partition = PartitionId {
                topic: TopicId([1; 16]),
                index: 0,
            };
            let place = SegmentPlace {
                partition,
                base: 7,
                next_offset: 8,
                log_bytes: 0,
                growing: None,
            };
            let open = || reading.segment(&env, folder, &place);
            let opened = join_all(vec![open(), open()]).await;
            let [Ok(first), Ok(second)] = &opened[..] else {
                panic!("not opened");
            };
            assert!(Rc::ptr_eq(first, second));
            let known = reading.known_segment(partition, 7).expect("kept");
            assert!(Rc::ptr_eq(first, &known));
            reading.forget_segment(partition, 7);
            assert!(reading.known_segment(partition, 7).is_none(), "one entry each");
        });
    }
}
