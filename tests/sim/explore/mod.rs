//! The crash explorer: a workload of several lives, crashed at every completion, recovered, judged; recoveries crashed too.
//!
//! `RINGTAIL_SIM_SEED` and `RINGTAIL_SIM_INDEX` replay one case with every way to crash there. `tests/explore.sh` has the
//! longer forms, which `RINGTAIL_SIM_FORM` chooses.

mod tally;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use ringtail::base::coverage::Mark;
use ringtail::base::ids::PartitionId;
use ringtail::io::Env;
use ringtail::io::sim::{DiskImage, LossMode, SimEnv, World};
use ringtail::storage::Store;

use self::tally::{States, Tally, bump, counts, on_each_core, report};
use crate::history::{ANONYMOUS, Found, History, Shared, batch, read_log};
use crate::workload::{
    CHURN, CHURN_SLOTS, Case, Life, Member, churn_spec, open_store, owned, pause, place_of, roster,
    rot_newest_checkpoint, shard_of_workload, world_options,
};

const CUTS: [LossMode; 6] = [
    LossMode::LoseAll,
    LossMode::Random,
    LossMode::Reordered,
    LossMode::Torn { sector_bytes: 512 },
    LossMode::Torn { sector_bytes: 4096 },
    LossMode::KeepAll,
];

/// How much to explore.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// Completions of the workload.
    completions: u64,
    /// Crash at every so manyth, from the given one on.
    stride: u64,
    phase: u64,
    /// This one alone.
    only: Option<u64>,
    /// Ways of a power cut at each, besides a kill.
    cuts: usize,
    /// Of so many cases one has its recovery crashed, at every so manyth completion.
    recovery_every: u64,
    recovery_stride: u64,
}

/// The generator of the decisions outside the worlds.
fn mix(a: u64, b: u64) -> u64 {
    let mut z = (a ^ b.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Explorer {
    plan: Plan,
    history: Shared,
    tally: Rc<Tally>,
}

/// A crash, and what the clients knew when it came.
#[derive(Clone)]
struct Crash {
    image: DiskImage,
    /// When it came, in the workload's time.
    at_ns: u64,
    /// When the power went, if it did.
    cut_ns: Option<u64>,
    seed: u64,
    /// What earlier restarts from the same moment showed.
    residue: Rc<RefCell<Residue>>,
    /// Clients retry and append after the restart, and its log is not only read.
    goes_on: bool,
    /// Restarts to try after this one, each killed or cut.
    again: u32,
    crash_recovery: bool,
}

/// What restarts after the crash showed and were told; part of it may be lost again.
#[derive(Clone, Default)]
struct Residue {
    ends: BTreeMap<PartitionId, i64>,
    sent: BTreeMap<PartitionId, Vec<Bytes>>,
    /// Acknowledged to stay: batch, offset.
    sure: BTreeMap<PartitionId, Vec<(Bytes, i64)>>,
}

impl Explorer {
    /// Lives of the workload until there were enough completions.
    fn run(self: &Rc<Self>) -> u64 {
        let plan = self.plan;
        let world = World::new(plan.seed, world_options());
        let _case = Case(format!("in the workload: replay with RINGTAIL_SIM_SEED={}", plan.seed));
        let explorer = self.clone();
        world.on_each_completion(move |world, index| explorer.at(world, index));
        let mut number = 0;
        while world.completions() < plan.completions {
            number += 1;
            self.live(&world, mix(plan.seed, number));
        }
        eprintln!("{} lives, {} virtual ms", number, world.now() / 1_000_000);
        world.completions()
    }

    fn live(&self, world: &World, random: u64) {
        let (shards, life) = (1 + !random.is_multiple_of(4) as usize, Rc::new(Life::default()));
        let process = world.spawn_process(0, shards, |env, _| {
            shard_of_workload(env, shards, life.clone(), self.history.clone())
        });
        // Some lives end in their recovery.
        let length = if (random / 4).is_multiple_of(6) {
            random / 64 % 300
        } else {
            400 + random / 64 % 2400
        };
        let until = world.completions() + length;
        assert!(
            world.run_until(|| world.completions() >= until),
            "the workload stands still"
        );
        match random / 32 % 4 {
            0 if life.judged.get() == shards => {
                life.stop.set(true);
                assert!(world.run_until(|| !world.is_alive(process)), "the stores do not close");
            }
            1 => {
                self.history.borrow_mut().power_cut(world.now());
                world.power_cut(0, CUTS[random as usize / 128 % CUTS.len()]);
            }
            _ => {
                if world.disk_image(0).in_flight() > 0 {
                    bump(&self.tally.zombie_writes);
                }
                world.kill(process);
            }
        }
    }

    /// The ways to crash at a completion.
    fn at(&self, world: &World, index: u64) {
        let plan = &self.plan;
        let chosen = match plan.only {
            Some(only) => index == only,
            None => index % plan.stride == plan.phase % plan.stride,
        };
        if !chosen {
            return;
        }
        self.tally
            .say(|| format!("seed {}: completion {index} of {}", plan.seed, plan.completions));
        let image = world.disk_image(0);
        for (i, mode) in CUTS.into_iter().enumerate() {
            let turn = (i as u64 + CUTS.len() as u64 - index / plan.stride % CUTS.len() as u64) % CUTS.len() as u64;
            if plan.only.is_some() || turn < plan.cuts as u64 {
                let seed = mix(mix(plan.seed, index), i as u64);
                let left = image.after_power_cut(mode, seed);
                self.case(
                    left,
                    (true, world.now()),
                    seed,
                    &format!("index {index} {mode:?}"),
                    index,
                );
            }
        }
        let seed = mix(mix(plan.seed, index), 9);
        if image.in_flight() > 0 {
            bump(&self.tally.zombie_writes);
        }
        self.case(
            image.after_kill(seed),
            (false, world.now()),
            seed,
            &format!("index {index} kill"),
            index,
        );
    }

    fn case(&self, mut image: DiskImage, (cut, now_ns): (bool, u64), seed: u64, name: &str, index: u64) {
        let tally = &self.tally;
        let hash = image.hash();
        tally.note_state(hash);
        let known = mix(
            mix(hash, self.history.borrow().acks),
            if cut { now_ns / 50_000_000 } else { 0 },
        );
        if !tally.tried.borrow_mut().insert(known) && self.plan.only.is_none() {
            return;
        }
        bump(&tally.cases);
        let _case = Case(format!(
            "{name}: replay with RINGTAIL_SIM_SEED={} RINGTAIL_SIM_INDEX={index} cargo test --test sim explore",
            self.plan.seed
        ));
        if seed.is_multiple_of(4) {
            rot_newest_checkpoint(&mut image);
        }
        let crash = Crash {
            image,
            at_ns: now_ns,
            cut_ns: cut.then_some(now_ns),
            seed,
            residue: Rc::default(),
            goes_on: true,
            again: (seed / 8 % 2) as u32,
            crash_recovery: (seed / 16).is_multiple_of(self.plan.recovery_every) || self.plan.only.is_some(),
        };
        self.survive(crash);
    }

    /// Restarts from what a crash left, judges every partition, goes on, and crashes again.
    fn survive(&self, crash: Crash) {
        let world = World::new(crash.seed, world_options()).with_disk(0, &crash.image);
        let (shards, life) = (1 + (crash.seed / 256 % 2) as usize, Rc::new(Life::default()));
        if crash.crash_recovery {
            self.crash_recovery(&world, &crash, &life);
        }
        let process = world.spawn_process(0, shards, |env, _| {
            let trial = Trial {
                env,
                shards,
                life: life.clone(),
                history: self.history.clone(),
                tally: self.tally.clone(),
                crash: crash.clone(),
            };
            trial.run()
        });
        assert!(world.run_until(|| life.judged.get() == shards), "a restart hangs");
        if crash.again == 0 {
            return;
        }
        let ending = crash.seed / 512 % 3;
        let (image, cut_ns) = match ending {
            0 => {
                life.stop.set(true);
                assert!(world.run_until(|| !world.is_alive(process)), "the stores do not close");
                (world.disk_image(0), crash.cut_ns)
            }
            1 => (world.disk_image(0).after_kill(crash.seed), crash.cut_ns),
            _ => {
                let mode = CUTS[crash.seed as usize / 2048 % CUTS.len()];
                let image = world.disk_image(0).after_power_cut(mode, crash.seed);
                (image, crash.cut_ns.or(Some(crash.at_ns)))
            }
        };
        if ending > 0 {
            self.tally.note_state(image.hash());
        }
        let residue = Rc::new(RefCell::new(crash.residue.borrow().clone()));
        let _case = Case(format!("  in restart number {} of it", crash.again));
        self.survive(Crash {
            image,
            at_ns: crash.at_ns,
            cut_ns,
            seed: mix(crash.seed, 77),
            residue,
            goes_on: true,
            again: crash.again - 1,
            crash_recovery: false,
        });
    }

    /// Crashes the recovery at some of its completions, and recovers from that.
    fn crash_recovery(&self, world: &World, crash: &Crash, life: &Rc<Life>) {
        let explorer = Self {
            plan: self.plan,
            history: self.history.clone(),
            tally: self.tally.clone(),
        };
        let (crash, life, stride) = (crash.clone(), life.clone(), self.plan.recovery_stride);
        world.on_each_completion(move |world, index| {
            if !life.recovering.get() || index % stride != crash.seed / 1024 % stride {
                return;
            }
            bump(&explorer.tally.recovery_crashes);
            let seed = mix(crash.seed, index);
            let _case = Case(format!("  in a crash of its recovery, at completion {index}"));
            let image = world.disk_image(0);
            let killed = seed.is_multiple_of(3);
            let left = match killed {
                true => image.after_kill(seed),
                false => image.after_power_cut(CUTS[seed as usize / 3 % CUTS.len()], seed),
            };
            explorer.tally.note_state(left.hash());
            explorer.survive(Crash {
                image: left,
                at_ns: crash.at_ns,
                cut_ns: if killed {
                    crash.cut_ns
                } else {
                    crash.cut_ns.or(Some(crash.at_ns))
                },
                seed,
                residue: Rc::default(),
                // The most of all states: that the log goes on is tried for a part of them.
                goes_on: (seed / 4096).is_multiple_of(4),
                again: 0,
                crash_recovery: false,
            });
        });
    }
}

/// One shard of a restart after a crash.
struct Trial {
    env: SimEnv,
    shards: usize,
    life: Rc<Life>,
    history: Shared,
    tally: Rc<Tally>,
    crash: Crash,
}

impl Trial {
    async fn run(self) {
        let store = open_store(&self.env, self.shards, &self.life, &self.history).await;
        for spec in owned(&self.env, self.shards, &self.history) {
            let partition = store.open_partition(spec).await.expect("opens");
            let found = read_log(&partition).await;
            self.judge(&partition, &found);
            if self.crash.goes_on {
                self.send_again(&partition, &found).await;
                self.append(&partition).await;
            }
        }
        if self.crash.goes_on && self.crash.again == 0 {
            self.make_anew(&store).await;
        }
        self.life.judged.set(self.life.judged.get() + 1);
        while !self.life.stop.get() {
            pause(&self.env, 1000).await;
        }
        store.close().await.expect("closes");
    }

    fn judge(&self, partition: &Member, found: &Found) {
        let id = partition.id();
        let mut residue = self.crash.residue.borrow_mut();
        let extra = residue.sent.entry(id).or_default().clone();
        self.history
            .borrow_mut()
            .log(id)
            .judge(found, self.crash.cut_ns, &extra);
        for (batch, offset) in residue.sure.entry(id).or_default() {
            let gone = *offset < found.log_start;
            assert!(
                gone || place_of(found, batch) == Some(*offset),
                "{id}: {offset} was lost later"
            );
        }
        let end = residue.ends.entry(id).or_insert(0);
        assert!(
            found.end >= *end,
            "{id}: a restart ended at {end}, this one at {}",
            found.end
        );
        *end = found.end;
    }

    /// Clients retry what they have no answer for, and what they have one for.
    async fn send_again(&self, partition: &Member, found: &Found) {
        let id = partition.id();
        let producers = self.history.borrow_mut().log(id).producers();
        for producer in producers.into_iter().filter(|producer| *producer != ANONYMOUS) {
            let (last, unknown) = self.history.borrow_mut().log(id).to_retry(producer);
            let last = last.filter(|(batch, _)| place_of(found, batch).is_some());
            if let Some((batch, offset)) = last {
                let again = partition.append(batch).await.expect("a duplicate is answered");
                assert_eq!(again.base_offset, offset, "{id}: a retry moved");
                bump(&self.tally.duplicates_after_restart);
            }
            let mut end = partition.high_watermark();
            for batch in unknown {
                let expected = place_of(found, &batch).unwrap_or(end);
                match partition.append(batch).await {
                    Ok(again) => assert_eq!(again.base_offset, expected, "{id}: a batch of unknown fate"),
                    // What came before it was lost, or is sent again in a later restart only.
                    Err(_) => break,
                }
                bump(&self.tally.unknown_resent);
                end = partition.high_watermark();
            }
        }
    }

    /// The log goes on at its end.
    async fn append(&self, partition: &Member) {
        let id = partition.id();
        let end = partition.high_watermark();
        let number = mix(self.crash.seed, id.index as u64) >> 8;
        let segment_bytes = self.history.borrow_mut().log(id).spec.options.segment_bytes as usize;
        let size = match number % 16 {
            0 => 140_000.min(segment_bytes - 2_000),
            1..6 => 5_000,
            _ => 100,
        };
        // A producer of its own, so that nothing is a duplicate.
        let producer = 5_000 + (number % 1_000_000_000) as i64;
        let bytes = batch(producer, 0, self.env.wall_ms(), 2, number, size);
        self.crash
            .residue
            .borrow_mut()
            .sent
            .entry(id)
            .or_default()
            .push(bytes.clone());
        let appended = partition.append(bytes.clone()).await.expect("appends go on");
        assert_eq!(appended.base_offset, end, "{id}: the log goes on at its end");
        if self.history.borrow_mut().log(id).is_flushed() {
            let mut residue = self.crash.residue.borrow_mut();
            residue.sure.entry(id).or_default().push((bytes, end));
        }
        let slice = partition
            .read(end, 1, true)
            .await
            .expect("what was appended is readable");
        assert!(slice.bytes > 0, "{id}: nothing at {end}");
        assert!(partition.ends().appended == end + 2);
    }

    /// The name of a deleted partition is free, and its log begins empty.
    async fn make_anew(&self, store: &Rc<Store<SimEnv>>) {
        let standing = self.history.borrow().standing();
        for slot in (0..CHURN_SLOTS).filter(|slot| *slot as usize % self.shards == self.env.shard()) {
            if standing
                .iter()
                .any(|spec| *spec.topic_name == *CHURN && spec.id.index == slot)
            {
                continue;
            }
            let partition = store
                .open_partition(churn_spec(slot, u64::MAX))
                .await
                .expect("the name is free");
            let ends = partition.ends();
            assert_eq!((ends.log_start, ends.appended), (0, 0), "a new log is empty");
        }
    }
}

fn explore(plan: Plan, tally: &Rc<Tally>) -> u64 {
    let history = Rc::new(RefCell::new(History::new(roster())));
    let explorer = Rc::new(Explorer {
        plan,
        history,
        tally: tally.clone(),
    });
    let completions = explorer.run();
    let cases = tally.cases.get();
    let (seed, states, acks) = (plan.seed, tally.state_count(), explorer.history.borrow().acks);
    eprintln!("seed {seed}: {completions} completions, {acks} acks; in all {cases} cases, {states} states");
    completions
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn quick(seed: u64) -> Plan {
    Plan {
        seed,
        completions: 8_000,
        stride: 80,
        phase: seed,
        only: None,
        cuts: 1,
        recovery_every: 12,
        recovery_stride: 29,
    }
}

fn thorough(seed: u64, stride: u64) -> Plan {
    Plan {
        stride,
        cuts: 2,
        recovery_every: 8,
        recovery_stride: 11,
        ..quick(seed)
    }
}

/// Lives without a crash explored, of seeds that once stood still: a deletion kept the turn to store from the task that it
/// waited for (43519693); a partition could not be opened while memory was short for a moment (3).
#[test]
fn the_workload_never_stands_still() {
    for seed in [43_519_693, 3] {
        let plan = Plan {
            completions: 20_000,
            stride: u64::MAX,
            ..quick(seed)
        };
        explore(plan, &Rc::new(Tally::default()));
    }
}

/// One crash, in every way, with what the store has to say.
fn replay(seed: u64, index: u64) {
    let writer = tracing_subscriber::fmt().with_writer(std::io::stderr);
    writer.with_max_level(tracing::Level::INFO).init();
    let plan = Plan {
        only: Some(index),
        recovery_stride: 1,
        completions: index + 1,
        ..quick(seed)
    };
    explore(plan, &Rc::default());
}

#[test]
fn nothing_acknowledged_is_lost_whatever_crashes_when() {
    let seed = variable("RINGTAIL_SIM_SEED");
    if let Some(index) = variable("RINGTAIL_SIM_INDEX") {
        return replay(seed.unwrap_or(1), index);
    }
    let form = std::env::var("RINGTAIL_SIM_FORM").unwrap_or_default();
    let fresh = mix(
        std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64),
        1,
    ) % 1_000_000_000;
    let counts = match form.as_str() {
        "" => {
            let tally = Rc::default();
            // This one comes by all that a short pass has to.
            explore(quick(seed.unwrap_or(3)), &tally);
            counts(&tally)
        }
        "ci" => {
            let tally = Rc::default();
            explore(thorough(seed.unwrap_or(1), 17), &tally);
            explore(thorough(fresh, 31), &tally);
            counts(&tally)
        }
        // Every completion, every way to crash there; of some cases, every completion of the recovery.
        "every" => {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
            on_each_core(States::default(), |number, tally| {
                let plan = Plan {
                    completions: variable("RINGTAIL_SIM_COMPLETIONS").unwrap_or(6_000),
                    stride: cores,
                    phase: number,
                    cuts: CUTS.len(),
                    recovery_every: 200,
                    recovery_stride: 1,
                    ..quick(seed.unwrap_or(1))
                };
                explore(plan, tally);
            })
        }
        "long" => {
            let (begin, seconds) = (Instant::now(), variable("RINGTAIL_SIM_SECONDS").unwrap_or(u64::MAX));
            let wanted = variable("RINGTAIL_SIM_STATES").map_or(usize::MAX, |states| states as usize);
            let next = AtomicU64::new(seed.unwrap_or(fresh));
            let states = std::env::var_os("RINGTAIL_SIM_STATES_FILE").map_or_else(States::default, |path| {
                States::kept_in(Path::new(&path)).expect("the file of states can be read")
            });
            on_each_core(states, |_, tally| {
                while begin.elapsed().as_secs() < seconds && tally.state_count() < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Every eighth goes on for longer: its logs are longer, and so is each of its cases.
                    let completions = if seed.is_multiple_of(8) { 8_000 } else { 2_500 };
                    let stride = variable("RINGTAIL_SIM_STRIDE").unwrap_or(7);
                    explore(
                        Plan {
                            completions,
                            ..thorough(seed, stride)
                        },
                        tally,
                    );
                    tally.tried.borrow_mut().clear();
                }
            })
        }
        other => panic!("RINGTAIL_SIM_FORM={other} is none of ci, every, long"),
    };
    let mut missing = report(&counts);
    if form.is_empty() {
        // What the short pass need not meet.
        let rare = [
            Mark::CheckpointFallback,
            Mark::DeletedSkipped,
            Mark::BecameFlushed,
            Mark::JournalFileRecycled,
        ];
        missing.retain(|name| rare.iter().all(|mark| *name != format!("{mark:?}")));
    }
    assert!(missing.is_empty(), "never happened: {missing:?}");
}
