//! Readers on librdkafka, along with the producers and once through everything at the end.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use ringtail_checker::{Event, Mark, Partition, Reader};

use super::Load;
use super::recorder::{Recorder, content};
use crate::harness::admin::client;
use crate::harness::broker::Broker;
use crate::harness::{HANGS, wait_for};

/// The reader of the last whole read.
const FINAL: Reader = Reader(1000);

pub fn reader(load: &Load, broker: &Broker) -> BaseConsumer {
    let mut config = client(broker);
    config
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true");
    // An offset out of range would be records lost: it must not be passed over.
    config
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false");
    config
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "20");
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..load.partition_count {
        assignment
            .add_partition_offset(load.topic, partition as i32, Offset::Offset(0))
            .expect("a valid offset");
    }
    consumer.assign(&assignment).expect("partitions can be assigned");
    consumer
}

/// True if the error only says that the broker is not there.
fn is_absence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        error.rdkafka_error_code(),
        Some(
            BrokerTransportFailure
                | AllBrokersDown
                | Resolve
                | OperationTimedOut
                | NotLeaderForPartition
                | LeaderNotAvailable
        )
    )
}

/// Reads everything from the beginning and along with the producers; asks for the end offsets now and then.
pub fn read(load: &Load, consumer: BaseConsumer, reader: Reader, recorder: &Recorder) {
    for partition in 0..load.partition_count {
        recorder.push(Event::Seeked {
            reader,
            partition: Partition(partition),
            offset: 0,
        });
    }
    let mut asked = Instant::now();
    while !recorder.stop_reading.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(20)) {
            None => {}
            Some(Ok(message)) => recorder.push(Event::Read {
                reader,
                partition: Partition(message.partition() as u32),
                offset: message.offset() as u64,
                content: content(message.payload().unwrap_or_default()),
            }),
            Some(Err(error)) if is_absence(&error) => {}
            Some(Err(error)) => {
                recorder.trouble(format!("{reader:?} cannot go on: {error}"));
                return;
            }
        }
        if asked.elapsed() > Duration::from_millis(100) {
            asked = Instant::now();
            ask_for_the_ends(load, &consumer, reader, recorder);
        }
    }
}

fn ask_for_the_ends(load: &Load, consumer: &BaseConsumer, reader: Reader, recorder: &Recorder) {
    for index in 0..load.partition_count {
        let partition = Partition(index);
        for mark in [Mark::End, Mark::LogStart] {
            recorder.push(Event::MarkAsked {
                reader,
                partition,
                mark,
            });
        }
        // While the broker is away there is no answer; the next question stands for itself.
        let Ok((start, end)) = consumer.fetch_watermarks(load.topic, index as i32, Duration::from_millis(200)) else {
            return;
        };
        recorder.push(Event::MarkSeen {
            reader,
            partition,
            mark: Mark::End,
            offset: end as u64,
        });
        recorder.push(Event::MarkSeen {
            reader,
            partition,
            mark: Mark::LogStart,
            offset: start as u64,
        });
    }
}

/// One more reader reads every partition from its start to its end.
pub fn read_through(load: &Load, broker: &Broker, recorder: &Recorder) {
    let consumer = reader(load, broker);
    let mut ends: HashMap<u32, u64> = HashMap::new();
    for index in 0..load.partition_count {
        recorder.push(Event::Seeked {
            reader: FINAL,
            partition: Partition(index),
            offset: 0,
        });
        let (start, end) = wait_for("the ends", || {
            consumer.fetch_watermarks(load.topic, index as i32, HANGS).ok()
        });
        assert_eq!(start, 0, "nothing is deleted in this test");
        ends.insert(index, end as u64);
    }
    let mut open: HashMap<u32, u64> = ends
        .iter()
        .filter(|(_, end)| **end > 0)
        .map(|(p, end)| (*p, *end))
        .collect();
    while !open.is_empty() {
        let message = consumer
            .poll(HANGS)
            .expect("records below the end can be read")
            .expect("records can be read");
        let (partition, offset) = (message.partition() as u32, message.offset() as u64);
        let content = content(message.payload().unwrap_or_default());
        if offset < ends[&partition] {
            recorder.push(Event::Read {
                reader: FINAL,
                partition: Partition(partition),
                offset,
                content,
            });
        }
        if open.get(&partition).is_some_and(|end| offset + 1 >= *end) {
            open.remove(&partition);
        }
    }
    for (partition, end) in ends {
        recorder.push(Event::ReadThrough {
            reader: FINAL,
            partition: Partition(partition),
            start: 0,
            end,
        });
    }
}
