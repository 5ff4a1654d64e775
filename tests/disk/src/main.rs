//! `ringtail-faulty-disk FOLDER BYTES`: mounts on FOLDER a file system with the file `image` of so many bytes, the disk, and the empty folder
//! `fs`, on which the disk's own file system may be mounted. Takes commands on standard input and answers each with a line that begins
//! with `ok` or `error`; the first line, `ok`, says that it is mounted. At the end of its input it takes everything down: so it never
//! outlives the test that began it. Needs root and /dev/fuse.

mod server;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use ringtail_faulty_disk::Command;
use server::Disk;

/// Requests that are served side by side: a slow device still takes several at a time.
const THREAD_COUNT: usize = 8;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ringtail-faulty-disk: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, bytes] = &arguments[..] else {
        return Err("usage: ringtail-faulty-disk FOLDER BYTES".to_string());
    };
    let folder = PathBuf::from(folder);
    let bytes: u64 = bytes.parse().map_err(|_| format!("{bytes} is no number of bytes"))?;
    let kernel = mount(&folder)?;
    let disk = Arc::new(Disk::new(bytes));
    for _ in 0..THREAD_COUNT {
        let (disk, kernel) = (disk.clone(), kernel.clone());
        thread::spawn(move || disk.serve(&kernel));
    }
    let obeyed = obey(&disk);
    // Whatever is still above it gets errors, not answers that nobody waits for.
    disk.command(Command::Off);
    unmount(&folder);
    obeyed.map_err(|error| format!("commands: {error}"))
}

/// Mounts the file system and gives the connection to the kernel.
fn mount(folder: &Path) -> Result<Arc<File>, String> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| format!("/dev/fuse: {error}"))?;
    let shared = device.try_clone().map_err(|error| format!("/dev/fuse: {error}"))?;
    // mount(8) hands its own standard input, which is the connection, to the kernel.
    let options = "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other";
    let status = Process::new("mount")
        .args(["-i", "-t", "fuse", "-o", options, "ringtail-faulty-disk"])
        .arg(folder)
        .stdin(Stdio::from(shared))
        .status()
        .map_err(|error| format!("mount: {error}"))?;
    status
        .success()
        .then(|| Arc::new(device))
        .ok_or_else(|| format!("mount {}: {status}", folder.display()))
}

/// Takes it out of the tree with all that is mounted on it; the kernel ends it when nobody uses it any more. Loop devices over it go, too.
fn unmount(folder: &Path) {
    let mut losetup = Process::new("losetup");
    losetup.args(["--noheadings", "--output", "NAME", "--associated"]);
    let listed = losetup.arg(folder.join("image")).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for device in listed.unwrap_or_default().lines() {
        drop(
            Process::new("losetup")
                .args(["--detach", device.trim()])
                .stderr(Stdio::null())
                .status(),
        );
    }
    // It may be unmounted already.
    drop(
        Process::new("umount")
            .arg("-l")
            .arg(folder)
            .stderr(Stdio::null())
            .status(),
    );
}

fn obey(disk: &Disk) -> std::io::Result<()> {
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    writeln!(output, "ok")?;
    output.flush()?;
    for line in input.lines() {
        let answer = match Command::parse(&line?) {
            Ok(command) => disk.command(command),
            Err(message) => format!("error {message}"),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}
