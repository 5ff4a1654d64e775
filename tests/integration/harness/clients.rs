//! The clients that run as processes of their own: kcat, the Python clients, Apache Kafka's tools.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use super::HANGS;

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// # Panics
/// If the file is not there, saying how it gets there.
fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run tests/setup.sh", path.display());
    path
}

pub fn program(name: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    assert!(found, "{name} is not installed: run tests/setup.sh");
    Command::new(name)
}

pub fn kcat() -> Command {
    program("kcat")
}

/// kcat that reads a topic from its beginning to its end, and says no more than that.
pub fn kcat_reading(address: &str, topic: &str) -> Command {
    let mut consume = kcat();
    consume.args(["-C", "-b", address, "-t", topic, "-o", "beginning", "-e", "-q"]);
    consume
}

/// The two lines of kafka-python that are in use. The current environment has confluent-kafka too.
#[derive(Clone, Copy, Debug)]
pub enum Python {
    Current,
    Two,
}

/// A script of `tests/compat/python`.
pub fn python(python: Python, script: &str) -> Command {
    let environment = match python {
        Python::Current => "python-current",
        Python::Two => "python-2",
    };
    let mut command = Command::new(installed(
        root().join("tests/.deps").join(environment).join("bin/python"),
    ));
    command
        .arg("-u")
        .arg(installed(root().join("tests/compat/python").join(script)));
    command
}

/// A main class of Apache Kafka's broker or tools, with a heap of so many MiB.
pub fn kafka_class(class: &str, heap_mib: u32) -> Command {
    let jars = installed(root().join("tests/.deps/kafka/libs"));
    let settings = root().join("tests/compat/java/log4j2.properties");
    let mut command = program("java");
    command
        .arg(format!("-Xmx{heap_mib}m"))
        // The tools live for a second or two: the second compiler never pays.
        .arg("-XX:TieredStopAtLevel=1")
        .arg(format!("-Dlog4j2.configurationFile={}", settings.display()))
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(class);
    command
}

/// What a client printed.
pub struct Output {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

/// Runs a client to its end and returns what it printed.
///
/// # Panics
/// If it fails or hangs, with all it printed.
pub fn run(command: Command) -> String {
    run_with_input(command, b"")
}

/// The same with something to read on its standard input.
pub fn run_with_input(command: Command, input: &[u8]) -> String {
    let shown = format!("{command:?}");
    let output = run_any(command, input);
    assert!(
        output.status.success(),
        "{shown}\nended with {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        output.out,
        output.err
    );
    output.out
}

/// Runs a client that may fail.
pub fn run_any(mut command: Command, input: &[u8]) -> Output {
    let mut child = spawn(&mut command);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    // A client that ends early closes its end; its exit status tells why.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = collect(child.stdout.take().expect("stdout is piped"));
    let err = collect(child.stderr.take().expect("stderr is piped"));
    let status = wait(&mut child, &command);
    writer.join().expect("the writer does not panic");
    let text = |from: mpsc::Receiver<Vec<u8>>| String::from_utf8_lossy(&from.recv().unwrap_or_default()).into_owned();
    Output {
        status,
        out: text(out),
        err: text(err),
    }
}

/// Runs a client that prints more than one wants to keep, line by line.
///
/// # Panics
/// If it fails, with what it said on stderr.
pub fn run_lines(mut command: Command, mut line: impl FnMut(&[u8])) {
    let mut child = spawn(&mut command);
    drop(child.stdin.take());
    let err = collect(child.stderr.take().expect("stderr is piped"));
    let mut out = BufReader::with_capacity(1 << 18, child.stdout.take().expect("stdout is piped"));
    let mut buffer = Vec::new();
    while out.read_until(b'\n', &mut buffer).expect("a pipe can be read") > 0 {
        line(buffer.strip_suffix(b"\n").unwrap_or(&buffer));
        buffer.clear();
    }
    let status = wait(&mut child, &command);
    let err = err.recv().unwrap_or_default();
    assert!(
        status.success(),
        "{command:?}\nended with {status}\n{}",
        String::from_utf8_lossy(&err)
    );
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start ({error}): run tests/setup.sh"))
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        // The receiver is gone only if the test has failed already.
        drop(sender.send(bytes));
    });
    receiver
}

fn wait(child: &mut Child, command: &Command) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if begin.elapsed() > HANGS {
            child.kill().expect("a child can be killed");
            panic!("{command:?} hangs");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
