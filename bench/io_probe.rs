//! Measures the environment itself: `io_probe echo SPIN_US SECONDS`, `io_probe pipeline DEPTH SECONDS`,
//! `io_probe write DIRECTORY COUNT`. `write` says when each phase begins, for a tracer beside it (docs/io-uring.md).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringtail::base::buffer::AlignedBuf;
use ringtail::base::sync::join_all;
use ringtail::io::uring::{Options, ShardPlacement, Stream, UringEnv, process_cpu_seconds, run, run_one};
use ringtail::io::{Durability, Env, Monotonic, OpenOptions, write_all_at};

const WORD_BYTES: usize = 64;
const WRITE_BYTES: usize = 128 * 1024;
const FILE_BYTES: u64 = 64 << 20;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<u64>().expect("a number");
    match arguments.first().map(String::as_str) {
        Some("echo") => echo(Duration::from_micros(number(1)), 1, number(2)),
        Some("pipeline") => echo(Duration::ZERO, number(1) as usize, number(2)),
        Some("write") => writes(PathBuf::from(&arguments[1]), number(2)),
        _ => {
            eprintln!("io_probe echo SPIN_US SECONDS | pipeline DEPTH SECONDS | write DIRECTORY COUNT");
            std::process::exit(2);
        }
    }
}

/// Shard 0 echoes, shard 1 keeps `depth` words on their way over one connection.
fn echo(spin: Duration, depth: usize, seconds: u64) -> std::io::Result<()> {
    let options = Options {
        spin: Some(spin),
        ..Options::default()
    };
    let address = SocketAddr::new(
        Ipv4Addr::LOCALHOST.into(),
        20_000 + (std::process::id() % 10_000) as u16,
    );
    let started = process_cpu_seconds();
    run(ShardPlacement::first(2), options, move |env, shard| async move {
        if shard == 0 {
            serve(&env, address).await;
        } else {
            ask(&env, address, depth, seconds).await;
        }
        let counters = env.ring_counters();
        let per_1000 = |count: u64| count as f64 * 1000.0 / counters.operations.max(1) as f64;
        println!(
            "shard {shard}: {} operations, per 1000: {:.1} enters, {:.1} waits, {:.1} parks",
            counters.operations,
            per_1000(counters.enters),
            per_1000(counters.waits),
            per_1000(counters.parks)
        );
    })?;
    println!("cpu {:.2} s", process_cpu_seconds() - started);
    Ok(())
}

async fn serve(env: &UringEnv, address: SocketAddr) {
    let listener = env.listen(address).expect("the port is free");
    let (stream, _) = env.accept(&listener).await.expect("the asker connects");
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(64 * 1024);
        let (count, received) = env.receive(&stream, buffer).await;
        buffer = received;
        if !matches!(count, Ok(1..)) {
            return;
        }
        // Every word is an answer of its own.
        let answers = std::iter::from_fn(|| (buffer.len() >= WORD_BYTES).then(|| buffer.split_to(WORD_BYTES).freeze()));
        let sends = answers.map(|answer| env.send(&stream, vec![answer])).collect();
        join_all(sends).await;
    }
}

async fn ask(env: &UringEnv, address: SocketAddr, depth: usize, seconds: u64) {
    let stream = loop {
        match env.connect(address).await {
            Ok(stream) => break stream,
            Err(_) => env.sleep_until(env.now().plus_ms(1)).await,
        }
    };
    let word = Bytes::from_static(&[7; WORD_BYTES]);
    let (start, end) = (env.now(), env.now().plus_ms(seconds * 1000));
    let (mut times_ns, mut rounds, mut buffer) = (Vec::new(), 0, BytesMut::new());
    while env.now() < end {
        let before = env.now();
        buffer = round(env, &stream, &word, depth, buffer).await;
        times_ns.push(env.now().0 - before.0);
        rounds += depth as u64;
    }
    report("round trip", &mut times_ns, start, env.now(), rounds);
    env.shutdown(&stream);
}

/// Sends `depth` words, each as an operation of its own, and waits until all came back.
async fn round(env: &UringEnv, stream: &Stream, word: &Bytes, depth: usize, mut buffer: BytesMut) -> BytesMut {
    let sends = (0..depth).map(|_| env.send(stream, vec![word.clone()])).collect();
    for (sent, _) in join_all(sends).await {
        assert_eq!(sent.expect("connected"), WORD_BYTES);
    }
    let mut missing = depth * WORD_BYTES;
    while missing > 0 {
        buffer.clear();
        buffer.reserve(64 * 1024);
        let (count, received) = env.receive(stream, buffer).await;
        buffer = received;
        missing -= count.expect("connected");
    }
    buffer
}

fn report(what: &str, times_ns: &mut [u64], start: Monotonic, end: Monotonic, operations: u64) {
    times_ns.sort_unstable();
    let at = |share: f64| times_ns[((times_ns.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    let seconds = (end.0 - start.0) as f64 / 1e9;
    println!(
        "{what}: {:.0}/s, p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
        operations as f64 / seconds,
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

fn writes(directory: PathBuf, count: u64) -> std::io::Result<()> {
    run_one(Options::default(), move |env| async move {
        for written in [true, false] {
            let path = directory.join(format!("io-probe-{}-{written}", std::process::id()));
            let file = prepare(&env, &path, written).await?;
            for (bytes, durability, depth) in [
                (WRITE_BYTES, Durability::Cached, 1),
                (WRITE_BYTES, Durability::Cached, 8),
                (WRITE_BYTES, Durability::Device, 1),
                (4096, Durability::Cached, 1),
                (4096, Durability::Device, 1),
            ] {
                println!(
                    "{} ns: written={written} bytes={bytes} {durability:?} depth={depth}",
                    env.now().0
                );
                write_phase(&env, &file, bytes, durability, depth, count).await?;
            }
            println!("{} ns: control, writes that grow the file", env.now().0);
            env.truncate(&file, 0).await?;
            write_phase(&env, &file, WRITE_BYTES, Durability::Cached, 1, 100).await?;
            println!("{} ns: end, {:?}", env.now().0, env.ring_counters());
            drop(file);
            env.unlink(&path).await?;
        }
        Ok(())
    })?
}

async fn write_phase(
    env: &UringEnv,
    file: &<UringEnv as Env>::File,
    bytes: usize,
    durability: Durability,
    depth: usize,
    count: u64,
) -> std::io::Result<()> {
    let data = AlignedBuf::copy_of(&vec![1; bytes]).freeze();
    let (start, mut times_ns) = (env.now(), Vec::new());
    let places = FILE_BYTES / (bytes * depth) as u64;
    for i in 0..count {
        let before = env.now();
        let first = i % places * (bytes * depth) as u64;
        let write = |j: usize| env.write_at(file, data.clone(), first + (j * bytes) as u64, durability);
        for written in join_all((0..depth).map(write).collect()).await {
            assert_eq!(written?, bytes);
        }
        times_ns.push(env.now().0 - before.0);
    }
    report("  write", &mut times_ns, start, env.now(), count * depth as u64);
    Ok(())
}

/// A file of `FILE_BYTES`: of zeros that were written, or of blocks that were merely allocated.
async fn prepare(env: &UringEnv, path: &Path, written: bool) -> std::io::Result<<UringEnv as Env>::File> {
    let file = env.open(path, OpenOptions::CREATE_DIRECT).await?;
    env.allocate(&file, 0, FILE_BYTES).await?;
    if written {
        let zeros = AlignedBuf::copy_of(&vec![0; 1 << 20]).freeze();
        for i in 0..FILE_BYTES >> 20 {
            write_all_at(env, &file, zeros.clone(), i << 20, Durability::Cached).await?;
        }
    }
    env.flush(&file).await?;
    Ok(file)
}
