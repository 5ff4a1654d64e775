//! A load that judges itself: idempotent producers and readers on librdkafka write down what they did and saw, and
//! `ringtail-checker` judges the whole history at the end, whatever was done to the broker meanwhile.

mod producer;
mod reader;
mod recorder;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ringtail_checker::{Event, History, Producer, Reader, Report, check};

pub use self::recorder::Recorder;
use crate::harness::broker::Broker;

/// Within this time after the last fault every send is answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Who produces and reads what.
#[derive(Clone, Copy)]
pub struct Load {
    /// There already, with so many partitions and nothing in them.
    pub topic: &'static str,
    pub partition_count: u32,
    pub producer_count: u32,
    pub reader_count: u32,
}

impl Load {
    /// Produces and reads while `faults` does what it likes to the broker; when it returns the broker must be well. Then
    /// every send must be answered, and everything is read once more.
    ///
    /// # Panics
    /// If a client reports what no client should, or the history has an anomaly.
    pub fn run(self, broker: &mut Broker, faults: impl FnOnce(&mut Broker, &Recorder)) -> Report {
        let mut history = History::new();
        (0..self.producer_count).for_each(|producer| history.idempotent(Producer(producer)));
        let recorder = Arc::new(Recorder::new(history));
        thread::scope(|scope| {
            let producers: Vec<_> = (0..self.producer_count)
                .map(|number| {
                    let (config, recorder) = (producer::config(broker), recorder.clone());
                    scope.spawn(move || producer::produce(&self, config, Producer(number), recorder))
                })
                .collect();
            for number in 0..self.reader_count {
                let (consumer, recorder) = (reader::reader(&self, broker), &recorder);
                scope.spawn(move || reader::read(&self, consumer, Reader(number), recorder));
            }
            let stop_on_panic = StopAll(&recorder);
            faults(broker, &recorder);
            recorder.push(Event::Healed {
                answer_within: ANSWER_WITHIN,
            });
            recorder.stop_sending.store(true, Ordering::Relaxed);
            producers
                .into_iter()
                .for_each(|producer| producer.join().expect("a producer does not fail"));
            drop(stop_on_panic);
        });
        reader::read_through(&self, broker, &recorder);
        let history = recorder.history.lock().expect("no thread panics with the lock");
        let report = check(&history);
        let troubles = recorder.troubles.lock().expect("no thread panics with the lock");
        assert!(troubles.is_empty(), "{troubles:?}\n{report}");
        report.assert_clean(self.topic);
        assert_eq!(
            report.acked_count, report.sent_count,
            "clients that may retry for minutes get every record through: {report}"
        );
        report
    }
}

/// Ends the other threads when the test ends, however it ends.
struct StopAll<'a>(&'a Recorder);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.stop_sending.store(true, Ordering::Relaxed);
        self.0.stop_reading.store(true, Ordering::Relaxed);
    }
}
