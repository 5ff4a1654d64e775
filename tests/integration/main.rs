//! Real clients against a real broker, over real sockets.
//!
//! Every scenario takes a broker at an address and talks to it with software that nobody here wrote. The broker is Ringtail; with
//! `RINGTAIL_TEST_PEER=kafka` it is Apache Kafka instead, which is how the scenarios themselves are shown to be right.
//!
//! What the environment may say (all optional):
//!
//! | variable | meaning |
//! |---|---|
//! | `RINGTAIL_TEST_PEER=kafka` | run against Apache Kafka |
//! | `RINGTAIL_TEST_BIN` | the `ringtail` binary to test, instead of the one cargo built with these tests |
//! | `RINGTAIL_TEST_SEED` | the seed of what is random (printed by each test that uses it) |
//! | `RINGTAIL_TEST_KILLS` | how often the broker is killed in each test of `killed` (10) |
//! | `RINGTAIL_TEST_ACKS_PER_KILL` | acknowledgements between two kills there, on average (2000) |
//! | `RINGTAIL_TEST_LINES` | lines of about 1 KB in the test `real_input` (200000) |
//! | `RINGTAIL_TEST_DISK` | the program of `tests/disk`, instead of the one beside these tests |
//! | `RINGTAIL_TEST_CUTS`, `RINGTAIL_TEST_ACKS_PER_CUT` | power cuts in `disks` (16), acknowledgements between two of them on average (2000) |
//! | `RINGTAIL_TEST_KEEP=1` | keep the data and the logs of brokers |
//!
//! A client that is not installed is a failure that names `tests/setup.sh`, never a test passed over.

mod harness;

mod again;
mod bad_input;
mod commands;
mod disks;
mod first_steps;
mod java;
mod kcat;
mod killed;
mod librdkafka;
mod lifecycle;
mod native;
mod python;
mod real_input;
mod retention;
