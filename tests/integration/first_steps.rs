//! The first minutes with a broker, to the letter: `ringtail start` without a flag in an empty folder, and the programs that people
//! copy. In a network of its own, because all of them mean localhost:9092.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::harness::broker::{only_of_ringtail, ringtail, ringtail_start};
use crate::harness::clients::{Python, kcat, python, run, run_any, run_with_input};
use crate::harness::namespace::Namespace;
use crate::harness::{HANGS, wait_for};

/// A broker that was given nothing.
struct Unconfigured {
    network: Namespace,
    folder: PathBuf,
    process: Child,
}

impl Unconfigured {
    fn start(test: &str) -> Unconfigured {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the tests' folder can be written");
        let network = Namespace::new();
        let mut start = ringtail_start();
        start.current_dir(&folder);
        let log = File::create(folder.with_extension("log")).expect("the tests' folder can be written");
        let process = network
            .inside(&start)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        let mut broker = Unconfigured {
            network,
            folder,
            process,
        };
        wait_for("the broker's first answer", || {
            let ended = broker.process.try_wait().expect("a child can be waited for");
            assert_eq!(ended, None, "{}", broker.log());
            let mut list = Command::new(ringtail());
            list.args(["topic", "list", "--timeout-ms", "1000"]);
            run_any(broker.network.inside(&list), b"")
                .status
                .success()
                .then_some(())
        });
        broker
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default()
    }

    /// SIGTERM, and SIGKILL should that not help: a clean stop takes its memory away.
    fn stop(&mut self) -> bool {
        let mut term = Command::new("kill");
        term.args(["-TERM", &self.process.id().to_string()]);
        drop(term.status());
        let begin = Instant::now();
        while begin.elapsed() < HANGS {
            if let Ok(Some(status)) = self.process.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.process.kill());
        drop(self.process.wait());
        false
    }

    /// A program that ends by itself.
    fn run(&self, command: &Command) -> String {
        run(self.network.inside(command))
    }

    /// A program that prints for ever.
    fn follow(&self, command: &Command) -> Follower {
        let mut process = self
            .network
            .inside(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        let out = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Follower { process, lines }
    }
}

impl Drop for Unconfigured {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.stop();
        }
        if std::thread::panicking() {
            eprintln!("{}\n--- kept: {}", self.log(), self.folder.display());
        } else {
            drop(fs::remove_dir_all(&self.folder));
            drop(fs::remove_file(self.folder.with_extension("log")));
        }
    }
}

struct Follower {
    process: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn next(&self) -> String {
        self.lines.recv_timeout(HANGS).expect("the program prints a line")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn copied(which: Python, test: &str) {
    if !only_of_ringtail("a start without configuration") {
        return;
    }
    let mut broker = Unconfigured::start(test);
    broker.run(&python(which, "copied_producer.py"));
    let reader = broker.follow(&python(which, "copied_consumer.py"));
    let expected = |count: usize| (0..count).map(|i| format!("message {i}"));
    assert!(
        (0..100).map(|_| reader.next()).eq(expected(100)),
        "everything, in its order"
    );

    // It does not tell when it has found the end: there is a message for it whenever that is.
    let from_now_on = broker.follow(&python(which, "copied_consumer_latest.py"));
    let first = wait_for("a reader of what comes", || {
        broker.run(&python(which, "copied_producer.py"));
        from_now_on.lines.recv_timeout(Duration::from_millis(100)).ok()
    });
    assert!(first.starts_with("message "), "{first}");
    drop((reader, from_now_on));

    assert!(
        broker.folder.join("ringtail-data").is_dir(),
        "data under the current folder"
    );
    assert!(broker.stop(), "{}", broker.log());
}

#[test]
fn the_ten_lines_of_kafka_python_current() {
    copied(Python::Current, "first-steps-current");
}

#[test]
fn the_ten_lines_of_kafka_python_2() {
    copied(Python::Two, "first-steps-2");
}

/// The lines of README.md under "A first message".
#[test]
fn the_first_message_of_the_readme() {
    if !only_of_ringtail("a start without configuration") {
        return;
    }
    let mut broker = Unconfigured::start("first-steps-readme");
    let readme = include_str!("../../README.md");
    let shown = |line: &str| {
        let found = readme.lines().any(|own| own.strip_prefix("    ") == Some(line));
        assert!(found, "README.md shows: {line}");
    };
    let with_kcat = |arguments: &str, input: &str| {
        let mut kcat = kcat();
        kcat.args(arguments.split(' '));
        run_with_input(broker.network.inside(&kcat), input.as_bytes())
    };
    let with_ringtail = |arguments: &str, input: &str| {
        let mut own = Command::new(ringtail());
        own.args(arguments.split(' '));
        run_with_input(broker.network.inside(&own), input.as_bytes())
    };
    shown("echo hello | kcat -b localhost:9092 -t greetings -P");
    with_kcat("-b localhost:9092 -t greetings -P", "hello\n");
    shown("kcat -b localhost:9092 -t greetings -C -e");
    assert_eq!(with_kcat("-b localhost:9092 -t greetings -C -e", ""), "hello\n");
    shown("ringtail topic create orders --partitions 4");
    with_ringtail("topic create orders --partitions 4", "");
    shown("echo 'alice:one book' | ringtail produce orders --key-separator :");
    with_ringtail("produce orders --key-separator :", "alice:one book\n");
    shown("ringtail consume orders --from-beginning --exit-at-end --keys");
    assert_eq!(
        with_ringtail("consume orders --from-beginning --exit-at-end --keys", ""),
        "alice\tone book\n"
    );
    shown("ringtail topic create fast --config ringtail.durability=written");
    with_ringtail("topic create fast --config ringtail.durability=written", "");
    assert!(with_ringtail("topic describe fast", "").contains("ringtail.durability=written"));
    shown("ringtail topic describe orders");
    assert!(with_ringtail("topic describe orders", "").contains(", 4 partitions\n"));
    assert!(broker.stop(), "{}", broker.log());
}
