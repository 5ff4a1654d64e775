//! The simulator's own tests: what it must never do by itself, what it must do to a careless program.

mod crash;
mod disk;
mod faults;
mod network;
mod process;

use std::path::Path;

use bytes::Bytes;

use super::{Options, SimEnv, SimFile, World};
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES};
use crate::io::{Durability, Env, OpenOptions};

fn world(seed: u64) -> World {
    World::new(seed, Options::default())
}

fn blocks(count: usize, fill: u8) -> Bytes {
    let mut buffer = AlignedBuf::new(count * BLOCK_BYTES);
    buffer.set_len(count * BLOCK_BYTES);
    buffer.fill(fill);
    buffer.freeze()
}

/// A file with durable name and size: `count` blocks, allocated, never written.
async fn allocated(env: &SimEnv, path: &str, count: u64) -> SimFile {
    let path = Path::new(path);
    let file = env.open(path, OpenOptions::CREATE_DIRECT).await.expect("created");
    env.allocate(&file, 0, count * BLOCK_BYTES as u64)
        .await
        .expect("allocated");
    env.flush(&file).await.expect("flushed");
    let parent = path.parent().expect("a directory");
    env.flush_directory(parent).await.expect("flushed");
    file
}

async fn write(env: &SimEnv, file: &SimFile, data: Bytes, block: u64, durability: Durability) {
    let bytes = data.len();
    let written = env.write_at(file, data, block * BLOCK_BYTES as u64, durability).await;
    assert_eq!(written.expect("written"), bytes);
}
