//! Idempotent producers on librdkafka that send without end and write every answer down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use ringtail_checker::{Event, Partition, Producer, Record};

use super::recorder::{Recorder, payload};
use super::{ANSWER_WITHIN, Load};
use crate::harness::HANGS;
use crate::harness::admin::client;
use crate::harness::broker::Broker;

struct Reports(Arc<Recorder>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Record>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<Record>) {
        let record = *record;
        match result {
            Ok(message) => {
                let offset = u64::try_from(message.offset()).expect("an acknowledged record has an offset");
                self.0.push(Event::Acked { record, offset });
            }
            // Whatever the client gave up on may have reached the log.
            Err(_) => self.0.push(Event::Indeterminate { record }),
        }
    }
}

pub fn config(broker: &Broker) -> ClientConfig {
    let mut config = client(broker);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("batch.num.messages", "50");
    config
        .set("message.timeout.ms", "300000")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "200");
    config.set("queue.buffering.max.messages", "2000");
    config
}

/// Sends as fast as the queue takes it, until told to stop; then waits for every answer.
pub fn produce(load: &Load, config: ClientConfig, producer: Producer, recorder: Arc<Recorder>) {
    let client: BaseProducer<Reports> = config
        .create_with_context(Reports(recorder.clone()))
        .expect("a producer can be made");
    let mut sequence = 0;
    while !recorder.stop_sending.load(Ordering::Relaxed) {
        let record = Record { producer, sequence };
        let partition = (sequence % u64::from(load.partition_count)) as u32;
        recorder.push(Event::Sent {
            partition: Partition(partition),
            record,
        });
        let payload = payload(record);
        let mut queued = BaseRecord::<(), [u8], _>::with_opaque_to(load.topic, Box::new(record))
            .partition(partition as i32)
            .payload(&payload);
        while let Err((error, back)) = client.send(queued) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let reason = client.client().fatal_error();
                recorder.trouble(format!("{producer:?} cannot go on: {error}, {reason:?}"));
                recorder.push(Event::Indeterminate { record });
                return give_up(&client);
            }
            // The readers go last: without them the test has failed, and nobody waits for a broker that does not come back.
            if recorder.stop_reading.load(Ordering::Relaxed) {
                recorder.push(Event::Indeterminate { record });
                return give_up(&client);
            }
            client.poll(Duration::from_millis(5));
            queued = back;
        }
        sequence += 1;
        client.poll(Duration::ZERO);
        // A few thousand records a second each: kills fall between and into batches of all sizes.
        if sequence % 64 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    if recorder.stop_reading.load(Ordering::Relaxed) {
        return give_up(&client);
    }
    if let Err(error) = client.flush(ANSWER_WITHIN) {
        let reason = client.client().fatal_error();
        recorder.trouble(format!(
            "{producer:?} got no answers after the last start: {error}, {reason:?}"
        ));
        give_up(&client);
    }
}

/// Lets the client report what it still has: nothing of it is certain.
fn give_up(client: &BaseProducer<Reports>) {
    client.purge(PurgeConfig::default().queue().inflight());
    client.flush(HANGS).expect("a purged client has nothing left");
}
