//! Segments as cold readers see them: descriptors and the sums' rows, read as needed and kept for the next reader.
//!
//! Kept per segment are two descriptors (three where readers follow each other) and three pages of rows (256 rows each: 16 MiB of log
//! or more); the directory keeps a bounded number of segments.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::build::{SUMS_HEAD_BYTES, SUMS_ROW_BYTES, SegmentIdentity, SumsRow};
use super::segment::path_of;
use super::sums::{Row, SUMS_TRAILER_BYTES, SumsTrailer, decode_rows, rows_from};
use super::warm::{RowsId, Warmth};
use crate::base::buffer::{BLOCK_BYTES, block_ceil, block_floor};
use crate::base::ids::PartitionId;
use crate::base::sync::join_each;
use crate::io::{Env, OpenOptions, read_up_to};

/// Pages of rows kept of a segment: two readers have one each, and both look at the last one of a segment that grows.
const PAGES_KEPT: usize = 3;
/// Bytes read at once to sum a file up.
const CRC_WINDOW_BYTES: u64 = 128 << 10;

/// Which segment, and what its log knows of it.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPlace {
    pub partition: PartitionId,
    pub base: i64,
    /// The offset behind what is readable here.
    pub next_offset: i64,
    /// Bytes of the `.log` that are readable here.
    pub log_bytes: u64,
    /// Of a segment that still grows: who it is and how many rows its `.sums` holds.
    pub growing: Option<(SegmentIdentity, u64)>,
}

/// A segment's descriptors.
pub struct ColdSegment<E: Env> {
    pub log: E::File,
    pub sums: Sums<E>,
    pub warmth: Warmth,
    is_growing: bool,
    /// The `.log` once more, as the page cache has it; open when something was read again.
    cached_log: RefCell<Option<E::File>>,
    /// Bytes of the growing `.timeindex` that were verified.
    pub times_checked: Cell<Option<u64>>,
    /// Whether the `.timeindex` of a segment that is over verifies, once known.
    pub times_good: Cell<Option<bool>>,
}

/// What there is to check the bytes of a segment with.
pub enum Sums<E: Env> {
    /// Batches carry their own check sums, and that is all: a segment that another broker wrote.
    Absent,
    /// A file that says neither at its head nor at its end whose sums it has.
    Damaged(PathBuf),
    Present(SumsFile<E>),
}

/// An open `.sums` file.
pub struct SumsFile<E: Env> {
    pub identity: SegmentIdentity,
    pub trailer: Option<SumsTrailer>,
    file: E::File,
    /// Rows in a file that grows no more.
    rows: u64,
    /// Those that were read last, in that order. Rows are written in whole blocks, so a block that was read does not change.
    pages: RefCell<VecDeque<Page>>,
}

/// The rows that begin in one block of the file.
#[derive(Clone)]
struct Page {
    id: RowsId,
    rows: Rc<[Row]>,
}

/// Consecutive rows, one at least, and where they stand.
pub struct FoundRows {
    pub id: RowsId,
    pub rows: Vec<Row>,
}

impl FoundRows {
    pub fn of(id: RowsId, rows: &[Row]) -> Option<Self> {
        let rows = rows.to_vec();
        (!rows.is_empty()).then_some(Self { id, rows })
    }
}

impl<E: Env> ColdSegment<E> {
    pub async fn open(env: &E, folder: &Path, place: &SegmentPlace) -> io::Result<Self> {
        let open = |extension| {
            let path = path_of(folder, place.base, extension);
            async move { env.open(&path, OpenOptions::READ_DIRECT).await }
        };
        // With one hand-over to the thread that opens files.
        let [log, sums] = join_each([open("log"), open("sums")]).await;
        Ok(Self {
            log: log?,
            sums: open_sums(env, folder, place, sums).await?,
            warmth: Warmth::default(),
            cached_log: RefCell::default(),
            is_growing: place.growing.is_some(),
            times_checked: Cell::new(None),
            times_good: Cell::new(None),
        })
    }

    /// The `.log` through the page cache, if it is open.
    pub fn cached_log(&self) -> Option<E::File> {
        self.cached_log.borrow().clone()
    }

    /// Keeps the `.log` that was opened with `READ_CACHED`.
    pub fn keep_cached_log(&self, file: E::File) {
        self.cached_log.replace(Some(file));
    }

    /// Whether this still is how the segment stands: it ends, and its sums get a file, while readers come and go.
    pub fn fits(&self, place: &SegmentPlace) -> bool {
        let lacks_sums = matches!(self.sums, Sums::Absent) && place.growing.is_some_and(|(_, rows)| rows > 0);
        self.is_growing == place.growing.is_some() && !lacks_sums
    }
}

async fn open_sums<E: Env>(
    env: &E,
    folder: &Path,
    place: &SegmentPlace,
    file: io::Result<E::File>,
) -> io::Result<Sums<E>> {
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sums::Absent),
        file => file?,
    };
    let pages = RefCell::default();
    if let Some((identity, _)) = place.growing {
        return Ok(Sums::Present(SumsFile {
            identity,
            trailer: None,
            file,
            rows: 0,
            pages,
        }));
    }
    let bytes = env.size(&file).await?;
    let end_from = bytes.saturating_sub(SUMS_TRAILER_BYTES as u64);
    let ranges = [(0, SUMS_HEAD_BYTES as u64), (end_from, bytes)];
    let [head, end] = join_each(ranges.map(|(from, to)| read_range(env, &file, from, to))).await;
    let (head, end) = (head?, end?);
    let trailer = SumsTrailer::decode(&end, place.partition, place.base).filter(|t| t.file_bytes() == bytes);
    let expected = |i: &SegmentIdentity| i.partition == place.partition && i.base == place.base;
    let named = SegmentIdentity::from_sums_head(&head).filter(expected);
    let identity = named.or_else(|| {
        trailer.map(|trailer| SegmentIdentity {
            partition: place.partition,
            base: place.base,
            uid: trailer.uid,
        })
    });
    let Some(identity) = identity else {
        return Ok(Sums::Damaged(path_of(folder, place.base, "sums")));
    };
    let rows = trailer.map_or(
        bytes.saturating_sub(SUMS_HEAD_BYTES as u64) / SUMS_ROW_BYTES as u64,
        |t| u64::from(t.rows),
    );
    Ok(Sums::Present(SumsFile {
        identity,
        trailer,
        file,
        rows,
        pages,
    }))
}

/// What seals a segment that is over.
pub enum Sealing {
    /// No `.sums`: a segment that another broker wrote.
    None,
    Damaged,
    Whole(SumsTrailer),
}

/// Reads no more than the trailer of a segment's `.sums`.
pub async fn sealing_of<E: Env>(env: &E, folder: &Path, partition: PartitionId, base: i64) -> io::Result<Sealing> {
    let file = match env.open(&path_of(folder, base, "sums"), OpenOptions::READ_DIRECT).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sealing::None),
        file => file?,
    };
    let bytes = env.size(&file).await?;
    let end = read_range(env, &file, bytes.saturating_sub(SUMS_TRAILER_BYTES as u64), bytes).await?;
    let trailer = SumsTrailer::decode(&end, partition, base).filter(|t| t.file_bytes() == bytes);
    Ok(trailer.map_or(Sealing::Damaged, Sealing::Whole))
}

/// Bytes `[from, to)` of a file, fewer at its end.
pub async fn read_range<E: Env>(env: &E, file: &E::File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let start = block_floor(from);
    let bytes = (block_ceil(to) - start).max(BLOCK_BYTES as u64) as usize;
    let buffer = read_up_to(env, file, start, bytes).await?;
    let end = ((to - start) as usize).min(buffer.len());
    Ok(buffer.get((from - start) as usize..end).unwrap_or_default().to_vec())
}

/// CRC-32C of a file's first `bytes` (of all of it without a number), and how many there were. A missing file is empty.
pub async fn crc_of_file<E: Env>(env: &E, path: &Path, bytes: Option<u64>) -> io::Result<(u32, u64)> {
    let file = match env.open(path, OpenOptions::READ_DIRECT).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        file => file?,
    };
    let size = env.size(&file).await?;
    let end = bytes.map_or(size, |bytes| bytes.min(size));
    let (mut crc, mut position) = (0, 0);
    while position < end {
        let piece = read_range(env, &file, position, end.min(position + CRC_WINDOW_BYTES)).await?;
        if piece.is_empty() {
            break;
        }
        crc = crc32c::crc32c_append(crc, &piece);
        position += piece.len() as u64;
    }
    Ok((crc, position))
}

impl<E: Env> SumsFile<E> {
    /// Forgets the rows that were read: something did not verify by them, and they may be what is damaged.
    pub fn forget_rows(&self) {
        self.pages.borrow_mut().clear();
    }

    fn rows_at(&self, place: &SegmentPlace) -> u64 {
        place.growing.map_or(self.rows, |(_, rows)| rows)
    }

    /// The rows from the one that holds `offset` on, as far as one page goes; `None` if the file has none that does.
    pub async fn find(&self, env: &E, place: &SegmentPlace, offset: i64) -> io::Result<Option<FoundRows>> {
        let rows = self.rows_at(place);
        let pages = (SUMS_HEAD_BYTES as u64 + rows * SUMS_ROW_BYTES as u64).div_ceil(BLOCK_BYTES as u64);
        let (mut low, mut high) = (0, pages);
        // Offsets and bytes mostly rise together: the first guess is right or next to it.
        let span = (place.next_offset - place.base).max(1) as u128;
        let mut probe = ((offset - place.base).max(0) as u128 * u128::from(pages) / span) as u64;
        for tries in 1.. {
            if low >= high {
                break;
            }
            if tries > 3 {
                probe = low.midpoint(high);
            }
            probe = probe.clamp(low, high - 1);
            let page = self.page(env, place, probe).await?;
            match (page.rows.first(), page.rows.last()) {
                (Some(first), _) if offset < first.first_offset => {
                    high = probe;
                    probe = probe.saturating_sub(1);
                }
                (_, Some(last)) if offset >= last.next_offset => {
                    low = probe + 1;
                    probe += 1;
                }
                _ => return Ok(FoundRows::of(page.id, rows_from(&page.rows, offset))),
            }
        }
        Ok(None)
    }

    /// The last row that the file holds.
    pub async fn last_row(&self, env: &E, place: &SegmentPlace) -> io::Result<Option<Row>> {
        let Some(last) = self.rows_at(place).checked_sub(1) else {
            return Ok(None);
        };
        let page = (SUMS_HEAD_BYTES as u64 + last * SUMS_ROW_BYTES as u64) / BLOCK_BYTES as u64;
        Ok(self.page(env, place, page).await?.rows.last().copied())
    }

    /// The rows that begin in block `number` of the file, up to the first that is none.
    async fn page(&self, env: &E, place: &SegmentPlace, number: u64) -> io::Result<Page> {
        let known = self.pages.borrow().iter().find(|page| page.id.page == number).cloned();
        if let Some(page) = known {
            return Ok(page);
        }
        let end = SUMS_HEAD_BYTES as u64 + self.rows_at(place) * SUMS_ROW_BYTES as u64;
        let (from, to) = (number * BLOCK_BYTES as u64, end.min((number + 1) * BLOCK_BYTES as u64));
        let is_first = number == 0;
        // Of a later block with the row before it, which says where its first row begins.
        let from = if is_first {
            SUMS_HEAD_BYTES as u64
        } else {
            from - SUMS_ROW_BYTES as u64
        };
        let bytes = read_range(env, &self.file, from, to).await?;
        let (before, own) = match is_first {
            true => (Some((0, place.base)), &bytes[..]),
            false => {
                let (before, own) = bytes.split_at(bytes.len().min(SUMS_ROW_BYTES));
                let place_of = |row: SumsRow| (row.end, place.base.saturating_add(i64::from(row.next_relative)));
                (SumsRow::decode(before).map(place_of), own)
            }
        };
        let rows = before.map_or(Vec::new(), |before| {
            decode_rows(place.base, before, own, place.log_bytes)
        });
        let crc = crc32c::crc32c(&bytes);
        let page = Page {
            id: RowsId { page: number, crc },
            rows: rows.into(),
        };
        let mut pages = self.pages.borrow_mut();
        pages.retain(|page| page.id.page != number);
        if pages.len() == PAGES_KEPT {
            pages.pop_front();
        }
        pages.push_back(page.clone());
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{Options, World};
    use crate::io::{Durability, write_all_at};
    use bytes::Bytes;

    #[test]
    fn a_read_that_comes_short_is_not_the_end_of_the_file() {
        let mut options = Options::default();
        options.disk.short_read_ppm = 1_000_000;
        let content: Vec<u8> = (0..5 * BLOCK_BYTES + 100).map(|i| (i / 7) as u8).collect();
        let expected = content.clone();
        let (range, sum) = World::new(3, options).block_on(0, |env| async move {
            let path = Path::new("/data/file");
            let file = env.open(path, OpenOptions::CREATE).await.expect("made");
            let written = write_all_at(&env, &file, Bytes::from(content), 0, Durability::Cached).await;
            written.expect("written");
            let file = env.open(path, OpenOptions::READ_DIRECT).await.expect("opened");
            let range = read_range(&env, &file, 5_000, 20_500).await.expect("read");
            (range, crc_of_file(&env, path, None).await.expect("read"))
        });
        assert_eq!(range, expected[5_000..20_500]);
        assert_eq!(sum, (crc32c::crc32c(&expected), expected.len() as u64));
    }
}
