//! Prints which part of every decoder's lines the inputs reached: `coverage SOURCES LCOV`, with the broker's source folder and what llvm-cov
//! exported. Fails below the bar.
//!
//! Counted are the lines that carry code of a decoder's files. Not counted are tests (from `#[cfg(test)]` to the end of what it stands
//! before), messages for people (`fmt`), and the functions named beside the file: those that write, those that need a disk, and those that
//! only the compiler runs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::{env, fs};

/// Of its lines, in percent.
const BAR: f64 = 90.0;

/// A decoder, its files, and what is not counted of them.
type Decoder = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const DECODERS: &[Decoder] = &[
    ("Kafka: primitives", &[("wire/kafka/decoder.rs", &[])]),
    (
        "Kafka: headers and frames",
        &[(
            "wire/kafka/frame.rs",
            &[
                "write",
                "encode_response",
                "encode_request",
                "begin_frame",
                "response",
                "copied_bytes",
                "encode",
            ],
        )],
    ),
    ("frames of both protocols", &[("wire/framing.rs", &[])]),
    (
        "native: headers and payloads",
        &[(
            "wire/native/mod.rs",
            &["begin_request", "begin_answer", "framed", "from"],
        )],
    ),
    (
        "Kafka: fields and arrays",
        &[
            (
                "wire/kafka/field.rs",
                &[
                    "write",
                    "write_nullable",
                    "put_length",
                    "since",
                    "until",
                    "null",
                    "tag",
                    "tags_rise",
                ],
            ),
            (
                "wire/kafka/list.rs",
                &[
                    "write",
                    "write_nullable",
                    "eq",
                    "from",
                    "from_iter",
                    "first",
                    "size_hint",
                ],
            ),
            (
                "wire/kafka/records.rs",
                &[
                    "write",
                    "write_nullable",
                    "eq",
                    "from",
                    "pieces",
                    "len",
                    "is_empty",
                    "as_wire",
                    "default",
                ],
            ),
        ],
    ),
    (
        "Kafka: messages",
        &[
            ("wire/kafka/messages", &[]),
            (
                "wire/kafka/message.rs",
                &["write_tagged", "encode_into", "write", "write_nullable"],
            ),
        ],
    ),
    (
        "batch: header and scan",
        &[("wire/batch/header.rs", &[]), ("wire/batch/scan.rs", &[])],
    ),
    (
        "batch: validation",
        &[
            ("wire/batch/validate.rs", &[]),
            ("wire/batch/patch.rs", &[]),
            ("wire/batch/crc.rs", &[]),
        ],
    ),
    (
        "batch: records",
        &[
            ("wire/batch/records.rs", &[]),
            ("wire/batch/varint.rs", &["write", "size", "zigzag"]),
        ],
    ),
    (
        "batch: codecs",
        &[
            ("wire/batch/codec.rs", &["compress", "compress_zstd", "name", "number"]),
            ("wire/batch/snappy.rs", &["compress"]),
            ("wire/batch/lz4.rs", &[]),
        ],
    ),
    ("batch: look-up by time", &[("wire/batch/lookup.rs", &[])]),
    (
        "journal: files and commits",
        &[
            ("storage/journal/format.rs", &["encode", "seal"]),
            ("storage/journal/scan.rs", &[]),
        ],
    ),
    (
        "journal: rows",
        &[(
            "storage/journal/rows.rs",
            &["encode", "put_owner", "put_cursor", "put_range"],
        )],
    ),
    (
        "checkpoints",
        &[
            ("storage/state.rs", &["encode", "base_name", "shard_name", "start"]),
            ("storage/growing.rs", &["encode", "mark_stored"]),
            ("storage/epochs.rs", &["encode", "to_text"]),
            ("storage/producers.rs", &["encode"]),
            (
                "storage/codec.rs",
                &[
                    "put",
                    "put_u8",
                    "put_u16",
                    "put_u32",
                    "put_i32",
                    "put_u64",
                    "put_i64",
                    "put_partition",
                    "put_sized",
                ],
            ),
        ],
    ),
    (
        "segment: sums",
        &[
            ("storage/sums.rs", &["encode"]),
            (
                "storage/build.rs",
                &["encode", "sums_head", "new", "add", "close_row", "add_time"],
            ),
        ],
    ),
    ("segment: indexes", &[("storage/index.rs", &["encode"])]),
    (
        "arena",
        &[(
            "base/buffer/arena.rs",
            &[
                "format",
                "take",
                "unit_bytes",
                "free_bytes",
                "position",
                "drop",
                "capacity",
                "filled",
                "room",
                "append",
                "publish",
                "note_stored",
                "retire",
                "view",
                "as_slice",
                "header",
                "with_units",
            ],
        )],
    ),
    (
        "metadata log",
        &[
            ("cluster/log_format.rs", &["encode", "push_commit", "sealed_file"]),
            (
                "cluster/codec.rs",
                &[
                    "encode",
                    "encode_entry",
                    "encode_topic_created",
                    "encode_partitions_added",
                    "encode_topic_configs",
                    "encode_broker_configs",
                    "encode_ids",
                    "encode_configs",
                ],
            ),
        ],
    ),
    (
        "meta.properties",
        &[
            ("cluster/identity/mod.rs", &["encode", "plan", "foreign"]),
            ("config/properties.rs", &[]),
        ],
    ),
    ("ids", &[("base/ids.rs", &["is_zero"])]),
    (
        "configuration",
        &[
            ("config/load.rs", &[]),
            ("config/row.rs", &[]),
            ("config/settings.rs", &["code", "known"]),
            ("config/sizes.rs", &[]),
            ("config/broker.rs", &[]),
            ("config/topic.rs", &[]),
            ("config/describe.rs", &[]),
        ],
    ),
    ("listeners", &[("config/listeners.rs", &[])]),
];

/// Which lines of a source are not counted.
fn left_out(text: &str, functions: &[&str]) -> Vec<bool> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = vec![false; lines.len() + 1];
    let indent = |line: &str| line.len() - line.trim_start().len();
    for (index, line) in lines.iter().enumerate() {
        let name = line
            .split_once("fn ")
            .map(|(_, rest)| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
        let is_named = name
            .flatten()
            .is_some_and(|name| name == "fmt" || functions.contains(&name));
        let is_test = line.trim() == "#[cfg(test)]";
        if !is_named && !is_test {
            continue;
        }
        // rustfmt closes an item at the column where it began.
        let is_end = |other: &&str| {
            indent(other) == indent(line)
                && (other.trim_start().starts_with('}') || is_test && other.trim_end().ends_with(';'))
        };
        let one_line = line.trim_end().ends_with('}') || line.trim_end().ends_with(';');
        let length = if one_line {
            0
        } else {
            lines[index..].iter().position(|other| is_end(other)).unwrap_or(0)
        };
        out[index + 1..=index + 1 + length].fill(true);
    }
    out
}

/// Lines with code and how often each was reached, by the file's path.
fn reached(lcov: &str) -> BTreeMap<&str, BTreeMap<usize, u64>> {
    let mut files: BTreeMap<&str, BTreeMap<usize, u64>> = BTreeMap::new();
    let mut file = "";
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            file = path;
        } else if let Some((number, count)) = line.strip_prefix("DA:").and_then(|row| row.split_once(',')) {
            let number: usize = number.parse().expect("a line");
            let count: u64 = count.parse().expect("a count");
            *files.entry(file).or_default().entry(number).or_default() += count;
        }
    }
    files
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [sources, lcov, ..] = &arguments[..] else {
        panic!("usage: coverage SOURCES LCOV [--missed]")
    };
    let shows_missed = arguments.get(2).is_some_and(|argument| argument == "--missed");
    let lcov = fs::read_to_string(lcov).expect("what llvm-cov exported");
    let files = reached(&lcov);
    let mut low = 0;
    println!("{:<28} {:>7} {:>7} {:>9}", "decoder", "lines", "reached", "coverage");
    for (name, parts) in DECODERS {
        let (mut lines, mut hits, mut missed) = (0, 0, Vec::new());
        for (part, functions) in *parts {
            let wanted = format!("{sources}/{part}");
            let of_part = |path: &str| path == wanted || path.starts_with(&format!("{wanted}/"));
            for (path, counts) in files.iter().filter(|(path, _)| of_part(path)) {
                let text = fs::read_to_string(path).expect("a source");
                let out = left_out(&text, functions);
                for (line, count) in counts
                    .iter()
                    .filter(|(line, _)| !out.get(**line).copied().unwrap_or(false))
                {
                    lines += 1;
                    hits += usize::from(*count > 0);
                    if *count == 0 {
                        let shown = text.lines().nth(line - 1).unwrap_or_default();
                        missed.push(format!("  {part}:{line}: {}", shown.trim()));
                    }
                }
            }
        }
        let coverage = 100.0 * hits as f64 / lines.max(1) as f64;
        let is_low = lines == 0 || coverage < BAR;
        low += usize::from(is_low);
        println!(
            "{name:<28} {lines:>7} {hits:>7} {coverage:>8.1}%{}",
            if is_low { "  below the bar" } else { "" }
        );
        if shows_missed {
            missed.iter().for_each(|line| println!("{line}"));
        }
    }
    println!("{} decoders, {low} below {BAR} %", DECODERS.len());
    ExitCode::from(u8::from(low > 0))
}
