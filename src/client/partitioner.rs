//! Which partition a key belongs to: the same as for Kafka's Java client, so that both may write one topic.

/// The partition of `key` among `partition_count`: murmur2 (32 bits, Austin Appleby's, with Kafka's seed), sign bit cleared.
pub fn partition_of_key(key: &[u8], partition_count: i32) -> i32 {
    assert!(partition_count > 0);
    (murmur2(key) & 0x7fff_ffff) as i32 % partition_count
}

fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that Kafka's own `Utils.murmur2` gives.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        let known: &[(&[u8], i32)] = &[
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            (b"abc", 479470107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key) as i32, *hash, "{}", key.escape_ascii());
        }
    }
}
