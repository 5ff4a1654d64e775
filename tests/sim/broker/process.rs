//! The broker as a process of the world, and who asks it after each start what it still has.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ringtail::base::sync::Signal;
use ringtail::client::ClientError;
use ringtail::config::{Input, Machine, load};
use ringtail::io::Env;
use ringtail::io::sim::{ProcessId, SimEnv, World, host_address};
use ringtail::shard::{Process, ServeError, serve};
use ringtail::wire::kafka::messages::*;
use ringtail_checker::Partition;

use super::admin::topics;
use super::offsets::{Place, offset_at};
use super::party::{BROKER, Caller, Shared};
use super::readers::Cursor;

/// How the broker is configured; it stays so over restarts, but for the number of shards.
#[derive(Clone, Debug)]
pub struct Setup {
    pub directories: Vec<String>,
}

/// A broker that was started.
pub struct Started {
    pub id: ProcessId,
    pub shards: usize,
    /// Raised: it stops. A shard that fails raises it for the others.
    pub stop: Rc<Signal>,
    pub ended: Rc<RefCell<Vec<Result<(), ServeError>>>>,
}

impl Started {
    pub fn is_over(&self) -> bool {
        self.ended.borrow().len() == self.shards
    }
}

pub fn start(world: &World, setup: &Setup, shards: usize) -> Started {
    let arguments = [
        "listeners=PLAINTEXT://:9092".to_owned(),
        format!("advertised.listeners=PLAINTEXT://{}:9092", host_address(BROKER)),
        "ringtail.native.listeners=:9094".to_owned(),
        format!("log.dirs={}", setup.directories.join(",")),
        format!("ringtail.shards={shards}"),
        "auto.create.topics.enable=false".to_owned(),
        "ringtail.memory.bytes=64m".to_owned(),
        "ringtail.journal.bytes=8m".to_owned(),
        "ringtail.reserve.bytes=4m".to_owned(),
        "log.retention.check.interval.ms=3000".to_owned(),
    ];
    let loaded = load(Input {
        file: None,
        environment: Vec::new(),
        arguments: &arguments,
        machine: Machine {
            host_name: "broker".into(),
            cpus: shards,
            memory_bytes: 1 << 30,
        },
    });
    let process: Arc<Process<SimEnv>> = Process::new(loaded.expect("a good configuration").config);
    let (stop, ended) = (Rc::new(Signal::default()), Rc::<RefCell<Vec<_>>>::default());
    let (signal, all) = (stop.clone(), ended.clone());
    let id = world.spawn_process(BROKER, shards, move |env, index| {
        let (process, signal, all) = (process.clone(), signal.clone(), all.clone());
        async move {
            let stop = async { signal.raised().await };
            let result = serve(env, index, process, stop).await;
            if result.is_err() {
                signal.raise();
            }
            all.borrow_mut().push(result);
        }
    });
    Started {
        id,
        shards,
        stop,
        ended,
    }
}

/// Asks a broker that was just started until it serves, and where each partition went on that a power cut may have cut back. It is on the
/// broker's host, where no partition of the network is in its way.
pub fn interrogate(world: &World, party: &Shared) -> (ProcessId, Rc<Cell<bool>>) {
    let done = Rc::new(Cell::new(false));
    let (party, told) = (party.clone(), done.clone());
    let id = world.spawn_process(BROKER, 1, move |env, _| {
        let (party, told) = (party.clone(), told.clone());
        async move {
            let mut caller = Caller::new(&env, &party);
            while ask_all(&mut caller).await.is_err() {
                env.sleep_until(env.now().plus_ms(20)).await;
            }
            told.set(true);
        }
    });
    (id, done)
}

async fn ask_all(caller: &mut Caller) -> Result<(), ClientError> {
    let party = caller.party.clone();
    let listed = topics(caller).await?;
    let live = party.recorder.borrow().live();
    for partition in live {
        let known = party.recorder.borrow().known(partition).clone();
        let topic = listed.iter().find(|topic| topic.id == known.id);
        let Some((leader, _)) = topic.and_then(|topic| topic.leaders.get(known.index as usize).copied()) else {
            if party.recorder.borrow().is_live(partition) {
                party.find(&caller.env, format!("{known:?} is not there after a start"));
            }
            continue;
        };
        // Nobody leads it while its directory is out of service.
        if leader < 0 {
            continue;
        }
        let cuts = party.recorder.borrow().untold(partition);
        for cut in cuts {
            let end = end_of(caller, partition, cut.epoch).await?;
            let mut recorder = party.recorder.borrow_mut();
            if recorder.is_live(partition) {
                recorder.kept(partition, cut, end as u64);
            }
        }
    }
    Ok(())
}

/// Where the log ended when leader epoch `epoch` was over.
async fn end_of(caller: &mut Caller, partition: Partition, epoch: i32) -> Result<i64, ClientError> {
    let known = caller.party.recorder.borrow().known(partition).clone();
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: known.topic.clone().into(),
            partitions: vec![OffsetForLeaderPartition {
                partition: known.index,
                leader_epoch: epoch,
                ..Default::default()
            }]
            .into(),
        }]
        .into(),
        ..Default::default()
    };
    let answer = caller.ask(&request, 4).await?;
    let response: OffsetForLeaderEpochResponse<'_> = answer.decode()?;
    let topic = response.topics.first().unwrap_or_default();
    let told = topic.partitions.first().unwrap_or_default();
    if told.error_code != 0 && !caller.party.recorder.borrow().is_live(partition) {
        return Ok(0);
    }
    ClientError::check(told.error_code, || format!("ask for epochs of {known:?}"), None)?;
    let cursor = Cursor::new(&caller.party, partition);
    match told.end_offset {
        // Nothing as old is left: the log is empty, or begins later.
        -1 => offset_at(caller, &cursor, Place::Start).await,
        end => Ok(end),
    }
}
