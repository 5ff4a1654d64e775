//! Whether a log directory is in service, told to all shards at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::coverage::{Mark, mark};
use crate::base::planted::{Bug, planted};
use crate::io::{is_exhausted, lacks_space};

/// When nothing can be opened it is tried again after this.
pub const OPEN_RETRY_MS: u64 = 100;

/// Whether something failed for lack of space, and nothing else: then it may be done again when there is some.
pub fn is_full(error: &std::io::Error) -> bool {
    !planted(Bug::FullFences) && lacks_space(error)
}

/// Whether it may be done again later: for lack of space, or because nothing could be opened.
pub fn is_passing(error: &std::io::Error) -> bool {
    is_full(error) || is_exhausted(error)
}

/// One directory's state; clones share it.
#[derive(Clone, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// Takes the directory out of service for good: after a failed write or flush nobody knows what the device holds.
    pub fn fence(&self, directory: &str, doing: &str, error: &std::io::Error) {
        if !self.0.swap(true, Ordering::SeqCst) {
            mark(Mark::Fenced);
            tracing::error!(directory, %error, "{doing} failed: the directory is out of service until a restart");
        }
    }

    pub fn is_fenced(&self) -> bool {
        self.0.load(Ordering::SeqCst) && !planted(Bug::ServeFencedDirectory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_space_is_known_by_the_numbers_of_the_kernel() {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        const EROFS: i32 = 30;
        const EDQUOT: i32 = 122;
        let of = |number| is_full(&std::io::Error::from_raw_os_error(number));
        assert_eq!([ENOSPC, EDQUOT, EIO, EROFS].map(of), [true, true, false, false]);
    }
}
