//! Fetch: waits until there is enough to read (`min_bytes`, `max_wait_ms`), then gives whole batches as they are stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::dispatch::Call;
use crate::broker::fetch::session::{Answer, Key, Opening, Plan, Told, TopicKey, Want};
use crate::broker::fetch::{self, Wanted};
use crate::broker::route::{EpochEnd, Epochs, ReadItem, ReadOutcome};
use crate::io::Env;
use crate::wire::kafka::messages::*;
use crate::wire::kafka::{ErrorCode, Records};

/// The first version whose clients know zstd.
const ZSTD_VERSION: i16 = 10;
const READ_COMMITTED: i8 = 1;

/// One partition of the answer in the making.
struct Fetched {
    key: Key,
    want: Want,
    /// `Ok`: the next of the reads, in order.
    found: Result<ReadOutcome, ErrorCode>,
}

impl Fetched {
    fn error(&self) -> ErrorCode {
        match &self.found {
            Err(code) => *code,
            Ok(outcome) => outcome.result.as_ref().err().map_or(ErrorCode::None, Into::into),
        }
    }

    fn told(&self) -> Told {
        let outcome = self.found.as_ref();
        Told {
            high_watermark: outcome.map_or(-1, |outcome| outcome.high_watermark),
            log_start: outcome.map_or(-1, |outcome| outcome.log_start),
        }
    }

    fn has_data(&self) -> bool {
        self.found.as_ref().is_ok_and(|outcome| outcome.bytes() > 0)
    }

    fn has_diverged(&self) -> bool {
        self.found.as_ref().is_ok_and(|outcome| outcome.diverging.is_some())
    }
}

pub async fn handle<E: Env>(call: &Call<E>, request: FetchRequest<'_>) -> FetchResponse<'static> {
    let broker = &call.broker;
    let planned = broker.sessions.borrow_mut().plan(opening(call, &request), now_ms(call));
    let Plan { wants, answer } = match planned {
        Ok(plan) => plan,
        Err(error) => return refused(error.into()),
    };
    let wanted = Wanted {
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        wait_ms: u64::try_from(request.max_wait_ms).unwrap_or(0),
    };
    let items = wants.iter().map(|(key, want)| resolve(call, key, want)).collect();
    let (found, held) = fetch::read(broker, &call.client, items, wanted, call.began).await;
    call.hold(held);
    let together = wants.into_iter().zip(found);
    let mut fetched: Vec<_> = together
        .map(|((key, want), found)| Fetched { key, want, found })
        .collect();
    let session_id = tell(call, answer, &mut fetched);
    FetchResponse {
        session_id,
        responses: topics(fetched, request.isolation_level == READ_COMMITTED).into(),
        ..Default::default()
    }
}

/// An answer about the request as a whole; versions below 7 have no place for its code.
fn refused(code: ErrorCode) -> FetchResponse<'static> {
    FetchResponse {
        error_code: code.into(),
        ..Default::default()
    }
}

fn now_ms<E: Env>(call: &Call<E>) -> u64 {
    call.began.0 / 1_000_000
}

fn opening<E: Env>(call: &Call<E>, request: &FetchRequest<'_>) -> Opening {
    let by_id = call.version >= 13;
    let mut wants = Wants::default();
    for topic in &request.topics {
        let key = topic_key(by_id, &topic.topic, topic.topic_id);
        for partition in &topic.partitions {
            let key = Key {
                topic: key.clone(),
                partition: partition.partition,
            };
            let want = Want {
                offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            };
            wants.put(key, want);
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_key = topic_key(by_id, &topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|partition| Key {
            topic: topic_key.clone(),
            partition,
        }));
    }
    Opening {
        session_id: request.session_id,
        epoch: request.session_epoch,
        by_id,
        wants: wants.all,
        forgotten,
    }
}

/// One want for each partition: in the order of their first mention, the last one named. So Kafka keeps them.
#[derive(Default)]
struct Wants {
    all: Vec<(Key, Want)>,
    /// Where they are, once they are many.
    places: BTreeMap<Key, usize>,
}

impl Wants {
    /// So many are compared one by one.
    const FEW: usize = 16;

    fn put(&mut self, key: Key, want: Want) {
        if self.all.len() == Self::FEW && self.places.is_empty() {
            let places = self.all.iter().enumerate();
            self.places = places.map(|(place, (key, _))| (key.clone(), place)).collect();
        }
        let found = match self.places.is_empty() {
            true => self.all.iter().position(|(known, _)| *known == key),
            false => self.places.get(&key).copied(),
        };
        match found {
            Some(place) => self.all[place].1 = want,
            None => {
                if !self.places.is_empty() {
                    self.places.insert(key.clone(), self.all.len());
                }
                self.all.push((key, want));
            }
        }
    }
}

fn topic_key(by_id: bool, name: &str, id: crate::base::ids::TopicId) -> TopicKey {
    match by_id {
        true => TopicKey::Id(id),
        false => TopicKey::Name(Arc::from(name)),
    }
}

fn resolve<E: Env>(call: &Call<E>, key: &Key, want: &Want) -> Result<ReadItem, ErrorCode> {
    let catalog = call.broker.catalog.borrow();
    let topic = match &key.topic {
        TopicKey::Name(name) => catalog.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
        TopicKey::Id(id) => catalog.by_id(*id).ok_or(ErrorCode::UnknownTopicId)?,
    };
    if topic.produce.zstd_only && call.version < ZSTD_VERSION {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    Ok(ReadItem {
        id: topic
            .partition(key.partition)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
        offset: want.offset,
        bytes_max: usize::try_from(want.bytes_max).unwrap_or(0),
        epochs: Epochs {
            leader: want.leader_epoch,
            last_fetched: want.last_fetched_epoch,
        },
    })
}

/// Leaves out what a session's client knows already; the session's id.
fn tell<E: Env>(call: &Call<E>, answer: Answer, fetched: &mut Vec<Fetched>) -> i32 {
    let mut sessions = call.broker.sessions.borrow_mut();
    match answer {
        Answer::Sessionless => 0,
        Answer::Opens { by_id } => {
            let told = fetched.iter().map(|fetched| match fetched.error() {
                ErrorCode::None => (fetched.key.clone(), fetched.want, fetched.told()),
                // Told again until the error is gone.
                _ => (
                    fetched.key.clone(),
                    fetched.want,
                    Told {
                        high_watermark: -1,
                        log_start: -1,
                    },
                ),
            });
            sessions.open(by_id, told.collect(), now_ms(call), || call.broker.env.random())
        }
        Answer::Incremental { session_id } => {
            fetched.retain(|fetched| {
                let failed = fetched.error() != ErrorCode::None || fetched.has_diverged();
                sessions.tell(session_id, &fetched.key, fetched.told(), fetched.has_data(), failed)
            });
            session_id
        }
    }
}

/// Groups what follows each other of one topic.
fn topics(fetched: Vec<Fetched>, committed: bool) -> Vec<FetchableTopicResponse<'static>> {
    let mut topics: Vec<(TopicKey, Vec<PartitionData<'static>>)> = Vec::new();
    for fetched in fetched {
        let topic = fetched.key.topic.clone();
        let data = partition_data(fetched, committed);
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic => partitions.push(data),
            _ => topics.push((topic, vec![data])),
        }
    }
    let response = |(topic, partitions): (TopicKey, Vec<_>)| {
        let (name, topic_id) = match topic {
            TopicKey::Name(name) => (name.to_string(), Default::default()),
            TopicKey::Id(id) => (String::new(), id),
        };
        FetchableTopicResponse {
            topic: name.into(),
            topic_id,
            partitions: partitions.into(),
        }
    };
    topics.into_iter().map(response).collect()
}

fn partition_data(fetched: Fetched, committed: bool) -> PartitionData<'static> {
    let error_code = fetched.error().into();
    let Told {
        high_watermark,
        log_start,
    } = fetched.told();
    let diverging = fetched.found.as_ref().ok().and_then(|outcome| outcome.diverging);
    let slice = fetched
        .found
        .ok()
        .and_then(|outcome| outcome.result.ok())
        .unwrap_or_default();
    PartitionData {
        partition_index: fetched.key.partition,
        error_code,
        high_watermark,
        // Without transactions everything below the high watermark is stable.
        last_stable_offset: high_watermark,
        log_start_offset: log_start,
        diverging_epoch: diverging.map_or_else(Default::default, |EpochEnd { epoch, end_offset }| EpochEndOffset {
            epoch,
            end_offset,
        }),
        aborted_transactions: committed.then(Default::default),
        records: Some(match slice.pinned.is_empty() {
            true => Records::Pieces(slice.pieces),
            false => Records::Pinned(slice.pinned),
        }),
        ..Default::default()
    }
}
