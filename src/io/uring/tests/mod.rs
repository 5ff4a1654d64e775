//! Against the real kernel: files on the disk that holds the build, sockets on loopback.

use std::future::Future;
use std::path::{Path, PathBuf};

use super::{Options, UringEnv, run_one};

mod files;
mod locks;
mod shards;
mod sockets;

/// A directory of this test alone, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/uring-tests");
        let path = parent.join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the target directory is writable");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on_one<F, Fut, T>(main: F) -> T
where
    F: FnOnce(UringEnv) -> Fut,
    Fut: Future<Output = T> + 'static,
    T: 'static,
{
    run_one(Options::default(), main).expect("the shard runs")
}
