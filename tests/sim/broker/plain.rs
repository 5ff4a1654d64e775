//! Producers without sequences: acks 0, 1 and all, several partitions in a request, each sent once; and the client library's own.

use ringtail::client::{Acks, NewRecord, Producer, ProducerOptions};
use ringtail::io::Env;
use ringtail::io::sim::SimEnv;
use ringtail::wire::batch::{BatchOptions, Codec};
use ringtail::wire::kafka::ErrorCode;
use ringtail::wire::kafka::messages::*;
use ringtail_checker::{Partition, Record};

use super::idempotent::{PRODUCE, produce_request};
use super::party::{Caller, Shared, goes_on, pause, some_library};
use super::payload::{batch, below, some_bytes, value};

/// A batch on its way to one partition.
struct Parcel {
    partition: Partition,
    index: i32,
    records: Vec<Record>,
}

pub async fn run(env: SimEnv, party: Shared, name: String, acks: i16) {
    let mut caller = Caller::new(&env, &party);
    let producer = party.recorder.borrow_mut().new_producer(false);
    let mut sequence = 0;
    while goes_on(&party) {
        pause(&env, 1_500).await;
        let Some(target) = party.pick(&env, below(&env, 2) == 0) else {
            continue;
        };
        let Ok(connection) = caller.connection().await else {
            continue;
        };
        let mut parcels = parcels(&party, target, below(&env, 2) == 0);
        let topic_id = party.recorder.borrow().known(target).id;
        let mut batches = Vec::new();
        for parcel in &mut parcels {
            for _ in 0..=below(&env, 3) {
                parcel.records.push(Record { producer, sequence });
                sequence += 1;
            }
            let bytes = batch(&env, parcel.partition, &parcel.records, BatchOptions::default());
            batches.push((parcel.index, bytes));
            let mut recorder = party.recorder.borrow_mut();
            parcel
                .records
                .iter()
                .for_each(|r| recorder.sent(&env, parcel.partition, *r));
        }
        let request = produce_request(acks, topic_id, &batches);
        if acks == 0 {
            if connection.tell(&request, PRODUCE).await.is_ok() {
                party.operations.set(party.operations.get() + 1);
                party.success(&env, &name);
            }
            let mut recorder = party.recorder.borrow_mut();
            let all = parcels.iter().flat_map(|parcel| &parcel.records);
            all.for_each(|record| recorder.unknown(&env, *record));
            continue;
        }
        let began = env.now();
        let answer = caller.ask(&request, PRODUCE).await;
        let results = answer.and_then(|answer| {
            let response: ProduceResponse<'_> = answer.decode()?;
            let topic = response.responses.first().unwrap_or_default();
            let results = topic.partition_responses.iter();
            Ok(results
                .map(|p| (p.index, p.error_code, p.base_offset))
                .collect::<Vec<_>>())
        });
        for parcel in parcels {
            let result = results
                .as_ref()
                .ok()
                .and_then(|all| all.iter().find(|r| r.0 == parcel.index));
            settle(&env, &party, &name, &parcel, result.map(|r| (r.1, r.2)), began);
        }
    }
}

/// The partition that was drawn, or all of its topic.
fn parcels(party: &Shared, target: Partition, all: bool) -> Vec<Parcel> {
    let recorder = party.recorder.borrow();
    let id = recorder.known(target).id;
    let mut partitions = recorder.live();
    partitions.retain(|p| *p == target || all && recorder.known(*p).id == id);
    let parcel = |partition: Partition| Parcel {
        partition,
        index: recorder.known(partition).index,
        records: Vec::new(),
    };
    partitions.into_iter().map(parcel).collect()
}

/// `result`: error code and base offset; `None` when no answer came.
fn settle(
    env: &SimEnv,
    party: &Shared,
    name: &str,
    parcel: &Parcel,
    result: Option<(i16, i64)>,
    began: ringtail::io::Monotonic,
) {
    let mut recorder = party.recorder.borrow_mut();
    if let Some((code, _)) = result {
        party.error(code);
    }
    let code = result.map(|(code, _)| ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError));
    let stays = recorder.known(parcel.partition).stays;
    for (i, record) in parcel.records.iter().enumerate() {
        match (code, result) {
            (Some(ErrorCode::None), Some((_, base))) => {
                recorder.acked(env, parcel.partition, *record, base as u64 + i as u64, began);
            }
            (Some(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition), _) if !stays => {
                recorder.refused(env, *record);
            }
            (Some(ErrorCode::InvalidTimestamp), _) => recorder.refused(env, *record),
            _ => recorder.unknown(env, *record),
        }
    }
    let expected = [
        ErrorCode::None,
        ErrorCode::InvalidTimestamp,
        ErrorCode::RequestTimedOut,
        ErrorCode::KafkaStorageError,
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::LeaderNotAvailable,
    ];
    match code {
        Some(ErrorCode::None) => party.success(env, name),
        Some(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition) if !stays => {}
        Some(code) if !expected.contains(&code) => {
            party.find(env, format!("{name}: {:?} answers {code}", parcel.partition));
        }
        _ => {}
    }
}

/// The client library's producer at topics that stay, in either protocol: a record at a time in each partition, retried by the library.
pub async fn library(env: SimEnv, party: Shared, name: String) {
    while goes_on(&party) {
        let client = some_library(&env, 30_000);
        let options = ProducerOptions {
            acks: Acks::All,
            codec: if below(&env, 3) == 0 { Codec::Lz4 } else { Codec::None },
            delivery_ms_max: 40_000,
            ..ProducerOptions::default()
        };
        let producer = Producer::new(client.clone(), options).expect("options that fit");
        let rounds = 10 + below(&env, 30);
        library_session(&env, &party, &name, &producer, rounds).await;
        drop(producer);
        client.close();
    }
}

/// Ends with the first error: the library numbers anew behind one.
async fn library_session(env: &SimEnv, party: &Shared, name: &str, producer: &Producer<SimEnv>, rounds: u64) {
    let session = party.recorder.borrow_mut().new_producer(true);
    let opened = env.now();
    for sequence in 0..rounds {
        if !goes_on(party) {
            break;
        }
        pause(env, 1_000).await;
        let Some(partition) = party.pick(env, true) else {
            continue;
        };
        let known = party.recorder.borrow().known(partition).clone();
        let record = Record {
            producer: session,
            sequence,
        };
        let value = value(partition, record, some_bytes(env));
        party.recorder.borrow_mut().sent(env, partition, record);
        let began = env.now();
        let new = NewRecord {
            value: Some(&value),
            ..NewRecord::default()
        };
        let sent = producer.send(&known.topic, Some(known.index), &new).await;
        let mut recorder = party.recorder.borrow_mut();
        match sent {
            Ok(delivered) => {
                match delivered.offset {
                    Some(offset) => recorder.acked(env, partition, record, offset as u64, began),
                    None => recorder.unknown(env, record),
                }
                party.operations.set(party.operations.get() + 1);
                party.success(env, name);
            }
            Err(error) => {
                recorder.unknown(env, record);
                let excused = match error.code() {
                    // A power cut took what the sequence goes on from.
                    Some(ErrorCode::OutOfOrderSequenceNumber) => recorder.is_stale(partition, opened),
                    // The broker's clock jumped.
                    Some(ErrorCode::InvalidTimestamp) => true,
                    _ => error.is_retriable(),
                };
                if !excused {
                    party.find(env, format!("{name} at {partition:?}: {error}"));
                }
                return;
            }
        }
    }
}
