//! Appends that a slow directory holds up, and the request memory that they hold meanwhile.
//!
//! Where there are several directories, one that is late keeps no more than half of a shard's request memory, and none that
//! other requests wait for: its appends are answered before their time is over, and what comes then is refused. So a slow disk
//! does not keep the shard from reading requests to the others.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::rc::Rc;

use smallvec::SmallVec;

use super::Memory;
use crate::base::sync::Notify;
use crate::cluster::DirectoryId;
use crate::io::{Env, Monotonic};

/// A directory is late when an append has waited for it so long.
const LATE_MS: u64 = 500;

/// Appends of one shard's connections to one directory, that are not answered.
#[derive(Default)]
struct Waiting {
    bytes: u64,
    /// When each began, and its ticket.
    began: BTreeSet<(Monotonic, u64)>,
}

impl Waiting {
    fn is_late(&self, now: Monotonic) -> bool {
        self.began
            .first()
            .is_some_and(|(began, _)| now.ms_since(*began) >= LATE_MS)
    }
}

/// What the appends of one shard's connections wait for.
pub struct Lateness {
    /// What one directory may hold while it is late; none: there is only one.
    bytes_max: Option<u64>,
    waiting: RefCell<BTreeMap<DirectoryId, Waiting>>,
    tickets: Cell<u64>,
    beat: Notify,
}

/// The appends of one request; it counts until it is dropped.
pub struct Held {
    of: Rc<Lateness>,
    began: Monotonic,
    ticket: u64,
    parts: DirectoryBytes,
}

/// Directories, and the bytes for each: mostly one.
pub type DirectoryBytes = SmallVec<[(DirectoryId, u64); 1]>;

impl Lateness {
    /// For `directories` that share `request_bytes`.
    pub fn new(directories: usize, request_bytes: u64) -> Rc<Self> {
        Rc::new(Self {
            bytes_max: (directories > 1).then_some(request_bytes / 2),
            waiting: RefCell::default(),
            tickets: Cell::new(0),
            beat: Notify::default(),
        })
    }

    /// Whether the directory is late, and holds so much (or requests wait for memory: `is_awaited`) that nothing more of `bytes` is
    /// to wait for it.
    pub fn refuses(&self, directory: DirectoryId, bytes: u64, is_awaited: bool, now: Monotonic) -> bool {
        let waiting = self.waiting.borrow();
        let Some((bytes_max, waiting)) = self.bytes_max.zip(waiting.get(&directory)) else {
            return false;
        };
        (is_awaited || waiting.bytes + bytes > bytes_max) && waiting.is_late(now)
    }

    /// Counts a request's appends, of so many bytes each.
    pub fn hold(self: &Rc<Self>, mut parts: DirectoryBytes, began: Monotonic) -> Held {
        if self.bytes_max.is_none() {
            parts.clear();
        }
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        for (directory, bytes) in &parts {
            let mut all = self.waiting.borrow_mut();
            let waiting = all.entry(*directory).or_default();
            waiting.bytes += bytes;
            waiting.began.insert((began, ticket));
        }
        Held {
            of: self.clone(),
            began,
            ticket,
            parts,
        }
    }

    /// Looks for what is to be given up; to be called now and then.
    pub fn beat(&self) {
        self.beat.notify();
    }
}

impl Held {
    /// Completes when the request is to be answered although it is not acknowledged.
    pub async fn given_up<E: Env>(&self, env: &E, memory: &Memory) {
        if self.parts.is_empty() {
            return pending().await;
        }
        while !self.is_too_much(memory.is_awaited(), env.now()) {
            self.of.beat.notified().await;
        }
    }

    fn is_too_much(&self, is_awaited: bool, now: Monotonic) -> bool {
        let mut directories = self.parts.iter().map(|(directory, _)| *directory);
        now.ms_since(self.began) >= LATE_MS
            && directories.any(|directory| self.of.refuses(directory, 0, is_awaited, now))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.of.waiting.borrow_mut();
        for (directory, bytes) in &self.parts {
            if let Some(waiting) = all.get_mut(directory) {
                waiting.bytes -= bytes;
                waiting.began.remove(&(self.began, self.ticket));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    const ONE: DirectoryId = DirectoryId([1; 16]);
    const OTHER: DirectoryId = DirectoryId([2; 16]);

    fn at(ms: u64) -> Monotonic {
        Monotonic(0).plus_ms(ms)
    }

    #[test]
    fn a_late_directory_keeps_half_of_the_memory() {
        let lateness = Lateness::new(2, 100);
        let first = lateness.hold(smallvec![(ONE, 40), (OTHER, 1)], at(0));
        let second = lateness.hold(smallvec![(ONE, 20)], at(400));
        assert!(!lateness.refuses(ONE, 1, false, at(499)), "it is not late");
        assert!(!first.is_too_much(false, at(499)));
        assert!(lateness.refuses(ONE, 1, false, at(500)));
        assert!(!lateness.refuses(OTHER, 49, false, at(500)), "it holds little");
        assert!(first.is_too_much(false, at(500)));
        assert!(!second.is_too_much(false, at(500)), "it has not waited for long");
        drop(first);
        assert!(!lateness.refuses(ONE, 30, false, at(800)));
        assert!(lateness.refuses(ONE, 31, false, at(900)));
        assert!(!second.is_too_much(false, at(900)), "half it may hold");
        assert!(
            second.is_too_much(true, at(900)) && lateness.refuses(ONE, 1, true, at(900)),
            "others wait for it"
        );
        assert!(!second.is_too_much(true, at(899)));
        drop(second);
        assert!(!lateness.refuses(ONE, 1000, false, at(900)));
    }

    #[test]
    fn an_only_directory_may_hold_everything() {
        let lateness = Lateness::new(1, 100);
        let held = lateness.hold(smallvec![(ONE, 100)], at(0));
        assert!(!lateness.refuses(ONE, 1, false, at(10_000)));
        assert!(!held.is_too_much(false, at(10_000)));
    }
}
