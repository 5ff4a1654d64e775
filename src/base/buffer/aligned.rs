//! An owned, block-aligned, zeroed heap buffer, and a pool that reuses them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::BLOCK_BYTES;

/// Block-aligned memory with a capacity in whole blocks; `len` bytes of it count as content.
pub struct AlignedBuf {
    /// What was allocated, the first whole block in it, and the bytes from there on.
    allocated: NonNull<u8>,
    memory: NonNull<u8>,
    room: usize,
    /// Bytes of the room that may be used.
    capacity: usize,
    len: usize,
    home: Option<Arc<PoolState>>,
}

// SAFETY: the buffer owns its memory alone; it is plain bytes.
unsafe impl Send for AlignedBuf {}
// SAFETY: through `&AlignedBuf` the bytes can only be read.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Zeroed memory of at least `bytes` (rounded up to whole blocks, one at least), with `len` 0.
    pub fn new(bytes: usize) -> Self {
        let capacity = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a size above zero.
        let allocated = unsafe { alloc_zeroed(layout) };
        let Some(allocated) = NonNull::new(allocated) else {
            handle_alloc_error(layout)
        };
        let skip = allocated.as_ptr().align_offset(BLOCK_BYTES);
        assert!(skip < BLOCK_BYTES);
        // SAFETY: the allocation is a block longer than the capacity.
        let memory = unsafe { allocated.add(skip) };
        Self {
            allocated,
            memory,
            room: capacity,
            capacity,
            len: 0,
            home: None,
        }
    }

    /// A buffer that holds a copy of `content`; bytes up to the capacity are zero.
    pub fn copy_of(content: &[u8]) -> Self {
        let mut buffer = Self::new(content.len());
        buffer.extend(content);
        buffer
    }

    /// Aligned by hand: memory that the allocator aligns it zeroes by writing, and large fresh memory is zero already.
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity + BLOCK_BYTES, 1).expect("a capacity of whole blocks fits the address space")
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Declares that the first `len` bytes are content.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity);
        self.len = len;
    }

    /// Appends `content`, which must fit.
    pub fn extend(&mut self, content: &[u8]) {
        let start = self.len;
        self.set_len(start + content.len());
        self[start..].copy_from_slice(content);
    }

    /// Lengthens the content to whole blocks, with zeros.
    pub fn pad_to_block(&mut self) {
        let start = self.len;
        self.set_len(start.next_multiple_of(BLOCK_BYTES));
        self[start..].fill(0);
    }

    /// The memory up to the capacity, content or not, for the kernel to read into.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_ptr()
    }

    /// The content as shared bytes; the memory lives as long as they do (and then goes back to its pool).
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len <= capacity` bytes were allocated and zeroed at least.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let mut free = home.free.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < home.keep {
                free.push(Self {
                    allocated: self.allocated,
                    memory: self.memory,
                    room: self.room,
                    capacity: self.room,
                    len: 0,
                    home: None,
                });
                return;
            }
        }
        // SAFETY: allocated in `new` with the same layout, and not given to the pool.
        unsafe { dealloc(self.allocated.as_ptr(), Self::layout(self.room)) }
    }
}

struct PoolState {
    bytes: usize,
    keep: usize,
    free: Mutex<Vec<AlignedBuf>>,
}

/// Buffers of one size that come back when dropped, wherever that happens; at most `keep` are kept.
#[derive(Clone)]
pub struct Pool(Arc<PoolState>);

impl Pool {
    pub fn new(bytes: usize, keep: usize) -> Self {
        Self(Arc::new(PoolState {
            bytes,
            keep,
            free: Mutex::new(Vec::new()),
        }))
    }

    /// A buffer of the pool's bytes, with `len` 0. Its old content is not erased: pad with `pad_to_block`.
    pub fn take(&self) -> AlignedBuf {
        self.take_of(self.0.bytes)
    }

    /// The same with a capacity of `bytes`, no more than the pool's, rounded up to whole blocks.
    pub fn take_of(&self, bytes: usize) -> AlignedBuf {
        assert!(bytes <= self.0.bytes);
        let reused = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = reused.unwrap_or_else(|| AlignedBuf::new(self.0.bytes));
        buffer.home = Some(self.0.clone());
        buffer.capacity = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooled_buffer_is_as_large_as_it_was_asked_for() {
        let pool = Pool::new(4 * BLOCK_BYTES, 1);
        for (bytes, capacity) in [(1, 1), (BLOCK_BYTES + 1, 2), (4 * BLOCK_BYTES, 4)] {
            assert_eq!(pool.take_of(bytes).capacity(), capacity * BLOCK_BYTES);
        }
        assert_eq!(pool.take().capacity(), 4 * BLOCK_BYTES);
    }

    #[test]
    fn a_pooled_buffer_comes_back_and_padding_hides_its_past() {
        let pool = Pool::new(BLOCK_BYTES, 1);
        let mut buffer = pool.take();
        buffer.extend(&[7; 100]);
        let address = buffer.as_ptr();
        drop(buffer.freeze());
        let mut buffer = pool.take();
        assert_eq!(buffer.as_ptr(), address);
        buffer.extend(&[1; 10]);
        buffer.pad_to_block();
        assert_eq!(buffer.len(), BLOCK_BYTES);
        assert!(buffer[10..].iter().all(|b| *b == 0));
        assert_eq!(address as usize % BLOCK_BYTES, 0);
    }
}
