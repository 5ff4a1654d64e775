//! Serves the disk to the kernel: reads requests from /dev/fuse on several threads, answers them, counts them.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use ringtail_faulty_disk::fuse::{self, Answer, Request};
use ringtail_faulty_disk::{Command, Device, Faults, Kind, Verdict};

/// The device and how it misbehaves: a request takes effect at one moment, under one lock.
pub struct Disk {
    state: Mutex<State>,
    /// A command has taken effect: who waits on a slow device may wait no longer.
    changed: Condvar,
}

struct State {
    device: Device,
    faults: Faults,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
    flushes: u64,
    failed: u64,
    cuts: u64,
    delayed: u64,
}

/// An error number of the kernel.
struct Errno(i32);

impl Disk {
    pub fn new(bytes: u64) -> Disk {
        Disk {
            state: Mutex::new(State {
                device: Device::new(bytes),
                faults: Faults::default(),
                counters: Counters::default(),
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }

    /// Obeys, and gives the answer.
    pub fn command(&self, command: Command) -> String {
        let answer = self.lock().command(command);
        self.changed.notify_all();
        answer
    }

    /// Answers the kernel until the file system is unmounted.
    pub fn serve(&self, kernel: &File) {
        let mut message = vec![0; fuse::REQUEST_BYTES_MAX];
        loop {
            let mut from: &File = kernel;
            let length = match from.read(&mut message) {
                Ok(length) => length,
                // Gone before it was read, or a signal: there is a next one.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Interrupted) => continue,
                Err(_) => return,
            };
            let Some((unique, request)) = fuse::decode(&message[..length]) else {
                continue;
            };
            if request == Request::Silent {
                continue;
            }
            let answer = self
                .answer(unique, request)
                .unwrap_or_else(|Errno(errno)| Answer::error(unique, errno));
            // A request that was given up takes no answer.
            let mut to: &File = kernel;
            drop(to.write(&answer));
        }
    }

    fn answer(&self, unique: u64, request: Request<'_>) -> Result<Vec<u8>, Errno> {
        let answer = Answer::new(unique);
        match request {
            Request::Init { read_ahead } => Ok(answer.init(read_ahead)),
            Request::Lookup(node) => {
                let node = node.ok_or(Errno(fuse::ENOENT))?;
                Ok(answer.entry(node, self.lock().device.bytes()))
            }
            Request::Attributes(node) => {
                let node = node.ok_or(Errno(fuse::ENOENT))?;
                Ok(answer.attributes(node, self.lock().device.bytes()))
            }
            Request::Open { is_folder } => Ok(answer.open(is_folder)),
            Request::Read(range) => self.read(answer, range),
            Request::Write(position, bytes) => self.write(answer, position, bytes),
            Request::Flush => self.flush(answer),
            Request::Nothing => Ok(answer.finish()),
            Request::Silent | Request::Unknown => Err(Errno(fuse::ENOSYS)),
        }
    }

    /// Waits as long as the device is slow, or until it is healed. What a request does, it does at the end of that.
    fn wait(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let delay = state.faults.delay();
        if delay == Duration::ZERO {
            return state;
        }
        state.counters.delayed += 1;
        let is_slow = |state: &mut State| state.faults.delay() != Duration::ZERO && !state.faults.is_off();
        let waited = self.changed.wait_timeout_while(state, delay, is_slow);
        waited.expect("no thread panics with the lock").0
    }

    fn read(&self, mut answer: Answer, range: Range<u64>) -> Result<Vec<u8>, Errno> {
        let mut state = self.wait();
        state.counters.reads += 1;
        state.judge(Kind::Read, range.clone())?;
        let end = range.end.min(state.device.bytes());
        let length = end.saturating_sub(range.start);
        state.counters.read_bytes += length;
        state.device.read(range.start, answer.data(length as usize));
        Ok(answer.finish())
    }

    fn write(&self, answer: Answer, position: u64, bytes: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut state = self.wait();
        state.counters.writes += 1;
        state.judge(Kind::Write, position..position + bytes.len() as u64)?;
        state.device.write(position, bytes).map_err(|_| Errno(fuse::EINVAL))?;
        state.counters.written_bytes += bytes.len() as u64;
        Ok(answer.written(bytes.len() as u32))
    }

    fn flush(&self, answer: Answer) -> Result<Vec<u8>, Errno> {
        let covered = self.lock().device.begin_flush();
        let mut state = self.wait();
        state.counters.flushes += 1;
        let bytes = state.device.bytes();
        // A device that is off has its cache as it left it.
        let was_off = state.faults.is_off();
        let verdict = state.judge(Kind::Flush, 0..bytes);
        match verdict {
            Ok(()) => state.device.finish_flush(covered),
            Err(_) if !was_off => state.device.fail_flush(covered),
            Err(_) => {}
        }
        verdict.map(|()| answer.finish())
    }
}

impl State {
    fn command(&mut self, command: Command) -> String {
        let State {
            device,
            faults,
            counters,
        } = self;
        match command {
            Command::Cut(loss, seed) => {
                let cut = device.cut(loss, seed);
                faults.switch(true);
                counters.cuts += 1;
                return format!(
                    "ok writes={} sectors={} kept={}",
                    cut.writes, cut.sectors, cut.kept_sectors
                );
            }
            Command::Off => faults.switch(true),
            Command::On => faults.switch(false),
            Command::Fail(rule) => faults.add(rule),
            Command::Slow(delay) => faults.set_delay(delay),
            Command::Heal => faults.heal(),
            Command::Stats => return counters.answer(device.unflushed_count()),
        }
        "ok".to_string()
    }

    fn judge(&mut self, kind: Kind, touched: Range<u64>) -> Result<(), Errno> {
        match self.faults.judge(kind, touched) {
            Verdict::Pass => Ok(()),
            Verdict::Fail => {
                self.counters.failed += 1;
                Err(Errno(fuse::EIO))
            }
        }
    }
}

impl Counters {
    fn answer(&self, unflushed: u64) -> String {
        format!(
            "ok reads={} read_bytes={} writes={} written_bytes={} flushes={} failed={} delayed={} cuts={} unflushed={unflushed}",
            self.reads,
            self.read_bytes,
            self.writes,
            self.written_bytes,
            self.flushes,
            self.failed,
            self.delayed,
            self.cuts
        )
    }
}
