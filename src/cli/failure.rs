//! How a command ends when it does not succeed.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::client::ClientError;

/// The exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong arguments or configuration; 3 this machine cannot run a broker;
4 the data is in use by another process; 5 the data directory cannot be used; 6 an address is in use.";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitReason {
    Failed = 1,
    /// Also what the argument parser exits with.
    Usage = 2,
    Machine = 3,
    DataInUse = 4,
    DataUnusable = 5,
    AddressInUse = 6,
}

/// One line for the user and the exit code.
#[derive(Debug)]
pub struct Failure {
    reason: ExitReason,
    /// Empty: nothing is to be said (the reader of standard output went away).
    message: String,
}

impl Failure {
    pub fn new(reason: ExitReason, message: impl fmt::Display) -> Self {
        Self {
            reason,
            message: message.to_string(),
        }
    }

    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(ExitReason::Usage, message)
    }

    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(ExitReason::Failed, message)
    }

    /// A failed write of results.
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::failed(""),
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }

    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("ringtail: {}", self.message);
        }
        ExitCode::from(self.reason as u8)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::failed(error)
    }
}
