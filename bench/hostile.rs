//! Clients that mean no good: each attack on its connections until its time is over. What it does to others is measured beside it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use ringtail::base::sync::{join_all, race};
use ringtail::cli::json::Json;
use ringtail::io::uring::{Options, UringEnv, process_cpu_seconds, run_one};
use ringtail::io::{Env, Monotonic, send_all};
use ringtail::wire::Protocol;
use ringtail::wire::batch::{BatchBuilder, BatchOptions, Codec};
use ringtail::wire::kafka::messages::*;
use ringtail::wire::kafka::{Message, Records, RequestHeader, Str, encode_request};

use crate::native;
use crate::pipe::connect;
use crate::target::{Target, TargetOptions};

#[derive(Args, Clone)]
pub struct Hostile {
    attack: Attack,
    #[command(flatten)]
    target: TargetOptions,
    #[arg(long, short, default_value_t = 2000)]
    connections: usize,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Attack {
    /// Announces a frame of 90 MB and sends 200 KB of it.
    HalfFrames,
    /// Announces a frame of 90 MB and sends a byte each second.
    Trickle,
    /// Asks for as much as one fetch may bring, again and again, and reads nothing.
    NeverReads,
    /// Connects and ends the connection, as fast as it goes.
    Connects,
    /// Pipelines requests of a few bytes, and reads the answers.
    Small,
    /// Pipelines requests that name tens of thousands of partitions, and such that bring large answers.
    Heavy,
    /// Pipelines batches of zeros, packed as densely as each codec can, to a compacted topic.
    Bombs,
}

/// What one attack got done.
#[derive(Default)]
struct Score {
    connected: Cell<u64>,
    refused: Cell<u64>,
    /// Connections that the broker ended.
    dropped: Cell<u64>,
    sent_bytes: Cell<u64>,
    received_bytes: Cell<u64>,
}

fn add(count: &Cell<u64>, more: usize) {
    count.set(count.get() + more as u64);
}

const ANNOUNCED_BYTES: u32 = 90 << 20;
const HALF_BYTES: usize = 200_000;
/// Between the end of a connection and the next one in its place.
const PAUSE_MS: u64 = 1000;
/// Things that one request names.
const HEAVY_ITEMS: usize = 90_000;
/// Requests in one send.
const PIPELINED: usize = 64;

type Stream = <UringEnv as Env>::Stream;

/// What every connection of an attack shares.
struct Crowd {
    env: UringEnv,
    attack: Attack,
    address: String,
    /// What is sent over and over.
    pieces: Vec<Bytes>,
    end: Monotonic,
    score: Score,
}

impl Hostile {
    pub fn run(self) -> Result<(), String> {
        let target = self.prepare()?;
        let pieces = self.pieces(&target)?;
        let own = process_cpu_seconds();
        let options = self.clone();
        let signals = Options {
            signals: true,
            ..Options::default()
        };
        let score = run_one(signals, |env| async move {
            let crowd = Rc::new(Crowd {
                attack: options.attack,
                address: target.nodes[0].address.clone(),
                pieces,
                end: Monotonic(env.now().0 + Duration::from_secs_f64(options.seconds).as_nanos() as u64),
                score: Score::default(),
                env,
            });
            let all = (0..options.connections).map(|number| crowd.clone().connection(number));
            let over = async {
                race(crowd.env.sleep_until(crowd.end), crowd.env.stop().requested()).await;
            };
            race(async { drop(join_all(all.collect()).await) }, over).await;
            let count = |count: &Cell<u64>| Json::from(count.get());
            let score = &crowd.score;
            Json::Object(vec![
                ("connected", count(&score.connected)),
                ("refused", count(&score.refused)),
                ("dropped", count(&score.dropped)),
                ("sent_bytes", count(&score.sent_bytes)),
                ("received_bytes", count(&score.received_bytes)),
                (
                    "cpu_seconds",
                    Json::Number(((process_cpu_seconds() - own) * 100.0).round() / 100.0),
                ),
            ])
        });
        let score = score.map_err(|error| error.to_string())?;
        if self.json {
            println!("{score}");
        } else {
            println!("{:?}: {score}", self.attack);
        }
        Ok(())
    }

    /// The topic; bombs have one of their own, which is compacted, so that the broker has to look into them.
    fn prepare(&self) -> Result<Target, String> {
        let mut options = self.target.clone();
        if self.attack == Attack::Bombs {
            options.topic.push_str("-compacted");
            options.topic_configs.push("cleanup.policy=compact".to_owned());
        }
        options.prepare()
    }

    fn pieces(&self, target: &Target) -> Result<Vec<Bytes>, String> {
        let pipelined = |frames: Vec<Vec<Bytes>>, count: usize| -> Vec<Bytes> {
            frames.into_iter().cycle().take(count).flatten().collect()
        };
        Ok(match self.attack {
            Attack::Connects => Vec::new(),
            Attack::HalfFrames | Attack::Trickle if target.protocol == Protocol::Native => {
                let head = [ANNOUNCED_BYTES.to_le_bytes(), (4u32 << 20).to_le_bytes()].concat();
                vec![head.into()]
            }
            Attack::HalfFrames | Attack::Trickle => {
                // ListOffsets: whatever it says stands behind this.
                let head = [
                    &ANNOUNCED_BYTES.to_be_bytes()[..],
                    &[0, 2, 0, 1, 0, 0, 0, 1, 0xff, 0xff],
                ]
                .concat();
                vec![head.into()]
            }
            Attack::NeverReads | Attack::Heavy if target.protocol == Protocol::Native => {
                let frames = match self.attack {
                    Attack::Heavy => native::heavy(target, HEAVY_ITEMS)?,
                    _ => vec![native::large_fetch(target)?],
                };
                pipelined(frames, if self.attack == Attack::Heavy { 4 } else { PIPELINED })
            }
            _ if target.protocol == Protocol::Native => {
                return Err(format!("{:?} is not an attack in the native protocol", self.attack));
            }
            Attack::NeverReads => pipelined(vec![large_fetch(target)?], PIPELINED),
            Attack::Small => pipelined(vec![encoded(0, &ApiVersionsRequest::default())?], PIPELINED),
            Attack::Heavy => pipelined(heavy(target)?, 4),
            Attack::Bombs => pipelined(bombs(target)?, 4),
        })
    }
}

fn encoded<'a, M: Message<'a>>(api_version: i16, request: &M) -> Result<Vec<Bytes>, String> {
    let header = RequestHeader {
        api_key: M::API_KEY,
        api_version,
        correlation_id: 0,
        client_id: Some(Str::Borrowed("hostile")),
    };
    encode_request(&header, request).map_err(|error| error.to_string())
}

fn partitions(target: &Target) -> Vec<i32> {
    target.nodes.iter().flat_map(|node| node.partitions.clone()).collect()
}

/// Everything from the start on, as much as one answer carries.
fn large_fetch(target: &Target) -> Result<Vec<Bytes>, String> {
    let partition = |partition| FetchPartition {
        partition,
        partition_max_bytes: i32::MAX,
        ..Default::default()
    };
    let request = FetchRequest {
        max_bytes: i32::MAX,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: Str::Borrowed(&target.topic),
            partitions: partitions(target).into_iter().map(partition).collect(),
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    };
    encoded(11, &request)
}

/// Much work for one request: look-ups by time, all that is known of a broker many times over.
fn heavy(target: &Target) -> Result<Vec<Vec<Bytes>>, String> {
    let all = partitions(target);
    let partition = |(index, partition_index): (usize, i32)| ListOffsetsPartition {
        partition_index,
        // Each another time: no two are the same question.
        timestamp: index as i64,
        ..Default::default()
    };
    let offsets = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Str::Borrowed(&target.topic),
            partitions: all
                .iter()
                .copied()
                .cycle()
                .take(HEAVY_ITEMS)
                .enumerate()
                .map(partition)
                .collect(),
        }]
        .into(),
        ..Default::default()
    };
    let resource = |index: usize| DescribeConfigsResource {
        resource_type: 2,
        // No two are the same resource; those that are not there are refused one by one.
        resource_name: if index == 0 {
            target.topic.clone()
        } else {
            format!("{}{index}", target.topic)
        }
        .into(),
        configuration_keys: None,
    };
    let configs = DescribeConfigsRequest {
        resources: (0..HEAVY_ITEMS).map(resource).collect(),
        include_synonyms: true,
        include_documentation: true,
    };
    Ok(vec![
        encoded(1, &offsets)?,
        encoded(4, &configs)?,
        encoded(0, &MetadataRequest::default())?,
    ])
}

/// One request for each codec: a batch in each partition that grows as far as the broker lets it.
fn bombs(target: &Target) -> Result<Vec<Vec<Bytes>>, String> {
    let mut requests = Vec::new();
    for (codec, mebibytes) in [
        (Codec::Gzip, 100),
        (Codec::Zstd, 15),
        (Codec::Lz4, 100),
        (Codec::Snappy, 16),
    ] {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            ..Default::default()
        });
        let zeros = vec![0; mebibytes << 20];
        builder
            .push(0, Some(b"k"), Some(&zeros), &[])
            .map_err(|error| error.to_string())?;
        let batch = Bytes::copy_from_slice(builder.finish().map_err(|error| error.to_string())?);
        let data = |index| PartitionProduceData {
            index,
            records: Some(Records::from(batch.clone())),
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: Str::Borrowed(&target.topic),
                topic_id: target.topic_id,
                partition_data: partitions(target).into_iter().map(data).collect(),
            }]
            .into(),
            ..Default::default()
        };
        requests.push(encoded(9, &request)?);
    }
    Ok(requests)
}

impl Crowd {
    /// One place of the crowd: a connection after the other.
    async fn connection(self: Rc<Self>, number: usize) {
        // Not all in the same instant: the broker's queue of connections is not what is attacked here.
        let slot_ms = if self.attack == Attack::Connects {
            0
        } else {
            number as u64
        };
        self.env.sleep_until(self.env.now().plus_ms(slot_ms)).await;
        while self.env.now() < self.end {
            match connect(&self.env, &self.address).await {
                Ok(stream) => {
                    add(&self.score.connected, 1);
                    self.serve(&stream).await;
                    self.env.shutdown(&stream);
                }
                Err(_) => add(&self.score.refused, 1),
            }
            if self.attack != Attack::Connects {
                self.env.sleep_until(self.env.now().plus_ms(PAUSE_MS)).await;
            }
        }
    }

    async fn serve(&self, stream: &Stream) {
        match self.attack {
            Attack::Connects => return,
            Attack::HalfFrames => {
                self.send(stream, self.pieces.clone()).await;
                self.send(stream, vec![Bytes::from(vec![0; HALF_BYTES])]).await;
                self.discard(stream).await;
            }
            Attack::Trickle => race(self.trickle(stream), self.discard(stream)).await,
            Attack::NeverReads => self.flood(stream).await,
            Attack::Small | Attack::Heavy | Attack::Bombs => race(self.flood(stream), self.discard(stream)).await,
        }
        add(&self.score.dropped, 1);
    }

    async fn send(&self, stream: &Stream, pieces: Vec<Bytes>) -> bool {
        let bytes = pieces.iter().map(Bytes::len).sum();
        let sent = send_all(&self.env, stream, pieces).await.is_ok();
        if sent {
            add(&self.score.sent_bytes, bytes);
        }
        sent
    }

    /// The same requests until the connection ends.
    async fn flood(&self, stream: &Stream) {
        while self.send(stream, self.pieces.clone()).await {}
    }

    async fn trickle(&self, stream: &Stream) {
        let mut next = self.pieces.clone();
        while self.send(stream, next).await {
            self.env.sleep_until(self.env.now().plus_ms(1000)).await;
            next = vec![Bytes::from_static(&[0])];
        }
    }

    /// Reads and forgets until the connection ends.
    async fn discard(&self, stream: &Stream) {
        let mut buffer = BytesMut::with_capacity(64 << 10);
        loop {
            let (received, back) = self.env.receive(stream, buffer).await;
            buffer = back;
            match received {
                Ok(0) | Err(_) => return,
                Ok(received) => add(&self.score.received_bytes, received),
            }
            buffer.clear();
        }
    }
}
