//! Reading on: whoever begins where a read ended has the next window read while this one is on its way to him.

use std::rc::Rc;

use bytes::Bytes;

use super::Partition;
use super::log::State;
use super::wanted::{READ_BYTES_MAX, WantedBatches};
use crate::base::coverage::{Mark, mark};
use crate::io::{Env, Queue};
use crate::storage::ReadError;
use crate::storage::ahead::Batches;
use crate::wire::batch::{ScanOptions, scan};

/// Windows behind the one that a reader asks for next, once he came by one.
const FOLLOWERS: u32 = 1;

impl<E: Env> Partition<E> {
    /// What was read ahead at the offset, within what is wanted of it; `None` when there is nothing, or it failed.
    pub(super) async fn read_ahead(self: &Rc<Self>, wanted: WantedBatches) -> Option<Bytes> {
        let windows = &self.directory.reading().windows;
        let window = windows.claim((self.id(), wanted.offset))?;
        let batches = window.batches().await?;
        mark(Mark::ReadAhead);
        let (end, next_offset) = first_of(&batches, wanted);
        let mut bytes = batches.bytes;
        let rest = bytes.split_off(end);
        let few_left = rest.len() * 2 < READ_BYTES_MAX;
        match rest.is_empty() {
            // Its room is the next one's.
            true => drop(window),
            false => {
                window.leave(rest);
                windows.put_back((self.id(), next_offset), window);
            }
        }
        if few_left && wanted.comes_back {
            self.read_on(batches.next_offset, FOLLOWERS);
        }
        Some(bytes)
    }

    /// A read from the device, and the next one begun if the reader seems to go on.
    pub(super) async fn read_and_go_on(self: &Rc<Self>, wanted: WantedBatches) -> Result<Bytes, ReadError> {
        let goes_on = wanted.comes_back && self.remembered_place(wanted.offset).is_some();
        let read = self.read_cold(wanted).await?;
        // Batches larger than a window are not worth one.
        if goes_on && (1..=READ_BYTES_MAX).contains(&read.bytes.len()) {
            self.read_on(read.next_offset, 0);
        }
        Ok(read.bytes)
    }

    /// Somebody is about to read from `offset` on.
    pub fn read_soon(self: &Rc<Self>, offset: i64) {
        let reading = self.directory.reading();
        let base = self.log.borrow().segment_of(offset);
        let segment = base.and_then(|base| reading.known_segment(self.id(), base));
        // What comes from the page cache need not be read.
        if segment.is_none_or(|segment| segment.cached_log().is_none() || segment.warmth.is_cold()) {
            self.read_on(offset, 0);
        }
    }

    /// Begins a window at `offset` and `followers` behind it as each is read, unless the offset is in memory or nothing is there yet, or
    /// who asked already waits for the disk.
    fn read_on(self: &Rc<Self>, offset: i64, followers: u32) {
        let reading = self.directory.reading();
        let windows = &reading.windows;
        if reading.room.is_awaited() {
            return;
        }
        if let Some(next) = windows.lead((self.id(), offset), followers) {
            return next.into_iter().for_each(|next| self.read_on(next, followers - 1));
        }
        let is_cold = {
            let log = self.log.borrow();
            log.state == State::Serving && offset < log.visible.offset && log.tail.locate(offset).is_none()
        };
        if !is_cold {
            return;
        }
        let (bytes, now) = (READ_BYTES_MAX as u64, self.env.now());
        let Some(window) = windows.begin((self.id(), offset), bytes, followers, now) else {
            return;
        };
        let partition = self.clone();
        self.env.spawn(Queue::Foreground, async move {
            let wanted = WantedBatches::new(offset, READ_BYTES_MAX, true);
            let read = partition.read_cold(wanted).await.ok();
            // Batches larger than a window are not worth another.
            let is_worth_it = read.as_ref().is_some_and(|read| read.bytes.len() <= READ_BYTES_MAX);
            let next = partition.directory.reading().windows.fill(&window, read);
            if let Some((next, followers)) = next.filter(|_| is_worth_it) {
                partition.read_on(next, followers);
            }
        });
    }
}

/// The end of the first whole batches that are within what is wanted, and the offset behind them.
fn first_of(batches: &Batches, wanted: WantedBatches) -> (usize, i64) {
    if batches.bytes.len() <= wanted.bytes_max {
        return (batches.bytes.len(), batches.next_offset);
    }
    let options = ScanOptions {
        // They verified when they were read.
        crc_check: false,
        batch_bytes_max: usize::MAX,
    };
    let (mut end, mut next_offset) = (0, wanted.offset);
    for batch in scan(&batches.bytes, options).map_while(Result::ok) {
        let batch_end = batch.position + batch.bytes.len();
        let is_first = batch.position == 0;
        if batch_end > wanted.bytes_max && !(is_first && wanted.whole_first) {
            break;
        }
        (end, next_offset) = (batch_end, batch.header.next_offset());
    }
    (end, next_offset)
}
