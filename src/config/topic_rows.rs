//! The topic options of Kafka 4.3, plus our own, with the broker options they inherit from.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::row::{ANY, Bounds, Effect, RATIO, Reason, Row, at_least, between, each, one_of, rows};

/// A topic option: its row, and the broker options that give its default, first one set wins.
#[derive(Clone, Copy, Debug)]
pub struct TopicRow {
    pub row: &'static Row,
    /// Broker option and the factor from its unit to the topic option's.
    pub synonyms: &'static [(&'static str, i64)],
    /// Accepted and obeyed but not shown, as Kafka does with its own test options.
    pub hidden: bool,
}

rows! { LIVE: Row = Effect::Live;
    "cleanup.policy", List, "delete", each(&["compact", "delete"]), running, "delete by age and size; compact is kept, not done yet.";
    "flush.messages", Long, "9223372036854775807", at_least(1), running,
        "1 is the same as ringtail.durability=flushed; other values do nothing.";
    "index.interval.bytes", Int, "4096", at_least(0), running, "Bytes of log between two index entries.";
    "max.message.bytes", Int, "1048588", at_least(0), running, "The largest batch this topic takes.";
    "message.timestamp.after.max.ms", Long, "3600000", at_least(0), running,
        "A record this far in the future when it arrives is refused.";
    "message.timestamp.before.max.ms", Long, "9223372036854775807", at_least(0), running,
        "A record older than this when it arrives is refused.";
    "message.timestamp.type", String, "CreateTime", one_of(&["CreateTime", "LogAppendTime"]), running,
        "Whether a record keeps its producer's time or gets the time of its append.";
    "retention.bytes", Long, "-1", ANY, running, "Oldest segments are deleted above this size of a partition; -1 = none.";
    "retention.ms", Long, "604800000", at_least(-1), running, "Segments older than this are deleted; -1 = never.";
    "segment.bytes", Int, "1073741824", at_least(1_048_576), running, "A segment file is rolled at this size.";
    "segment.ms", Long, "604800000", at_least(1), running, "A segment is rolled at this age.";
    "ringtail.durability", String, "flushed", one_of(&["flushed", "written"]), running,
        "When an append counts: flushed = on the device, written = in memory that outlives the process.";
    "internal.segment.bytes", Int, "1073741824", at_least(1024), running, "segment.bytes without its lower bound; for tests.";
}

rows! { COMPRESSION: Row = Effect::None(Reason::Pending);
    "compression.gzip.level", Int, "-1", between(-1, 9), running, "";
    "compression.lz4.level", Int, "9", between(1, 17), running, "";
    "compression.type", String, "producer", one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), running, "";
    "compression.zstd.level", Int, "3", between(-131_072, 22), running, "";
    "flush.ms", Long, "9223372036854775807", at_least(0), running, "";
    "preallocate", Boolean, "false", ANY, running, "";
    "segment.index.bytes", Int, "10485760", at_least(4), running, "";
    "segment.jitter.ms", Long, "0", at_least(0), running, "";
}

rows! { AT_ONCE: Row = Effect::None(Reason::AtOnce);
    "file.delete.delay.ms", Long, "60000", at_least(0), running, "";
}

rows! { COMPACTION: Row = Effect::None(Reason::Compaction);
    "delete.retention.ms", Long, "86400000", at_least(0), running, "";
    "max.compaction.lag.ms", Long, "9223372036854775807", at_least(1), running, "";
    "min.cleanable.dirty.ratio", Double, "0.5", RATIO, running, "";
    "min.compaction.lag.ms", Long, "0", at_least(0), running, "";
}

rows! { REPLICATION: Row = Effect::None(Reason::Replication);
    "follower.replication.throttled.replicas", List, "", Bounds::ThrottledReplicas, running, "";
    "leader.replication.throttled.replicas", List, "", Bounds::ThrottledReplicas, running, "";
    "min.insync.replicas", Int, "1", at_least(1), running, "";
    "unclean.leader.election.enable", Boolean, "false", ANY, running, "";
}

rows! { TIERING: Row = Effect::None(Reason::Tiering);
    "local.retention.bytes", Long, "-2", at_least(-2), running, "";
    "local.retention.ms", Long, "-2", at_least(-2), running, "";
    "remote.log.copy.disable", Boolean, "false", ANY, running, "";
    "remote.log.delete.on.disable", Boolean, "false", ANY, running, "";
    "remote.storage.enable", Boolean, "false", ANY, running, "";
}

/// Topic option → broker options, where the name is another or there are several.
const SYNONYMS: &[(&str, &[(&str, i64)])] = &[
    ("cleanup.policy", &[("log.cleanup.policy", 1)]),
    ("compression.gzip.level", &[("compression.gzip.level", 1)]),
    ("compression.lz4.level", &[("compression.lz4.level", 1)]),
    ("compression.type", &[("compression.type", 1)]),
    ("compression.zstd.level", &[("compression.zstd.level", 1)]),
    ("delete.retention.ms", &[("log.cleaner.delete.retention.ms", 1)]),
    ("file.delete.delay.ms", &[("log.segment.delete.delay.ms", 1)]),
    ("flush.messages", &[("log.flush.interval.messages", 1)]),
    (
        "flush.ms",
        &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)],
    ),
    ("index.interval.bytes", &[("log.index.interval.bytes", 1)]),
    ("local.retention.bytes", &[("log.local.retention.bytes", 1)]),
    ("local.retention.ms", &[("log.local.retention.ms", 1)]),
    ("max.compaction.lag.ms", &[("log.cleaner.max.compaction.lag.ms", 1)]),
    ("max.message.bytes", &[("message.max.bytes", 1)]),
    (
        "message.timestamp.after.max.ms",
        &[("log.message.timestamp.after.max.ms", 1)],
    ),
    (
        "message.timestamp.before.max.ms",
        &[("log.message.timestamp.before.max.ms", 1)],
    ),
    ("message.timestamp.type", &[("log.message.timestamp.type", 1)]),
    ("min.cleanable.dirty.ratio", &[("log.cleaner.min.cleanable.ratio", 1)]),
    ("min.compaction.lag.ms", &[("log.cleaner.min.compaction.lag.ms", 1)]),
    ("min.insync.replicas", &[("min.insync.replicas", 1)]),
    ("preallocate", &[("log.preallocate", 1)]),
    ("retention.bytes", &[("log.retention.bytes", 1)]),
    (
        "retention.ms",
        &[
            ("log.retention.ms", 1),
            ("log.retention.minutes", 60_000),
            ("log.retention.hours", 3_600_000),
        ],
    ),
    ("ringtail.durability", &[("ringtail.durability", 1)]),
    ("segment.bytes", &[("log.segment.bytes", 1)]),
    ("segment.index.bytes", &[("log.index.size.max.bytes", 1)]),
    (
        "segment.jitter.ms",
        &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)],
    ),
    ("segment.ms", &[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)]),
    (
        "unclean.leader.election.enable",
        &[("unclean.leader.election.enable", 1)],
    ),
];

fn table() -> &'static BTreeMap<&'static str, TopicRow> {
    static TABLE: OnceLock<BTreeMap<&'static str, TopicRow>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let rows = [LIVE, COMPRESSION, AT_ONCE, COMPACTION, REPLICATION, TIERING];
        let with_synonyms = |row: &'static Row| {
            let synonyms = SYNONYMS
                .iter()
                .find(|(name, _)| *name == row.name)
                .map_or(&[][..], |(_, list)| list);
            let hidden = row.name.starts_with("internal.");
            (row.name, TopicRow { row, synonyms, hidden })
        };
        rows.into_iter().flatten().map(with_synonyms).collect()
    })
}

/// The topic option of this name.
pub fn topic_row(name: &str) -> Option<TopicRow> {
    table().get(name).copied()
}

/// All topic options, in the order of their names.
pub fn topic_rows() -> impl Iterator<Item = TopicRow> {
    table().values().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_options_of_kafka_and_ours_are_there_once() {
        let rows = [LIVE, COMPRESSION, AT_ONCE, COMPACTION, REPLICATION, TIERING];
        assert_eq!(rows.into_iter().map(<[Row]>::len).sum::<usize>(), topic_rows().count());
        // Kafka 4.3 shows 33 topic options; ringtail.durability is ours.
        assert_eq!(topic_rows().filter(|row| !row.hidden).count(), 34);
        assert_eq!(SYNONYMS.iter().filter(|(name, _)| topic_row(name).is_none()).count(), 0);
    }
}
