//! What became of a damaged disk: what is served, what the log and `log verify` say, what the scrub finds, what the files hold then.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use ringtail::broker::route::{EpochEnd, EpochQuery, Local, OffsetAt, OffsetQuery, PartitionError};
use ringtail::io::Env;
use ringtail::io::sim::{SimEnv, World};
use ringtail::metrics::ScrubMetrics;
use ringtail::storage::verify::{Report, Surroundings, VerifyOptions, verify};
use ringtail::storage::{Partition, ReadError, ScrubOptions};
use ringtail::wire::batch::BatchHeader;

use super::bases::{Base, Files, NO_RETENTION_MS, SHARDS, Stores, Truth, files_of, options_of, wanted};
use super::damage::{Touched, apply};
use super::rules;
use crate::model::{DATA, HOLDER, budgets, world};

/// What a start on the damaged disk came to.
#[derive(Default)]
pub struct Seen {
    /// The start said no, with these words.
    pub refused: Option<String>,
    /// So did partitions, or their reads.
    pub corrupt: usize,
    pub served: usize,
    /// Against the promise.
    pub wrong: Vec<String>,
    /// What was said: log lines, and reasons of refusals.
    pub told: String,
}

/// The verdict on one damage.
#[derive(Clone, Debug)]
pub enum Verdict {
    Detected,
    Harmless(&'static str),
    Undetected(String),
    Wrong(String),
}

/// A log that is read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs `work` and returns what it logged.
pub fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    let log = Log::default();
    let kept = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || kept.clone())
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .finish();
    let value = tracing::subscriber::with_default(subscriber, work);
    let text = log.0.lock().expect("nobody panics with it").clone();
    (value, String::from_utf8_lossy(&text).into_owned())
}

/// How a file is named so that nothing else is meant.
pub fn name_of(path: &Path) -> String {
    let own = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    match own.starts_with("ringtail-") || own == "meta.properties" {
        true => own.into_owned(),
        false => format!("{folder}/{own}"),
    }
}

pub fn names(report: &Report, path: &Path) -> bool {
    let name = name_of(path);
    report.problems.iter().any(|p| p.file == path || p.what.contains(&name))
}

async fn read_through(partition: &Rc<Partition<SimEnv>>, truth: &Truth, seen: &mut Seen) {
    let name = format!("{}-{}", truth.spec.topic_name, truth.spec.id.index);
    let mut at = truth.batches.iter().peekable();
    while let Some((offset, _)) = at.peek() {
        match partition.read(*offset, 200_000, true).await {
            Ok(slice) => {
                let bytes = slice.pieces.concat();
                let mut rest = &bytes[..];
                if rest.is_empty() {
                    seen.wrong.push(format!("{name}: nothing at {offset}"));
                    return;
                }
                while let Some(header) = BatchHeader::parse(rest).ok().filter(|_| !rest.is_empty()) {
                    let (whole, after) = rest.split_at(header.total_bytes().min(rest.len()));
                    match at.next() {
                        Some((base, known)) if known == whole && *base == header.base_offset() => seen.served += 1,
                        other => {
                            let expected = other.map(|(base, _)| *base);
                            let found = header.base_offset();
                            seen.wrong
                                .push(format!("{name}: {found} is served, {expected:?} is there"));
                            return;
                        }
                    }
                    rest = after;
                }
            }
            Err(ReadError::Corrupt) => {
                seen.corrupt += 1;
                at.next();
            }
            Err(error) => {
                seen.wrong.push(format!(
                    "{name}: offset {offset}: {error:?}, ends {:?}",
                    partition.ends()
                ));
                return;
            }
        }
    }
    for (offset, bytes) in truth.batches.iter().step_by(17) {
        let time = BatchHeader::parse(bytes).expect("a batch").max_timestamp();
        match partition.offset_for_time(HOLDER, time).await {
            Ok(Some(found)) if found.offset == *offset => {}
            Err(ReadError::Corrupt) => {}
            other => seen.wrong.push(format!("{name}: the time of {offset} gives {other:?}")),
        }
    }
    match (partition.max_timestamp(HOLDER).await, truth.batches.last()) {
        (Ok(Some(found)), Some((last, _))) if found.offset == *last => {}
        (Err(ReadError::Corrupt), _) | (Ok(None), None) => {}
        (other, _) => seen.wrong.push(format!("{name}: the latest of all is {other:?}")),
    }
}

/// What clients are told of a log's ends and epochs is what is true of them, and nothing where the log is damaged.
async fn ask_ends(local: &Local<SimEnv>, truth: &Truth, is_damaged: bool, seen: &mut Seen) {
    let id = truth.spec.id;
    let refused = is_damaged.then_some(PartitionError::Read(ReadError::Corrupt));
    let asked = [(OffsetAt::Earliest, truth.log_start), (OffsetAt::Latest, truth.end)];
    for (at, expected) in asked {
        let query = OffsetQuery {
            id,
            leader_epoch: -1,
            at,
        };
        let told = local
            .offsets(vec![query], HOLDER)
            .await
            .remove(0)
            .map(|told| told.offset);
        if told != refused.clone().map_or(Ok(expected), Err) {
            seen.wrong
                .push(format!("{}: {at:?} is told as {told:?}, it is {expected}", id.index));
        }
    }
    let headers = truth
        .batches
        .iter()
        .map(|(_, bytes)| BatchHeader::parse(bytes).expect("a batch"));
    let ends: BTreeMap<i32, i64> = headers
        .map(|header| (header.partition_leader_epoch(), header.next_offset()))
        .collect();
    for (epoch, end_offset) in ends {
        let query = EpochQuery {
            id,
            leader_epoch: -1,
            epoch,
        };
        let told = local.epochs(vec![query]).remove(0);
        if told != refused.clone().map_or(Ok(EpochEnd { epoch, end_offset }), Err) {
            seen.wrong.push(format!(
                "{}: epoch {epoch} is told as {told:?}, it ends at {end_offset}",
                id.index
            ));
        }
    }
}

async fn start(env: SimEnv, base: Rc<Base>) -> Seen {
    let mut seen = Seen::default();
    let stores = match Stores::open(&env, NO_RETENTION_MS).await {
        Ok(stores) => stores,
        Err(why) => {
            seen.told += &why;
            seen.refused = Some(why);
            return seen;
        }
    };
    for truth in &base.truth {
        match stores.partition(&truth.spec).await {
            Ok(partition) => {
                let store = &stores.shards[truth.spec.id.index as usize % SHARDS];
                let local = Local::new(env.clone(), store.clone(), Default::default(), budgets(64 << 20));
                ask_ends(&local, truth, partition.is_damaged(), &mut seen).await;
                read_through(&partition, truth, &mut seen).await;
            }
            Err(why) => {
                seen.told += &why;
                seen.corrupt += truth.batches.len();
            }
        }
    }
    scrub(&env, &stores).await;
    seen
}

/// A pass over everything.
async fn scrub(env: &SimEnv, stores: &Stores) {
    let metrics: Rc<ScrubMetrics> = Rc::default();
    let options = ScrubOptions {
        bytes_per_second: 1 << 40,
        interval_ms: 3_600_000,
    };
    for store in &stores.shards {
        store.scrub(options, &metrics);
    }
    while metrics.passes.value() < stores.shards.len() as u64 {
        env.sleep_until(env.now().plus_ms(100)).await;
    }
}

/// Does the damage to the base's disk and judges what comes of it.
pub fn judge(base: &Rc<Base>, touched: &[Touched], seed: u64) -> (Seen, Report, Verdict) {
    let world = world(seed).with_disk(0, &base.image);
    let doing = touched.to_vec();
    world.block_on(0, |env| async move { apply(&env, &doing).await });
    let report = world.block_on(0, |env| async move {
        let directory = options_of(0, NO_RETENTION_MS).directories[0].clone();
        let surroundings = Surroundings {
            is_file: |_| false,
            topics: Some(&wanted),
        };
        let report = verify(&env, &directory, VerifyOptions::default(), surroundings, |_| ());
        report.await.expect("not locked")
    });
    let before = files_of(&world.disk_image(0).after_kill(1), &[DATA]);
    let moving = base.clone();
    let (mut seen, log) = logged(|| world.block_on(0, |env| start(env, moving)));
    seen.told += &log;
    let after = files_of(&settled(&world), &[DATA]);
    let verdict = verdict(base, touched, &seen, &report, &before, &after);
    (seen, report, verdict)
}

fn settled(world: &World) -> ringtail::io::sim::DiskImage {
    world.disk_image(0).after_kill(1)
}

fn is_identity(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "meta.properties")
}

/// The log directory.
fn root_of(path: &Path) -> Option<&std::ffi::OsStr> {
    path.iter().nth(1)
}

/// What a start that was refused because of one directory changed in it. The others recover by themselves; that the directories have
/// other paths is a record of the metadata log.
fn changed_by_refusal<'a>(refused: &str, before: &'a Files, after: &Files) -> Option<&'a PathBuf> {
    let is_named = |path: &Path| {
        let root = root_of(path).unwrap_or_default().to_string_lossy();
        refused.contains(&format!("/{root}/")) || refused.contains(&format!("/{root}:"))
    };
    let names_one = before.keys().any(|path| is_named(path));
    let is_its_own = |path: &Path| is_named(path) || !names_one;
    let is_changed = |(path, content): &(&PathBuf, &Vec<u8>)| match after.get(*path) {
        Some(now) if path.ends_with("ringtail-metadata.log") => {
            let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            !now.starts_with(&content[..end])
        }
        now => now != Some(*content),
    };
    let mut kept = before.iter().filter(|(path, _)| is_its_own(path));
    kept.find(is_changed).map(|(path, _)| path)
}

pub fn verdict(
    base: &Base,
    touched: &[Touched],
    seen: &Seen,
    report: &Report,
    before: &Files,
    after: &Files,
) -> Verdict {
    if let Some(wrong) = seen.wrong.first() {
        return Verdict::Wrong(wrong.clone());
    }
    if let Some(refused) = &seen.refused
        && let Some(path) = changed_by_refusal(refused, before, after)
    {
        return Verdict::Wrong(format!("a refused start changed {path:?}"));
    }
    // Without the checkpoint nobody knows what is over, and so where else something is wrong.
    let lacks_base = touched
        .iter()
        .any(|touched| rules::type_of(&touched.path, &base.files) == "base checkpoint" && names(report, &touched.path));
    let mut harmless = None;
    let all = touched;
    for touched in all {
        if let Some(what) = rules::rewritten(base, touched, after, seen.refused.is_some()) {
            return Verdict::Wrong(what);
        }
        let rule = rules::harmless(base, touched, after);
        let is_told = |path: &Path| seen.told.contains(&name_of(path));
        let others = || all.iter().filter(|other| other.path != touched.path);
        let named = names(report, &touched.path)
            || others().any(|other| names(report, &other.path) && rules::covers(&other.path, &touched.path));
        let told = is_told(&touched.path)
            || others().any(|other| {
                // A partition whose end is damaged is not served.
                let is_end = rules::type_of(&other.path, &base.files) == "active .log";
                let same_folder = other.path.parent() == touched.path.parent();
                let covers = (is_end && same_folder) || rules::covers(&other.path, &touched.path);
                let is_wider = seen.refused.is_some() || covers;
                is_told(&other.path) && is_wider
            });
        match (rule, named, told) {
            (_, true, true) => {}
            // Of a file that is gone `log verify` may not know; a start that needs it does.
            (_, named, told) if touched.now.is_none() && (named || told) => {}
            // What the start has no more need of is gone then, and only `log verify` looks at it before.
            (_, true, false) if rules::is_superseded(&touched.path) => {}
            (Some(rule), ..) => harmless = Some(rule),
            // That two directories have one id is seen by who looks at both.
            (None, false, true) if is_identity(&touched.path) && seen.refused.is_some() => {}
            _ if lacks_base && seen.refused.is_some() => {}
            (None, true, false) => return Verdict::Undetected(format!("{touched}: not told by the broker")),
            (None, false, true) => return Verdict::Undetected(format!("{touched}: not told by log verify")),
            (None, false, false) => return Verdict::Undetected(format!("{touched}: told by nobody")),
        }
    }
    match harmless {
        // Of two files one may have been read.
        Some(rule) if touched.len() == 1 => Verdict::Harmless(rule),
        Some(rule) if seen.corrupt == 0 && seen.refused.is_none() && report.is_good() => Verdict::Harmless(rule),
        _ => Verdict::Detected,
    }
}
