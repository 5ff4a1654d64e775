//! The `ringtail` binary.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ringtail::config::{BrokerConfig, Input, Machine, load};
use ringtail::io::uring;
use ringtail::shard::{Process, serve};

/// `ringtail start [--set key=value …]` until the commands have it; everything else is theirs.
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("start") {
        return ringtail::cli::run();
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = arguments.filter(|argument| argument != "--set").collect();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let machine = Machine {
        host_name: "localhost".into(),
        cpus: uring::cpus().len(),
        memory_bytes: uring::memory_bytes()?,
    };
    let loaded = load(Input {
        file: None,
        environment: std::env::vars(),
        arguments,
        machine,
    })?;
    loaded.warnings.iter().for_each(|warning| eprintln!("{warning}"));
    let options = uring::Options {
        directories: directories(&loaded.config),
        signals: true,
        ..Default::default()
    };
    let process: Arc<Process<uring::UringEnv>> = Process::new(loaded.config);
    let shards = uring::ShardPlacement::first(process.shards());
    let served = uring::run(shards, options, move |env, index| {
        let process = process.clone();
        async move {
            let served = serve(env.clone(), index, process, env.stop().requested()).await;
            if served.is_err() {
                env.stop().request();
            }
            served
        }
    })?;
    served.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(())
}

/// Every directory that is written to.
fn directories(config: &BrokerConfig) -> Vec<PathBuf> {
    let mut all = config.directories.data.clone();
    if !all.contains(&config.directories.metadata) {
        all.push(config.directories.metadata.clone());
    }
    all
}
