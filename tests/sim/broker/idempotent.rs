//! An idempotent producer as Kafka's own is one: up to five batches of a partition under way, sent again in order until they are answered.

use std::collections::VecDeque;

use bytes::Bytes;
use ringtail::base::ids::TopicId;
use ringtail::base::sync::join_all;
use ringtail::client::ClientError;
use ringtail::io::sim::SimEnv;
use ringtail::io::{Env, Monotonic};
use ringtail::storage::DurabilityClass;
use ringtail::wire::batch::BatchOptions;
use ringtail::wire::kafka::messages::*;
use ringtail::wire::kafka::{ErrorCode, Records};
use ringtail_checker::{Partition, Producer, Record};

use super::party::{Caller, Shared, goes_on, pause};
use super::payload::{batch, below};

/// The version in which topics go by id.
pub const PRODUCE: i16 = 13;
const IN_FLIGHT_MAX: u64 = 5;
/// What the broker may take to answer.
const ANSWER_MS_MAX: i32 = 2_500;
/// A batch that is not answered by then is given up, and its session with it.
const DELIVERY_MS_MAX: u64 = 45_000;

pub fn produce_request(acks: i16, topic_id: TopicId, batches: &[(i32, Bytes)]) -> ProduceRequest<'static> {
    let data = batches.iter().map(|(index, batch)| PartitionProduceData {
        index: *index,
        records: Some(Records::from(batch.clone())),
    });
    ProduceRequest {
        acks,
        timeout_ms: ANSWER_MS_MAX,
        topic_data: vec![TopicProduceData {
            topic_id,
            partition_data: data.collect(),
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    }
}

struct Batch {
    records: Vec<Record>,
    bytes: Bytes,
    made: Monotonic,
}

/// What an attempt came to.
enum Outcome {
    Acked(i64),
    /// The same batch may be sent again.
    Again,
    /// The session is over: of this batch nothing is known, or that it was refused.
    Over {
        refused: bool,
    },
}

/// A producer id at one partition.
struct Session {
    name: String,
    partition: Partition,
    topic_id: TopicId,
    index: i32,
    class: DurabilityClass,
    stays: bool,
    began: Monotonic,
    producer: Producer,
    producer_id: i64,
    epoch: i16,
    records: u64,
    window: VecDeque<Batch>,
}

pub async fn run(env: SimEnv, party: Shared, name: String) {
    let mut caller = Caller::new(&env, &party);
    while goes_on(&party) {
        let Some(partition) = party.pick(&env, below(&env, 2) == 0) else {
            pause(&env, 500).await;
            continue;
        };
        match open(&mut caller, partition, &name).await {
            Ok(mut session) => {
                let rounds = 3 + below(&env, 12);
                session.live(&mut caller, rounds).await;
            }
            Err(_) => pause(&env, 300).await,
        }
    }
}

async fn open(caller: &mut Caller, partition: Partition, name: &str) -> Result<Session, ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let answer = caller.ask(&request, 4).await?;
    let answer: InitProducerIdResponse = answer.decode()?;
    caller.party.error(answer.error_code);
    ClientError::check(answer.error_code, || "get a producer id".into(), None)?;
    let mut recorder = caller.party.recorder.borrow_mut();
    let known = recorder.known(partition).clone();
    Ok(Session {
        name: name.to_owned(),
        partition,
        topic_id: known.id,
        index: known.index,
        class: known.class,
        stays: known.stays,
        began: caller.env.now(),
        producer: recorder.new_producer(true),
        producer_id: answer.producer_id,
        epoch: answer.producer_epoch,
        records: 0,
        window: VecDeque::new(),
    })
}

impl Session {
    /// So many rounds, or until something ends the session.
    async fn live(&mut self, caller: &mut Caller, rounds: u64) {
        for _ in 0..rounds {
            if !goes_on(&caller.party) {
                break;
            }
            for _ in 0..=below(&caller.env, IN_FLIGHT_MAX) {
                self.extend(caller);
            }
            while !self.window.is_empty() {
                if !self.send_window(caller).await {
                    return self.abandon(caller);
                }
                if !self.window.is_empty() {
                    pause(&caller.env, 150).await;
                }
            }
            pause(&caller.env, 2_000).await;
        }
    }

    /// Puts a new batch into the window.
    fn extend(&mut self, caller: &Caller) {
        let count = 1 + below(&caller.env, 4);
        let record = |i| Record {
            producer: self.producer,
            sequence: self.records + i,
        };
        let records: Vec<Record> = (0..count).map(record).collect();
        let options = BatchOptions {
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: self.records as i32,
            ..BatchOptions::default()
        };
        self.records += count;
        let bytes = batch(&caller.env, self.partition, &records, options);
        for record in &records {
            let mut recorder = caller.party.recorder.borrow_mut();
            recorder.sent(&caller.env, self.partition, *record);
        }
        self.window.push_back(Batch {
            records,
            bytes,
            made: caller.env.now(),
        });
    }

    /// Sends all that is not acknowledged, in order. False when the session is over.
    async fn send_window(&mut self, caller: &mut Caller) -> bool {
        let env = caller.env.clone();
        if self
            .window
            .front()
            .is_some_and(|b| env.now().ms_since(b.made) > DELIVERY_MS_MAX)
        {
            return false;
        }
        let began = env.now();
        let Ok(connection) = caller.connection().await else {
            return true;
        };
        let requests: Vec<_> = self
            .window
            .iter()
            .map(|batch| produce_request(-1, self.topic_id, &[(self.index, batch.bytes.clone())]))
            .collect();
        let asked = requests.iter().map(|request| connection.ask(request, PRODUCE));
        let answers = join_all(asked.collect()).await;
        let mut left = VecDeque::new();
        let mut goes_on = true;
        for (batch, answer) in std::mem::take(&mut self.window).into_iter().zip(answers) {
            let code = answer.and_then(|answer| {
                caller.party.operations.set(caller.party.operations.get() + 1);
                let response: ProduceResponse<'_> = answer.decode()?;
                let topic = response.responses.first().unwrap_or_default();
                let result = topic.partition_responses.first().unwrap_or_default();
                Ok((result.error_code, result.base_offset))
            });
            match self.outcome(caller, code, left.is_empty()) {
                Outcome::Acked(offset) => {
                    let mut recorder = caller.party.recorder.borrow_mut();
                    for (i, record) in batch.records.iter().enumerate() {
                        recorder.acked(&env, self.partition, *record, offset as u64 + i as u64, began);
                    }
                    caller.party.success(&env, &self.name);
                }
                Outcome::Again => left.push_back(batch),
                Outcome::Over { refused } => {
                    goes_on = false;
                    let mut recorder = caller.party.recorder.borrow_mut();
                    for record in &batch.records {
                        match refused {
                            true => recorder.refused(&env, *record),
                            false => recorder.unknown(&env, *record),
                        }
                    }
                }
            }
        }
        self.window = left;
        goes_on
    }

    /// `first`: nothing before it in the window is left.
    fn outcome(&self, caller: &Caller, answer: Result<(i16, i64), ClientError>, first: bool) -> Outcome {
        let Ok((code, offset)) = answer else {
            return Outcome::Again;
        };
        caller.party.error(code);
        let find = |what: &str| {
            let place = format!("{} at {:?}, session {:?}", self.name, self.partition, self.producer);
            caller.party.find(&caller.env, format!("{place}: {what}"));
        };
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) if offset >= 0 => Outcome::Acked(offset),
            // It waits for those before it, or its own was given up with them.
            Some(ErrorCode::OutOfOrderSequenceNumber) if !first => Outcome::Again,
            Some(ErrorCode::OutOfOrderSequenceNumber) => {
                let recorder = caller.party.recorder.borrow();
                let forgotten = recorder.cut_ns.is_some_and(|cut| cut >= self.began.0);
                if self.class == DurabilityClass::Flushed || !forgotten {
                    find("its sequence was forgotten");
                }
                Outcome::Over { refused: false }
            }
            Some(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition) => {
                if self.stays {
                    find("its topic was forgotten");
                }
                Outcome::Over { refused: false }
            }
            // The broker's clock jumped.
            Some(ErrorCode::InvalidTimestamp) => Outcome::Again,
            Some(
                ErrorCode::RequestTimedOut
                | ErrorCode::KafkaStorageError
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::LeaderNotAvailable,
            ) => Outcome::Again,
            _ => {
                find(&format!("an unexpected answer {code} at {offset}"));
                Outcome::Over { refused: false }
            }
        }
    }

    /// Whatever is under way may still land.
    fn abandon(&mut self, caller: &Caller) {
        let mut recorder = caller.party.recorder.borrow_mut();
        for batch in self.window.drain(..) {
            for record in batch.records {
                recorder.unknown(&caller.env, record);
            }
        }
    }
}
