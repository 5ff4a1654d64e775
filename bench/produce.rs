//! Produce load, open loop (`--rate`) or closed loop (`--in-flight`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use clap::Args;
use ringtail::base::sync::{Notify, join_all, race};
use ringtail::cli::json::Json;
use ringtail::io::uring::UringEnv;
use ringtail::io::{Env, Monotonic, send_all};
use ringtail::wire::Protocol;
use ringtail::wire::batch::{BatchBuilder, BatchOptions};
use ringtail::wire::kafka::messages::*;
use ringtail::wire::kafka::{Decoder, Message, Records, RequestHeader, ResponseHeader, Str, encode_request};

use crate::load::{LoadOptions, Window, share};
use crate::native;
use crate::pipe::{Answers, Frame, connect};
use crate::report::Tally;
use crate::target::{Node, Target, TargetOptions};

/// Frames that one send gathers at most.
const GATHER_MAX: usize = 64;
/// Requests of one connection that an open loop leaves unanswered before it holds them back (their latency goes on counting).
const OPEN_IN_FLIGHT_MAX: usize = 512;
/// How long after the measured time an open loop goes on sending what was meant to go out within it.
const OPEN_GRACE_NS: u64 = 10_000_000_000;

#[derive(Args, Clone)]
pub struct BatchShape {
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    pub record_bytes: usize,
    /// Records in a batch.
    #[arg(long, default_value_t = 16)]
    pub records_per_batch: usize,
}

#[derive(Args)]
pub struct Produce {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    load: LoadOptions,
    #[command(flatten)]
    shape: BatchShape,
    /// Batches in a request, each to another partition.
    #[arg(long, default_value_t = 1)]
    batches_per_request: usize,
    /// 0, 1 or -1 (all).
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    acks: i16,
    /// Requests per second over all connections; without it the closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Closed loop: unanswered requests per connection.
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// Ends when so much has been sent, if that comes first.
    #[arg(long)]
    bytes_max: Option<u64>,
}

/// One batch of `shape`, its values hard to compress and the same from run to run.
pub fn batch(shape: &BatchShape, wall_ms: i64) -> Result<Bytes, String> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut value = vec![0; shape.record_bytes];
    for _ in 0..shape.records_per_batch.max(1) {
        for byte in &mut value {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        builder
            .push(wall_ms, None, Some(&value), &[])
            .map_err(|error| error.to_string())?;
    }
    builder
        .finish()
        .map(Bytes::copy_from_slice)
        .map_err(|error| error.to_string())
}

/// One request per group of partitions, encoded.
pub fn frames(
    target: &Target,
    node: &Node,
    batch: &Bytes,
    records: usize,
    per_request: usize,
    acks: i16,
) -> Result<Vec<Frame>, String> {
    let per_request = per_request.clamp(1, node.partitions.len());
    let groups = node.partitions.len().div_ceil(per_request);
    let mut frames = Vec::with_capacity(groups);
    for group in 0..groups {
        let place = |index: usize| node.partitions[(group * per_request + index) % node.partitions.len()];
        let (bytes, records) = ((batch.len() * per_request) as u64, (records * per_request) as u64);
        if target.protocol == Protocol::Native {
            let partitions: Vec<i32> = (0..per_request).map(place).collect();
            let pieces = native::produce(target, &partitions, batch, acks)?;
            frames.push(Frame::fixed(pieces, bytes, records));
            continue;
        }
        let member = |index: usize| PartitionProduceData {
            index: place(index),
            records: Some(Records::from(batch.clone())),
        };
        let topic = TopicProduceData {
            name: Str::Borrowed(&target.topic),
            topic_id: target.topic_id,
            partition_data: (0..per_request).map(member).collect(),
        };
        let request = ProduceRequest {
            acks,
            timeout_ms: 30_000,
            topic_data: vec![topic].into(),
            ..Default::default()
        };
        let header = RequestHeader {
            api_key: <ProduceRequest<'_> as Message>::API_KEY,
            api_version: target.produce_version,
            correlation_id: 0,
            client_id: Some(Str::Borrowed("ringtail-bench")),
        };
        let pieces = encode_request(&header, &request).map_err(|error| error.to_string())?;
        frames.push(Frame::new(pieces, bytes, records));
    }
    Ok(frames)
}

/// How produce requests are answered.
#[derive(Clone, Copy)]
struct Answered {
    protocol: Protocol,
    version: i16,
}

impl Answered {
    fn refusals(self, answer: &Bytes) -> Result<usize, String> {
        match self.protocol {
            Protocol::Kafka => refusals(answer, self.version),
            Protocol::Native => native::refusals(answer),
        }
    }
}

/// How a connection decides when to send.
#[derive(Clone, Copy)]
enum Pace {
    /// So many unanswered.
    Closed(usize),
    /// A request each `interval_ns`, the first at `first`.
    Open { first: Monotonic, interval_ns: u64 },
}

impl Produce {
    pub fn run(self) -> Result<(), String> {
        let target = self.target.prepare()?;
        let mut parameters: Vec<(&'static str, Json)> = vec![
            (
                "partitions",
                target
                    .nodes
                    .iter()
                    .map(|node| node.partitions.len())
                    .sum::<usize>()
                    .into(),
            ),
            ("connections", self.load.connections.into()),
            ("threads", self.load.threads.into()),
            ("acks", self.acks.into()),
            ("record_bytes", self.shape.record_bytes.into()),
            ("records_per_batch", self.shape.records_per_batch.into()),
            ("batches_per_request", self.batches_per_request.into()),
        ];
        parameters.push(match self.rate {
            Some(rate) => ("rate", rate.into()),
            None => ("in_flight", self.in_flight.into()),
        });
        let load = self.load.clone();
        let shared = std::sync::Arc::new((self, target));
        let work = move |env: UringEnv, index: usize, window: Window| {
            let shared = shared.clone();
            async move { shared.0.thread(&shared.1, env, index, window).await }
        };
        let json = load.json;
        load.measure("produce", parameters, work)?.print(json);
        Ok(())
    }

    async fn thread(&self, target: &Target, env: UringEnv, index: usize, window: Window) -> Result<Tally, String> {
        let batch = batch(&self.shape, env.wall_ms())?;
        let mut lines = Vec::new();
        let threads = self.load.threads.max(1) as u64;
        let budget = Rc::new(Cell::new(self.bytes_max.map_or(u64::MAX, |bytes| bytes / threads)));
        let began = env.now();
        for number in share(self.load.connections, index, self.load.threads) {
            let node = &target.nodes[number % target.nodes.len()];
            let frames = frames(
                target,
                node,
                &batch,
                self.shape.records_per_batch,
                self.batches_per_request,
                self.acks,
            )?;
            let pace = match self.rate {
                None => Pace::Closed(self.in_flight.max(1)),
                Some(rate) => {
                    let interval_ns = (1e9 * self.load.connections as f64 / rate.max(0.001)) as u64;
                    // Connections take turns.
                    let offset = interval_ns / self.load.connections as u64 * number as u64;
                    Pace::Open {
                        first: Monotonic(began.0 + offset),
                        interval_ns: interval_ns.max(1),
                    }
                }
            };
            let stream = connect(&env, &node.address)
                .await
                .map_err(|error| format!("connect to {}: {error}", node.address))?;
            lines.push(Line::new(
                env.clone(),
                stream,
                frames,
                number,
                pace,
                window,
                Answered {
                    protocol: target.protocol,
                    version: target.produce_version,
                },
                self.acks != 0,
                budget.clone(),
            ));
        }
        let lines: Vec<Rc<Line>> = lines.into_iter().map(Rc::new).collect();
        let done = join_all(lines.iter().map(|line| line.clone().run()).collect()).await;
        let mut tally = Tally::default();
        for (line, done) in lines.iter().zip(done) {
            done.map_err(|error| format!("connection {}: {error}", line.number))?;
            tally.merge(&line.tally.borrow());
        }
        Ok(tally)
    }
}

/// One connection with its sender and its receiver.
struct Line {
    env: UringEnv,
    stream: <UringEnv as Env>::Stream,
    frames: Vec<Frame>,
    number: usize,
    pace: Pace,
    window: Window,
    answers: Answered,
    answered: bool,
    /// Bytes that the connections of the thread may still send.
    budget: Rc<Cell<u64>>,
    /// Of unanswered requests in order: when they were meant to go out, and what they carry.
    waiting: RefCell<VecDeque<(Monotonic, u64, u64)>>,
    changed: Notify,
    sent: Cell<u64>,
    sending_over: Cell<bool>,
    tally: RefCell<Tally>,
}

impl Line {
    #[allow(clippy::too_many_arguments)]
    fn new(
        env: UringEnv,
        stream: <UringEnv as Env>::Stream,
        frames: Vec<Frame>,
        number: usize,
        pace: Pace,
        window: Window,
        answers: Answered,
        answered: bool,
        budget: Rc<Cell<u64>>,
    ) -> Self {
        Self {
            env,
            stream,
            frames,
            number,
            pace,
            window,
            answers,
            answered,
            budget,
            waiting: RefCell::default(),
            changed: Notify::default(),
            sent: Cell::new(0),
            sending_over: Cell::new(false),
            tally: RefCell::default(),
        }
    }

    async fn run(self: Rc<Self>) -> Result<(), String> {
        let sending = async {
            let done = self.send().await;
            self.sending_over.set(true);
            self.changed.notify();
            match done {
                // The receiver ends the connection when all is answered.
                Ok(()) if self.answered => std::future::pending().await,
                done => done,
            }
        };
        let stopped = async {
            self.env.stop().requested().await;
            Err("stopped".to_owned())
        };
        let done = race(race(sending, self.receive()), stopped).await;
        self.env.shutdown(&self.stream);
        done
    }

    /// When sending ends at the latest.
    fn last(&self) -> Monotonic {
        match self.pace {
            Pace::Closed(_) => self.window.end,
            Pace::Open { .. } => Monotonic(self.window.end.0 + OPEN_GRACE_NS),
        }
    }

    fn is_over(&self, now: Monotonic) -> bool {
        let all_sent = match self.pace {
            Pace::Closed(_) => false,
            Pace::Open { first, interval_ns } => first.0 + interval_ns * self.sent.get() >= self.window.end.0,
        };
        all_sent || self.budget.get() == 0 || now >= self.last() || self.env.stop().is_requested()
    }

    /// What was meant to go out within the measured time and did not, because too much was unanswered.
    fn unsent(&self) -> u64 {
        match self.pace {
            Pace::Open { first, interval_ns } if self.budget.get() > 0 => {
                let meant = self.window.end.0.saturating_sub(first.0).div_ceil(interval_ns);
                meant.saturating_sub(self.sent.get())
            }
            _ => 0,
        }
    }

    /// When the next request is meant to go out; `None` when not before an answer, or never.
    fn next_due(&self, now: Monotonic) -> Option<Monotonic> {
        if self.budget.get() == 0 {
            return None;
        }
        let waiting = self.waiting.borrow().len();
        match self.pace {
            Pace::Closed(in_flight) => (waiting < in_flight || !self.answered).then_some(now),
            Pace::Open { .. } if waiting >= OPEN_IN_FLIGHT_MAX => None,
            Pace::Open { first, interval_ns } => Some(Monotonic(first.0 + interval_ns * self.sent.get())),
        }
    }

    async fn send(&self) -> Result<(), String> {
        let mut pieces = Vec::new();
        loop {
            let changed = self.changed.notified();
            let now = self.env.now();
            if self.is_over(now) {
                self.tally.borrow_mut().errors += self.unsent();
                return Ok(());
            }
            let mut next = self.next_due(now);
            let mut gathered = 0;
            while let Some(due) = next.filter(|due| *due <= now && gathered < GATHER_MAX) {
                let sequence = self.sent.replace(self.sent.get() + 1);
                // Connections begin at different partitions.
                let frame = &self.frames[(sequence as usize + self.number) % self.frames.len()];
                frame.stamp(sequence as i32 & i32::MAX, &mut pieces);
                self.budget.set(self.budget.get().saturating_sub(frame.bytes));
                match self.answered {
                    true => self.waiting.borrow_mut().push_back((due, frame.records, frame.bytes)),
                    false if self.window.holds(now) => self.tally.borrow_mut().add(1, frame.records, frame.bytes),
                    false => {}
                }
                gathered += 1;
                next = self.next_due(now);
            }
            if gathered > 0 {
                self.changed.notify();
                let pieces = std::mem::take(&mut pieces);
                send_all(&self.env, &self.stream, pieces)
                    .await
                    .map_err(|error| format!("send: {error}"))?;
                continue;
            }
            let until = next.unwrap_or(self.last()).min(self.last());
            race(changed, self.env.sleep_until(until)).await;
        }
    }

    async fn receive(&self) -> Result<(), String> {
        let mut answers = Answers::new(self.env.clone(), self.stream.clone(), self.answers.protocol);
        loop {
            // Nothing more comes once the sender is done: the end must not be waited for on the socket.
            self.changed
                .until(|| self.sending_over.get() || !self.waiting.borrow().is_empty())
                .await;
            if self.waiting.borrow().is_empty() {
                return Ok(());
            }
            let answer = answers.next().await.map_err(|error| format!("receive: {error}"))?;
            let now = self.env.now();
            let Some((due, records, bytes)) = self.waiting.borrow_mut().pop_front() else {
                return Err("an answer to no request".into());
            };
            let refused = self.answers.refusals(&answer)?;
            // What was meant for the measured time counts, whenever its answer came.
            if self.window.holds(due) {
                let mut tally = self.tally.borrow_mut();
                match refused {
                    0 => tally.add(now.0 - due.0, records, bytes),
                    _ => tally.errors += 1,
                }
            }
            self.changed.notify();
        }
    }
}

/// How many partitions of a produce answer carry an error.
pub fn refusals(answer: &Bytes, version: i16) -> Result<usize, String> {
    let mut decoder = Decoder::new(answer);
    ResponseHeader::decode::<ProduceResponse<'_>>(&mut decoder, version).map_err(|error| error.to_string())?;
    let answer = ProduceResponse::decode(&mut decoder, version).map_err(|error| error.to_string())?;
    let refused =
        |topic: TopicProduceResponse<'_>| topic.partition_responses.iter().filter(|p| p.error_code != 0).count();
    Ok(answer.responses.iter().map(refused).sum())
}
