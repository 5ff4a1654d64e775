//! The few messages of the FUSE protocol (7.31) that one file and one folder need, as bytes.
//!
//! Numbers are in the machine's order. The kernel asks for everything else once and takes ENOSYS for an answer.

use std::ops::Range;

pub const EIO: i32 = 5;
pub const EINVAL: i32 = 22;
pub const ENOENT: i32 = 2;
pub const ENOSYS: i32 = 38;

/// The most that one request writes or reads.
pub const TRANSFER_BYTES_MAX: usize = 1 << 20;
/// Room for the longest request: its data and the structures before it.
pub const REQUEST_BYTES_MAX: usize = TRANSFER_BYTES_MAX + 4096;

const HEADER_BYTES: usize = 40;
const WRITE_HEADER_BYTES: usize = 40;
const VALID_SECONDS: u64 = 1 << 30;

/// A file of the file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Node {
    Root,
    /// The device.
    Image,
    /// An empty folder, for mounting the device's file system on it: whoever unmounts the root is rid of both.
    Folder,
}

impl Node {
    fn of(id: u64) -> Option<Node> {
        [Node::Root, Node::Image, Node::Folder]
            .into_iter()
            .find(|node| node.id() == id)
    }

    fn id(self) -> u64 {
        match self {
            Node::Root => 1,
            Node::Image => 2,
            Node::Folder => 3,
        }
    }

    fn named(name: &[u8]) -> Option<Node> {
        match name {
            b"image" => Some(Node::Image),
            b"fs" => Some(Node::Folder),
            _ => None,
        }
    }
}

/// What the kernel asks.
#[derive(PartialEq, Eq, Debug)]
pub enum Request<'a> {
    Init {
        read_ahead: u32,
    },
    Lookup(Option<Node>),
    Attributes(Option<Node>),
    Open {
        is_folder: bool,
    },
    Read(Range<u64>),
    Write(u64, &'a [u8]),
    Flush,
    /// Asked at closing, and the like: nothing to do.
    Nothing,
    /// Wants no answer.
    Silent,
    Unknown,
}

/// Takes a message apart: its number and what it asks. `None` if it is not whole.
pub fn decode(message: &[u8]) -> Option<(u64, Request<'_>)> {
    let (opcode, unique, node) = (u32_at(message, 4)?, u64_at(message, 8)?, u64_at(message, 16)?);
    let body = message.get(HEADER_BYTES..)?;
    let request = match opcode {
        26 => Request::Init {
            read_ahead: u32_at(body, 8)?,
        },
        1 => Request::Lookup(Node::named(body.strip_suffix(&[0])?)),
        // GETATTR, SETATTR: nothing can be set.
        3 | 4 => Request::Attributes(Node::of(node)),
        14 | 27 => Request::Open {
            is_folder: opcode == 27,
        },
        15 => {
            let (position, length) = (u64_at(body, 8)?, u32_at(body, 16)?);
            Request::Read(position..position.checked_add(u64::from(length))?)
        }
        16 => {
            let (position, length) = (u64_at(body, 8)?, u32_at(body, 16)? as usize);
            let data = body.get(WRITE_HEADER_BYTES..WRITE_HEADER_BYTES.checked_add(length)?)?;
            Request::Write(position, data)
        }
        // FSYNC
        20 => Request::Flush,
        // RELEASE, RELEASEDIR, FLUSH (closing), READDIR, DESTROY
        18 | 29 | 25 | 28 | 38 => Request::Nothing,
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => Request::Silent,
        _ => Request::Unknown,
    };
    Some((unique, request))
}

/// An answer under construction. `finish` fills in its length.
pub struct Answer(Vec<u8>);

impl Answer {
    pub fn new(unique: u64) -> Answer {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend([0; 8]);
        bytes.extend(unique.to_ne_bytes());
        Answer(bytes)
    }

    /// The request failed, with an error number.
    pub fn error(unique: u64, errno: i32) -> Vec<u8> {
        let mut answer = Answer::new(unique);
        answer.0[4..8].copy_from_slice(&(-errno).to_ne_bytes());
        answer.finish()
    }

    pub fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }

    /// Many requests at once, large ones, and writes beside each other.
    pub fn init(mut self, read_ahead: u32) -> Vec<u8> {
        const ASYNC_READ: u32 = 1 << 0;
        const BIG_WRITES: u32 = 1 << 5;
        const ASYNC_DIRECT: u32 = 1 << 15;
        const MAX_PAGES: u32 = 1 << 22;
        let flags = ASYNC_READ | BIG_WRITES | ASYNC_DIRECT | MAX_PAGES;
        let (background, congested) = (64u16, 48u16);
        self.u32s(&[7, 31, read_ahead, flags]);
        self.u16s(&[background, congested]);
        self.u32s(&[TRANSFER_BYTES_MAX as u32, 1]);
        self.u16s(&[(TRANSFER_BYTES_MAX / 4096) as u16, 0]);
        self.u32s(&[0; 8]);
        self.finish()
    }

    pub fn entry(mut self, node: Node, device_bytes: u64) -> Vec<u8> {
        self.u64s(&[node.id(), 0, VALID_SECONDS, VALID_SECONDS]);
        self.u32s(&[0, 0]);
        self.attributes_of(node, device_bytes);
        self.finish()
    }

    pub fn attributes(mut self, node: Node, device_bytes: u64) -> Vec<u8> {
        self.u64s(&[VALID_SECONDS]);
        self.u32s(&[0, 0]);
        self.attributes_of(node, device_bytes);
        self.finish()
    }

    pub fn open(mut self, is_folder: bool) -> Vec<u8> {
        const DIRECT_IO: u32 = 1 << 0;
        const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
        let flags = if is_folder {
            0
        } else {
            DIRECT_IO | PARALLEL_DIRECT_WRITES
        };
        self.u64s(&[1]);
        self.u32s(&[flags, 0]);
        self.finish()
    }

    pub fn written(mut self, length: u32) -> Vec<u8> {
        self.u32s(&[length, 0]);
        self.finish()
    }

    /// Room for what was read, to be filled in.
    pub fn data(&mut self, length: usize) -> &mut [u8] {
        let from = self.0.len();
        self.0.resize(from + length, 0);
        &mut self.0[from..]
    }

    fn attributes_of(&mut self, node: Node, device_bytes: u64) {
        let (mode, bytes) = match node {
            Node::Image => (0o100_600, device_bytes),
            Node::Root | Node::Folder => (0o040_755, 0),
        };
        self.u64s(&[node.id(), bytes, bytes / 512, 0, 0, 0]);
        self.u32s(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]);
    }

    fn u16s(&mut self, numbers: &[u16]) {
        numbers.iter().for_each(|number| self.0.extend(number.to_ne_bytes()));
    }

    fn u32s(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|number| self.0.extend(number.to_ne_bytes()));
    }

    fn u64s(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.0.extend(number.to_ne_bytes()));
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        message[4..8].copy_from_slice(&opcode.to_ne_bytes());
        message[8..16].copy_from_slice(&7u64.to_ne_bytes());
        message[16..24].copy_from_slice(&2u64.to_ne_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn a_write_is_its_position_and_its_bytes() {
        let mut body = vec![0; WRITE_HEADER_BYTES];
        body[8..16].copy_from_slice(&4096u64.to_ne_bytes());
        body[16..20].copy_from_slice(&3u32.to_ne_bytes());
        body.extend(b"abc");
        let whole = message(16, &body);
        assert_eq!(decode(&whole), Some((7, Request::Write(4096, b"abc"))));
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn names_and_nodes_are_known() {
        let image = message(1, b"image\0");
        assert_eq!(decode(&image), Some((7, Request::Lookup(Some(Node::Image)))));
        let other = message(1, b"other\0");
        assert_eq!(decode(&other), Some((7, Request::Lookup(None))));
        let attributes = message(3, &[0; 16]);
        assert_eq!(decode(&attributes), Some((7, Request::Attributes(Some(Node::Image)))));
    }

    #[test]
    fn answers_have_the_length_that_the_kernel_expects() {
        assert_eq!(Answer::error(1, EIO).len(), 16);
        assert_eq!(Answer::new(1).init(0).len(), 16 + 64);
        assert_eq!(Answer::new(1).entry(Node::Image, 512).len(), 16 + 128);
        assert_eq!(Answer::new(1).attributes(Node::Image, 512).len(), 16 + 104);
        assert_eq!(Answer::new(1).open(false).len(), 16 + 16);
        assert_eq!(Answer::new(1).written(512)[..4], 24u32.to_ne_bytes());
    }
}
