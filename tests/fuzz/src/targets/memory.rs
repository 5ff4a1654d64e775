//! The allocator that counts, for every target.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes allocated by Rust code above what was live before, at the worst moment of `work`, and its result.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (usize, T) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = work();
    (ALLOCATOR.peak_usage().saturating_sub(before), result)
}

/// The budget of a decoder: four times what it was given, and 64 KiB.
pub fn bounded<T>(input_bytes: usize, decode: impl FnOnce() -> T) -> T {
    bounded_by(4 * input_bytes, input_bytes, decode)
}

/// The same with another budget than four times the input, for a reason that the target says.
pub fn bounded_by<T>(budget: usize, input_bytes: usize, decode: impl FnOnce() -> T) -> T {
    let (bytes, decoded) = peak_bytes(decode);
    let bytes_max = budget + (64 << 10);
    assert!(
        bytes <= bytes_max,
        "{bytes} bytes allocated for {input_bytes}, at most {bytes_max} allowed"
    );
    decoded
}
