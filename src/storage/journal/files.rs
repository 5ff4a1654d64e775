//! The files of a journal: how they come to be, and to be used again.

use std::io;
use std::path::PathBuf;

use super::format::{COMMIT_BYTES_MAX, FileHeader};
use crate::base::buffer::{AlignedBuf, block_ceil};
use crate::base::coverage::{Mark, mark};
use crate::io::{Durability, Env, OpenOptions, write_all_at};

/// Files are an eighth of the journal, within these bounds.
const FILE_BYTES_MIN: u64 = 512 << 10;
const FILE_BYTES_MAX: u64 = 32 << 20;
/// A new file is filled with writes of so many bytes.
const ZEROS_BYTES: usize = 256 << 10;

/// What a journal needs to know of its place.
pub struct JournalPlace {
    pub directory: PathBuf,
    pub directory_id: [u8; 16],
    pub start: u64,
    pub shard: u32,
    /// All files together.
    pub bytes_max: u64,
}

impl JournalPlace {
    pub(super) fn file_bytes(&self) -> u64 {
        block_ceil((self.bytes_max / 8).clamp(FILE_BYTES_MIN, FILE_BYTES_MAX))
    }

    pub(super) fn commit_bytes_max(&self) -> usize {
        COMMIT_BYTES_MAX.min(self.file_bytes() / 2) as usize
    }
}

/// A file with its header, to be written from the first block behind it.
pub(super) struct File<E: Env> {
    pub number: u64,
    pub salt: u64,
    pub path: PathBuf,
    pub file: E::File,
    pub bytes: u64,
}

/// A file whose commits are not needed much longer.
#[derive(Clone)]
pub(super) struct Used {
    pub path: PathBuf,
    pub bytes: u64,
    pub last_sequence: u64,
}

fn name(place: &JournalPlace, number: u64) -> PathBuf {
    place
        .directory
        .join(format!("ringtail-journal-{}-{}-{number}", place.start, place.shard))
}

/// A new file has another name until it has its header, so that one without is damage.
pub(super) fn unfinished_name(place: &JournalPlace, number: u64) -> PathBuf {
    let mut name = name(place, number).into_os_string();
    name.push(".tmp");
    name.into()
}

impl<E: Env> File<E> {
    /// A file with zeros (or old commits under another salt) and a durable header. One that is used again is where `recycled` says
    /// afterwards, also when this failed.
    pub async fn make(
        env: &E,
        place: &JournalPlace,
        number: u64,
        previous_salt: u64,
        recycled: Option<&mut Used>,
        bytes: u64,
        is_urgent: impl Fn() -> bool,
    ) -> io::Result<File<E>> {
        let path = name(place, number);
        let is_new = recycled.is_none();
        let (file, bytes) = match recycled {
            Some(old) => {
                // Opened first: where that cannot be done, nothing has changed.
                let file = env.open(&old.path, OpenOptions::WRITE_DIRECT).await?;
                mark(Mark::JournalFileRecycled);
                env.rename(&old.path, &path).await?;
                old.path = path.clone();
                (file, old.bytes)
            }
            None => {
                let options = OpenOptions {
                    exclusive: false,
                    ..OpenOptions::CREATE_DIRECT
                };
                let file = env.open(&unfinished_name(place, number), options).await?;
                env.allocate(&file, 0, bytes).await?;
                Self::fill_with_zeros(env, &file, bytes, is_urgent).await?;
                (file, bytes)
            }
        };
        let salt = env.random();
        let header = FileHeader {
            directory_id: place.directory_id,
            start: place.start,
            shard: place.shard,
            file: number,
            salt,
            previous_salt,
            file_bytes: bytes,
        };
        let block = AlignedBuf::copy_of(&header.encode()).freeze();
        write_all_at(env, &file, block, 0, Durability::Device).await?;
        if is_new {
            env.rename(&unfinished_name(place, number), &path).await?;
        }
        Ok(File {
            number,
            salt,
            path,
            file,
            bytes,
        })
    }

    /// Commits are flushed meanwhile, and each flush waits for what is being written: little at a time, while there is time.
    async fn fill_with_zeros(env: &E, file: &E::File, bytes: u64, is_urgent: impl Fn() -> bool) -> io::Result<()> {
        let mut zeros = AlignedBuf::new(ZEROS_BYTES.min(bytes as usize));
        zeros.set_len(zeros.capacity());
        let zeros = zeros.freeze();
        let mut position = 0;
        while position < bytes {
            let step = zeros.slice(..zeros.len().min((bytes - position) as usize));
            write_all_at(env, file, step.clone(), position, Durability::Cached).await?;
            position += step.len() as u64;
            if !is_urgent() {
                env.sleep_until(env.now().plus_ms(1)).await;
            }
        }
        env.flush(file).await
    }
}
