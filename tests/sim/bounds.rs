//! What a shard's logs and readers may hold, however many and however large.

use std::path::Path;
use std::rc::Rc;

use ringtail::base::sync::Budget;
use ringtail::broker::route::{Epochs, Local, ReadItem, ReadRequest};
use ringtail::io::Env;
use ringtail::io::sim::{Options, World};
use ringtail::storage::{DurabilityClass, Store, StoreOptions, Wanted, recover};

use crate::model::{MEMORY, batch, log_options, open, partition_id, payload, spec, store_options};

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
        let local = Rc::new(Local::new(env.clone(), store.clone(), budget.clone()));
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
