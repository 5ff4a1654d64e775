//! `ringtail produce`

use std::collections::VecDeque;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::client::{Acks, Client, ClientOptions, Delivery, NewRecord, Producer, ProducerOptions};
use crate::io::uring::UringEnv;
use crate::io::{Env, console};
use crate::wire::batch::{Codec, Header};

use super::failure::Failure;
use super::format::unescape;
use super::json::Json;
use super::lines::Lines;
use super::output::{Output, Progress};
use super::session::Connect;
use super::topic::pair;

/// The longest line taken.
const LINE_BYTES_MAX: usize = 64 << 20;
/// How long a topic may take to appear.
const CREATION_MS_MAX: u64 = 5_000;
/// Records whose acknowledgement is waited for at a time.
const UNSETTLED_MAX: usize = 100_000;

#[derive(Clone, Copy, ValueEnum)]
enum AcksWord {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum CodecWord {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Args)]
pub struct Produce {
    #[command(flatten)]
    connect: Connect,
    topic: String,
    /// The partition of all records; otherwise the key decides, as in Kafka's Java client.
    #[arg(long, short)]
    partition: Option<i32>,
    /// A line is KEY, this, VALUE (\t and \n are understood).
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record.
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE")]
    headers: Vec<String>,
    /// A line begins with headers of its own: name:value,name:value and a tab.
    #[arg(long)]
    parse_headers: bool,
    /// A value (or key) that reads like this is null: a tombstone.
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    #[arg(long, short = 'z', default_value = "none")]
    codec: CodecWord,
    #[arg(long, short, default_value = "all")]
    acks: AcksWord,
    /// Lets a retry store a record twice.
    #[arg(long)]
    no_idempotence: bool,
    /// How long a batch waits for more records, in milliseconds.
    #[arg(long, default_value_t = 5, value_name = "MS")]
    linger_ms: u64,
    /// Uncompressed bytes of a batch.
    #[arg(long, default_value_t = 256 << 10, value_name = "BYTES")]
    batch_bytes: usize,
    /// Prints partition and offset of every record.
    #[arg(long)]
    offsets: bool,
}

impl Produce {
    pub fn run(self) -> Result<(), Failure> {
        let connect = self.connect.clone();
        // A broker that creates topics on demand is asked to.
        let options = ClientOptions {
            allow_auto_create: true,
            ..ClientOptions::default()
        };
        connect.run_with(options, async move |client| self.produce(client).await)
    }

    fn options(&self) -> ProducerOptions {
        let acks = match self.acks {
            AcksWord::None => Acks::None,
            AcksWord::Leader => Acks::Leader,
            AcksWord::All => Acks::All,
        };
        ProducerOptions {
            acks,
            idempotent: acks == Acks::All && !self.no_idempotence,
            codec: match self.codec {
                CodecWord::None => Codec::None,
                CodecWord::Gzip => Codec::Gzip,
                CodecWord::Snappy => Codec::Snappy,
                CodecWord::Lz4 => Codec::Lz4,
                CodecWord::Zstd => Codec::Zstd,
            },
            linger_ms: self.linger_ms,
            batch_bytes_max: self.batch_bytes.clamp(1 << 10, 64 << 20),
            delivery_ms_max: self.connect.timeout_ms(),
            ..ProducerOptions::default()
        }
    }

    async fn produce(self, client: Client<UringEnv>) -> Result<(), Failure> {
        let env = client.env().clone();
        let fixed = self
            .headers
            .iter()
            .map(|text| pair(text))
            .collect::<Result<Vec<_>, _>>()?;
        let separator = self.key_separator.as_deref().map(unescape).transpose()?;
        if separator.as_ref().is_some_and(Vec::is_empty) {
            return Err(Failure::usage(
                "--key-separator is empty: nothing would tell key and value apart",
            ));
        }
        // Says at once that the topic is not there, before a line was read.
        await_topic(&client, &self.topic).await?;
        let input = console::standard_input().map_err(|error| Failure::failed(format!("standard input: {error}")))?;
        let mut lines = Lines::new(input, LINE_BYTES_MAX);
        let mut work = Work {
            producer: Producer::new(client.clone(), self.options())?,
            progress: Progress::new(env.now(), self.offsets),
            unsettled: VecDeque::new(),
            out: Output::new(),
            print: self.offsets,
            json: self.connect.json,
        };
        while let Some(line) = lines.next().await? {
            let record = self.parse(&line, separator.as_deref())?;
            work.append(&env, &self.topic, self.partition, &record, &fixed).await?;
        }
        work.producer.flush().await;
        work.settle(0).await?;
        let Work { progress, mut out, .. } = work;
        progress.clear();
        match self.connect.json {
            true => out.line(Json::Object(vec![
                ("topic", self.topic.as_str().into()),
                ("records", progress.records.into()),
                ("bytes", progress.bytes.into()),
                ("seconds", progress.seconds(env.now()).into()),
            ]))?,
            false => eprintln!("{} written to {}", progress.summary(env.now()), self.topic),
        }
        client.close();
        out.finish()
    }

    /// Takes a line apart: headers, key, value, as asked for.
    fn parse<'l>(&self, line: &'l Bytes, separator: Option<&[u8]>) -> Result<Parsed<'l>, Failure> {
        let mut rest: &[u8] = line;
        let mut headers = Vec::new();
        if self.parse_headers {
            let (own, after) = split(rest, b"\t").ok_or_else(|| self.misfit(line, "has no tab after its headers"))?;
            for header in own.split(|byte| *byte == b',').filter(|header| !header.is_empty()) {
                let (key, value) = split(header, b":").ok_or_else(|| self.misfit(line, "has a header without `:`"))?;
                headers.push((key, Some(value)));
            }
            rest = after;
        }
        let mut key = None;
        if let Some(separator) = separator {
            let (before, after) = split(rest, separator).ok_or_else(|| self.misfit(line, "has no key separator"))?;
            key = Some(before);
            rest = after;
        }
        let null = self.null.as_deref().map(str::as_bytes);
        let unless_null = |text: &'l [u8]| (Some(text) != null).then_some(text);
        Ok(Parsed {
            key: key.and_then(unless_null),
            value: unless_null(rest),
            headers,
            bytes: line.len(),
        })
    }

    fn misfit(&self, line: &[u8], what: &str) -> Failure {
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]);
        Failure::failed(format!("the line `{shown}` {what}"))
    }
}

/// Waits for a topic that is being created on demand, for a while.
async fn await_topic(client: &Client<UringEnv>, topic: &str) -> Result<(), Failure> {
    let deadline = client.env().now().plus_ms(CREATION_MS_MAX);
    loop {
        match client.topic_once(topic).await {
            Err(error) if error.is_retriable() && client.env().now() < deadline => {
                client.env().sleep_until(client.env().now().plus_ms(100)).await;
            }
            Err(error) => return Err(error.into()),
            Ok(found) if found.partitions.iter().any(|partition| partition.leader.is_some()) => return Ok(()),
            Ok(_) if client.env().now() >= deadline => {
                return Err(Failure::failed(format!("topic {topic} has no leader")));
            }
            Ok(_) => client.env().sleep_until(client.env().now().plus_ms(100)).await,
        }
    }
}

struct Parsed<'l> {
    key: Option<&'l [u8]>,
    value: Option<&'l [u8]>,
    headers: Vec<(&'l [u8], Option<&'l [u8]>)>,
    bytes: usize,
}

/// The parts before and after the first `separator`.
fn split<'t>(text: &'t [u8], separator: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

struct Work {
    producer: Producer<UringEnv>,
    progress: Progress,
    unsettled: VecDeque<Delivery>,
    out: Output,
    print: bool,
    json: bool,
}

impl Work {
    async fn append(
        &mut self,
        env: &UringEnv,
        topic: &str,
        partition: Option<i32>,
        parsed: &Parsed<'_>,
        fixed: &[(String, String)],
    ) -> Result<(), Failure> {
        let fixed = fixed.iter().map(|(key, value)| Header {
            key: key.as_bytes(),
            value: Some(value.as_bytes()),
        });
        let own = parsed.headers.iter().map(|(key, value)| Header { key, value: *value });
        let headers: Vec<Header<'_>> = fixed.chain(own).collect();
        let record = NewRecord {
            key: parsed.key,
            value: parsed.value,
            headers: &headers,
            timestamp_ms: None,
        };
        let delivery = self.producer.append(topic, partition, &record).await?;
        self.unsettled.push_back(delivery);
        self.progress.add(env.now(), parsed.bytes);
        // A refused record is noticed while the input still flows.
        while self.unsettled.front().is_some_and(Delivery::is_settled) {
            self.settle_first().await?;
        }
        self.settle(UNSETTLED_MAX).await
    }

    /// Waits until at most `count_max` records are without acknowledgement.
    async fn settle(&mut self, count_max: usize) -> Result<(), Failure> {
        while self.unsettled.len() > count_max {
            self.settle_first().await?;
        }
        Ok(())
    }

    async fn settle_first(&mut self) -> Result<(), Failure> {
        let Some(delivery) = self.unsettled.pop_front() else {
            return Ok(());
        };
        let delivered = delivery.wait().await?;
        if !self.print {
            return Ok(());
        }
        if self.json {
            let members = vec![
                ("partition", delivered.partition.into()),
                ("offset", delivered.offset.into()),
            ];
            return self.out.line(Json::Object(members));
        }
        let offset = delivered.offset.map_or("-".to_owned(), |offset| offset.to_string());
        self.out.line(format!("{} {offset}", delivered.partition))
    }
}
