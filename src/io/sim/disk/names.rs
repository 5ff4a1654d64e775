//! Directories: the entries that look-ups see, those that a power cut leaves for certain, and the changes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::rc::Rc;

use super::blocks::hash_bytes;
use super::file::FileNode;
use super::image::Loss;
use super::state::State;
use crate::io::DirectoryEntry;
use crate::io::sim::random::mix;

pub(super) const ROOT: u64 = 1;

/// A directory and a name in it, or none.
type Name = Option<(u64, Rc<str>)>;

pub(super) type Entries = BTreeMap<Rc<str>, u64>;

#[derive(Clone, Default)]
pub(super) struct DirectoryNode {
    pub(super) current: Entries,
    pub(super) durable: Entries,
}

#[derive(Clone)]
pub(super) enum Node {
    File(Rc<FileNode>),
    Directory(Rc<DirectoryNode>),
}

/// One change of the tree: both halves of a rename are one change, and reach the device together or not at all.
#[derive(Clone)]
pub(super) struct NameChange {
    sequence: u64,
    /// Where `inode` was named before.
    from: Name,
    /// Where it is named after.
    to: Name,
    inode: u64,
    replaced: Option<u64>,
    from_flushed: bool,
    to_flushed: bool,
    /// A flush that covered it failed: no later one of the same process brings it to the device.
    lost: bool,
}

impl NameChange {
    fn is_durable(&self) -> bool {
        !self.lost && (self.from.is_none() || self.from_flushed) && (self.to.is_none() || self.to_flushed)
    }

    fn touches(&self, other: &Self) -> bool {
        let names = [&self.from, &self.to];
        let shared = |name: &Name| name.is_some() && names.contains(&name);
        self.inode == other.inode || shared(&other.from) || shared(&other.to)
    }

    /// Whether a flush of `directory` (of all directories if `None`) covers one of its ends.
    fn is_covered_by(&self, directory: Option<u64>) -> bool {
        let covers = |end: &Name| covers(directory, end);
        covers(&self.from) || covers(&self.to)
    }

    fn mentions(&self, inode: u64) -> bool {
        self.inode == inode || self.replaced == Some(inode)
    }

    /// By names, not by inode numbers.
    pub(super) fn hash(&self) -> u64 {
        let name_hash = |name: &Name| name.as_ref().map_or(0, |(_, name)| hash_bytes(name.as_bytes()));
        let flushed = u64::from(self.lost) * 4 + u64::from(self.from_flushed) * 2 + u64::from(self.to_flushed);
        mix(mix(name_hash(&self.from), name_hash(&self.to)), flushed)
    }

    fn apply(&self, mut entries: impl FnMut(u64, &mut dyn FnMut(&mut Entries))) {
        if let Some((directory, name)) = &self.from {
            entries(*directory, &mut |entries| {
                if entries.get(name) == Some(&self.inode) {
                    entries.remove(name);
                }
            });
        }
        if let Some((directory, name)) = &self.to {
            entries(*directory, &mut |entries| {
                entries.insert(name.clone(), self.inode);
            });
        }
    }
}

fn covers(directory: Option<u64>, end: &Name) -> bool {
    end.as_ref()
        .is_some_and(|(inode, _)| directory.is_none_or(|directory| directory == *inode))
}

fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(parts)
}

impl State {
    pub(super) fn lookup(&self, path: &Path) -> io::Result<u64> {
        let mut inode = ROOT;
        for name in parts(path)? {
            inode = *(self.directory(inode)?.current.get(name)).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    /// The directory that holds the path's last name, and that name.
    fn parent(&self, path: &Path) -> io::Result<(u64, Rc<str>)> {
        let mut names = parts(path)?;
        let last = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut inode = ROOT;
        for name in names {
            inode = *(self.directory(inode)?.current.get(name)).ok_or(io::ErrorKind::NotFound)?;
        }
        self.directory(inode)?;
        Ok((inode, last.into()))
    }

    pub(super) fn directory(&self, inode: u64) -> io::Result<&DirectoryNode> {
        match self.nodes.get(&inode) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory_mut(&mut self, inode: u64) -> Option<&mut DirectoryNode> {
        match self.nodes.get_mut(&inode) {
            Some(Node::Directory(directory)) => Some(Rc::make_mut(directory)),
            _ => None,
        }
    }

    fn change_names(&mut self, from: Name, to: Name, inode: u64, replaced: Option<u64>) {
        let change = NameChange {
            sequence: self.next_sequence(),
            from,
            to,
            inode,
            replaced,
            from_flushed: false,
            to_flushed: false,
            lost: false,
        };
        change.apply(|directory, edit| {
            if let Some(node) = self.directory_mut(directory) {
                edit(&mut node.current);
            }
        });
        self.unlinked.extend(replaced);
        self.name_changes.push_back(change);
    }

    /// Names a new node; `make` is called once the name is known to be free.
    pub(super) fn create(&mut self, path: &Path, node: Node) -> io::Result<u64> {
        let (directory, name) = self.parent(path)?;
        if self.directory(directory)?.current.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        self.change_names(None, Some((directory, name)), inode, None);
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.parent(from)?, self.parent(to)?);
        let inode = *(self.directory(from.0)?.current.get(&from.1)).ok_or(io::ErrorKind::NotFound)?;
        if from == to {
            return Ok(());
        }
        let replaced = self.directory(to.0)?.current.get(&to.1).copied();
        if let Some(replaced) = replaced {
            match (self.directory(inode).is_ok(), self.directory(replaced)) {
                (false, Ok(_)) => return Err(io::ErrorKind::IsADirectory.into()),
                (true, Err(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                (true, Ok(old)) if !old.current.is_empty() => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                _ => {}
            }
        }
        self.change_names(Some(from), Some(to), inode, replaced);
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path, directory: bool) -> io::Result<()> {
        let from = self.parent(path)?;
        let inode = *(self.directory(from.0)?.current.get(&from.1)).ok_or(io::ErrorKind::NotFound)?;
        match (directory, self.directory(inode)) {
            (false, Ok(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            (true, Err(error)) => return Err(error),
            (true, Ok(node)) if !node.current.is_empty() => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            _ => {}
        }
        self.change_names(Some(from), None, inode, None);
        self.unlinked.insert(inode);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let directory = self.directory(self.lookup(path)?)?;
        let entry = |(name, inode): (&Rc<str>, &u64)| {
            let (is_directory, bytes) = match self.nodes.get(inode) {
                Some(Node::File(file)) => (false, file.current.size),
                _ => (true, 0),
            };
            let name = name.to_string();
            DirectoryEntry {
                name,
                is_directory,
                bytes,
            }
        };
        Ok(directory.current.iter().map(entry).collect())
    }

    /// Entries of `directory` (all directories if `None`) changed before `sequence` are on the device.
    pub(super) fn flush_names(&mut self, directory: Option<u64>, sequence: u64) {
        for change in self.name_changes.iter_mut().filter(|change| change.sequence < sequence) {
            change.from_flushed |= covers(directory, &change.from);
            change.to_flushed |= covers(directory, &change.to);
        }
        let mut kept: Vec<NameChange> = Vec::new();
        for change in std::mem::take(&mut self.name_changes) {
            if !change.is_durable() || kept.iter().any(|earlier| earlier.touches(&change)) {
                kept.push(change);
                continue;
            }
            change.apply(|directory, edit| {
                if let Some(node) = self.directory_mut(directory) {
                    edit(&mut node.durable);
                }
            });
        }
        self.name_changes = kept.into();
    }

    /// A flush of `directory` (of all directories if `None`) failed: what it covered may never reach the device.
    pub(super) fn fail_flush_of_names(&mut self, directory: Option<u64>, sequence: u64) {
        for change in self.name_changes.iter_mut().filter(|change| change.sequence < sequence) {
            change.lost |= change.is_covered_by(directory);
        }
    }

    /// The next process finds a file system that was mounted again, and its journal with it (one that could not write that stays read-only
    /// until then): what it reads is what later flushes make sure.
    pub(super) fn recover_names(&mut self) {
        for change in self.name_changes.iter_mut().filter(|change| change.lost) {
            (change.lost, change.from_flushed, change.to_flushed) = (false, false, false);
        }
    }

    /// Frees what no entry, change or handle refers to any more.
    pub(super) fn collect(&mut self, in_use: impl Fn(u64) -> bool) {
        let candidates: Vec<u64> = self.unlinked.iter().copied().collect();
        for inode in candidates {
            if in_use(inode) || self.name_changes.iter().any(|change| change.mentions(inode)) {
                continue;
            }
            self.unlinked.remove(&inode);
            // Mapped pages are memory: they were never reserved on the device.
            if let Some(Node::File(file)) = self.nodes.remove(&inode)
                && !file.mapped
            {
                self.allocated_blocks -= file.current.allocated_blocks();
            }
        }
    }

    /// The tree that a power cut leaves, as a state in which everything is durable.
    pub(super) fn names_after_power_cut(&self, loss: &mut Loss, forget: Option<u64>) -> BTreeMap<u64, Entries> {
        let mut tree: BTreeMap<u64, Entries> = (self.nodes.iter())
            .filter_map(|(inode, node)| match node {
                Node::Directory(directory) => Some((*inode, directory.durable.clone())),
                Node::File(_) => None,
            })
            .collect();
        for change in &self.name_changes {
            if change.is_durable() || loss.keeps() {
                change.apply(|directory, edit| {
                    if let Some(entries) = tree.get_mut(&directory) {
                        edit(entries);
                    }
                });
            }
        }
        if let Some(entries) = forget.and_then(|inode| tree.get_mut(&inode)) {
            entries.clear();
        }
        let mut reached = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            for child in tree.get(&inode).into_iter().flat_map(|entries| entries.values()) {
                if reached.insert(*child) {
                    open.push(*child);
                }
            }
        }
        tree.retain(|inode, _| reached.contains(inode));
        tree
    }
}
