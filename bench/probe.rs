//! A broker's start, from exec on: its first answer, its first acknowledgement, and one from every partition.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use clap::Args;
use ringtail::base::ids::TopicId;
use ringtail::base::sync::race;
use ringtail::cli::json::Json;
use ringtail::io::uring::{Options, UringEnv, run_one};
use ringtail::io::{Env, Monotonic, send_all};
use ringtail::wire::Protocol;
use ringtail::wire::kafka::messages::ApiVersionsRequest;
use ringtail::wire::kafka::{Message, RequestHeader, encode_request};

use crate::pipe::{Answers, connect};
use crate::produce::{BatchShape, batch, frames, refusals};
use crate::target::{Node, Target};

/// The last version that names topics by their name: nothing has to be asked before the first batch.
const PRODUCE_VERSION: i16 = 9;
/// Between two attempts to be answered, and before a refused batch is sent again.
const RETRY_MS: u64 = 1;

#[derive(Args, Clone)]
pub struct Probe {
    #[arg(long, short = 'b', default_value = "localhost:9092")]
    bootstrap_server: String,
    #[arg(long, default_value = "ringtail-bench")]
    topic: String,
    /// Partitions of the topic, which is there already: each gets one batch. 0: nothing is produced.
    #[arg(long, default_value_t = 0)]
    partitions: i32,
    #[command(flatten)]
    shape: BatchShape,
    /// Unanswered requests, once the first is acknowledged.
    #[arg(long, default_value_t = 100)]
    in_flight: usize,
    /// What takes longer has failed.
    #[arg(long, default_value_t = 60.0)]
    seconds_max: f64,
    /// Where the broker's output goes; nowhere without it.
    #[arg(long)]
    log: Option<PathBuf>,
    /// The command that starts the broker; it is killed again when it does not get there. Without it, a broker that runs
    /// already is asked.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Milliseconds from exec.
#[derive(Default)]
struct Times {
    answered: f64,
    first: Option<f64>,
    last: Option<f64>,
    refused: u64,
}

impl Probe {
    pub fn run(self) -> Result<(), String> {
        let (began, mut child) = self.start()?;
        let pid = child.as_ref().map(Child::id);
        let measured = run_one(Options::default(), |env| async move {
            let end = Monotonic(env.now().0 + (self.seconds_max * 1e9) as u64);
            let over = async {
                env.sleep_until(end).await;
                Err(format!("not there after {} s", self.seconds_max))
            };
            let measured = race(self.measure(&env, began, &mut child), over).await;
            if measured.is_err() {
                // Nobody else knows its process id.
                if let Some(child) = &mut child {
                    drop(child.kill());
                    drop(child.wait());
                }
            }
            measured
        });
        let times = measured.map_err(|error| error.to_string())??;
        let rounded = |ms: f64| Json::Number((ms * 100.0).round() / 100.0);
        let result = Json::Object(vec![
            ("workload", "probe".into()),
            ("pid", pid.map_or(Json::Null, Json::from)),
            ("answered_ms", rounded(times.answered)),
            ("first_acknowledged_ms", times.first.map_or(Json::Null, rounded)),
            ("last_acknowledged_ms", times.last.map_or(Json::Null, rounded)),
            ("refused", times.refused.into()),
        ]);
        println!("{result}");
        Ok(())
    }

    fn start(&self) -> Result<(Instant, Option<Child>), String> {
        if self.command.is_empty() {
            return Ok((Instant::now(), None));
        }
        let failed = |error: std::io::Error| format!("{}: {error}", self.command[0]);
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null());
        match &self.log {
            Some(path) => {
                let log = File::options().create(true).append(true).open(path).map_err(failed)?;
                command.stdout(log.try_clone().map_err(failed)?).stderr(log);
            }
            None => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        let began = Instant::now();
        Ok((began, Some(command.spawn().map_err(failed)?)))
    }

    async fn measure(&self, env: &UringEnv, began: Instant, child: &mut Option<Child>) -> Result<Times, String> {
        let since = || began.elapsed().as_secs_f64() * 1e3;
        let (stream, mut answers) = loop {
            if let Ok(answering) = self.ask(env).await {
                break answering;
            }
            if let Some(child) = child
                && let Ok(Some(status)) = child.try_wait()
            {
                return Err(format!("the broker ended: {status}"));
            }
            env.sleep_until(env.now().plus_ms(RETRY_MS)).await;
        };
        let mut times = Times {
            answered: since(),
            ..Times::default()
        };
        self.produce(env, &stream, &mut answers, &mut times, since).await?;
        env.shutdown(&stream);
        Ok(times)
    }

    /// A connection on which ApiVersions was answered.
    async fn ask(&self, env: &UringEnv) -> Result<(<UringEnv as Env>::Stream, Answers<UringEnv>), String> {
        let stream = connect(env, &self.bootstrap_server)
            .await
            .map_err(|error| error.to_string())?;
        let mut answers = Answers::new(env.clone(), stream.clone(), Protocol::Kafka);
        let header = RequestHeader {
            api_key: <ApiVersionsRequest<'_> as Message>::API_KEY,
            api_version: 0,
            correlation_id: 0,
            client_id: None,
        };
        let request = encode_request(&header, &ApiVersionsRequest::default()).map_err(|error| error.to_string())?;
        send_all(env, &stream, request)
            .await
            .map_err(|error| error.to_string())?;
        answers.next().await.map_err(|error| error.to_string())?;
        Ok((stream, answers))
    }

    /// One batch to each partition: the first alone, the others side by side.
    async fn produce(
        &self,
        env: &UringEnv,
        stream: &<UringEnv as Env>::Stream,
        answers: &mut Answers<UringEnv>,
        times: &mut Times,
        since: impl Fn() -> f64,
    ) -> Result<(), String> {
        if self.partitions <= 0 {
            return Ok(());
        }
        let node = Node {
            address: self.bootstrap_server.clone(),
            partitions: (0..self.partitions).collect(),
        };
        let target = Target {
            protocol: Protocol::Kafka,
            topic: self.topic.clone(),
            topic_id: TopicId::ZERO,
            nodes: vec![node.clone()],
            produce_version: PRODUCE_VERSION,
            fetch_version: PRODUCE_VERSION,
        };
        let batch = batch(&self.shape, env.wall_ms())?;
        let frames = frames(&target, &node, &batch, self.shape.records_per_batch, 1, -1)?;
        let mut missing: VecDeque<usize> = (0..frames.len()).collect();
        let mut waiting = VecDeque::new();
        while !missing.is_empty() || !waiting.is_empty() {
            let in_flight_max = if times.first.is_some() {
                self.in_flight.max(1)
            } else {
                1
            };
            let mut pieces = Vec::new();
            while waiting.len() < in_flight_max
                && let Some(partition) = missing.pop_front()
            {
                frames[partition].stamp(partition as i32, &mut pieces);
                waiting.push_back(partition);
            }
            if !pieces.is_empty() {
                let sent = send_all(env, stream, pieces).await;
                sent.map_err(|error| format!("send: {error}"))?;
            }
            let answer = answers.next().await.map_err(|error| format!("receive: {error}"))?;
            let Some(partition) = waiting.pop_front() else {
                return Err("an answer to no request".into());
            };
            if refusals(&answer, PRODUCE_VERSION)? == 0 {
                times.first.get_or_insert(since());
                times.last = Some(since());
            } else {
                times.refused += 1;
                missing.push_back(partition);
                env.sleep_until(env.now().plus_ms(RETRY_MS)).await;
            }
        }
        Ok(())
    }
}
