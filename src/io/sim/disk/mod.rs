//! The disk of one host: a file system that completes operations late and out of order, and forgets on a power cut what
//! nobody made durable.
//!
//! Three layers: `state` is the file system as a value (`file`: data, extents, size; `names`: entries; each with what reads
//! see, what is durable, and the changes in between); this file adds operations in flight, handles, locks, mapped memory
//! and faults; `image` is a copy at one moment and what a crash makes of it.
//!
//! Invariants
//! 1. Direct I/O is whole aligned blocks; writes in flight to a file never overlap, not even with those of a killed
//!    process; a buffer is the same at completion as at submission (`Disk::check`, `Disk::complete`; each panics with the seed).
//! 2. What a device write or a flush completed is in every image's power cut (`FileNode::fold` applies it unconditionally).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::core::{Completion, Core, Event};
use crate::base::buffer::{AlignedBuf, BLOCK_BYTES, Region};
use crate::io::{EMFILE, opening};

mod blocks;
mod fault;
mod file;
mod image;
mod names;
mod state;

pub use fault::{DiskOperation, EDQUOT, EIO, ENOSPC, Fault, FaultEffect};
pub use image::{DiskImage, LossMode};
pub(super) use state::{Action, Outcome};

use blocks::BLOCK;
use state::State;

/// Held by the clones of a lock; the lock lives as long as one of them and its process do, or longer: see `LockState`.
pub(super) struct LockToken {
    process: usize,
    inode: u64,
}

struct LockState {
    process: usize,
    token: Weak<LockToken>,
    /// Rings (process, shard) that hold it: as long as the process lives, or a write of that shard is in flight.
    rings: Vec<(usize, usize)>,
}

/// What a shard asks a disk to do.
pub(super) struct Request {
    pub(super) process: usize,
    pub(super) shard: usize,
    pub(super) path: Rc<Path>,
    pub(super) direct: bool,
    pub(super) action: Action,
    /// The caller's own view of the bytes to write.
    pub(super) caller: Option<Bytes>,
    pub(super) buffer: Option<AlignedBuf>,
}

pub(super) struct Reply {
    pub(super) result: io::Result<Outcome>,
    pub(super) buffer: Option<AlignedBuf>,
}

struct Operation {
    request: Request,
    done: Rc<Completion<Reply>>,
    attempt: u32,
    effect: Option<FaultEffect>,
    /// Its process was killed.
    orphan: bool,
}

/// What happened on a disk, for assertions of tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskCounters {
    pub writes: u64,
    /// Direct writes that end beyond the size: real file systems hand these to a worker thread.
    pub writes_growing: u64,
    /// Direct writes over extents of more than one kind, or over holes: likewise.
    pub writes_mixed: u64,
    /// Direct writes submitted while the file's size or extents are being changed: likewise.
    pub writes_beside_change: u64,
    pub reads: u64,
    pub flushes: u64,
    pub bytes_written: u64,
    /// The most bytes of unflushed writes in flight when a flushed one was submitted: its flush waits for them.
    pub bytes_before_flush_max: u64,
    /// That direct reads asked for.
    pub bytes_read: u64,
}

pub(super) struct Disk {
    host: usize,
    state: State,
    operations: BTreeMap<u64, Operation>,
    next_operation: u64,
    handles: BTreeMap<u64, u32>,
    regions: BTreeMap<u64, (usize, Arc<Region>)>,
    locks: BTreeMap<u64, LockState>,
    faults: Vec<Fault>,
    pub(super) counters: DiskCounters,
}

impl Disk {
    pub(super) fn new(core: &Core, host: usize) -> Self {
        let mut state = State::new(core.options.disk.capacity_bytes);
        state.make_directory(&core.options.disk.memory_directory);
        for directory in &core.options.disk.directories {
            state.make_directory(directory);
        }
        Self {
            host,
            state,
            operations: BTreeMap::new(),
            next_operation: 0,
            handles: BTreeMap::new(),
            regions: BTreeMap::new(),
            locks: BTreeMap::new(),
            faults: Vec::new(),
            counters: DiskCounters::default(),
        }
    }

    pub(super) fn boot_id(&self) -> u128 {
        u128::from(self.state.boots)
    }

    /// Puts the disk back to an image, with nothing in flight.
    pub(super) fn restore(&mut self, image: &DiskImage) {
        self.state = image.state.clone();
        self.operations.clear();
        self.handles.clear();
        self.regions.clear();
        self.locks.clear();
    }

    pub(super) fn image(&mut self, core: &Core) -> DiskImage {
        self.store_regions(|_| true);
        let actions = self.operations.values().map(|operation| &operation.request.action);
        DiskImage {
            state: self.state.clone(),
            in_flight: actions.filter(|action| action.mutates()).cloned().collect(),
            memory_directory: core.options.disk.memory_directory.clone(),
            mapped_pages_survive: core.options.disk.mapped_pages_survive,
        }
    }

    /// Brings the content of mapped files up to what their memory holds.
    fn store_regions(&mut self, of: impl Fn(usize) -> bool) {
        for (inode, (process, region)) in &self.regions {
            if of(*process)
                && let Ok(file) = self.state.file_mut(*inode)
            {
                file.store_mapped(region.bytes(), |block, into| {
                    region.copy_out(block * BLOCK_BYTES, into);
                });
            }
        }
    }

    /// What is mapped counts no more.
    pub(super) fn forget_memory(&mut self) {
        self.regions.clear();
    }

    pub(super) fn plant(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear_faults(&mut self) {
        self.faults.clear();
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.state.capacity_blocks = bytes / BLOCK;
    }

    pub(super) fn make_directory(&mut self, path: &Path) {
        self.state.make_directory(path);
    }

    pub(super) fn corrupt(&mut self, path: &Path, position: u64, mask: u8) -> io::Result<()> {
        let inode = self.state.lookup(path)?;
        self.state.file_mut(inode)?.rot(position, mask);
        Ok(())
    }

    /// Changes that are complete now carry smaller sequences than this.
    pub(super) fn barrier(&self) -> u64 {
        self.state.barrier()
    }

    pub(super) fn opened(&mut self, inode: u64) {
        *self.handles.entry(inode).or_default() += 1;
    }

    pub(super) fn closed(&mut self, inode: u64) {
        if let Some(count) = self.handles.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&inode);
                self.collect();
            }
        }
    }

    fn collect(&mut self) {
        if self.state.unlinked.is_empty() {
            return;
        }
        let (handles, operations) = (&self.handles, &self.operations);
        self.state.collect(|inode| {
            let busy = |operation: &Operation| operation.request.action.inode() == Some(inode);
            handles.contains_key(&inode) || operations.values().any(busy)
        });
    }

    /// The assertions on an operation at its submission.
    fn check(&mut self, core: &Core, request: &Request) {
        let (inode, position, bytes) = match &request.action {
            Action::Write {
                inode, position, data, ..
            } => (*inode, *position, data.len() as u64),
            Action::Read {
                inode, position, bytes, ..
            } => (*inode, *position, *bytes as u64),
            _ => return,
        };
        let path = request.path.display();
        if request.direct {
            let address = request.caller.as_ref().map_or(0, |data| data.as_ptr() as usize as u64);
            assert!(
                (position | bytes | address).is_multiple_of(BLOCK) && bytes > 0,
                "direct I/O of {path} not in whole aligned blocks: position {position}, {bytes} bytes, address modulo block \
                 {} ({})",
                address % BLOCK,
                core.place()
            );
        }
        if !matches!(request.action, Action::Write { .. }) {
            self.counters.reads += 1;
            self.counters.bytes_read += bytes;
            return;
        }
        for operation in self.operations.values() {
            assert!(
                !overlaps(&operation.request.action, inode, position, bytes),
                "write of {path} at {position}, {bytes} bytes, overlaps one in flight{} ({})",
                if operation.orphan {
                    " that a killed process left"
                } else {
                    ""
                },
                core.place()
            );
        }
        self.counters.writes += 1;
        self.counters.bytes_written += bytes;
        if let Action::Write { device: true, .. } = request.action {
            let unflushed = self.operations.values().map(|o| match &o.request.action {
                Action::Write {
                    data, device: false, ..
                } => data.len() as u64,
                _ => 0,
            });
            let max = &mut self.counters.bytes_before_flush_max;
            *max = unflushed.sum::<u64>().max(*max);
        }
        if let (true, Ok(file)) = (request.direct, self.state.file(inode)) {
            self.counters.writes_growing += u64::from(position + bytes > file.current.size);
            self.counters.writes_mixed += u64::from(!file.one_extent_kind(position, bytes));
            let changes = |o: &Operation| changes_extents(&o.request.action, inode);
            self.counters.writes_beside_change += u64::from(self.operations.values().any(changes));
        }
    }

    pub(super) fn submit(&mut self, core: &Core, request: Request) -> Rc<Completion<Reply>> {
        self.check(core, &request);
        let path = request.path.to_str().unwrap_or_default();
        let mut effect = None;
        for fault in &mut self.faults {
            effect = effect.or_else(|| fault.strike(&request.action, path, &core.disk));
        }
        let mut latency = latency(core, &request.action);
        if let Some(FaultEffect::Stall { ns }) = effect {
            latency += ns;
        }
        let done = Completion::new();
        let operation = self.next_operation;
        self.next_operation += 1;
        let entry = Operation {
            request,
            done: done.clone(),
            attempt: 0,
            effect,
            orphan: false,
        };
        self.operations.insert(operation, entry);
        self.schedule(core, latency, operation, 0);
        done
    }

    fn schedule(&self, core: &Core, latency: u64, operation: u64, attempt: u32) {
        let host = self.host;
        let event = Event::Disk {
            host,
            operation,
            attempt,
        };
        core.schedule_in(latency, event);
    }

    /// Whether that completion is still to come (a kill may have moved or dropped it).
    pub(super) fn expects(&self, operation: u64, attempt: u32) -> bool {
        self.operations.get(&operation).is_some_and(|o| o.attempt == attempt)
    }

    /// Carries an operation out. The caller sets the completion, outside of any borrow.
    pub(super) fn complete(
        &mut self,
        core: &Core,
        operation: u64,
        alive: impl Fn(usize) -> bool,
    ) -> Option<(Rc<Completion<Reply>>, Reply)> {
        let mut operation = self.operations.remove(&operation)?;
        core.trace(2, DiskOperation::of(&operation.request.action) as u64);
        if let (Some(caller), Action::Write { data, .. }) = (&operation.request.caller, &operation.request.action) {
            assert!(
                caller == data,
                "the buffer of a write of {} changed in flight ({})",
                operation.request.path.display(),
                core.place()
            );
        }
        let mut buffer = operation.request.buffer.take();
        self.bend(core, &mut operation);
        let result = match (operation.effect, &operation.request.action) {
            (Some(FaultEffect::Error(EMFILE)), action) if opens(action) => {
                Err(opening(io::Error::from_raw_os_error(EMFILE)))
            }
            (Some(FaultEffect::Error(errno)), action) if errno != EMFILE => {
                let action = action.clone();
                self.fail(core, &action);
                Err(io::Error::from_raw_os_error(errno))
            }
            (_, Action::Read { .. }) => self.read(core, &operation, buffer.as_mut()),
            (_, Action::Lock { .. }) => self.lock(&operation.request, &alive),
            (_, Action::Map { .. }) => self.map(&operation.request, &alive),
            (_, action) => self.state.apply(action),
        };
        if DiskOperation::of(&operation.request.action) == DiskOperation::Flush {
            self.counters.flushes += 1;
        }
        self.collect();
        Some((operation.done, Reply { result, buffer }))
    }

    /// Applies what chance and faults do to a write before it lands: less of it, or elsewhere.
    fn bend(&self, core: &Core, operation: &mut Operation) {
        let unit = if operation.request.direct { BLOCK } else { 1 };
        let Action::Write { data, position, .. } = &mut operation.request.action else {
            return;
        };
        let units = data.len() as u64 / unit;
        let short = operation.effect == Some(FaultEffect::Short) || core.disk.chance(core.options.disk.short_write_ppm);
        if short && units > 1 {
            data.truncate(((1 + core.disk.below(units - 1)) * unit) as usize);
        }
        if let Some(FaultEffect::Misdirect { position: elsewhere }) = operation.effect {
            *position = elsewhere;
        }
    }

    /// What a failed operation leaves behind.
    fn fail(&mut self, core: &Core, action: &Action) {
        match action {
            Action::Write {
                inode, position, data, ..
            } if core.disk.coin() => {
                let mut data = data.clone();
                data.truncate((core.disk.below(data.len() as u64 / BLOCK + 1) * BLOCK) as usize);
                let partial = Action::Write {
                    inode: *inode,
                    position: *position,
                    data,
                    device: false,
                };
                // The caller sees the planted error, whatever this one says.
                drop(self.state.apply(&partial));
            }
            Action::Flush { inode, before } => {
                if let Ok(file) = self.state.file_mut(*inode) {
                    file.fail_flush(*before);
                }
            }
            Action::FlushDirectory { path, before } => {
                if let Ok(inode) = self.state.lookup(path) {
                    self.state.fail_flush_of_names(Some(inode), *before);
                }
            }
            Action::FlushFileSystem { before } => self.state.fail_flush_all(*before),
            _ => {}
        }
    }

    /// What the medium holds, mixed with what is being written over it.
    fn read(&self, core: &Core, operation: &Operation, buffer: Option<&mut AlignedBuf>) -> io::Result<Outcome> {
        let (Action::Read { inode, position, bytes }, Some(buffer)) = (&operation.request.action, buffer) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let file = self.state.file(*inode)?;
        let mut count = file.current.size.saturating_sub(*position).min(*bytes as u64);
        let unit = if operation.request.direct { BLOCK } else { 1 };
        let short = operation.effect == Some(FaultEffect::Short) || core.disk.chance(core.options.disk.short_read_ppm);
        if short && count / unit > 1 {
            count = (1 + core.disk.below(count / unit - 1)) * unit;
        }
        buffer.set_len(count as usize);
        match self.regions.get(inode) {
            Some((_, region)) if *position + count <= region.bytes() as u64 => {
                region.copy_out(*position as usize, buffer);
            }
            _ => file.current.read(*position, buffer),
        }
        for other in self.operations.values() {
            if overlaps(&other.request.action, *inode, *position, count)
                && let Action::Write { position: at, data, .. } = &other.request.action
            {
                mix_in(core, buffer, *position, data, *at);
            }
        }
        Ok(Outcome::Count(count))
    }

    fn lock(&mut self, request: &Request, alive: &impl Fn(usize) -> bool) -> io::Result<Outcome> {
        let Outcome::Inode(inode) = self.state.apply(&request.action)? else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if let Some(lock) = self.locks.get(&inode) {
            let orphaned = |ring: &(usize, usize)| {
                let of = |o: &Operation| o.orphan && (o.request.process, o.request.shard) == *ring;
                alive(ring.0) || self.operations.values().any(of)
            };
            let held = lock.token.strong_count() > 0 && alive(lock.process);
            if held || lock.rings.iter().any(orphaned) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let process = request.process;
        let token = Arc::new(LockToken { process, inode });
        let lock = LockState {
            process,
            token: Arc::downgrade(&token),
            rings: Vec::new(),
        };
        self.locks.insert(inode, lock);
        Ok(Outcome::Lock(token))
    }

    pub(super) fn hold(&mut self, token: &LockToken, shard: usize) {
        if let Some(lock) = self.locks.get_mut(&token.inode) {
            lock.rings.push((token.process, shard));
        }
    }

    fn map(&mut self, request: &Request, alive: &impl Fn(usize) -> bool) -> io::Result<Outcome> {
        let (Outcome::Inode(inode), Action::Map { bytes, .. }) = (self.state.apply(&request.action)?, &request.action)
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if let Some((process, region)) = self.regions.get(&inode)
            && alive(*process)
            && region.bytes() >= *bytes
        {
            return Ok(Outcome::Region(region.clone()));
        }
        let file = self.state.file_mut(inode)?;
        let mut buffer = AlignedBuf::new((*bytes).max(file.current.size as usize));
        buffer.set_len(buffer.capacity());
        let blocks: Vec<u64> = file.current.blocks().map(|(block, _)| block).collect();
        for block in blocks {
            let start = (block * BLOCK) as usize;
            if start < buffer.len() {
                file.current.read(start as u64, &mut buffer[start..start + BLOCK_BYTES]);
            }
        }
        file.mapped = true;
        file.current.size = file.current.size.max(*bytes as u64);
        let region = Arc::new(Region::from_buffer(buffer));
        self.regions.insert(inode, (request.process, region.clone()));
        Ok(Outcome::Region(region))
    }

    /// Cuts a killed process off: its memory is kept, its operations in flight end in one of the ways they can. To be
    /// called before the tasks are dropped, whose destructors write to mapped memory.
    pub(super) fn orphan(&mut self, core: &Core, process: usize) {
        self.state.recover_names();
        self.store_regions(|owner| owner == process);
        self.regions.retain(|_, (owner, _)| *owner != process);
        let of_process = |(id, operation): (&u64, &Operation)| {
            (operation.request.process == process && !operation.orphan).then_some(*id)
        };
        let ids: Vec<u64> = self.operations.iter().filter_map(of_process).collect();
        for id in ids {
            self.orphan_operation(core, id);
        }
    }

    fn orphan_operation(&mut self, core: &Core, id: u64) {
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        let is_write = matches!(operation.request.action, Action::Write { .. });
        if is_write && !core.disk.chance(core.options.disk.orphan_lost_ppm) {
            operation.orphan = true;
            operation.attempt += 1;
            operation.request.caller = None;
            operation.done = Completion::new();
            let attempt = operation.attempt;
            let delay = core.disk.within(&core.options.disk.orphan_delay);
            return self.schedule(core, delay, id, attempt);
        }
        let Some(operation) = self.operations.remove(&id) else {
            return;
        };
        // A system call in progress ends before its process does; one not begun never runs.
        let action = &operation.request.action;
        if !is_write && action.mutates() && operation.effect.is_none() && core.disk.coin() {
            drop(self.state.apply(action));
        }
    }
}

/// Whether the action holds the lock of the file's extents.
/// Whether a real environment needs a new descriptor for it.
fn opens(action: &Action) -> bool {
    DiskOperation::of(action) == DiskOperation::Open
        || matches!(
            action,
            Action::FlushDirectory { .. } | Action::FlushFileSystem { .. } | Action::List { .. }
        )
}

fn changes_extents(action: &Action, of: u64) -> bool {
    match action {
        Action::Allocate { inode, .. } | Action::Zero { inode, .. } | Action::Truncate { inode, .. } => *inode == of,
        _ => false,
    }
}

fn overlaps(action: &Action, inode: u64, position: u64, bytes: u64) -> bool {
    match action {
        Action::Write {
            inode: other,
            position: start,
            data,
            ..
        } => *other == inode && *start < position + bytes && position < *start + data.len() as u64,
        _ => false,
    }
}

/// Lays random sectors of a write in flight over what a read found.
fn mix_in(core: &Core, buffer: &mut [u8], position: u64, data: &[u8], data_position: u64) {
    let end = (position + buffer.len() as u64).min(data_position + data.len() as u64);
    let mut at = position.max(data_position);
    while at < end {
        let next = ((at / 512 + 1) * 512).min(end);
        if core.disk.coin() {
            let source = &data[(at - data_position) as usize..(next - data_position) as usize];
            buffer[(at - position) as usize..(next - position) as usize].copy_from_slice(source);
        }
        at = next;
    }
}

fn latency(core: &Core, action: &Action) -> u64 {
    let options = &core.options.disk;
    let range = match (DiskOperation::of(action), action) {
        (_, Action::Write { device: true, .. }) => &options.write_device,
        (_, Action::Write { .. }) => &options.write_cached,
        (DiskOperation::Read, _) => &options.read,
        (DiskOperation::Flush, _) => &options.flush,
        _ => &options.metadata,
    };
    let stall = if core.disk.chance(options.stall_ppm) {
        core.disk.within(&options.stall)
    } else {
        0
    };
    core.disk.within(range) + stall
}
