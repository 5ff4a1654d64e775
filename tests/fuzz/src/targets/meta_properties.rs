//! The small text files of a log directory: `meta.properties`, `partition.metadata`, `leader-epoch-checkpoint`; and the syntax of Java's
//! properties under the first. Claims: no panic; memory within the budget and
//! `LINE_BYTES` for each line of properties; what was decoded encodes to a text that decodes to the same.

use ringtail::cluster::MetaProperties;
use ringtail::config::{Line, parse_properties};
use ringtail::storage::formats::{Epochs, are_epochs, topic_id};

use super::memory::{bounded, bounded_by};

/// What a line takes that is empty but for its key: a number, two strings, and as much again while the list of them grows.
const LINE_BYTES: usize = 256;

pub fn run(input: &[u8]) {
    bounded(input.len(), || {
        let _ = (topic_id(input), are_epochs(input));
    });
    let Ok(text) = std::str::from_utf8(input) else { return };
    let budget = 4 * text.len() + LINE_BYTES * text.split('\n').count();
    if let Ok(meta) = bounded_by(budget, text.len(), || MetaProperties::decode(text)) {
        assert_eq!(MetaProperties::decode(&meta.encode()), Ok(meta));
    }
    if let Ok(lines) = bounded_by(budget, text.len(), || parse_properties(text)) {
        let again = parse_properties(&written(&lines)).expect("every character is escaped");
        let pairs = |lines: &[Line]| -> Vec<(String, String)> {
            lines
                .iter()
                .map(|line| (line.key.clone(), line.value.clone()))
                .collect()
        };
        assert_eq!(pairs(&again), pairs(&lines));
    }
    let mut epochs = Epochs::default();
    for (epoch, &byte) in input.iter().take(4).enumerate() {
        epochs.note(epoch as i32, 4 * epoch as i64 + i64::from(byte & 3));
    }
    assert!(are_epochs(epochs.to_text().as_bytes()));
}

/// The lines with every character escaped.
fn written(lines: &[Line]) -> String {
    let escaped = |text: &str| {
        text.encode_utf16()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect::<String>()
    };
    let lines = lines
        .iter()
        .map(|line| format!("{}={}\n", escaped(&line.key), escaped(&line.value)));
    lines.collect()
}
