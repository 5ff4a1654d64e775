//! Records to and from the FlatBuffers bytes of one commit.

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, UnionWIPOffset, Vector, VerifierOptions, WIPOffset};

use crate::base::ids::TopicId;

use super::ids::DirectoryId;
use super::metadata_generated::ringtail::metadata as fb;
use super::record::{Configs, Record};

/// The bytes of a commit of `records`.
pub fn encode(records: &[Record]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::with_capacity(256);
    let entries: Vec<_> = records
        .iter()
        .map(|record| encode_entry(&mut builder, record))
        .collect();
    let entries = builder.create_vector(&entries);
    let commit = fb::Commit::create(&mut builder, &fb::CommitArgs { entries: Some(entries) });
    fb::finish_commit_buffer(&mut builder, commit);
    builder.finished_data().to_vec()
}

type Builder<'b> = FlatBufferBuilder<'b>;

fn encode_entry<'b>(b: &mut Builder<'b>, record: &Record) -> WIPOffset<fb::Entry<'b>> {
    let (record_type, record) = match record {
        Record::ClusterCreated { cluster_id, node_id } => {
            let cluster_id = Some(b.create_string(cluster_id));
            let args = fb::ClusterCreatedArgs {
                cluster_id,
                node_id: *node_id,
            };
            (
                fb::Record::ClusterCreated,
                fb::ClusterCreated::create(b, &args).as_union_value(),
            )
        }
        Record::DirectoryRegistered { id, path } => {
            let path = Some(b.create_string(path));
            let args = fb::DirectoryRegisteredArgs {
                id: Some(&fb::Id::new(&id.0)),
                path,
            };
            (
                fb::Record::DirectoryRegistered,
                fb::DirectoryRegistered::create(b, &args).as_union_value(),
            )
        }
        Record::TopicCreated {
            id,
            name,
            partitions,
            configs,
        } => encode_topic_created(b, *id, name, partitions, configs),
        Record::PartitionsAdded {
            topic,
            first,
            partitions,
        } => encode_partitions_added(b, *topic, *first, partitions),
        Record::TopicDeleted { topic } => {
            let args = fb::TopicDeletedArgs {
                topic: Some(&fb::Id::new(&topic.0)),
            };
            (
                fb::Record::TopicDeleted,
                fb::TopicDeleted::create(b, &args).as_union_value(),
            )
        }
        Record::TopicConfigsSet { topic, configs } => encode_topic_configs(b, *topic, configs),
        Record::BrokerConfigsSet { node_id, configs } => encode_broker_configs(b, *node_id, configs),
        Record::ProducerIdsAllocated { end } => {
            let args = fb::ProducerIdsAllocatedArgs { end: *end };
            (
                fb::Record::ProducerIdsAllocated,
                fb::ProducerIdsAllocated::create(b, &args).as_union_value(),
            )
        }
    };
    fb::Entry::create(
        b,
        &fb::EntryArgs {
            record_type,
            record: Some(record),
        },
    )
}

/// A union's member and where it is.
type Member = (fb::Record, WIPOffset<UnionWIPOffset>);

fn encode_topic_created(
    b: &mut Builder<'_>,
    id: TopicId,
    name: &str,
    partitions: &[DirectoryId],
    configs: &Configs,
) -> Member {
    let name = Some(b.create_string(name));
    let partitions = Some(encode_ids(b, partitions));
    let configs = Some(encode_configs(b, configs));
    let args = fb::TopicCreatedArgs {
        id: Some(&fb::Id::new(&id.0)),
        name,
        partitions,
        configs,
    };
    (
        fb::Record::TopicCreated,
        fb::TopicCreated::create(b, &args).as_union_value(),
    )
}

fn encode_partitions_added(b: &mut Builder<'_>, topic: TopicId, first: i32, partitions: &[DirectoryId]) -> Member {
    let partitions = Some(encode_ids(b, partitions));
    let args = fb::PartitionsAddedArgs {
        topic: Some(&fb::Id::new(&topic.0)),
        first,
        partitions,
    };
    (
        fb::Record::PartitionsAdded,
        fb::PartitionsAdded::create(b, &args).as_union_value(),
    )
}

fn encode_topic_configs(b: &mut Builder<'_>, topic: TopicId, configs: &Configs) -> Member {
    let configs = Some(encode_configs(b, configs));
    let args = fb::TopicConfigsSetArgs {
        topic: Some(&fb::Id::new(&topic.0)),
        configs,
    };
    (
        fb::Record::TopicConfigsSet,
        fb::TopicConfigsSet::create(b, &args).as_union_value(),
    )
}

fn encode_broker_configs(b: &mut Builder<'_>, node_id: Option<i32>, configs: &Configs) -> Member {
    let configs = Some(encode_configs(b, configs));
    let args = fb::BrokerConfigsSetArgs {
        node_id: node_id.unwrap_or(-1),
        configs,
    };
    (
        fb::Record::BrokerConfigsSet,
        fb::BrokerConfigsSet::create(b, &args).as_union_value(),
    )
}

fn encode_ids<'b>(b: &mut Builder<'b>, ids: &[DirectoryId]) -> WIPOffset<Vector<'b, fb::Id>> {
    let ids: Vec<fb::Id> = ids.iter().map(|id| fb::Id::new(&id.0)).collect();
    b.create_vector(&ids)
}

type ConfigsOffset<'b> = WIPOffset<Vector<'b, ForwardsUOffset<fb::Config<'b>>>>;

fn encode_configs<'b>(b: &mut Builder<'b>, configs: &Configs) -> ConfigsOffset<'b> {
    let mut entries = Vec::with_capacity(configs.len());
    for (name, value) in configs {
        let (name, value) = (Some(b.create_string(name)), Some(b.create_string(value)));
        entries.push(fb::Config::create(b, &fb::ConfigArgs { name, value }));
    }
    b.create_vector(&entries)
}

/// The records of a commit; `None` when the verifier refuses the bytes or a record is of a kind this version has not.
pub fn decode(bytes: &[u8]) -> Option<Vec<Record>> {
    // A table takes at least 8 bytes; strings and vectors may share bytes, so the apparent size is bounded too.
    let options = VerifierOptions {
        max_depth: 8,
        max_tables: bytes.len() / 8 + 1,
        max_apparent_size: bytes.len().saturating_mul(4),
        ignore_missing_null_terminator: false,
    };
    let commit = flatbuffers::root_with_opts::<fb::Commit>(&options, bytes).ok()?;
    commit.entries().iter().map(decode_entry).collect()
}

fn decode_entry(entry: fb::Entry<'_>) -> Option<Record> {
    Some(match entry.record_type() {
        fb::Record::ClusterCreated => {
            let record = entry.record_as_cluster_created()?;
            Record::ClusterCreated {
                cluster_id: record.cluster_id().to_owned(),
                node_id: record.node_id(),
            }
        }
        fb::Record::DirectoryRegistered => {
            let record = entry.record_as_directory_registered()?;
            Record::DirectoryRegistered {
                id: DirectoryId(id(record.id())),
                path: record.path().to_owned(),
            }
        }
        fb::Record::TopicCreated => {
            let record = entry.record_as_topic_created()?;
            Record::TopicCreated {
                id: TopicId(id(record.id())),
                name: record.name().to_owned(),
                partitions: decode_ids(record.partitions()),
                configs: decode_configs(record.configs()),
            }
        }
        fb::Record::PartitionsAdded => {
            let record = entry.record_as_partitions_added()?;
            Record::PartitionsAdded {
                topic: TopicId(id(record.topic())),
                first: record.first(),
                partitions: decode_ids(record.partitions()),
            }
        }
        fb::Record::TopicDeleted => Record::TopicDeleted {
            topic: TopicId(id(entry.record_as_topic_deleted()?.topic())),
        },
        fb::Record::TopicConfigsSet => {
            let record = entry.record_as_topic_configs_set()?;
            Record::TopicConfigsSet {
                topic: TopicId(id(record.topic())),
                configs: decode_configs(record.configs()),
            }
        }
        fb::Record::BrokerConfigsSet => {
            let record = entry.record_as_broker_configs_set()?;
            let node_id = Some(record.node_id()).filter(|node_id| *node_id >= 0);
            Record::BrokerConfigsSet {
                node_id,
                configs: decode_configs(record.configs()),
            }
        }
        fb::Record::ProducerIdsAllocated => Record::ProducerIdsAllocated {
            end: entry.record_as_producer_ids_allocated()?.end(),
        },
        _ => return None,
    })
}

fn id(id: &fb::Id) -> [u8; 16] {
    id.0
}

fn decode_ids(ids: Vector<'_, fb::Id>) -> Vec<DirectoryId> {
    ids.iter().map(|one| DirectoryId(id(one))).collect()
}

fn decode_configs(configs: Vector<'_, ForwardsUOffset<fb::Config<'_>>>) -> Configs {
    configs
        .iter()
        .map(|config| (config.name().to_owned(), config.value().to_owned()))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One record of each kind.
    pub fn one_of_each() -> Vec<Record> {
        let configs: Configs = [
            ("retention.ms".to_owned(), "1".to_owned()),
            ("é".to_owned(), String::new()),
        ]
        .into();
        let (topic, directory) = (TopicId([7; 16]), DirectoryId([9; 16]));
        vec![
            Record::ClusterCreated {
                cluster_id: "cluster".into(),
                node_id: 3,
            },
            Record::DirectoryRegistered {
                id: directory,
                path: "/data/1".into(),
            },
            Record::TopicCreated {
                id: topic,
                name: "t".into(),
                partitions: vec![directory; 3],
                configs: configs.clone(),
            },
            Record::PartitionsAdded {
                topic,
                first: 3,
                partitions: vec![directory],
            },
            Record::TopicConfigsSet {
                topic,
                configs: Configs::new(),
            },
            Record::BrokerConfigsSet {
                node_id: None,
                configs: configs.clone(),
            },
            Record::BrokerConfigsSet {
                node_id: Some(3),
                configs,
            },
            Record::ProducerIdsAllocated { end: 1000 },
            Record::TopicDeleted { topic },
        ]
    }

    #[test]
    fn records_read_back() {
        let records = one_of_each();
        assert_eq!(decode(&encode(&records)), Some(records.clone()));
        for record in records {
            assert_eq!(decode(&encode(std::slice::from_ref(&record))), Some(vec![record]));
        }
        assert_eq!(decode(&encode(&[])), Some(vec![]));
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let good = encode(&one_of_each());
        for length in 0..good.len() {
            let _ = decode(&good[..length]);
        }
        for position in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[position] ^= flip;
                let _ = decode(&bad);
            }
        }
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0xff; 64]), None);
    }
}
