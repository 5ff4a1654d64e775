//! Topics, made through librdkafka's admin client.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::broker::{Broker, Peer, peer};
use super::connection::Connection;
use super::wait_for;

/// When a topic's records are acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    Flushed,
    Written,
}

impl Durability {
    /// The topic property that asks for it, in the words of the broker under test.
    pub fn config(self) -> (&'static str, &'static str) {
        match (peer(), self) {
            (Peer::Ringtail, Durability::Flushed) => ("ringtail.durability", "flushed"),
            (Peer::Ringtail, Durability::Written) => ("ringtail.durability", "written"),
            (Peer::Kafka, Durability::Flushed) => ("flush.messages", "1"),
            (Peer::Kafka, Durability::Written) => ("flush.messages", "9223372036854775807"),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future of librdkafka on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// The settings every librdkafka client of the tests begins with.
pub fn client(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address());
    // A broker that is started again is found soon.
    config
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "200");
    config
}

pub fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    client(broker).create().expect("an admin client can be made")
}

/// # Panics
/// If the broker refuses the topic.
pub fn create_topic(broker: &Broker, topic: &str, partition_count: i32, configs: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partition_count, TopicReplication::Fixed(1));
    for (key, value) in configs {
        new = new.set(key, value);
    }
    let results =
        block_on(admin(broker).create_topics([&new], &AdminOptions::new())).expect("CreateTopics is answered");
    assert_eq!(results, [Ok(topic.to_string())]);
    wait_for("every partition of the new topic", || {
        serves(broker, topic, partition_count).then_some(())
    });
}

/// # Panics
/// If the broker does not delete it.
pub fn delete_topic(broker: &Broker, topic: &str) {
    let results =
        block_on(admin(broker).delete_topics(&[topic], &AdminOptions::new())).expect("DeleteTopics is answered");
    assert_eq!(results, [Ok(topic.to_string())]);
}

/// True if every partition tells its end. (Kafka answers CreateTopics some time before that.)
fn serves(broker: &Broker, topic: &str, partition_count: i32) -> bool {
    let partition = |index| {
        ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(-1)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_string())))
        .with_partitions((0..partition_count).map(partition).collect());
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let response = Connection::open(&broker.address()).call(1, &request);
    response.topics[0]
        .partitions
        .iter()
        .all(|partition| partition.error_code == 0)
}
