//! The ceiling of writing: O_DIRECT writes into files whose blocks were allocated in growing steps, by turns, as segments are.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use clap::Args;
use ringtail::base::buffer::{AlignedBuf, BLOCK_BYTES};
use ringtail::base::sync::join_all;
use ringtail::io::uring::{Options, UringEnv, process_cpu_seconds, run_one};
use ringtail::io::{Durability, Env, OpenOptions, write_all_at};

use crate::report::{Report, Tally};

/// The steps in which a segment's blocks are allocated: doubling between these.
const EXTEND_BYTES_MIN: u64 = 64 << 10;
const EXTEND_BYTES_MAX: u64 = 32 << 20;

#[derive(Args, Clone)]
pub struct Device {
    /// Where to write; the files are removed afterwards.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Bytes of a write, rounded up to whole blocks.
    #[arg(long, default_value_t = 16 << 10)]
    write_bytes: usize,
    /// Files written side by side.
    #[arg(long, default_value_t = 16)]
    files: usize,
    /// Writes in flight to each.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// Bytes to write in all.
    #[arg(long, default_value_t = 4 << 30)]
    bytes: u64,
    /// Every write is on the device before it counts (RWF_DSYNC).
    #[arg(long)]
    durable: bool,
    #[arg(long)]
    json: bool,
}

impl Device {
    pub fn run(self) -> Result<(), String> {
        let directory = self.directory.join(format!("ringtail-bench-{}", std::process::id()));
        let options = Options {
            directories: vec![directory.clone()],
            signals: true,
            ..Options::default()
        };
        let work = self.clone();
        let measured = run_one(options, |env| async move {
            env.create_directory(&directory)
                .await
                .map_err(|error| format!("{}: {error}", directory.display()))?;
            let measured = work
                .measure(&env, &directory)
                .await
                .map_err(|error| format!("{}: {error}", directory.display()));
            let cleared = work.clear(&env, &directory).await;
            cleared.map_err(|error| format!("{}: {error}", directory.display()))?;
            measured
        });
        let (tally, seconds) = measured.map_err(|error| error.to_string())??;
        let parameters = vec![
            ("write_bytes", self.write_bytes.next_multiple_of(BLOCK_BYTES).into()),
            ("files", self.files.into()),
            ("in_flight", self.in_flight.into()),
            ("durable", self.durable.into()),
        ];
        let report = Report {
            workload: "device",
            parameters,
            seconds,
            tally,
            broker_cpu_seconds: None,
            client_cpu_seconds: process_cpu_seconds(),
        };
        report.print(self.json);
        Ok(())
    }

    fn file(directory: &Path, index: usize) -> PathBuf {
        directory.join(format!("{index:04}.log"))
    }

    async fn measure(&self, env: &UringEnv, directory: &Path) -> std::io::Result<(Tally, f64)> {
        let mut files = Vec::new();
        for index in 0..self.files.max(1) {
            files.push(
                env.open(&Self::file(directory, index), OpenOptions::CREATE_DIRECT)
                    .await?,
            );
        }
        let each = self.bytes / files.len() as u64;
        let (mut allocated, mut step) = (0, EXTEND_BYTES_MIN);
        while allocated < each {
            for file in &files {
                env.allocate(file, allocated, step).await?;
            }
            allocated += step;
            step = (step * 2).min(EXTEND_BYTES_MAX);
        }
        let began = env.now();
        let positions: Vec<Cell<u64>> = files.iter().map(|_| Cell::new(0)).collect();
        let writers = files.iter().zip(&positions).flat_map(|(file, position)| {
            (0..self.in_flight.max(1)).map(move |_| self.write(env, file, position, each))
        });
        let mut tally = Tally::default();
        for written in join_all(writers.collect()).await {
            tally.merge(&written?);
        }
        Ok((tally, (env.now().0 - began.0) as f64 / 1e9))
    }

    /// One of the writers of a file, until it holds `bytes`.
    async fn write(
        &self,
        env: &UringEnv,
        file: &<UringEnv as Env>::File,
        position: &Cell<u64>,
        bytes: u64,
    ) -> std::io::Result<Tally> {
        let mut buffer = AlignedBuf::new(self.write_bytes);
        let capacity = buffer.capacity();
        buffer.set_len(capacity);
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = (index * 31) as u8;
        }
        let data = buffer.freeze();
        let durability = if self.durable {
            Durability::Device
        } else {
            Durability::Cached
        };
        let mut tally = Tally::default();
        while position.get() + capacity as u64 <= bytes && !env.stop().is_requested() {
            let at = position.replace(position.get() + capacity as u64);
            let began = env.now();
            write_all_at(env, file, data.clone(), at, durability).await?;
            tally.add(env.now().0 - began.0, 0, capacity as u64);
        }
        Ok(tally)
    }

    async fn clear(&self, env: &UringEnv, directory: &Path) -> std::io::Result<()> {
        for index in 0..self.files.max(1) {
            match env.unlink(&Self::file(directory, index)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        env.remove_directory(directory).await
    }
}
