//! A broker process with its own folder and port.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::clients::{kafka_class, run};
use super::connection;
use super::{HANGS, wait_for};

/// Where arenas belong: a file system in memory.
const SHARED_MEMORY: &str = "/dev/shm";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Ringtail,
    Kafka,
}

/// Which broker the tests are about.
pub fn peer() -> Peer {
    match std::env::var("RINGTAIL_TEST_PEER").as_deref() {
        Err(_) | Ok("" | "ringtail") => Peer::Ringtail,
        Ok("kafka") => Peer::Kafka,
        Ok(other) => panic!("RINGTAIL_TEST_PEER={other}: use ringtail or kafka"),
    }
}

/// True if Ringtail is tested. For promises that Kafka does not make; says so when it is not.
pub fn only_of_ringtail(promise: &str) -> bool {
    if peer() != Peer::Ringtail {
        println!("{promise}: Ringtail's promise, nothing to see with a peer");
    }
    peer() == Peer::Ringtail
}

/// The `ringtail` binary under test.
pub fn ringtail() -> PathBuf {
    std::env::var_os("RINGTAIL_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_ringtail").into(), PathBuf::from)
}

/// `ringtail start` without an option.
pub fn ringtail_start() -> Command {
    let mut command = Command::new(ringtail());
    command.arg("start");
    // Variables that begin with RINGTAIL_ are options to the broker; these are for the tests.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("RINGTAIL_TEST_") {
            command.env_remove(variable);
        }
    }
    command
}

pub struct Broker {
    peer: Peer,
    folder: PathBuf,
    /// Ringtail's memory that outlives it: gone with the broker, also when that was killed.
    arena: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    process: Option<Child>,
    log: PathBuf,
}

/// Ports below the range that outgoing connections are given, so that a stopped broker's port stays free.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(4, Ordering::Relaxed);
        let scattered = (std::process::id() as u16).wrapping_mul(97).wrapping_add(step) % COUNT;
        let port = FIRST + scattered;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Broker {
    /// A broker on an empty folder, answering.
    pub fn start(test: &str) -> Broker {
        Broker::start_with(test, &[])
    }

    /// The same with settings in the words of `server.properties`.
    pub fn start_with(test: &str, settings: &[(&str, &str)]) -> Broker {
        Broker::start_peer(peer(), test, settings)
    }

    /// A broker of either kind, whatever `RINGTAIL_TEST_PEER` says: for what has to work with both.
    pub fn start_peer(peer: Peer, test: &str, settings: &[(&str, &str)]) -> Broker {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{test}-{}-{number}", std::process::id());
        // Under target/: a real file system, where direct I/O works.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(&folder).expect("the tests' folder can be written");
        let settings = settings
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let log = folder.join("broker.log");
        let mut broker = Broker {
            peer,
            arena: Path::new(SHARED_MEMORY).join(format!("ringtail-tests-{name}")),
            folder,
            port: free_port(),
            settings,
            process: None,
            log,
        };
        match peer {
            Peer::Ringtail => fs::create_dir(&broker.arena).expect("shared memory takes a folder"),
            Peer::Kafka => broker.format_kafka(),
        }
        broker.restart();
        broker
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A folder for the test's own files, gone with the broker.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the broker keeps.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// `ringtail.arena.dir`
    pub fn arena(&self) -> &Path {
        &self.arena
    }

    pub fn peer(&self) -> Peer {
        self.peer
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the broker runs").id()
    }

    /// Starts it (again) on its data, and returns when it answers. Gives the time from exec to the first answer.
    pub fn restart(&mut self) -> Duration {
        assert!(self.process.is_none(), "stop the broker first");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the log can be written");
        let mut command = match self.peer {
            Peer::Ringtail => self.ringtail_command(),
            Peer::Kafka => self.kafka_command(),
        };
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        let begin = Instant::now();
        self.process = Some(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?} does not start: {error}")),
        );
        let address = self.address();
        wait_for("the broker's first answer", || {
            let process = self.process.as_mut().expect("it was just started");
            if let Some(status) = process.try_wait().expect("a child can be waited for") {
                panic!("the broker ended with {status}:\n{}", self.log_tail());
            }
            connection::answers(&address).then_some(())
        });
        begin.elapsed()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the broker runs");
        process.kill().expect("an own child can be killed");
        process.wait().expect("an own child can be waited for");
    }

    /// Sends SIGTERM and waits for the end. Gives the time that took.
    pub fn stop(&mut self) -> (Duration, ExitStatus) {
        let begin = Instant::now();
        run({
            let mut kill = Command::new("kill");
            kill.arg("-TERM").arg(self.pid().to_string());
            kill
        });
        let status = self.ended();
        (begin.elapsed(), status)
    }

    /// Waits until the process ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the broker runs");
        let begin = Instant::now();
        loop {
            if let Some(status) = process.try_wait().expect("an own child can be waited for") {
                return status;
            }
            if begin.elapsed() > HANGS {
                self.process = Some(process);
                panic!("the broker does not end:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        run({
            let mut kill = Command::new("kill");
            kill.arg(format!("-{name}")).arg(self.pid().to_string());
            kill
        });
    }

    /// # Panics
    /// If the process has ended by itself.
    pub fn assert_alive(&mut self) {
        let process = self.process.as_mut().expect("the broker runs");
        if let Some(status) = process.try_wait().expect("a child can be waited for") {
            self.process = None;
            panic!("the broker ended with {status}:\n{}", self.log_tail());
        }
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the broker runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("Linux tells VmRSS");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("VmRSS is a number");
        kib * 1024
    }

    /// All that it has said.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(8 * 1024);
        format!(
            "--- the end of {}\n{}",
            self.log.display(),
            String::from_utf8_lossy(&log[from..])
        )
    }

    /// The command line that starts Ringtail as this broker.
    pub fn ringtail_command(&self) -> Command {
        let mut command = ringtail_start();
        let own = [
            ("listeners".to_string(), format!("PLAINTEXT://{}", self.address())),
            ("log.dirs".to_string(), self.data().display().to_string()),
            ("ringtail.arena.dir".to_string(), self.arena.display().to_string()),
        ];
        for (key, value) in own.iter().chain(&self.settings) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }

    fn kafka_properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn kafka_command(&self) -> Command {
        let mut command = kafka_class("kafka.Kafka", 1024);
        command.arg(self.kafka_properties());
        command
    }

    /// Writes the configuration of a single node and formats its folder.
    fn format_kafka(&self) {
        let controller = free_port();
        let mut lines = vec![
            "process.roles=broker,controller".to_string(),
            "node.id=1".to_string(),
            format!(
                "listeners=PLAINTEXT://{},CONTROLLER://127.0.0.1:{controller}",
                self.address()
            ),
            format!("advertised.listeners=PLAINTEXT://{}", self.address()),
            "controller.listener.names=CONTROLLER".to_string(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("log.dirs={}", self.data().display()),
            "offsets.topic.replication.factor=1".to_string(),
            "transaction.state.log.replication.factor=1".to_string(),
            "transaction.state.log.min.isr=1".to_string(),
            "group.initial.rebalance.delay.ms=0".to_string(),
        ];
        let known = self.settings.iter().filter(|(key, _)| !key.starts_with("ringtail."));
        lines.extend(known.map(|(key, value)| format!("{key}={value}")));
        fs::write(self.kafka_properties(), lines.join("\n")).expect("the tests' folder can be written");
        let mut format = kafka_class("kafka.tools.StorageTool", 256);
        format
            .args(["format", "-t", "hqZ0r0mCTp6bMUzpXcVLsQ", "-c"])
            .arg(self.kafka_properties());
        run(format);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Nothing to be done if it is gone already.
            drop(process.kill());
            drop(process.wait());
        }
        let keep = std::env::var_os("RINGTAIL_TEST_KEEP").is_some();
        // Memory is short: a failure keeps the files alone.
        if !keep {
            drop(fs::remove_dir_all(&self.arena));
        }
        if std::thread::panicking() {
            eprintln!("{}\n--- kept: {}", self.log_tail(), self.folder.display());
        } else if !keep {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// An empty file in the broker's folder, for a test's own use.
pub fn scratch(broker: &Broker, name: &str) -> (PathBuf, File) {
    let path = broker.folder().join(name);
    let file = File::create(&path).expect("the tests' folder can be written");
    (path, file)
}
