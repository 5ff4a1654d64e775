//! Rule 2, and the table the other rules look things up in: what was seen at each offset.

use std::collections::{BTreeMap, HashMap};

use crate::anomaly::Anomaly;
use crate::history::{Content, Event, History, Partition, Record};

/// Everything that was seen of one partition.
#[derive(Default)]
pub(crate) struct Observed {
    /// Every content that any reader found at an offset, first one first.
    pub read: BTreeMap<u64, Vec<Content>>,
    /// Every record that was acknowledged at an offset.
    pub acked: BTreeMap<u64, Vec<Record>>,
    /// The sends to this partition, in order.
    pub sent: Vec<Record>,
}

pub(crate) fn observed(history: &History) -> BTreeMap<Partition, Observed> {
    let mut partitions: BTreeMap<Partition, Observed> = BTreeMap::new();
    let mut partition_of: HashMap<Record, Partition> = HashMap::new();
    for event in history.events() {
        match *event {
            Event::Sent { partition, record } => {
                partition_of.insert(record, partition);
                partitions.entry(partition).or_default().sent.push(record);
            }
            Event::Acked { record, offset } => {
                let partition = partition_of[&record];
                let acked = partitions
                    .entry(partition)
                    .or_default()
                    .acked
                    .entry(offset)
                    .or_default();
                acked.push(record);
            }
            Event::Read {
                partition,
                offset,
                content,
                ..
            } => {
                let contents = partitions.entry(partition).or_default().read.entry(offset).or_default();
                if !contents.contains(&content) {
                    contents.push(content);
                }
            }
            Event::ReadThrough { partition, .. } => drop(partitions.entry(partition).or_default()),
            _ => {}
        }
    }
    partitions
}

/// Readers agree with each other, and no offset is acknowledged to two records. (Acknowledged against read is rule 1.)
pub(crate) fn one_value_each(partitions: &BTreeMap<Partition, Observed>, anomalies: &mut Vec<Anomaly>) {
    for (&partition, observed) in partitions {
        for (&offset, contents) in &observed.read {
            if let [first, second, ..] = contents[..] {
                anomalies.push(Anomaly::TwoValues {
                    partition,
                    offset,
                    first,
                    second,
                });
            }
        }
        for (&offset, records) in &observed.acked {
            if let [first, second, ..] = records[..] {
                let (first, second) = (Content::Record(first), Content::Record(second));
                anomalies.push(Anomaly::TwoValues {
                    partition,
                    offset,
                    first,
                    second,
                });
            }
        }
    }
}
