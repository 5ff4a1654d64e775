//! A small file system of its own on a loop device, and cgroups: what a test may break without anybody else noticing.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::needs_root;
use crate::harness::clients::{program, run, run_any};
use crate::harness::wait_for;

/// One at a time: a free loop device may be found by two at once.
static ATTACHING: Mutex<()> = Mutex::new(());

fn unique(test: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{test}-{}-{number}", std::process::id())
}

fn command(words: &[&str]) -> Command {
    let mut command = program(words[0]);
    command.args(&words[1..]);
    command
}

/// A mounted ext4 that ends with this value.
pub struct LoopImage {
    image: PathBuf,
    mount: PathBuf,
    device: String,
}

impl LoopImage {
    pub fn new(test: &str, mib: u64) -> LoopImage {
        needs_root();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let name = unique(test);
        let (image, mount) = (folder.join(format!("{name}.img")), folder.join(format!("{name}.mnt")));
        let file = File::create(&image).expect("the tests' folder can be written");
        file.set_len(mib << 20).expect("a file may be sparse");
        fs::create_dir(&mount).expect("the tests' folder can be written");
        let path = image.display().to_string();
        // Nothing is kept back for root, and nothing is initialized later.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run(command(&[
            "mkfs.ext4",
            "-q",
            "-F",
            "-b",
            "4096",
            "-m",
            "0",
            "-E",
            lazy,
            &path,
        ]));
        let attached = {
            let _turn = ATTACHING.lock().expect("nobody panics while attaching");
            run(command(&["losetup", "--show", "-f", "--direct-io=on", &path]))
        };
        let loop_image = LoopImage {
            image,
            mount,
            device: attached.trim().to_owned(),
        };
        loop_image.mount();
        fs::create_dir(loop_image.data()).expect("a new file system takes a folder");
        loop_image
    }

    fn mount(&self) {
        let mount = self.mount.display().to_string();
        run(command(&[
            "mount",
            "-t",
            "ext4",
            "-o",
            "errors=remount-ro",
            &self.device,
            &mount,
        ]));
    }

    /// A log directory on it.
    pub fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    fn filling(&self) -> PathBuf {
        self.mount.join("somebody-elses")
    }

    /// Another's file takes all the space there is, to the last block.
    pub fn fill(&self) {
        let mut file = File::create(self.filling()).expect("a file can be made still");
        for step in [1 << 20, 64 << 10, 4 << 10] {
            let bytes = vec![7u8; step];
            loop {
                match file.write_all(&bytes).and_then(|()| file.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// That file goes.
    pub fn give_space_back(&self) {
        fs::remove_file(self.filling()).expect("it was made");
    }

    /// As after an error in the file system's own data: it takes no write any more.
    pub fn turn_read_only(&self) {
        let name = self.device.trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        fs::write(&trigger, "tests of a broken disk").unwrap_or_else(|error| panic!("{trigger}: {error}"));
    }

    /// Every later operation fails, as without the disk (EXT4_IOC_SHUTDOWN without a flush).
    pub fn vanish(&self) {
        const CALL: &str = "import fcntl, os, struct, sys\n\
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        let mount = self.mount.display().to_string();
        run(command(&["python3", "-c", CALL, &mount]));
    }

    /// The disk is back, with what was flushed. Nobody may have files open on it.
    pub fn come_back(&self) {
        let mount = self.mount.display().to_string();
        // A ring that ends keeps its files a little longer than its process.
        wait_for("the file system to be free", || {
            let unmounted = run_any(command(&["umount", &mount]), b"");
            unmounted.status.success().then_some(())
        });
        self.mount();
    }

    /// `major:minor` of its device.
    pub fn device_number(&self) -> String {
        let name = self.device.trim_start_matches("/dev/");
        let number = fs::read_to_string(format!("/sys/block/{name}/dev")).expect("the device is there");
        number.trim().to_owned()
    }
}

impl Drop for LoopImage {
    fn drop(&mut self) {
        // As far as it goes: a test that failed may have left anything.
        run_any(command(&["umount", "-l", &self.mount.display().to_string()]), b"");
        run_any(command(&["losetup", "-d", &self.device]), b"");
        drop(fs::remove_dir(&self.mount));
        drop(fs::remove_file(&self.image));
    }
}

/// A control group of one controller (version 1 of cgroups, which is where this machine's tests run).
pub struct Group(PathBuf);

impl Group {
    /// # Panics
    /// If the machine has no such controller.
    pub fn new(controller: &str, test: &str) -> Group {
        needs_root();
        let root = Path::new("/sys/fs/cgroup").join(controller);
        assert!(
            root.exists(),
            "{} is missing: this test needs cgroups of version 1",
            root.display()
        );
        let folder = root.join(format!("ringtail-{}", unique(test)));
        fs::create_dir(&folder).expect("root may make a control group");
        Group(folder)
    }

    pub fn set(&self, name: &str, value: &str) {
        let file = self.0.join(name);
        fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Takes in a process with all its threads.
    pub fn take(&self, process: u32) {
        self.set("cgroup.procs", &process.to_string());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let root = self.0.parent().map(|root| root.join("cgroup.procs"));
        // What is left in it belongs to the root again.
        for process in fs::read_to_string(self.0.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            root.iter().for_each(|root| drop(fs::write(root, process)));
        }
        drop(fs::remove_dir(&self.0));
    }
}
