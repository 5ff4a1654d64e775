//! A log of any size in little space: segments whose bytes are holes but for the first block, with the companions that real ones of
//! large batches would have. For measuring what grows with the bytes stored (`bench/flatness`), never to be kept.
//!
//! Every segment begins with a batch that is real: one record of zeros, so that all of it but its header may be a hole. The batches behind it are
//! in the indexes and the sums only: a read there is answered as damage.

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

/// What is written of a batch: its header and the beginning of its record.
const HEAD_BYTES: usize = 4096;
const INDEX_INTERVAL_BYTES: u32 = 4096;
const BATCH_MS: i64 = 10;

#[derive(Args)]
pub struct Synth {
    /// A partition's folder in the log directory of a broker that was stopped, and then sealed (`ringtail log seal`). What it holds goes.
    folder: PathBuf,
    #[arg(long, default_value_t = 1000)]
    segments: u64,
    #[arg(long, default_value_t = 1 << 30)]
    segment_bytes: u64,
    #[arg(long, default_value_t = 1 << 20)]
    batch_bytes: usize,
    /// The time of the first record, milliseconds since 1970; each batch is 10 ms later.
    #[arg(long, default_value_t = 1_700_000_000_000)]
    first_ms: i64,
}

impl Synth {
    pub fn run(self) -> Result<(), String> {
        let directory = self.folder.parent().ok_or("the folder stands in no directory")?;
        let id = partition_of(&self.folder)?;
        let (base_path, mut base) = newest_base(directory)?;
        let state = base
            .partitions
            .get_mut(&id)
            .ok_or("the newest checkpoint does not know the partition")?;
        clear(&self.folder)?;
        let per_segment = (self.segment_bytes / self.batch_bytes as u64) as i64;
        if !(1..=i64::from(i32::MAX)).contains(&per_segment) {
            return Err("a segment holds no batch, or too many".into());
        }
        let value = vec![0; self.value_bytes()?];
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
            ("bytes", (self.segments * self.segment_bytes).into()),
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

    /// The files of one segment.
    fn segment(&self, identity: SegmentIdentity, batches: i64, value: &[u8]) -> Result<(), String> {
        let (bytes, base) = (self.batch_bytes as u64, identity.base);
        let real = self.batch(base, self.first_ms + base * BATCH_MS, value)?;
        let mut build = SegmentBuild::new(identity);
        for number in 0..batches {
            let offset = base + number;
            let facts = BatchFacts {
                base_offset: offset,
                last_offset: offset,
                max_timestamp_ms: self.first_ms + offset * BATCH_MS,
                bytes,
            };
            let pieces: &[&[u8]] = if number == 0 { &[&real] } else { &[] };
            build.add(number as u64 * bytes, &facts, pieces, INDEX_INTERVAL_BYTES);
        }
        build.finish(batches as u64 * bytes, base + batches);
        let failed = |error: std::io::Error| error.to_string();
        let log = File::create(self.folder.join(file_name(base, "log"))).map_err(failed)?;
        log.set_len(batches as u64 * bytes).map_err(failed)?;
        log.write_all_at(&real[..real.len().min(HEAD_BYTES)], 0)
            .map_err(failed)?;
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
