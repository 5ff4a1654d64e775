//! Rot: bits flipped, blocks swapped, files cut below the durable end. Nothing wrong may be served, whatever it was.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use ringtail::base::buffer::{AlignedBuf, BLOCK_BYTES};
use ringtail::base::ids::{PartitionId, TopicId};
use ringtail::io::sim::{DiskImage, LossMode, SimEnv};
use ringtail::io::{Durability, Env, OpenOptions, read_file, replace_file, write_all_at};
use ringtail::storage::verify::{Problem, Report, Surroundings, VerifyOptions, verify};
use ringtail::storage::{DurabilityClass, LOCK_FILE, Partition, ReadError, Store, Topics, Wanted, recover, seal};
use ringtail::wire::batch::BatchHeader;

use crate::model::{
    DATA, HOLDER, MEMORY, batch, log_options, open, partition_id, payload, read_all, spec, store_options, world,
};

const PARTITIONS: i32 = 2;
const SEGMENT_BYTES: u64 = 300_000;

/// The batches of each partition, as they were served before the damage.
type Golden = Vec<Vec<(i64, Bytes)>>;

async fn open_partition(store: &Store<SimEnv>, index: i32) -> Result<Rc<Partition<SimEnv>>, String> {
    let options = log_options(DurabilityClass::Flushed, SEGMENT_BYTES);
    store
        .open_partition(spec(index, options))
        .await
        .map_err(|e| e.to_string())
}

/// A disk with some closed and an active segment in each partition, after a clean stop or (its memory gone) a power cut.
fn disk(seed: u64, clean: bool) -> (DiskImage, Golden) {
    let world = world(seed);
    let golden = world.block_on(0, move |env| async move {
        let mut golden = Golden::new();
        for start in 0..2 {
            let store = open(&env).await;
            golden.clear();
            for index in 0..PARTITIONS {
                let partition = open_partition(&store, index).await.expect("opens");
                for i in 0..70 {
                    let sequence = start * 70 + i;
                    let bytes = payload(index, sequence, 200 + (sequence as usize * 2731) % 18_000);
                    partition.append(batch(7, sequence, &bytes)).await.expect("appended");
                }
                golden.push(read_all(&partition).await);
            }
            // The last commit is confirmed once the journal is idle.
            env.sleep_until(env.now().plus_ms(3_000)).await;
            if clean || start == 0 {
                store.close().await.expect("closes");
            }
        }
        golden
    });
    let image = world.disk_image(0).after_power_cut(LossMode::LoseAll, seed);
    (image, golden)
}

/// Every file under the data directory.
async fn files(env: &SimEnv) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(DATA)];
    while let Some(folder) = folders.pop() {
        for entry in env.list(&folder).await.expect("listed") {
            let path = folder.join(&entry.name);
            if entry.is_directory {
                folders.push(path);
            } else if entry.bytes > 0 {
                found.push((path, entry.bytes));
            }
        }
    }
    found.sort();
    found
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { position: u64, mask: u8 },
    Swap { first: u64, second: u64 },
    Cut { bytes: u64 },
}

impl Damage {
    fn draw(random: &mut impl FnMut(u64) -> u64, bytes: u64) -> Self {
        let blocks = bytes / BLOCK_BYTES as u64;
        match random(5) {
            0 => Self::Cut { bytes: random(bytes) },
            1 if blocks >= 2 => Self::Swap {
                first: random(blocks),
                second: random(blocks),
            },
            _ => Self::Flip {
                position: random(bytes),
                mask: 1 << random(8),
            },
        }
    }

    async fn apply(self, env: &SimEnv, path: &Path) {
        let content = read_file(env, path, 1 << 30).await.expect("read");
        let mut changed = AlignedBuf::copy_of(&content);
        match self {
            Self::Flip { position, mask } => changed[position as usize] ^= mask,
            Self::Swap { first, second } => {
                let (a, b) = (first as usize * BLOCK_BYTES, second as usize * BLOCK_BYTES);
                changed[a..a + BLOCK_BYTES].copy_from_slice(&content[b..b + BLOCK_BYTES]);
                changed[b..b + BLOCK_BYTES].copy_from_slice(&content[a..a + BLOCK_BYTES]);
            }
            Self::Cut { .. } => {}
        }
        let file = env.open(path, OpenOptions::CREATE).await.expect("opens");
        if let Self::Cut { bytes } = self {
            return env.truncate(&file, bytes).await.expect("cut");
        }
        write_all_at(env, &file, changed.freeze(), 0, Durability::Cached)
            .await
            .expect("written");
        env.flush(&file).await.expect("flushed");
    }
}

/// What became of a damaged disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Verdict {
    refused: bool,
    corrupt: usize,
    served: usize,
}

/// Every batch is served as it was, or refused as corrupt; none is out of range.
async fn judge(env: SimEnv, golden: &Golden) -> Verdict {
    let mut verdict = Verdict::default();
    let options = store_options(0);
    let Ok(recovered) = recover(&env, &options.directories, Path::new(MEMORY), |_| Wanted::Yes).await else {
        verdict.refused = true;
        return verdict;
    };
    let store = Store::open(env, options, recovered).await.expect("the store opens");
    for (index, batches) in golden.iter().enumerate() {
        let Ok(partition) = open_partition(&store, index as i32).await else {
            verdict.refused = true;
            continue;
        };
        for (offset, expected) in batches {
            match partition.read(*offset, 100_000, true).await {
                Ok(slice) => {
                    let bytes = slice.pieces.concat();
                    let mut rest = &bytes[..];
                    let mut at = *offset;
                    while !rest.is_empty() {
                        let header = BatchHeader::parse(rest).expect("whole batches");
                        let (whole, after) = rest.split_at(header.total_bytes());
                        // What was appended since is not in question here.
                        let Some(known) = batches.get(batches.partition_point(|(base, _)| *base < at)) else {
                            break;
                        };
                        assert!(
                            known.0 == at && known.1 == whole,
                            "{index}: offset {at} is served changed"
                        );
                        at = header.next_offset();
                        rest = after;
                    }
                    assert!(bytes.len() >= expected.len(), "{index}: nothing at {offset}");
                    verdict.served += 1;
                }
                Err(ReadError::Corrupt) => verdict.corrupt += 1,
                Err(error) => panic!("{index}: offset {offset}: {error:?}"),
            }
        }
        for (offset, bytes) in batches.iter().step_by(9) {
            let time = BatchHeader::parse(bytes).expect("a batch").max_timestamp();
            match partition.offset_for_time(HOLDER, time).await {
                Ok(found) => assert_eq!(found.map(|f| f.offset), Some(*offset), "{index}: by time"),
                Err(ReadError::Corrupt) => {}
                Err(error) => panic!("{index}: time of {offset}: {error:?}"),
            }
        }
    }
    verdict
}

const SURROUNDINGS: Surroundings<'_> = Surroundings {
    is_file: |_| false,
    topics: None,
};

async fn report(env: &SimEnv) -> Report {
    let directory = &store_options(0).directories[0];
    verify(env, directory, VerifyOptions::default(), SURROUNDINGS, |_| ())
        .await
        .expect("not locked")
}

/// A disk with one damage on it, judged by `log verify` and by a broker's start and reads.
fn judge_damage(seed: u64, image: &DiskImage, path: &Path, damage: Damage, golden: &Rc<Golden>) -> (Verdict, Report) {
    let world = world(seed).with_disk(0, image);
    let (path, golden) = (path.to_owned(), golden.clone());
    world.block_on(0, move |env| async move {
        damage.apply(&env, &path).await;
        let before = files(&env).await;
        let report = report(&env).await;
        assert_eq!(before, files(&env).await, "verifying changes nothing");
        (judge(env, &golden).await, report)
    })
}

/// Whether the file is of a segment that is over: `log verify` has sums for every byte of those.
fn is_closed(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let companion = [".log", ".index", ".timeindex", ".sums"]
        .iter()
        .any(|kind| name.ends_with(kind));
    companion && name < "00000000000000000090"
}

fn drawer(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below.max(1)
    }
}

fn list(image: &DiskImage) -> Vec<(PathBuf, u64)> {
    world(1)
        .with_disk(0, image)
        .block_on(0, |env| async move { files(&env).await })
}

#[test]
fn damage_below_the_durable_end_is_found_or_harmless() {
    let cases: u64 = std::env::var("CASES").ok().and_then(|s| s.parse().ok()).unwrap_or(300);
    for clean in [true, false] {
        let (image, golden) = disk(11, clean);
        let golden = Rc::new(golden);
        let all = list(&image);
        let mut random = drawer(17 + u64::from(clean));
        let (mut found, mut harmless) = (0, 0);
        for case in 0..cases / 2 {
            let (path, bytes) = &all[random(all.len() as u64) as usize];
            let damage = Damage::draw(&mut random, *bytes);
            eprintln!("case {case} clean {clean} {} {damage:?}", path.display());
            let (verdict, report) = judge_damage(case, &image, path, damage, &golden);
            let detected = verdict.refused || verdict.corrupt > 0;
            assert!(!detected || !report.is_good(), "not reported: {verdict:?} {report:?}");
            let changes = !matches!(damage, Damage::Swap { first, second } if first == second);
            assert!(
                !is_closed(path) || !changes || !report.is_good(),
                "not reported: {report:?}"
            );
            if detected { found += 1 } else { harmless += 1 }
        }
        eprintln!("{found} found, {harmless} harmless");
        assert!(found > cases / 10 && harmless > cases / 20);
    }
}

#[test]
fn a_flipped_bit_in_a_closed_segment_costs_its_row_and_nothing_else() {
    let (image, golden) = disk(12, true);
    let golden = Rc::new(golden);
    let total: usize = golden.iter().map(Vec::len).sum();
    let log = PathBuf::from(DATA).join("topic-0/00000000000000000000.log");
    let mut random = drawer(5);
    for case in 0..40 {
        // The leader epoch of a batch, which lies outside its own check sum, and any other byte.
        let (position, mask) = match case {
            0 => (12 + 3, 1),
            _ => (random(250_000), 1 << random(8)),
        };
        let (verdict, report) = judge_damage(case, &image, &log, Damage::Flip { position, mask }, &golden);
        assert!(
            report
                .problems
                .iter()
                .all(|p| p.file == log && p.position.is_some_and(|at| at <= position)),
            "{report:?}"
        );
        assert!(
            verdict.corrupt > 0 && !verdict.refused,
            "{position} {mask}: {verdict:?}"
        );
        assert!(verdict.corrupt < 40, "{position}: {verdict:?}");
        assert_eq!(verdict.corrupt + verdict.served, total);
    }
}

#[test]
fn an_intact_directory_verifies_and_a_locked_one_is_refused() {
    for clean in [true, false] {
        let (image, _) = disk(13, clean);
        world(1).with_disk(0, &image).block_on(0, move |env| async move {
            let found = report(&env).await;
            assert!(found.is_good() && found.notes.is_empty(), "clean {clean}: {found:?}");
            assert_eq!((found.partitions, found.batches), (2, 280));
            let _lock = env.lock(&Path::new(DATA).join(LOCK_FILE)).await.expect("free");
            let directory = store_options(0).directories[0].clone();
            let closed = VerifyOptions { closed_only: true };
            let found = verify(&env, &directory, closed, SURROUNDINGS, |_| ())
                .await
                .expect("closed segments");
            assert!(found.is_good() && found.segments >= 6, "{found:?}");
        });
    }
}

#[test]
fn a_sealed_directory_is_exact_and_serves_again() {
    for (seed, clean) in [(21, true), (22, false)] {
        let (image, golden) = disk(seed, clean);
        let world = world(seed).with_disk(0, &image);
        let golden = Rc::new(golden);
        let (sealed_golden, more) = (golden.clone(), golden.clone());
        world.block_on(0, move |env| async move {
            let directories = store_options(0).directories;
            let sealed = seal(&env, &directories, Path::new(MEMORY)).await.expect("sealed");
            assert_eq!((sealed.partitions, sealed.damaged), (2, 0));
            for (index, batches) in sealed_golden.iter().enumerate() {
                let mut logs = Vec::new();
                for (path, _) in files(&env).await {
                    let folder = Path::new(DATA).join(format!("topic-{index}"));
                    if path.starts_with(folder) && path.extension().is_some_and(|kind| kind == "log") {
                        logs.extend_from_slice(&read_file(&env, &path, 1 << 30).await.expect("read"));
                    }
                }
                let expected: Vec<u8> = batches.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
                assert!(logs == expected, "{index}: the logs are the batches and nothing else");
            }
            let found = report(&env).await;
            assert!(found.is_good(), "{found:?}");
        });
        // Power goes right after, and again after appends to the sealed segments.
        let image = world.disk_image(0).after_power_cut(LossMode::LoseAll, seed);
        let world = self::world(seed).with_disk(0, &image);
        world.block_on(0, move |env| async move {
            assert_eq!(judge(env.clone(), &more).await.corrupt, 0);
            let store = open(&env).await;
            for index in 0..PARTITIONS {
                let partition = open_partition(&store, index).await.expect("opens");
                let end = partition.high_watermark();
                for sequence in 140..170 {
                    let bytes = payload(index, sequence, 9_000);
                    partition.append(batch(7, sequence, &bytes)).await.expect("appended");
                }
                assert_eq!(partition.high_watermark(), end + 30);
            }
        });
        let image = world
            .disk_image(0)
            .after_kill(seed)
            .after_power_cut(LossMode::LoseAll, seed);
        self::world(seed)
            .with_disk(0, &image)
            .block_on(0, move |env| async move {
                assert_eq!(judge(env.clone(), &golden).await.corrupt, 0);
                let store = open(&env).await;
                for index in 0..PARTITIONS {
                    let partition = open_partition(&store, index).await.expect("opens");
                    assert_eq!(read_all(&partition).await.len(), 170);
                }
            });
    }
}

/// Topics by their ids and names.
struct Named(&'static [(TopicId, &'static str)]);

impl Topics for Named {
    fn wanted(&self, id: PartitionId) -> Wanted {
        match self.0.iter().any(|(topic, _)| *topic == id.topic) {
            true => Wanted::Yes,
            false => Wanted::Unknown,
        }
    }

    fn is_folder_of(&self, name: &str, id: PartitionId) -> bool {
        let mut named = self.0.iter().filter(|(topic, _)| *topic == id.topic);
        named.all(|(_, topic)| name == format!("{topic}-{}", id.index))
    }
}

/// A damaged `partition.metadata` and a topic that was made after another was deleted look alike, but for who knows which topics there are.
#[test]
fn a_folder_of_a_new_topic_is_not_taken_for_a_damaged_one() {
    let (image, _) = disk(13, true);
    const OWN: TopicId = TopicId([5; 16]);
    const OTHER: TopicId = TopicId([6; 16]);
    assert_eq!(partition_id(0).topic, OWN);
    let (file, directory) = (Path::new("/data/topic-1/partition.metadata"), Path::new(DATA));
    let sibling = Path::new("/data/topic-0/partition.metadata");
    let none: &[&Path] = &[];
    for (topics, problems, notes) in [
        (None, none, &[file][..]),
        (Some(&[(OWN, "topic")][..]), &[file], none),
        // The folder is that of a new topic, and those of the other one are gone or misnamed.
        (
            Some(&[(OWN, "other"), (OTHER, "topic")]),
            &[sibling, directory, directory],
            none,
        ),
        (Some(&[(OTHER, "topic")]), none, none),
        // Its folder would have another name.
        (Some(&[(OWN, "topic"), (OTHER, "other")]), &[file, directory], none),
    ] {
        let topics = topics.map(Named);
        let found = world(1).with_disk(0, &image).block_on(0, |env| async move {
            let directory = store_options(0).directories[0].clone();
            let metadata = directory.path.join("topic-1/partition.metadata");
            let text = format!("version: 0\ntopic_id: {OTHER}\n");
            replace_file(&env, &metadata, Bytes::from(text)).await.expect("written");
            for name in env.list(metadata.parent().expect("a folder")).await.expect("listed") {
                if name.name.ends_with(".sums") {
                    env.unlink(&metadata.with_file_name(name.name)).await.expect("removed");
                }
            }
            let surroundings = Surroundings {
                topics: topics.as_ref().map(|topics| topics as &dyn Topics),
                ..SURROUNDINGS
            };
            let report = verify(&env, &directory, VerifyOptions::default(), surroundings, |_| ());
            report.await.expect("not locked")
        });
        let told = |list: &[Problem]| -> Vec<PathBuf> {
            let is_of_folders = |one: &&Problem| {
                ["has no folder", "another name"]
                    .iter()
                    .any(|what| one.what.contains(what))
            };
            list.iter().filter(is_of_folders).map(|one| one.file.clone()).collect()
        };
        assert_eq!(told(&found.problems), problems, "{found:?}");
        assert_eq!(told(&found.notes), notes, "{found:?}");
    }
}
