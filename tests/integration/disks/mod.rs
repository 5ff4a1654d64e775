//! The release binary on disks that fail. All of it needs root, to make and mount file systems of its own: who is not gets a failure that
//! says so, never a test passed over.
//!
//! - `fuse_disk`: a disk that loses what was not flushed, fails, stalls or vanishes when it is told to.
//! - `power`, `written`: power cuts under load, judged; `errors`: what clients and operators see of a disk that fails.
//! - `loop_image`: a small ext4 on a loop device, to be filled, turned read-only and taken away.
//! - `faults`: what clients and operators see then, row by row of docs/faults.md.

mod errors;
mod faults;
mod fuse_disk;
mod loop_image;
mod power;
mod written;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// # Panics
/// If the tests do not run as root, or without /dev/fuse.
fn needs_root() {
    let own = std::fs::metadata("/proc/self").expect("Linux shows a process to itself");
    assert_eq!(
        own.uid(),
        0,
        "tests of faulty disks mount file systems: run them as root (tests/disks.sh)"
    );
    assert!(
        Path::new("/dev/fuse").exists() && Path::new("/dev/loop-control").exists(),
        "tests of faulty disks need /dev/fuse and /dev/loop-control"
    );
}

/// What the environment says, as a number.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| {
        value.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}
