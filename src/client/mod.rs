//! A client of both protocols: producer, reader and admin over pipelined connections. In Kafka's it works against any Kafka broker; in
//! the native one it produces, reads and looks up, and leaves administration to the other (`ClientOptions::protocol`).
//!
//! Used by the commands, by the load generator and by the simulated clients of the tests: generic over [`Env`], so a
//! simulated client has the simulator's clock, network and randomness, and a seed replays it.
//!
//! In: records, positions to read from, administrative wishes. Out: offsets, batches, descriptions, or a [`ClientError`].
//!
//! Invariants
//! 1. Answers come in the order of the requests: a connection whose answer names another correlation id is closed
//!    (`connection::take_answer`).
//! 2. A partition has at most one produce request in flight, so retries never reorder records (`lane::Lane::close_batch`
//!    asserts it); a batch is sent again only byte for byte, under the sequence it had first.
//! 3. Memory is bounded: requests in flight per connection (`ClientOptions::in_flight_max`), bytes of one answer
//!    (`answer_bytes_max`), unacknowledged records (`ProducerOptions::memory_bytes`), one fetch per broker (`Reader`).
//!
//! Not for: consumer groups and transactions (they follow their coordinators), TLS.
//!
//! ```no_run
//! use ringtail::client::{Client, ClientOptions, NewRecord, Producer, ProducerOptions};
//! use ringtail::io::uring::{Options, run_one};
//! use ringtail::wire::Protocol;
//!
//! let sent = run_one(Options::default(), |env| async move {
//!     let client = Client::new(env, ClientOptions {
//!         protocol: Protocol::Native,
//!         bootstrap_servers: vec!["localhost:9094".into()],
//!         allow_auto_create: true,
//!         ..ClientOptions::default()
//!     });
//!     let producer = Producer::new(client, ProducerOptions::default())?;
//!     let record = NewRecord { key: Some(b"k"), value: Some(b"v"), ..NewRecord::default() };
//!     producer.send("greetings", None, &record).await
//! });
//! println!("{:?}", sent.expect("io_uring is there").expect("a broker is there").offset);
//! ```
//!
//! [`Env`]: crate::io::Env

mod admin;
mod api_ranges;
mod cluster;
mod connection;
mod describe;
mod error;
mod exchange;
mod lane;
mod metadata;
mod partitioner;
mod producer;
mod reader;
mod sender;

pub use admin::{Admin, ListedOffset, NewTopic, OffsetSpec};
pub use cluster::{Client, ClientOptions, Purpose};
pub use connection::{Answer, Connection, ConnectionOptions};
pub use describe::{ConfigEntry, ConfigResource, ConfigSource};
pub use error::ClientError;
pub use lane::{Delivered, Delivery};
pub use metadata::{Broker, Metadata, Partition, Topic};
pub use partitioner::partition_of_key;
pub use producer::{Acks, NewRecord, Producer, ProducerOptions};
pub use reader::{Fetched, OwnedRecord, Reader, ReaderOptions, StartAt};
