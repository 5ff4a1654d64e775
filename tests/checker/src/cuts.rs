//! Power cuts: what a log may have forgotten with one, and what is therefore not held against it any more.
//!
//! A log of a class that promises less than the device loses a *suffix*: it goes on from an end that somebody asked for afterwards
//! ([`Event::Kept`]). What was known below that end stays known. What was known at or above it is forgiven when it is younger than the
//! cut's window, and lost otherwise. The other rules then judge what is left, as if the forgiven had never been seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::anomaly::{Anomaly, Evidence};
use crate::history::{Content, Event, History, Mark, Partition, Record};

/// One cut of one partition.
struct Cut {
    /// Its place in the history.
    index: usize,
    /// What was known before this time was to be kept.
    sure_before: Duration,
    /// Where the log went on; `None` while nobody has told.
    end: Option<u64>,
}

/// The history without what cuts excuse; `None` when there was none. What they do not excuse is reported.
pub(crate) fn forgive(history: &History, anomalies: &mut Vec<Anomaly>) -> Option<History> {
    let cuts = cuts(history);
    if cuts.is_empty() {
        return None;
    }
    let mut walk = Walk {
        cuts,
        partition_of: HashMap::new(),
        said: BTreeSet::new(),
        anomalies,
    };
    let mut left = history.like();
    for (index, &(at, event)) in history.timed().iter().enumerate() {
        if let Some(event) = walk.step(index, at, event) {
            left.push(at, event);
        }
    }
    Some(left)
}

/// The cuts of each partition, in their order, each with the end that was told last before anything could have been added to the log
/// by a later life.
///
/// # Panics
/// If an end is told of a partition that was not cut, or never told: the recording test is wrong.
fn cuts(history: &History) -> BTreeMap<Partition, Vec<Cut>> {
    let mut cuts: BTreeMap<Partition, Vec<Cut>> = BTreeMap::new();
    for (index, &(at, event)) in history.timed().iter().enumerate() {
        match event {
            Event::Cut { partition, window } => cuts.entry(partition).or_default().push(Cut {
                index,
                sure_before: at.saturating_sub(window),
                end: None,
            }),
            Event::Kept { partition, end } => {
                let open = cuts.get_mut(&partition).into_iter().flatten();
                let mut open = open.filter(|cut| cut.end.is_none()).peekable();
                assert!(open.peek().is_some(), "{event:?} answers no cut");
                open.for_each(|cut| cut.end = Some(end));
            }
            _ => {}
        }
    }
    let untold = cuts.iter().find(|(_, cuts)| cuts.iter().any(|cut| cut.end.is_none()));
    assert!(
        untold.is_none(),
        "nobody told where {:?} went on",
        untold.map(|(p, _)| p)
    );
    cuts
}

struct Walk<'a> {
    cuts: BTreeMap<Partition, Vec<Cut>>,
    partition_of: HashMap<Record, Partition>,
    /// Each loss is said once.
    said: BTreeSet<(Partition, u64)>,
    anomalies: &'a mut Vec<Anomaly>,
}

impl Walk<'_> {
    /// The event, or what is left of it.
    fn step(&mut self, index: usize, at: Duration, event: Event) -> Option<Event> {
        match event {
            Event::Sent { partition, record } => drop(self.partition_of.insert(record, partition)),
            Event::Acked { record, offset } => {
                let partition = self.partition_of[&record];
                if let Some(sure) = self.cut_off(partition, index, at, offset) {
                    self.lost(sure, partition, offset, Content::Record(record), Evidence::Acknowledged);
                    return Some(Event::Indeterminate { record });
                }
            }
            Event::Read {
                partition,
                offset,
                content,
                ..
            } => {
                if let Some(sure) = self.cut_off(partition, index, at, offset) {
                    self.lost(sure, partition, offset, content, Evidence::ReadBefore);
                    return None;
                }
            }
            Event::MarkSeen {
                partition,
                mark: mark @ (Mark::End | Mark::LastStable),
                offset,
                ..
            } if offset > 0 => {
                // An end says that there is a record below it.
                let sure = self.cut_off(partition, index, at, offset - 1);
                if sure == Some(true) && self.said.insert((partition, offset - 1)) {
                    let to = self.end_after(partition, index);
                    let from = offset;
                    self.anomalies.push(Anomaly::WentBack {
                        partition,
                        mark,
                        from,
                        to,
                    });
                }
                if sure.is_some() {
                    return None;
                }
            }
            Event::Cut { .. } | Event::Kept { .. } => return None,
            _ => {}
        }
        Some(event)
    }

    /// Whether a later cut took `offset`, and if so, whether what was known of it then was sure.
    fn cut_off(&self, partition: Partition, index: usize, at: Duration, offset: u64) -> Option<bool> {
        let later = self.cuts.get(&partition)?.iter().filter(|cut| cut.index > index);
        let mut took = later.filter(|cut| cut.end.is_some_and(|end| offset >= end));
        took.next().map(|cut| at < cut.sure_before)
    }

    fn end_after(&self, partition: Partition, index: usize) -> u64 {
        let mut later = self
            .cuts
            .get(&partition)
            .into_iter()
            .flatten()
            .filter(|cut| cut.index > index);
        later.find_map(|cut| cut.end).unwrap_or(0)
    }

    fn lost(&mut self, sure: bool, partition: Partition, offset: u64, content: Content, evidence: Evidence) {
        if sure && self.said.insert((partition, offset)) {
            self.anomalies.push(Anomaly::Lost {
                partition,
                offset,
                content,
                evidence,
            });
        }
    }
}
