//! `ringtail log`: a stopped broker's data, verified and sealed.

use std::future::Future;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::{ExitReason, Failure};
use super::json::Json;
use super::output::Output;
use crate::cluster::{image_of, read_directory_id, verify_directory};
use crate::io::lock_when_free;
use crate::io::uring::{self, Options, UringEnv};
use crate::storage::verify::{Problem, Report, VerifyOptions};
use crate::storage::{LOCK_FILE, LogDirectory, Sealed, StorageError, seal};

/// The progress line changes after so many bytes.
const PROGRESS_BYTES: u64 = 64 << 20;

#[derive(Args)]
pub struct Log {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads every file of a stopped broker's log directories and names each byte that does not verify. Changes nothing.
    /// Exits with 1 when there is a problem.
    Verify(Verify),
    /// Cuts the active segments of a stopped broker's log directory to their exact length, so that Kafka's own tools read
    /// them. The broker starts from it as before.
    Seal(Seal),
}

#[derive(Args)]
struct Verify {
    /// All of log.dirs, or some: the one with the metadata log tells which topics there are.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Only segments that are over; a broker may be running.
    #[arg(long)]
    closed_only: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Seal {
    /// All of log.dirs, or one.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// ringtail.arena.dir: where a killed broker's memory is.
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    arena: PathBuf,
    #[arg(long)]
    json: bool,
}

impl Log {
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Verify(command) => command.run(),
            Command::Seal(command) => command.run(),
        }
    }
}

fn on_ring<T, F>(directories: &[PathBuf], work: impl FnOnce(UringEnv) -> F + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
{
    let options = Options {
        directories: directories.to_vec(),
        ..Options::default()
    };
    uring::run_one(options, work).map_err(|error| Failure::failed(format!("the ring: {error}")))?
}

async fn log_directory(env: &UringEnv, path: &Path) -> Result<LogDirectory, Failure> {
    match read_directory_id(env, path).await {
        Ok(id) => Ok(LogDirectory {
            path: path.to_owned(),
            id,
        }),
        Err(problem) => Err(Failure::new(ExitReason::DataUnusable, problem)),
    }
}

fn unusable(error: StorageError) -> Failure {
    Failure::new(ExitReason::DataUnusable, error)
}

impl Verify {
    fn run(self) -> Result<(), Failure> {
        let (paths, closed_only) = (self.directories.clone(), self.closed_only);
        let report = on_ring(&self.directories, move |env| async move {
            let shown = std::io::stderr().is_terminal();
            let mut next = PROGRESS_BYTES;
            let image = image_of(&env, &paths).await;
            let mut all = Report::default();
            for path in &paths {
                let progress = |report: &Report| {
                    if shown && report.bytes >= next {
                        next = report.bytes + PROGRESS_BYTES;
                        eprint!("\r{}: {} \x1b[K", path.display(), summary(report));
                    }
                };
                let options = VerifyOptions { closed_only };
                let report = verify_directory(&env, path, image.as_ref(), options, progress).await;
                if shown {
                    eprint!("\r\x1b[K");
                }
                all.add(report.map_err(unusable)?);
                next = PROGRESS_BYTES;
            }
            Ok(all)
        })?;
        let mut output = Output::new();
        if self.json {
            output.line(json(&report))?;
        } else {
            for problem in &report.problems {
                output.line(problem)?;
            }
            if report.problems_more > 0 {
                output.line(format_args!("… and {} more", report.problems_more))?;
            }
            for note in &report.notes {
                output.line(format_args!("note: {note}"))?;
            }
            output.line(summary(&report))?;
        }
        output.finish()?;
        match report.is_good() {
            true => Ok(()),
            false => Err(Failure::failed(format_args!(
                "{} problems",
                report.problems.len() as u64 + report.problems_more
            ))),
        }
    }
}

fn summary(report: &Report) -> String {
    format!(
        "{} partitions, {} segments, {} batches, {:.1} MB: {} problems",
        report.partitions,
        report.segments,
        report.batches,
        report.bytes as f64 / 1e6,
        report.problems.len() as u64 + report.problems_more
    )
}

fn json(report: &Report) -> Json {
    let problem = |problem: &Problem| {
        Json::Object(vec![
            ("file", problem.file.display().to_string().into()),
            ("position", problem.position.into()),
            ("what", problem.what.clone().into()),
        ])
    };
    Json::Object(vec![
        ("partitions", report.partitions.into()),
        ("segments", report.segments.into()),
        ("batches", report.batches.into()),
        ("files", report.files.into()),
        ("bytes", report.bytes.into()),
        ("problems", Json::list(report.problems.iter().map(problem))),
        ("problems_more", report.problems_more.into()),
        ("notes", Json::list(report.notes.iter().map(problem))),
    ])
}

impl Seal {
    fn run(self) -> Result<(), Failure> {
        let (paths, arena) = (self.directories.clone(), self.arena.clone());
        let sealed = on_ring(&self.directories, move |env| async move {
            let mut directories = Vec::new();
            let mut locks = Vec::new();
            for path in &paths {
                directories.push(log_directory(&env, path).await?);
                let lock = lock_when_free(&env, &path.join(LOCK_FILE)).await;
                locks.push(lock.map_err(|error| {
                    let message = format!("{}: a broker is running on it ({error})", path.display());
                    Failure::new(ExitReason::DataInUse, message)
                })?);
            }
            let sealed = seal(&env, &directories, &arena).await.map_err(unusable)?;
            drop(locks);
            Ok(sealed)
        })?;
        self.show(sealed)
    }

    fn show(&self, sealed: Sealed) -> Result<(), Failure> {
        let mut output = Output::new();
        if self.json {
            output.line(Json::Object(vec![
                ("partitions", sealed.partitions.into()),
                ("damaged", sealed.damaged.into()),
            ]))?;
        } else {
            output.line(format_args!("{} partitions sealed", sealed.partitions))?;
        }
        output.finish()?;
        match sealed.damaged {
            0 => Ok(()),
            damaged => Err(Failure::failed(format_args!(
                "{damaged} partitions are damaged and were left as they are"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{metadata_log_path, open_cluster};
    use crate::config::{Input, Machine, load};
    use crate::io::sim::{Options, SimEnv, World};

    fn verified(world: &World) -> Report {
        world.block_on(0, |env: SimEnv| async move {
            let path = PathBuf::from("/data");
            let report = verify_directory(&env, &path, None, VerifyOptions::default(), |_| ()).await;
            report.expect("nobody uses it")
        })
    }

    #[test]
    fn a_flipped_bit_in_the_metadata_log_is_told() {
        let world = World::new(1, Options::default());
        let bytes = world.block_on(0, |env: SimEnv| async move {
            let loaded = load(Input {
                file: None,
                environment: Vec::new(),
                arguments: &["log.dirs=/data".to_owned()],
                machine: Machine {
                    host_name: "broker".into(),
                    cpus: 1,
                    memory_bytes: 1 << 30,
                },
            });
            let opened = open_cluster(&env, &loaded.expect("good").config).await;
            opened.expect("a first start").log.room()
        });
        assert!(bytes > 0, "there are zeros behind its commits");
        let good = verified(&world);
        assert!(good.is_good() && good.notes.is_empty() && good.bytes > 0, "{good:?}");
        let path = metadata_log_path(Path::new("/data"));
        for position in [0, 20, 70, 100] {
            world.corrupt(0, &path, position, 4).expect("it is there");
            let report = verified(&world);
            assert!(report.problems.iter().any(|problem| problem.file == path), "{position}");
            world.corrupt(0, &path, position, 4).expect("it is there");
        }
        assert!(verified(&world).is_good());
    }
}
