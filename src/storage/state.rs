//! What a checkpoint says of its partitions: enough to take a log up again without reading what is settled. Pure.
//!
//! Two kinds of checkpoint have one form: the *base* that recovery writes before a start serves (all partitions of the
//! directory), and the *shard checkpoints* during it (the partitions of one shard). The page is `docs/format-checkpoint.md`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::build::{SegmentBuild, SegmentIdentity};
use super::codec::{Fields, PutFields};
use super::cursor::Cursor;
use super::epochs::Epochs;
use super::producers::Producers;
use crate::base::buffer::BLOCK_BYTES;
use crate::base::ids::PartitionId;
use crate::base::planted::{Bug, planted};

const MAGIC: u64 = 0x3154_504b_4354_5452;
const VERSION: u32 = 2;
/// In the place of a shard's number: a base checkpoint.
const NO_SHARD: u64 = u64::MAX;

/// One partition at the moment of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionState {
    pub id: PartitionId,
    pub log_start: i64,
    /// The batch boundary that `build` has reached; recovery goes on from here.
    pub boundary: Cursor,
    /// Block-aligned position below which the boundary's segment alone has the bytes.
    pub stored: u64,
    /// The bytes behind `stored` that nothing else need keep.
    pub tail: Bytes,
    /// Offsets below this were durable: what is missing of them is corruption.
    pub reach: i64,
    /// Recovery could not find all that was durable; the partition is not served.
    pub damaged: bool,
    pub build: SegmentBuild,
    pub epochs: Epochs,
    pub producers: Producers,
}

impl PartitionState {
    /// A log without a batch that begins at offset `first`; `uid` is what its segment is to be known by.
    pub fn fresh(id: PartitionId, first: i64, uid: u64) -> Self {
        let identity = SegmentIdentity {
            partition: id,
            base: first,
            uid,
        };
        Self {
            id,
            log_start: first,
            boundary: Cursor::segment_start(first),
            stored: 0,
            tail: Bytes::new(),
            reach: 0,
            damaged: false,
            build: SegmentBuild::new(identity),
            epochs: Epochs::default(),
            producers: Producers::default(),
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_partition(self.id);
        out.put_i64(self.log_start);
        out.put_i64(self.boundary.segment);
        out.put_u64(self.boundary.position);
        out.put_i64(self.boundary.offset);
        out.put_u64(self.stored);
        out.put_sized(&self.tail);
        out.put_i64(self.reach);
        out.put_u8(u8::from(self.damaged));
        self.build.encode(out);
        self.epochs.encode(out);
        self.producers.encode(out);
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let state = Self {
            id: fields.partition()?,
            log_start: fields.i64()?,
            boundary: Cursor {
                segment: fields.i64()?,
                position: fields.u64()?,
                offset: fields.i64()?,
            },
            stored: fields.u64()?,
            tail: Bytes::copy_from_slice(fields.sized()?),
            reach: fields.i64()?,
            damaged: fields.u8()? != 0,
            build: SegmentBuild::decode(fields)?,
            epochs: Epochs::decode(fields)?,
            producers: Producers::decode(fields)?,
        };
        // Only the end of a segment that is over is stored to an uneven position, and nothing follows it. Positions fit an index.
        let sound = state.boundary.position.max(state.stored) <= u64::from(u32::MAX)
            && (state.stored.is_multiple_of(BLOCK_BYTES as u64) || state.tail.is_empty())
            && state.boundary.segment >= 0
            && state.boundary.offset >= state.boundary.segment
            && state.build.identity.base == state.boundary.segment
            && state.build.is_within(&state.boundary)
            && state.build.identity.partition == state.id;
        sound.then_some(state)
    }
}

/// A checkpoint file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub directory_id: [u8; 16],
    /// Which file this is, so that another one's content is seen under its name.
    pub file: OwnFile,
    /// The journal's commits from this sequence on are needed besides (of the shard that wrote the checkpoint).
    pub journal_from: u64,
    pub partitions: BTreeMap<PartitionId, PartitionState>,
}

impl Checkpoint {
    /// The file's bytes, from partitions already encoded.
    pub fn encode(directory_id: [u8; 16], file: OwnFile, journal_from: u64, count: u32, partitions: &[u8]) -> Vec<u8> {
        let (shard, number) = match file {
            OwnFile::Shard { shard, number, .. } => (shard, number),
            _ => (NO_SHARD, 0),
        };
        let mut out = Vec::with_capacity(partitions.len() + 64);
        out.put_u64(MAGIC);
        out.put_u32(VERSION);
        out.put(&directory_id);
        out.put_u64(file.start());
        out.put_u64(shard);
        out.put_u64(number);
        out.put_u64(journal_from);
        out.put_u32(count);
        out.put(partitions);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    /// `None` if any byte of it is wrong.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) && !planted(Bug::BelieveBadCheckpoint) {
            return None;
        }
        let mut fields = Fields(body);
        if fields.u64()? != MAGIC || fields.u32()? != VERSION {
            return None;
        }
        let directory_id = fields.take(16)?.try_into().ok()?;
        let (start, shard, number) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (journal_from, count) = (fields.u64()?, fields.u32()?);
        let file = match shard {
            NO_SHARD => OwnFile::Base { start },
            _ => OwnFile::Shard { start, shard, number },
        };
        let mut partitions = BTreeMap::new();
        for _ in 0..count {
            let state = PartitionState::decode(&mut fields)?;
            partitions.insert(state.id, state);
        }
        fields.0.is_empty().then_some(Self {
            directory_id,
            file,
            journal_from,
            partitions,
        })
    }
}

/// `ringtail-base-<start>.ckpt`
pub fn base_name(start: u64) -> String {
    format!("ringtail-base-{start}.ckpt")
}

/// `ringtail-shard-<start>-<shard>-<number>.ckpt`
pub fn shard_name(start: u64, shard: u64, number: u64) -> String {
    format!("ringtail-shard-{start}-{shard}-{number}.ckpt")
}

/// What a file at the top of a log directory is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnFile {
    Base { start: u64 },
    Shard { start: u64, shard: u64, number: u64 },
    Journal { start: u64, shard: u64, number: u64 },
}

impl OwnFile {
    pub fn parse(name: &str) -> Option<Self> {
        // As `Display` writes it: a file of another name would not be found again.
        let number = |text: &str| text.parse().ok().filter(|number: &u64| number.to_string() == text);
        let numbers = |text: &str| text.split('-').map(number).collect::<Option<Vec<u64>>>();
        if let Some(rest) = name
            .strip_prefix("ringtail-base-")
            .and_then(|n| n.strip_suffix(".ckpt"))
        {
            return number(rest).map(|start| Self::Base { start });
        }
        let (rest, journal) = match name.strip_prefix("ringtail-journal-") {
            Some(rest) => (rest, true),
            None => (name.strip_prefix("ringtail-shard-")?.strip_suffix(".ckpt")?, false),
        };
        match (numbers(rest)?.as_slice(), journal) {
            (&[start, shard, number], true) => Some(Self::Journal { start, shard, number }),
            (&[start, shard, number], false) => Some(Self::Shard { start, shard, number }),
            _ => None,
        }
    }

    pub fn start(self) -> u64 {
        match self {
            Self::Base { start } | Self::Shard { start, .. } | Self::Journal { start, .. } => start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::growing::Growing;
    use super::*;
    use crate::base::ids::TopicId;

    fn state() -> PartitionState {
        let id = PartitionId {
            topic: TopicId([7; 16]),
            index: 3,
        };
        let mut epochs = Epochs::default();
        epochs.note(1, 0);
        PartitionState {
            id,
            log_start: 1,
            boundary: Cursor {
                segment: 5,
                position: 5000,
                offset: 9,
            },
            stored: 4096,
            tail: Bytes::from_static(b"tail"),
            reach: 9,
            damaged: false,
            build: SegmentBuild::new(SegmentIdentity {
                partition: id,
                base: 5,
                uid: 1,
            }),
            epochs,
            producers: Producers::default(),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_and_every_damage_is_seen() {
        let mut body = Vec::new();
        state().encode(&mut body);
        let file = OwnFile::Shard {
            start: 2,
            shard: 1,
            number: 5,
        };
        let bytes = Checkpoint::encode([1; 16], file, 3, 1, &body);
        let read = Checkpoint::decode(&bytes).expect("whole");
        assert_eq!((read.file, read.journal_from), (file, 3));
        let base = Checkpoint::encode([1; 16], OwnFile::Base { start: 2 }, 0, 1, &body);
        let base = Checkpoint::decode(&base).expect("whole");
        assert_eq!(base.file, OwnFile::Base { start: 2 });
        assert_eq!(read.partitions.into_values().collect::<Vec<_>>(), [state()]);
        for i in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[i] ^= 0x10;
            assert_eq!(Checkpoint::decode(&flipped), None);
            assert_eq!(Checkpoint::decode(&bytes[..i]), None);
        }
    }

    /// Of right sums and wrong content: what a start would stumble over.
    #[test]
    fn a_state_that_cannot_be_is_refused() {
        let read = |state: &PartitionState| {
            let mut body = Vec::new();
            state.encode(&mut body);
            Checkpoint::decode(&Checkpoint::encode([1; 16], OwnFile::Base { start: 2 }, 3, 1, &body))
        };
        assert!(read(&state()).is_some());
        let mut headless = state();
        headless.build.sums = Growing::default();
        let mut behind = state();
        behind.build.row.start = 5001;
        let mut beyond = state();
        beyond.boundary.position = 1 << 32;
        let mut stored = state();
        stored.stored = 1 << 32;
        for (what, state) in [
            ("sums", headless),
            ("row", behind),
            ("position", beyond),
            ("stored", stored),
        ] {
            assert_eq!(read(&state), None, "{what}");
        }
    }

    #[test]
    fn names_read_back() {
        assert_eq!(OwnFile::parse(&base_name(4)), Some(OwnFile::Base { start: 4 }));
        assert_eq!(
            OwnFile::parse(&shard_name(4, 1, 9)),
            Some(OwnFile::Shard {
                start: 4,
                shard: 1,
                number: 9
            })
        );
        assert_eq!(
            OwnFile::parse("ringtail-journal-4-1-9"),
            Some(OwnFile::Journal {
                start: 4,
                shard: 1,
                number: 9
            })
        );
        assert_eq!(OwnFile::parse("ringtail-journal-4-1"), None);
        assert_eq!(OwnFile::parse("ringtail-journal-4-1-+9"), None);
        assert_eq!(OwnFile::parse("ringtail-base-04.ckpt"), None);
        assert_eq!(OwnFile::parse("ringtail-base-4.ckpt.tmp"), None);
    }
}
