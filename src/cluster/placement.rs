//! Where a partition lives: which shard serves it, which directory holds it.

use crate::base::ids::PartitionId;

use super::ids::DirectoryId;

/// The shard, of `shard_count`, that owns a partition: a topic's partitions are dealt out one after the other from a
/// shard that its id chooses, so that a topic uses as many shards as it has partitions.
pub fn shard_of(partition: PartitionId, shard_count: usize) -> usize {
    assert!(shard_count > 0, "a broker has at least one shard");
    let id = u128::from_be_bytes(partition.topic.0);
    let start = mixed(id as u64 ^ mixed((id >> 64) as u64));
    let index = partition.index.max(0) as u64;
    ((start % shard_count as u64 + index) % shard_count as u64) as usize
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Directories for `count` new partitions: each goes to the directory with the fewest, the first of equals. `None`
/// without a directory.
pub fn place_partitions(
    count: usize,
    directories: &[DirectoryId],
    held: impl Fn(DirectoryId) -> u64,
) -> Option<Vec<DirectoryId>> {
    let mut loads: Vec<u64> = directories.iter().map(|directory| held(*directory)).collect();
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        let least = (0..loads.len()).min_by_key(|i| loads[*i])?;
        loads[least] += 1;
        places.push(directories[least]);
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicId;

    #[test]
    fn a_topic_is_spread_evenly_and_topics_begin_on_all_shards() {
        let mut starts = [0; 4];
        for seed in 0..400u64 {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&seed.to_be_bytes());
            let shard = |index| {
                shard_of(
                    PartitionId {
                        topic: TopicId(id),
                        index,
                    },
                    4,
                )
            };
            let mut counts = [0; 4];
            (0..8).for_each(|index| counts[shard(index)] += 1);
            assert_eq!(counts, [2; 4]);
            starts[shard(0)] += 1;
        }
        assert!(starts.iter().all(|count| (70..130).contains(count)), "{starts:?}");
    }

    #[test]
    fn partitions_fill_up_the_emptiest_directory() {
        let [a, b, c] = [DirectoryId([1; 16]), DirectoryId([2; 16]), DirectoryId([3; 16])];
        let held = |directory| if directory == b { 2 } else { 0 };
        assert_eq!(place_partitions(6, &[a, b, c], held), Some(vec![a, c, a, c, a, b]));
        assert_eq!(place_partitions(1, &[], held), None);
    }
}
