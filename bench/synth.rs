//! A log of any size in little space, as a partition of a stopped broker: for measuring what grows with the bytes stored
//! (`bench/flatness`), never to be kept.
//!
//! Its batches hold one record each, one every ten milliseconds. With `--holes` only the first batch of a segment is there; what follows it
//! is a hole, and in the indexes and sums as batches of 1 MiB would be: a read there is answered as damage.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use ringtail::base::ids::PartitionId;
use ringtail::cli::json::Json;
use ringtail::storage::formats::{
    BatchFacts, Checkpoint, OwnFile, PartitionState, SegmentBuild, SegmentIdentity, base_name, file_name, topic_id,
};
use ringtail::wire::batch::{BatchBuilder, BatchOptions};

const INDEX_INTERVAL_BYTES: u32 = 4096;
/// Batches that are not there.
const HOLE_BYTES: u64 = 1 << 20;
/// A row of the sums ends with the batch that takes it to this: a batch that is to be read alone fills one.
const ROW_BYTES: usize = 64 << 10;
const BATCH_MS: i64 = 10;

#[derive(Args)]
pub struct Synth {
    /// A partition's folder in the log directory of a broker that was stopped, and then sealed (`ringtail log seal`). What it holds goes.
    folder: PathBuf,
    #[arg(long, default_value_t = 1000)]
    segments: u64,
    #[arg(long, default_value_t = 1 << 30)]
    segment_bytes: u64,
    #[arg(long, default_value_t = ROW_BYTES)]
    batch_bytes: usize,
    /// Only the first batch of each segment is there.
    #[arg(long)]
    holes: bool,
    /// The time of the first record, milliseconds since 1970; each batch is 10 ms later.
    #[arg(long, default_value_t = 1_700_000_000_000)]
    first_ms: i64,
}

impl Synth {
    pub fn run(self) -> Result<(), String> {
        if self.batch_bytes < 1024 {
            return Err("a batch has 1024 bytes at least".into());
        }
        let directory = self.folder.parent().ok_or("the folder stands in no directory")?;
        let id = partition_of(&self.folder)?;
        let (base_path, mut base) = newest_base(directory)?;
        let state = base
            .partitions
            .get_mut(&id)
            .ok_or("the newest checkpoint does not know the partition")?;
        clear(&self.folder)?;
        let following = self.segment_bytes.saturating_sub(self.batch_bytes as u64);
        let per_segment = 1 + (following / self.following_bytes()) as i64;
        if self.holes && self.batch_bytes < ROW_BYTES {
            return Err(format!("a batch before a hole has {ROW_BYTES} bytes at least"));
        }
        let mut value = vec![0; self.value_bytes()?];
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        value.iter_mut().for_each(|byte| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            *byte = random as u8;
        });
        for number in 0..self.segments {
            if number.is_multiple_of(1000) {
                eprintln!("synth: {number} of {} segments", self.segments);
            }
            let first = number as i64 * per_segment;
            let identity = SegmentIdentity {
                partition: id,
                base: first,
                uid: number + 1,
            };
            self.segment(identity, per_segment, &value)
                .map_err(|error| format!("segment {first}: {error}"))?;
        }
        let end = self.segments as i64 * per_segment;
        *state = PartitionState {
            reach: end,
            log_start: 0,
            epochs: state.epochs.clone(),
            ..PartitionState::fresh(id, end, self.segments + 1)
        };
        File::create(self.folder.join(file_name(end, "log"))).map_err(|error| error.to_string())?;
        let mut states = Vec::new();
        base.partitions.values().for_each(|state| state.encode(&mut states));
        let content = Checkpoint::encode(
            base.directory_id,
            base.file,
            base.journal_from,
            base.partitions.len() as u32,
            &states,
        );
        fs::write(base_path, content).map_err(|error| error.to_string())?;
        let told = Json::Object(vec![
            ("segments", self.segments.into()),
            (
                "bytes",
                (self.segments * (self.batch_bytes as u64 + (per_segment as u64 - 1) * self.following_bytes())).into(),
            ),
            ("offsets", (end as u64).into()),
            ("offsets_per_segment", (per_segment as u64).into()),
            ("first_ms", (self.first_ms as u64).into()),
            ("batch_ms", (BATCH_MS as u64).into()),
        ]);
        println!("{told}");
        Ok(())
    }

    /// The value that makes a batch of one record as long as it is to be.
    fn value_bytes(&self) -> Result<usize, String> {
        let mut bytes = self.batch_bytes.saturating_sub(80);
        for _ in 0..8 {
            let length = self.batch(0, 0, &vec![0; bytes])?.len();
            match length.cmp(&self.batch_bytes) {
                std::cmp::Ordering::Equal => return Ok(bytes),
                std::cmp::Ordering::Less => bytes += self.batch_bytes - length,
                std::cmp::Ordering::Greater => bytes -= length - self.batch_bytes,
            }
        }
        Err(format!("no batch has {} bytes: choose a few more", self.batch_bytes))
    }

    fn batch(&self, base_offset: i64, timestamp_ms: i64, value: &[u8]) -> Result<Bytes, String> {
        let options = BatchOptions {
            base_offset,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::with_capacity(options, self.batch_bytes + 128);
        builder
            .push(timestamp_ms, None, Some(value), &[])
            .map_err(|error| error.to_string())?;
        let batch = builder.finish().map_err(|error| error.to_string())?;
        Ok(Bytes::copy_from_slice(batch))
    }

    /// Bytes of a batch behind a segment's first.
    fn following_bytes(&self) -> u64 {
        match self.holes {
            true => HOLE_BYTES,
            false => self.batch_bytes as u64,
        }
    }

    /// The files of one segment.
    fn segment(&self, identity: SegmentIdentity, batches: i64, value: &[u8]) -> Result<(), String> {
        let base = identity.base;
        let failed = |error: std::io::Error| error.to_string();
        let log = File::create(self.folder.join(file_name(base, "log"))).map_err(failed)?;
        let mut build = SegmentBuild::new(identity);
        let mut position = 0;
        for offset in base..base + batches {
            let timestamp_ms = self.first_ms + offset * BATCH_MS;
            let real = match offset == base || !self.holes {
                true => Some(self.batch(offset, timestamp_ms, value)?),
                false => None,
            };
            let facts = BatchFacts {
                base_offset: offset,
                last_offset: offset,
                max_timestamp_ms: timestamp_ms,
                bytes: real.as_ref().map_or(HOLE_BYTES, |real| real.len() as u64),
            };
            let piece = real.as_deref().unwrap_or_default();
            let extend_crc = |crc| crc32c::crc32c_append(crc, piece);
            build.add(position, &facts, extend_crc, INDEX_INTERVAL_BYTES);
            if let Some(real) = &real {
                log.write_all_at(real, position).map_err(failed)?;
            }
            position += facts.bytes;
        }
        // Times rise with the offsets.
        build.finish(position, base + batches, Some(self.first_ms + base * BATCH_MS - 1));
        log.set_len(position).map_err(failed)?;
        for (kind, growing) in [
            ("index", &build.offsets),
            ("timeindex", &build.times),
            ("sums", &build.sums),
        ] {
            fs::write(self.folder.join(file_name(base, kind)), growing.rest()).map_err(failed)?;
        }
        Ok(())
    }
}

/// Whose folder it is, by its name and its `partition.metadata`.
fn partition_of(folder: &Path) -> Result<PartitionId, String> {
    let metadata = folder.join("partition.metadata");
    let content = fs::read(&metadata).map_err(|error| format!("{}: {error}", metadata.display()))?;
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let index = name.rsplit_once('-').and_then(|(_, index)| index.parse().ok());
    Ok(PartitionId {
        topic: topic_id(&content).ok_or("partition.metadata names no topic")?,
        index: index.ok_or("the folder's name ends with no partition")?,
    })
}

/// The base checkpoint of the latest start; nothing of that start may be newer.
fn newest_base(directory: &Path) -> Result<(PathBuf, Checkpoint), String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let own: Vec<OwnFile> = names.filter_map(|name| OwnFile::parse(&name)).collect();
    let start = own
        .iter()
        .map(|file| file.start())
        .max()
        .ok_or("there is no checkpoint")?;
    let later = |file: &&OwnFile| file.start() == start && !matches!(file, OwnFile::Base { .. });
    if own.iter().find(later).is_some() {
        return Err("the directory is not sealed: run `ringtail log seal` on it first".into());
    }
    let path = directory.join(base_name(start));
    let content = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let base = Checkpoint::decode(&content).ok_or_else(|| format!("{} does not verify", path.display()))?;
    Ok((path, base))
}

/// Removes all segments.
fn clear(folder: &Path) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.filter_map(Result::ok) {
        let is_segments = ["log", "index", "timeindex", "sums"]
            .iter()
            .any(|kind| entry.path().extension().is_some_and(|own| own == *kind));
        if is_segments {
            fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
