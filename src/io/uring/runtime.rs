//! Starting and ending shards: one pinned thread with one glommio executor each.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::UringEnv;
use super::machine::{announce_barriers, cpus, take_short_turns};
use super::pipes::Pipes;
use super::stop::{Signals, Stop};
use super::workers::Workers;

/// Where a shard runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardPlacement {
    /// The CPU it is pinned to, or `None` for any.
    pub cpu: Option<usize>,
}

impl ShardPlacement {
    /// One shard on each of the first `count` CPUs of the affinity mask; beyond those, unpinned.
    pub fn first(count: usize) -> Vec<Self> {
        let mut cpus = cpus().into_iter();
        (0..count).map(|_| Self { cpu: cpus.next() }).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Directories that get a thread of their own for calls that block; paths are compared as spelled.
    pub directories: Vec<PathBuf>,
    /// How long an idle shard looks for work before it sleeps. `None`: 20 µs where there is a core to spare, else 0.
    pub spin: Option<Duration>,
    /// Submission slots of each ring; completions get four times as many.
    pub ring_entries: u32,
    /// Memory that each glommio executor locks for itself; the data path does not use it.
    pub executor_memory_bytes: usize,
    /// Whether SIGTERM and SIGINT request the stop (a second one ends the process at once).
    pub signals: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            directories: Vec::new(),
            spin: None,
            ring_entries: 1024,
            executor_memory_bytes: 1 << 20,
            signals: false,
        }
    }
}

/// What all shards of a run share.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) options: Options,
    pub(super) spin: Duration,
    pub(super) workers: Arc<Workers>,
    pub(super) pipes: Arc<Pipes>,
    pub(super) stop: Stop,
}

impl Run {
    fn new(options: Options, shards: usize) -> io::Result<Self> {
        announce_barriers();
        let spares_a_core = shards + 1 < cpus().len();
        let spin_default = Duration::from_micros(if spares_a_core { 20 } else { 0 });
        Ok(Self {
            spin: options.spin.unwrap_or(spin_default),
            workers: Workers::start(&options.directories)?,
            pipes: Arc::default(),
            stop: Stop::default(),
            options,
        })
    }

    fn executor(&self, placement: ShardPlacement) -> io::Result<LocalExecutor> {
        let placement = placement.cpu.map_or(Placement::Unbound, Placement::Fixed);
        LocalExecutorBuilder::new(placement)
            .io_memory(self.options.executor_memory_bytes)
            .make()
            .map_err(|error| io::Error::other(format!("glommio: {error}")))
    }

    /// Runs one shard on the calling thread, to the end of `main` and of all writes in flight.
    fn shard<T, Fut>(&self, placement: ShardPlacement, main: impl FnOnce(UringEnv) -> Fut) -> io::Result<T>
    where
        Fut: Future<Output = T> + 'static,
        T: 'static,
    {
        let _guard = StopOnFailure(&self.stop);
        take_short_turns();
        let executor = self.executor(placement)?;
        let outcome: io::Result<_> = executor.run(async {
            let (env, driver) = UringEnv::start(self)?;
            let result = env.run_main(main(env.clone())).await;
            let finished = env.finish(driver).await;
            // A panic tells more than the failure that may come of it.
            if result.is_ok() {
                finished?;
            }
            Ok(result)
        });
        // Before a panic goes on: it must not unwind through the executor.
        drop(executor);
        outcome?.or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A shard that unwinds asks the others to stop, so that the run ends.
struct StopOnFailure<'a>(&'a Stop);

impl Drop for StopOnFailure<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.request();
        }
    }
}

/// Runs `main` on every shard, each on its own thread, and waits for all. A shard that fails or panics requests the stop
/// of the others; the first such failure is the error.
pub fn run<F, Fut, T>(shards: Vec<ShardPlacement>, options: Options, main: F) -> io::Result<Vec<T>>
where
    F: Fn(UringEnv, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let stop = Stop::default();
    let _signals = options.signals.then(|| Signals::watch(stop.clone())).transpose()?;
    let run = Run {
        stop: stop.clone(),
        ..Run::new(options, shards.len())?
    };
    let mut threads = Vec::with_capacity(shards.len());
    for (index, placement) in shards.into_iter().enumerate() {
        let (run, main) = (run.clone(), main.clone());
        let body = move || {
            let result = run.shard(placement, |env| main(env, index));
            if result.is_err() {
                run.stop.request();
            }
            result
        };
        let spawned = std::thread::Builder::new()
            .name(format!("ringtail-{index}"))
            .spawn(body);
        if spawned.is_err() {
            stop.request();
        }
        threads.push(spawned);
    }
    // All are joined before the first failure is looked at.
    let results: Vec<io::Result<T>> = threads
        .into_iter()
        .enumerate()
        .map(|(index, thread)| match thread?.join() {
            Ok(result) => result,
            Err(panic) => Err(explain_panic(index, &*panic)),
        })
        .collect();
    run.workers.stop();
    results.into_iter().collect()
}

fn explain_panic(index: usize, panic: &(dyn std::any::Any + Send)) -> io::Error {
    let word = panic.downcast_ref::<&str>().copied();
    let word = word.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    io::Error::other(format!("shard {index} panicked: {}", word.unwrap_or("without a word")))
}

/// Runs `main` on one unpinned executor on the calling thread: for clients and commands.
pub fn run_one<F, Fut, T>(options: Options, main: F) -> io::Result<T>
where
    F: FnOnce(UringEnv) -> Fut,
    Fut: Future<Output = T> + 'static,
    T: 'static,
{
    let stop = Stop::default();
    let _signals = options.signals.then(|| Signals::watch(stop.clone())).transpose()?;
    let run = Run {
        stop,
        ..Run::new(options, 1)?
    };
    let result = run.shard(ShardPlacement::default(), main);
    run.workers.stop();
    result
}
