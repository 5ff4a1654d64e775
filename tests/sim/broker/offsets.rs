//! Who asks where logs begin and end.

use ringtail::client::ClientError;
use ringtail::io::Env;
use ringtail::io::sim::SimEnv;
use ringtail::wire::kafka::messages::list_offsets_timestamp::{EARLIEST, LATEST, MAX_TIMESTAMP};
use ringtail::wire::kafka::messages::*;
use ringtail_checker::{Mark, Partition};

use super::party::{Caller, Shared, goes_on, pause};
use super::payload::below;
use super::readers::Cursor;

const LIST_OFFSETS: i16 = 9;

/// An end of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Start,
    End,
}

impl Place {
    fn timestamp(self) -> i64 {
        match self {
            Place::Start => EARLIEST,
            Place::End => LATEST,
        }
    }

    fn mark(self) -> Mark {
        match self {
            Place::Start => Mark::LogStart,
            Place::End => Mark::End,
        }
    }
}

/// (error code, offset) of partitions of topics, by name, in the order of the question.
async fn list(caller: &mut Caller, asked: &[(String, i32)], timestamp: i64) -> Result<Vec<(i16, i64)>, ClientError> {
    let topic = |(name, index): &(String, i32)| ListOffsetsTopic {
        name: name.clone().into(),
        partitions: vec![ListOffsetsPartition {
            partition_index: *index,
            timestamp,
            ..Default::default()
        }]
        .into(),
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: asked.iter().map(topic).collect(),
        ..Default::default()
    };
    let answer = caller.ask(&request, LIST_OFFSETS).await?;
    let response: ListOffsetsResponse<'_> = answer.decode()?;
    let told = response.topics.iter();
    let told: Vec<(i16, i64)> = told
        .map(|topic| {
            let partition = topic.partitions.first().unwrap_or_default();
            (partition.error_code, partition.offset)
        })
        .collect();
    told.iter().for_each(|(code, _)| caller.party.error(*code));
    match told.len() == asked.len() {
        true => Ok(told),
        false => Err(ClientError::Invalid("another count of topics".into())),
    }
}

/// Where a log begins or ends now. It goes by the topic's name: of a topic that comes and goes, another may be meant.
pub async fn offset_at(caller: &mut Caller, cursor: &Cursor, place: Place) -> Result<i64, ClientError> {
    match caller.party.recorder.borrow().known(cursor.partition).stays {
        true => {}
        false => return Ok(0),
    }
    offset_by_name(caller, cursor, place).await
}

/// The same of any topic whose name nobody else gets meanwhile.
pub async fn offset_by_name(caller: &mut Caller, cursor: &Cursor, place: Place) -> Result<i64, ClientError> {
    let asked = [(cursor.topic.clone(), cursor.index)];
    let told = list(caller, &asked, place.timestamp()).await?;
    let (code, offset) = told[0];
    ClientError::check(code, || format!("list offsets of {}", cursor.topic), None)?;
    Ok(offset)
}

/// Asks about topics that stay: each answer is a mark that must not go back.
pub async fn run(env: SimEnv, party: Shared, name: String) {
    let mut caller = Caller::new(&env, &party);
    let reader = party.recorder.borrow_mut().new_reader();
    while goes_on(&party) {
        pause(&env, 1_000).await;
        let partitions: Vec<Partition> = {
            let recorder = party.recorder.borrow();
            let all = recorder.live().into_iter();
            all.filter(|partition| recorder.known(*partition).stays).collect()
        };
        let asked: Vec<(String, i32)> = {
            let recorder = party.recorder.borrow();
            let known = partitions.iter().map(|partition| recorder.known(*partition));
            known.map(|known| (known.topic.clone(), known.index)).collect()
        };
        if below(&env, 8) == 0 {
            // Judged by nobody, but it reads what else nobody reads.
            drop(
                list(
                    &mut caller,
                    &asked,
                    [MAX_TIMESTAMP, env.wall_ms() - 20_000][below(&env, 2) as usize],
                )
                .await,
            );
            continue;
        }
        let place = [Place::Start, Place::End][below(&env, 2) as usize];
        let began = env.now();
        for partition in &partitions {
            let mut recorder = party.recorder.borrow_mut();
            recorder.mark_asked(&env, reader, *partition, place.mark());
        }
        let Ok(told) = list(&mut caller, &asked, place.timestamp()).await else {
            continue;
        };
        for (partition, (code, offset)) in partitions.into_iter().zip(told) {
            if code == 0 {
                let mut recorder = party.recorder.borrow_mut();
                recorder.mark_seen(&env, (reader, partition, place.mark()), offset, began);
                drop(recorder);
                party.success(&env, &name);
            }
        }
    }
}
