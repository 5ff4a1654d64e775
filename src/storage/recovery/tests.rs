//! States that no broker leaves, and files of earlier starts.

use super::*;
use crate::io::OpenOptions;
use crate::io::sim::{DiskOperation, EIO, Fault, FaultEffect, Options, SimEnv, World};
use crate::storage::build::{SegmentBuild, SegmentIdentity};
use crate::storage::cursor::Cursor;
use crate::storage::epochs::Epochs;
use crate::storage::producers::Producers;
use crate::storage::segment::path_of;

const DATA: &str = "/data";
const ARENAS: &str = "/dev/shm";

fn place() -> LogDirectory {
    LogDirectory {
        path: DATA.into(),
        id: [9; 16],
    }
}

async fn recovered(env: &SimEnv) -> Arc<Recovered> {
    let recovered = recover(env, &[place()], Path::new(ARENAS), |_| Wanted::Yes).await;
    recovered.expect("recovery succeeds")
}

/// A directory with one partition whose segment has `bytes`, and a base checkpoint that says `state` of it.
async fn leave(env: &SimEnv, state: &PartitionState, bytes: Option<u64>) {
    let folder = place().path.join("t-0");
    env.create_directory(&folder).await.expect("made");
    let metadata = format!("version: 0\ntopic_id: {}\n", state.id.topic);
    let metadata = replace_file(env, &folder.join("partition.metadata"), Bytes::from(metadata)).await;
    metadata.expect("written");
    if let Some(bytes) = bytes {
        let log = env.open(&path_of(&folder, 0, "log"), OpenOptions::CREATE_DIRECT).await;
        env.allocate(&log.expect("made"), 0, bytes).await.expect("allocated");
    }
    let mut encoded = Vec::new();
    state.encode(&mut encoded);
    let base = Checkpoint::encode(place().id, OwnFile::Base { start: 0 }, 0, 1, &encoded);
    let base = replace_file(env, &place().path.join(base_name(0)), Bytes::from(base)).await;
    base.expect("written");
}

/// A partition of which nine records in 5000 bytes are durable.
fn nine_records(id: PartitionId) -> PartitionState {
    PartitionState {
        id,
        log_start: 0,
        boundary: Cursor {
            segment: 0,
            position: 5000,
            offset: 9,
        },
        stored: 5000,
        tail: Bytes::new(),
        reach: 9,
        damaged: false,
        build: SegmentBuild::new(SegmentIdentity {
            partition: id,
            base: 0,
            uid: 1,
        }),
        epochs: Epochs::default(),
        producers: Producers::default(),
    }
}

#[test]
fn a_log_whose_last_block_is_nowhere_is_damaged() {
    let id = PartitionId {
        topic: TopicId([5; 16]),
        index: 0,
    };
    let state = nine_records(id);
    for (bytes, damaged) in [(None, true), (Some(4096), true), (Some(8192), false)] {
        let (world, state) = (World::new(51, Options::default()), state.clone());
        let found = world.block_on(0, move |env| async move {
            leave(&env, &state, bytes).await;
            recovered(&env).await.directories[0].take(id).expect("it is known")
        });
        assert_eq!(found.state.damaged, damaged, "{bytes:?}");
        let at_end = (found.state.boundary.position, found.state.reach);
        assert_eq!(at_end, (5000, 9), "{bytes:?}");
    }
}

#[test]
fn a_removal_whose_names_cannot_be_flushed_ends_the_directory() {
    let world = World::new(52, Options::default());
    let recovered = world.block_on(0, |env| async move { recovered(&env).await });
    let directory = recovered.directories[0].clone();
    let broken = FaultEffect::Error(EIO);
    world.plant(0, Fault::always(DiskOperation::Flush, DATA, broken));
    world.block_on(0, |env| async move { recovered.remove_superseded(&env).await });
    assert!(!directory.is_in_service());
}

/// Where the names of topics are not known there is no telling which is the copy.
#[test]
fn two_folders_of_one_partition_are_refused_and_left_as_they_are() {
    let id = PartitionId {
        topic: TopicId([5; 16]),
        index: 0,
    };
    World::new(53, Options::default()).block_on(0, |env| async move {
        leave(&env, &nine_records(id), Some(8192)).await;
        let copy = place().path.join("copy-0");
        env.create_directory(&copy).await.expect("made");
        let text = format!("version: 0\ntopic_id: {}\n", id.topic);
        let written = replace_file(&env, &copy.join("partition.metadata"), Bytes::from(text)).await;
        written.expect("written");
        let listed = async || env.list(&place().path).await.expect("listed").len();
        let before = listed().await;
        let refused = recover(&env, &[place()], Path::new(ARENAS), |_| Wanted::Unknown).await;
        let error = refused.err().expect("one is a copy").0;
        assert!(error.contains("/t-0") && error.contains("/copy-0"), "{error}");
        assert_eq!(listed().await, before);
    });
}
