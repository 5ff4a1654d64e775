//! The broker options that do something, and the table of all.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::known;
use super::row::{ANY, Bounds, Effect, Reason, Row, at_least, between, each, one_of, rows};

rows! { IDENTITY: Row = Effect::Live;
    "node.id", Int, "1", between(0, 2_097_150), fixed, "This broker's number in the cluster.";
    "broker.id", Int, null, between(-1, 2_097_150), fixed, "The older name of node.id; both, when set, must agree.";
    "broker.rack", String, null, ANY, fixed, "The rack that Metadata and DescribeCluster report for this broker.";
}

rows! { LISTENERS: Row = Effect::Live;
    "listeners", List, null, ANY, fixed,
        "NAME://host:port, separated by commas. An empty host is every address, IPv4 and IPv6. Without it: localhost:9092.";
    "advertised.listeners", List, null, ANY, fixed, "What clients are told to connect to; by default what listeners says.";
    "listener.security.protocol.map", String, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        ANY, fixed, "NAME:PROTOCOL pairs: what is spoken on the listener of that name. Only PLAINTEXT is served yet.";
    "ringtail.native.listeners", List, null, ANY, fixed,
        "host:port, separated by commas: where the native protocol is spoken. Without it: localhost:9094 if neither listeners nor listeners of shards are set.";
    "ringtail.native.advertised.listeners", List, null, ANY, fixed,
        "host:port for each of ringtail.native.listeners, in their order: what native clients are told to connect to; by default what those say.";
    "ringtail.shard.listeners", String, "shared", one_of(&["shared", "per-shard"]), fixed,
        "per-shard: shard S also listens on each listener's port + 1 + S and is told to clients as node node.id * 1024 + S (admin tools name it so, too), so that requests reach the core that owns the partition.";
    "controller.listener.names", List, null, ANY, fixed, "Listeners of Kafka's controllers: left out, one broker needs none.";
}

rows! { DIRECTORIES: Row = Effect::Live;
    "log.dirs", List, null, ANY, fixed, "Directories of partitions, separated by commas; a partition lives in one of them.";
    "log.dir", List, "ringtail-data", Bounds::Text, fixed, "The directory of partitions when log.dirs is not set.";
    "metadata.log.dir", String, null, Bounds::Text, fixed, "Where the metadata log lives; by default the first of log.dirs.";
}

rows! { TOPICS: Row = Effect::Live;
    "num.partitions", Int, "1", between(1, 10_000), fixed, "Partitions of a topic made without a count.";
    "default.replication.factor", Int, "1", between(1, 1), fixed, "Replicas of a topic made without a count; only 1 yet.";
    "auto.create.topics.enable", Boolean, "true", ANY, fixed, "Whether a Metadata request makes the topics it names.";
    "delete.topic.enable", Boolean, "true", ANY, fixed, "Whether DeleteTopics is served.";
    "max.request.partition.size.limit", Int, "2000", at_least(1), fixed, "Partitions in one DescribeTopicPartitions answer.";
}

rows! { LOG: Row = Effect::Live;
    "message.max.bytes", Int, "1048588", at_least(0), running, "The largest batch a topic takes by default.";
    "log.segment.bytes", Int, "1073741824", at_least(1_048_576), running, "A segment file is rolled at this size.";
    "log.roll.ms", Long, null, at_least(1), running, "A segment is rolled at this age; goes before log.roll.hours.";
    "log.roll.hours", Int, "168", at_least(1), fixed, "A segment is rolled at this age.";
    "log.retention.ms", Long, null, at_least(-1), running, "Segments older than this are deleted; -1 = never.";
    "log.retention.minutes", Int, null, at_least(-1), fixed, "As log.retention.ms, which goes first.";
    "log.retention.hours", Int, "168", at_least(-1), fixed, "As log.retention.minutes, which goes first.";
    "log.retention.bytes", Long, "-1", ANY, running, "Oldest segments are deleted above this size of a partition; -1 = none.";
    "log.retention.check.interval.ms", Long, "300000", at_least(1), fixed, "How often retention is looked at.";
    "log.cleanup.policy", List, "delete", each(&["compact", "delete"]), running, "delete by age and size; compact is kept, not done yet.";
    "log.index.interval.bytes", Int, "4096", at_least(0), running, "Bytes of log between two index entries.";
    "log.flush.interval.messages", Long, "9223372036854775807", at_least(1), running,
        "1 is the same as ringtail.durability=flushed; other values do nothing.";
    "log.message.timestamp.type", String, "CreateTime", one_of(&["CreateTime", "LogAppendTime"]), running,
        "Whether a record keeps its producer's time or gets the time of its append.";
    "log.message.timestamp.before.max.ms", Long, "9223372036854775807", at_least(0), running,
        "A record older than this when it arrives is refused.";
    "log.message.timestamp.after.max.ms", Long, "3600000", at_least(0), running,
        "A record this far in the future when it arrives is refused.";
}

rows! { NETWORK: Row = Effect::Live;
    "socket.request.max.bytes", Int, "104857600", at_least(1024), fixed, "A longer request closes its connection.";
    "max.connections", Int, "2147483647", at_least(0), running, "Connections at once; half of the descriptors that may be open at most.";
    "max.connections.per.ip", Int, "2147483647", at_least(0), running, "Connections at once from one address, or one IPv6 network (/64).";
    "max.connections.per.ip.overrides", String, "", ANY, running,
        "address:count pairs, separated by commas: other limits than max.connections.per.ip for these addresses.";
    "connections.max.idle.ms", Long, "600000", ANY, fixed, "A connection without a request for this long is closed; < 0 = never.";
    "fetch.max.bytes", Int, "57671680", at_least(1024), fixed, "The most that one Fetch answer carries.";
    "max.incremental.fetch.session.cache.slots", Int, "1000", at_least(0), fixed, "Fetch sessions kept at once.";
    "producer.id.expiration.ms", Int, "86400000", at_least(1), running, "An idempotent producer's state is kept this long.";
}

rows! { RINGTAIL: Row = Effect::Live;
    "ringtail.shards", Int, null, between(1, 1024), fixed, "Threads, each with its core; by default the CPUs the process may use.";
    "ringtail.memory.bytes", String, "25%", Bounds::SizeOrShare(64 << 20), fixed,
        "Memory of buffers and caches, as a size (512m) or a share of the machine's (25%).";
    "ringtail.journal.bytes", String, "256m", Bounds::Size(8 << 20), fixed, "Journal of each shard in each directory.";
    "ringtail.arena.dir", String, "/dev/shm", Bounds::Text, fixed, "Where tail buffers are mapped, so that they outlive the process.";
    "ringtail.durability", String, "flushed", one_of(&["flushed", "written"]), running,
        "When an append counts: flushed = on the device, written = in memory that outlives the process.";
    "ringtail.spin.us", Int, null, between(0, 10_000), fixed, "How long an idle shard polls before it sleeps.";
    "ringtail.shard.producers.max", Int, "100000", at_least(1), fixed,
        "Idempotent producers that a shard remembers, counted per partition; above it the longest idle are forgotten.";
    "ringtail.receive.timeout.ms", Int, "60000", at_least(100), fixed,
        "A request that takes longer from its first byte to its last closes its connection.";
    "ringtail.send.timeout.ms", Int, "60000", at_least(100), fixed,
        "A connection is closed when its peer takes no byte of an answer for this long.";
    "ringtail.pressed.timeout.ms", Int, "5000", at_least(100), fixed,
        "ringtail.receive.timeout.ms and ringtail.send.timeout.ms of a peer whose address holds much of the memory that others wait for.";
    "ringtail.reserve.bytes", String, "512m", Bounds::Size(0), fixed, "Free space below which a directory refuses produce.";
    "ringtail.scrub.bytes.per.second", String, "8m", Bounds::Size(0), fixed,
        "How fast what is stored in a directory is read again, to find damage before a reader does; 0 = not at all.";
    "ringtail.scrub.interval.hours", Int, "168", at_least(1), fixed, "A scrub begins so long after the one before, or when that ends if it takes longer.";
}

rows! { AT_ONCE: Row = Effect::None(Reason::AtOnce);
    "log.segment.delete.delay.ms", Long, "60000", at_least(0), running, "";
}

/// The tables of this file.
const OWN: [&[Row]; 8] = [
    IDENTITY,
    LISTENERS,
    DIRECTORIES,
    TOPICS,
    LOG,
    NETWORK,
    RINGTAIL,
    AT_ONCE,
];

/// Every broker option, by name.
fn table() -> &'static BTreeMap<&'static str, &'static Row> {
    static TABLE: OnceLock<BTreeMap<&'static str, &'static Row>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let known = [
            known::REPLICATION,
            known::QUORUM,
            known::GROUPS,
            known::TRANSACTIONS,
            known::COMPACTION,
            known::TIERING,
            known::SECURITY,
            known::QUOTAS,
            known::MACHINERY,
            known::PENDING,
        ];
        OWN.into_iter()
            .chain(known)
            .flatten()
            .map(|row| (row.name, row))
            .collect()
    })
}

/// The broker option of this name.
pub fn broker_row(name: &str) -> Option<&'static Row> {
    table().get(name).copied()
}

/// All broker options, in the order of their names.
pub fn broker_rows() -> impl Iterator<Item = &'static Row> {
    table().values().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic_rows;

    #[test]
    fn every_row_is_sound() {
        assert!(broker_rows().count() > 340);
        for row in broker_rows() {
            if let Some(default) = row.default {
                assert_eq!(row.check(default), Ok(()));
            }
            assert_eq!(row.doc.is_empty(), row.effect != Effect::Live, "{}", row.name);
        }
        for row in topic_rows() {
            let default = row.row.default.expect("topic options have defaults");
            assert_eq!(row.row.check(default), Ok(()));
            for (synonym, _) in row.synonyms {
                assert!(
                    broker_row(synonym).is_some(),
                    "{} inherits from {synonym}",
                    row.row.name
                );
            }
        }
    }

    #[test]
    fn no_name_stands_in_two_tables() {
        let names: Vec<_> = OWN.into_iter().flatten().map(|row| row.name).collect();
        let known: usize = [
            known::REPLICATION,
            known::QUORUM,
            known::GROUPS,
            known::TRANSACTIONS,
            known::COMPACTION,
        ]
        .into_iter()
        .chain([
            known::TIERING,
            known::SECURITY,
            known::QUOTAS,
            known::MACHINERY,
            known::PENDING,
        ])
        .map(<[Row]>::len)
        .sum();
        assert_eq!(broker_rows().count(), names.len() + known);
        for (removed, _) in known::REMOVED {
            assert!(broker_row(removed).is_none(), "{removed}");
        }
    }
}
