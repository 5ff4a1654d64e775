//! Settling and checkpoints: what makes the journal's files free again and bounds what a power cut or a restart costs.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;

use super::ShardDirectory;
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, either};
use crate::base::sync::{join_all, race};
use crate::io::{Env, replace_file};
use crate::storage::health::is_passing;
use crate::storage::partition::Partition;
use crate::storage::state::{Checkpoint, OwnFile, shard_name};

/// `written` appends are settled at least this often.
const SETTLE_MS: u64 = 500;
/// Bytes appended after which a settling round begins whatever the time.
const SETTLE_BYTES: u64 = 64 << 20;
/// Bytes appended after which a checkpoint is taken: what a restart reads at most.
const CHECKPOINT_BYTES: u64 = 256 << 20;
/// Partitions stored side by side in a round.
const SIDE_BY_SIDE: usize = 64;

/// How far settling and checkpoints are.
#[derive(Default)]
pub(super) struct Progress {
    /// `appended_bytes` at the last round, and at the last checkpoint.
    settled_at: Cell<u64>,
    checkpoint_at: Cell<u64>,
    /// The journal's bytes at the last checkpoint.
    journal_at: Cell<u64>,
    /// Memory is short: do not wait for the next tick.
    urged: Cell<bool>,
    /// The round that is on its way was urged.
    in_a_hurry: Cell<bool>,
    number: Cell<u64>,
    /// `journal_from` of the newest checkpoint.
    journal_from: Cell<u64>,
    busy: Cell<bool>,
    done: crate::base::sync::Notify,
}

impl Progress {
    pub(super) fn urge(&self) {
        self.urged.set(true);
    }

    pub(super) fn is_urged(&self) -> bool {
        self.urged.get() || self.in_a_hurry.get()
    }

    pub(super) fn is_due(&self, appended: u64, memory: u64) -> bool {
        appended - self.settled_at.get() > SETTLE_BYTES.min(memory / 4)
    }
}

impl<E: Env> ShardDirectory<E> {
    pub(super) async fn settle_loop(self: Rc<Self>) {
        while !self.stopping.get() && !self.health.is_fenced() {
            let hurries = self.journal.is_starved() && !self.is_full();
            let wait_ms = if hurries { 1 } else { SETTLE_MS };
            let deadline = self.env.now().plus_ms(wait_ms);
            let early = race(self.wake.notified(), self.journal.pressed().notified());
            race(early, self.env.sleep_until(deadline)).await;
            if self.stopping.get() {
                break;
            }
            // There may be space for what there was none.
            self.journal.prepare_next();
            if self.journal.is_starved() && self.journal.lacks_space() {
                self.note_full();
            }
            let since = self.appended_bytes.get() - self.settled.checkpoint_at.get();
            let journaled = self.journal.written_bytes() - self.settled.journal_at.get();
            let starved = self.journal.is_starved();
            let checkpoint = starved || since > CHECKPOINT_BYTES || journaled > self.journal.bytes_max() / 4;
            if self.settle(checkpoint).await.is_err() {
                // Out of service ends it. For lack of space, or when a partition closed in the middle, a round comes again.
                self.settled.urge();
            }
        }
        self.end_task();
    }

    /// One round: stores whole blocks, flushes the file system, records what is settled; with `checkpoint` writes one too.
    pub(super) async fn settle(self: &Rc<Self>, checkpoint: bool) -> Result<(), ()> {
        self.settled.done.until(|| !self.settled.busy.get()).await;
        self.settled.busy.set(true);
        let result = self.round(checkpoint).await;
        if result.is_err() {
            self.members().iter().for_each(|member| member.abandon_round());
        }
        self.settled.in_a_hurry.set(false);
        self.settled.busy.set(false);
        self.settled.done.notify();
        result
    }

    async fn round(self: &Rc<Self>, checkpoint: bool) -> Result<(), ()> {
        let urged = self.settled.urged.replace(false);
        self.settled.in_a_hurry.set(urged);
        if self.journal.is_starved() {
            // All commits wait for the files that this round makes free.
            self.writes.hurry();
        }
        let everything = checkpoint || urged;
        let appended = self.appended_bytes.get();
        let journaled = self.journal.written_bytes();
        let journal_from = self.journal.undurable_sequence();
        self.settled.settled_at.set(appended);
        let members: Vec<Rc<Partition<E>>> = self
            .members()
            .into_iter()
            .filter(|p| p.begin_settling(everything) || checkpoint)
            .collect();
        if members.is_empty() && !checkpoint {
            return Ok(());
        }
        let mut encoded = Vec::new();
        for group in members.chunks(SIDE_BY_SIDE) {
            for stored in join_all(group.iter().map(|p| p.store_for_settling()).collect()).await {
                stored?;
            }
            group
                .iter()
                .for_each(|p| p.snapshot(checkpoint.then_some(&mut encoded)));
            self.env.yield_now().await;
        }
        if let Err(error) = self.flush_file_system().await {
            self.fence("flushing the file system", &error);
            return Err(());
        }
        members.iter().for_each(|p| p.finish_settling());
        if !checkpoint {
            return Ok(());
        }
        self.write_checkpoint(journal_from, members.len() as u32, encoded)
            .await?;
        self.settled.checkpoint_at.set(appended);
        self.settled.journal_at.set(journaled);
        Ok(())
    }

    async fn write_checkpoint(self: &Rc<Self>, journal_from: u64, count: u32, encoded: Vec<u8>) -> Result<(), ()> {
        let number = self.settled.number.get();
        let (start, shard) = (self.start, self.shard as u64);
        let own = OwnFile::Shard { start, shard, number };
        let content = Checkpoint::encode(self.place.id, own, journal_from, count, &encoded);
        let path = self.place.path.join(shard_name(start, shard, number));
        if let Err(error) = replace_file(&self.env, &path, Bytes::from(content)).await {
            if is_passing(&error) {
                self.note_passing(&error);
                return Err(());
            }
            self.fence("writing a checkpoint", &error);
            return Err(());
        }
        mark(Mark::Checkpoint);
        // The one before stays usable: the journal is kept from where it begins.
        let kept_from = self.settled.journal_from.replace(journal_from);
        self.journal
            .release(either(Bug::RecycleTooEarly, journal_from, kept_from));
        self.settled.number.set(number + 1);
        if number >= 2 {
            let old = self.place.path.join(shard_name(start, shard, number - 2));
            if let Err(error) = self.env.unlink(&old).await {
                tracing::debug!(file = %old.display(), %error, "an old checkpoint stays");
            }
        }
        Ok(())
    }
}
