//! What clients of a log store did and were told, and what therefore must be found after a crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use ringtail::base::ids::PartitionId;
use ringtail::io::sim::SimEnv;
use ringtail::storage::{Appended, DurabilityClass, LogOptions, Partition, PartitionSpec, ReadError};
use ringtail::wire::batch::{BatchBuilder, BatchHeader, BatchOptions};

/// What a power cut may take from `written`: what came this long before it.
const WRITTEN_LOSS_NS: u64 = 1_000_000_000;
/// Producers without an id send nothing twice.
pub const ANONYMOUS: i64 = -1;

pub struct Sent {
    pub bytes: Bytes,
    pub records: i32,
}

#[derive(Clone, Copy, Debug)]
struct Ack {
    offset: i64,
    at_ns: u64,
    /// Acknowledged as durable, or found by a recovery.
    sure: bool,
}

/// Whether a partition is to be there after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The metadata has it; its folder may not.
    Made,
    /// The metadata has it no more; its folder may be there.
    Deleted,
}

/// One partition as its clients know it. Batches go by their check sums: payloads are unique.
pub struct Log {
    pub spec: PartitionSpec,
    pub standing: Standing,
    sent: BTreeMap<u32, Sent>,
    acked: BTreeMap<u32, Ack>,
    /// By producer, in the order of the sequences.
    lines: BTreeMap<i64, Vec<u32>>,
    /// Acks from this time on are of the class `flushed`.
    flushed_from_ns: u64,
    /// Of the acks since then a power cut may have taken those that were not sure.
    lossy_from_ns: u64,
    /// The partition was of the class `written` at some time.
    was_written: bool,
    /// The largest end that a reader saw, ever and as durable.
    seen: i64,
    seen_sure: i64,
    /// The largest log start that a reader saw.
    seen_start: i64,
}

#[derive(Default)]
pub struct History {
    pub logs: BTreeMap<PartitionId, Log>,
    payloads: u64,
    pub acks: u64,
}

pub type Shared = Rc<RefCell<History>>;

impl Log {
    pub fn new(spec: PartitionSpec) -> Self {
        let flushed = spec.options.durability == DurabilityClass::Flushed;
        Self {
            spec,
            standing: Standing::Made,
            sent: BTreeMap::new(),
            acked: BTreeMap::new(),
            lines: BTreeMap::new(),
            flushed_from_ns: if flushed { 0 } else { u64::MAX },
            lossy_from_ns: u64::MAX,
            was_written: !flushed,
            seen: 0,
            seen_sure: 0,
            seen_start: 0,
        }
    }

    pub fn is_flushed(&self) -> bool {
        self.spec.options.durability == DurabilityClass::Flushed
    }

    /// The options change at `now_ns`. All that is `written` by then becomes durable within the time that a power cut takes.
    pub fn set_options(&mut self, options: LogOptions, now_ns: u64) {
        let was_flushed = self.is_flushed();
        self.spec.options = options;
        self.was_written = true;
        match (was_flushed, self.is_flushed()) {
            (false, true) => self.flushed_from_ns = now_ns + WRITTEN_LOSS_NS,
            (_, false) => self.flushed_from_ns = u64::MAX,
            _ => {}
        }
    }

    pub fn producers(&self) -> Vec<i64> {
        self.lines.keys().copied().collect()
    }

    /// Batches of an idempotent producer that it must send again before it goes on.
    fn unresolved(&self, producer: i64) -> Vec<u32> {
        let line = self.lines.get(&producer).map_or(&[][..], Vec::as_slice);
        line.iter()
            .filter(|crc| !self.acked.contains_key(crc))
            .copied()
            .collect()
    }

    /// The last batch of an idempotent producer that was acknowledged, if none after it was sent: with its offset.
    pub fn last_acked(&self, producer: i64) -> Option<(Bytes, i64)> {
        let last = self.lines.get(&producer).filter(|_| producer != ANONYMOUS)?.last()?;
        Some((self.sent[last].bytes.clone(), self.acked.get(last)?.offset))
    }

    /// What a client of an idempotent producer retries after a restart: the last batch acknowledged, with its offset, and
    /// those without an answer. Nothing when acknowledged ones may have been lost.
    pub fn to_retry(&self, producer: i64) -> (Option<(Bytes, i64)>, Vec<Bytes>) {
        if self.was_written {
            return (self.last_acked(producer), Vec::new());
        }
        let line = self.lines.get(&producer).map_or(&[][..], Vec::as_slice);
        let last = line
            .iter()
            .rev()
            .find_map(|crc| self.acked.get(crc).map(|ack| (crc, ack.offset)));
        let last = last.map(|(crc, offset)| (self.sent[crc].bytes.clone(), offset));
        let unknown = self.unresolved(producer);
        (last, unknown.iter().map(|crc| self.sent[crc].bytes.clone()).collect())
    }

    /// A producer whose sequence broke off begins anew under another id.
    pub fn abandon(&mut self, producer: i64) {
        self.lines.remove(&producer);
    }

    /// Whether no acknowledged batch of the partition can have been lost so far.
    pub fn never_lost_any(&self) -> bool {
        !self.was_written
    }

    pub fn mark_deleted(&mut self) {
        self.standing = Standing::Deleted;
    }

    pub fn was_sent(&self, batch: &Bytes) -> bool {
        self.sent
            .get(&crc_of(batch))
            .is_some_and(|sent| sent.bytes[16..] == batch[16..])
    }

    fn ack(&mut self, crc: u32, offset: i64, now_ns: u64) -> bool {
        let sure = now_ns >= self.flushed_from_ns;
        let new = Ack {
            offset,
            at_ns: now_ns,
            sure,
        };
        let id = self.spec.id;
        let known = *self.acked.entry(crc).or_insert(new);
        assert_eq!(known.offset, offset, "{id}: a retry was answered with another offset");
        known.at_ns == now_ns
    }

    /// A reader was given batches up to `end`.
    pub fn saw(&mut self, end: i64, now_ns: u64) {
        self.seen = self.seen.max(end);
        if now_ns >= self.flushed_from_ns {
            self.seen_sure = self.seen_sure.max(end);
        }
    }

    /// A reader was told where the log starts.
    pub fn saw_start(&mut self, log_start: i64) {
        self.seen_start = self.seen_start.max(log_start);
    }

    fn lossy_from(&self, cut_ns: Option<u64>) -> u64 {
        let before = cut_ns.map_or(u64::MAX, |cut| cut.saturating_sub(WRITTEN_LOSS_NS));
        self.lossy_from_ns.min(before)
    }

    /// Judges what a recovered (or running) log holds: `cut_ns` is when the power went, if it did. Besides what is known
    /// here, batches in `extra` may be there.
    pub fn judge(&self, found: &Found, cut_ns: Option<u64>, extra: &[Bytes]) {
        let id = self.spec.id;
        let lossy_from = self.lossy_from(cut_ns);
        let mut places = BTreeMap::new();
        let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
        let mut epoch = -1;
        for (offset, bytes) in &found.batches {
            let header = BatchHeader::parse(bytes).expect("parsed before");
            let crc = header.crc();
            let sent = self.sent.get(&crc).map(|sent| &sent.bytes);
            let sent = sent.or_else(|| extra.iter().find(|bytes| crc_of(bytes) == crc));
            let sent = sent.unwrap_or_else(|| panic!("{id}: what lies at {offset} was never sent"));
            assert_eq!(bytes[16..], sent[16..], "{id}: the batch at {offset} changed");
            assert_eq!(places.insert(crc, *offset), None, "{id}: {offset} was there before");
            if header.has_producer_id() {
                let last = sequences.insert(header.producer_id(), header.base_sequence());
                assert!(last < Some(header.base_sequence()), "{id}: {offset} is out of order");
            }
            assert!(
                header.partition_leader_epoch() >= epoch,
                "{id}: the epoch falls at {offset}"
            );
            epoch = header.partition_leader_epoch();
        }
        for (crc, ack) in &self.acked {
            let place = places.get(crc).copied();
            let needed = (ack.sure || ack.at_ns < lossy_from) && ack.offset >= found.log_start;
            let right = place == Some(ack.offset) || (place.is_none() && !needed);
            let Found { log_start, end, .. } = found;
            assert!(
                right,
                "{id}: {ack:?} is at {place:?} of {log_start}..{end}; lossy from {lossy_from}, cut {cut_ns:?}"
            );
        }
        assert!(
            found.end >= self.seen_sure,
            "{id}: end {} below {}, which was read",
            found.end,
            self.seen_sure
        );
        assert!(
            lossy_from < u64::MAX || found.end >= self.seen,
            "{id}: a reader saw {}",
            self.seen
        );
        assert!(
            found.log_start >= self.seen_start,
            "{id}: the log started at {}, and now at {}",
            self.seen_start,
            found.log_start
        );
        assert!(
            found.log_start == 0 || self.spec.options.retention_bytes >= 0,
            "{id}: nothing was to be deleted"
        );
    }

    /// A restart found this, and serves it: from now on it stays.
    pub fn reconcile(&mut self, found: &Found) {
        self.acked
            .retain(|_, ack| ack.offset < found.log_start || ack.offset < found.end);
        for (offset, bytes) in &found.batches {
            let ack = Ack {
                offset: *offset,
                at_ns: 0,
                sure: true,
            };
            self.acked.insert(crc_of(bytes), ack);
        }
        (self.seen, self.seen_sure) = (found.end, found.end);
        self.lossy_from_ns = u64::MAX;
        self.flushed_from_ns = if self.is_flushed() { 0 } else { u64::MAX };
    }
}

pub fn crc_of(batch: &Bytes) -> u32 {
    BatchHeader::parse(batch).expect("a batch").crc()
}

impl History {
    pub fn new(roster: Vec<PartitionSpec>) -> Self {
        let logs = roster.into_iter().map(|spec| (spec.id, Log::new(spec)));
        Self {
            logs: logs.collect(),
            ..Self::default()
        }
    }

    /// The power goes at `now_ns`.
    pub fn power_cut(&mut self, now_ns: u64) {
        for log in self.logs.values_mut() {
            log.lossy_from_ns = log.lossy_from(Some(now_ns));
        }
    }

    /// Partitions that the metadata knows.
    pub fn standing(&self) -> Vec<PartitionSpec> {
        let standing = self.logs.values().filter(|log| log.standing == Standing::Made);
        standing.map(|log| log.spec.clone()).collect()
    }

    /// The broker removed what deleted partitions left.
    pub fn forget_deleted(&mut self) {
        self.logs.retain(|_, log| log.standing == Standing::Made);
    }

    pub fn next_number(&mut self) -> u64 {
        self.payloads += 1;
        self.payloads
    }

    pub fn log(&mut self, id: PartitionId) -> &mut Log {
        self.logs.get_mut(&id).expect("a partition of the test")
    }

    /// What `producer` sends next: what it does not know the fate of, then new batches of about `sizes`, in all as many as
    /// `sizes`.
    pub fn next_batches(&mut self, id: PartitionId, producer: i64, now_ms: i64, sizes: &[usize]) -> Vec<Bytes> {
        let again = match producer {
            ANONYMOUS => Vec::new(),
            _ => self.log(id).unresolved(producer),
        };
        let log = self.log(id);
        let mut batches: Vec<Bytes> = again
            .iter()
            .map(|crc| log.sent[crc].bytes.clone())
            .take(sizes.len())
            .collect();
        for &size in &sizes[batches.len()..] {
            batches.push(self.new_batch(id, producer, now_ms, size));
        }
        batches
    }

    fn new_batch(&mut self, id: PartitionId, producer: i64, now_ms: i64, size: usize) -> Bytes {
        self.payloads += 1;
        let number = self.payloads;
        let log = self.log(id);
        let line = log.lines.entry(producer).or_default();
        let sequence: i32 = line.iter().map(|crc| log.sent[crc].records).sum();
        let records = 1 + (number % 3) as i32;
        let bytes = batch(producer, sequence, now_ms, records, number, size);
        let crc = crc_of(&bytes);
        line.push(crc);
        let sent = Sent {
            bytes: bytes.clone(),
            records,
        };
        assert!(log.sent.insert(crc, sent).is_none(), "two batches with one check sum");
        bytes
    }

    pub fn acknowledge(&mut self, id: PartitionId, batch: &Bytes, appended: Appended, now_ns: u64) {
        if self.log(id).ack(crc_of(batch), appended.base_offset, now_ns) {
            self.acks += 1;
        }
    }
}

/// A batch whose payload nothing else has.
pub fn batch(producer: i64, sequence: i32, now_ms: i64, records: i32, number: u64, size: usize) -> Bytes {
    let options = match producer {
        ANONYMOUS => BatchOptions::default(),
        _ => BatchOptions {
            producer_id: producer,
            producer_epoch: 0,
            base_sequence: sequence,
            ..BatchOptions::default()
        },
    };
    let mut builder = BatchBuilder::new(options);
    for record in 0..records {
        let mut value = format!("{producer}/{sequence}/{number}/{record}/").into_bytes();
        let mut state = number << 8 | record as u64;
        while value.len() < size / records as usize {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            value.extend_from_slice(&state.to_le_bytes());
        }
        builder.push(now_ms, None, Some(&value), &[]).expect("a small record");
    }
    Bytes::copy_from_slice(builder.finish().expect("a batch"))
}

/// All that a log shows.
pub struct Found {
    pub log_start: i64,
    pub end: i64,
    pub batches: Vec<(i64, Bytes)>,
}

/// Reads a log from its start to its high watermark: dense, whole, every batch at its offset. Retention may move the start
/// meanwhile.
pub async fn read_log(partition: &Rc<Partition<SimEnv>>) -> Found {
    'again: loop {
        let log_start = partition.ends().log_start;
        let end = partition.high_watermark();
        let mut found = Found {
            log_start,
            end,
            batches: Vec::new(),
        };
        let mut offset = log_start;
        while offset < end {
            let slice = match partition.read(offset, 300_000, true).await {
                Err(ReadError::OutOfRange) if partition.ends().log_start > log_start => continue 'again,
                read => read.unwrap_or_else(|e| panic!("{}: {e:?} at {offset} of {log_start}..{end}", partition.id())),
            };
            let mut rest = Bytes::from(slice.pieces.concat());
            assert!(!rest.is_empty(), "{}: nothing at {offset} below {end}", partition.id());
            while !rest.is_empty() && offset < end {
                let header = BatchHeader::parse(&rest).expect("whole batches");
                assert_eq!(header.base_offset(), offset, "{}: offsets are dense", partition.id());
                let whole = rest.split_to(header.total_bytes());
                found.batches.push((offset, whole));
                offset = header.next_offset();
            }
        }
        found.end = offset.max(end);
        return found;
    }
}
