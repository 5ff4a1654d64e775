//! The shell of the scrub: one task for a shard's part of a directory.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::ScrubOptions;
use super::plan::{Known, Throttle};
use crate::base::buffer::BLOCK_BYTES;
use crate::base::sync::race;
use crate::io::{Env, Monotonic, OpenOptions, is_exhausted, read_up_to};
use crate::metrics::ScrubMetrics;
use crate::storage::directory::ShardDirectory;
use crate::storage::journal::walk::{FileWalk, PIECE_BYTES};
use crate::storage::partition::Partition;
use crate::storage::segment::path_of;
use crate::storage::state::OwnFile;
use crate::storage::verify::{
    Checker, LogBytes, Pace, Problem, Report, verify_checkpoint, verify_closed, verify_described, verify_texts,
};

/// A start has other things to do first.
const BEGIN_AFTER_MS: u64 = 10_000;
/// How often a pass says where it is.
const PROGRESS_MS: u64 = 600_000;
/// While appends wait for the disk, and before what could not be opened is tried again.
const YIELD_MS: u64 = 100;

/// The scrub of one shard's part of one directory.
pub struct Pass<E: Env> {
    env: E,
    directory: Rc<ShardDirectory<E>>,
    metrics: Rc<ScrubMetrics>,
    throttle: Throttle,
    known: Known,
    /// Bytes read in this pass, and how many it will be, as far as one can tell.
    read_bytes: u64,
    all_bytes: u64,
    /// Of the piece of work at hand.
    counted_bytes: u64,
    problems: u64,
    tell_at: Monotonic,
}

impl<E: Env> Pass<E> {
    /// Goes over the directory again and again until its store stops.
    pub async fn run(env: E, directory: Rc<ShardDirectory<E>>, options: ScrubOptions, metrics: Rc<ScrubMetrics>) {
        let share = options.bytes_per_second / directory.shards() as u64;
        let mut begin_at = env.now().plus_ms(BEGIN_AFTER_MS.min(options.interval_ms));
        let mut pass = Self {
            throttle: Throttle::new(share.max(1), env.now()),
            env: env.clone(),
            directory: directory.clone(),
            metrics,
            known: Known::default(),
            read_bytes: 0,
            all_bytes: 0,
            counted_bytes: 0,
            problems: 0,
            tell_at: env.now(),
        };
        loop {
            while env.now() < begin_at && !directory.is_over() {
                race(directory.ending().notified(), env.sleep_until(begin_at)).await;
            }
            begin_at = env.now().plus_ms(options.interval_ms.max(1));
            if directory.is_over() || pass.once().await.is_err() {
                return;
            }
        }
    }

    /// One pass. Error: the store stops.
    async fn once(&mut self) -> io::Result<()> {
        let mut members = self.directory.members();
        let first = self.env.random() as usize % members.len().max(1);
        members.rotate_left(first);
        (self.read_bytes, self.problems) = (0, 0);
        self.all_bytes = members.iter().map(|member| member.stored_bytes()).sum();
        self.tell_at = self.env.now().plus_ms(PROGRESS_MS);
        let began = self.env.now();
        let members: Vec<_> = members.iter().map(Rc::downgrade).collect();
        // A partition that is deleted meanwhile is not kept by this list.
        for member in members {
            if let Some(partition) = member.upgrade().filter(|partition| partition.is_readable()) {
                self.partition(&partition).await?;
            }
        }
        self.files_at_the_top().await?;
        self.metrics.passes.add(1);
        tracing::info!(
            directory = %self.directory.path().display(), bytes = self.read_bytes, problems = self.problems,
            took_ms = self.env.now().ms_since(began), "scrubbed"
        );
        Ok(())
    }

    async fn partition(&mut self, partition: &Rc<Partition<E>>) -> io::Result<()> {
        let folder = partition.folder().to_owned();
        let mut report = Report::default();
        let done = match verify_texts(&self.env, &folder, &mut report).await {
            Ok(topic) if topic != Some(partition.id().topic) => {
                let what = "does not name the partition's topic, or is missing";
                report.problem(&folder.join("partition.metadata"), None, what);
                Ok(())
            }
            done => done.map(drop),
        };
        self.judge(done, report, &folder, || partition.is_readable()).await?;
        let mut from = 0;
        while let Some(segment) = partition.closed_from(from) {
            let (base, next) = (segment.base, segment.next_offset);
            let mut report = Report::default();
            let (env, id) = (self.env.clone(), partition.id());
            let done = verify_closed(&env, &folder, id, base, next, false, &mut report, self).await;
            self.metrics.segments.add(1);
            let path = path_of(&folder, base, "log");
            self.judge(done, report, &path, || {
                partition.closed_from(base).is_some_and(|s| s.base == base)
            })
            .await?;
            from = next;
        }
        for base in partition.open_bases() {
            self.open_segment(partition, &folder, base).await?;
        }
        Ok(())
    }

    /// A segment that takes appends or is still being finished.
    async fn open_segment(&mut self, partition: &Rc<Partition<E>>, folder: &Path, base: i64) -> io::Result<()> {
        let Some(state) = partition.described(base) else {
            return Ok(());
        };
        let path = path_of(folder, base, "log");
        let (env, mut report) = (self.env.clone(), Report::default());
        let pieces = vec![(state.stored, state.tail.clone())];
        let done = match LogBytes::open(&env, path.clone(), pieces).await {
            Ok(log) => {
                let mut checker = Checker::new(folder, base);
                let verified = verify_described(&env, folder, &state, &log, &mut checker, &mut report, self).await;
                verified.map(drop)
            }
            Err(error) => Err(error),
        };
        self.judge(done, report, &path, || {
            partition.is_readable() && partition.ends().log_start < state.boundary.offset
        })
        .await
    }

    /// The checkpoints and journals that the next start would read; shard 0 has the directory's base.
    async fn files_at_the_top(&mut self) -> io::Result<()> {
        let (path, start, shard) = (
            self.directory.path().to_owned(),
            self.directory.generation(),
            self.directory.shard() as u64,
        );
        let names = match self.env.list(&path).await {
            Ok(entries) => entries.into_iter().map(|entry| entry.name),
            Err(error) => return self.judge(Err(error), Report::default(), &path, || true).await,
        };
        for name in names {
            let Some(file) = OwnFile::parse(&name).filter(|file| file.start() == start) else {
                continue;
            };
            let (owner, is_journal) = match file {
                OwnFile::Base { .. } => (0, false),
                OwnFile::Shard { shard, .. } => (shard, false),
                OwnFile::Journal { shard, .. } => (shard, true),
            };
            if owner != shard {
                continue;
            }
            let mut report = Report::default();
            let (env, directory) = (self.env.clone(), self.directory.clone());
            let done = match is_journal {
                true => self.journal(&path.join(&name), &mut report).await,
                false => verify_checkpoint(&env, directory.place(), &name, &mut report).await,
            };
            // Checkpoints go while newer ones come, and journal files get other names.
            let done = done.or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            self.turn(&report).await?;
            self.judge(done, report, &path.join(&name), || true).await?;
        }
        Ok(())
    }

    /// A journal's file. It may be written to while it is read, or used anew: what is found is damage if it is found twice, under one
    /// header.
    async fn journal(&mut self, path: &Path, report: &mut Report) -> io::Result<()> {
        let first = self.walk_journal(path, report).await?;
        if first.is_none() {
            return Ok(());
        }
        self.env.sleep_until(self.env.now().plus_ms(YIELD_MS)).await;
        let second = self.walk_journal(path, report).await?;
        if let (Some(damage), true) = (&second, first == second) {
            report.problem(path, damage.position, damage.what.clone());
        }
        Ok(())
    }

    async fn walk_journal(&mut self, path: &Path, report: &mut Report) -> io::Result<Option<JournalDamage>> {
        let file = self.env.open(path, OpenOptions::READ_DIRECT).await?;
        let bytes = self.env.size(&file).await?;
        let block = read_up_to(&self.env, &file, 0, BLOCK_BYTES).await?;
        report.bytes += block.len() as u64;
        let damage = |salt, position, what: &str| {
            Some(JournalDamage {
                salt,
                position,
                what: what.into(),
            })
        };
        let Some(mut walk) = FileWalk::begin(&block) else {
            return Ok(damage(0, 0, "its header does not verify"));
        };
        let header = *walk.header();
        if header.file_bytes != bytes {
            return Ok(damage(header.salt, bytes, "it is not as long as its header says"));
        }
        let mut at = walk.position();
        while at < bytes {
            let piece = read_up_to(&self.env, &file, at, PIECE_BYTES.min((bytes - at) as usize)).await?;
            if piece.is_empty() {
                break;
            }
            match walk.take(&piece, at) {
                Ok(next) => {
                    report.bytes += next - at;
                    at = next;
                }
                Err(expected) => {
                    let what = format!("expected {expected}");
                    return Ok(damage(header.salt, walk.position(), &what));
                }
            }
            self.turn(report).await?;
        }
        Ok(None)
    }

    /// Tells what was found in files that still count, as `is_there` says.
    async fn judge(
        &mut self,
        done: io::Result<()>,
        report: Report,
        path: &Path,
        is_there: impl Fn() -> bool,
    ) -> io::Result<()> {
        self.counted_bytes = 0;
        let mut problems = report.problems;
        match done {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) if is_exhausted(&error) => {
                self.env.sleep_until(self.env.now().plus_ms(YIELD_MS)).await;
            }
            Err(error) => problems.push(unreadable(path.to_owned(), &error)),
            Ok(()) => {}
        }
        if !is_there() {
            return Ok(());
        }
        for problem in &problems {
            self.problems += 1;
            if self.known.is_news(problem) {
                self.metrics.problems.add(1);
                tracing::error!(file = %problem.file.display(), position = problem.position, what = problem.what, "the scrub found damage");
            }
        }
        Ok(())
    }
}

/// Where a journal's file is bad, and in which use of it.
#[derive(PartialEq, Eq)]
struct JournalDamage {
    salt: u64,
    position: u64,
    what: String,
}

fn unreadable(file: PathBuf, error: &io::Error) -> Problem {
    Problem {
        file,
        position: None,
        what: format!("cannot be read: {error}"),
    }
}

impl<E: Env> Pace for Pass<E> {
    async fn turn(&mut self, report: &Report) -> io::Result<()> {
        let bytes = report.bytes - self.counted_bytes;
        self.counted_bytes = report.bytes;
        self.read_bytes += bytes;
        self.metrics.bytes.add(bytes);
        if self.env.now() >= self.tell_at {
            self.tell_at = self.env.now().plus_ms(PROGRESS_MS);
            tracing::info!(
                directory = %self.directory.path().display(), bytes = self.read_bytes, of = self.all_bytes,
                problems = self.problems, "scrubbing"
            );
        }
        let mut wait = self.throttle.read(bytes, self.env.now());
        loop {
            if self.directory.is_over() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match wait.filter(|until| *until > self.env.now()) {
                Some(until) => {
                    race(self.directory.ending().notified(), self.env.sleep_until(until)).await;
                }
                None if self.directory.is_behind() => wait = Some(self.env.now().plus_ms(YIELD_MS)),
                None => return Ok(()),
            }
        }
    }
}
