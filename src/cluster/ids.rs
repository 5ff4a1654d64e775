//! The identity of a log directory.

use std::fmt;

use crate::base::ids::TopicId;

/// `directory.id` of `meta.properties`, written as Kafka writes ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct DirectoryId(pub [u8; 16]);

impl DirectoryId {
    /// Reads the 22-character form.
    pub fn parse(text: &str) -> Option<Self> {
        TopicId::parse(text).map(|id| Self(id.0))
    }
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TopicId(self.0).fmt(f)
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
