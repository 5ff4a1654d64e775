//! The chunks of one shard and directory: a set of arenas that grows with use, up to a bound.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::buffer::{Arena, Chunk, ChunkIdentity};
use crate::base::sync::Notify;
use crate::io::{Env, Queue};

/// The smallest chunk.
pub const UNIT_BYTES: usize = 16 << 10;
/// The largest chunk, in units.
pub const RUN_MAX: usize = 64;
/// The memory that is added at once: a quarter of all there may be, within these bounds.
const STEP_BYTES_MIN: usize = 1 << 20;
const STEP_BYTES_MAX: usize = 8 << 20;

/// What is kept free for moving tails together: this part of all, at most so much.
const RESERVE_PART: usize = 16;
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// Tail memory that outlives the process.
pub struct TailMemory<E: Env> {
    env: E,
    directory: PathBuf,
    /// File names are `<prefix>-<n>`.
    prefix: String,
    bytes_max: usize,
    step_bytes: usize,
    arenas: RefCell<Vec<Arena>>,
    growing: Cell<bool>,
    changed: Notify,
}

impl<E: Env> TailMemory<E> {
    /// Starts with one step.
    pub async fn open(env: E, directory: PathBuf, prefix: String, bytes_max: usize) -> std::io::Result<Rc<Self>> {
        let memory = Rc::new(Self {
            env,
            directory,
            prefix,
            bytes_max: bytes_max.max(STEP_BYTES_MIN),
            step_bytes: ((bytes_max / 4) / UNIT_BYTES * UNIT_BYTES).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX),
            arenas: RefCell::default(),
            growing: Cell::new(false),
            changed: Notify::default(),
        });
        memory.add_step().await?;
        Ok(memory)
    }

    async fn add_step(&self) -> std::io::Result<()> {
        let path = self
            .directory
            .join(format!("{}-{}", self.prefix, self.arenas.borrow().len()));
        let region = self.env.map(&path, self.step_bytes).await?;
        self.arenas
            .borrow_mut()
            .push(Arena::format(region, UNIT_BYTES, self.env.boot_id()));
        self.changed.notify();
        Ok(())
    }

    /// Removes the files: everything is stored elsewhere. What fails stays until the next start.
    pub async fn remove_files(&self) {
        let count = self.arenas.borrow().len();
        for number in 0..count {
            let path = self.directory.join(format!("{}-{number}", self.prefix));
            if let Err(error) = self.env.unlink(&path).await {
                tracing::debug!(file = %path.display(), %error, "an arena stays");
            }
        }
    }

    fn may_grow(&self) -> bool {
        (self.arenas.borrow().len() + 1) * self.step_bytes <= self.bytes_max
    }

    /// A chunk of up to `run` units, smaller when no such run is free. The reserve stays free.
    pub fn take(self: &Rc<Self>, run: usize, identity: &ChunkIdentity) -> Option<Chunk> {
        // A run is rounded up to a power of two: the largest one within what is spare.
        let spare_run = self.spare_units().checked_ilog2().map(|bits| 1 << bits);
        let chunk = spare_run.and_then(|spare| self.take_reserved(run.min(spare), identity));
        if self.free_bytes() < self.step_bytes / 2 {
            self.grow();
        }
        chunk
    }

    /// The same, out of the reserve if need be: for copies that make more memory free than they take.
    pub fn take_reserved(&self, run: usize, identity: &ChunkIdentity) -> Option<Chunk> {
        let mut run = (run.max(1).next_power_of_two()).min(RUN_MAX);
        loop {
            let found = self.arenas.borrow().iter().find_map(|arena| arena.take(run, identity));
            if found.is_some() || run == 1 {
                return found;
            }
            run /= 2;
        }
    }

    /// Units that are free beside the reserve.
    fn spare_units(&self) -> usize {
        let reserve = (self.bytes_max / RESERVE_PART).min(RESERVE_BYTES_MAX);
        self.free_bytes().saturating_sub(reserve) / UNIT_BYTES
    }

    /// Whether a smallest chunk can be had.
    pub fn has_room(&self) -> bool {
        self.spare_units() > 0
    }

    /// Adds memory and waits for it; `false` at the bound.
    pub async fn grow_now(&self) -> std::io::Result<bool> {
        if self.growing.get() {
            self.changed.until(|| !self.growing.get()).await;
            return Ok(true);
        }
        if !self.may_grow() {
            return Ok(false);
        }
        self.growing.set(true);
        let added = self.add_step().await;
        self.growing.set(false);
        self.changed.notify();
        added.map(|()| true)
    }

    fn grow(self: &Rc<Self>) {
        if !self.may_grow() || self.growing.get() {
            return;
        }
        let memory = self.clone();
        self.env.spawn(Queue::Foreground, async move {
            if let Err(error) = memory.grow_now().await {
                tracing::warn!(directory = %memory.directory.display(), %error, "no more tail memory to be had");
            }
        });
    }

    pub fn free_bytes(&self) -> usize {
        self.arenas.borrow().iter().map(Arena::free_bytes).sum()
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Wakes when memory was added or given back.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }
}
