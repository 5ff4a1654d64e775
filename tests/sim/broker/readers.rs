//! Readers: long polls over several partitions, from the start or at the end, by hand and with the client library.

use ringtail::base::ids::TopicId;
use ringtail::client::{Client, ClientError, OffsetSpec, Reader as LibraryReader, ReaderOptions, StartAt};
use ringtail::io::sim::SimEnv;
use ringtail::io::{Env, Monotonic};
use ringtail::storage::DurabilityClass;
use ringtail::wire::batch::{DecodeLimits, RecordReader, ScanOptions, StopReason, scan};
use ringtail::wire::kafka::ErrorCode;
use ringtail::wire::kafka::messages::*;
use ringtail_checker::{Mark, Partition, Reader};

use super::offsets::{Place, offset_at};
use super::party::{Caller, Shared, goes_on, pause, some_library};
use super::payload::{below, content};

/// Topics go by id, the leader's endpoints come along.
const FETCH: i16 = 16;
/// The marks that a fetch's answer tells.
const MARKS: [Mark; 3] = [Mark::End, Mark::LastStable, Mark::LogStart];

/// Where a reader is in a partition.
#[derive(Clone)]
pub struct Cursor {
    pub partition: Partition,
    pub topic: String,
    pub id: TopicId,
    pub index: i32,
    /// `None`: to be asked for.
    pub offset: Option<i64>,
    /// The leader epoch of the last batch read, -1 without one.
    epoch: i32,
    /// When its place was told to the history last.
    placed: Monotonic,
}

impl Cursor {
    pub fn new(party: &Shared, partition: Partition) -> Self {
        let recorder = party.recorder.borrow();
        let known = recorder.known(partition);
        Self {
            partition,
            topic: known.topic.clone(),
            id: known.id,
            index: known.index,
            offset: None,
            epoch: -1,
            placed: Monotonic(0),
        }
    }

    pub fn seek(&mut self, env: &SimEnv, party: &Shared, reader: Reader, offset: i64) {
        if self.offset.replace(offset) != Some(offset) {
            // Nothing was read up to there: clients forget the epoch, too.
            self.epoch = -1;
        }
        self.placed = env.now();
        let mut recorder = party.recorder.borrow_mut();
        recorder.seeked(env, reader, self.partition, offset as u64);
    }
}

/// What became of one partition of a fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    Records(usize),
    Diverged(i64),
    Failed(ErrorCode),
}

/// One fetch at these cursors; they move on by what is read. The error of a request as a whole ends it.
pub async fn fetch(
    caller: &mut Caller,
    reader: Reader,
    cursors: &mut [Cursor],
    wait_ms: i32,
    with_epochs: bool,
) -> Result<Vec<Got>, ClientError> {
    let env = caller.env.clone();
    let party = caller.party.clone();
    let partition_bytes = 1 << (10 + below(&env, 11));
    let partition = |cursor: &Cursor| FetchTopic {
        topic_id: cursor.id,
        partitions: vec![FetchPartition {
            partition: cursor.index,
            fetch_offset: cursor.offset.unwrap_or(0),
            last_fetched_epoch: if with_epochs { cursor.epoch } else { -1 },
            partition_max_bytes: partition_bytes,
            ..Default::default()
        }]
        .into(),
        ..Default::default()
    };
    let request = FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 4 << 20,
        topics: cursors.iter().map(partition).collect(),
        ..Default::default()
    };
    // Two questions of one reader about a mark must not overlap: a fetch asks for one partition's only.
    let marked = below(&env, cursors.len() as u64) as usize;
    for mark in MARKS {
        let mut recorder = party.recorder.borrow_mut();
        recorder.mark_asked(&env, reader, cursors[marked].partition, mark);
    }
    let began = env.now();
    let answer = caller.ask(&request, FETCH).await?;
    let response: FetchResponse<'_> = answer.decode()?;
    ClientError::check(response.error_code, || "fetch".into(), None)?;
    let mut results = vec![Got::Failed(ErrorCode::UnknownServerError); cursors.len()];
    for topic in response.responses.iter() {
        for data in topic.partitions.iter() {
            let same = |cursor: &Cursor| cursor.id == topic.topic_id && cursor.index == data.partition_index;
            let Some(place) = cursors.iter().position(same) else {
                party.find(&env, format!("a fetch answers what was not asked: {topic:?}"));
                continue;
            };
            party.error(data.error_code);
            let code = ErrorCode::from_code(data.error_code).unwrap_or(ErrorCode::UnknownServerError);
            let cursor = &mut cursors[place];
            if party.recorder.borrow().is_stale(cursor.partition, began) {
                // It may be from before a power cut.
                results[place] = Got::Records(0);
                continue;
            }
            if place == marked && code == ErrorCode::None {
                for (mark, offset) in
                    MARKS
                        .into_iter()
                        .zip([data.high_watermark, data.last_stable_offset, data.log_start_offset])
                {
                    let mut recorder = party.recorder.borrow_mut();
                    recorder.mark_seen(&env, (reader, cursor.partition, mark), offset, began);
                }
            }
            results[place] = if code != ErrorCode::None {
                Got::Failed(code)
            } else if data.diverging_epoch.end_offset >= 0 {
                Got::Diverged(data.diverging_epoch.end_offset)
            } else {
                let bytes = data
                    .records
                    .as_ref()
                    .and_then(|records| records.as_wire())
                    .unwrap_or_default();
                Got::Records(take(&env, &party, reader, cursor, bytes))
            };
        }
    }
    Ok(results)
}

/// Records of whole batches, from the cursor on.
fn take(env: &SimEnv, party: &Shared, reader: Reader, cursor: &mut Cursor, bytes: &[u8]) -> usize {
    let options = ScanOptions {
        crc_check: true,
        batch_bytes_max: usize::MAX,
    };
    let from = cursor.offset.unwrap_or(0);
    let mut count = 0;
    for batch in scan(bytes, options) {
        let batch = match batch {
            Ok(batch) => batch,
            // The answer is cut where the limit is.
            Err(stop) if stop.position > 0 && matches!(stop.reason, StopReason::Incomplete { .. }) => break,
            Err(stop) => {
                party.find(env, format!("{:?} from {from} on: {stop:?}", cursor.partition));
                break;
            }
        };
        let mut records = RecordReader::new(&batch.header, batch.bytes, &DecodeLimits::default()).expect("records");
        while let Some(record) = records.next_record().expect("whole records") {
            if record.offset >= from {
                let content = content(cursor.partition, record.value.unwrap_or_default());
                let mut recorder = party.recorder.borrow_mut();
                recorder.read(env, reader, cursor.partition, record.offset as u64, content);
                count += 1;
            }
        }
        cursor.offset = Some(batch.header.next_offset().max(cursor.offset.unwrap_or(0)));
        cursor.epoch = batch.header.partition_leader_epoch();
    }
    if count == 0 && !bytes.is_empty() {
        party.find(
            env,
            format!("{:?}: batches end before {from}, which was asked for", cursor.partition),
        );
    }
    count
}

pub async fn run(env: SimEnv, party: Shared, name: String, from: Place) {
    let mut caller = Caller::new(&env, &party);
    let reader = party.recorder.borrow_mut().new_reader();
    let with_epochs = below(&env, 2) == 0;
    while goes_on(&party) {
        let mut cursors: Vec<Cursor> = Vec::new();
        for _ in 0..1 + below(&env, 4) {
            if let Some(partition) = party.pick(&env, below(&env, 3) > 0)
                && cursors.iter().all(|cursor| cursor.partition != partition)
            {
                cursors.push(Cursor::new(&party, partition));
            }
        }
        let rounds = 10 + below(&env, 30);
        for _ in 0..rounds {
            if !goes_on(&party) || cursors.is_empty() {
                break;
            }
            if locate(&mut caller, reader, &mut cursors, from).await {
                let wait_ms = [0, 100, 500, 3_000][below(&env, 4) as usize];
                if let Ok(results) = fetch(&mut caller, reader, &mut cursors, wait_ms, with_epochs).await {
                    mend(&mut caller, &name, reader, &mut cursors, &results).await;
                }
            }
            pause(&env, 700).await;
        }
        pause(&env, 300).await;
    }
}

/// Finds places for cursors that have none, and tells the history again where the others are when the power went meanwhile.
async fn locate(caller: &mut Caller, reader: Reader, cursors: &mut Vec<Cursor>, from: Place) -> bool {
    let (env, party) = (caller.env.clone(), caller.party.clone());
    cursors.retain(|cursor| party.recorder.borrow().is_live(cursor.partition));
    for cursor in cursors.iter_mut() {
        match cursor.offset {
            None => match offset_at(caller, cursor, from).await {
                Ok(offset) => cursor.seek(&env, &party, reader, offset),
                Err(_) => return false,
            },
            Some(offset) if party.recorder.borrow().is_stale(cursor.partition, cursor.placed) => {
                cursor.seek(&env, &party, reader, offset);
            }
            Some(_) => {}
        }
    }
    !cursors.is_empty()
}

/// What a reader does about what it was told.
async fn mend(caller: &mut Caller, name: &str, reader: Reader, cursors: &mut Vec<Cursor>, results: &[Got]) {
    let (env, party) = (caller.env.clone(), caller.party.clone());
    let mut lost = Vec::new();
    for (cursor, result) in cursors.iter_mut().zip(results) {
        let known = party.recorder.borrow().known(cursor.partition).clone();
        let find = |what: String| {
            party.find(
                &env,
                format!("{name} at {:?}, {:?}: {what}", cursor.partition, cursor.offset),
            )
        };
        let cut_back = party.recorder.borrow().cut_ns.is_some() && known.class == DurabilityClass::Written;
        match *result {
            Got::Records(_) => party.success(&env, name),
            Got::Diverged(end) if cut_back => cursor.seek(&env, &party, reader, end),
            Got::Diverged(end) => find(format!("the log parted at {end}")),
            Got::Failed(ErrorCode::OffsetOutOfRange) if cut_back => cursor.offset = None,
            Got::Failed(ErrorCode::OffsetOutOfRange) => {
                let start = offset_at(caller, cursor, Place::Start).await;
                match start {
                    Ok(start) if known.expires && cursor.offset < Some(start) => {
                        cursor.seek(&env, &party, reader, start)
                    }
                    Ok(start) => find(format!("out of range, and the log starts at {start}")),
                    Err(_) => {}
                }
            }
            Got::Failed(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition) if !known.stays => {
                lost.push(cursor.partition);
            }
            Got::Failed(
                ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower | ErrorCode::LeaderNotAvailable,
            ) => {}
            Got::Failed(code) => find(format!("{code}")),
        }
    }
    cursors.retain(|cursor| !lost.contains(&cursor.partition));
}

/// The client library's reader at topics that stay, in either protocol.
pub async fn library(env: SimEnv, party: Shared, name: String) {
    let reader = party.recorder.borrow_mut().new_reader();
    while goes_on(&party) {
        let client = some_library(&env, 8_000);
        if let Some(partition) = party.pick(&env, true) {
            library_session(&env, &party, &name, &client, (reader, partition)).await;
        }
        client.close();
        pause(&env, 500).await;
    }
}

async fn library_session(
    env: &SimEnv,
    party: &Shared,
    name: &str,
    client: &Client<SimEnv>,
    (reader, partition): (Reader, Partition),
) {
    let known = party.recorder.borrow().known(partition).clone();
    let spec = [OffsetSpec::Earliest, OffsetSpec::Latest][below(env, 2) as usize];
    let from = [(known.topic.as_str(), known.index, StartAt::Place(spec))];
    let library = LibraryReader::new(client.clone(), &from, ReaderOptions::default());
    let mut expected = None;
    let opened = env.now();
    for _ in 0..5 + below(env, 20) {
        if !goes_on(party) {
            return;
        }
        let polled = library.poll(2_000).await;
        if party.recorder.borrow().is_stale(partition, opened) {
            return;
        }
        match polled {
            Ok(None) => {}
            Ok(Some(fetched)) => {
                party.operations.set(party.operations.get() + 1);
                party.success(env, name);
                let records = fetched.records().expect("whole records");
                let mut recorder = party.recorder.borrow_mut();
                if expected.is_none() {
                    recorder.seeked(env, reader, partition, fetched.position as u64);
                }
                expected = Some(fetched.next_position);
                for record in records {
                    let content = content(partition, record.value.as_deref().unwrap_or_default());
                    recorder.read(env, reader, partition, record.offset as u64, content);
                }
            }
            Err(error) => {
                let deleted = error.code() == Some(ErrorCode::OffsetOutOfRange) && known.expires;
                if !error.is_retriable() && !deleted || error.code() == Some(ErrorCode::CorruptMessage) {
                    party.find(env, format!("{name} at {partition:?}: {error}"));
                }
                return;
            }
        }
        pause(env, 300).await;
    }
}
