//! One life of a broker's storage: recovery, shards that produce, read, delete, create and change topics, and an end.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringtail::base::ids::{PartitionId, TopicId};
use ringtail::base::sync::join_all;
use ringtail::io::sim::{DiskImage, Options, SimEnv, SimLock};
use ringtail::io::{Env, Queue};
use ringtail::storage::{
    AppendError, Appended, DurabilityClass, LogDirectory, LogOptions, Partition, PartitionSpec, ReadError, Recovered,
    Store, StoreOptions, Wanted, clear_leftovers, recover,
};
use ringtail::wire::batch::BatchHeader;

use crate::history::{ANONYMOUS, Found, Log, Shared, crc_of, read_log};

const MEMORY: &str = "/dev/shm";
const LOCK: &str = "/data/lock";
pub const DIRECTORIES: [&str; 2] = ["/data/a", "/data/b"];
/// The topic whose partitions come and go.
pub const CHURN: &str = "churn";
pub const CHURN_SLOTS: i32 = 2;
const PARTITIONS: i32 = 8;
/// The partition that changes its class.
const FICKLE: i32 = 5;

pub fn world_options() -> Options {
    let mut options = Options {
        hosts: 1,
        ..Options::default()
    };
    options.disk.directories = DIRECTORIES.iter().map(PathBuf::from).collect();
    options
}

/// Small enough that memory is short, the journal goes round and retention has work within a second.
pub fn store_options(shard: usize, shards: usize) -> StoreOptions {
    let place = |(i, path): (usize, &&str)| LogDirectory {
        path: PathBuf::from(path),
        id: [i as u8 + 1; 16],
    };
    StoreOptions {
        directories: DIRECTORIES.iter().enumerate().map(place).collect(),
        arena_directory: PathBuf::from(MEMORY),
        memory_bytes: 2 << 20,
        journal_bytes: 1 << 20,
        reserve_bytes: 0,
        producer_expiration_ms: 86_400_000,
        producer_count_max: 10_000,
        retention_check_ms: 150,
        shard,
        shards,
    }
}

fn log_options(index: i32) -> LogOptions {
    let durability = match index % 3 {
        2 => DurabilityClass::Written,
        _ => DurabilityClass::Flushed,
    };
    let segment_bytes = [300_000, 180_000, 160_000, 200_000][index as usize % 4];
    let retention_bytes = [if index == 0 { -1 } else { 150_000 }, 150_000, 100_000, 200_000][index as usize % 4];
    LogOptions {
        durability,
        segment_bytes,
        retention_bytes,
        ..LogOptions::default()
    }
}

/// The partitions that stay.
pub fn roster() -> Vec<PartitionSpec> {
    let spec = |index: i32| PartitionSpec {
        id: PartitionId {
            topic: TopicId([5; 16]),
            index,
        },
        topic_name: "topic".into(),
        directory: (index / 2) as usize % DIRECTORIES.len(),
        options: log_options(index),
    };
    (0..PARTITIONS).map(spec).collect()
}

/// A partition of the topic that comes and goes; `number` tells its lives apart.
pub fn churn_spec(slot: i32, number: u64) -> PartitionSpec {
    let mut topic = [0xc0; 16];
    topic[..8].copy_from_slice(&number.to_be_bytes());
    PartitionSpec {
        id: PartitionId {
            topic: TopicId(topic),
            index: slot,
        },
        topic_name: CHURN.into(),
        directory: slot as usize % DIRECTORIES.len(),
        options: LogOptions {
            segment_bytes: 50_000,
            ..log_options(slot)
        },
    }
}

/// What the shards of one process share.
#[derive(Default)]
pub struct Life {
    recovered: RefCell<Option<Arc<Recovered>>>,
    lock: RefCell<Option<SimLock>>,
    pub recovering: Cell<bool>,
    /// Shards that have opened and judged all their partitions.
    pub judged: Cell<usize>,
    pub stop: Cell<bool>,
    /// Devices may fail: directories go out of service.
    pub faulty: Cell<bool>,
}

impl Life {
    pub fn is_in_service(&self) -> bool {
        let recovered = self.recovered.borrow();
        let mut directories = recovered.iter().flat_map(|recovered| &recovered.directories);
        directories.all(|directory| directory.is_in_service())
    }
}

pub type Task = Pin<Box<dyn Future<Output = ()>>>;
pub type Member = Rc<Partition<SimEnv>>;

pub async fn pause(env: &SimEnv, us: u64) {
    let mut deadline = env.now();
    deadline.0 += us * 1000;
    env.sleep_until(deadline).await;
}

async fn until(env: &SimEnv, condition: impl Fn() -> bool) {
    while !condition() {
        pause(env, 100).await;
    }
}

/// Recovers (on shard 0) and opens this shard's store. The lock waits for the writes of a killed process.
pub async fn open_store(env: &SimEnv, shards: usize, life: &Rc<Life>, history: &Shared) -> Rc<Store<SimEnv>> {
    let shard = env.shard();
    let options = store_options(shard, shards);
    if shard == 0 {
        life.recovering.set(true);
        let lock = loop {
            match env.lock(Path::new(LOCK)).await {
                Ok(lock) => break lock,
                Err(_) => pause(env, 500).await,
            }
        };
        env.hold(lock.clone()).expect("the lock is held");
        *life.lock.borrow_mut() = Some(lock);
        let standing: Vec<PartitionId> = history.borrow().standing().iter().map(|spec| spec.id).collect();
        let wanted = |id| match standing.contains(&id) {
            true => Wanted::Yes,
            false => Wanted::Deleted,
        };
        let recovered = recover(env, &options.directories, Path::new(MEMORY), wanted).await;
        let recovered = recovered.expect("recovery succeeds");
        let cleared = clear_leftovers(env, &recovered, wanted).await;
        cleared.expect("folders of deleted partitions go");
        let (own, superseded) = (env.clone(), recovered.clone());
        env.spawn(
            Queue::Background,
            async move { superseded.remove_superseded(&own).await },
        );
        *life.recovered.borrow_mut() = Some(recovered);
    }
    until(env, || life.recovered.borrow().is_some()).await;
    let lock = life.lock.borrow().clone().expect("taken before");
    env.hold(lock).expect("the lock is held");
    let recovered = life.recovered.borrow().clone().expect("recovered before");
    let store = Store::open(env.clone(), options, recovered)
        .await
        .expect("the store opens");
    if shard == 0 {
        life.recovering.set(false);
    }
    // What another shard does now would be lost on crashes of what still counts as the recovery.
    until(env, || !life.recovering.get()).await;
    store
}

/// The partitions that the metadata gives to this shard.
pub fn owned(env: &SimEnv, shards: usize, history: &Shared) -> Vec<PartitionSpec> {
    let all = history.borrow().standing();
    let ours = |spec: &PartitionSpec| spec.id.index as usize % shards == env.shard();
    all.into_iter().filter(ours).collect()
}

/// A shard of a life of the workload.
pub async fn shard_of_workload(env: SimEnv, shards: usize, life: Rc<Life>, history: Shared) {
    let store = open_store(&env, shards, &life, &history).await;
    if env.shard() == 0 {
        history.borrow_mut().forget_deleted();
    }
    let mut members: Vec<Member> = Vec::new();
    for spec in owned(&env, shards, &history) {
        let id = spec.id;
        let partition = store.open_partition(spec).await.expect("opens");
        let found = read_log(&partition).await;
        let mut history = history.borrow_mut();
        history.log(id).judge(&found, None, &[]);
        history.log(id).reconcile(&found);
        members.push(partition);
    }
    life.judged.set(life.judged.get() + 1);
    let at_work = Rc::new(AtWork {
        env: env.clone(),
        life: life.clone(),
        history,
        store: store.clone(),
    });
    let mut tasks: Vec<Task> = Vec::new();
    let lasting: Vec<Member> = members.iter().filter(|p| **p.topic_name() != *CHURN).cloned().collect();
    for partition in &lasting {
        let index = i64::from(partition.id().index);
        tasks.push(Box::pin(at_work.clone().produce(partition.clone(), 100 + index)));
        let second = if index % 3 == 0 { ANONYMOUS } else { 200 + index };
        if index % 2 == 0 {
            tasks.push(Box::pin(at_work.clone().produce(partition.clone(), second)));
        }
        if partition.id().index == FICKLE {
            tasks.push(Box::pin(at_work.clone().change_class(partition.clone())));
        }
    }
    tasks.push(Box::pin(at_work.clone().read(lasting)));
    for slot in (0..CHURN_SLOTS).filter(|slot| *slot as usize % shards == env.shard()) {
        let left = members
            .iter()
            .find(|p| p.id().index == slot && **p.topic_name() == *CHURN);
        tasks.push(Box::pin(at_work.clone().churn(slot, left.cloned())));
    }
    join_all(tasks).await;
    store.close().await.expect("closes");
}

/// What the tasks of a shard need.
pub struct AtWork {
    pub env: SimEnv,
    pub life: Rc<Life>,
    pub history: Shared,
    pub store: Rc<Store<SimEnv>>,
}

impl AtWork {
    fn random(&self, below: u64) -> u64 {
        self.env.random() % below
    }

    fn size(&self) -> usize {
        match self.random(48) {
            0 => 150_000,
            1..=2 => 40_000,
            3..=8 => 9_000,
            _ => 40 + self.random(900) as usize,
        }
    }

    async fn produce(self: Rc<Self>, partition: Member, mut producer: i64) {
        // What is never deleted grows slowly: every case reads all of it.
        let is_bounded = partition.id().index != 0;
        let share = if is_bounded { 1 } else { 8 };
        while !self.life.stop.get() {
            let sizes: Vec<usize> = match producer {
                // More than the tail memory holds.
                ANONYMOUS if is_bounded && self.random(24) == 0 => vec![140_000; 10],
                _ => (0..=self.random(4)).map(|_| self.size() / share).collect(),
            };
            match self.send(&partition, producer, &sizes).await {
                Err(AppendError::OutOfOrderSequence) => {
                    self.history.borrow_mut().log(partition.id()).abandon(producer);
                    producer += 1000;
                }
                Err(AppendError::Full) => pause(&self.env, 20_000).await,
                Err(_) => return,
                Ok(()) => {}
            }
            if self.random(8) == 0 {
                self.send_again(&partition, producer).await;
            }
            let rest = if self.random(16) == 0 { 300_000 } else { 40_000 };
            pause(&self.env, self.random(rest)).await;
        }
    }

    /// Sends batches side by side, in order, and notes the answers; the first error.
    pub async fn send(&self, partition: &Member, producer: i64, sizes: &[usize]) -> Result<(), AppendError> {
        let (id, now_ms) = (partition.id(), self.env.wall_ms());
        let batches = self.history.borrow_mut().next_batches(id, producer, now_ms, sizes);
        let appends = batches.iter().map(|batch| {
            let (append, history) = (partition.append(batch.clone()), self.history.clone());
            let (env, batch) = (self.env.clone(), batch.clone());
            async move {
                let answer = append.await;
                note(&history, id, &batch, &answer, &env);
                answer.map(drop)
            }
        });
        let answers = join_all(appends.collect()).await;
        let error = answers.into_iter().find_map(Result::err);
        if error == Some(AppendError::OutOfOrderSequence) {
            let durable = self.history.borrow_mut().log(id).never_lost_any();
            assert!(!durable, "{id}: a sequence is out of order and nothing was lost");
        }
        error.map_or(Ok(()), Err)
    }

    async fn send_again(&self, partition: &Member, producer: i64) {
        let last = self.history.borrow_mut().log(partition.id()).last_acked(producer);
        let Some((batch, offset)) = last else { return };
        if let Ok(again) = partition.append(batch).await {
            assert_eq!(again.base_offset, offset, "{}: a retry moved", partition.id());
        }
    }

    async fn read(self: Rc<Self>, members: Vec<Member>) {
        while !self.life.stop.get() {
            let partition = &members[self.random(members.len() as u64) as usize];
            let start = partition.ends().log_start;
            self.history.borrow_mut().log(partition.id()).saw_start(start);
            let span = (partition.high_watermark() - start) as u64 + 1;
            // Often near the end, where readers are.
            let from = match self.random(3) {
                0 => self.random(span) as i64,
                1 => 0,
                _ => (span - 1 - self.random(span.min(20))) as i64,
            };
            self.read_once(partition, start + from).await;
            pause(&self.env, self.random(40_000)).await;
        }
    }

    async fn read_once(&self, partition: &Member, offset: i64) {
        let slice = match partition.read(offset, 100_000, true).await {
            Ok(slice) => slice,
            Err(ReadError::OutOfRange) if partition.ends().log_start > offset => return,
            Err(ReadError::Offline | ReadError::Closed) => return,
            Err(error) => panic!("{}: {error:?} at {offset}", partition.id()),
        };
        let mut history = self.history.borrow_mut();
        let log = history.log(partition.id());
        let mut rest = Bytes::from(slice.pieces.concat());
        let mut next = offset;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).expect("whole batches");
            let whole = rest.split_to(header.total_bytes());
            assert!(header.base_offset() <= next && header.next_offset() > next, "dense");
            assert!(log.was_sent(&whole), "{}: {next} was never sent", partition.id());
            next = header.next_offset();
        }
        log.saw(next, self.env.now().0);
    }

    async fn change_class(self: Rc<Self>, partition: Member) {
        loop {
            pause(&self.env, 100_000 + self.random(500_000)).await;
            if self.life.stop.get() {
                return;
            }
            let mut history = self.history.borrow_mut();
            let log = history.log(partition.id());
            let mut options = log.spec.options.clone();
            options.durability = match options.durability {
                DurabilityClass::Flushed => DurabilityClass::Written,
                DurabilityClass::Written => DurabilityClass::Flushed,
            };
            log.set_options(options.clone(), self.env.now().0);
            partition.set_options(options);
        }
    }

    /// Makes and deletes a partition, under the same name and another id each time.
    async fn churn(self: Rc<Self>, slot: i32, mut partition: Option<Member>) {
        while !self.life.stop.get() {
            let current = match partition.take() {
                Some(partition) => partition,
                None => {
                    let number = self.history.borrow_mut().next_number();
                    let spec = churn_spec(slot, number);
                    self.history.borrow_mut().logs.insert(spec.id, Log::new(spec.clone()));
                    match self.store.open_partition(spec).await {
                        Err(_) if self.life.faulty.get() => return,
                        opened => opened.expect("a new partition opens"),
                    }
                }
            };
            for _ in 0..self.random(12) {
                let sizes: Vec<usize> = (0..=self.random(4)).map(|_| self.size().min(40_000)).collect();
                if self.send(&current, 300, &sizes).await.is_err() {
                    return;
                }
            }
            let id = current.id();
            self.history.borrow_mut().log(id).mark_deleted();
            // Appends that the deletion meets.
            let last: Task = Box::pin({
                let at_work = self.clone();
                async move {
                    // Answered or refused: either is fine.
                    let _ = at_work.send(&current, 300, &[30_000, 30_000, 30_000]).await;
                }
            });
            let (store, faulty) = (self.store.clone(), self.life.faulty.get());
            let gone: Task = Box::pin(async move {
                let deleted = store.delete_partition(id).await;
                assert!(deleted.is_ok() || faulty, "{deleted:?}");
            });
            join_all(vec![last, gone]).await;
            assert!(faulty || self.life.is_in_service(), "a deletion fenced the directory");
            self.history.borrow_mut().logs.remove(&id);
            pause(&self.env, self.random(60_000)).await;
        }
    }
}

fn note(history: &Shared, id: PartitionId, batch: &Bytes, answer: &Result<Appended, AppendError>, env: &SimEnv) {
    match answer {
        Ok(appended) => history.borrow_mut().acknowledge(id, batch, *appended, env.now().0),
        Err(AppendError::Closed | AppendError::Offline | AppendError::Full | AppendError::OutOfOrderSequence) => {}
        Err(error) => panic!("{id}: {error:?}"),
    }
}

/// The offset at which a log holds a batch.
pub fn place_of(found: &Found, batch: &Bytes) -> Option<i64> {
    let crc = crc_of(batch);
    found
        .batches
        .iter()
        .find(|(_, bytes)| crc_of(bytes) == crc)
        .map(|(offset, _)| *offset)
}

/// The newest checkpoint of a shard goes bad where an older one stands behind it.
pub fn rot_newest_checkpoint(image: &mut DiskImage) {
    for directory in DIRECTORIES {
        let base = (0..64u64).rev().find(|start| {
            let base = format!("{directory}/ringtail-base-{start}.ckpt");
            image.content(base).is_some()
        });
        let Some(start) = base else { continue };
        for shard in 0..2 {
            let name = |number: u64| format!("{directory}/ringtail-shard-{start}-{shard}-{number}.ckpt");
            let newest = (1..64).rev().find(|number| image.content(name(*number)).is_some());
            if let Some(newest) = newest.filter(|newest| image.content(name(newest - 1)).is_some()) {
                image.corrupt(name(newest), 30, 4).expect("the file is there");
            }
        }
    }
}

/// Says where a panic happened.
pub struct Case(pub String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}
