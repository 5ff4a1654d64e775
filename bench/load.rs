//! What all loads share: threads, connections, the measured time.

use std::cell::Cell;
use std::time::Duration;

use clap::Args;
use ringtail::base::sync::{Notify, race};
use ringtail::io::uring::{Options, ShardPlacement, UringEnv, process_cpu_seconds, run};
use ringtail::io::{Env, Monotonic};

use crate::report::{Report, Tally, cpu_seconds_of};

#[derive(Args, Clone)]
pub struct LoadOptions {
    /// Connections, spread over the brokers that lead partitions.
    #[arg(long, short, default_value_t = 4)]
    pub connections: usize,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Measured time.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Time under load before measuring begins.
    #[arg(long, default_value_t = 2.0)]
    pub warmup_seconds: f64,
    /// The broker's process on this machine, to tell its CPU time.
    #[arg(long)]
    pub broker_pid: Option<u32>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// When measuring begins and ends.
#[derive(Clone, Copy)]
pub struct Window {
    pub start: Monotonic,
    pub end: Monotonic,
}

impl Window {
    pub fn holds(&self, at: Monotonic) -> bool {
        at >= self.start && at < self.end
    }
}

/// What one thread brings back.
struct ThreadResult {
    outcome: Result<Tally, String>,
    /// From the start of measuring to its end, or to the end of the work when that came first.
    seconds: f64,
    broker_cpu_seconds: Option<f64>,
    client_cpu_seconds: f64,
}

fn nanoseconds(seconds: f64) -> u64 {
    Duration::from_secs_f64(seconds.clamp(0.0, 1e6)).as_nanos() as u64
}

impl LoadOptions {
    /// Runs `work` on every thread with its index and the window, and makes the report. `work` ends by itself soon after
    /// the window does, or before when it has no more to do.
    pub fn measure<F, Fut>(
        &self,
        workload: &'static str,
        parameters: Vec<(&'static str, ringtail::cli::json::Json)>,
        work: F,
    ) -> Result<Report, String>
    where
        F: Fn(UringEnv, usize, Window) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Tally, String>> + 'static,
    {
        let options = self.clone();
        let threads = vec![ShardPlacement::default(); self.threads.max(1)];
        let main = move |env: UringEnv, index: usize| {
            let (work, options) = (work.clone(), options.clone());
            async move { options.thread(env, index, work).await }
        };
        let results = run(
            threads,
            Options {
                signals: true,
                ..Options::default()
            },
            main,
        )
        .map_err(|error| error.to_string())?;
        let mut report = Report {
            workload,
            parameters,
            seconds: 0.0,
            tally: Tally::default(),
            broker_cpu_seconds: None,
            client_cpu_seconds: 0.0,
        };
        for result in results {
            report.tally.merge(&result.outcome?);
            report.seconds = report.seconds.max(result.seconds);
            report.broker_cpu_seconds = report.broker_cpu_seconds.or(result.broker_cpu_seconds);
            report.client_cpu_seconds = report.client_cpu_seconds.max(result.client_cpu_seconds);
        }
        Ok(report)
    }

    async fn thread<F, Fut>(self, env: UringEnv, index: usize, work: F) -> ThreadResult
    where
        F: Fn(UringEnv, usize, Window) -> Fut,
        Fut: Future<Output = Result<Tally, String>>,
    {
        let now = env.now();
        let start = Monotonic(now.0 + nanoseconds(self.warmup_seconds));
        let window = Window {
            start,
            end: Monotonic(start.0 + nanoseconds(self.seconds)),
        };
        let (over, ended) = (Cell::new(false), Notify::default());
        let watched = async {
            let broker = self.broker_pid.filter(|_| index == 0);
            race(env.sleep_until(window.start), ended.until(|| over.get())).await;
            let (own, before) = (process_cpu_seconds(), broker.map(cpu_seconds_of));
            race(env.sleep_until(window.end), ended.until(|| over.get())).await;
            let seconds = env.now().min(window.end).0.saturating_sub(window.start.0) as f64 / 1e9;
            let after = broker.map(cpu_seconds_of);
            let used = match (before, after) {
                (Some(Ok(before)), Some(Ok(after))) => Some(after - before),
                _ => None,
            };
            (seconds, used, process_cpu_seconds() - own)
        };
        let mut outcome = Err(String::new());
        let mut seen = (0.0, None, 0.0);
        let working = async {
            outcome = work(env.clone(), index, window).await;
            over.set(true);
            ended.notify();
        };
        let watching = async { seen = watched.await };
        both(working, watching).await;
        let (seconds, broker_cpu_seconds, client_cpu_seconds) = seen;
        ThreadResult {
            outcome,
            seconds,
            broker_cpu_seconds,
            client_cpu_seconds,
        }
    }
}

/// Runs two futures side by side to the end of both.
async fn both(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let mut a = std::pin::pin!(a);
    let mut b = std::pin::pin!(b);
    let (mut a_done, mut b_done) = (false, false);
    std::future::poll_fn(|cx| {
        a_done = a_done || a.as_mut().poll(cx).is_ready();
        b_done = b_done || b.as_mut().poll(cx).is_ready();
        if a_done && b_done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// Which of `count` things thread `index` of `threads` has.
pub fn share(count: usize, index: usize, threads: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(move |item| item % threads.max(1) == index)
}
