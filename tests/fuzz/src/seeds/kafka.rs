//! Seeds of the protocol's targets.

use crate::targets::messages::{Described, TABLE};
use ringtail::wire::batch::{BatchBuilder, BatchOptions, Codec, HEADER_BYTES, Header, TimestampType};
use ringtail::wire::kafka::{APIS, DecodeErrorKind, Encoder, Message, RequestVisitor, visit_request};

use super::{Seeds, put};

struct DefaultBody {
    version: i16,
}

impl<'a> RequestVisitor<'a> for DefaultBody {
    type Output = Vec<u8>;

    fn visit<Q: Message<'a>>(self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        Q::default()
            .encode_into(&mut encoder, self.version)
            .expect("defaults can be encoded");
        encoder.finish_bytes().expect("nothing is pinned").concat()
    }
}

/// The first, the last and the first flexible version of every API.
pub fn frames(folder: &mut Seeds) {
    for api in APIS {
        let mut versions = vec![api.version_min, api.flexible_from, api.version_max];
        versions.retain(|&version| api.serves(version));
        versions.dedup();
        for version in versions {
            let mut frame = Vec::new();
            frame.extend_from_slice(&(api.key as i16).to_be_bytes());
            frame.extend_from_slice(&version.to_be_bytes());
            frame.extend_from_slice(&7i32.to_be_bytes());
            frame.extend_from_slice(&[0, 1, b'c']);
            if api.is_flexible(version) {
                frame.push(0);
            }
            frame.extend(visit_request(api.key, DefaultBody { version }));
            put(folder, &format!("{}-{version}", api.name.to_lowercase()), &frame);
        }
    }
    let whole = folder["metadata-9"].clone();
    put(folder, "cut", &whole[..whole.len() - 1]);
    put(folder, "trailing", &[&whole[..], &[0]].concat());
    put(folder, "unserved", &[&[0, 3, 0, 99], &whole[4..]].concat());
    put(folder, "no-text", &[&whole[..10], &[0xff], &whole[11..]].concat());
    put(folder, "long-name", &[&whole[..8], &[1, 0], &whole[10..]].concat());
    put(folder, "long-varint", &[&whole[..11], &[0xff; 6]].concat());
    put(folder, "many-topics", &[&whole[..12], &[90]].concat());
}

pub fn batches(folder: &mut Seeds) {
    let plain = BatchOptions::default();
    let idempotent = BatchOptions {
        producer_id: 4,
        producer_epoch: 1,
        base_sequence: 9,
        transactional: true,
        ..plain
    };
    let appended = BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        base_offset: 70,
        ..plain
    };
    let cases = [
        ("transactional", idempotent),
        (
            "control",
            BatchOptions {
                control: true,
                ..idempotent
            },
        ),
        ("appended", appended),
    ];
    let codecs = Codec::ALL.map(|codec| (codec.name(), BatchOptions { codec, ..plain }));
    for (name, options) in codecs.into_iter().chain(cases) {
        let mut builder = BatchBuilder::new(options);
        for n in 0..4 {
            let headers = [
                Header { key: b"h", value: None },
                Header {
                    key: b"i",
                    value: Some(b"v"),
                },
            ];
            let value = [b'a'; 60];
            let value = (n != 2).then_some(&value[..20 * n]);
            builder
                .push(1_000 + n as i64, Some(b"key"), value, &headers[..n % 3])
                .expect("small");
        }
        let batch = builder.finish().expect("small");
        put(folder, name, &[&[3], batch].concat());
        put(folder, &format!("{name}-unread"), &[&[1], batch].concat());
    }
    // Refused: too long, zstd, a time in the header and one behind it, a key that is missing.
    let mut builder = BatchBuilder::new(plain);
    builder.push(1_000, Some(b"key"), None, &[]).expect("small");
    builder.push(1_003, None, Some(&[b'a'; 40]), &[]).expect("small");
    let mut batch = builder.finish().expect("small").to_vec();
    put(folder, "long", &[&[3 | 0x40], &batch[..]].concat());
    put(folder, "late", &[&[3 | 0x10], &batch[..]].concat());
    put(folder, "keyless", &[&[5], &batch[..]].concat());
    batch[35..43].copy_from_slice(&1_000_i64.to_be_bytes());
    put(folder, "late-inside", &[&[3 | 0x10], &batch[..]].concat());
    let mut builder = BatchBuilder::new(BatchOptions {
        codec: Codec::Zstd,
        ..plain
    });
    builder.push(1_000, Some(b"key"), None, &[]).expect("small");
    let batch = builder.finish().expect("small");
    put(folder, "zstd-forbidden", &[&[3 | 0x20], batch].concat());
    altered(folder);
    let mut builder = BatchBuilder::new(plain);
    builder.extend_to(3);
    put(folder, "empty", &[&[1], builder.finish().expect("small")].concat());
}

/// Batches that the header is wrong in, one way each, and those that are corrected when they are stored.
fn altered(folder: &mut Seeds) {
    let whole = folder["none"][1..].to_vec();
    let mut alter = |name: &str, mode: u8, changes: &[(usize, &[u8])]| {
        let mut batch = whole.clone();
        for (position, bytes) in changes {
            batch[*position..][..bytes.len()].copy_from_slice(bytes);
        }
        put(folder, name, &[&[mode], &batch[..]].concat());
    };
    const OFFSET_DELTA: usize = HEADER_BYTES + 3;
    let producer: (usize, &[u8]) = (43, &[0, 0, 0, 0, 0, 0, 0, 4]);
    alter("header-alone", 1, &[]);
    alter("append-time", 3 | 8, &[]);
    alter("append-time-claimed", 3, &[(22, &[8])]);
    alter("maximum-wrong", 3, &[(35, &[0, 0, 0, 0, 0, 0, 9, 9])]);
    alter("crc-wrong", 2, &[(HEADER_BYTES, &[9])]);
    alter("magic-wrong", 2, &[(16, &[1])]);
    alter("length-wrong", 2, &[(8, &[0, 0, 0, 3])]);
    alter("length-beyond", 2, &[(8, &[0, 0, 9, 9])]);
    alter("length-within", 2, &[(8, &[0, 0, 0, 80])]);
    alter(
        "offsets-wrong",
        2,
        &[(0, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
    );
    alter("delta-negative", 3, &[(23, &[0xff, 0xff, 0xff, 0xff])]);
    alter("based", 3, &[(7, &[1])]);
    alter(
        "many-records",
        1,
        &[(23, &[0, 0xff, 0xff, 0xfe]), (57, &[0, 0xff, 0xff, 0xff])],
    );
    alter(
        "sequence-missing",
        3,
        &[producer, (51, &[0, 1, 0xff, 0xff, 0xff, 0xff])],
    );
    alter("epoch-missing", 3, &[producer, (51, &[0xff, 0xff, 0, 0, 0, 1])]);
    alter("producer-missing", 3, &[(22, &[0x10])]);
    alter("codec-unknown", 3, &[(22, &[7])]);
    alter("record-jumps", 3, &[(OFFSET_DELTA, &[2])]);
    put(folder, "records-missing", &[&[1], &whole[..HEADER_BYTES]].concat());
    put(folder, "stub", &[&[1], &whole[..20]].concat());
    put(folder, "zeros", &[0; 100]);
}

/// The first, the last and the first flexible version of every message, with something in its arrays.
pub fn messages(folder: &mut Seeds) {
    for (index, message) in TABLE.iter().enumerate() {
        let mut versions = vec![message.version_min, message.flexible_from, message.version_max];
        versions.retain(|version| (message.version_min..=message.version_max).contains(version));
        versions.dedup();
        for version in versions {
            let choice = [index as u8, (version - message.version_min) as u8];
            let body = grown(message, version);
            put(
                folder,
                &format!("{}-{version}", message.name.to_lowercase()),
                &[&choice[..], &body].concat(),
            );
            // Behind a response's header.
            if message.name == "MetadataResponse" {
                let tags: &[u8] = if version >= message.flexible_from { &[0] } else { &[] };
                let header = [&[0, 0, 0, 7], tags].concat();
                let choice = [choice[0], choice[1] | 0x80];
                put(
                    folder,
                    &format!("headed-{version}"),
                    &[&choice[..], &header, &body].concat(),
                );
            }
        }
    }
    // Fetch 12: one partition with the tag that became `high_watermark` in version 18.
    let numbers_before = [0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    let partition = [[0; 4 + 4 + 8 + 4 + 8 + 4].as_slice(), &[1, 1, 1, 0]].concat();
    let topics = [&[2, 2, b'a', 2], &partition[..], &[0]].concat();
    let body = [&numbers_before[..], &topics, &[1, 1, 0]].concat();
    put(folder, "fetchrequest-12-later-tag", &[&[2, 8], &body[..]].concat());
    // CreatePartitionsResponse 0: a message whose length is -6.
    let results = [0, 0, 0, 1, 0, 1, b'e', 82, 100, 0xff, 0xfa];
    put(
        folder,
        "createpartitionsresponse-0-negative",
        &[&[21, 0, 0, 0, 0, 0], &results[..]].concat(),
    );
}

/// A body that the decoder led to, byte by byte: where it says that one is missing, one that lengths and counts may be is put.
fn grown(message: &Described, version: i16) -> Vec<u8> {
    const BODY_BYTES_MAX: usize = 600;
    const TRIES: usize = 4_000;
    let flexible = version >= message.flexible_from;
    let (mut body, mut longest, mut state) = (Vec::new(), Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    let mut random = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % end
    };
    for _ in 0..TRIES {
        let kind = match (message.reencode)(&body, version) {
            Ok(_) => {
                if body.len() > longest.len() {
                    longest.clone_from(&body);
                }
                None
            }
            Err(error) => Some(error.kind),
        };
        match kind {
            Some(DecodeErrorKind::Truncated | DecodeErrorKind::LengthBeyondEnd) if body.len() < BODY_BYTES_MAX => {
                // Lengths of two and of four bytes end in a small one.
                body.push(match (flexible, body.ends_with(&[0])) {
                    (true, _) => [0, 1, 2, 2, 2, 3, b'a'][random(7)],
                    (false, true) => [0, 0, 1, 1, 2][random(5)],
                    (false, false) => [0, 0, 0, b'a'][random(4)],
                });
            }
            _ => body.truncate(body.len().saturating_sub(1 + random(body.len().max(1)))),
        }
    }
    longest
}

/// A payload of records behind every codec and framing.
pub fn records(folder: &mut Seeds) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for n in 0..6usize {
        let headers = [
            Header { key: b"h", value: None },
            Header {
                key: b"i",
                value: Some(b"v"),
            },
        ];
        let key = (n % 3 != 0).then_some(&b"key"[..]);
        let value = (n % 4 != 2).then_some(&b"the value of a record, the value of a record"[..7 * n]);
        builder
            .push(1_000 + 40 * n as i64, key, value, &headers[..n % 3])
            .expect("small");
    }
    let batch = builder.finish().expect("small");
    let payload = &batch[HEADER_BYTES..];
    let names = [
        "none",
        "gzip",
        "gzip-members",
        "snappy-xerial",
        "snappy-bare",
        "lz4",
        "lz4-linked",
        "zstd",
        "raw-none",
        "raw-gzip",
        "raw-snappy",
        "raw-lz4",
        "raw-zstd",
    ];
    for (framing, name) in names.into_iter().enumerate() {
        put(folder, name, &[&[framing as u8, 6, 0, 0, 0, 0, 0, 0], payload].concat());
        // Damaged in two places; LogAppendTime; a budget of 20 bytes.
        put(
            folder,
            &format!("{name}-damaged"),
            &[&[framing as u8, 6, 0, 3, 0, 1, 6, 0, 7, 0, 1, 40, 0, 0x80], payload].concat(),
        );
        put(
            folder,
            &format!("{name}-bounded"),
            &[&[framing as u8, 6, 0, 0, 0, 4, 20, 0, 0, 0], payload].concat(),
        );
        // More than a decoder gives at once, and more than a small window holds.
        let long = vec![b'x'; 3_500];
        put(
            folder,
            &format!("{name}-long"),
            &[
                &[framing as u8, 1, 0, 0, 0, 0, 0, 0, 0xd8, 0x36, 0, 0, 0, 1, 0xca, 0x36],
                &long[..],
            ]
            .concat(),
        );
    }
    for (framing, name) in [(1, "gzip-deflated"), (2, "gzip-members-deflated")] {
        put(folder, name, &[&[framing, 6, 0, 0, 0, 8, 0, 0], payload].concat());
    }
    // The compressed bytes themselves.
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            ..BatchOptions::default()
        });
        for n in 0..4 {
            builder
                .push(1_000 + n, Some(b"key"), Some(&[b'v'; 90]), &[])
                .expect("small");
        }
        let batch = builder.finish().expect("small");
        let framing = 8 + codec.number();
        put(
            folder,
            &format!("packed-{}", codec.name()),
            &[&[framing, 4, 0, 0, 0, 0, 0, 0], &batch[HEADER_BYTES..]].concat(),
        );
    }
}
