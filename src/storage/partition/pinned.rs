//! Readers that follow each other: what was read before goes through the page cache, and out of it without being looked at again.
//!
//! Only rows of the sums that verified when they came into the cache are sent so, whole, to who begins where one of them does. As an
//! ordinary read ends where a row does, whoever reads on begins there.

use std::ops::Range;

use super::Partition;
use super::log::State;
use super::read::ColdPlan;
use super::wanted::WantedBatches;
use crate::base::buffer::Pinned;
use crate::io::{Env, OpenOptions, PINNED_BYTES_MAX, Unpinned};
use crate::storage::LogSlice;
use crate::storage::cold::{ColdSegment, Sums};
use crate::storage::segment::path_of;
use crate::storage::sums::Row;

/// A row that takes more pipes than four is sent as bytes.
const LARGE_ROW_BYTES_MAX: u64 = 4 * PINNED_BYTES_MAX as u64;

/// Where a file still grows, so much before its end is read past the cache: the kernel reads ahead, and a direct write that meets
/// cached pages of what was not there yet goes to a kernel worker.
const READ_AHEAD_BYTES: u64 = 16 << 20;

impl<E: Env> Partition<E> {
    /// What can be sent from the page cache; `None` where that is not so, for whatever reason.
    pub(super) async fn read_pinned(&self, wanted: WantedBatches) -> Option<LogSlice> {
        let base = self.log.borrow().segment_of(wanted.offset)?;
        let segment = self.directory.reading().known_segment(self.id(), base)?;
        let (Sums::Present(sums), Some(file)) = (&segment.sums, segment.cached_log()) else {
            return None;
        };
        let plan = self.plan_cold(wanted.offset).ok()?;
        if segment.warmth.is_cold() || !segment.fits(plan.place()) {
            return None;
        }
        let found = self.find_rows(&plan, Some(sums), wanted.offset).await.ok()??;
        let (range, next_offset) = whole_rows(&found.rows, &plan, wanted)?;
        if !segment.warmth.is_cached(found.id, &range) {
            return None;
        }
        let pinned = match self.pin(&file, range.clone()) {
            Ok(pinned) => pinned,
            Err(why) => {
                if why == Unpinned::Absent {
                    segment.warmth.has_gone();
                }
                return None;
            }
        };
        segment.warmth.was_there();
        // Retention may have deleted the segment meanwhile.
        if wanted.offset < self.ends().log_start {
            return None;
        }
        // What was read ahead for this reader is not asked for any more.
        self.directory.reading().windows.forget_from((self.id(), wanted.offset));
        self.remember(base, wanted.offset, (range.end, next_offset));
        Some(LogSlice {
            bytes: (range.end - range.start) as usize,
            pinned,
            ..LogSlice::default()
        })
    }

    fn pin(&self, file: &E::File, range: Range<u64>) -> Result<Vec<Pinned>, Unpinned> {
        let begins = range.clone().step_by(PINNED_BYTES_MAX);
        let pin = |from: u64| {
            let bytes = (range.end - from).min(PINNED_BYTES_MAX as u64);
            self.env.pin(file, from, bytes as usize)
        };
        begins.map(pin).collect()
    }

    /// The file to read a range through the cache, if it was read before.
    pub(super) async fn through_cache(
        &self,
        plan: &ColdPlan<E>,
        segment: &ColdSegment<E>,
        range: Range<u64>,
    ) -> Option<E::File> {
        let is_over = plan
            .stored()
            .is_none_or(|stored| range.end + READ_AHEAD_BYTES <= stored);
        if !is_over || !self.env.can_pin() || !segment.warmth.was_read(&range) {
            return None;
        }
        if let Some(file) = segment.cached_log() {
            return Some(file);
        }
        let path = path_of(&self.folder, plan.place().base, "log");
        let file = self.env.open(&path, OpenOptions::READ_CACHED).await.ok()?;
        // A topic that was deleted meanwhile may have left its name to another.
        if self.log.borrow().state == State::Closed {
            return None;
        }
        segment.keep_cached_log(file.clone());
        Some(file)
    }
}

/// The rows to be sent to who wants that, where they begin with just the offset, and the offset behind them.
fn whole_rows<E: Env>(rows: &[Row], plan: &ColdPlan<E>, wanted: WantedBatches) -> Option<(Range<u64>, i64)> {
    let first = rows.first().filter(|row| row.first_offset == wanted.offset)?;
    let bytes_max = (wanted.bytes_max as u64).min(PINNED_BYTES_MAX as u64);
    let fits = |row: &&Row| row.end - first.start <= bytes_max && row.end <= plan.limit();
    let last = match rows.iter().take_while(fits).last() {
        Some(last) => last,
        // One that is larger than a pipe takes several.
        None if first.bytes() <= LARGE_ROW_BYTES_MAX.min(wanted.bytes_max as u64) && first.end <= plan.limit() => first,
        None => return None,
    };
    Some((first.start..last.end, last.next_offset))
}
