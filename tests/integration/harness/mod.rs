//! Starts brokers and runs clients: what every scenario needs and no scenario is about.
//!
//! - `broker`: a Ringtail or Apache Kafka process with its own folder and port, stopped, killed and started again at will.
//! - `clients`: the command lines of kcat, the Python clients and Apache Kafka's tools, run with a bound on their time.
//! - `admin`: topics, made through librdkafka.
//! - `load`: producers and readers on librdkafka whose history is judged, whatever is done to the broker meanwhile.
//! - `connection`: single requests over a socket, through the crate `kafka-protocol` or as raw bytes.
//! - `namespace`: a network of its own, where the default ports are free.
//! - `random`: seeds that are printed, so that a failure can be run again.

pub mod admin;
pub mod broker;
pub mod clients;
pub mod connection;
pub mod load;
pub mod namespace;
pub mod random;

use std::time::{Duration, Instant};

/// Far beyond what anything here takes; reaching it means that something hangs.
pub const HANGS: Duration = Duration::from_secs(180);

/// Waits until `condition` gives a value.
///
/// # Panics
/// After [`HANGS`], with what was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < HANGS, "waited {HANGS:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
