//! What a frame is made of: bytes, and bytes of files that the environment holds and nobody here looks at.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes of a file that the environment holds in memory until they are sent. They are sent once, in order: whoever sends them shows
/// the same handle until nothing is left.
#[derive(Clone)]
pub struct Pinned {
    bytes: usize,
    held: Arc<dyn Any + Send + Sync>,
}

impl Pinned {
    /// `bytes` of what the environment `held`.
    pub fn new(bytes: usize, held: Arc<dyn Any + Send + Sync>) -> Self {
        Self { bytes, held }
    }

    /// Bytes that are left to be sent.
    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The first `bytes` were sent.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "more was sent than there is");
        self.bytes -= bytes;
    }

    /// What is held, to the environment that holds it.
    pub fn held<T: Any>(&self) -> Option<&T> {
        self.held.downcast_ref()
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} bytes)", self.bytes)
    }
}

/// A part of a frame.
#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Bytes),
    Pinned(Pinned),
}

impl Piece {
    pub fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Pinned(pinned) => pinned.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Piece::Bytes(bytes)
    }
}
