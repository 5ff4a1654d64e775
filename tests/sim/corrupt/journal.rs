//! A journal file as its page describes it, read by other code than the broker's.

use std::ops::Range;

const BLOCK: usize = 4096;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What is where in a file: the bytes that mean something.
pub struct Map {
    pub meaning: Vec<Range<usize>>,
    /// The last commit, if it has neither rows nor payload: a confirmation.
    pub last_empty: Option<Range<usize>>,
    pub commits: usize,
}

/// `None` for a file without a header.
pub fn map(content: &[u8]) -> Option<Map> {
    if content.len() < BLOCK || u64_at(content, 0) != 0x314c_4e52_4a47_4e52 {
        return None;
    }
    if crc32c::crc32c(&content[..72]) != u32_at(content, 72) {
        return None;
    }
    let salt = &content[48..56];
    let mut map = Map {
        meaning: std::iter::once(0..76).collect(),
        last_empty: None,
        commits: 0,
    };
    let (mut at, mut sequence) = (BLOCK, None);
    while at + BLOCK <= content.len() && u32_at(content, at) == 0x4d43_4a52 {
        let head = &content[at..at + 48];
        let seeded = crc32c::crc32c_append(crc32c::crc32c(salt), &head[8..]);
        let number = u64_at(head, 8);
        if seeded != u32_at(head, 4) || sequence.is_some_and(|before| number != before + 1) {
            break;
        }
        let body = 48 + u32_at(head, 24) as usize + u32_at(head, 28) as usize;
        map.meaning.push(at..at + body);
        map.last_empty = (body == 48).then_some(at..at + body);
        map.commits += 1;
        sequence = Some(number);
        at += u32_at(head, 20) as usize;
    }
    Some(map)
}
