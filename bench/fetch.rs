//! Fetch load: every connection reads its partitions from the start to the end: again and again, once, or on with the producers.

use bytes::Bytes;
use clap::Args;
use ringtail::base::sync::join_all;
use ringtail::io::uring::UringEnv;
use ringtail::io::{Env, send_all};
use ringtail::wire::Protocol;
use ringtail::wire::batch::{ScanOptions, scan};
use ringtail::wire::kafka::messages::*;
use ringtail::wire::kafka::{Decoder, ErrorCode, Message, RequestHeader, ResponseHeader, Str, encode_request};

use crate::load::{LoadOptions, Window, share};
use crate::native;
use crate::pipe::{Answers, connect};
use crate::report::Tally;
use crate::target::{Target, TargetOptions};

#[derive(Args)]
pub struct Fetch {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    load: LoadOptions,
    /// Of an answer.
    #[arg(long, default_value_t = 4 << 20)]
    bytes_max: i32,
    #[arg(long, default_value_t = 1 << 20)]
    partition_bytes_max: i32,
    /// How long the broker waits for `min_bytes`; 0 answers at once.
    #[arg(long, default_value_t = 100)]
    wait_ms: i32,
    /// Reads everything once, to the ends of now; the measured time is the time it takes.
    #[arg(long, conflicts_with = "follow")]
    once: bool,
    /// Waits at the end for more instead of beginning anew.
    #[arg(long)]
    follow: bool,
}

/// What an answer brought of one partition.
pub struct Part {
    pub partition: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub log_start: i64,
    pub batches: Bytes,
}

/// A partition being read.
pub struct Place {
    pub partition: i32,
    pub offset: i64,
    log_start: i64,
    at_end: bool,
    /// The broker has this offset from an earlier request of the session.
    is_told: bool,
}

impl Place {
    pub fn start(partition: &i32) -> Self {
        Self {
            partition: *partition,
            offset: 0,
            log_start: 0,
            at_end: false,
            is_told: false,
        }
    }

    fn begin_anew(&mut self) {
        self.offset = self.log_start;
        (self.at_end, self.is_told) = (false, false);
    }
}

/// A fetch session (KIP-227): the broker knows what is asked for, and is told of changes. It also begins each time with the partitions
/// whose turn it is, so that none goes without.
#[derive(Default)]
struct Session {
    id: i32,
    /// That of the next request; 0 opens a session.
    epoch: i32,
    /// Partitions that are asked for no more, of which the broker does not know yet.
    forgotten: Vec<i32>,
}

impl Session {
    /// An answer came: to `id`, or with an error, after which another session is opened.
    fn answered(&mut self, id: i32, failed: bool) {
        (self.id, self.epoch) = match id {
            0 => (0, 0),
            _ if failed => (0, 0),
            id => (id, self.epoch % i32::MAX + 1),
        };
        self.forgotten.clear();
    }
}

impl Fetch {
    pub fn run(self) -> Result<(), String> {
        let target = self.target.prepare()?;
        let parameters = vec![
            (
                "partitions",
                target
                    .nodes
                    .iter()
                    .map(|node| node.partitions.len())
                    .sum::<usize>()
                    .into(),
            ),
            ("connections", self.connections(&target).into()),
            ("threads", self.load.threads.into()),
            ("bytes_max", self.bytes_max.into()),
            ("partition_bytes_max", self.partition_bytes_max.into()),
        ];
        let (load, json) = (self.load.clone(), self.load.json);
        let shared = std::sync::Arc::new((self, target));
        let work = move |env: UringEnv, index: usize, window: Window| {
            let shared = shared.clone();
            async move { shared.0.thread(&shared.1, env, index, window).await }
        };
        load.measure("fetch", parameters, work)?.print(json);
        Ok(())
    }

    async fn thread(&self, target: &Target, env: UringEnv, index: usize, window: Window) -> Result<Tally, String> {
        let own = share(self.connections(target), index, self.load.threads);
        let connections = own
            .map(|number| self.connection(target, &env, number, window))
            .collect();
        let mut tally = Tally::default();
        for done in join_all(connections).await {
            tally.merge(&done?);
        }
        Ok(tally)
    }

    /// Every node that leads partitions has one at least, as any client's.
    fn connections(&self, target: &Target) -> usize {
        self.load.connections.max(target.nodes.len())
    }

    async fn connection(
        &self,
        target: &Target,
        env: &UringEnv,
        number: usize,
        window: Window,
    ) -> Result<Tally, String> {
        let nodes = target.nodes.len();
        let node = &target.nodes[number % nodes];
        // Connections to one broker share out its partitions, or read them all when there are more connections than those.
        let sharers = self.connections(target).div_ceil(nodes);
        let own = node
            .partitions
            .iter()
            .enumerate()
            .filter(|(index, _)| index % sharers == number / nodes);
        let mut places: Vec<Place> = own.map(|(_, partition)| Place::start(partition)).collect();
        if places.is_empty() {
            places = node.partitions.iter().map(Place::start).collect();
        }
        let stream = connect(env, &node.address)
            .await
            .map_err(|error| format!("connect to {}: {error}", node.address))?;
        let mut answers = Answers::new(env.clone(), stream.clone(), target.protocol);
        let mut tally = Tally::default();
        let mut session = Session::default();
        let mut correlation_id = 0;
        while env.now() < window.end && !env.stop().is_requested() && !places.is_empty() {
            let pieces = self.request(target, &mut places, &session, correlation_id)?;
            let sent_at = env.now();
            send_all(env, &stream, pieces)
                .await
                .map_err(|error| format!("send: {error}"))?;
            let answer = answers.next().await.map_err(|error| format!("receive: {error}"))?;
            let (parts, refused) = match target.protocol {
                Protocol::Kafka => fetched(&answer, target.fetch_version, &mut session)?,
                Protocol::Native => (native::fetched(&answer, &places)?, 0),
            };
            let (bytes, records, errors) = advance(parts, &mut places);
            if window.holds(sent_at) {
                tally.add(env.now().0 - sent_at.0, records, bytes);
                tally.errors += errors + refused;
            }
            if self.once {
                let ended = places.iter().filter(|place| place.at_end);
                session.forgotten.extend(ended.map(|place| place.partition));
                places.retain(|place| !place.at_end);
            } else if !self.follow {
                places
                    .iter_mut()
                    .filter(|place| place.at_end)
                    .for_each(Place::begin_anew);
            }
            // Without a session another partition is first each time.
            if !places.is_empty() && session.epoch == 0 {
                places.rotate_left(1);
            }
            correlation_id = (correlation_id + 1) & i32::MAX;
        }
        env.shutdown(&stream);
        Ok(tally)
    }

    fn request(
        &self,
        target: &Target,
        places: &mut [Place],
        session: &Session,
        correlation_id: i32,
    ) -> Result<Vec<Bytes>, String> {
        if target.protocol == Protocol::Native {
            let bounds = (
                self.wait_ms as u32,
                self.bytes_max as u32,
                self.partition_bytes_max as u32,
            );
            return native::fetch(target, places, bounds);
        }
        let partition = |place: &Place| FetchPartition {
            partition: place.partition,
            fetch_offset: place.offset,
            partition_max_bytes: self.partition_bytes_max,
            ..Default::default()
        };
        let is_new = |place: &&mut Place| session.epoch == 0 || !place.is_told;
        let told = places.iter_mut().filter(is_new).map(|place| {
            place.is_told = true;
            partition(place)
        });
        let topic = FetchTopic {
            topic: Str::Borrowed(&target.topic),
            topic_id: target.topic_id,
            partitions: told.collect(),
        };
        let forgotten = ForgottenTopic {
            topic: Str::Borrowed(&target.topic),
            topic_id: target.topic_id,
            partitions: session.forgotten.clone().into(),
        };
        let is_forgotten = session.epoch > 0 && !session.forgotten.is_empty();
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: self.wait_ms,
            min_bytes: 1,
            max_bytes: self.bytes_max,
            session_id: session.id,
            session_epoch: session.epoch,
            topics: Some(topic)
                .filter(|topic| !topic.partitions.is_empty())
                .into_iter()
                .collect(),
            forgotten_topics_data: is_forgotten.then_some(forgotten).into_iter().collect(),
            ..Default::default()
        };
        let header = RequestHeader {
            api_key: <FetchRequest<'_> as Message>::API_KEY,
            api_version: target.fetch_version,
            correlation_id,
            client_id: Some(Str::Borrowed("ringtail-bench")),
        };
        encode_request(&header, &request).map_err(|error| error.to_string())
    }
}

/// The parts of a Kafka answer, and whether it was an error as a whole.
fn fetched(answer: &Bytes, version: i16, session: &mut Session) -> Result<(Vec<Part>, u64), String> {
    let mut decoder = Decoder::new(answer);
    ResponseHeader::decode::<FetchResponse<'_>>(&mut decoder, version).map_err(|error| error.to_string())?;
    let response = FetchResponse::decode(&mut decoder, version).map_err(|error| error.to_string())?;
    let part = |data: PartitionData<'_>| Part {
        partition: data.partition_index,
        error_code: data.error_code,
        high_watermark: data.high_watermark,
        log_start: data.log_start_offset,
        batches: match data.records.as_ref().and_then(|records| records.as_wire()) {
            Some(records) if !records.is_empty() => answer.slice_ref(records),
            _ => Bytes::new(),
        },
    };
    let topics = response.responses.iter();
    let parts = topics.flat_map(|topic| topic.partitions.iter().map(part).collect::<Vec<_>>());
    let failed = response.error_code != 0;
    session.answered(response.session_id, failed);
    Ok((parts.collect(), u64::from(failed)))
}

/// Moves the places past what `parts` brought; bytes, records and errors in them.
fn advance(parts: Vec<Part>, places: &mut [Place]) -> (u64, u64, u64) {
    let (mut bytes, mut records, mut errors) = (0, 0, 0);
    // Answers keep the order of the requests, but for what they leave out.
    let mut at = 0;
    for part in parts {
        let (before, from) = places.split_at(at);
        let all = from.iter().chain(before);
        let Some(steps) = all.into_iter().position(|place| place.partition == part.partition) else {
            continue;
        };
        at = (at + steps) % places.len();
        let place = &mut places[at];
        match ErrorCode::from_code(part.error_code) {
            Some(ErrorCode::None) => {}
            // Retention was there before the reader.
            Some(ErrorCode::OffsetOutOfRange) => {
                place.offset = part.log_start.max(0);
                place.is_told = false;
                continue;
            }
            _ => errors += 1,
        }
        bytes += part.batches.len() as u64;
        let options = ScanOptions {
            crc_check: false,
            batch_bytes_max: usize::MAX,
        };
        for batch in scan(&part.batches, options).map_while(Result::ok) {
            place.offset = batch.header.next_offset();
            place.is_told = false;
            records += batch.header.record_count() as u64;
        }
        place.log_start = part.log_start.max(0);
        place.at_end = place.offset >= part.high_watermark;
    }
    (bytes, records, errors)
}
