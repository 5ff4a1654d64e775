//! Seeds of the targets that read what lies in a log directory.

use ringtail::base::ids::{PartitionId, TopicId};
use ringtail::cluster::formats::{encode_commit, push_commit, sealed_file};
use ringtail::cluster::{DirectoryId, Record};
use ringtail::storage::formats::{
    Checkpoint, ChunkPlace, Cursor, Epochs, OffsetEntry, OwnFile, Owner, PartitionState, Producers, Range, Row,
    SegmentBuild, SegmentIdentity, Sequenced, SumsRow, SumsTrailer, TimeEntry,
};

use super::{Seeds, put};

fn partition() -> PartitionId {
    PartitionId {
        topic: TopicId([7; 16]),
        index: 3,
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

fn rows(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::new();
    rows.iter().for_each(|row| row.encode(&mut out));
    out
}

pub fn journal(folder: &mut Seeds) {
    let owner = Owner {
        partition: partition(),
        generation: 2,
    };
    let at = Range {
        segment: 5,
        position: 4096,
        bytes: 3,
        next_offset: 9,
    };
    let facts = [
        Row::Append { owner, at, payload: 0 },
        Row::Extent { owner, at },
        Row::Settled {
            owner,
            to: Cursor {
                segment: 5,
                position: 4099,
                offset: 9,
            },
        },
        Row::Rolled {
            owner,
            segment: 5,
            bytes: 4099,
            next_offset: 9,
        },
        Row::LogStart { owner, offset: 6 },
    ];
    let header = [0, 0];
    let commit = |rows: &[u8], payload: &[u8]| [&[1], &sized(rows)[..], &sized(payload)].concat();
    let plain = [
        &header[..],
        &commit(&rows(&facts), b"abc"),
        &commit(&[], &[]),
        &commit(&rows(&facts[3..]), b""),
    ]
    .concat();
    put(folder, "commits", &plain);
    let next = commit(&rows(&[Row::Next { file: 1, salt: 101 }]), b"");
    put(
        folder,
        "two-files",
        &[&plain[..], &next, &header, &commit(&rows(&facts), b"abc")].concat(),
    );
    put(folder, "next-missing", &[&plain[..], &next].concat());
    put(folder, "ready-not-entered", &[&plain[..], &header].concat());
    put(
        folder,
        "clean-stop",
        &[&plain[..], &commit(&rows(&[Row::CleanStop]), b"")].concat(),
    );
    // A commit that a damage shows, alone at the end and before a good one.
    let flip = [&[5], &sized(&[0x31, 0x10, 1])[..]].concat();
    put(
        folder,
        "torn",
        &[&header[..], &commit(&rows(&facts), b"abc"), &flip].concat(),
    );
    put(folder, "corrupt", &[&plain[..], &flip].concat());
    // Lies: lengths, with sums that hold.
    let lie = [&[4], &sized(&[0x18, 0x10, 0xff, 0x14, 0x20, 0x10])[..]].concat();
    put(folder, "lies", &[&plain[..], &lie].concat());
    // A commit out of its place; files out of order; a file in use without its header; one never used.
    put(
        folder,
        "jump",
        &[&plain[..], &[3], &sized(&rows(&facts[4..])), &sized(b"")[..], &[9, 0]].concat(),
    );
    put(
        folder,
        "last-sequence",
        &[
            &header[..],
            &[3],
            &sized(&rows(&facts[4..])),
            &sized(b"")[..],
            &[0xf0, 0],
            &commit(&[], &[]),
        ]
        .concat(),
    );
    put(
        folder,
        "gap",
        &[
            &plain[..],
            &[0, 1, 7],
            &commit(&rows(&facts), b"abc"),
            &[0, 1, 0xf0],
            &commit(&[], &[]),
        ]
        .concat(),
    );
    let headless = [&[5], &sized(&[0, 0, 1])[..]].concat();
    put(folder, "headless", &[&plain[..], &headless].concat());
    put(folder, "unused", &[&plain[..], &header, &headless].concat());
    put(folder, "many-rows", &[&header[..], &commit(&[8; 1000], b"")].concat());
}

fn build() -> SegmentBuild {
    SegmentBuild::new(SegmentIdentity {
        partition: partition(),
        base: 5,
        uid: 99,
    })
}

fn state(id: PartitionId) -> PartitionState {
    let mut build = build();
    build.identity.partition = id;
    build.offsets.push(
        &OffsetEntry {
            relative: 3,
            position: 100,
        }
        .encode(),
    );
    build.times.push(
        &TimeEntry {
            timestamp_ms: 1_000,
            relative: 3,
        }
        .encode(),
    );
    build.sums.push(
        &SumsRow {
            end: 4000,
            crc: 1,
            next_relative: 3,
        }
        .encode(),
    );
    build.row.start = 4000;
    let (mut epochs, mut producers) = (Epochs::default(), Producers::default());
    for epoch in 1..4 {
        epochs.note(epoch, i64::from(epoch) * 2);
    }
    for producer_id in [4, 9] {
        for n in 0..3 {
            let batch = Sequenced {
                producer_id,
                epoch: 1,
                first_sequence: 10 * n,
                last_sequence: 10 * n + 9,
            };
            producers.apply(&batch, i64::from(n), i64::from(n), 1_000);
        }
    }
    PartitionState {
        id,
        log_start: 1,
        boundary: Cursor {
            segment: 5,
            position: 5000,
            offset: 9,
        },
        stored: 4096,
        tail: b"tail".as_slice().into(),
        reach: 9,
        damaged: false,
        build,
        epochs,
        producers,
    }
}

pub fn checkpoint(folder: &mut Seeds) {
    let checkpoint = |states: &[PartitionState]| {
        let mut bytes = Vec::new();
        states.iter().for_each(|state| state.encode(&mut bytes));
        [
            vec![0],
            Checkpoint::encode([1; 16], OwnFile::Base { start: 2 }, 3, states.len() as u32, &bytes),
        ]
        .concat()
    };
    put(folder, "empty", &checkpoint(&[]));
    put(folder, "partition", &checkpoint(&[state(partition())]));
    let other = PartitionId {
        index: 4,
        ..partition()
    };
    put(folder, "partitions", &checkpoint(&[state(partition()), state(other)]));
    let mut bare = state(partition());
    (bare.epochs, bare.producers, bare.tail) = (Epochs::default(), Producers::default(), Default::default());
    (bare.boundary, bare.stored, bare.damaged) = (Cursor::segment_start(5), 0, true);
    put(folder, "bare", &checkpoint(&[bare]));
    let mut unsealed = checkpoint(&[state(partition())]);
    unsealed[0] = 1;
    put(folder, "own-sum", &unsealed);
}

pub fn segment_files(folder: &mut Seeds) {
    let identity = build().identity;
    let rows: Vec<u8> = [(4000, 3), (9000, 7), (12_000, 9)]
        .into_iter()
        .flat_map(|(end, next_relative)| {
            SumsRow {
                end,
                crc: identity.row_seed(0),
                next_relative,
            }
            .encode()
        })
        .collect();
    let trailer = SumsTrailer {
        uid: 99,
        log_bytes: 12_000,
        next_offset: 14,
        largest_ms: 1_000,
        is_latest_yet: true,
        rows: 3,
        sums_crc: 1,
        index_crc: 2,
        times_crc: 3,
    };
    let sums = [&identity.sums_head()[..], &rows, &trailer.encode(&identity)].concat();
    let offsets: Vec<u8> = (0..20)
        .flat_map(|n| {
            OffsetEntry {
                relative: 3 * n,
                position: 100 * n,
            }
            .encode()
        })
        .collect();
    let times: Vec<u8> = (0..20)
        .flat_map(|n| {
            TimeEntry {
                timestamp_ms: 7 * i64::from(n),
                relative: n,
            }
            .encode()
        })
        .collect();
    let seed = |mode: u8, target: i64, sums: &[u8], index: &[u8]| {
        [&[mode], &target.to_le_bytes()[..], &sized(sums), index].concat()
    };
    put(folder, "whole", &seed(0, 8, &sums, &offsets));
    put(folder, "own-sums", &seed(1, 13, &sums, &times));
    put(folder, "growing", &seed(0, 12_000, &sums[..64 + rows.len()], &times));
    put(folder, "index", &seed(0, 31, &[], &offsets));
}

pub fn arena(folder: &mut Seeds) {
    let place = ChunkPlace {
        owner: Owner {
            partition: partition(),
            generation: 2,
        },
        segment: 5,
        start: 8192,
    };
    let unit = |filled: u16, run: u16, stored: u16| {
        let words = [filled, run, stored].map(u16::to_le_bytes).concat();
        // The first eighty bytes: filled, run, stored come before them.
        [&[0], &words[..], &place.encode()].concat()
    };
    put(
        folder,
        "chunks",
        &[&[0; 5], &unit(5, 1, 3)[..], &unit(0, 0, 0), &unit(4096, 1, 0)].concat(),
    );
    put(folder, "run", &[&[0; 5], &unit(5000, 2, 9000)[..]].concat());
    put(
        folder,
        "beyond",
        &[&[0; 5], &unit(9, 4, 0)[..], &unit(5000, 1, 0)].concat(),
    );
    put(
        folder,
        "head",
        &[&[0, 0xe0, 0xf0, 0xe0, 0xf3, 0, 0], &unit(5, 1, 3)[..]].concat(),
    );
    let huge = [&[3][..], &[0xf0, 0xf1, 0xf0], &place.encode()].concat();
    put(folder, "huge", &[&[0; 5], &huge[..], &unit(5, 1, 3)].concat());
}

pub fn metadata_log(folder: &mut Seeds) {
    let (topic, directory) = (TopicId([7; 16]), DirectoryId([9; 16]));
    let configs = || {
        [
            ("retention.ms".to_owned(), "1".to_owned()),
            ("é".to_owned(), String::new()),
        ]
        .into()
    };
    let records = vec![
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
            configs: configs(),
        },
        Record::PartitionsAdded {
            topic,
            first: 3,
            partitions: vec![directory],
        },
        Record::TopicConfigsSet {
            topic,
            configs: configs(),
        },
        Record::BrokerConfigsSet {
            node_id: None,
            configs: configs(),
        },
        Record::BrokerConfigsSet {
            node_id: Some(3),
            configs: configs(),
        },
        Record::ProducerIdsAllocated { end: 1000 },
        Record::TopicDeleted { topic },
    ];
    for (index, record) in records.iter().enumerate() {
        put(
            folder,
            &format!("record-{index}"),
            &[vec![2], encode_commit(std::slice::from_ref(record))].concat(),
        );
    }
    put(folder, "all-records", &[vec![2], encode_commit(&records)].concat());
    let created = |name: &str| Record::TopicCreated {
        id: topic,
        name: name.into(),
        partitions: vec![directory],
        configs: configs(),
    };
    let twice = [created("t"), created("u"), Record::TopicDeleted { topic }];
    put(folder, "one-id-twice", &[vec![2], encode_commit(&twice)].concat());
    let (mut file, next) = sealed_file(5, 9, records[..3].iter().cloned());
    put(folder, "sealed", &[&[0], &file[..]].concat());
    push_commit(&mut file, 5, next, &records[3..6]);
    push_commit(&mut file, 5, next + 1, &[]);
    push_commit(&mut file, 5, next + 2, &records[6..]);
    put(folder, "commits", &[&[0], &file[..]].concat());
    put(folder, "own-sums", &[&[1], &file[..]].concat());
    let last = file.len() - 20;
    file[last] ^= 1;
    put(folder, "torn", &[&[1], &file[..]].concat());
    file[last] ^= 1;
    file[80] ^= 1;
    put(folder, "corrupt", &[&[1], &file[..]].concat());
    file[8] = 2;
    put(folder, "newer", &[&[1], &file[..]].concat());
}
