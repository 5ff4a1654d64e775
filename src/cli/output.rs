//! Standard output and the progress line on standard error.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use crate::io::Monotonic;

use super::failure::Failure;

/// Buffered standard output. What was written is shown at the latest by `finish`.
pub struct Output {
    out: BufWriter<Stdout>,
}

impl Output {
    pub fn new() -> Self {
        Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
        }
    }

    pub fn line(&mut self, line: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::output)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(Failure::output)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::output)
    }

    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// How often the progress line changes.
const PROGRESS_MS: u64 = 500;

/// Counts records and bytes, and shows them on a terminal while results go elsewhere.
pub struct Progress {
    shown: bool,
    began: Monotonic,
    last: Monotonic,
    pub records: u64,
    pub bytes: u64,
}

impl Progress {
    /// `busy` says that the terminal shows results already.
    pub fn new(now: Monotonic, busy: bool) -> Self {
        Self {
            shown: io::stderr().is_terminal() && !busy,
            began: now,
            last: now,
            records: 0,
            bytes: 0,
        }
    }

    pub fn add(&mut self, now: Monotonic, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
        if self.shown && now.ms_since(self.last) >= PROGRESS_MS {
            self.last = now;
            eprint!("\r{}\x1b[K", self.summary(now));
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }

    pub fn seconds(&self, now: Monotonic) -> f64 {
        (now.0.saturating_sub(self.began.0)) as f64 / 1e9
    }

    pub fn summary(&self, now: Monotonic) -> String {
        let seconds = self.seconds(now).max(1e-9);
        let records = match self.records {
            1 => "1 record".to_owned(),
            records => format!("{records} records"),
        };
        if self.bytes < 1_000_000 {
            return format!("{records}, {} bytes in {:.0} ms", self.bytes, seconds * 1e3);
        }
        let megabytes = self.bytes as f64 / 1e6;
        format!(
            "{records}, {megabytes:.1} MB in {seconds:.1} s ({:.1} MB/s)",
            megabytes / seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_suits_its_size() {
        let mut progress = Progress::new(Monotonic(0), true);
        progress.add(Monotonic(1), 13);
        assert_eq!(progress.summary(Monotonic(2_400_000)), "1 record, 13 bytes in 2 ms");
        progress.add(Monotonic(1), 3_000_000);
        assert_eq!(
            progress.summary(Monotonic(1_500_000_000)),
            "2 records, 3.0 MB in 1.5 s (2.0 MB/s)"
        );
    }
}
