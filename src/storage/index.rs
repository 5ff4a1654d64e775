//! Kafka's sparse indexes: entries, and the search for one. Pure; big-endian, as Kafka writes them.
//!
//! `.index` entries are (offset relative to the segment's base, position) of 4 + 4 bytes: the *last* offset of a batch and
//! the position where that batch begins. `.timeindex` entries are (timestamp, relative offset) of 8 + 4 bytes: the largest
//! timestamp so far and the offset that has it.

/// Bytes of an `.index` entry.
pub const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes of a `.timeindex` entry.
pub const TIME_ENTRY_BYTES: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetEntry {
    pub relative: u32,
    pub position: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeEntry {
    pub timestamp_ms: i64,
    pub relative: u32,
}

impl OffsetEntry {
    pub fn encode(&self) -> [u8; OFFSET_ENTRY_BYTES] {
        let mut out = [0; OFFSET_ENTRY_BYTES];
        out[..4].copy_from_slice(&self.relative.to_be_bytes());
        out[4..].copy_from_slice(&self.position.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (relative, rest) = bytes.split_first_chunk::<4>()?;
        let (position, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            relative: u32::from_be_bytes(*relative),
            position: u32::from_be_bytes(*position),
        })
    }
}

impl TimeEntry {
    pub fn encode(&self) -> [u8; TIME_ENTRY_BYTES] {
        let mut out = [0; TIME_ENTRY_BYTES];
        out[..8].copy_from_slice(&self.timestamp_ms.to_be_bytes());
        out[8..].copy_from_slice(&self.relative.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (timestamp, rest) = bytes.split_first_chunk::<8>()?;
        let (relative, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            timestamp_ms: i64::from_be_bytes(*timestamp),
            relative: u32::from_be_bytes(*relative),
        })
    }
}

/// The last entry of consecutive fixed-size `entries` for which `below` holds (it holds for a prefix of them).
pub fn last_where<T>(
    entries: &[u8],
    entry_bytes: usize,
    decode: impl Fn(&[u8]) -> Option<T>,
    below: impl Fn(&T) -> bool,
) -> Option<T> {
    let (mut low, mut high) = (0, entries.len() / entry_bytes);
    let mut found = None;
    while low < high {
        let middle = (low + high) / 2;
        match decode(&entries[middle * entry_bytes..]).filter(|e| below(e)) {
            Some(entry) => {
                found = Some(entry);
                low = middle + 1;
            }
            None => high = middle,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_at_or_below_is_found() {
        let mut bytes = Vec::new();
        for i in 0..100u32 {
            bytes.extend(
                OffsetEntry {
                    relative: i * 10,
                    position: i * 100,
                }
                .encode(),
            );
        }
        let find = |target: u32| {
            last_where(&bytes, OFFSET_ENTRY_BYTES, OffsetEntry::decode, |e| {
                e.relative <= target
            })
            .map(|e| e.position)
        };
        assert_eq!(
            (find(0), find(9), find(10), find(5000)),
            (Some(0), Some(0), Some(100), Some(9900))
        );
        assert_eq!(
            last_where(&bytes[..7], OFFSET_ENTRY_BYTES, OffsetEntry::decode, |_| true),
            None
        );
    }
}
