//! The journal's driver: group commit, one in flight, and the row of files it goes through.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};

use bytes::Bytes;

pub use super::files::JournalPlace;
use super::files::{File, Used, unfinished_name};
use super::format::{COMMIT_HEADER_BYTES, CommitHeader};
use super::rows::{ROW_BYTES_MAX, Row};
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES, Pool, block_ceil};
use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, either, planted};
use crate::base::sync::{Notify, join_all};
use crate::io::{Durability, Env, Queue, is_exhausted, write_all_at};
use crate::storage::health::{Health, OPEN_RETRY_MS, is_passing};

/// The first file is small, so that a start is quick.
const FIRST_FILE_BYTES: u64 = 2 << 20;
/// After this long without a commit an empty one confirms the last.
const CONFIRM_AFTER_MS: u64 = 20;
/// That the journal is half full is told again after so small a part of it: each time the settling task looks at every partition.
const PRESSED_PART: u64 = 64;

/// A future that belongs to a commit: the flush of bytes that went straight to a segment.
pub type Beside = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// Whoever has rows to commit.
pub trait Member {
    /// Adds what waits to the commit; `false` when the commit has no room for all of it.
    fn collect(self: Rc<Self>, commit: &mut CommitBuilder) -> bool;
    /// The commit that `collect` added to is durable.
    fn committed(self: Rc<Self>);
    /// The commit failed; the directory is out of service.
    fn failed(self: Rc<Self>);
}

/// A commit under construction.
pub struct CommitBuilder {
    buffer: AlignedBuf,
    rows: Vec<u8>,
    beside: Vec<Beside>,
    bytes_max: usize,
}

impl CommitBuilder {
    fn new(mut buffer: AlignedBuf, bytes_max: usize) -> Self {
        buffer.set_len(COMMIT_HEADER_BYTES);
        Self {
            buffer,
            rows: Vec::new(),
            beside: Vec::new(),
            bytes_max,
        }
    }

    /// Whether `payload` bytes and `rows` rows fit.
    pub fn has_room(&self, payload: usize, rows: usize) -> bool {
        self.buffer.len() + self.rows.len() + payload + rows * ROW_BYTES_MAX <= self.bytes_max
    }

    pub fn row(&mut self, row: &Row) {
        row.encode(&mut self.rows);
    }

    /// Copies bytes into the payload and returns where they begin in it.
    pub fn payload(&mut self, pieces: &[&[u8]]) -> u32 {
        let at = self.buffer.len() - COMMIT_HEADER_BYTES;
        pieces.iter().for_each(|piece| self.buffer.extend(piece));
        at as u32
    }

    /// The commit counts only when `future` is done too.
    pub fn beside(&mut self, future: Beside) {
        self.beside.push(future);
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.buffer.len() == COMMIT_HEADER_BYTES
    }

    fn bytes(&self) -> u64 {
        block_ceil((self.buffer.len() + self.rows.len()) as u64)
    }
}

/// One shard's journal in one directory.
pub struct Journal<E: Env> {
    env: E,
    place: JournalPlace,
    health: Health,
    pool: Pool,
    current: RefCell<File<E>>,
    ready: RefCell<Option<File<E>>>,
    /// Number and salt of the newest file made: `current`, `ready`, or one on its way from the one to the other.
    newest: Cell<(u64, u64)>,
    preparing: Cell<bool>,
    /// The last try to make a file found no space.
    lacks_space: Cell<bool>,
    /// A commit waits for a file: only a checkpoint helps.
    starved: Cell<bool>,
    free: RefCell<VecDeque<Used>>,
    used: RefCell<VecDeque<Used>>,
    position: Cell<u64>,
    sequence: Cell<u64>,
    crc: Cell<u32>,
    /// Whoever is gone when its turn comes wants nothing any more.
    queue: RefCell<VecDeque<Weak<dyn Member>>>,
    wake: Notify,
    file_ready: Notify,
    pressed: Notify,
    /// `written` when that was told last.
    pressed_at: Cell<u64>,
    stopping: Cell<bool>,
    stopped: Notify,
    is_stopped: Cell<bool>,
    /// The sequence of the newest durable commit.
    durable: Cell<u64>,
    written: Cell<u64>,
}

impl<E: Env> Journal<E> {
    /// Makes the first file and starts the committing task.
    pub async fn open(env: E, place: JournalPlace, health: Health) -> io::Result<Rc<Self>> {
        let first = File::make(
            &env,
            &place,
            0,
            0,
            None,
            FIRST_FILE_BYTES.min(place.file_bytes()),
            || true,
        )
        .await?;
        env.flush_directory(&place.directory).await?;
        let pool = Pool::new(place.commit_bytes_max(), 2);
        let newest = Cell::new((first.number, first.salt));
        let journal = Rc::new(Self {
            env: env.clone(),
            place,
            health,
            pool,
            current: RefCell::new(first),
            ready: RefCell::default(),
            newest,
            preparing: Cell::new(false),
            lacks_space: Cell::new(false),
            starved: Cell::new(false),
            free: RefCell::default(),
            used: RefCell::default(),
            position: Cell::new(BLOCK_BYTES as u64),
            sequence: Cell::new(1),
            crc: Cell::new(0),
            queue: RefCell::default(),
            wake: Notify::default(),
            file_ready: Notify::default(),
            pressed: Notify::default(),
            pressed_at: Cell::new(0),
            stopping: Cell::new(false),
            stopped: Notify::default(),
            is_stopped: Cell::new(false),
            durable: Cell::new(0),
            written: Cell::new(0),
        });
        env.spawn(Queue::Foreground, journal.clone().run());
        journal.prepare_next();
        Ok(journal)
    }

    /// Asks for a commit that takes in `member`.
    pub fn enqueue<M: Member + 'static>(&self, member: Rc<M>) {
        if self.is_stopped.get() {
            return member.failed();
        }
        let member: Weak<M> = Rc::downgrade(&member);
        self.queue.borrow_mut().push_back(member);
        self.wake.notify();
    }

    /// The sequence of the oldest commit that is not durable yet: in flight, or not even built.
    pub fn undurable_sequence(&self) -> u64 {
        self.durable.get() + 1
    }

    /// Bytes in files that a checkpoint could free or that are in use.
    pub fn used_bytes(&self) -> u64 {
        self.used.borrow().iter().map(|u| u.bytes).sum::<u64>() + self.position.get()
    }

    /// Wakes when more than half of the journal is in use, now and then while it is.
    pub fn pressed(&self) -> &Notify {
        &self.pressed
    }

    /// Bytes of all commits so far.
    pub fn written_bytes(&self) -> u64 {
        self.written.get()
    }

    /// What all files together may take.
    pub fn bytes_max(&self) -> u64 {
        self.place.bytes_max
    }

    pub fn lacks_space(&self) -> bool {
        self.lacks_space.get()
    }

    pub fn is_starved(&self) -> bool {
        self.starved.get()
    }

    /// The next file will be needed soon.
    fn is_half_through(&self) -> bool {
        self.position.get() * 2 > self.current.borrow().bytes
    }

    fn is_pressed(&self) -> bool {
        self.used_bytes() * 2 > self.place.bytes_max
    }

    /// Files whose commits all lie below `sequence` may be used again.
    pub fn release(self: &Rc<Self>, sequence: u64) {
        let mut used = self.used.borrow_mut();
        while used.front().is_some_and(|u| u.last_sequence < sequence) {
            self.free.borrow_mut().extend(used.pop_front());
        }
        drop(used);
        self.prepare_next();
    }

    fn file_bytes(&self) -> u64 {
        self.place.file_bytes()
    }

    /// Makes the next file in the background, if there is none and the bound allows it. To be called again when there was no
    /// space or descriptor for it; one that is used again needs no space.
    pub fn prepare_next(self: &Rc<Self>) {
        let total: u64 = self.used_bytes() + self.free.borrow().iter().map(|u| u.bytes).sum::<u64>();
        let may_make = total + self.file_bytes() <= self.place.bytes_max || self.used.borrow().is_empty();
        if self.ready.borrow().is_some() || self.preparing.get() || self.stopping.get() {
            return;
        }
        let recycled = self.free.borrow_mut().pop_front();
        if recycled.is_none() && !may_make {
            return;
        }
        self.preparing.set(true);
        let journal = self.clone();
        self.env.spawn(Queue::Foreground, async move {
            journal.prepare(recycled).await;
            journal.preparing.set(false);
            journal.file_ready.notify();
        });
    }

    async fn prepare(&self, mut recycled: Option<Used>) {
        let (newest, salt) = self.newest.get();
        let made = File::make(
            &self.env,
            &self.place,
            newest + 1,
            salt,
            recycled.as_mut(),
            self.file_bytes(),
            || self.is_half_through() || self.starved.get() || self.stopping.get(),
        )
        .await;
        let made = match made {
            Ok(file) => self.flush_names().await.map(|()| file),
            Err(error) => Err(error),
        };
        match (made, recycled) {
            (Ok(file), _) => {
                self.newest.set((file.number, file.salt));
                self.lacks_space.set(false);
                *self.ready.borrow_mut() = Some(file);
            }
            (Err(error), recycled) if is_passing(&error) => {
                self.lacks_space.set(true);
                // It tells the same under either name: the scan goes by the header.
                if let Some(file) = recycled {
                    self.free.borrow_mut().push_front(file);
                    return;
                }
                // Others may do with what it got.
                let partial = unfinished_name(&self.place, newest + 1);
                if let Err(error) = self.env.unlink(&partial).await {
                    tracing::debug!(file = %partial.display(), %error, "half a journal file stays");
                }
            }
            (Err(error), _) => self.fence("preparing a journal file", &error),
        }
    }

    /// Makes the names of the directory durable; waits while it cannot be opened for that.
    async fn flush_names(&self) -> io::Result<()> {
        loop {
            match self.env.flush_directory(&self.place.directory).await {
                Err(error) if is_exhausted(&error) => {
                    self.env.sleep_until(self.env.now().plus_ms(OPEN_RETRY_MS)).await;
                }
                flushed => return flushed,
            }
        }
    }

    fn fence(&self, doing: &str, error: &io::Error) {
        self.health
            .fence(&self.place.directory.display().to_string(), doing, error);
    }

    async fn run(self: Rc<Self>) {
        let mut confirmed = true;
        while !self.stopping.get() || !self.queue.borrow().is_empty() {
            if self.queue.borrow().is_empty() {
                let woken = self.wake.notified();
                if confirmed {
                    woken.await;
                    continue;
                }
                let deadline = self.env.now().plus_ms(CONFIRM_AFTER_MS);
                crate::base::sync::race(woken, self.env.sleep_until(deadline)).await;
            }
            let (commit, members) = self.build();
            confirmed = members.is_empty();
            let written = self.write(commit).await;
            let written = written.or_else(|error| either(Bug::CommitFailureIgnored, Ok(()), Err(error)));
            for member in members {
                match written {
                    Ok(()) => member.committed(),
                    Err(_) => member.failed(),
                }
            }
            if let Err(error) = written {
                self.fence("a journal commit", &error);
                self.fail_queue();
                break;
            }
            // Who has its answer now may have asked for more, in time for the next one.
            self.env.yield_now().await;
        }
        self.is_stopped.set(true);
        self.fail_queue();
        self.stopped.notify();
    }

    fn fail_queue(&self) {
        loop {
            let Some(member) = self.queue.borrow_mut().pop_front() else {
                return;
            };
            if let Some(member) = member.upgrade() {
                member.failed();
            }
        }
    }

    fn build(&self) -> (CommitBuilder, Vec<Rc<dyn Member>>) {
        let mut commit = CommitBuilder::new(self.pool.take(), self.place.commit_bytes_max());
        let mut members = Vec::new();
        let waiting = self.queue.borrow().len();
        for _ in 0..waiting {
            let Some(member) = self.queue.borrow_mut().pop_front() else {
                break;
            };
            let Some(member) = member.upgrade() else { continue };
            let whole = member.clone().collect(&mut commit);
            members.push(member.clone());
            if !whole && commit.is_empty() {
                // Even a commit of its own does not hold it: going on would turn in a circle.
                tracing::error!("a member of the journal cannot be committed");
                member.failed();
                members.pop();
            } else if !whole {
                self.queue.borrow_mut().push_front(Rc::downgrade(&member));
                break;
            }
        }
        (commit, members)
    }

    /// Writes one commit, with what belongs beside it.
    async fn write(self: &Rc<Self>, mut commit: CommitBuilder) -> io::Result<()> {
        if self.health.is_fenced() {
            return Err(io::Error::other("the directory is out of service"));
        }
        if self.position.get() + commit.bytes() + BLOCK_BYTES as u64 > self.current.borrow().bytes {
            self.enter_next_file().await?;
        }
        let beside = std::mem::take(&mut commit.beside);
        let write = self.submit(commit);
        let (written, flushed) = if beside.is_empty() {
            (write.await, Vec::new())
        } else {
            let mut all: Vec<Beside> = beside;
            all.push(Box::pin(write));
            (Ok(()), join_all(all).await)
        };
        flushed.into_iter().fold(written, |all, one| all.and(one))?;
        self.durable.set(self.sequence.get() - 1);
        if self.is_pressed() && self.written.get() - self.pressed_at.get() >= self.place.bytes_max / PRESSED_PART {
            self.pressed_at.set(self.written.get());
            self.pressed.notify();
        }
        Ok(())
    }

    fn submit(&self, commit: CommitBuilder) -> impl Future<Output = io::Result<()>> + 'static {
        let CommitBuilder { mut buffer, rows, .. } = commit;
        let payload = buffer.len() - COMMIT_HEADER_BYTES;
        buffer.extend(&rows);
        buffer.pad_to_block();
        let sequence = self.sequence.get();
        let current = self.current.borrow();
        let crc = CommitHeader::seal(&mut buffer, current.salt, sequence, self.crc.get(), rows.len(), payload);
        let position = self.position.get();
        self.position.set(position + buffer.len() as u64);
        self.written.set(self.written.get() + buffer.len() as u64);
        self.sequence.set(sequence + 1);
        self.crc.set(crc);
        let (env, file, bytes): (E, E::File, Bytes) = (self.env.clone(), current.file.clone(), buffer.freeze());
        let whole = bytes.len();
        let bytes = bytes.slice(..either(Bug::SkipJournalBlock, BLOCK_BYTES.max(whole - BLOCK_BYTES), whole));
        let durability = either(Bug::CommitUnflushed, Durability::Cached, Durability::Device);
        async move {
            if planted(Bug::ConfirmUnwrittenCommit) && sequence.is_multiple_of(16) {
                return Ok(());
            }
            write_all_at(&env, &file, bytes, position, durability).await
        }
    }

    /// Names the next file in the current one, then goes on in it.
    async fn enter_next_file(self: &Rc<Self>) -> io::Result<()> {
        let next = loop {
            let ready = self.file_ready.notified();
            if let Some(next) = self.ready.borrow_mut().take() {
                break next;
            }
            if self.health.is_fenced() {
                return Err(io::Error::other("the directory is out of service"));
            }
            if self.stopping.get() && !self.preparing.get() {
                return Err(io::Error::other(
                    "no room for the last commits: they stay unacknowledged",
                ));
            }
            self.starved.set(true);
            self.pressed.notify();
            ready.await;
        };
        self.starved.set(false);
        let mut farewell = CommitBuilder::new(AlignedBuf::new(BLOCK_BYTES), BLOCK_BYTES);
        farewell.row(&Row::Next {
            file: next.number,
            salt: next.salt,
        });
        self.submit(farewell).await?;
        mark(Mark::JournalFileEntered);
        let old = self.current.replace(next);
        assert!(
            self.current.borrow().number == old.number + 1,
            "journal files follow each other"
        );
        let last_sequence = self.sequence.get() - 1;
        self.used.borrow_mut().push_back(Used {
            path: old.path,
            bytes: old.bytes,
            last_sequence,
        });
        self.position.set(BLOCK_BYTES as u64);
        self.prepare_next();
        Ok(())
    }

    /// Commits what is queued and ends the committing task.
    pub async fn stop(&self) {
        self.stopping.set(true);
        self.wake.notify();
        self.file_ready.notify();
        self.stopped.until(|| self.is_stopped.get()).await;
    }
}
