//! Rules 1, 3 and 6: what the last whole read of a partition must and must not show.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::anomaly::{Anomaly, Evidence};
use crate::history::{Content, Event, History, Partition, Reader, Record};
use crate::offsets::Observed;

/// The last whole read of one partition.
struct Whole {
    start: u64,
    end: u64,
    content: BTreeMap<u64, Content>,
    /// Offset of each record in it.
    offset_of: HashMap<Record, u64>,
    /// Acknowledgements and reads by others that were complete before the read began: only these can be missed.
    acked_before: Vec<(Record, u64)>,
    read_before: BTreeMap<u64, Content>,
}

pub(crate) fn check(history: &History, partitions: &BTreeMap<Partition, Observed>, anomalies: &mut Vec<Anomaly>) {
    reads_were_sent(history, anomalies);
    for (partition, whole) in whole_reads(history) {
        let missing = acknowledged(partition, &whole, &partitions[&partition], anomalies);
        let missing = read_before(partition, &whole, missing, anomalies);
        for offset in whole.start..whole.end {
            if !whole.content.contains_key(&offset) && !missing.contains(&offset) {
                anomalies.push(Anomaly::Hole { partition, offset });
            }
        }
    }
}

/// Rule 6.
fn reads_were_sent(history: &History, anomalies: &mut Vec<Anomaly>) {
    let mut sent: HashMap<Record, (usize, Partition)> = HashMap::new();
    let mut refused = HashSet::new();
    for (index, event) in history.events().enumerate() {
        match *event {
            Event::Sent { partition, record } => drop(sent.insert(record, (index, partition))),
            Event::Refused { record } => drop(refused.insert(record)),
            _ => {}
        }
    }
    let mut judged = HashSet::new();
    for (index, event) in history.events().enumerate() {
        let &Event::Read {
            partition,
            offset,
            content,
            ..
        } = event
        else {
            continue;
        };
        let anomaly = match content {
            Content::Control => None,
            Content::Foreign(_) => Some(Anomaly::NeverSent {
                partition,
                offset,
                content,
            }),
            Content::Record(record) => match sent.get(&record) {
                Some(&(_, to)) if to != partition => Some(Anomaly::NeverSent {
                    partition,
                    offset,
                    content,
                }),
                None => Some(Anomaly::NeverSent {
                    partition,
                    offset,
                    content,
                }),
                Some(_) if refused.contains(&record) => Some(Anomaly::RefusedButRead {
                    partition,
                    offset,
                    record,
                }),
                Some(&(sent_at, _)) if sent_at > index => Some(Anomaly::ReadBeforeSent {
                    partition,
                    offset,
                    record,
                }),
                Some(_) => None,
            },
        };
        // Said once per offset, however many readers saw it.
        if let Some(anomaly) = anomaly
            && judged.insert((partition, offset, content))
        {
            anomalies.push(anomaly);
        }
    }
}

/// Rule 1 for acknowledgements. Returns the offsets that are missed.
fn acknowledged(
    partition: Partition,
    whole: &Whole,
    observed: &Observed,
    anomalies: &mut Vec<Anomaly>,
) -> HashSet<u64> {
    let mut missing = HashSet::new();
    for &(record, offset) in &whole.acked_before {
        let content = Content::Record(record);
        if offset < whole.start || whole.content.get(&offset) == Some(&content) {
            continue;
        }
        if let Some(&read_at) = whole.offset_of.get(&record) {
            anomalies.push(Anomaly::Misplaced {
                partition,
                record,
                acked_at: offset,
                read_at,
            });
        } else if let Some(&other) = whole.content.get(&offset) {
            let said_already = observed.read[&offset].len() > 1 || observed.acked[&offset].len() > 1;
            if !said_already {
                anomalies.push(Anomaly::TwoValues {
                    partition,
                    offset,
                    first: content,
                    second: other,
                });
            }
        } else {
            anomalies.push(Anomaly::Lost {
                partition,
                offset,
                content,
                evidence: Evidence::Acknowledged,
            });
            missing.insert(offset);
        }
    }
    missing
}

/// Rule 1 for reads: what one reader was given stays. Returns all offsets that are missed.
fn read_before(
    partition: Partition,
    whole: &Whole,
    mut missing: HashSet<u64>,
    anomalies: &mut Vec<Anomaly>,
) -> HashSet<u64> {
    for (&offset, &content) in whole.read_before.range(whole.start..) {
        if !whole.content.contains_key(&offset) && missing.insert(offset) {
            anomalies.push(Anomaly::Lost {
                partition,
                offset,
                content,
                evidence: Evidence::ReadBefore,
            });
        }
    }
    missing
}

/// Collects the last whole read of each partition, with what was known before it began.
fn whole_reads(history: &History) -> BTreeMap<Partition, Whole> {
    let mut finals: BTreeMap<Partition, (Reader, u64, u64, usize)> = BTreeMap::new();
    for (index, event) in history.events().enumerate() {
        if let Event::ReadThrough {
            reader,
            partition,
            start,
            end,
        } = *event
        {
            finals.insert(partition, (reader, start, end, index));
        }
    }
    let mut began: BTreeMap<Partition, usize> = BTreeMap::new();
    for (index, event) in history.events().enumerate() {
        let Event::Seeked { reader, partition, .. } = *event else {
            continue;
        };
        if finals
            .get(&partition)
            .is_some_and(|&(by, _, _, end)| by == reader && index < end)
        {
            began.insert(partition, index);
        }
    }
    let mut wholes = BTreeMap::new();
    for (&partition, &(reader, start, end, ended)) in &finals {
        let began = *began.get(&partition).expect("a whole read begins with Seeked");
        wholes.insert(partition, (Whole::empty(start, end), reader, began, ended));
    }
    fill(history, &mut wholes);
    wholes
        .into_iter()
        .map(|(partition, (whole, ..))| (partition, whole))
        .collect()
}

impl Whole {
    fn empty(start: u64, end: u64) -> Whole {
        Whole {
            start,
            end,
            content: BTreeMap::new(),
            offset_of: HashMap::new(),
            acked_before: Vec::new(),
            read_before: BTreeMap::new(),
        }
    }
}

fn fill(history: &History, wholes: &mut BTreeMap<Partition, (Whole, Reader, usize, usize)>) {
    let mut partition_of = HashMap::new();
    for (index, event) in history.events().enumerate() {
        match *event {
            Event::Sent { partition, record } => drop(partition_of.insert(record, partition)),
            Event::Acked { record, offset } => {
                if let Some((whole, _, began, _)) = wholes.get_mut(&partition_of[&record])
                    && index < *began
                {
                    whole.acked_before.push((record, offset));
                }
            }
            Event::Read {
                reader,
                partition,
                offset,
                content,
            } => {
                let Some((whole, by, began, ended)) = wholes.get_mut(&partition) else {
                    continue;
                };
                if index < *began {
                    whole.read_before.entry(offset).or_insert(content);
                } else if reader == *by && index < *ended {
                    whole.content.insert(offset, content);
                    if let Content::Record(record) = content {
                        whole.offset_of.entry(record).or_insert(offset);
                    }
                }
            }
            _ => {}
        }
    }
}
