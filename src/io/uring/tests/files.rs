use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use bytes::Bytes;

use super::*;
use crate::base::buffer::{AlignedBuf, Arena, BLOCK_BYTES};
use crate::base::sync::join_all;
use crate::io::{Durability, Env, OpenOptions, Unpinned, read_file, replace_file, write_all_at};

fn block(fill: u8, blocks: usize) -> Bytes {
    AlignedBuf::copy_of(&vec![fill; blocks * BLOCK_BYTES]).freeze()
}

#[test]
fn direct_writes_come_back_and_reads_end_with_the_file() {
    let scratch = Scratch::new("direct");
    let path = scratch.path("log");
    on_one(|env| async move {
        let file = env.open(&path, OpenOptions::CREATE_DIRECT).await.unwrap();
        env.allocate(&file, 0, 4 * BLOCK_BYTES as u64).await.unwrap();
        assert_eq!(env.size(&file).await.unwrap(), 4 * BLOCK_BYTES as u64);
        let cached = env.write_at(&file, block(1, 2), 0, Durability::Cached);
        let durable = env.write_at(&file, block(2, 1), 2 * BLOCK_BYTES as u64, Durability::Device);
        assert_eq!(cached.await.unwrap(), 2 * BLOCK_BYTES);
        assert_eq!(durable.await.unwrap(), BLOCK_BYTES);
        env.flush(&file).await.unwrap();
        let (count, read) = env.read_at(&file, AlignedBuf::new(8 * BLOCK_BYTES), 0).await;
        assert_eq!(count.unwrap(), 4 * BLOCK_BYTES);
        let expected = [vec![1; 2 * BLOCK_BYTES], vec![2; BLOCK_BYTES], vec![0; BLOCK_BYTES]].concat();
        assert!(read[..] == expected[..]);
        let (count, read) = env.read_at(&file, read, 64 * BLOCK_BYTES as u64).await;
        assert_eq!((count.unwrap(), read.len()), (0, 0));
        let exists = env.open(&path, OpenOptions::CREATE_DIRECT).await;
        assert_eq!(exists.err().unwrap().kind(), std::io::ErrorKind::AlreadyExists);
    });
}

#[test]
fn a_failed_operation_gives_its_error_and_buffer_back() {
    let scratch = Scratch::new("failing");
    let path = scratch.path("log");
    std::fs::write(&path, vec![0; BLOCK_BYTES]).unwrap();
    on_one(|env| async move {
        let file = env.open(&path, OpenOptions::READ_DIRECT).await.unwrap();
        let refused = env.write_at(&file, block(1, 1), 0, Durability::Cached).await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
        let missing = env.open(Path::new("/nonexistent/file"), OpenOptions::READ).await;
        assert_eq!(missing.err().unwrap().kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
#[should_panic(expected = "not whole aligned blocks")]
fn unaligned_direct_writes_are_refused() {
    let scratch = Scratch::new("unaligned");
    let path = scratch.path("log");
    on_one(|env| async move {
        let file = env.open(&path, OpenOptions::CREATE_DIRECT).await.unwrap();
        let data = block(1, 2).slice(512..512 + BLOCK_BYTES);
        let _ = env.write_at(&file, data, 0, Durability::Cached).await;
    });
}

#[test]
fn a_dropped_write_still_lands_and_keeps_its_buffer() {
    struct Watched(AlignedBuf, Rc<std::cell::Cell<bool>>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.set(true);
        }
    }
    // SAFETY: the test and its executor stay on one thread.
    unsafe impl Send for Watched {}

    let scratch = Scratch::new("dropped");
    let path = scratch.path("log");
    let written = path.clone();
    on_one(|env| async move {
        let file = env.open(&path, OpenOptions::CREATE_DIRECT).await.unwrap();
        env.allocate(&file, 0, 64 * BLOCK_BYTES as u64).await.unwrap();
        let freed = Rc::new(std::cell::Cell::new(false));
        let watched = Watched(AlignedBuf::copy_of(&[7; 16 * BLOCK_BYTES]), freed.clone());
        drop(env.write_at(&file, Bytes::from_owner(watched), 0, Durability::Device));
        assert!(!freed.get(), "freed before the kernel even saw it");
        while !freed.get() {
            env.yield_now().await;
        }
    });
    assert!(
        std::fs::read(&written).unwrap()[..16 * BLOCK_BYTES]
            .iter()
            .all(|b| *b == 7)
    );
}

#[test]
fn a_shard_ends_after_its_writes_in_flight() {
    let scratch = Scratch::new("ending");
    let path = scratch.path("log");
    let written = path.clone();
    on_one(|env| async move {
        let file = env.open(&path, OpenOptions::CREATE_DIRECT).await.unwrap();
        env.allocate(&file, 0, 256 * BLOCK_BYTES as u64).await.unwrap();
        for i in 0..16 {
            drop(env.write_at(&file, block(9, 16), i * 16 * BLOCK_BYTES as u64, Durability::Device));
        }
    });
    assert!(std::fs::read(&written).unwrap().iter().all(|b| *b == 9));
}

#[test]
fn more_operations_than_the_ring_has_slots() {
    let scratch = Scratch::new("many");
    let path = scratch.path("log");
    let options = Options {
        ring_entries: 8,
        ..Options::default()
    };
    let main = |env: UringEnv| async move {
        let file = env.open(&path, OpenOptions::CREATE_DIRECT).await.unwrap();
        let blocks = 2000;
        env.allocate(&file, 0, blocks * BLOCK_BYTES as u64).await.unwrap();
        let write = |i: u64| env.write_at(&file, block(i as u8, 1), i * BLOCK_BYTES as u64, Durability::Cached);
        for written in join_all((0..blocks).map(write).collect()).await {
            assert_eq!(written.unwrap(), BLOCK_BYTES);
        }
        let read = |i: u64| env.read_at(&file, AlignedBuf::new(BLOCK_BYTES), i * BLOCK_BYTES as u64);
        for (i, (count, buffer)) in join_all((0..blocks).map(read).collect()).await.into_iter().enumerate() {
            assert_eq!(count.unwrap(), BLOCK_BYTES);
            assert!(buffer.iter().all(|b| *b == i as u8));
        }
    };
    run_one(options, main).unwrap();
}

#[test]
fn buffered_files_take_any_range() {
    let scratch = Scratch::new("buffered");
    let path = scratch.path("meta");
    let parent = scratch.0.clone();
    on_one(|env| async move {
        replace_file(&env, &path, Bytes::from_static(b"first")).await.unwrap();
        replace_file(&env, &path, Bytes::from_static(b"second one"))
            .await
            .unwrap();
        assert_eq!(&read_file(&env, &path, 100).await.unwrap()[..], b"second one");
        assert_eq!(
            read_file(&env, &path, 3).await.unwrap_err().kind(),
            std::io::ErrorKind::InvalidData
        );
        let file = env.open(&path, OpenOptions::CREATE).await.unwrap();
        env.zero(&file, 2, 3).await.unwrap();
        write_all_at(&env, &file, Bytes::from_static(b"!"), 3, Durability::Device)
            .await
            .unwrap();
        assert_eq!(&read_file(&env, &path, 100).await.unwrap()[..], b"se\0!\0d one");
        env.truncate(&file, 4).await.unwrap();
        assert_eq!(env.size(&file).await.unwrap(), 4);
        let names: Vec<_> = env
            .list(&parent)
            .await
            .unwrap()
            .into_iter()
            .map(|e| (e.name, e.bytes))
            .collect();
        assert_eq!(names, [("meta".to_owned(), 4)]);
    });
}

#[test]
fn names_and_directories() {
    let scratch = Scratch::new("names");
    let (parent, topic, old) = (scratch.0.clone(), scratch.path("t-0"), scratch.path("t-0/a"));
    let new = scratch.path("t-0/b");
    on_one(|env| async move {
        env.add_directory(&parent).unwrap();
        env.create_directory(&topic).await.unwrap();
        drop(env.open(&old, OpenOptions::CREATE).await.unwrap());
        env.rename(&old, &new).await.unwrap();
        env.flush_directory(&topic).await.unwrap();
        env.flush_file_system(&topic).await.unwrap();
        assert!(env.remove_directory(&topic).await.is_err());
        env.unlink(&new).await.unwrap();
        assert!(env.list(&topic).await.unwrap().is_empty());
        assert!(env.list(&parent).await.unwrap()[0].is_directory);
        env.remove_directory(&topic).await.unwrap();
        assert!(env.free_bytes(&parent).await.unwrap() > 0);
    });
}

#[test]
fn files_are_not_for_every_user_and_mapped_ones_for_none_but_the_brokers() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("modes");
    let [log, lock, arena, old] = ["log", "lock", "arena", "old"].map(|name| scratch.path(name));
    std::fs::write(&old, b"").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
    let paths = [log.clone(), lock.clone(), arena.clone(), old.clone()];
    on_one(|env| async move {
        env.open(&log, OpenOptions::CREATE_DIRECT).await.unwrap();
        env.lock(&lock).await.unwrap();
        env.map(&arena, BLOCK_BYTES).await.unwrap();
        env.map(&old, BLOCK_BYTES).await.unwrap();
    });
    let modes = paths.map(|path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777);
    assert_eq!([modes[0] & 0o137, modes[1] & 0o137], [0, 0], "{modes:?}");
    assert_eq!(modes[2..], [0o600, 0o600], "{modes:?}");
}

#[test]
fn an_arena_is_found_again_in_its_file() {
    let scratch = Scratch::new("arena");
    let path = scratch.path("arena");
    on_one(|env| async move {
        let region = env.map(&path, 1 << 20).await.unwrap();
        let blocks = std::fs::metadata(&path).unwrap().blocks();
        assert_eq!(blocks * 512, 1 << 20, "no store to it fails");
        let mut chunk = Arena::format(region, 16384, 0).take(1, &[5; 80]).unwrap();
        chunk.append(b"kept");
        chunk.publish();
        // As a killed process leaves it.
        std::mem::forget(chunk);
        let region = env.map_found(&path, 1 << 20).await.unwrap();
        let found = Arena::recover(&region, 0);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].identity, &found[0].bytes[..]), ([5; 80], &b"kept"[..]));
        assert!(env.map(&path, 100).await.is_err());
        let full = env.map(Path::new("/dev/shm/ringtail-test-too-large"), 1 << 50).await;
        let is_left = std::fs::remove_file("/dev/shm/ringtail-test-too-large").is_ok();
        assert!(full.is_err() && !is_left, "more than the memory there is");
    });
}

#[test]
fn what_others_put_under_an_arenas_name_is_not_written_to_and_not_believed() {
    let scratch = Scratch::new("foreign");
    let [victim, link, second, folder] = ["victim", "link", "second", "folder"].map(|name| scratch.path(name));
    let content = vec![7; BLOCK_BYTES];
    std::fs::write(&victim, &content).unwrap();
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    std::fs::hard_link(&victim, &second).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let kept = victim.clone();
    on_one(|env| async move {
        for path in [&link, &second] {
            let found = env.map_found(path, BLOCK_BYTES).await.err();
            assert_eq!(found.map(|e| e.kind()), Some(std::io::ErrorKind::PermissionDenied));
            let region = env.map(path, 4 * BLOCK_BYTES).await.unwrap();
            Arena::format(region, BLOCK_BYTES, 0);
        }
        assert!(env.map_found(&folder, BLOCK_BYTES).await.is_err());
    });
    assert!(std::fs::read(kept).unwrap() == content);
}

/// Two files that grow by turns have extents apart; the kernel says so when it must not block.
#[test]
fn writes_over_several_extents_come_back_whole() {
    let scratch = Scratch::new("extents");
    let paths = [scratch.path("one"), scratch.path("other")];
    on_one(|env| async move {
        let files = join_all(paths.iter().map(|p| env.open(p, OpenOptions::CREATE_DIRECT)).collect()).await;
        let files: Vec<_> = files.into_iter().map(Result::unwrap).collect();
        let step = 16 * BLOCK_BYTES as u64;
        for round in 0..4 {
            for file in &files {
                env.allocate(file, round * step, step).await.unwrap();
            }
        }
        for (file, path) in files.iter().zip(&paths) {
            let told = crate::io::uring::extents::starts_in(&std::fs::File::open(path).unwrap(), 0, 4 * step);
            assert_eq!(
                file.extent_starts(),
                told,
                "what was learned step by step is what the file system tells at once"
            );
        }
        let content: Vec<u8> = (0..60 * BLOCK_BYTES).map(|i| (i / 512) as u8).collect();
        let from = 3 * BLOCK_BYTES as u64;
        // Also through a handle that learned of the extents when it was opened.
        let again = env.open(&paths[1], OpenOptions::WRITE_DIRECT).await.unwrap();
        for (file, durability) in [(&files[0], Durability::Cached), (&again, Durability::Device)] {
            let data = AlignedBuf::copy_of(&content).freeze();
            assert_eq!(env.write_at(file, data, from, durability).await.unwrap(), content.len());
            let (count, read) = env.read_at(file, AlignedBuf::new(content.len()), from).await;
            assert_eq!(count.unwrap(), content.len());
            assert!(read[..] == content[..]);
        }
    });
}

#[test]
fn cached_reads_leave_what_can_be_pinned() {
    let scratch = Scratch::new("cached");
    let path = scratch.path("log");
    let content: Vec<u8> = (0..64 * BLOCK_BYTES + 100).map(|i| (i / 5) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    on_one(|env| async move {
        let direct = env.open(&path, OpenOptions::READ_DIRECT).await.unwrap();
        assert!(env.can_pin());
        let why = |file, from, bytes| env.pin(file, from, bytes).err();
        assert_eq!(
            why(&direct, 0, 100),
            Some(Unpinned::Refused),
            "a direct file has no pages"
        );
        let file = env.open(&path, OpenOptions::READ_CACHED).await.unwrap();
        forget_pages(&path);
        assert_eq!(why(&file, 0, content.len()), Some(Unpinned::Absent), "nothing was read");
        let (count, read) = env.read_at(&file, AlignedBuf::new(content.len()), 0).await;
        assert_eq!(count.unwrap(), content.len());
        assert!(read[..] == content[..]);
        for (from, bytes) in [(0, content.len()), (4_097, 3), (content.len() - 1, 1)] {
            assert_eq!(env.pin(&file, from as u64, bytes).map(|pinned| pinned.len()), Ok(bytes));
        }
        assert_eq!(why(&file, 1, content.len()), Some(Unpinned::Absent), "behind the end");
    });
}

/// Has the kernel drop what it has of a file.
pub(super) fn forget_pages(path: &Path) {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    // SAFETY: the descriptor is open.
    assert_eq!(
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) },
        0
    );
}
