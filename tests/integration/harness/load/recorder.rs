//! The history that all threads of a load write down, and what a payload says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ringtail_checker::{Content, Event, History, Producer, Record};

/// The history that all threads write down, and how much of it are acknowledgements.
pub struct Recorder {
    begin: Instant,
    pub(super) history: Mutex<History>,
    acked_count: AtomicU64,
    pub(super) stop_sending: AtomicBool,
    pub(super) stop_reading: AtomicBool,
    /// What clients reported that no client should: it ends the test, but only after the history is judged, which tells more.
    pub(super) troubles: Mutex<Vec<String>>,
}

impl Recorder {
    pub(super) fn new(history: History) -> Recorder {
        Recorder {
            begin: Instant::now(),
            history: Mutex::new(history),
            acked_count: AtomicU64::new(0),
            stop_sending: AtomicBool::new(false),
            stop_reading: AtomicBool::new(false),
            troubles: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn trouble(&self, trouble: String) {
        self.troubles
            .lock()
            .expect("no thread panics with the lock")
            .push(trouble);
    }

    pub fn has_trouble(&self) -> bool {
        !self.troubles.lock().expect("no thread panics with the lock").is_empty()
    }

    /// Records acknowledged so far.
    pub fn acked_count(&self) -> u64 {
        self.acked_count.load(Ordering::Relaxed)
    }

    pub fn push(&self, event: Event) {
        if matches!(event, Event::Acked { .. }) {
            self.acked_count.fetch_add(1, Ordering::Relaxed);
        }
        let mut history = self.history.lock().expect("no thread panics with the lock");
        history.push(self.begin.elapsed(), event);
    }
}

/// A payload tells who sent it, and is long enough that several blocks and segments are written.
pub fn payload(record: Record) -> Vec<u8> {
    let mut payload = format!("{} {} ", record.producer.0, record.sequence).into_bytes();
    let length = 40 + (record.sequence.wrapping_mul(0x9e37_79b9) % 900) as usize;
    payload.resize(length, b'.');
    payload
}

pub fn content(payload: &[u8]) -> Content {
    let parse = || {
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        let producer = Producer(words.next()?.parse().ok()?);
        let record = Record {
            producer,
            sequence: words.next()?.parse().ok()?,
        };
        (self::payload(record) == payload).then_some(Content::Record(record))
    };
    parse().unwrap_or_else(|| Content::Foreign(u64::from(crc32c::crc32c(payload))))
}
