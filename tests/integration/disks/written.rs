//! Records of a topic `written` across power cuts: the last moments may be lost, and nothing else.
//!
//! The promise (docs/ARCHITECTURE.md): a power cut takes what came since the last settling round, which begins every 500 ms or 64 MiB, and
//! the rounds' own time. What was acknowledged earlier is there, at its offset, once; what a start found stays for good.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use crate::harness::admin::{Durability, client, create_topic, delete_topic};
use crate::harness::broker::Broker;
use crate::harness::{HANGS, wait_for};

const TOPIC: &str = "written";
const PARTITION_COUNT: usize = 2;
/// 500 ms, two rounds, and what a busy machine may add to them: flushes of a file system on a loop device were seen to take 3 s. On a
/// quiet one 0.3 s are lost.
const LOSS_WINDOW: Duration = Duration::from_secs(10);

struct Ack {
    partition: usize,
    offset: usize,
    id: u64,
    /// When the client was told: not before the broker acknowledged.
    at: Instant,
}

/// One producer's time between two cuts: each cut may take what the broker knows of a producer.
struct Life {
    stop: Arc<AtomicBool>,
    /// Gives the acknowledgements, and the next id.
    thread: JoinHandle<(Vec<Ack>, u64)>,
}

/// A topic, what is known to be in it, and what cuts have taken of it so far.
#[derive(Default)]
pub struct Written {
    /// The ids that the last start found, by partition and offset.
    kept: Vec<Vec<u64>>,
    life: Option<Life>,
    acks: Vec<Ack>,
    next_id: u64,
    acked_count: u64,
    lost_count: u64,
    /// How long before its cut the oldest lost record had been acknowledged.
    oldest_lost: Duration,
    /// The oldest that was acknowledged before any cut: how much the figure above says.
    oldest_acked: Duration,
}

impl Written {
    /// Makes the topic, with nothing in it.
    pub fn begin(&mut self, broker: &Broker) {
        let configs = [Durability::Written.config(), ("segment.bytes", "1048576")];
        create_topic(broker, TOPIC, PARTITION_COUNT as i32, &configs);
        self.kept = vec![Vec::new(); PARTITION_COUNT];
    }

    /// # Panics
    /// If a record has changed since the last cut.
    pub fn end(&mut self, broker: &Broker) {
        assert!(self.life.is_none(), "stop it first");
        assert_eq!(read_all(broker), self.kept, "what a start found stays");
        delete_topic(broker, TOPIC);
    }

    /// Produces until told to stop.
    pub fn go_on(&mut self, broker: &Broker) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut config = client(broker);
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("queue.buffering.max.messages", "2000");
        let (stopped, first) = (stop.clone(), self.next_id);
        let thread = thread::spawn(move || produce(&config, first, &stopped));
        self.life = Some(Life { stop, thread });
    }

    /// The broker is dead: waits until all that it acknowledged is known.
    pub fn stop(&mut self) {
        let life = self.life.take().expect("it goes on");
        life.stop.store(true, Ordering::Relaxed);
        (self.acks, self.next_id) = life.thread.join().expect("a producer does not fail");
    }

    /// The broker is up again after a power cut at that moment, and its start took so long: a start writes and flushes much as a
    /// settling round does, so that tells how slow the machine is.
    ///
    /// # Panics
    /// If it took more than it may.
    pub fn judge(&mut self, broker: &Broker, cut: Instant, start_took: Duration) {
        let window = LOSS_WINDOW + 2 * start_took;
        let found = read_all(broker);
        for (before, now) in self.kept.iter().zip(&found) {
            assert!(now.starts_with(before), "a cut took what an earlier start had found");
        }
        for ids in &found {
            let mut once = ids.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(
                once.len(),
                ids.len(),
                "a record of an idempotent producer is there twice"
            );
        }
        for ack in &self.acks {
            let age = cut.saturating_duration_since(ack.at);
            self.oldest_acked = self.oldest_acked.max(age);
            match found[ack.partition].get(ack.offset) {
                Some(id) => assert_eq!(
                    *id, ack.id,
                    "another record at offset {} of {}",
                    ack.offset, ack.partition
                ),
                None => {
                    assert!(
                        age <= window,
                        "offset {} of partition {} was acknowledged {age:?} before the cut and is lost",
                        ack.offset,
                        ack.partition
                    );
                    self.oldest_lost = self.oldest_lost.max(age);
                    self.lost_count += 1;
                }
            }
        }
        self.acked_count += self.acks.len() as u64;
        self.kept = found;
    }

    /// Nothing was promised: takes what is there, if it can be read at all.
    pub fn forget(&mut self, broker: &Broker) {
        self.acks.clear();
        delete_topic(broker, TOPIC);
        self.begin(broker);
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged written, lost {}, the oldest of them {:?} before its cut (of acknowledgements up to {:?} before)",
            self.acked_count, self.lost_count, self.oldest_lost, self.oldest_acked
        )
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // The test has failed: its producer ends with it.
        if let Some(life) = self.life.take() {
            life.stop.store(true, Ordering::Relaxed);
            drop(life.thread.join());
        }
    }
}

#[derive(Default, Clone)]
struct Acks(Arc<Mutex<Vec<Ack>>>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<u64>) {
        let at = Instant::now();
        // Whatever has no acknowledgement may be there or not.
        if let Ok(message) = result {
            self.0.lock().expect("no thread panics with the lock").push(Ack {
                partition: message.partition() as usize,
                offset: usize::try_from(message.offset()).expect("an acknowledged record has an offset"),
                id: *id,
                at,
            });
        }
    }
}

fn produce(config: &ClientConfig, first: u64, stop: &AtomicBool) -> (Vec<Ack>, u64) {
    let acks = Acks::default();
    let client: BaseProducer<Acks> = config
        .create_with_context(acks.clone())
        .expect("a producer can be made");
    let mut id = first;
    while !stop.load(Ordering::Relaxed) {
        let payload = format!("{id} {:.>300}", "");
        let record = BaseRecord::<(), str, _>::with_opaque_to(TOPIC, Box::new(id))
            .partition((id % PARTITION_COUNT as u64) as i32)
            .payload(&payload);
        // A full queue: some other record takes this one's place later.
        drop(client.send(record));
        client.poll(Duration::ZERO);
        id += 1;
        if id.is_multiple_of(64) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    client.purge(PurgeConfig::default().queue().inflight());
    client.flush(HANGS).expect("a purged client has nothing left");
    drop(client);
    let acks = std::mem::take(&mut *acks.0.lock().expect("no thread panics with the lock"));
    (acks, id)
}

/// The ids by partition and offset.
///
/// # Panics
/// If offsets are not dense, or a payload is none of ours.
fn read_all(broker: &Broker) -> Vec<Vec<u64>> {
    let mut config = client(broker);
    config
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("auto.offset.reset", "error");
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let mut assignment = TopicPartitionList::new();
    let mut found = vec![Vec::new(); PARTITION_COUNT];
    let ends: Vec<usize> = (0..PARTITION_COUNT as i32)
        .map(|partition| {
            assignment
                .add_partition_offset(TOPIC, partition, Offset::Offset(0))
                .expect("a valid offset");
            let marks = wait_for("the ends", || consumer.fetch_watermarks(TOPIC, partition, HANGS).ok());
            usize::try_from(marks.1).expect("an end is an offset")
        })
        .collect();
    consumer.assign(&assignment).expect("partitions can be assigned");
    while found.iter().zip(&ends).any(|(ids, end)| ids.len() < *end) {
        let message = consumer
            .poll(HANGS)
            .expect("records below the end can be read")
            .expect("records can be read");
        let ids: &mut Vec<u64> = &mut found[message.partition() as usize];
        assert_eq!(message.offset(), ids.len() as i64, "offsets are dense");
        let text = std::str::from_utf8(message.payload().unwrap_or_default()).expect("payloads are text");
        let id = text.split(' ').next().and_then(|id| id.parse().ok());
        ids.push(id.expect("a payload begins with its id"));
    }
    found
}
