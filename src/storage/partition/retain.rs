//! Deletion of whole segments from the front: by age, by size, by request.

use std::io;
use std::rc::Rc;

use super::Partition;
use super::log::{Log, State};
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, either, planted};
use crate::io::Env;
use crate::storage::journal::rows::Row;
use crate::storage::segment::{ClosedSegment, unlink_segment};

/// How many of the oldest segments to delete (pure): `closed` are the closed ones, oldest first, `active_bytes` what follows
/// them; a negative limit means none.
pub(super) fn expired(
    closed: &[ClosedSegment],
    active_bytes: u64,
    now_ms: i64,
    retention_ms: i64,
    retention_bytes: i64,
    log_start: i64,
) -> usize {
    let mut bytes = closed.iter().map(|s| s.bytes).sum::<u64>() + active_bytes;
    let mut count = 0;
    for segment in closed {
        let below_start = segment.next_offset <= log_start;
        let age = segment.largest_ms.map(|largest| now_ms.saturating_sub(largest));
        let old = retention_ms >= 0 && age.is_some_and(|age| age > retention_ms);
        let surplus = retention_bytes >= 0 && bytes - segment.bytes >= retention_bytes as u64;
        if !below_start && !old && !surplus {
            break;
        }
        bytes -= segment.bytes;
        count += 1;
    }
    count + usize::from(planted(Bug::RetentionOneTooMany) && (1..closed.len()).contains(&count))
}

impl<E: Env> Partition<E> {
    /// Deletes what the topic's retention lets go. The log start is durable before a file goes.
    pub(in crate::storage) async fn retain(self: &Rc<Self>) {
        self.learn_oldest_time().await;
        let doomed: Vec<ClosedSegment> = {
            let log = self.log.borrow();
            if log.state != State::Serving || !log.options.cleanup.delete {
                return;
            }
            self.doomed(&log)
        };
        let Some(last) = doomed.last() else { return };
        self.advance_log_start(last.next_offset).await;
        if self.directory.health().is_fenced() {
            return;
        }
        // A deletion waits for this turn; after it the names may be another partition's.
        let _turn = self.store_turn.acquire(1).await;
        if self.log.borrow().state != State::Serving {
            return;
        }
        for segment in &doomed {
            self.directory.reading().forget_segment(self.id(), segment.base);
            if let Err(error) = unlink_segment(&self.env, &self.folder, segment.base).await {
                tracing::warn!(folder = %self.folder.display(), base = segment.base, %error, "an expired segment stays");
                return;
            }
            mark(Mark::RetentionDelete);
            let mut log = self.log.borrow_mut();
            if log.closed.front().is_some_and(|s| s.base == segment.base) {
                log.closed.pop_front();
            }
        }
        tracing::info!(folder = %self.folder.display(), segments = doomed.len(), "deleted by retention");
    }

    /// Finds the largest timestamp of the oldest segments, as far as a restart left it unknown and retention asks for it.
    async fn learn_oldest_time(self: &Rc<Self>) {
        loop {
            let oldest = {
                let log = self.log.borrow();
                let limit = log.options.retention_ms;
                let now_ms = self.env.wall_ms();
                let old = |s: &&ClosedSegment| {
                    s.largest_ms
                        .is_some_and(|t| limit >= 0 && now_ms.saturating_sub(t) > limit)
                };
                log.closed.iter().find(|s| !old(s)).copied()
            };
            let Some(segment) = oldest.filter(|s| s.largest_ms.is_none()) else {
                return;
            };
            let Ok(largest_ms) = self.age_of(segment.base).await else {
                return;
            };
            if self.log.borrow().closed_segment(segment.base).is_none() {
                return;
            }
            self.note_largest_time(segment.base, Some(largest_ms), false);
        }
    }

    /// The largest timestamp of a closed segment; one of which nothing is known counts as written just now.
    async fn age_of(&self, segment: i64) -> io::Result<i64> {
        let largest_ms = match self.largest_time_of(segment).await? {
            None => self.last_time_entry(segment).await?,
            known => known,
        };
        Ok(largest_ms.unwrap_or_else(|| self.env.wall_ms()))
    }

    fn doomed(&self, log: &Log<E>) -> Vec<ClosedSegment> {
        // A segment may be stored whole before the commit that makes it count: the log start never passes what is visible.
        let visible = log.visible.offset;
        let closed: Vec<ClosedSegment> = log
            .closed
            .iter()
            .take_while(|s| s.next_offset <= visible)
            .copied()
            .collect();
        let active = log.stored_bytes() - closed.iter().map(|s| s.bytes).sum::<u64>();
        let options = &log.options;
        let now_ms = self.env.wall_ms();
        let (ms, bytes) = (options.retention_ms, options.retention_bytes);
        let count = expired(&closed, active, now_ms, ms, bytes, log.ends.log_start);
        closed[..count].to_vec()
    }

    /// Moves the log start up to `offset`: readers are told when it is durable, so that it never goes back for them.
    async fn advance_log_start(self: &Rc<Self>, offset: i64) {
        {
            let mut log = self.log.borrow_mut();
            log.asked_log_start = log.asked_log_start.max(offset);
            log.notes.push(Row::LogStart {
                owner: self.owner,
                offset,
            });
        }
        self.ask_journal();
        // Asked while a commit with the partition was in flight, the row goes into the one after the first barrier's.
        for _ in 0..either(Bug::DeleteBeforeLogStart, 0, 2) {
            self.directory.journal_barrier().await;
        }
        if self.directory.health().is_fenced() {
            return;
        }
        let mut log = self.log.borrow_mut();
        if offset > log.ends.log_start {
            log.ends.advance(|e| e.log_start = offset);
            log.epochs.trim(offset);
        }
        drop(log);
        self.advanced.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<ClosedSegment> {
        (0..4i64)
            .map(|i| ClosedSegment {
                base: i * 10,
                bytes: 100,
                next_offset: i * 10 + 10,
                largest_ms: Some(i * 1000),
                is_latest_yet: false,
            })
            .collect()
    }

    #[test]
    fn old_and_surplus_segments_expire_from_the_front() {
        let all = segments();
        assert_eq!(expired(&all, 50, 5000, -1, -1, 0), 0);
        assert_eq!(expired(&all, 50, 5000, 3500, -1, 0), 2);
        assert_eq!(expired(&all, 50, 5000, -1, 250, 0), 2);
        assert_eq!(expired(&all, 50, 5000, -1, 0, 0), 4);
        assert_eq!(expired(&all, 50, 5000, -1, 450, 0), 0);
        assert_eq!(expired(&all, 50, 5000, -1, -1, 20), 2);
    }
}
