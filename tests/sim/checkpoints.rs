//! Checkpoints that do not verify.

use std::path::Path;

use ringtail::io::Env;
use ringtail::io::sim::{Options, SimEnv, World};
use ringtail::storage::{DurabilityClass, Wanted, recover};

use crate::model::{DATA, History, MEMORY, batch, check, log_options, open, payload, spec, store_options};

/// Appends and closes; what was acknowledged, and the shard's checkpoints that it left, oldest first.
async fn run(env: SimEnv, count: i32) -> (History, Vec<String>) {
    let store = open(&env).await;
    let spec = spec(0, log_options(DurabilityClass::Flushed, 600_000));
    let partition = store.open_partition(spec).await.expect("opens");
    let mut history = History::default();
    for sequence in 0..count {
        let bytes = batch(1, sequence, &payload(0, sequence, 30_000));
        history.sent.insert(sequence, bytes.clone());
        let appended = partition.append(bytes).await.expect("appended");
        history.acked.insert(sequence, appended.base_offset);
    }
    store.close().await.expect("closes");
    let listed = env.list(Path::new(DATA)).await.expect("listed");
    let mut checkpoints: Vec<String> = listed
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| name.starts_with("ringtail-shard-"))
        .collect();
    checkpoints.sort();
    (history, checkpoints)
}

fn spoil(world: &World, names: &[String]) {
    for name in names {
        let path = Path::new(DATA).join(name);
        world.corrupt(0, path, 40, 0xff).expect("the file is there");
    }
}

#[test]
fn the_first_checkpoint_is_done_without_as_the_journal_has_all_since_the_base() {
    let world = World::new(41, Options::default());
    let (history, checkpoints) = world.block_on(0, |env| run(env, 20));
    assert_eq!(checkpoints.len(), 1);
    spoil(&world, &checkpoints);
    world.block_on(0, move |env| async move {
        let store = open(&env).await;
        let spec = spec(0, log_options(DurabilityClass::Flushed, 600_000));
        let partition = store.open_partition(spec).await.expect("opens");
        assert_eq!(partition.high_watermark(), 20);
        check(0, &history, &partition).await;
        store.close().await.expect("closes");
    });
}

#[test]
fn without_any_good_checkpoint_and_a_journal_that_goes_on_from_one_the_start_names_the_file() {
    let world = World::new(42, Options::default());
    let (_, checkpoints) = world.block_on(0, |env| run(env, 600));
    assert_eq!(checkpoints.len(), 2, "the journal was used again: {checkpoints:?}");
    spoil(&world, &checkpoints);
    let oldest = checkpoints[0].clone();
    world.block_on(0, move |env| async move {
        let refused = recover(&env, &store_options(0).directories, Path::new(MEMORY), |_| Wanted::Yes).await;
        let error = refused.err().expect("the start is refused").to_string();
        assert!(error.contains(&oldest) && error.contains("does not verify"), "{error}");
    });
}
