//! The `ringtail` command: starts a broker, and the client commands that work against any Kafka broker.
//!
//! Results go to standard output, readable or with `--json` for programs; what happens meanwhile goes to standard error.
//! Every failure is one line and an exit code (`failure::ExitReason`, shown by `ringtail help`).
//!
//! Invariants
//! 1. A command that failed never exits with 0, nor prints a result that looks whole (`run` is the only place that exits).
//! 2. Standard output holds results only (`output::Output` is the one writer; logs and progress use standard error).
//!
//! Not for: what the commands do, which is `client`, `shard` and `storage`.

pub mod json;

mod check;
mod consume;
mod failure;
mod format;
mod lines;
mod log;
mod output;
mod produce;
mod session;
mod start;
mod table;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::base::planted;

#[derive(Parser)]
#[command(name = "ringtail", version, about = "A Kafka-compatible log broker for Linux", after_help = failure::EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a broker until SIGTERM or SIGINT.
    Start(start::Start),
    /// Creates, lists, describes, changes and deletes topics.
    Topic(topic::Topic),
    /// Writes the lines of standard input to a topic.
    Produce(produce::Produce),
    /// Prints the records of a topic.
    Consume(consume::Consume),
    /// Tells whether this machine can run a broker, and what to do where it cannot.
    Check(check::Check),
    /// Verifies and seals the log directory of a stopped broker.
    Log(log::Log),
}

/// Parses the arguments, runs the command, and gives the exit code.
pub fn run() -> ExitCode {
    planted::choose();
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Start(command) => command.run(),
        Command::Topic(command) => command.run(),
        Command::Produce(command) => command.run(),
        Command::Consume(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Log(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
