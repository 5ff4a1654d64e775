//! Rule 8: a reader gets every record, in order, from where it was put.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::anomaly::Anomaly;
use crate::history::{Event, History, Partition};
use crate::offsets::Observed;

/// A jump forward counts only over an offset where *some* reader found a record: over a hole or a loss nobody can go, and those are
/// reported by their own rules.
pub(crate) fn check(history: &History, partitions: &BTreeMap<Partition, Observed>, anomalies: &mut Vec<Anomaly>) {
    let mut expected_of: HashMap<_, u64> = HashMap::new();
    let read_whole: HashSet<_> = history
        .events()
        .filter_map(|event| match *event {
            Event::ReadThrough { reader, partition, .. } => Some((reader, partition)),
            _ => None,
        })
        .collect();
    for event in history.events() {
        match *event {
            Event::Seeked {
                reader,
                partition,
                offset,
            } => {
                expected_of.insert((reader, partition), offset);
            }
            Event::Read {
                reader,
                partition,
                offset,
                ..
            } => {
                let expected = expected_of.insert((reader, partition), offset + 1).unwrap_or(offset);
                let over_a_record = || partitions[&partition].read.range(expected..offset).next().is_some();
                let forward = offset > expected && !read_whole.contains(&(reader, partition)) && over_a_record();
                if offset < expected || forward {
                    anomalies.push(Anomaly::Skipped {
                        reader,
                        partition,
                        expected,
                        offset,
                    });
                }
            }
            _ => {}
        }
    }
}
