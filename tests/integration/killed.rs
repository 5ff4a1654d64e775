//! `kill -9` under load, again and again, while several idempotent producers and readers go on. At the end `ringtail-checker` judges the
//! whole history: what was acknowledged is there once, in order, at its offset.
//!
//! Ten kills per durability class; a soak is `RINGTAIL_TEST_KILLS=100 cargo test --release --test integration killed`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use ringtail_checker::{Content, Event, History, Mark, Partition, Producer, Reader, Record, check};

use crate::harness::admin::{Durability, client, create_topic};
use crate::harness::broker::Broker;
use crate::harness::random::Random;
use crate::harness::{HANGS, wait_for};

const TOPIC: &str = "killed";
const PARTITION_COUNT: u32 = 4;
const PRODUCER_COUNT: u32 = 3;
const READER_COUNT: u32 = 2;
/// Within this time after the last start every send is answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The reader of the last whole read.
const FINAL: Reader = Reader(1000);

fn kill_count() -> u64 {
    std::env::var("RINGTAIL_TEST_KILLS").map_or(10, |count| count.parse().expect("RINGTAIL_TEST_KILLS is a number"))
}

/// The history that all threads write down, and how much of it are acknowledgements.
struct Recorder {
    begin: Instant,
    history: Mutex<History>,
    acked_count: AtomicU64,
    stop_sending: AtomicBool,
    stop_reading: AtomicBool,
    /// What clients reported that no client should: it ends the test, but only after the history is judged, which tells more.
    troubles: Mutex<Vec<String>>,
}

impl Recorder {
    fn trouble(&self, trouble: String) {
        self.troubles
            .lock()
            .expect("no thread panics with the lock")
            .push(trouble);
    }

    fn has_trouble(&self) -> bool {
        !self.troubles.lock().expect("no thread panics with the lock").is_empty()
    }

    fn push(&self, event: Event) {
        let mut history = self.history.lock().expect("no thread panics with the lock");
        history.push(self.begin.elapsed(), event);
    }
}

/// A payload tells who sent it, and is long enough that several blocks and segments are written.
fn payload(record: Record) -> Vec<u8> {
    let mut payload = format!("{} {} ", record.producer.0, record.sequence).into_bytes();
    let length = 40 + (record.sequence.wrapping_mul(0x9e37_79b9) % 900) as usize;
    payload.resize(length, b'.');
    payload
}

fn content(payload: &[u8]) -> Content {
    let parse = || {
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        let producer = Producer(words.next()?.parse().ok()?);
        let record = Record {
            producer,
            sequence: words.next()?.parse().ok()?,
        };
        (self::payload(record) == payload).then_some(Content::Record(record))
    };
    parse().unwrap_or_else(|| Content::Foreign(u64::from(crc32c::crc32c(payload))))
}

struct Reports(Arc<Recorder>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Record>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<Record>) {
        let record = *record;
        match result {
            Ok(message) => {
                let offset = u64::try_from(message.offset()).expect("an acknowledged record has an offset");
                self.0.push(Event::Acked { record, offset });
                self.0.acked_count.fetch_add(1, Ordering::Relaxed);
            }
            // Whatever the client gave up on may have reached the log.
            Err(_) => self.0.push(Event::Indeterminate { record }),
        }
    }
}

fn producer_config(broker: &Broker) -> ClientConfig {
    let mut config = client(broker);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("batch.num.messages", "50");
    config
        .set("message.timeout.ms", "300000")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "200");
    config.set("queue.buffering.max.messages", "2000");
    config
}

/// Sends as fast as the queue takes it, until told to stop; then waits for every answer.
fn produce(config: ClientConfig, producer: Producer, recorder: Arc<Recorder>) {
    let client: BaseProducer<Reports> = config
        .create_with_context(Reports(recorder.clone()))
        .expect("a producer can be made");
    let mut sequence = 0;
    while !recorder.stop_sending.load(Ordering::Relaxed) {
        let record = Record { producer, sequence };
        let partition = (sequence % u64::from(PARTITION_COUNT)) as u32;
        recorder.push(Event::Sent {
            partition: Partition(partition),
            record,
        });
        let payload = payload(record);
        let mut queued = BaseRecord::<(), [u8], _>::with_opaque_to(TOPIC, Box::new(record))
            .partition(partition as i32)
            .payload(&payload);
        while let Err((error, back)) = client.send(queued) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let reason = client.client().fatal_error();
                recorder.trouble(format!("{producer:?} cannot go on: {error}, {reason:?}"));
                recorder.push(Event::Indeterminate { record });
                return give_up(&client);
            }
            client.poll(Duration::from_millis(5));
            queued = back;
        }
        sequence += 1;
        client.poll(Duration::ZERO);
        // A few thousand records a second each: kills fall between and into batches of all sizes.
        if sequence % 64 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    if let Err(error) = client.flush(ANSWER_WITHIN) {
        let reason = client.client().fatal_error();
        recorder.trouble(format!(
            "{producer:?} got no answers after the last start: {error}, {reason:?}"
        ));
        give_up(&client);
    }
}

/// Lets the client report what it still has: nothing of it is certain.
fn give_up(client: &BaseProducer<Reports>) {
    client.purge(PurgeConfig::default().queue().inflight());
    client.flush(HANGS).expect("a purged client has nothing left");
}

fn reader(broker: &Broker) -> BaseConsumer {
    let mut config = client(broker);
    config
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true");
    // An offset out of range would be records lost: it must not be passed over.
    config
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false");
    config
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "20");
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITION_COUNT {
        assignment
            .add_partition_offset(TOPIC, partition as i32, Offset::Offset(0))
            .expect("a valid offset");
    }
    consumer.assign(&assignment).expect("partitions can be assigned");
    consumer
}

/// True if the error only says that the broker is not there.
fn is_absence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        error.rdkafka_error_code(),
        Some(
            BrokerTransportFailure
                | AllBrokersDown
                | Resolve
                | OperationTimedOut
                | NotLeaderForPartition
                | LeaderNotAvailable
        )
    )
}

/// Reads everything from the beginning and along with the producers; asks for the end offsets now and then.
fn read(consumer: BaseConsumer, reader: Reader, recorder: Arc<Recorder>) {
    for partition in 0..PARTITION_COUNT {
        recorder.push(Event::Seeked {
            reader,
            partition: Partition(partition),
            offset: 0,
        });
    }
    let mut asked = Instant::now();
    while !recorder.stop_reading.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(20)) {
            None => {}
            Some(Ok(message)) => recorder.push(Event::Read {
                reader,
                partition: Partition(message.partition() as u32),
                offset: message.offset() as u64,
                content: content(message.payload().unwrap_or_default()),
            }),
            Some(Err(error)) if is_absence(&error) => {}
            Some(Err(error)) => {
                recorder.trouble(format!("{reader:?} cannot go on: {error}"));
                return;
            }
        }
        if asked.elapsed() > Duration::from_millis(100) {
            asked = Instant::now();
            ask_for_the_ends(&consumer, reader, &recorder);
        }
    }
}

fn ask_for_the_ends(consumer: &BaseConsumer, reader: Reader, recorder: &Recorder) {
    for index in 0..PARTITION_COUNT {
        let partition = Partition(index);
        for mark in [Mark::End, Mark::LogStart] {
            recorder.push(Event::MarkAsked {
                reader,
                partition,
                mark,
            });
        }
        // While the broker is away there is no answer; the next question stands for itself.
        let Ok((start, end)) = consumer.fetch_watermarks(TOPIC, index as i32, Duration::from_millis(200)) else {
            return;
        };
        recorder.push(Event::MarkSeen {
            reader,
            partition,
            mark: Mark::End,
            offset: end as u64,
        });
        recorder.push(Event::MarkSeen {
            reader,
            partition,
            mark: Mark::LogStart,
            offset: start as u64,
        });
    }
}

/// One more reader reads every partition from its start to its end.
fn read_through(broker: &Broker, recorder: &Recorder) {
    let consumer = reader(broker);
    let mut ends: HashMap<u32, u64> = HashMap::new();
    for index in 0..PARTITION_COUNT {
        recorder.push(Event::Seeked {
            reader: FINAL,
            partition: Partition(index),
            offset: 0,
        });
        let (start, end) = wait_for("the ends", || {
            consumer.fetch_watermarks(TOPIC, index as i32, HANGS).ok()
        });
        assert_eq!(start, 0, "nothing is deleted in this test");
        ends.insert(index, end as u64);
    }
    let mut open: HashMap<u32, u64> = ends
        .iter()
        .filter(|(_, end)| **end > 0)
        .map(|(p, end)| (*p, *end))
        .collect();
    while !open.is_empty() {
        let message = consumer
            .poll(HANGS)
            .expect("records below the end can be read")
            .expect("records can be read");
        let (partition, offset) = (message.partition() as u32, message.offset() as u64);
        let content = content(message.payload().unwrap_or_default());
        if offset < ends[&partition] {
            recorder.push(Event::Read {
                reader: FINAL,
                partition: Partition(partition),
                offset,
                content,
            });
        }
        if open.get(&partition).is_some_and(|end| offset + 1 >= *end) {
            open.remove(&partition);
        }
    }
    for (partition, end) in ends {
        recorder.push(Event::ReadThrough {
            reader: FINAL,
            partition: Partition(partition),
            start: 0,
            end,
        });
    }
}

/// Kills the broker at random moments: after some acknowledgements more, and a little later.
fn kill_and_start(broker: &mut Broker, random: &mut Random, recorder: &Recorder, kill_count: u64) {
    for kill in 0..kill_count {
        let enough = recorder.acked_count.load(Ordering::Relaxed) + random.between(1, 4000);
        wait_for("acknowledgements", || {
            let go_on = recorder.acked_count.load(Ordering::Relaxed) >= enough || recorder.has_trouble();
            go_on.then_some(())
        });
        if recorder.has_trouble() {
            return;
        }
        thread::sleep(Duration::from_micros(random.between(0, 20_000)));
        broker.assert_alive();
        broker.kill();
        thread::sleep(Duration::from_millis(random.between(0, 100)));
        let time = broker.restart();
        println!(
            "kill {kill}: {} acknowledged, up again in {time:?}",
            recorder.acked_count.load(Ordering::Relaxed)
        );
    }
}

fn survives_kills(test: &str, durability: Durability) {
    let mut random = Random::seeded(test);
    let mut broker = Broker::start(test);
    // Small segments: kills fall into rolls, too.
    create_topic(
        &broker,
        TOPIC,
        PARTITION_COUNT as i32,
        &[durability.config(), ("segment.bytes", "1048576")],
    );
    let mut history = History::new();
    (0..PRODUCER_COUNT).for_each(|producer| history.idempotent(Producer(producer)));
    let recorder = Arc::new(Recorder {
        begin: Instant::now(),
        history: Mutex::new(history),
        acked_count: AtomicU64::new(0),
        stop_sending: AtomicBool::new(false),
        stop_reading: AtomicBool::new(false),
        troubles: Mutex::new(Vec::new()),
    });
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCER_COUNT)
            .map(|number| {
                let (config, recorder) = (producer_config(&broker), recorder.clone());
                scope.spawn(move || produce(config, Producer(number), recorder))
            })
            .collect();
        for number in 0..READER_COUNT {
            let (consumer, recorder) = (reader(&broker), recorder.clone());
            scope.spawn(move || read(consumer, Reader(number), recorder));
        }
        let stop_on_panic = StopAll(&recorder);
        kill_and_start(&mut broker, &mut random, &recorder, kill_count());
        recorder.push(Event::Healed {
            answer_within: ANSWER_WITHIN,
        });
        recorder.stop_sending.store(true, Ordering::Relaxed);
        producers
            .into_iter()
            .for_each(|producer| producer.join().expect("a producer does not fail"));
        drop(stop_on_panic);
    });
    read_through(&broker, &recorder);
    let history = recorder.history.lock().expect("no thread panics with the lock");
    let report = check(&history);
    println!("{test}: {report}");
    let troubles = recorder.troubles.lock().expect("no thread panics with the lock");
    assert!(troubles.is_empty(), "{troubles:?}\n{report}");
    report.assert_clean(test);
    // A history in which nothing happened proves nothing.
    assert!(report.acked_count > 100 * kill_count(), "{report}");
    assert_eq!(
        report.acked_count, report.sent_count,
        "clients that may retry for minutes get every record through: {report}"
    );
}

/// Ends the other threads when the test ends, however it ends.
struct StopAll<'a>(&'a Recorder);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.stop_sending.store(true, Ordering::Relaxed);
        self.0.stop_reading.store(true, Ordering::Relaxed);
    }
}

#[test]
fn flushed_records_survive_kills() {
    survives_kills("killed-flushed", Durability::Flushed);
}

#[test]
fn written_records_survive_kills() {
    survives_kills("killed-written", Durability::Written);
}
