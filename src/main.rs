//! The `ringtail` binary.

use std::process::ExitCode;
use std::sync::Arc;

use ringtail::broker::Endpoint;
use ringtail::broker::limits::Limits;
use ringtail::io::uring;
use ringtail::shard::{ListenOn, Process, ProcessOptions, serve};
use ringtail::storage::{LogDirectory, StoreOptions};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let port = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .unwrap_or(9092);
    let shards = std::env::args()
        .nth(2)
        .and_then(|count| count.parse().ok())
        .unwrap_or(2);
    let process = Process::new(options(port, shards));
    let uring_options = uring::Options {
        signals: true,
        ..Default::default()
    };
    let served = uring::run(
        uring::ShardPlacement::first(shards),
        uring_options,
        move |env, index| {
            let process: Arc<Process<uring::UringEnv>> = process.clone();
            async move {
                let stop = env.stop().requested();
                let served = serve(env.clone(), index, process, stop).await;
                if served.is_err() {
                    env.stop().request();
                }
                served
            }
        },
    );
    match served.map(|shards| shards.into_iter().collect::<Result<Vec<()>, _>>()) {
        Ok(Ok(_)) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options(port: u16, shards: usize) -> ProcessOptions {
    ProcessOptions {
        shards,
        node_id: 1,
        rack: None,
        listeners: ["127.0.0.1", "::1"]
            .map(|host| ListenOn {
                host: host.into(),
                port,
                advertised: Endpoint {
                    host: "localhost".into(),
                    port,
                },
                listener: 0,
            })
            .into(),
        limits: Limits {
            partitions_default: 4,
            ..Limits::default()
        },
        store: StoreOptions {
            directories: vec![LogDirectory {
                path: "ringtail-data".into(),
                id: [1; 16],
            }],
            arena_directory: "/dev/shm".into(),
            memory_bytes: 0,
            journal_bytes: 64 << 20,
            reserve_bytes: 64 << 20,
            producer_expiration_ms: 86_400_000,
            shard: 0,
            shards,
        },
        memory_bytes: 1 << 30,
    }
}
