//! Faults that a build made for it alone can be told to have, to show which tests find such faults.
//!
//! `RUSTFLAGS="--cfg ringtail_planted"` compiles them in, the variable `RINGTAIL_PLANTED` chooses one by its name, and
//! `tests/planted.sh` tries them all. In every other build `planted` is a constant and nothing of this is there. Each has its
//! row in `docs/planted.md`.

macro_rules! bugs {
    ($($(#[$what:meta])+ $name:ident,)+) => {
        /// A fault, by what the broker does wrong with it.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$what])+ $name,)+
        }

        #[cfg(ringtail_planted)]
        const ALL: &[(Bug, &str)] = &[$((Bug::$name, stringify!($name)),)+];
    };
}

bugs! {
    /// A `flushed` append is shown and answered when it lies in memory.
    AcknowledgeBeforeFlush,
    /// Of a commit with bytes that go straight to a segment the journal's file is flushed, and not the segment's.
    FlushWrongFile,
    /// A commit is written and not flushed.
    CommitUnflushed,
    /// A settling round counts what it stored as settled without flushing the file system.
    SettleUnflushed,
    /// The last block of a larger commit is not written.
    SkipJournalBlock,
    /// One commit in sixteen is not written, and the next one confirms it.
    ConfirmUnwrittenCommit,
    /// An append is answered when all but its last record is durable.
    DurableOffByOne,
    /// A failed flush of a file system is tried again, and what the first one lost counts as flushed.
    RetryFailedFlush,
    /// A failed write of a commit counts as done.
    CommitFailureIgnored,
    /// A directory that is out of service is served.
    ServeFencedDirectory,
    /// A lack of space takes the directory out of service.
    FullFences,
    /// Corruption below what is known to be durable is taken for a torn tail.
    CorruptionIsTornTail,
    /// A commit that is there in part counts as whole.
    TornCommitIsWhole,
    /// What a journal's file held in an earlier use is read as if it were of this one.
    ReplayRecycledJournal,
    /// A journal file is taken for the one whose header it has, whatever its own name is.
    JournalHeaderUnchecked,
    /// A journal file is used again when the newest checkpoint alone does not need it.
    RecycleTooEarly,
    /// Recovery removes what tells it where logs end before the new base checkpoint is durable.
    RemoveBeforeBase,
    /// Recovery leaves what lies behind the end of a log.
    StaleBytesStay,
    /// Recovery believes memory of another boot of the machine.
    BelieveOtherBoot,
    /// A checkpoint is believed whatever its check sum says.
    BelieveBadCheckpoint,
    /// Recovery does not read where retention had moved the start of a log to.
    LogStartGoesBack,
    /// Retention deletes a segment before the log start behind it is durable.
    DeleteBeforeLogStart,
    /// Four batches of a producer are told from new ones instead of five.
    WindowOfFour,
    /// A log that goes on in its next segment forgets its producers.
    ForgetProducersAtRoll,
    /// A checkpoint has no producers.
    ForgetProducersAtCheckpoint,
    /// Recovery does not note the producers of the batches that it walks over: a retry after a restart is appended again.
    ForgetProducersInReplay,
    /// A retried batch is answered with the offset behind its first.
    DuplicateAtWrongOffset,
    /// A reader is given what is not durable yet.
    FetchAboveHighWatermark,
    /// What is read from a segment is served whatever its check sum says.
    ColdReadUnchecked,
    /// An index entry points behind the batch that it names.
    IndexOneBatchTooFar,
    /// A look-up by time begins one segment too late.
    TimeLookupSkipsSegment,
    /// A look-up by time passes over a segment that is missing.
    TimeLookupOverGap,
    /// Retention by time or size takes a segment more than it should.
    RetentionOneTooMany,
    /// A folder is the partition that its `partition.metadata` names, whatever its own name is.
    MisnamedFolderTaken,
    /// The files of a deleted partition stay under its name.
    DeletedFilesStay,
    /// An answer that is not known yet lets later ones pass.
    AnswersOutOfOrder,
    /// The memory of an answer is not given back when it is sent.
    PermitLeaked,
    /// An append that waited for memory is not looked at again.
    LostWakeUp,
    /// A metadata command is answered when its record is written and not flushed.
    MetadataUnflushed,
}

/// Whether this build has `bug` and was told to show it.
#[cfg(not(ringtail_planted))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// What `bug` does where the broker does `right`.
#[inline(always)]
pub fn either<T>(bug: Bug, wrong: T, right: T) -> T {
    if planted(bug) { wrong } else { right }
}

/// To be called at the start: ends the process if it is told of a bug that there is not.
#[cfg(not(ringtail_planted))]
#[inline(always)]
pub const fn choose() {}

#[cfg(ringtail_planted)]
pub use chosen::{VARIABLE, choose, planted};

#[cfg(ringtail_planted)]
mod chosen {
    use std::sync::LazyLock;

    use super::{ALL, Bug};

    pub const VARIABLE: &str = "RINGTAIL_PLANTED";

    static CHOSEN: LazyLock<Option<Bug>> = LazyLock::new(|| {
        let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
        let found = ALL.iter().find(|(_, known)| *known == name);
        let names = || ALL.iter().map(|(_, known)| format!("\n{known}")).collect::<String>();
        Some(
            found
                .unwrap_or_else(|| panic!("{VARIABLE}={name} is none of{}", names()))
                .0,
        )
    });

    pub fn planted(bug: Bug) -> bool {
        *CHOSEN == Some(bug)
    }

    pub fn choose() {
        LazyLock::force(&CHOSEN);
    }
}
