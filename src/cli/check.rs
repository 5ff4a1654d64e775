//! `ringtail check`: what a broker needs of this machine, and the command that mends what is missing.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;

use crate::base::buffer::{AlignedBuf, BLOCK_BYTES};
use crate::io::uring::{self, Options, UringEnv, limits};
use crate::io::{Durability, Env, OpenOptions, write_all_at};
use crate::storage::is_passing;

use super::failure::{ExitReason, Failure};
use super::json::Json;
use super::output::Output;
use super::table::Table;

/// The oldest kernel with all that the ring uses (DEFER_TASKRUN, SINGLE_ISSUER).
const KERNEL_MIN: (u32, u32) = (6, 1);
/// What each executor locks of memory.
const LOCKED_BYTES_MIN: u64 = 2 << 20;
const OPEN_FILES_GOOD: u64 = 65_536;
/// Free space of a log directory: a journal, and the default of `ringtail.reserve.bytes`.
const FREE_BYTES_GOOD: u64 = 1 << 30;
/// The least that `ringtail.memory.bytes` may be.
const ARENA_BYTES_MIN: u64 = 64 << 20;
/// Writes of the flush probe.
const FLUSHES: u32 = 20;

#[derive(Args)]
pub struct Check {
    /// Log directories to try; they are made if absent, as `ringtail start` would.
    #[arg(default_value = "./ringtail-data")]
    directories: Vec<PathBuf>,
    /// Where memory that outlives the broker is to lie (`ringtail.arena.dir`).
    #[arg(long, default_value = "/dev/shm")]
    arena: PathBuf,
    /// Prints for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Good,
    /// The broker runs, less well.
    Warning,
    Fatal,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Fatal => "FATAL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    pub what: String,
    pub verdict: Verdict,
    pub found: String,
    /// A command, or what to do.
    pub fix: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, verdict: Verdict, found: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = (verdict != Verdict::Good).then(|| fix.into());
        Self {
            what: what.into(),
            verdict,
            found: found.into(),
            fix,
        }
    }
}

impl Check {
    pub fn run(self) -> Result<(), Failure> {
        let mut findings = vec![kernel(), ring(), locked_memory(), open_files(), clock()];
        if findings[1].verdict != Verdict::Fatal {
            findings.extend(directory_findings(&self.directories, true));
            findings.extend(self.directories.iter().filter_map(|directory| in_memory(directory)));
            findings.extend(space_findings(&self.directories, &self.arena));
        }
        let mut out = Output::new();
        if self.json {
            out.line(Json::List(findings.iter().map(as_json).collect()))?;
        } else {
            let mut table = Table::new(&["CHECK", "VERDICT", "FOUND"]);
            for finding in &findings {
                table.row(vec![
                    finding.what.clone(),
                    finding.verdict.word().into(),
                    finding.found.clone(),
                ]);
            }
            out.line(table)?;
            for finding in &findings {
                if let Some(fix) = &finding.fix {
                    out.line(format!("\n{}: to fix it:\n    {fix}", finding.what))?;
                }
            }
        }
        out.finish()?;
        first_fatal(&findings)
    }
}

fn as_json(finding: &Finding) -> Json {
    Json::Object(vec![
        ("check", finding.what.as_str().into()),
        ("verdict", finding.verdict.word().to_lowercase().into()),
        ("found", finding.found.as_str().into()),
        ("fix", finding.fix.clone().into()),
    ])
}

fn first_fatal(findings: &[Finding]) -> Result<(), Failure> {
    match findings.iter().find(|finding| finding.verdict == Verdict::Fatal) {
        None => Ok(()),
        Some(finding) => {
            let fix = finding.fix.as_deref().unwrap_or_default();
            let message = format!("{}: {} (to fix it: {fix})", finding.what, finding.found);
            Err(Failure::new(ExitReason::Machine, message))
        }
    }
}

/// The checks without which a broker cannot start, for `ringtail start`: the first that fails.
pub fn preflight(directories: &[PathBuf]) -> Result<(), Failure> {
    first_fatal(&directory_findings(directories, false))
}

fn kernel() -> Finding {
    let release = limits::kernel_release().unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let verdict = if version >= KERNEL_MIN {
        Verdict::Good
    } else {
        Verdict::Fatal
    };
    Finding::new(
        "kernel",
        verdict,
        format!("Linux {release}"),
        "install a kernel of version 6.1 or newer",
    )
}

fn ring() -> Finding {
    ring_finding(uring::run_one(Options::default(), |_| std::future::ready(())))
}

fn ring_finding(tried: io::Result<()>) -> Finding {
    match (tried, limits::uring_disabled()) {
        (Ok(()), _) => Finding::new("io_uring", Verdict::Good, "a ring can be made", ""),
        (Err(error), Some(switch)) if switch > 0 => {
            let found = format!("disabled by kernel.io_uring_disabled={switch} ({error})");
            Finding::new(
                "io_uring",
                Verdict::Fatal,
                found,
                "sysctl -w kernel.io_uring_disabled=0",
            )
        }
        (Err(error), _) => {
            let fix = "allow io_uring_setup in the container's seccomp profile, and raise `ulimit -l`";
            Finding::new("io_uring", Verdict::Fatal, error.to_string(), fix)
        }
    }
}

fn shown(limit: u64) -> String {
    if limit == limits::UNLIMITED {
        "unlimited".into()
    } else {
        limit.to_string()
    }
}

fn locked_memory() -> Finding {
    let Ok(limit) = limits::locked_memory_bytes() else {
        return Finding::new(
            "locked memory",
            Verdict::Warning,
            "cannot be asked",
            "look at `ulimit -l`",
        );
    };
    let needed = LOCKED_BYTES_MIN.saturating_mul(uring::cpus().len() as u64);
    let verdict = if limit.now < needed {
        Verdict::Warning
    } else {
        Verdict::Good
    };
    let fix = "LimitMEMLOCK=infinity in the systemd unit, or `ulimit -l unlimited`";
    Finding::new("locked memory", verdict, format!("{} bytes", shown(limit.now)), fix)
}

fn open_files() -> Finding {
    let Ok(limit) = limits::open_files() else {
        return Finding::new("open files", Verdict::Warning, "cannot be asked", "look at `ulimit -n`");
    };
    let verdict = if limit.most < OPEN_FILES_GOOD {
        Verdict::Warning
    } else {
        Verdict::Good
    };
    let fix = "LimitNOFILE=1048576 in the systemd unit, or `ulimit -Hn 1048576`";
    Finding::new(
        "open files",
        verdict,
        format!("{} (used up to {})", shown(limit.now), shown(limit.most)),
        fix,
    )
}

fn clock() -> Finding {
    let source = limits::clock_source().unwrap_or_else(|_| "unknown".into());
    let slow = matches!(source.as_str(), "hpet" | "acpi_pm" | "jiffies");
    let verdict = if slow { Verdict::Warning } else { Verdict::Good };
    Finding::new(
        "clock source",
        verdict,
        source,
        "boot with clocksource=tsc if the CPU's is stable",
    )
}

/// Tries log directories: made, direct I/O, and with `flushes` the cost of one. A ring that cannot be made is the only finding.
fn directory_findings(directories: &[PathBuf], flushes: bool) -> Vec<Finding> {
    let owned = directories.to_owned();
    let tried = uring::run_one(Options::default(), |env| async move {
        let mut tried = Vec::new();
        for directory in owned {
            tried.push((probe(&env, &directory, flushes).await, directory));
        }
        tried
    });
    match tried {
        Ok(tried) => {
            let each = tried.into_iter();
            each.flat_map(|(probed, directory)| direct_io(&directory, probed))
                .collect()
        }
        Err(error) => vec![ring_finding(Err(error))],
    }
}

/// A log directory whose content no flush makes durable.
fn in_memory(directory: &Path) -> Option<Finding> {
    limits::is_in_memory(directory).ok().filter(|is| *is)?;
    Some(Finding::new(
        format!("file system of {}", directory.display()),
        Verdict::Warning,
        "memory (tmpfs): all of it is lost at power-off, whatever was acknowledged",
        "put log.dirs on a disk",
    ))
}

/// Free bytes where the broker writes.
fn space_findings(directories: &[PathBuf], arena: &Path) -> Vec<Finding> {
    let (owned, memory) = (directories.to_owned(), arena.to_owned());
    let asked = uring::run_one(Options::default(), |env| async move {
        let mut free = Vec::new();
        for directory in owned {
            free.push((env.free_bytes(&directory).await, directory));
        }
        (free, env.free_bytes(&memory).await)
    });
    let (free, memory) = match asked {
        Ok(asked) => asked,
        Err(error) => return vec![ring_finding(Err(error))],
    };
    let of = |what: String, free: io::Result<u64>, enough: u64, absent: Verdict, fix: &str| match free {
        Ok(bytes) => {
            let verdict = if bytes < enough {
                Verdict::Warning
            } else {
                Verdict::Good
            };
            Finding::new(what, verdict, format!("{} MiB free", bytes >> 20), fix)
        }
        Err(error) => Finding::new(what, absent, error.to_string(), fix),
    };
    let mut findings: Vec<Finding> = free
        .into_iter()
        .map(|(free, directory)| {
            let what = format!("space on {}", directory.display());
            let fix = "make space: below ringtail.reserve.bytes (512m) produce is refused";
            of(what, free, FREE_BYTES_GOOD, Verdict::Warning, fix)
        })
        .collect();
    let fix = "a tmpfs that this user may write to, named by ringtail.arena.dir";
    let what = format!("arena in {}", arena.display());
    findings.push(of(what, memory, ARENA_BYTES_MIN, Verdict::Fatal, fix));
    findings
}

fn direct_io(directory: &Path, probed: io::Result<Option<u64>>) -> Vec<Finding> {
    let what = format!("direct I/O on {}", directory.display());
    match probed {
        Ok(None) => vec![Finding::new(what, Verdict::Good, "works", "")],
        Ok(Some(flush_us)) => {
            let slow = flush_us > 20_000;
            let verdict = if slow { Verdict::Warning } else { Verdict::Good };
            let cost = Finding::new(
                format!("durable write to {}", directory.display()),
                verdict,
                format!("{flush_us} us for {BLOCK_BYTES} bytes"),
                "a device with power-loss protection, or ringtail.durability=written",
            );
            vec![Finding::new(what, Verdict::Good, "works", ""), cost]
        }
        // What is there can be served, and produce goes on when there is space.
        Err(error) if is_passing(&error) => {
            let fix = "make space: until then produce is refused";
            vec![Finding::new(what, Verdict::Warning, error.to_string(), fix)]
        }
        Err(error) => {
            let fix = "put log.dirs on a local ext4 or XFS file system that this user may write to";
            vec![Finding::new(what, Verdict::Fatal, error.to_string(), fix)]
        }
    }
}

/// Writes a block with O_DIRECT; with `flushes` the mean microseconds of a durable one.
async fn probe(env: &UringEnv, directory: &Path, flushes: bool) -> io::Result<Option<u64>> {
    match env.create_directory(directory).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let path = directory.join(format!(".ringtail-check-{}", std::process::id()));
    let tried = async {
        let file = env.open(&path, OpenOptions::CREATE_DIRECT).await?;
        let block: Bytes = {
            let mut block = AlignedBuf::new(BLOCK_BYTES);
            block.pad_to_block();
            block.set_len(BLOCK_BYTES);
            block.freeze()
        };
        write_all_at(env, &file, block.clone(), 0, Durability::Cached).await?;
        if !flushes {
            return Ok(None);
        }
        let began = env.now();
        for _ in 0..FLUSHES {
            write_all_at(env, &file, block.clone(), 0, Durability::Device).await?;
        }
        Ok(Some((env.now().0 - began.0) / 1000 / u64::from(FLUSHES)))
    };
    let tried = tried.await;
    let _ = env.unlink(&path).await;
    tried
}
