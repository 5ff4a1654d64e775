//! Load by librdkafka, the client under most languages' clients: `librdkafka_load produce|consume --topic T …`, one line of JSON.
//!
//! Every producer is a client of its own on a thread of its own. What it delivers within the measured time is the throughput; the
//! totals are of the whole run, as the caller takes the broker's CPU time over the whole run too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, Statistics, TopicPartitionList};
use ringtail::cli::json::Json;

/// What is not delivered so long after the end has failed.
const FLUSH_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// Different values that a producer sends in turns.
const VALUES: usize = 64;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand)]
enum Work {
    Produce(Produce),
    Consume(Consume),
}

#[derive(Args, Clone)]
struct Common {
    #[arg(long, short = 'b')]
    bootstrap_server: String,
    #[arg(long)]
    topic: String,
    /// Any option of librdkafka.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 2.0)]
    warmup_seconds: f64,
}

#[derive(Args, Clone)]
struct Produce {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1)]
    producers: usize,
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
}

/// Reads every partition from its start, for the measured time or to the ends.
#[derive(Args, Clone)]
struct Consume {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 16)]
    partitions: i32,
}

/// Shared by the clients and the clock.
#[derive(Default)]
struct Counts {
    records: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    over: AtomicBool,
}

impl Counts {
    fn add(&self, bytes: usize) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn now(&self) -> (u64, u64) {
        (self.records.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// What one client notes: deliveries, and how many requests it has sent.
#[derive(Clone, Default)]
struct Notes {
    counts: Arc<Counts>,
    requests: Arc<AtomicU64>,
}

impl ClientContext for Notes {
    fn stats(&self, statistics: Statistics) {
        let sent = statistics.brokers.values().map(|broker| broker.tx).sum();
        self.requests.store(sent, Ordering::Relaxed);
    }
}

impl ConsumerContext for Notes {}

impl ProducerContext for Notes {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(message) => self.counts.add(message.payload_len()),
            Err(_) => {
                self.counts.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Common {
    fn config(&self) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_server);
        config.set("statistics.interval.ms", "200");
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').ok_or(format!("{setting}: not KEY=VALUE"))?;
            config.set(key, value);
        }
        Ok(config)
    }

    /// Lets the clients run, and says what came within the measured time.
    fn measure(&self, counts: &Counts) -> (f64, u64, u64) {
        let over = |until: Instant| {
            while Instant::now() < until && !counts.over.load(Ordering::Relaxed) {
                thread::sleep(POLL.min(until - Instant::now()));
            }
        };
        over(Instant::now() + Duration::from_secs_f64(self.warmup_seconds));
        let (began, before) = (Instant::now(), counts.now());
        over(began + Duration::from_secs_f64(self.seconds));
        let (seconds, after) = (began.elapsed().as_secs_f64(), counts.now());
        counts.over.store(true, Ordering::Relaxed);
        (seconds, after.0 - before.0, after.1 - before.1)
    }
}

/// Words of a small vocabulary by turns: what text and JSON look like to a codec.
fn value(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 0x9e37_79b9_7f4a_7c15;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut value = Vec::with_capacity(bytes + 16);
    while value.len() < bytes {
        let word = next() % 512;
        value.extend_from_slice(format!("{:x} ", word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20).as_bytes());
    }
    value.truncate(bytes);
    value
}

impl Produce {
    fn client(&self, notes: Notes) -> Result<(), String> {
        let producer: BaseProducer<Notes> = self
            .common
            .config()?
            .create_with_context(notes.clone())
            .map_err(|error| error.to_string())?;
        let values: Vec<Vec<u8>> = (0..VALUES).map(|seed| value(self.record_bytes, seed as u64)).collect();
        let mut sent = 0usize;
        while !notes.counts.over.load(Ordering::Relaxed) {
            let record = BaseRecord::<(), [u8]>::to(&self.common.topic).payload(&values[sent % VALUES]);
            match producer.send(record) {
                Ok(()) => sent += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(POLL);
                }
                Err((error, _)) => return Err(error.to_string()),
            }
            if sent.is_multiple_of(VALUES) {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(FLUSH_MAX).map_err(|error| error.to_string())
    }

    fn run(&self) -> Result<Json, String> {
        let counts = Arc::new(Counts::default());
        let notes: Vec<Notes> = (0..self.producers.max(1))
            .map(|_| Notes {
                counts: counts.clone(),
                ..Notes::default()
            })
            .collect();
        let clients = notes.iter().map(|notes| {
            let (work, notes) = (self.clone(), notes.clone());
            thread::spawn(move || {
                let done = work.client(notes.clone());
                if done.is_err() {
                    notes.counts.over.store(true, Ordering::Relaxed);
                }
                done
            })
        });
        finish(&self.common, &notes, clients.collect())
    }
}

impl Consume {
    fn client(&self, notes: Notes) -> Result<(), String> {
        let mut config = self.common.config()?;
        config.set("group.id", "unused").set("enable.auto.commit", "false");
        config
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer<Notes> = config
            .create_with_context(notes.clone())
            .map_err(|error| error.to_string())?;
        let mut places = TopicPartitionList::new();
        for partition in 0..self.partitions {
            places
                .add_partition_offset(&self.common.topic, partition, Offset::Beginning)
                .map_err(|error| error.to_string())?;
        }
        consumer.assign(&places).map_err(|error| error.to_string())?;
        let mut at_end = 0;
        while at_end < self.partitions && !notes.counts.over.load(Ordering::Relaxed) {
            match consumer.poll(POLL) {
                Some(Ok(message)) => notes.counts.add(message.payload_len()),
                Some(Err(KafkaError::PartitionEOF(_))) => at_end += 1,
                Some(Err(error)) => return Err(error.to_string()),
                None => {}
            }
        }
        notes.counts.over.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn run(&self) -> Result<Json, String> {
        let notes = Notes::default();
        let (work, own) = (self.clone(), notes.clone());
        let client = thread::spawn(move || {
            let done = work.client(own.clone());
            own.counts.over.store(true, Ordering::Relaxed);
            done
        });
        finish(&self.common, &[notes], vec![client])
    }
}

/// Measures, waits for the clients, and says what they did.
fn finish(
    common: &Common,
    notes: &[Notes],
    clients: Vec<thread::JoinHandle<Result<(), String>>>,
) -> Result<Json, String> {
    let counts = notes[0].counts.clone();
    let (seconds, records, bytes) = common.measure(&counts);
    for client in clients {
        client.join().map_err(|_| "a client panicked".to_owned())??;
    }
    let (total_records, total_bytes) = counts.now();
    let requests: u64 = notes.iter().map(|notes| notes.requests.load(Ordering::Relaxed)).sum();
    Ok(Json::Object(vec![
        ("seconds", Json::Number(seconds)),
        ("records", records.into()),
        ("bytes", bytes.into()),
        ("errors", counts.errors.load(Ordering::Relaxed).into()),
        ("total_records", total_records.into()),
        ("total_bytes", total_bytes.into()),
        ("total_requests", requests.into()),
        ("librdkafka", rdkafka::util::get_rdkafka_version().1.as_str().into()),
    ]))
}

fn main() -> std::process::ExitCode {
    let done = match Arguments::parse().work {
        Work::Produce(work) => work.run(),
        Work::Consume(work) => work.run(),
    };
    match done {
        Ok(result) => {
            println!("{result}");
            std::process::ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("librdkafka_load: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}
