//! The file system of a host as a value: what every operation does to it, with no time, no fault and no process in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use super::blocks::BLOCK;
use super::file::FileNode;
use super::image::Loss;
use super::names::{DirectoryNode, NameChange, Node, ROOT};
use crate::io::sim::random::mix;
use crate::io::{DirectoryEntry, OpenOptions};

const ENOSPC: i32 = 28;

/// What an operation does when it completes.
#[derive(Clone)]
pub(in crate::io::sim) enum Action {
    Open {
        path: PathBuf,
        options: OpenOptions,
    },
    Write {
        inode: u64,
        position: u64,
        data: Bytes,
        device: bool,
    },
    Read {
        inode: u64,
        position: u64,
        bytes: usize,
    },
    Flush {
        inode: u64,
        before: u64,
    },
    Size {
        inode: u64,
    },
    Allocate {
        inode: u64,
        position: u64,
        bytes: u64,
    },
    Zero {
        inode: u64,
        position: u64,
        bytes: u64,
    },
    Truncate {
        inode: u64,
        bytes: u64,
    },
    CreateDirectory {
        path: PathBuf,
    },
    RemoveDirectory {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    List {
        path: PathBuf,
    },
    FlushDirectory {
        path: PathBuf,
        before: u64,
    },
    FlushFileSystem {
        before: u64,
    },
    FreeBytes,
    Lock {
        path: PathBuf,
    },
    Map {
        path: PathBuf,
        bytes: usize,
    },
}

impl Action {
    /// Whether it leaves a trace on the disk when it lands unobserved.
    pub(super) fn mutates(&self) -> bool {
        match self {
            Self::Open { options, .. } => options.create,
            Self::Read { .. } | Self::Size { .. } | Self::List { .. } | Self::FreeBytes => false,
            Self::Flush { .. } | Self::FlushDirectory { .. } | Self::FlushFileSystem { .. } => false,
            Self::Lock { .. } | Self::Map { .. } => true,
            _ => true,
        }
    }

    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            Self::Write { inode, .. }
            | Self::Read { inode, .. }
            | Self::Flush { inode, .. }
            | Self::Size { inode }
            | Self::Allocate { inode, .. }
            | Self::Zero { inode, .. }
            | Self::Truncate { inode, .. } => Some(*inode),
            _ => None,
        }
    }
}

/// What an operation answers.
pub(in crate::io::sim) enum Outcome {
    Done,
    Count(u64),
    Inode(u64),
    Entries(Vec<DirectoryEntry>),
    Lock(std::sync::Arc<super::LockToken>),
    Region(std::sync::Arc<crate::base::buffer::Region>),
}

#[derive(Clone)]
pub(super) struct State {
    /// Power cuts so far.
    pub(super) boots: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) name_changes: VecDeque<NameChange>,
    /// Inodes that lost a name: freed when nothing refers to them.
    pub(super) unlinked: BTreeSet<u64>,
    pub(super) next_inode: u64,
    sequence: u64,
    pub(super) allocated_blocks: u64,
    pub(super) capacity_blocks: u64,
}

impl State {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            boots: 0,
            nodes: BTreeMap::from([(ROOT, Node::Directory(Rc::default()))]),
            name_changes: VecDeque::new(),
            unlinked: BTreeSet::new(),
            next_inode: ROOT + 1,
            sequence: 0,
            allocated_blocks: 0,
            capacity_blocks: capacity_bytes / BLOCK,
        }
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Changes that are complete now carry smaller sequences than this.
    pub(super) fn barrier(&self) -> u64 {
        self.sequence + 1
    }

    /// Makes a directory and its parents, durably.
    pub(super) fn make_directory(&mut self, path: &Path) {
        let mut prefix = PathBuf::new();
        for part in path.components() {
            prefix.push(part);
            if self.lookup(&prefix).is_err() {
                let made = self.create(&prefix, Node::Directory(Rc::default()));
                made.expect("the parent was made before and the name is free");
            }
        }
        self.flush_names(None, self.barrier());
    }

    pub(super) fn file(&self, inode: u64) -> io::Result<&FileNode> {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, inode: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(Rc::make_mut(file)),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn reserve(&mut self, blocks: u64) -> io::Result<()> {
        if self.allocated_blocks + blocks > self.capacity_blocks {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.allocated_blocks += blocks;
        Ok(())
    }

    pub(super) fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<u64> {
        match self.lookup(path) {
            Ok(_) if options.create && options.exclusive => Err(io::ErrorKind::AlreadyExists.into()),
            Ok(inode) => self.file(inode).map(|_| inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound && options.create => {
                self.create(path, Node::File(Rc::default()))
            }
            Err(error) => Err(error),
        }
    }

    /// Does what the action says. Reads, locks and maps need more than the state: `Disk` does them.
    pub(super) fn apply(&mut self, action: &Action) -> io::Result<Outcome> {
        match action {
            Action::Open { path, options } => return self.open(path, *options).map(Outcome::Inode),
            Action::Lock { path } | Action::Map { path, .. } => {
                return self.open(path, OpenOptions::CREATE).map(Outcome::Inode);
            }
            Action::Write {
                inode,
                position,
                data,
                device,
            } => {
                let holes = self.file(*inode)?.holes(*position, data.len() as u64);
                self.reserve(holes)?;
                let sequence = self.next_sequence();
                self.file_mut(*inode)?.write(sequence, *position, data, *device);
                return Ok(Outcome::Count(data.len() as u64));
            }
            Action::Read { bytes, .. } => return Ok(Outcome::Count(*bytes as u64)),
            Action::Flush { inode, before } => self.file_mut(*inode)?.flush(*before),
            Action::Size { inode } => return Ok(Outcome::Count(self.file(*inode)?.current.size)),
            Action::Allocate { inode, position, bytes } => {
                let holes = self.file(*inode)?.holes(*position, *bytes);
                self.reserve(holes)?;
                let sequence = self.next_sequence();
                self.file_mut(*inode)?.allocate(sequence, *position, *bytes);
            }
            Action::Zero { inode, position, bytes } => self.reshape(*inode, |file, sequence| {
                file.zero(sequence, *position, *bytes);
            })?,
            Action::Truncate { inode, bytes } => self.reshape(*inode, |file, sequence| {
                file.truncate(sequence, *bytes);
            })?,
            Action::CreateDirectory { path } => {
                self.create(path, Node::Directory(Rc::default()))?;
            }
            Action::RemoveDirectory { path } => self.unlink(path, true)?,
            Action::Rename { from, to } => self.rename(from, to)?,
            Action::Unlink { path } => self.unlink(path, false)?,
            Action::List { path } => return self.list(path).map(Outcome::Entries),
            Action::FlushDirectory { path, before } => {
                let inode = self.lookup(path)?;
                self.directory(inode)?;
                self.flush_names(Some(inode), *before);
            }
            Action::FlushFileSystem { before } => self.flush_all(*before),
            Action::FreeBytes => {
                let free = self.capacity_blocks.saturating_sub(self.allocated_blocks);
                return Ok(Outcome::Count(free * BLOCK));
            }
        }
        Ok(Outcome::Done)
    }

    fn reshape(&mut self, inode: u64, edit: impl FnOnce(&mut FileNode, u64)) -> io::Result<()> {
        let sequence = self.next_sequence();
        let file = self.file_mut(inode)?;
        let before = file.current.allocated_blocks();
        edit(file, sequence);
        let after = file.current.allocated_blocks();
        self.allocated_blocks = self.allocated_blocks + after - before;
        Ok(())
    }

    pub(super) fn flush_all(&mut self, before: u64) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node
                && !file.is_settled()
            {
                Rc::make_mut(file).flush(before);
            }
        }
        self.flush_names(None, before);
    }

    /// A syncfs failed: what it covered may never reach the device.
    pub(super) fn fail_flush_all(&mut self, before: u64) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node
                && !file.is_settled()
            {
                Rc::make_mut(file).fail_flush(before);
            }
        }
        self.fail_flush_of_names(None, before);
    }

    pub(super) fn after_power_cut(&self, loss: &mut Loss, memory: &Path, mapped_pages_survive: bool) -> Self {
        let tree = self.names_after_power_cut(loss, self.lookup(memory).ok());
        let mut next = Self {
            boots: self.boots + 1,
            nodes: BTreeMap::new(),
            name_changes: VecDeque::new(),
            unlinked: BTreeSet::new(),
            next_inode: self.next_inode,
            sequence: self.sequence,
            allocated_blocks: 0,
            capacity_blocks: self.capacity_blocks,
        };
        for (inode, entries) in tree {
            for child in entries.values() {
                let Some(Node::File(file)) = self.nodes.get(child) else {
                    continue;
                };
                let file = if file.is_settled() && !file.mapped {
                    file.clone()
                } else {
                    Rc::new(file.after_power_cut(loss, mapped_pages_survive))
                };
                next.allocated_blocks += file.current.allocated_blocks();
                next.nodes.insert(*child, Node::File(file));
            }
            let directory = DirectoryNode {
                current: entries.clone(),
                durable: entries,
            };
            next.nodes.insert(inode, Node::Directory(Rc::new(directory)));
        }
        next.make_directory(memory);
        next
    }

    /// What the device has after it lost its cache while the machine runs on: memory stays as it is.
    pub(super) fn after_cache_loss(&self, loss: &mut Loss, memory: &Path) -> Self {
        let mut next = self.after_power_cut(loss, memory, true);
        next.boots = self.boots;
        let (Ok(from), Ok(to)) = (self.lookup(memory), next.lookup(memory)) else {
            return next;
        };
        if let Some(Node::Directory(directory)) = self.nodes.get(&from) {
            for child in directory.current.values() {
                if let Some(Node::File(file)) = self.nodes.get(child) {
                    next.allocated_blocks += file.current.allocated_blocks();
                    next.nodes.insert(*child, Node::File(file.clone()));
                }
            }
            next.nodes.insert(to, Node::Directory(directory.clone()));
        }
        next
    }

    /// A hash of the tree and all that is on its way, by names (not by inode numbers).
    pub(super) fn hash(&self) -> u64 {
        let changes = self.name_changes.iter().map(NameChange::hash);
        changes.fold(self.hash_tree(ROOT), mix)
    }

    fn hash_tree(&self, inode: u64) -> u64 {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => file.hash(),
            Some(Node::Directory(directory)) => directory.current.iter().fold(11, |hash, (name, child)| {
                let name = super::blocks::hash_bytes(name.as_bytes());
                mix(mix(hash, name), self.hash_tree(*child))
            }),
            None => 0,
        }
    }
}
