//! `ringtail-bench`: load over the Kafka protocol against any broker, or over Ringtail's own (`--native`), and the ceilings of this machine to hold it against.
//!
//! It runs on the same ring environment as the broker, with batches and requests encoded once, so that the client costs
//! little of what it measures. Latencies are taken from the time a request was meant to go out (no coordinated omission)
//! where a rate is given, and from its sending in the closed loop.

mod device;
mod fetch;
mod hostile;
mod load;
mod native;
mod pipe;
mod point;
mod probe;
mod produce;
mod report;
mod sink;
mod synth;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "ringtail-bench",
    version,
    about = "Load and ceilings for Kafka-compatible brokers"
)]
struct Arguments {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// Produces batches: at a fixed rate, or as fast as the answers come.
    Produce(produce::Produce),
    /// Fetches a topic: over and over, once, or following its producers.
    Fetch(fetch::Fetch),
    /// Attacks a broker: what it does to others is measured by a load beside it.
    Hostile(hostile::Hostile),
    /// Starts a broker, leaves it running and tells when it answered, acknowledged, and had acknowledged in every partition.
    Probe(probe::Probe),
    /// Asks for points of a log by lot, one at a time.
    Point(point::Point),
    /// Makes a partition of a stopped broker as long as wanted, in little space: for measuring alone.
    Synth(synth::Synth),
    /// Ceiling: bytes per second that a receive-only server on one shard takes from the same sender.
    Sink(sink::Sink),
    /// Ceiling: bare O_DIRECT writes into files that grow in the broker's steps.
    Device(device::Device),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().workload {
        Workload::Produce(workload) => workload.run(),
        Workload::Fetch(workload) => workload.run(),
        Workload::Hostile(workload) => workload.run(),
        Workload::Probe(workload) => workload.run(),
        Workload::Point(workload) => workload.run(),
        Workload::Synth(workload) => workload.run(),
        Workload::Sink(workload) => workload.run(),
        Workload::Device(workload) => workload.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ringtail-bench: {message}");
            ExitCode::FAILURE
        }
    }
}
