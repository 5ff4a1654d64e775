//! A large text file through kcat into 16 partitions and back: the same lines, in the same order in each partition.
//!
//! Librdkafka spreads the lines over the partitions at random. Every line begins with its number, so the test need not know where a
//! line went: in each partition the numbers must rise, the offsets be dense, and over all partitions every line comes back once with the
//! hash it was written with.

use std::hash::{DefaultHasher, Hasher};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use crate::harness::admin::create_topic;
use crate::harness::broker::{Broker, scratch};
use crate::harness::clients::{kcat, kcat_reading, run, run_lines};
use crate::harness::random::Random;
use crate::kcat::CODECS;

const PARTITION_COUNT: usize = 16;
/// Mean length of a line, its end included.
const LINE_BYTES: u64 = 1050;

fn line_count() -> u64 {
    std::env::var("RINGTAIL_TEST_LINES")
        .map_or(200_000, |count| count.parse().expect("RINGTAIL_TEST_LINES is a number"))
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(line);
    hasher.finish()
}

/// Writes the file and gives the hash of every line. The text is words in random order, so that the codecs have something to find.
fn write_lines(broker: &Broker, count: u64) -> (std::path::PathBuf, Vec<u64>) {
    const WORDS: [&str; 16] = [
        "offset",
        "segment",
        "shard",
        "batch",
        "journal",
        "ring",
        "epoch",
        "record",
        "arena",
        "fetch",
        "a",
        "the",
        "of",
        "durable",
        "settled",
        "watermark",
    ];
    let (path, file) = scratch(broker, "input.txt");
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut random = Random::fixed(7);
    let mut hashes = Vec::new();
    let mut line = Vec::new();
    for number in 0..count {
        line.clear();
        write!(line, "{number}").expect("a vector can be written");
        let length = random.between(LINE_BYTES / 2, LINE_BYTES * 3 / 2);
        while (line.len() as u64) < length {
            let bits = random.u64();
            write!(line, " {} {:x}", WORDS[(bits % 16) as usize], bits >> 40).expect("a vector can be written");
        }
        hashes.push(hash(&line));
        line.push(b'\n');
        file.write_all(&line).expect("the disk has room");
    }
    file.flush().expect("the disk has room");
    (path, hashes)
}

/// Follows what comes back.
struct Seen {
    hashes: Vec<u64>,
    seen: Vec<bool>,
    /// Per partition: the next offset, and the number of its last line.
    partitions: [(u64, Option<u64>); PARTITION_COUNT],
}

impl Seen {
    /// Takes `partition offset line`.
    fn line(&mut self, printed: &[u8]) {
        let mut parts = printed.splitn(3, |byte| *byte == b' ');
        let mut number = || -> u64 {
            let digits = std::str::from_utf8(parts.next().expect("three parts")).expect("digits");
            digits.parse().expect("a number")
        };
        let (partition, offset) = (number() as usize, number());
        let line = parts.next().expect("three parts");
        let digits = line.split(|byte| *byte == b' ').next().expect("split gives one");
        let number: u64 = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .expect("its number");
        let (next_offset, last) = &mut self.partitions[partition];
        assert_eq!(offset, *next_offset, "partition {partition}: offsets are dense");
        assert!(
            last.is_none_or(|last| last < number),
            "partition {partition}: line {number} behind {last:?}"
        );
        (*next_offset, *last) = (offset + 1, Some(number));
        assert_eq!(
            hash(line),
            self.hashes[number as usize],
            "line {number} at {partition}/{offset} is as it was written"
        );
        assert!(
            !std::mem::replace(&mut self.seen[number as usize], true),
            "line {number} comes once"
        );
    }
}

fn through(broker: &Broker, codec: &str, path: &Path, hashes: &[u64]) {
    let topic = format!("lines-{codec}");
    create_topic(broker, &topic, PARTITION_COUNT as i32, &[("segment.bytes", "16777216")]);
    let begin = Instant::now();
    let mut produce = kcat();
    produce
        .args(["-P", "-b", &broker.address(), "-t", &topic, "-z", codec, "-l"])
        .arg(path);
    // Each line goes to a partition of its own, which is the hardest on the order.
    produce.args([
        "-X",
        "sticky.partitioning.linger.ms=0",
        "-X",
        "linger.ms=5",
        "-X",
        "enable.idempotence=true",
    ]);
    run(produce);
    let produced = begin.elapsed();
    let mut consume = kcat_reading(&broker.address(), &topic);
    consume.args(["-f", "%p %o %s\n"]);
    consume.args(["-X", "check.crcs=true"]);
    let mut seen = Seen {
        hashes: hashes.to_vec(),
        seen: vec![false; hashes.len()],
        partitions: [(0, None); PARTITION_COUNT],
    };
    run_lines(consume, |line| seen.line(line));
    println!(
        "{codec}: produced in {produced:?}, read back in {:?}",
        begin.elapsed() - produced
    );
    let missing = seen.seen.iter().filter(|seen| !**seen).count();
    assert_eq!(missing, 0, "{codec}: lines that did not come back");
    assert!(
        seen.partitions.iter().all(|(count, _)| *count > 0),
        "{codec}: every partition has lines"
    );
}

#[test]
fn a_text_file_comes_back_through_every_codec() {
    let broker = Broker::start("real-input");
    let (path, hashes) = write_lines(&broker, line_count());
    println!(
        "{} lines, {} bytes",
        hashes.len(),
        path.metadata().expect("it was just written").len()
    );
    for codec in CODECS {
        through(&broker, codec, &path, &hashes);
    }
}
