//! What a shard's logs and readers may hold, however many and however large.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringtail::base::ids::PartitionId;
use ringtail::base::mailbox::{Receiver, mailbox};
use ringtail::base::sync::{Budget, Holder, Permit, Signal};
use ringtail::broker::Reader;
use ringtail::broker::route::{
    Append, Envelope, Epochs, Local, ReadItem, ReadOutcome, ReadRequest, Reply, Request, Router,
};
use ringtail::cluster::shard_of;
use ringtail::io::sim::{Options, SimEnv, World};
use ringtail::io::{Env, Queue};
use ringtail::storage::{
    AppendError, DurabilityClass, LogOptions, LogSlice, Partition, Store, StoreOptions, TimestampType, Wanted, recover,
};

use crate::model::{
    MEMORY, READER, batch, budgets, log_options, open, partition_id, payload, read_all, spec, store_options,
};

/// Beyond the bound the longest idle producers are forgotten, over all partitions: their retries are new batches, those of
/// the others are not.
#[test]
fn the_producers_of_all_partitions_together_are_bounded() {
    let world = World::new(21, Options::default());
    world.block_on(0, |env| async move {
        let options = StoreOptions {
            producer_count_max: 100,
            ..store_options(0)
        };
        let recovered = recover(&env, &options.directories, Path::new(MEMORY), |_| Wanted::Yes).await;
        let store = Store::open(env.clone(), options, recovered.expect("recovery succeeds")).await;
        let store = store.expect("the store opens");
        let mut partitions = Vec::new();
        for index in 0..4 {
            let spec = spec(index, log_options(DurabilityClass::Flushed, 1 << 20));
            partitions.push(store.open_partition(spec).await.expect("opens"));
        }
        let mut offsets = Vec::new();
        for id in 0..400 {
            let partition = &partitions[id % 4];
            let appended = partition.append(batch(id as i64, 7, b"first")).await.expect("appended");
            offsets.push(appended.base_offset);
            env.sleep_until(env.now().plus_ms(2)).await;
        }
        let again = async |id: usize| {
            let appended = partitions[id % 4].append(batch(id as i64, 7, b"first")).await;
            appended.expect("an unknown producer begins anywhere").base_offset == offsets[id]
        };
        for id in [399, 380, 330, 315] {
            assert!(again(id).await, "the retry of {id} is told apart");
        }
        for id in [0, 3, 50, 299] {
            assert!(!again(id).await, "{id} was forgotten");
        }
    });
}

/// The first batch comes whole, whatever the reader asked for: what it holds is counted.
#[test]
fn an_answer_counts_what_it_holds_also_when_memory_is_short() {
    const BATCH_BYTES: usize = 900_000;
    let world = World::new(22, Options::default());
    world.block_on(0, |env| async move {
        let store = open(&env).await;
        let spec = spec(0, log_options(DurabilityClass::Flushed, 8 << 20));
        let partition = store.open_partition(spec).await.expect("opens");
        for sequence in 0..2 {
            let large = batch(1, sequence, &payload(0, sequence, BATCH_BYTES));
            partition.append(large).await.expect("appended");
        }
        let budget = Budget::new(4 << 20);
        let local = Rc::new(Local::new(
            env.clone(),
            store.clone(),
            Default::default(),
            (budget.clone(), budget.clone()),
        ));
        let read = |bytes_max| {
            let item = ReadItem {
                id: partition_id(0),
                offset: 0,
                bytes_max: 1 << 30,
                epochs: Epochs {
                    leader: -1,
                    last_fetched: -1,
                },
            };
            let request = ReadRequest {
                items: vec![item],
                bytes_max,
                bytes_min: 1,
                wait_ms: 0,
                parts: None,
                reader: READER,
            };
            local.read(request, Rc::default())
        };
        let (outcomes, held) = read(1).await;
        assert!(outcomes[0].bytes() > BATCH_BYTES);
        assert_eq!(held.units(), outcomes[0].bytes() as u64);
        assert_eq!(budget.used(), held.units());
        let (_, small) = read(64 << 20).await;
        assert_eq!(budget.used(), held.units() + small.units());
        drop((held, small));
        let _all = budget.try_acquire(4 << 20).expect("nothing is held");
        let (outcomes, held) = read(1 << 20).await;
        assert_eq!(held.units(), outcomes[0].bytes() as u64, "from the reserve");
        // The reserve is an eighth, and used up by one such answer.
        let began = env.now();
        let second = ringtail::base::sync::race(async { read(1 << 20).await.1.units() }, async {
            env.sleep_until(began.plus_ms(100)).await;
            0
        });
        assert_eq!(second.await, 0, "it waits until the first is sent");
        drop(held);
        assert!(read(1 << 20).await.1.units() > 0);
    });
}

/// Bytes that tell when the last of them is given back.
struct Tracked {
    bytes: Bytes,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn tracked(bytes: Bytes) -> (Bytes, Arc<()>) {
    let held = Arc::new(());
    let owner = Tracked {
        bytes,
        _held: held.clone(),
    };
    (Bytes::from_owner(owner), held)
}

/// A log whose second batch does not fit into the segment that the first one began.
async fn log_of_small_segments(store: &Store<SimEnv>) -> Rc<Partition<SimEnv>> {
    let spec = spec(0, log_options(DurabilityClass::Flushed, 4096));
    store.open_partition(spec).await.expect("opens")
}

#[test]
fn an_append_given_up_leaves_the_line_with_its_batch() {
    let world = World::new(23, Options::default());
    world.block_on(0, |env| async move {
        let store = open(&env).await;
        let partition = log_of_small_segments(&store).await;
        let (given_up, held) = tracked(batch(2, 0, &payload(0, 1, 3000)));
        let first = partition.append(batch(1, 0, &payload(0, 0, 3000)));
        let second = partition.append(given_up.clone());
        let third = partition.append(batch(3, 0, &payload(0, 2, 3000)));
        let behind = partition.append(batch(2, 1, &payload(0, 3, 3000)));
        drop(given_up);
        assert_eq!(Arc::strong_count(&held), 2, "it waits for a segment");
        drop(second);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(first.await.expect("appended").base_offset, 0);
        assert_eq!(third.await.expect("appended").base_offset, 1);
        let of_same_producer = behind.await;
        assert_eq!(
            of_same_producer,
            Err(AppendError::GivenUp),
            "it does not overtake what is sent again"
        );
        assert_eq!(read_all(&partition).await.len(), 2);
    });
}

#[test]
fn an_append_for_another_shard_leaves_the_line_when_that_one_says_so() {
    let world = World::new(24, Options::default());
    world.block_on(0, |env| async move {
        let store = open(&env).await;
        let partition = log_of_small_segments(&store).await;
        let local = Local::new(env.clone(), store.clone(), Default::default(), budgets(4 << 20));
        let _first = partition.append(batch(1, 0, &payload(0, 0, 3000)));
        let (batch, held) = tracked(batch(2, 0, &payload(0, 1, 3000)));
        let append = Append {
            id: partition_id(0),
            batch,
        };
        let deadline = env.now().plus_ms(1 << 40);
        let cancel = Rc::new(Signal::default());
        let Ok(reply) = local.execute(Request::Append(vec![append].into(), deadline), &cancel) else {
            panic!("an append is executed")
        };
        assert_eq!(Arc::strong_count(&held), 2);
        cancel.raise();
        assert!(matches!(reply.await, Reply::Append(results) if results.is_empty()));
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// A router of shard 0, and the inbox of shard 1, where nobody is.
async fn router_of_two(
    env: &SimEnv,
    inbox_bound: usize,
    reads: &Rc<Budget>,
) -> (Rc<Router<SimEnv>>, Receiver<Envelope<SimEnv>>) {
    let local = Local::new(
        env.clone(),
        open(env).await,
        Default::default(),
        (reads.clone(), reads.clone()),
    );
    let (own, _) = mailbox(1);
    let (other, inbox) = mailbox(inbox_bound);
    (Router::new(0, vec![own, other], local), inbox)
}

/// A partition of shard 1.
fn foreign_partition() -> PartitionId {
    let mut all = (0..2).map(partition_id);
    all.find(|id| shard_of(*id, 2) == 1)
        .expect("two in a row are of different shards")
}

#[test]
fn a_call_given_up_is_taken_back_also_from_a_full_inbox() {
    let world = World::new(25, Options::default());
    world.block_on(0, |env| async move {
        let (router, mut inbox) = router_of_two(&env, 1, &Budget::new(1 << 20)).await;
        let append = Append {
            id: foreign_partition(),
            batch: batch(1, 0, b"x"),
        };
        drop(router.append(vec![append].into(), env.now()).await);
        let mut messages = VecDeque::new();
        while messages.len() < 2 {
            assert!(inbox.receive_all(&mut messages).await);
        }
        let Envelope::Request { id, .. } = &messages[0] else {
            panic!("the append")
        };
        assert!(matches!(&messages[1], Envelope::Cancel { id: cancelled, .. } if cancelled == id));
    });
}

/// Shard 1 answers each read with as much as it may.
fn answer_reads(env: &SimEnv, router: &Rc<Router<SimEnv>>, mut inbox: Receiver<Envelope<SimEnv>>) {
    let router = router.clone();
    env.spawn(Queue::Foreground, async move {
        let mut messages = VecDeque::new();
        while inbox.receive_all(&mut messages).await {
            for message in messages.drain(..) {
                let Envelope::Request {
                    id,
                    request: Request::Read(read),
                    ..
                } = message
                else {
                    continue;
                };
                let slice = LogSlice {
                    pieces: vec![Bytes::from(vec![7; read.bytes_max])],
                    bytes: read.bytes_max,
                    ..LogSlice::default()
                };
                let outcome = ReadOutcome {
                    result: Ok(slice),
                    high_watermark: 9,
                    log_start: 0,
                    diverging: None,
                };
                let outcomes = vec![outcome; read.items.len()];
                router.replied(id, Reply::Read(outcomes));
            }
        }
    });
}

/// What another shard has read is counted here, or left out; a client gets on nevertheless.
#[test]
fn what_other_shards_read_is_counted_before_it_is_kept() {
    const LIMIT: u64 = 1 << 20;
    let world = World::new(26, Options::default());
    world.block_on(0, |env| async move {
        let budget = Budget::new(LIMIT);
        let (router, inbox) = router_of_two(&env, 8, &budget).await;
        answer_reads(&env, &router, inbox);
        let item = ReadItem {
            id: foreign_partition(),
            offset: 0,
            bytes_max: 1 << 20,
            epochs: Epochs {
                leader: -1,
                last_fetched: -1,
            },
        };
        let read = |holder, items, bytes_max| {
            let request = ReadRequest {
                items: vec![item; items],
                bytes_max,
                bytes_min: 1,
                wait_ms: 0,
                parts: None,
                reader: Reader {
                    holder: Holder(holder),
                    is_proven: true,
                },
            };
            router.read(request)
        };
        let sizes = |outcomes: &[ReadOutcome]| outcomes.iter().map(ReadOutcome::bytes).collect::<Vec<_>>();
        let (outcomes, all) = read(1, 2, 400_000).await;
        assert_eq!(sizes(&outcomes), [400_000, 400_000]);
        assert_eq!(budget.used(), 800_000);
        // The other shard is asked for no more than there is room for.
        let (outcomes, asked) = read(2, 1, 1 << 20).await;
        assert_eq!(sizes(&outcomes), [(1 << 20) - 800_000]);
        drop(asked);
        // What fits beside what is left for others is kept, the rest is for a later request.
        let (outcomes, some) = read(3, 3, 100_000).await;
        assert_eq!(sizes(&outcomes), [100_000, 0, 0]);
        let (outcomes, more) = read(4, 1, 100_000).await;
        assert_eq!(sizes(&outcomes), [100_000]);
        assert_eq!(budget.used(), 1_000_000);
        // Nothing fits: a little comes from the reserve, which an eighth of the memory is.
        let (outcomes, short) = read(5, 2, 100_000).await;
        assert_eq!(sizes(&outcomes), [64 << 10, 0]);
        let units = |held: &[Permit]| held.iter().map(Permit::units).sum::<u64>();
        assert_eq!((units(&short), budget.used()), (64 << 10, 1_000_000));
        drop((all, some, more, short));
        assert_eq!(budget.used(), 0);
    });
}

/// A retry is told the time that the log gave the batch, also after a restart.
#[test]
fn a_duplicate_is_told_the_append_time_of_the_first() {
    let world = World::new(27, Options::default());
    world.block_on(0, |env| async move {
        let mut told = None;
        for _ in 0..2 {
            let store = open(&env).await;
            let options = LogOptions {
                timestamp_type: TimestampType::LogAppendTime,
                ..log_options(DurabilityClass::Flushed, 1 << 20)
            };
            let partition = store.open_partition(spec(0, options)).await.expect("opens");
            for _ in 0..2 {
                env.sleep_until(env.now().plus_ms(50)).await;
                let appended = partition.append(batch(1, 0, b"once")).await.expect("answered");
                assert_eq!(appended.base_offset, 0);
                let first = *told.get_or_insert(appended.append_time_ms);
                assert_eq!(appended.append_time_ms, first);
                assert!(first > 0);
            }
            store.close().await.expect("closes");
        }
        let store = open(&env).await;
        let options = log_options(DurabilityClass::Flushed, 1 << 20);
        let partition = store.open_partition(spec(1, options)).await.expect("opens");
        for _ in 0..2 {
            let appended = partition.append(batch(1, 0, b"once")).await.expect("answered");
            assert_eq!(appended.append_time_ms, -1, "the times are the producer's");
        }
    });
}
