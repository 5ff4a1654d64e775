//! Walks the whole batches of a log slice: recovery, segment reads, and clients reading a fetch response.

use super::header::{BatchHeader, HeaderError};
use super::{HEADER_BYTES, LENGTH_PREFIX_BYTES, field};

/// What a scan insists upon.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions {
    /// Verify each batch's CRC-32C.
    pub crc_check: bool,
    /// A longer batch is a damaged length, not a reason to read on (a flipped bit may declare 2 GiB).
    pub batch_bytes_max: usize,
}

/// A whole batch within the scanned slice.
#[derive(Clone, Copy, Debug)]
pub struct ScannedBatch<'a> {
    /// Where it starts in the slice.
    pub position: usize,
    pub header: BatchHeader,
    /// The batch, header included.
    pub bytes: &'a [u8],
}

/// Why a scan ended before the slice did, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanStop {
    /// Position of the first byte that is not part of a good batch.
    pub position: usize,
    pub reason: StopReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The slice ends inside a batch; `bytes_needed` from the stop's position hold it whole, or hold its header when that is cut.
    Incomplete {
        bytes_needed: usize,
    },
    /// No batch but zeros, as far as a header would reach: space that was extended ahead of the data.
    Zeros,
    BadMagic(u8),
    /// The declared length is below a header's or above the scan's limit.
    BadLength {
        declared: i32,
    },
    /// Offsets are negative or overflow.
    BadOffsets {
        base_offset: i64,
        last_offset_delta: i32,
    },
    BadCrc {
        expected: u32,
        found: u32,
    },
}

/// An iterator over batches; after its one `Err` it is over. A slice that ends between two batches ends without `Err`.
#[derive(Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    position: usize,
    options: ScanOptions,
    stopped: bool,
}

/// Scans `bytes`, which starts with a batch.
pub fn scan(bytes: &[u8], options: ScanOptions) -> Scan<'_> {
    Scan {
        bytes,
        position: 0,
        options,
        stopped: false,
    }
}

impl Scan<'_> {
    /// End of the good batches seen so far.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Result<ScannedBatch<'a>, ScanStop>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if self.stopped || rest.is_empty() {
            return None;
        }
        match next_batch(rest, &self.options) {
            Ok(header) => {
                let position = self.position;
                self.position += header.total_bytes();
                Some(Ok(ScannedBatch {
                    position,
                    header,
                    bytes: &rest[..header.total_bytes()],
                }))
            }
            Err(reason) => {
                self.stopped = true;
                Some(Err(ScanStop {
                    position: self.position,
                    reason,
                }))
            }
        }
    }
}

fn next_batch(rest: &[u8], options: &ScanOptions) -> Result<BatchHeader, StopReason> {
    let front = &rest[..rest.len().min(HEADER_BYTES)];
    // Fewer than 12 zeros may be a small base offset; with the length they cannot be a batch's.
    if front.len() >= LENGTH_PREFIX_BYTES && front.iter().all(|&byte| byte == 0) {
        return Err(StopReason::Zeros);
    }
    let header = BatchHeader::parse(rest).map_err(|error| match error {
        HeaderError::Incomplete { .. } => StopReason::Incomplete {
            bytes_needed: HEADER_BYTES,
        },
        HeaderError::Magic(magic) => StopReason::BadMagic(magic),
        HeaderError::Length(declared) => StopReason::BadLength { declared },
        HeaderError::Offsets {
            base_offset,
            last_offset_delta,
        } => StopReason::BadOffsets {
            base_offset,
            last_offset_delta,
        },
    })?;
    if header.total_bytes() > options.batch_bytes_max {
        let declared = i32::try_from(header.batch_length()).unwrap_or(i32::MAX);
        return Err(StopReason::BadLength { declared });
    }
    let Some(batch) = rest.get(..header.total_bytes()) else {
        return Err(StopReason::Incomplete {
            bytes_needed: header.total_bytes(),
        });
    };
    if options.crc_check {
        let found = crc32c::crc32c(&batch[field::ATTRIBUTES..]);
        if found != header.crc() {
            return Err(StopReason::BadCrc {
                expected: header.crc(),
                found,
            });
        }
    }
    Ok(header)
}
