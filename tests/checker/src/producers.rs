//! Rule 7: what idempotence promises.

use std::collections::{BTreeMap, HashMap};

use crate::anomaly::Anomaly;
use crate::history::{Content, History, Partition, Producer, Record};
use crate::offsets::Observed;

pub(crate) fn check(history: &History, partitions: &BTreeMap<Partition, Observed>, anomalies: &mut Vec<Anomaly>) {
    for (&partition, observed) in partitions {
        let mut offset_of: HashMap<Record, u64> = HashMap::new();
        for (&offset, contents) in &observed.read {
            for content in contents {
                let Content::Record(record) = *content else { continue };
                if !history.is_idempotent(record.producer) {
                    continue;
                }
                if let Some(&first) = offset_of.get(&record) {
                    anomalies.push(Anomaly::Duplicated {
                        partition,
                        record,
                        first,
                        second: offset,
                    });
                } else {
                    offset_of.insert(record, offset);
                }
            }
        }
        in_order(partition, observed, &offset_of, anomalies);
    }
}

/// Records that were read stand in the order of their sends. A record that never made it leaves no trace here.
fn in_order(partition: Partition, observed: &Observed, offset_of: &HashMap<Record, u64>, anomalies: &mut Vec<Anomaly>) {
    let mut highest: HashMap<Producer, (Record, u64)> = HashMap::new();
    for &record in &observed.sent {
        let Some(&offset) = offset_of.get(&record) else {
            continue;
        };
        match highest.get(&record.producer) {
            Some(&earlier) if earlier.1 > offset => {
                anomalies.push(Anomaly::Reordered {
                    partition,
                    earlier,
                    later: (record, offset),
                });
            }
            _ => drop(highest.insert(record.producer, (record, offset))),
        }
    }
}
