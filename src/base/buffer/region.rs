//! A long-lived piece of memory that somebody else provides: a file mapping, or the simulator's "memory that outlives
//! the process".

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::AlignedBuf;

/// Block-aligned memory, given back through `release` when the last user is gone.
pub struct Region {
    memory: NonNull<u8>,
    bytes: usize,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

// SAFETY: a region is plain bytes; who may touch which is settled by `Arena` (disjoint chunks, published lengths).
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Wraps memory that stays valid until `release` has run.
    ///
    /// # Safety
    /// `memory` points to `bytes` readable and writable, block-aligned bytes that nothing else in this process uses while
    /// the region lives.
    pub unsafe fn from_raw(memory: NonNull<u8>, bytes: usize, release: Box<dyn FnOnce() + Send + Sync>) -> Self {
        assert_eq!(memory.as_ptr() as usize % super::BLOCK_BYTES, 0);
        Self {
            memory,
            bytes,
            release: Some(release),
        }
    }

    /// Makes a buffer's memory up to its capacity (its content, then zeros or what a pool left there) a region.
    pub fn from_buffer(mut buffer: AlignedBuf) -> Self {
        let bytes = buffer.capacity();
        let memory = NonNull::new(buffer.as_mut_ptr()).expect("a buffer's memory is allocated");
        // SAFETY: the release closure owns the buffer, so its memory lives as long as the region and nothing else uses it.
        unsafe { Self::from_raw(memory, bytes, Box::new(move || drop(buffer))) }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies `[position, position + into.len())` out, as another process that maps the same memory would see it. The caller
    /// sees to it that no other thread writes there meanwhile.
    pub fn copy_out(&self, position: usize, into: &mut [u8]) {
        assert!(position.checked_add(into.len()).is_some_and(|end| end <= self.bytes));
        // SAFETY: in bounds by the assertion; `into` is exclusively borrowed memory outside the region.
        unsafe { std::ptr::copy_nonoverlapping(self.pointer(position), into.as_mut_ptr(), into.len()) }
    }

    pub(super) fn pointer(&self, position: usize) -> *mut u8 {
        assert!(position <= self.bytes);
        // SAFETY: within the region.
        unsafe { self.memory.as_ptr().add(position) }
    }

    /// An aligned 64-bit cell of the region.
    pub(super) fn cell(&self, position: usize) -> &AtomicU64 {
        assert!(position.is_multiple_of(8) && position + 8 <= self.bytes);
        // SAFETY: in bounds, aligned, and every access to these bytes goes through atomics or a published header.
        unsafe { &*(self.pointer(position) as *const AtomicU64) }
    }

    pub(super) fn store(&self, position: usize, value: u64) {
        self.cell(position).store(value, Ordering::Release);
    }

    pub(super) fn load(&self, position: usize) -> u64 {
        self.cell(position).load(Ordering::Acquire)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}
