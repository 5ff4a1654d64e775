//! Named places of the code that crash exploration must have been at. A mark costs one thread-local increment and stands
//! only where something rare happens; a test reads the counts and fails on a zero.

use std::cell::Cell;

/// A place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// A log went on in its next segment.
    Roll,
    /// The journal went on in its next file.
    JournalFileEntered,
    /// A journal file was taken for another use.
    JournalFileRecycled,
    /// Bytes of a commit went straight to their segment.
    DirectPath,
    /// A shard checkpoint was written.
    Checkpoint,
    /// A shard checkpoint did not verify, and the one before it was used.
    CheckpointFallback,
    /// Recovery found the journal's last commit torn.
    TornCommit,
    /// Recovery found chunks that a killed process left.
    ArenaRecovered,
    /// Recovery wrote blocks that journal or arena had and the segment had not.
    BlocksRestored,
    /// Recovery finished a segment's files and went on in the next.
    RollRecovered,
    /// Recovery went on behind segments that retention had deleted.
    DeletedSkipped,
    /// Behind a log's end lay bytes that are not zero, and were erased.
    StaleErased,
    /// Recovery removed a segment that begins behind the end or ends below the start.
    SegmentRemoved,
    /// Recovery or a new partition removed what a deleted one had left.
    LeftoversRemoved,
    /// An expired segment was deleted.
    RetentionDelete,
    /// A settling round gave the partial block of a `written` log to the journal.
    WrittenTailJournaled,
    /// Tail memory was given back because an append asked for it.
    MemoryEvicted,
    /// A tail was moved together so that others get memory.
    TailShrunk,
    /// An append waited for memory.
    MemoryAwaited,
    /// An append waited for the disk to take what is before it.
    StoringAwaited,
    /// An append waited for its segment's file to grow.
    SpaceAwaited,
    /// A read came from a file.
    ColdRead,
    /// A read was given what was read ahead of it.
    ReadAhead,
    /// A retried batch was answered with its first offset.
    Duplicate,
    /// A log went from `written` to `flushed`.
    BecameFlushed,
    /// A directory was taken out of service.
    Fenced,
    /// Produce was refused for lack of space.
    Full,
    /// There was space again.
    SpaceBack,
}

/// All marks, in their order.
pub const MARKS: &[Mark] = &[
    Mark::Roll,
    Mark::JournalFileEntered,
    Mark::JournalFileRecycled,
    Mark::DirectPath,
    Mark::Checkpoint,
    Mark::CheckpointFallback,
    Mark::TornCommit,
    Mark::ArenaRecovered,
    Mark::BlocksRestored,
    Mark::RollRecovered,
    Mark::DeletedSkipped,
    Mark::StaleErased,
    Mark::SegmentRemoved,
    Mark::LeftoversRemoved,
    Mark::RetentionDelete,
    Mark::WrittenTailJournaled,
    Mark::MemoryEvicted,
    Mark::TailShrunk,
    Mark::MemoryAwaited,
    Mark::StoringAwaited,
    Mark::SpaceAwaited,
    Mark::ColdRead,
    Mark::ReadAhead,
    Mark::Duplicate,
    Mark::BecameFlushed,
    Mark::Fenced,
    Mark::Full,
    Mark::SpaceBack,
];

thread_local! {
    static COUNTS: [Cell<u64>; MARKS.len()] = const { [const { Cell::new(0) }; MARKS.len()] };
}

/// Counts a visit of this thread.
pub fn mark(place: Mark) {
    COUNTS.with(|counts| counts[place as usize].set(counts[place as usize].get() + 1));
}

/// This thread's visits so far.
pub fn count(place: Mark) -> u64 {
    COUNTS.with(|counts| counts[place as usize].get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_count_under_their_own_name() {
        assert!(MARKS.iter().enumerate().all(|(i, mark)| *mark as usize == i));
        let before = count(Mark::Full);
        mark(Mark::Full);
        mark(Mark::Full);
        assert_eq!((count(Mark::Full) - before, count(Mark::SpaceBack)), (2, 0));
    }
}
