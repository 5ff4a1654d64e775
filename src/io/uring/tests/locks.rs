use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::base::buffer::AlignedBuf;
use crate::io::{Durability, Env, OpenOptions};

/// Set for the second process of these tests: the directory it works in.
const SECOND_PROCESS: &str = "RINGTAIL_TEST_SECOND_PROCESS";

#[test]
fn a_lock_is_exclusive_until_its_last_handle_is_gone() {
    let scratch = Scratch::new("lock");
    let path = scratch.path(".lock");
    let again = path.clone();
    on_one(|env| async move {
        let lock = env.lock(&path).await.unwrap();
        env.hold(lock.clone()).unwrap();
        drop(lock);
        let refused = env.lock(&path).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    });
    // Free at once after a clean end.
    on_one(|env| async move { drop(env.lock(&again).await.unwrap()) });
}

/// The body of the second process: takes the lock, says so, writes for ever.
#[test]
fn second_process() {
    let Ok(directory) = std::env::var(SECOND_PROCESS) else {
        return;
    };
    let directory = PathBuf::from(directory);
    on_one(|env| async move {
        let lock = env.lock(&directory.join(".lock")).await.unwrap();
        env.hold(lock).unwrap();
        let file = env
            .open(&directory.join("log"), OpenOptions::CREATE_DIRECT)
            .await
            .unwrap();
        let data = AlignedBuf::copy_of(&vec![1; 8 << 20]).freeze();
        println!("\nlocked");
        loop {
            env.write_at(&file, data.clone(), 0, Durability::Device).await.unwrap();
        }
    });
}

#[test]
fn a_lock_keeps_other_processes_out_and_ends_with_a_killed_one() {
    let scratch = Scratch::new("lock-process");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io::uring::tests::locks::second_process", "--nocapture"])
        .env(SECOND_PROCESS, &scratch.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap() == "locked"),
        "the second process took the lock"
    );
    let path = scratch.path(".lock");
    on_one(|env| async move {
        let refused = env.lock(&path).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
        child.kill().unwrap();
        child.wait().unwrap();
        // The ring of the dead process lets go after its last write.
        while env.lock(&path).await.is_err() {
            env.sleep_until(env.now().plus_ms(1)).await;
        }
    });
}
