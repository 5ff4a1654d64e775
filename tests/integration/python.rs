//! kafka-python (the current line and 2.x, which much of the world still runs) and confluent-kafka.
//!
//! The scripts check by themselves and print `ok`; they are in `tests/compat/python`.

use crate::harness::admin::create_topic;
use crate::harness::broker::Broker;
use crate::harness::clients::{Python, python, run};

fn script(which: Python, script: &str, broker: &Broker, arguments: &[&str]) {
    let mut command = python(which, script);
    command.arg(broker.address()).args(arguments);
    assert_eq!(run(command).lines().last(), Some("ok"), "{script}");
}

#[test]
fn the_lines_people_copy_current() {
    let broker = Broker::start("python-copied");
    script(Python::Current, "kafka_python_copied.py", &broker, &[]);
}

#[test]
fn the_lines_people_copy_2() {
    let broker = Broker::start("python-copied-2");
    script(Python::Two, "kafka_python_copied.py", &broker, &[]);
}

#[test]
fn fields_and_look_ups_current() {
    let broker = Broker::start("python-fields");
    create_topic(&broker, "fields", 1, &[]);
    script(
        Python::Current,
        "kafka_python_fields.py",
        &broker,
        &["fields", "none", "gzip", "lz4", "zstd"],
    );
}

#[test]
fn fields_and_look_ups_2() {
    let broker = Broker::start("python-fields-2");
    create_topic(&broker, "fields", 1, &[]);
    script(
        Python::Two,
        "kafka_python_fields.py",
        &broker,
        &["fields", "none", "gzip"],
    );
}

#[test]
fn admin_current() {
    let broker = Broker::start("python-admin");
    script(Python::Current, "kafka_python_admin.py", &broker, &[]);
}

#[test]
fn admin_2() {
    let broker = Broker::start("python-admin-2");
    script(Python::Two, "kafka_python_admin.py", &broker, &[]);
}

#[test]
fn confluent() {
    let broker = Broker::start("python-confluent");
    script(Python::Current, "confluent_all.py", &broker, &[]);
}
