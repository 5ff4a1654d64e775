//! Rules 4, 5 and 9: what may not happen after something else has completed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::anomaly::Anomaly;
use crate::history::{Content, Event, History, Mark, Partition, Reader, Record};

pub(crate) fn check(history: &History, anomalies: &mut Vec<Anomaly>) {
    let mut walk = Walk::default();
    for event in history.events() {
        walk.step(event, anomalies);
    }
    answered_in_time(history, anomalies);
}

/// What has completed so far, while walking through the history.
#[derive(Default)]
struct Walk {
    /// Highest offset acknowledged or read so far.
    highest: HashMap<Partition, u64>,
    /// Highest value of a mark so far; for `End` also the ends that acknowledgements and reads imply.
    mark: HashMap<(Partition, Mark), u64>,
    /// For open sends: the partition, and what was known when the send began.
    open: HashMap<Record, (Partition, Option<u64>)>,
    /// For open questions: what the mark had reached when it was asked.
    asked: HashMap<(Reader, Partition, Mark), u64>,
    sent: HashSet<Record>,
}

impl Walk {
    fn step(&mut self, event: &Event, anomalies: &mut Vec<Anomaly>) {
        match *event {
            Event::Sent { partition, record } => {
                self.sent.insert(record);
                self.open
                    .insert(record, (partition, self.highest.get(&partition).copied()));
            }
            Event::Acked { record, offset } => {
                let (partition, known) = self.open.remove(&record).expect("push() pairs answers with sends");
                match known {
                    Some(known) if known >= offset => {
                        anomalies.push(Anomaly::NotAbove {
                            partition,
                            record,
                            offset,
                            known,
                        });
                    }
                    _ => self.reached(partition, offset),
                }
            }
            // What was read too early says nothing about the offsets of later sends.
            Event::Read {
                partition,
                offset,
                content: Content::Record(record),
                ..
            } if self.sent.contains(&record) => {
                self.reached(partition, offset);
            }
            Event::MarkAsked {
                reader,
                partition,
                mark,
            } => {
                let reached = self.mark.get(&(partition, mark)).copied().unwrap_or(0);
                self.asked.insert((reader, partition, mark), reached);
            }
            Event::MarkSeen {
                reader,
                partition,
                mark,
                offset,
            } => {
                let from = self.asked.remove(&(reader, partition, mark)).unwrap_or(0);
                if offset < from {
                    anomalies.push(Anomaly::WentBack {
                        partition,
                        mark,
                        from,
                        to: offset,
                    });
                }
                self.raise(partition, mark, offset);
            }
            _ => {}
        }
    }

    fn reached(&mut self, partition: Partition, offset: u64) {
        let highest = self.highest.entry(partition).or_insert(offset);
        *highest = offset.max(*highest);
        self.raise(partition, Mark::End, offset + 1);
    }

    fn raise(&mut self, partition: Partition, mark: Mark, offset: u64) {
        let highest = self.mark.entry((partition, mark)).or_insert(offset);
        *highest = offset.max(*highest);
    }
}

/// Rule 9, from the last `Healed` on.
fn answered_in_time(history: &History, anomalies: &mut Vec<Anomaly>) {
    let healed = history.timed().iter().rev().find_map(|&(at, event)| match event {
        Event::Healed { answer_within } => Some((at, answer_within)),
        _ => None,
    });
    let Some((healed_at, answer_within)) = healed else {
        return;
    };
    let mut deadline: HashMap<Record, Duration> = HashMap::new();
    let mut late = Vec::new();
    for &(at, event) in history.timed() {
        match event {
            Event::Sent { record, .. } => drop(deadline.insert(record, at.max(healed_at) + answer_within)),
            Event::Acked { record, .. } | Event::Refused { record } | Event::Indeterminate { record }
                if deadline.remove(&record).is_some_and(|deadline| at > deadline) =>
            {
                late.push(record);
            }
            _ => {}
        }
    }
    late.extend(deadline.into_keys());
    late.sort_unstable();
    anomalies.extend(late.into_iter().map(|record| Anomaly::Unanswered { record }));
}
