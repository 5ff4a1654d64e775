//! Data directories to be damaged, and what is true of them: what an undamaged start serves and leaves.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringtail::base::ids::PartitionId;
use ringtail::base::sync::join_all;
use ringtail::io::Env;
use ringtail::io::sim::{DiskImage, LossMode, SimEnv};
use ringtail::storage::{
    DurabilityClass, LogOptions, Partition, PartitionSpec, Recovered, Store, StoreOptions, Wanted, clear_leftovers,
    recover,
};

use crate::model::{DATA, MEMORY, batch, log_options, partition_id, payload, read_all, spec, store_options, world};

pub const SHARDS: usize = 2;

/// The files of a directory.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What is true of one partition.
pub struct Truth {
    pub spec: PartitionSpec,
    pub log_start: i64,
    pub end: i64,
    pub batches: Vec<(i64, Bytes)>,
}

/// A disk to be damaged.
pub struct Base {
    pub name: &'static str,
    pub is_large: bool,
    pub image: DiskImage,
    pub files: Files,
    /// The files as they were earlier.
    pub past: Vec<Files>,
    pub truth: Vec<Truth>,
    /// What an undamaged start leaves.
    pub after: Files,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Stop,
    Kill,
    PowerCut,
}

/// While a base is made retention deletes; while damage is judged nothing goes by itself.
const RETENTION_MS: u64 = 150;
pub const NO_RETENTION_MS: u64 = 1 << 40;

pub fn options_of(shard: usize, retention_check_ms: u64) -> StoreOptions {
    StoreOptions {
        journal_bytes: 4 << 20,
        retention_check_ms,
        shards: SHARDS,
        ..store_options(shard)
    }
}

fn roster(large: bool) -> Vec<PartitionSpec> {
    let flushed = |bytes| log_options(DurabilityClass::Flushed, bytes);
    if large {
        return vec![spec(0, flushed(64 << 20)), spec(1, flushed(300_000))];
    }
    vec![
        spec(0, flushed(300_000)),
        spec(
            1,
            LogOptions {
                retention_bytes: 900_000,
                ..flushed(250_000)
            },
        ),
        spec(2, log_options(DurabilityClass::Written, 400_000)),
        spec(3, flushed(1 << 20)),
    ]
}

pub fn wanted(id: PartitionId) -> Wanted {
    match id.topic == partition_id(0).topic && id.index < 4 {
        true => Wanted::Yes,
        false => Wanted::Unknown,
    }
}

/// All shards' stores of one process.
pub struct Stores {
    pub recovered: Arc<Recovered>,
    pub shards: Vec<Rc<Store<SimEnv>>>,
}

impl Stores {
    pub async fn open(env: &SimEnv, retention_check_ms: u64) -> Result<Self, String> {
        let directories = options_of(0, retention_check_ms).directories;
        let recovered = recover(env, &directories, Path::new(MEMORY), wanted).await;
        let recovered = recovered.map_err(|error| error.0)?;
        let cleared = clear_leftovers(env, &recovered, wanted).await;
        cleared.map_err(|error| error.0)?;
        let mut shards = Vec::new();
        for shard in 0..SHARDS {
            let store = Store::open(env.clone(), options_of(shard, retention_check_ms), recovered.clone()).await;
            shards.push(store.map_err(|error| error.0)?);
        }
        Ok(Self { recovered, shards })
    }

    pub async fn partition(&self, spec: &PartitionSpec) -> Result<Rc<Partition<SimEnv>>, String> {
        let store = &self.shards[spec.id.index as usize % SHARDS];
        store
            .open_partition(spec.clone())
            .await
            .map_err(|error| error.to_string())
    }

    pub async fn close(&self) {
        for store in &self.shards {
            store.close().await.expect("closes");
        }
    }
}

/// Everything under the data directory.
pub async fn files(env: &SimEnv, roots: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        for entry in env.list(&folder).await.expect("listed") {
            let path = folder.join(&entry.name);
            match entry.is_directory {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

pub fn contents(image: &DiskImage, paths: &[PathBuf]) -> Files {
    let content = |path: &PathBuf| Some((path.clone(), image.content(path)?));
    paths.iter().filter_map(content).collect()
}

/// The files of an image at rest.
pub fn files_of(image: &DiskImage, roots: &'static [&'static str]) -> Files {
    let paths = world(1).with_disk(0, image);
    let paths = paths.block_on(0, move |env| async move { files(&env, roots).await });
    contents(image, &paths)
}

/// Appends that the directory lives through, of `count` batches in each partition.
async fn append(partitions: &[Rc<Partition<SimEnv>>], sequences: &mut [i32], count: i32, large: bool) {
    for _ in 0..count {
        let mut waits = Vec::new();
        for (index, partition) in partitions.iter().enumerate() {
            let sequence = sequences[index];
            sequences[index] += 1;
            let bytes = match (large, index) {
                (true, 0) => 33_000,
                (_, 3) => 100,
                _ => 200 + (sequence as usize * 2731) % 18_000,
            };
            let bytes = payload(index as i32, sequence, bytes);
            waits.push(partition.append(batch(7, sequence, &bytes)));
        }
        for appended in join_all(waits).await {
            appended.expect("appended");
        }
    }
}

/// One life of the stores; `at_rest` is called when nothing is under way.
async fn live(env: SimEnv, specs: Vec<PartitionSpec>, start: i32, large: bool, stop: bool, between: Rc<Cell<usize>>) {
    let stores = Stores::open(&env, RETENTION_MS).await.expect("opens");
    let mut partitions = Vec::new();
    let mut sequences = Vec::new();
    for spec in &specs {
        let partition = stores.partition(spec).await.expect("opens");
        sequences.push(partition.high_watermark() as i32);
        partitions.push(partition);
    }
    let recovered = stores.recovered.clone();
    recovered.remove_superseded(&env).await;
    let count = match (large, start) {
        (true, 1) => 190,
        (true, _) => 10,
        (_, 0) => 40,
        _ => 90,
    };
    for _ in 0..3 {
        append(&partitions, &mut sequences, count, large).await;
        env.sleep_until(env.now().plus_ms(1_000)).await;
        between.set(between.get() + 1);
        env.sleep_until(env.now().plus_ms(1)).await;
    }
    // The last commit is confirmed once the journal is idle.
    env.sleep_until(env.now().plus_ms(2_000)).await;
    if stop {
        stores.close().await;
    }
    between.set(between.get() + 1);
    // A kill finds it alive.
    std::future::pending::<()>().await;
}

/// A directory that was started twice, and how it came to rest.
pub fn base(name: &'static str, seed: u64, end: End, large: bool) -> Base {
    let specs = roster(large);
    let mut past = Vec::new();
    let mut image = None;
    for start in 0..2 {
        let mut world = world(seed + start);
        if let Some(image) = &image {
            world = world.with_disk(0, image);
        }
        let between = Rc::new(Cell::new(0));
        let (seen, moving) = (between.clone(), specs.clone());
        let is_last = start == 1;
        let stop = !is_last || end == End::Stop;
        let process = world.spawn_process(0, 1, move |env, _| {
            live(env, moving.clone(), start as i32, large, stop, seen.clone())
        });
        for step in 1..=4 {
            assert!(world.run_until(|| between.get() == step), "the life goes on");
            let now = world.disk_image(0).after_kill(seed);
            past.push(files_of(&now, &[DATA]));
        }
        world.kill(process);
        world.run_for(50);
        let now = world.disk_image(0).after_kill(seed);
        image = Some(match (is_last, end) {
            (true, End::Kill) => now,
            _ => now.after_power_cut(LossMode::LoseAll, seed),
        });
    }
    let image = image.expect("two lives");
    let files = files_of(&image, &[DATA]);
    let (truth, after) = undamaged(&image, &specs);
    Base {
        name,
        is_large: large,
        image,
        files,
        past,
        truth,
        after,
    }
}

/// What an undamaged start serves, and what it leaves in the files that were there.
fn undamaged(image: &DiskImage, specs: &[PartitionSpec]) -> (Vec<Truth>, Files) {
    let world = world(3).with_disk(0, image);
    let specs = specs.to_vec();
    let truth = world.block_on(0, move |env| async move {
        let stores = Stores::open(&env, RETENTION_MS).await.expect("opens");
        let mut truth = Vec::new();
        for spec in specs {
            let partition = stores.partition(&spec).await.expect("opens");
            truth.push(Truth {
                log_start: partition.ends().log_start,
                end: partition.high_watermark(),
                batches: read_all(&partition).await,
                spec,
            });
        }
        truth
    });
    (truth, files_of(&world.disk_image(0).after_kill(1), &[DATA]))
}
