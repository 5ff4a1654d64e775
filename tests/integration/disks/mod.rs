//! Disks that fail under the real binary and the real kernel. All of it needs root: file systems of its own are made and mounted.
//!
//! - `loop_image`: a small ext4 on a loop device, to be filled, turned read-only and taken away.
//! - `faults`: what clients and operators see then, row by row of docs/faults.md.

mod faults;
mod loop_image;

/// # Panics
/// If the tests do not run as root, saying so: what did not run is not passed.
fn needs_root() {
    let of_self = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("there is /proc"));
    assert_eq!(
        of_self, 0,
        "the tests of disks make and mount file systems: run them as root"
    );
}
