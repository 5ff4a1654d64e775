//! Memory that a killed process left: an arena built from the input. Claims: no panic, no byte outside of the region is reached, memory
//! within the budget of the region's bytes, a chunk's place encodes to bytes that decode to the same.
//!
//! The input: five words of the head (a choice, then eight bytes where it is not the right one), then one header per unit (a choice:
//! bit 0 leaves the check sum wrong, bit 1 takes any words instead of small ones; filled, run, stored, identity).

use std::sync::Arc;

use ringtail::base::buffer::{AlignedBuf, Arena, Region};
use ringtail::storage::formats::ChunkPlace;

use super::input::{Input, put};
use super::memory::bounded;

const MAGIC: u64 = 0x3130_616e_6572_6172;
const BLOCK_BYTES: usize = 4096;
const HEADER_BYTES: usize = 128;
const UNITS: usize = 3;
const BOOT: u128 = 7 << 64 | 9;
const REGION_BYTES: usize = (2 + UNITS) * BLOCK_BYTES;

fn build(mut input: Input<'_>) -> Vec<u8> {
    let mut region = vec![0xa5; REGION_BYTES];
    let right = [
        MAGIC,
        BLOCK_BYTES as u64,
        UNITS as u64,
        BOOT as u64,
        (BOOT >> 64) as u64,
    ];
    for (index, word) in right.into_iter().enumerate() {
        let word = match input.byte() {
            0..0xe0 => word,
            _ => input.number(),
        };
        put(&mut region, 8 * index, &word.to_le_bytes());
    }
    let mut at = BLOCK_BYTES;
    while !input.is_empty() && at + HEADER_BYTES <= 2 * BLOCK_BYTES {
        let choice = input.byte();
        let mut word = || match choice & 2 {
            0 => u64::from(input.u16()),
            _ => input.number(),
        };
        let (filled, run, stored) = (word(), word(), word());
        put(&mut region, at, &filled.to_le_bytes());
        put(&mut region, at + 8, &run.to_le_bytes());
        put(&mut region, at + 16, &input.array::<80>());
        put(&mut region, at + 104, &stored.to_le_bytes());
        if choice & 1 == 0 {
            let check = crc32c::crc32c_append(MAGIC as u32, &region[at + 8..at + 96]);
            put(&mut region, at + 96, &u64::from(check).to_le_bytes());
        }
        at += HEADER_BYTES;
    }
    region
}

pub fn run(input: &[u8]) {
    let region = Arc::new(Region::from_buffer(AlignedBuf::copy_of(&build(Input(input)))));
    for boot in [BOOT, 0] {
        let chunks = bounded(region.bytes(), || Arena::recover(&region, boot));
        for chunk in chunks {
            assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= REGION_BYTES && chunk.stored <= chunk.bytes.len());
            // Reading both ends shows that they lie in the region.
            let _ = chunk.bytes.first().copied().max(chunk.bytes.last().copied());
            if let Some(place) = ChunkPlace::decode(&chunk.identity) {
                assert_eq!(ChunkPlace::decode(&place.encode()), Some(place));
            }
        }
    }
}
