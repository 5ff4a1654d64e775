//! A disk that fails and forgets on command: `tests/disk` (a file under FUSE), a loop device with direct I/O over it, ext4.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use super::needs_root;
use crate::harness::clients::{program, run, run_any};
use crate::harness::wait_for;

/// What a power cut leaves of what was not flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Nothing.
    All,
    /// Some 4 KiB blocks.
    Blocks,
    /// Some blocks, some in part.
    Torn,
    /// The later writes, not the earlier ones.
    Reordered,
}

pub const EVERY_LOSS: [Loss; 4] = [Loss::All, Loss::Blocks, Loss::Torn, Loss::Reordered];

/// Gone with this value, also when the test panics; and with the process of the tests, however that ends.
pub struct FaultyDisk {
    /// Where its two files are.
    folder: PathBuf,
    process: Child,
    /// Its end is the end of the program.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The loop device, while it is attached.
    device: Option<PathBuf>,
    is_mounted: bool,
}

/// The program of `tests/disk`: what `RINGTAIL_TEST_DISK` says, or the one beside these tests.
fn executable() -> PathBuf {
    let beside = || {
        let tests = std::env::current_exe().expect("Linux tells a process its file");
        let profile = tests.ancestors().nth(2).expect("cargo puts tests into deps/");
        profile.join("ringtail-faulty-disk")
    };
    let executable = std::env::var_os("RINGTAIL_TEST_DISK").map_or_else(beside, PathBuf::from);
    assert!(
        executable.exists(),
        "{} is missing: cargo build -p ringtail-faulty-disk, or run tests/disks.sh",
        executable.display()
    );
    executable
}

impl FaultyDisk {
    /// A disk of so many bytes with an empty file system, mounted. It is kept in memory; what was never written takes none.
    pub fn start(test: &str, bytes: u64) -> FaultyDisk {
        needs_root();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("disk-{test}-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the tests' folder can be written");
        let mut process = Command::new(executable())
            .arg(&folder)
            .arg(bytes.to_string())
            // A signal that ends the tests and all they run (a time-out, Ctrl-C) leaves it to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the disk's program can be run");
        let mut disk = FaultyDisk {
            folder,
            commands: process.stdin.take(),
            answers: BufReader::new(process.stdout.take().expect("stdout is piped")),
            process,
            device: None,
            is_mounted: false,
        };
        disk.answer("mount");
        disk.attach_device();
        let mut mkfs = program("mkfs.ext4");
        mkfs.args(["-q", "-E", "lazy_itable_init=0,nodiscard"])
            .arg(disk.device());
        run(mkfs);
        disk.mount();
        disk
    }

    /// A folder in its file system, for a broker's log directory.
    pub fn data(&self) -> PathBuf {
        self.mount_point().join("data")
    }

    fn mount_point(&self) -> PathBuf {
        self.folder.join("fs")
    }

    fn device(&self) -> &Path {
        self.device.as_deref().expect("the disk is attached")
    }

    /// The power goes: what was not flushed is kept or lost, drawn from the seed; from then on every request fails.
    /// Tells what was lost.
    pub fn cut(&mut self, loss: Loss, seed: u64) -> String {
        let loss = match loss {
            Loss::All => "all",
            Loss::Blocks => "blocks",
            Loss::Torn => "torn",
            Loss::Reordered => "reordered",
        };
        self.tell(&format!("cut {loss} {seed}"))
    }

    /// A command of `tests/disk/src/command.rs`. When it is answered it has taken effect.
    pub fn tell(&mut self, command: &str) -> String {
        let mut commands = self.commands.as_ref().expect("open until the end");
        writeln!(commands, "{command}").expect("the disk runs");
        self.answer(command)
    }

    fn answer(&mut self, command: &str) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a pipe can be read");
        let answer = line.trim_end().strip_prefix("ok");
        answer
            .unwrap_or_else(|| panic!("{command}: the disk says {line:?}"))
            .trim_start()
            .to_string()
    }

    /// How many requests of each kind there were, and more.
    pub fn stats(&mut self) -> BTreeMap<String, u64> {
        let answer = self.tell("stats");
        let pairs = answer.split(' ').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, count)| (name.to_string(), count.parse().expect("a count")))
            .collect()
    }

    /// Takes the file system and the loop device away. Nobody may use them any more; what the kernel still wants to write
    /// fails if the disk is off.
    pub fn detach(&mut self) {
        let Some(device) = self.device.take() else { return };
        // Requests of a killed broker may end a little later than its process.
        wait_for("the file system to be unused", || {
            let mut umount = program("umount");
            umount.arg(self.mount_point());
            run_any(umount, b"").status.success().then_some(())
        });
        // It goes by itself with its last user.
        self.is_mounted = false;
        wait_for("the loop device to be free", || {
            (!self.is_backing(&device)).then_some(())
        });
    }

    fn is_backing(&self, device: &Path) -> bool {
        let name = device.file_name().expect("a device has a name");
        let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
        fs::read_to_string(backing).is_ok_and(|file| Path::new(file.trim_end()) == self.folder.join("image"))
    }

    /// The disk comes back, and its file system with it.
    pub fn attach(&mut self) {
        self.tell("on");
        self.attach_device();
        self.check_file_system();
        self.mount();
    }

    fn attach_device(&mut self) {
        let image = self.folder.join("image");
        // Others take loop devices, too.
        let device = wait_for("a free loop device", || {
            let mut losetup = program("losetup");
            losetup.args(["--find", "--show", "--direct-io=on"]).arg(&image);
            let output = run_any(losetup, b"");
            output.status.success().then(|| PathBuf::from(output.out.trim_end()))
        });
        self.device = Some(device);
    }

    /// Replays the journal of the file system, and looks whether it is whole: if not, it is no broker's fault, and the test
    /// proves nothing.
    fn check_file_system(&self) {
        let mut check = program("e2fsck");
        check.args(["-f", "-p"]).arg(self.device());
        let output = run_any(check, b"");
        // 1: something was corrected, such as an orphaned inode.
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}\n{}\n{}",
            output.status,
            output.out,
            output.err
        );
    }

    fn mount(&mut self) {
        let mut mount = program("mount");
        mount.args(["-t", "ext4"]).arg(self.device()).arg(self.mount_point());
        run(mount);
        // From now on the device goes with the mount.
        let mut losetup = program("losetup");
        losetup.arg("--detach").arg(self.device());
        run(losetup);
        self.is_mounted = true;
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // Each of these fails only if there is nothing left to do. Who waits for a slow disk waits no longer.
        if let Some(mut commands) = self.commands.as_ref() {
            drop(writeln!(commands, "heal"));
        }
        if self.is_mounted {
            let mut umount = Command::new("umount");
            umount.arg("-l").arg(self.mount_point()).stderr(Stdio::null());
            drop(umount.status());
        } else if let Some(device) = self.device.take() {
            let mut losetup = Command::new("losetup");
            losetup.arg("--detach").arg(device).stderr(Stdio::null());
            drop(losetup.status());
        }
        // The program takes its own mount down, with all that is left on it.
        drop(self.commands.take());
        drop(self.process.wait());
        drop(fs::remove_dir(&self.folder));
    }
}
