//! The ceiling of receiving: one shard that reads and forgets, fed by the sender of the produce load.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use clap::Args;
use ringtail::base::sync::{join_all, race};
use ringtail::io::uring::{Options, ShardPlacement, UringEnv, run};
use ringtail::io::{Env, Monotonic, Queue, send_all};

use crate::load::share;
use crate::produce::{BatchShape, batch};
use crate::report::{Report, Tally};

/// Frames that one send gathers, as in the produce load.
const GATHER: usize = 16;

#[derive(Args, Clone)]
pub struct Sink {
    #[command(flatten)]
    shape: BatchShape,
    #[arg(long, short, default_value_t = 4)]
    connections: usize,
    /// Threads that send, on the CPUs behind the first; that one is the sink's.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// What one receive has room for.
    #[arg(long, default_value_t = 256 << 10)]
    receive_bytes: usize,
    #[arg(long)]
    json: bool,
}

impl Sink {
    pub fn run(self) -> Result<(), String> {
        let shards = ShardPlacement::first(1 + self.threads.max(1));
        let address: Arc<OnceLock<SocketAddr>> = Arc::default();
        let options = self.clone();
        let main = move |env: UringEnv, index: usize| {
            let (options, address) = (options.clone(), address.clone());
            async move {
                let done = match index {
                    0 => options.receive(&env, &address).await,
                    _ => options.send(&env, index - 1, &address).await.map(|()| 0),
                };
                done.map_err(|error| error.to_string())
            }
        };
        let results = run(
            shards,
            Options {
                signals: true,
                ..Options::default()
            },
            main,
        )
        .map_err(|error| error.to_string())?;
        let mut tally = Tally::default();
        for bytes in results {
            tally.bytes += bytes?;
        }
        let parameters = vec![
            ("connections", self.connections.into()),
            ("threads", self.threads.into()),
            ("batch_bytes", batch(&self.shape, 0)?.len().into()),
            ("receive_bytes", self.receive_bytes.into()),
        ];
        let report = Report {
            workload: "sink",
            parameters,
            seconds: self.seconds,
            tally,
            broker_cpu_seconds: None,
            client_cpu_seconds: ringtail::io::uring::process_cpu_seconds(),
        };
        report.print(self.json);
        Ok(())
    }

    /// Accepts and reads for the measured time, counted from the first connection; gives the bytes.
    async fn receive(&self, env: &UringEnv, address: &OnceLock<SocketAddr>) -> std::io::Result<u64> {
        let listener = env.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let _ = address.set(env.local_address(&listener)?);
        let total = Rc::new(Cell::new(0u64));
        let mut streams = Vec::new();
        for _ in 0..self.connections {
            let (stream, _) = env.accept(&listener).await?;
            streams.push(stream.clone());
            let (env, total, room) = (env.clone(), total.clone(), self.receive_bytes);
            env.clone().spawn(Queue::Foreground, async move {
                let mut buffer = BytesMut::with_capacity(room);
                loop {
                    let (received, back) = env.receive(&stream, buffer).await;
                    buffer = back;
                    match received {
                        Ok(0) | Err(_) => return,
                        Ok(received) => total.set(total.get() + received as u64),
                    }
                    buffer.clear();
                }
            });
        }
        let before = total.get();
        let end = Monotonic(env.now().0 + (self.seconds * 1e9) as u64);
        race(env.sleep_until(end), env.stop().requested()).await;
        let bytes = total.get() - before;
        streams.iter().for_each(|stream| env.shutdown(stream));
        Ok(bytes)
    }

    async fn send(&self, env: &UringEnv, index: usize, address: &OnceLock<SocketAddr>) -> std::io::Result<()> {
        let address = loop {
            match address.get() {
                Some(address) => break *address,
                None if env.stop().is_requested() => return Ok(()),
                None => env.sleep_until(env.now().plus_ms(1)).await,
            }
        };
        let batch = batch(&self.shape, env.wall_ms()).map_err(std::io::Error::other)?;
        let mut streams = Vec::new();
        for _ in share(self.connections, index, self.threads) {
            streams.push(env.connect(address).await?);
        }
        let sending = streams.iter().map(|stream| async {
            // The sink ends the connections when it has measured.
            while send_all(env, stream, vec![batch.clone(); GATHER]).await.is_ok() {}
        });
        join_all(sending.collect()).await;
        Ok(())
    }
}
