//! One seed: a broker, its clients, its faults; the last heal, the last read; the verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ringtail::cluster::{image_of, verify_directory};
use ringtail::io::sim::{Options, Schedule, SimEnv, World};
use ringtail::io::{Env, Queue};
use ringtail::storage::DurabilityClass;
use ringtail::storage::verify::VerifyOptions;
use ringtail_checker::{Event, check};

use super::admin::{self, TopicPlan};
use super::nemesis::{CAPACITY_BYTES, Dice, Kind, Nemesis};
use super::offsets::{self, Place, offset_by_name};
use super::party::{BROKER, Caller, Party, Shared};
use super::process::Setup;
use super::readers::{self, Cursor, Got, fetch};
use super::{idempotent, plain};

const CLIENT_HOSTS: usize = 4;
/// After the last heal everything is answered within this time.
const ANSWER_MS_MAX: u64 = 10_000;
/// And every client has success: some of them wait for seconds between two requests, or ask what is gone.
const SUCCESS_MS_MAX: u64 = 45_000;
const MS: u64 = 1_000_000;

/// What one seed came to.
pub struct Verdict {
    pub seed: u64,
    pub virtual_ms: u64,
    pub operations: u64,
    pub faults: BTreeMap<Kind, u64>,
    pub acked: u64,
    pub read: u64,
    /// What is wrong; empty when nothing is.
    pub anomalies: Vec<String>,
    /// Equal for equal runs.
    pub hash: u64,
    /// By error code, how often clients saw it.
    pub errors: BTreeMap<i16, u64>,
}

fn options(dice: &Dice, directories: &[String]) -> Options {
    let mut options = Options {
        hosts: 1 + CLIENT_HOSTS,
        schedule: dice.of(&[Schedule::Random, Schedule::Random, Schedule::Fifo]),
        ..Options::default()
    };
    options.disk.directories = directories.iter().map(PathBuf::from).collect();
    options.disk.directories.push("/dev/shm".into());
    options.disk.capacity_bytes = CAPACITY_BYTES;
    options.disk.short_write_ppm = dice.of(&[0, 0, 5_000]);
    options.disk.short_read_ppm = dice.of(&[0, 0, 5_000]);
    options.network.split_ppm = dice.of(&[0, 20_000, 200_000]);
    options
}

/// The topics that stay: both classes, with and without retention.
fn topics(dice: &Dice) -> Vec<TopicPlan> {
    let plan = |name: &str, class, retention_bytes, retention_ms| TopicPlan {
        name: name.to_owned(),
        partitions: 1 + dice.below(3) as i32,
        class,
        segment_ms: dice.within(1_500, 12_000),
        retention_bytes,
        retention_ms,
    };
    vec![
        plan("flushed", DurabilityClass::Flushed, None, None),
        plan("written", DurabilityClass::Written, None, None),
        plan("flushed-sized", DurabilityClass::Flushed, Some(400_000), None),
        plan("written-aged", DurabilityClass::Written, None, Some(20_000)),
    ]
}

/// A client's name, and what it does.
type Client = (&'static str, std::pin::Pin<Box<dyn Future<Output = ()>>>);

fn client(name: &'static str, client: impl Future<Output = ()> + 'static) -> Client {
    (name, Box::pin(client))
}

/// The clients of a host.
fn clients(env: &SimEnv, party: &Shared, host: usize) -> Vec<Client> {
    let (env, party) = (env.clone(), party.clone());
    let (e, p) = (|| env.clone(), || party.clone());
    match host {
        1 => vec![
            client("idempotent 1", idempotent::run(e(), p(), "idempotent 1".into())),
            client("acks=all", plain::run(e(), p(), "acks=all".into(), -1)),
            client("reader 1", readers::run(e(), p(), "reader 1".into(), Place::Start)),
        ],
        2 => vec![
            client("idempotent 2", idempotent::run(e(), p(), "idempotent 2".into())),
            client("reader 2", readers::run(e(), p(), "reader 2".into(), Place::End)),
            client("offsets", offsets::run(e(), p(), "offsets".into())),
        ],
        3 => vec![
            client("library producer", plain::library(e(), p(), "library producer".into())),
            client("library reader", readers::library(e(), p(), "library reader".into())),
            client("acks=1", plain::run(e(), p(), "acks=1".into(), 1)),
        ],
        _ => vec![
            client("admin", admin::run(e(), p(), "admin".into())),
            client("acks=0", plain::run(e(), p(), "acks=0".into(), 0)),
            client("reader 3", readers::run(e(), p(), "reader 3".into(), Place::Start)),
        ],
    }
}

/// How many clients there are.
const CLIENTS: usize = 12;

fn start_clients(world: &World, party: &Shared) {
    for host in 1..=CLIENT_HOSTS {
        let party = party.clone();
        world.spawn_process(host, 1, move |env, _| {
            let all = clients(&env, &party, host);
            party.running.borrow_mut().extend(all.iter().map(|(name, _)| *name));
            let party = party.clone();
            async move {
                for (name, client) in all {
                    let party = party.clone();
                    env.spawn(Queue::Foreground, async move {
                        client.await;
                        party.running.borrow_mut().remove(name);
                    });
                }
                // A process ends with its root.
                while !party.running.borrow().is_empty() {
                    env.sleep_until(env.now().plus_ms(1_000)).await;
                }
            }
        });
    }
}

pub fn run(seed: u64, virtual_ms: u64) -> Verdict {
    let dice = Dice::new(seed ^ 0xb0a7);
    let directories = (0..1 + dice.below(3)).map(|i| format!("/data{i}"));
    let setup = Setup {
        directories: directories.collect(),
    };
    let world = World::new(seed, options(&dice, &setup.directories));
    let party: Shared = Rc::new(Party::default());
    let mut nemesis = Nemesis::new(&world, &party, setup, seed, CLIENT_HOSTS);
    let plans = topics(&dice);
    let told = party.clone();
    world.block_on(1, |env| admin::prepare(env, told, plans));
    start_clients(&world, &party);
    nemesis.run(virtual_ms);
    nemesis.heal();
    after_the_heal(&world, &party);
    party.stop.set(true);
    let deadline = world.now() + 60_000 * MS;
    while !party.running.borrow().is_empty() {
        let running = party.running.borrow();
        assert!(world.now() < deadline, "clients hang: {running:?}");
        drop(running);
        world.run_for(50);
    }
    if dice.below(2) == 0 {
        nemesis.restart();
    }
    let told = party.clone();
    world.block_on(1, |env| read_through(env, told));
    nemesis.end();
    let (told, directories) = (party.clone(), nemesis.directories().to_vec());
    world.block_on(BROKER, |env| async move { verify_files(env, told, directories).await });
    judge(&world, &party, seed, nemesis.counts)
}

/// Every client gets an answer, and every one of its sends.
fn after_the_heal(world: &World, party: &Shared) {
    let healed = world.now();
    let answer_within = Duration::from_millis(ANSWER_MS_MAX);
    party
        .recorder
        .borrow_mut()
        .history
        .push(Duration::from_nanos(healed), Event::Healed { answer_within });
    let late = || {
        let succeeded = party.succeeded.borrow();
        let names = succeeded
            .iter()
            .filter(|(_, at)| **at > healed)
            .map(|(name, _)| name.clone());
        let (names, all) = (names.collect::<Vec<_>>(), CLIENTS);
        (names.len() < all).then_some(names)
    };
    world.run_for(ANSWER_MS_MAX / 2);
    while late().is_some() && world.now() < healed + SUCCESS_MS_MAX * MS {
        world.run_for(250);
    }
    if let Some(names) = late() {
        let found = format!("after the heal at {healed} ns only these clients succeed: {names:?}");
        party.findings.borrow_mut().push(found);
    }
}

/// Nothing that the broker left is damaged: no device of a run rots.
async fn verify_files(env: SimEnv, party: Shared, directories: Vec<String>) {
    let image = image_of(&env, &directories).await;
    for directory in directories {
        let report = verify_directory(
            &env,
            Path::new(&directory),
            image.as_ref(),
            VerifyOptions::default(),
            |_| (),
        )
        .await;
        for problem in report.expect("a stopped broker's directory can be verified").problems {
            party.find(&env, format!("damage: {problem}"));
        }
    }
}

/// Reads every partition from its start to its end.
async fn read_through(env: SimEnv, party: Shared) {
    let mut caller = Caller::new(&env, &party);
    let reader = party.recorder.borrow_mut().new_reader();
    let live = party.recorder.borrow().live();
    for partition in live {
        let known = party.recorder.borrow().known(partition).clone();
        let mut cursor = Cursor::new(&party, partition);
        let start = 'again: loop {
            let told = (
                offset_by_name(&mut caller, &cursor, Place::Start).await,
                offset_by_name(&mut caller, &cursor, Place::End).await,
            );
            let (Ok(start), Ok(end)) = told else {
                party.find(&env, format!("the last reader asks for {known:?}: {told:?}"));
                return;
            };
            cursor.seek(&env, &party, reader, start);
            while cursor.offset < Some(end) {
                let mut one = [cursor.clone()];
                let got = fetch(&mut caller, reader, &mut one, 0, false).await;
                cursor = one[0].clone();
                match got.as_deref() {
                    Ok([Got::Records(count)]) if *count > 0 => {}
                    // Retention went on meanwhile.
                    Ok([Got::Failed(ringtail::wire::kafka::ErrorCode::OffsetOutOfRange)]) if known.expires => {
                        continue 'again;
                    }
                    _ => {
                        let at = cursor.offset;
                        party.find(
                            &env,
                            format!("the last reader at {at:?} of {start}..{end} of {known:?}: {got:?}"),
                        );
                        return;
                    }
                }
            }
            break start;
        };
        if start > 0 && !known.expires {
            party.find(&env, format!("{known:?} begins at {start}"));
        }
        let event = Event::ReadThrough {
            reader,
            partition,
            start: start as u64,
            end: cursor.offset.unwrap_or(0) as u64,
        };
        let now = Duration::from_nanos(env.now().0);
        party.recorder.borrow_mut().history.push(now, event);
    }
}

fn judge(world: &World, party: &Shared, seed: u64, faults: BTreeMap<Kind, u64>) -> Verdict {
    let mut recorder = party.recorder.borrow_mut();
    recorder.close();
    let mut anomalies = party.findings.take();
    let open = recorder.history.open_sends().count();
    if open > 0 {
        anomalies.push(format!("{open} sends have no answer"));
    }
    let report = check(&recorder.history);
    if !report.anomalies.is_empty() {
        anomalies.push(report.to_string());
        anomalies.extend(recorder.story(&report.anomalies));
    }
    Verdict {
        seed,
        virtual_ms: world.now() / MS,
        operations: party.operations.get(),
        faults,
        acked: report.acked_count,
        read: report.read_count,
        anomalies,
        hash: recorder.hash() ^ world.trace_hash(),
        errors: party.errors.take(),
    }
}

impl Verdict {
    pub fn panicked(seed: u64, text: String) -> Self {
        Self {
            seed,
            virtual_ms: 0,
            operations: 0,
            faults: BTreeMap::new(),
            acked: 0,
            read: 0,
            anomalies: vec![format!("panicked: {text}")],
            hash: 0,
            errors: BTreeMap::new(),
        }
    }
}
