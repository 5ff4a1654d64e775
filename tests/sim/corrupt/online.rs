//! The scrub of a store that serves.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringtail::io::Env;
use ringtail::io::sim::SimEnv;
use ringtail::metrics::ScrubMetrics;
use ringtail::storage::{DurabilityClass, LogOptions, Partition, ScrubOptions, Store};

use super::damage::{Touched, apply};
use super::judge::{logged, name_of};
use crate::model::{DATA, batch, log_options, open_with, payload, spec, store_options, world};

const FAST: ScrubOptions = ScrubOptions {
    bytes_per_second: 1 << 40,
    interval_ms: 1,
};

async fn store(env: &SimEnv) -> (Rc<Store<SimEnv>>, Rc<Partition<SimEnv>>) {
    let mut options = store_options(0);
    options.retention_check_ms = 40;
    let store = open_with(env, options).await;
    let kept = LogOptions {
        retention_bytes: 2_000_000,
        ..log_options(DurabilityClass::Flushed, 300_000)
    };
    let partition = store.open_partition(spec(0, kept)).await.expect("opens");
    (store, partition)
}

async fn append(partition: &Rc<Partition<SimEnv>>, sequences: std::ops::Range<i32>) {
    for sequence in sequences {
        let bytes = payload(0, sequence, 200 + (sequence as usize * 2731) % 18_000);
        partition.append(batch(7, sequence, &bytes)).await.expect("appended");
    }
}

async fn passes(env: &SimEnv, metrics: &ScrubMetrics, count: u64) {
    let until = metrics.passes.value() + count;
    while metrics.passes.value() < until {
        env.sleep_until(env.now().plus_ms(5)).await;
    }
}

#[test]
fn a_scrub_of_what_is_whole_finds_nothing_whatever_happens_meanwhile() {
    for seed in 0..3 {
        let (problems, log) = logged(|| {
            world(seed).block_on(0, |env| async move {
                let (store, partition) = store(&env).await;
                let metrics: Rc<ScrubMetrics> = Rc::default();
                store.scrub(FAST, &metrics);
                append(&partition, 0..500).await;
                assert!(partition.ends().log_start > 0, "retention deletes");
                passes(&env, &metrics, 2).await;
                assert!(metrics.segments.value() > 5 && metrics.bytes.value() > 1_000_000);
                store.close().await.expect("closes");
                metrics.problems.value()
            })
        });
        assert_eq!(problems, 0, "seed {seed}: {log}");
    }
}

#[test]
fn rot_under_a_store_that_serves_is_named_once_and_left_as_it_is() {
    let log = |base: i64| format!("topic-0/{base:020}.log");
    let world = world(5);
    let (found, told) = logged(|| {
        world.block_on(0, move |env| async move {
            let (store, partition) = store(&env).await;
            append(&partition, 0..100).await;
            // The journal is not settled before a checkpoint is due: stopped and started, all of it is in the segments.
            store.close().await.expect("closes");
            let (store, partition) = self::store(&env).await;
            append(&partition, 100..110).await;
            // What earlier starts left goes a second after this one.
            env.sleep_until(env.now().plus_ms(3_000)).await;
            let metrics: Rc<ScrubMetrics> = Rc::default();
            store.scrub(FAST, &metrics);
            let names = closed_and_open(&env).await;
            let mut found = Vec::new();
            for path in names {
                let before = read(&env, &path).await;
                let (problems, mut now) = (metrics.problems.value(), before.clone());
                now[before.len() / 3] ^= 4;
                let touched = Touched {
                    path: path.clone(),
                    before: before.clone(),
                    now: Some(now.clone()),
                };
                apply(&env, std::slice::from_ref(&touched)).await;
                passes(&env, &metrics, 3).await;
                let news = metrics.problems.value() - problems;
                assert!(news > 0, "{}: not found", path.display());
                passes(&env, &metrics, 3).await;
                assert_eq!(
                    metrics.problems.value() - problems,
                    news,
                    "{}: told again",
                    path.display()
                );
                assert_eq!(read(&env, &path).await, now, "{}: changed", path.display());
                let back = Touched {
                    before: now,
                    now: Some(before),
                    ..touched
                };
                apply(&env, &[back]).await;
                found.push(path);
            }
            drop(store);
            found
        })
    });
    assert!(found.len() > 6, "{found:?}");
    for path in &found {
        assert!(told.contains(&name_of(path)), "{} is not in {told}", path.display());
    }
    for expected in [
        log(0),
        "topic-0/partition.metadata".into(),
        "ringtail-base-1.ckpt".into(),
    ] {
        assert!(
            found.iter().any(|path| name_of(path) == expected),
            "no {expected} in {found:?}"
        );
    }
}

/// Every file that holds something and is not behind what is stored.
async fn closed_and_open(env: &SimEnv) -> Vec<PathBuf> {
    let all = super::bases::files(env, &[DATA]).await;
    let mut found = Vec::new();
    for path in all {
        let name = name_of(&path);
        let is_old = name.starts_with("ringtail-journal") || name.contains("-0-") || name.contains("base-0");
        let is_text = name.ends_with("leader-epoch-checkpoint");
        let content = read(env, &path).await;
        if !is_old && !is_text && content.get(content.len() / 3).is_some_and(|byte| *byte != 0) {
            found.push(path);
        }
    }
    found
}

async fn read(env: &SimEnv, path: &Path) -> Vec<u8> {
    ringtail::io::read_file(env, path, 1 << 30)
        .await
        .expect("read")
        .to_vec()
}

#[test]
fn a_scrub_takes_its_time_and_ends_with_its_store() {
    world(7).block_on(0, |env| async move {
        let (store, partition) = store(&env).await;
        append(&partition, 0..150).await;
        let metrics: Rc<ScrubMetrics> = Rc::default();
        let options = ScrubOptions {
            bytes_per_second: 100_000,
            interval_ms: 1,
        };
        let began = env.now();
        store.scrub(options, &metrics);
        passes(&env, &metrics, 1).await;
        let (bytes, seconds) = (metrics.bytes.value(), env.now().ms_since(began) as f64 / 1e3);
        let rate = bytes as f64 / seconds;
        assert!((70_000.0..120_000.0).contains(&rate), "{bytes} bytes in {seconds} s");
        // In the middle of the next pass.
        let began = env.now();
        env.sleep_until(began.plus_ms(1_000)).await;
        store.close().await.expect("closes");
        assert!(env.now().ms_since(began) < 2_000, "it does not wait for the pass");
    });
}
