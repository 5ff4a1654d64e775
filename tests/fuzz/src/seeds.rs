//! Writes the seed corpora: `cargo run --example seeds -- seeds`. Deterministic, so a change of a format shows as a change of files.

use ringtail::wire::batch::{BatchBuilder, BatchOptions, Codec, Header, TimestampType};
use ringtail::wire::kafka::{APIS, Encoder, Message, RequestVisitor, visit_request};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::args_os().nth(1).expect("usage: seeds <directory>"));
    frames(&root.join("frame_decoder"));
    batches(&root.join("batch_validator"));
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    fs::create_dir_all(folder).expect("the folder can be made");
    fs::write(folder.join(name), bytes).expect("the seed can be written");
}

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
        encoder.finish().concat()
    }
}

/// The first, the last and the first flexible version of every API.
fn frames(folder: &Path) {
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
}

fn batches(folder: &Path) {
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
    }
    let mut builder = BatchBuilder::new(plain);
    builder.extend_to(3);
    put(folder, "empty", &[&[1], builder.finish().expect("small")].concat());
}
