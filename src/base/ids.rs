//! Identifiers that travel on the wire and to the disk.

use std::fmt;

/// A topic's 128-bit id (KIP-516). Shown as Kafka shows it: URL-safe base64 without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TopicId(pub [u8; 16]);

/// One partition of one topic, by id: a topic deleted and made again is another topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PartitionId {
    pub topic: TopicId,
    pub index: i32,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    /// "No id": older protocol versions and lookups by name.
    pub const ZERO: Self = Self([0; 16]);

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Reads the 22-character form that `Display` writes; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return None;
        }
        let mut bits: u128 = 0;
        for (i, c) in text.iter().enumerate() {
            let value = ALPHABET.iter().position(|a| a == c)? as u128;
            // The last character carries two bits only: 21 * 6 + 2 = 128.
            if i == 21 {
                if value & 0xf != 0 {
                    return None;
                }
                bits = bits << 2 | value >> 4;
            } else {
                bits = bits << 6 | value;
            }
        }
        Some(Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        for i in 0..21 {
            let value = (bits >> (122 - 6 * i)) as usize & 0x3f;
            write!(f, "{}", ALPHABET[value] as char)?;
        }
        write!(f, "{}", ALPHABET[(bits << 4) as usize & 0x3f] as char)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_back_what_it_shows() {
        for seed in 0..64u128 {
            let id = TopicId((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes());
            assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(TopicId([0xff; 16]).to_string(), "_____________________w");
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId::parse("_____________________x"), None);
        assert_eq!(TopicId::parse("short"), None);
    }
}
