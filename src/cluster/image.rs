//! The state that the records add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::TopicId;

use super::ids::DirectoryId;
use super::record::{Configs, Record};

/// Which cluster this is, and which broker of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    pub id: Arc<str>,
    pub node_id: i32,
}

/// One topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    /// The directory of each partition, by index.
    pub partitions: Vec<DirectoryId>,
    /// What was set on the topic itself.
    pub configs: Configs,
}

/// The cluster as of the last applied record. Every shard has its own copy; topics are shared between copies' clones.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    cluster: Option<Cluster>,
    /// Where each directory was seen last.
    directories: BTreeMap<DirectoryId, Arc<str>>,
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    names: BTreeMap<TopicId, Arc<str>>,
    /// Names with `.` as `_`: two topics must not be the same there, as metrics of both would be one.
    folded_names: BTreeMap<String, Arc<str>>,
    /// Partitions of each directory.
    partition_counts: BTreeMap<DirectoryId, u64>,
    broker_configs: BTreeMap<Option<i32>, Configs>,
    producer_ids_end: i64,
    /// Topics whose folders may still be there.
    deleted: BTreeSet<TopicId>,
}

/// A topic's name as it counts for collisions.
pub(super) fn folded(name: &str) -> String {
    name.replace('.', "_")
}

impl Image {
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topic(self.names.get(&id)?)
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// All topics from `name` on, in the order of their names.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        let from = (std::ops::Bound::Included(name), std::ops::Bound::Unbounded);
        self.topics.range::<str, _>(from).map(|(_, topic)| topic)
    }

    /// Known directories and where each was seen last.
    pub fn directories(&self) -> impl Iterator<Item = (DirectoryId, &Arc<str>)> {
        self.directories.iter().map(|(id, path)| (*id, path))
    }

    pub fn partition_count(&self, directory: DirectoryId) -> u64 {
        self.partition_counts.get(&directory).copied().unwrap_or(0)
    }

    /// What was set on one broker, or on all (`None`).
    pub fn broker_configs(&self, node_id: Option<i32>) -> impl Iterator<Item = (&str, &str)> {
        let configs = self.broker_configs.get(&node_id).into_iter().flatten();
        configs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Producer ids below this are given out.
    pub fn producer_ids_end(&self) -> i64 {
        self.producer_ids_end
    }

    /// Whether the topic was deleted and its folders may still be there.
    pub fn is_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(&id)
    }

    /// No folder of a deleted topic is left.
    pub fn forget_deleted(&mut self) {
        self.deleted.clear();
    }

    /// The topic whose name collides with `name` (itself included).
    pub(super) fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        self.folded_names.get(&folded(name))
    }

    /// Brings one record in. A record about a topic that is not there changes nothing.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::ClusterCreated { cluster_id, node_id } => {
                self.cluster = Some(Cluster {
                    id: cluster_id.as_str().into(),
                    node_id: *node_id,
                });
            }
            Record::DirectoryRegistered { id, path } => {
                self.directories.insert(*id, path.as_str().into());
            }
            Record::TopicCreated {
                id,
                name,
                partitions,
                configs,
            } => {
                let name: Arc<str> = name.as_str().into();
                self.make_way(*id, &name);
                self.count(partitions, 1);
                self.deleted.remove(id);
                self.names.insert(*id, name.clone());
                self.folded_names.insert(folded(&name), name.clone());
                let topic = Topic {
                    id: *id,
                    name: name.clone(),
                    partitions: partitions.clone(),
                    configs: configs.clone(),
                };
                self.topics.insert(name, Arc::new(topic));
            }
            Record::PartitionsAdded {
                topic,
                first,
                partitions,
            } => {
                let added = self.topic_mut(*topic, |topic| {
                    let follows = topic.partitions.len() as i64 == i64::from(*first);
                    if follows {
                        topic.partitions.extend_from_slice(partitions);
                    }
                    follows
                });
                if added == Some(true) {
                    self.count(partitions, 1);
                }
            }
            Record::TopicDeleted { topic } => self.delete(*topic),
            Record::TopicConfigsSet { topic, configs } => {
                self.topic_mut(*topic, |topic| topic.configs = configs.clone());
            }
            Record::BrokerConfigsSet { node_id, configs } => {
                self.broker_configs.insert(*node_id, configs.clone());
            }
            Record::ProducerIdsAllocated { end } => self.producer_ids_end = self.producer_ids_end.max(*end),
        }
    }

    fn topic_mut<R>(&mut self, id: TopicId, change: impl FnOnce(&mut Topic) -> R) -> Option<R> {
        let topic = self.topics.get_mut(self.names.get(&id)?)?;
        Some(change(Arc::make_mut(topic)))
    }

    /// Id and name are one topic's each. `decide` gives none twice; of records that do, the last one counts.
    fn make_way(&mut self, id: TopicId, name: &str) {
        self.remove(id);
        if let Some(other) = self.topics.get(name).map(|topic| topic.id) {
            self.remove(other);
        }
    }

    fn delete(&mut self, id: TopicId) {
        self.deleted.insert(id);
        self.remove(id);
    }

    fn remove(&mut self, id: TopicId) {
        let Some(name) = self.names.remove(&id) else { return };
        self.folded_names.remove(&folded(&name));
        if let Some(topic) = self.topics.remove(&name) {
            self.count(&topic.partitions, -1);
        }
    }

    fn count(&mut self, partitions: &[DirectoryId], step: i64) {
        for directory in partitions {
            let count = self.partition_counts.entry(*directory).or_default();
            *count = count.saturating_add_signed(step);
            if *count == 0 {
                self.partition_counts.remove(directory);
            }
        }
    }

    /// Records that make this image from an empty one.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let cluster = self.cluster.iter().map(|cluster| Record::ClusterCreated {
            cluster_id: cluster.id.to_string(),
            node_id: cluster.node_id,
        });
        let directories = self.directories.iter().map(|(id, path)| Record::DirectoryRegistered {
            id: *id,
            path: path.to_string(),
        });
        let topics = self.topics.values().map(|topic| Record::TopicCreated {
            id: topic.id,
            name: topic.name.to_string(),
            partitions: topic.partitions.clone(),
            configs: topic.configs.clone(),
        });
        let deleted = self.deleted.iter().map(|id| Record::TopicDeleted { topic: *id });
        let brokers = self
            .broker_configs
            .iter()
            .map(|(node_id, configs)| Record::BrokerConfigsSet {
                node_id: *node_id,
                configs: configs.clone(),
            });
        let producer_ids = (self.producer_ids_end > 0).then_some(Record::ProducerIdsAllocated {
            end: self.producer_ids_end,
        });
        cluster
            .chain(directories)
            .chain(topics)
            .chain(deleted)
            .chain(brokers)
            .chain(producer_ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::codec::tests::one_of_each;

    fn image(records: &[Record]) -> Image {
        let mut image = Image::default();
        records.iter().for_each(|record| image.apply(record));
        image
    }

    #[test]
    fn replay_gives_the_same_image() {
        let all = one_of_each();
        for length in 0..=all.len() {
            let first = image(&all[..length]);
            assert_eq!(image(&first.records().collect::<Vec<_>>()), first);
        }
    }

    #[test]
    fn of_two_topics_with_one_id_or_one_name_the_last_counts() {
        let created = |id, name: &str| Record::TopicCreated {
            id: TopicId([id; 16]),
            name: name.into(),
            partitions: vec![DirectoryId([9; 16])],
            configs: Configs::default(),
        };
        let deleted = |id| Record::TopicDeleted {
            topic: TopicId([id; 16]),
        };
        for records in [
            vec![created(1, "a"), created(1, "b")],
            vec![created(1, "a"), created(1, "b"), deleted(1)],
            vec![created(1, "a"), created(2, "a")],
            vec![created(1, "a"), created(2, "a"), deleted(1)],
        ] {
            let first = image(&records);
            assert_eq!(image(&first.records().collect::<Vec<_>>()), first, "{records:?}");
            let count = first.topics().count();
            assert_eq!(first.partition_count(DirectoryId([9; 16])), count as u64);
        }
    }

    #[test]
    fn records_add_up() {
        let all = one_of_each();
        let before_deletion = image(&all[..all.len() - 1]);
        let topic = before_deletion.topic("t").unwrap();
        assert_eq!((topic.partitions.len(), topic.configs.len()), (4, 0));
        assert_eq!(before_deletion.topic_by_id(topic.id), Some(topic));
        assert_eq!(before_deletion.partition_count(DirectoryId([9; 16])), 4);
        assert_eq!(before_deletion.colliding("t").map(|name| &**name), Some("t"));
        assert_eq!(before_deletion.broker_configs(Some(3)).count(), 2);
        let after = image(&all);
        assert_eq!(
            (after.topics().len(), after.partition_count(DirectoryId([9; 16]))),
            (0, 0)
        );
        assert_eq!(
            (after.topic_by_id(TopicId([7; 16])), after.colliding("t")),
            (None, None)
        );
        assert_eq!(after.producer_ids_end(), 1000);
    }

    #[test]
    fn a_topic_that_is_there_is_not_a_deleted_one() {
        let mut records = vec![Record::TopicDeleted {
            topic: TopicId([7; 16]),
        }];
        records.push(one_of_each()[2].clone());
        let first = image(&records);
        assert!(first.topic("t").is_some() && !first.is_deleted(TopicId([7; 16])));
        assert_eq!(image(&first.records().collect::<Vec<_>>()), first);
    }

    #[test]
    fn a_record_that_does_not_fit_changes_nothing() {
        let mut image = image(&one_of_each()[..3]);
        let before = image.clone();
        let (stranger, directory) = (TopicId([1; 16]), DirectoryId([9; 16]));
        image.apply(&Record::PartitionsAdded {
            topic: TopicId([7; 16]),
            first: 2,
            partitions: vec![directory],
        });
        image.apply(&Record::PartitionsAdded {
            topic: stranger,
            first: 0,
            partitions: vec![directory],
        });
        image.apply(&Record::TopicConfigsSet {
            topic: stranger,
            configs: Configs::new(),
        });
        assert_eq!(image, before);
    }
}
