//! One segment: its batches, and its companions against them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Pace, Report};
use crate::base::ids::PartitionId;
use crate::io::{Env, OpenOptions};
use crate::storage::build::{BATCH_BYTES_MAX, SUMS_HEAD_BYTES, SUMS_ROW_BYTES, SegmentIdentity};
use crate::storage::cold::read_range;
use crate::storage::index::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry};
use crate::storage::segment::path_of;
use crate::storage::sums::{Row, SUMS_TRAILER_BYTES, SumsTrailer, decode_rows};
use crate::wire::batch::{ScanOptions, ScannedBatch, StopReason, scan};

/// Bytes of a log looked at at once.
const WINDOW_BYTES: u64 = 1 << 20;
/// No companion of a segment below 2 GiB is larger.
const COMPANION_BYTES_MAX: u64 = 64 << 20;

/// A segment's bytes: its file's, with what belongs over them.
pub struct LogBytes<E: Env> {
    pub path: PathBuf,
    pub file: Option<E::File>,
    pub size: u64,
    pub pieces: Vec<(u64, Bytes)>,
}

impl<E: Env> LogBytes<E> {
    pub async fn open(env: &E, path: PathBuf, pieces: Vec<(u64, Bytes)>) -> io::Result<Self> {
        let file = open_if_there(env, &path).await?;
        let size = match &file {
            Some(file) => env.size(file).await?,
            None => 0,
        };
        Ok(Self {
            path,
            file,
            size,
            pieces,
        })
    }

    /// Where the last of the bytes ends.
    pub fn end(&self) -> u64 {
        let pieces = self.pieces.iter().map(|(at, bytes)| at + bytes.len() as u64);
        pieces.max().unwrap_or(0).max(self.size)
    }

    async fn read(&self, env: &E, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = match &self.file {
            Some(file) if from < self.size => read_range(env, file, from, to.min(self.size)).await?,
            _ => Vec::new(),
        };
        bytes.resize((to - from) as usize, 0);
        for (at, piece) in &self.pieces {
            let (start, end) = ((*at).max(from), (at + piece.len() as u64).min(to));
            if start < end {
                let source = &piece[(start - at) as usize..(end - at) as usize];
                bytes[(start - from) as usize..(end - from) as usize].copy_from_slice(source);
            }
        }
        Ok(bytes)
    }
}

pub async fn open_if_there<E: Env>(env: &E, path: &Path) -> io::Result<Option<E::File>> {
    match env.open(path, OpenOptions::READ_DIRECT).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// A companion's first `bytes` (all without a number); `None` if it is not there.
pub async fn read_companion<E: Env>(env: &E, path: &Path, bytes: Option<u64>) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_if_there(env, path).await? else {
        return Ok(None);
    };
    let size = env.size(&file).await?;
    let end = bytes.map_or(size, |bytes| bytes.min(size)).min(COMPANION_BYTES_MAX);
    Ok(Some(read_range(env, &file, 0, end).await?))
}

/// What the batches of a segment are held against as they pass.
pub struct Checker {
    pub folder: PathBuf,
    pub base: i64,
    pub identity: Option<SegmentIdentity>,
    pub rows: Vec<Row>,
    pub index: Vec<u8>,
    pub times: Vec<u8>,
    /// Ours: entries are as `build` makes them, and offsets have no gaps.
    pub is_exact: bool,
    row_at: usize,
    row_crc: u32,
    index_at: usize,
    times_at: usize,
    largest: (i64, i64),
}

impl Checker {
    pub fn new(folder: &Path, base: i64) -> Self {
        Self {
            folder: folder.to_owned(),
            base,
            identity: None,
            rows: Vec::new(),
            index: Vec::new(),
            times: Vec::new(),
            is_exact: true,
            row_at: 0,
            row_crc: 0,
            index_at: 0,
            times_at: 0,
            largest: (-1, -1),
        }
    }

    fn path(&self, kind: &str) -> PathBuf {
        path_of(&self.folder, self.base, kind)
    }

    fn batch(&mut self, position: u64, batch: &ScannedBatch<'_>, report: &mut Report) {
        report.batches += 1;
        self.check_row(position, batch, report);
        self.check_index(position, batch.header.last_offset(), report);
        self.check_times(batch.header.max_timestamp(), batch.header.last_offset(), report);
    }

    fn check_row(&mut self, position: u64, batch: &ScannedBatch<'_>, report: &mut Report) {
        let (Some(row), Some(identity)) = (self.rows.get(self.row_at), &self.identity) else {
            return;
        };
        if position == row.start {
            self.row_crc = identity.row_seed(row.start);
        }
        self.row_crc = crc32c::crc32c_append(self.row_crc, batch.bytes);
        let end = position + batch.bytes.len() as u64;
        if end < row.end {
            return;
        }
        let at = (SUMS_HEAD_BYTES + self.row_at * SUMS_ROW_BYTES) as u64;
        if end > row.end {
            report.problem(
                &self.path("sums"),
                at,
                format!("row ends at {} of the log, inside a batch", row.end),
            );
        } else if self.row_crc != row.crc() {
            let what = format!(
                "bytes up to {} are not those that were written here (sums row {})",
                row.end, self.row_at
            );
            report.problem(&self.path("log"), row.start, what);
        } else if batch.header.next_offset() != row.next_offset {
            let what = format!(
                "next offset {}, expected {}",
                row.next_offset,
                batch.header.next_offset()
            );
            report.problem(&self.path("sums"), at, what);
        }
        self.row_at += self.rows[self.row_at..].partition_point(|row| row.start < end);
    }

    fn check_index(&mut self, position: u64, last_offset: i64, report: &mut Report) {
        while let Some(entry) = self.index.get(self.index_at..).and_then(OffsetEntry::decode) {
            let at = self.index_at as u64;
            let relative = last_offset - self.base;
            let what = match u64::from(entry.position) {
                entry_position if entry_position > position => return,
                entry_position if entry_position < position => format!("no batch begins at {entry_position}"),
                _ if self.is_exact && i64::from(entry.relative) != relative => {
                    format!("relative offset {}, expected {relative}", entry.relative)
                }
                _ => String::new(),
            };
            self.index_at += OFFSET_ENTRY_BYTES;
            if !what.is_empty() {
                report.problem(&self.path("index"), at, what);
            }
        }
    }

    fn check_times(&mut self, max_timestamp_ms: i64, last_offset: i64, report: &mut Report) {
        if max_timestamp_ms > self.largest.0 {
            self.largest = (max_timestamp_ms, last_offset);
        }
        while let Some(entry) = self.times.get(self.times_at..).and_then(TimeEntry::decode) {
            let offset = self.base + i64::from(entry.relative);
            if offset > last_offset {
                return;
            }
            let at = self.times_at as u64;
            self.times_at += TIME_ENTRY_BYTES;
            if self.is_exact && (entry.timestamp_ms, offset) != self.largest {
                let (expected, expected_at) = self.largest;
                let what = format!(
                    "timestamp {} at offset {offset}, expected {expected} at {expected_at}",
                    entry.timestamp_ms
                );
                report.problem(&self.path("timeindex"), at, what);
            }
        }
    }

    /// Whether a batch of so many bytes may begin at `position`: where rows are, none goes beyond its row.
    fn may_hold(&self, position: u64, bytes: u64) -> bool {
        let row = self.row_of(position);
        row.is_none_or(|row| position + bytes <= row.end)
    }

    fn row_of(&self, position: u64) -> Option<Row> {
        let row = self.rows.get(self.rows.partition_point(|row| row.end <= position))?;
        (row.start <= position).then_some(*row)
    }

    /// Goes on behind the row that holds `position`, which is damaged; where that is, if the sums tell.
    fn skip_row(&mut self, position: u64) -> Option<(u64, i64)> {
        let row = self.row_of(position)?;
        self.row_at = self.rows.partition_point(|other| other.start < row.end);
        // What lies in the row is not known: entries that speak of it are passed over, and times can no more be judged.
        while self
            .index
            .get(self.index_at..)
            .and_then(OffsetEntry::decode)
            .is_some_and(|e| u64::from(e.position) < row.end)
        {
            self.index_at += OFFSET_ENTRY_BYTES;
        }
        self.times.clear();
        Some((row.end, row.next_offset))
    }

    /// Entries that no batch answered to.
    fn finish(&self, report: &mut Report) {
        if self.index.len() >= self.index_at + OFFSET_ENTRY_BYTES {
            report.problem(
                &self.path("index"),
                self.index_at as u64,
                "entries behind the last batch",
            );
        }
        if self.times.len() >= self.times_at + TIME_ENTRY_BYTES {
            report.problem(
                &self.path("timeindex"),
                self.times_at as u64,
                "entries behind the last batch",
            );
        }
    }
}

/// Where a walk over batches stands.
#[derive(Clone, Copy, Debug)]
pub struct Walked {
    pub position: u64,
    pub offset: i64,
    pub stop: Option<StopReason>,
}

/// Checks batches from `at` on, up to `end` or the first bad one.
pub async fn walk<E: Env>(
    env: &E,
    log: &LogBytes<E>,
    mut at: Walked,
    end: u64,
    checker: &mut Checker,
    report: &mut Report,
    pace: &mut impl Pace,
) -> io::Result<Walked> {
    let options = ScanOptions {
        crc_check: true,
        batch_bytes_max: BATCH_BYTES_MAX,
    };
    let mut window = WINDOW_BYTES;
    while at.position < end {
        let start = at.position;
        let to = end.min(start + window);
        let bytes = log.read(env, start, to).await?;
        at.stop = None;
        for batch in scan(&bytes, options) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(stop) => {
                    at.stop = Some(stop.reason);
                    break;
                }
            };
            let base_offset = batch.header.base_offset();
            if base_offset < at.offset || (checker.is_exact && base_offset > at.offset) {
                let last_offset_delta = batch.header.last_offset_delta();
                at.stop = Some(StopReason::BadOffsets {
                    base_offset,
                    last_offset_delta,
                });
                break;
            }
            checker.batch(at.position, &batch, report);
            at.position += batch.bytes.len() as u64;
            at.offset = batch.header.next_offset();
        }
        report.bytes += at.position - start;
        pace.turn(report).await?;
        match at.stop {
            None => {}
            // Of a length that its row does not hold, nothing more is read.
            Some(StopReason::Incomplete { bytes_needed })
                if to < end && checker.may_hold(at.position, bytes_needed as u64) =>
            {
                window = WINDOW_BYTES.max(bytes_needed as u64);
            }
            Some(_) => return Ok(at),
        }
    }
    Ok(at)
}

/// Verifies a segment that is over and ends at offset `next`. `may_grow`: a broker may be running, and a segment whose sums
/// have no trailer is passed over.
#[allow(clippy::too_many_arguments)]
pub async fn verify_closed<E: Env>(
    env: &E,
    folder: &Path,
    partition: PartitionId,
    base: i64,
    next: i64,
    may_grow: bool,
    report: &mut Report,
    pace: &mut impl Pace,
) -> io::Result<()> {
    let mut checker = Checker::new(folder, base);
    let log = LogBytes::open(env, checker.path("log"), Vec::new()).await?;
    let sums = read_companion(env, &checker.path("sums"), None).await?;
    let index = read_companion(env, &checker.path("index"), None).await?;
    let times = read_companion(env, &checker.path("timeindex"), None).await?;
    let trailer = sums.as_ref().and_then(|sums| {
        let at = sums.len().checked_sub(SUMS_TRAILER_BYTES)?;
        SumsTrailer::decode(&sums[at..], partition, base).filter(|t| t.file_bytes() == sums.len() as u64)
    });
    if sums.is_some() && trailer.is_none() && may_grow {
        report.note(&log.path, "not over yet, or its sums are cut: not looked at");
        return Ok(());
    }
    report.segments += 1;
    report.bytes += [&sums, &index, &times]
        .into_iter()
        .flatten()
        .map(|c| c.len() as u64)
        .sum::<u64>();
    checker.is_exact = sums.is_some();
    checker.index = index.unwrap_or_default();
    checker.times = times.unwrap_or_default();
    if let Some(sums) = sums {
        take_sums(&mut checker, partition, &sums, trailer, log.size, next, report);
    }
    let mut at = Walked {
        position: 0,
        offset: base,
        stop: None,
    };
    loop {
        at = walk(env, &log, at, log.size, &mut checker, report, pace).await?;
        let Some(stop) = at.stop.take() else { break };
        report.problem(
            &log.path,
            at.position,
            format!("no good batch with offset {}: {stop:?}", at.offset),
        );
        let Some((position, offset)) = checker.skip_row(at.position) else {
            return Ok(());
        };
        (at.position, at.offset) = (position, offset);
    }
    let is_short = at.offset < next && checker.is_exact;
    if is_short || at.offset > next {
        report.problem(
            &log.path,
            at.position,
            format!("ends at offset {}, the next segment begins at {next}", at.offset),
        );
    }
    checker.finish(report);
    Ok(())
}

/// Judges head, trailer and form of a whole `.sums` file, and gives its rows to the checker.
fn take_sums(
    checker: &mut Checker,
    partition: PartitionId,
    sums: &[u8],
    trailer: Option<SumsTrailer>,
    log_bytes: u64,
    next: i64,
    report: &mut Report,
) {
    let (path, base) = (checker.path("sums"), checker.base);
    let head = SegmentIdentity::from_sums_head(sums).filter(|i| i.partition == partition && i.base == base);
    if head.is_none() {
        report.problem(&path, 0, "the head does not verify, or is another segment's");
    }
    checker.identity = head.or_else(|| {
        trailer.map(|trailer| SegmentIdentity {
            partition,
            base,
            uid: trailer.uid,
        })
    });
    let rows_end = sums
        .len()
        .saturating_sub(if trailer.is_some() { SUMS_TRAILER_BYTES } else { 0 });
    let encoded = sums.get(SUMS_HEAD_BYTES..rows_end).unwrap_or_default();
    checker.rows = decode_rows(base, (0, base), encoded, log_bytes);
    let end = checker.rows.last().map_or(0, |row| row.end);
    let at = (SUMS_HEAD_BYTES + checker.rows.len() * SUMS_ROW_BYTES) as u64;
    if end < log_bytes || (trailer.is_some() && (at as usize) < rows_end) {
        report.problem(
            &path,
            at,
            format!("rows cover {end} bytes of {log_bytes}: those that follow cannot be"),
        );
    }
    let Some(trailer) = trailer else {
        report.problem(&path, rows_end as u64, "the trailer does not verify");
        return;
    };
    if trailer.sums_crc != crc32c::crc32c(&sums[..rows_end]) {
        report.problem(&path, None, "head and rows do not match the trailer's sum");
    }
    if trailer.log_bytes == log_bytes && trailer.next_offset < next {
        let missing = path_of(&checker.folder, trailer.next_offset, "log");
        report.problem(
            &missing,
            None,
            format!("it is missing, the next segment begins at {next}"),
        );
    } else if trailer.log_bytes != log_bytes || trailer.next_offset != next {
        let what = format!(
            "{log_bytes} bytes up to offset {next}, expected {} up to {}",
            trailer.log_bytes, trailer.next_offset
        );
        report.problem(&checker.path("log"), log_bytes.min(trailer.log_bytes), what);
    }
    for (kind, content, expected) in [
        ("index", &checker.index, trailer.index_crc),
        ("timeindex", &checker.times, trailer.times_crc),
    ] {
        if crc32c::crc32c(content) != expected {
            report.problem(
                &checker.path(kind),
                None,
                "does not match the sum in the trailer of .sums",
            );
        }
    }
}
