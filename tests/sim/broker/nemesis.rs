//! What befalls the broker: one thing at a time on its process and disk, others on the network beside it. All drawn from the seed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ringtail::io::Env;
use ringtail::io::sim::{DiskImage, DiskOperation, EIO, Fault, FaultEffect, LossMode, ProcessId, World};

use super::network::Network;
use super::party::{BROKER, Shared};
use super::process::{Setup, Started, interrogate, start};
use super::recorder::Known;

const MS: u64 = 1_000_000;
/// A start that takes longer, or a stop, hangs.
const START_MS_MAX: u64 = 60_000;
const STOP_MS_MAX: u64 = 20_000;
/// The disk as it is without a fault.
pub const CAPACITY_BYTES: u64 = 8 << 30;

/// A kind of fault. Those of the network are drawn by `Network`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Kill,
    KillInStart,
    CutLosingAll,
    CutKeepingAll,
    CutRandom,
    CutTorn512,
    CutTorn4096,
    CutInStart,
    Stop,
    Pause,
    ClockForward,
    ClockBack,
    Stall,
    WriteError,
    FlushError,
    ReadError,
    Full,
    Delay,
    Partition,
    OneWay,
    Reset,
    HalfOpen,
    Refuse,
}

pub const KINDS: [Kind; 23] = [
    Kind::Kill,
    Kind::KillInStart,
    Kind::CutLosingAll,
    Kind::CutKeepingAll,
    Kind::CutRandom,
    Kind::CutTorn512,
    Kind::CutTorn4096,
    Kind::CutInStart,
    Kind::Stop,
    Kind::Pause,
    Kind::ClockForward,
    Kind::ClockBack,
    Kind::Stall,
    Kind::WriteError,
    Kind::FlushError,
    Kind::ReadError,
    Kind::Full,
    Kind::Delay,
    Kind::Partition,
    Kind::OneWay,
    Kind::Reset,
    Kind::HalfOpen,
    Kind::Refuse,
];

/// A stream of decisions.
pub struct Dice(Cell<u64>);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let dice = Self(Cell::new(seed ^ 0x5851_f42d_4c95_7f2d));
        dice.below(2);
        dice
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub fn of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Milliseconds.
    pub fn within(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }
}

/// How the broker is.
enum Phase {
    Down {
        until_ns: u64,
    },
    Starting {
        since_ns: u64,
        asker: ProcessId,
        served: Rc<Cell<bool>>,
        crash: Option<(Kind, u64)>,
    },
    Serving,
    Stopping {
        since_ns: u64,
    },
    Paused {
        until_ns: u64,
    },
    /// A fault of the disk is planted.
    Faulty {
        kind: Kind,
        until_ns: u64,
        tail_ns: u64,
    },
}

/// A broker that ends by itself so often without a fault never serves again: the run ends, and says why.
const OWN_ENDS_MAX: u32 = 5;
/// More than a run has.
const STARTS_MAX: i32 = 1_000;

pub struct Nemesis<'w> {
    world: &'w World,
    party: Shared,
    setup: Setup,
    dice: Dice,
    broker: Started,
    phase: Phase,
    network: Network,
    /// When the next fault of process or disk begins.
    next_ns: u64,
    /// A device failed since the last start: directories are out of service, or the process ends.
    broken: bool,
    /// How often the broker ended by itself on devices in order.
    own_ends: u32,
    clock: Option<(i64, u64)>,
    /// No more faults begin.
    resting: bool,
    pub counts: BTreeMap<Kind, u64>,
}

/// The last leader epoch of each directory: a start has one when its base checkpoint is there.
fn epochs_of(image: &DiskImage, directories: &[String]) -> Vec<(String, i32)> {
    let has_begun = |directory: &str, start: i32| {
        image
            .content(format!("{directory}/ringtail-base-{start}.ckpt"))
            .is_some()
    };
    let newest = |directory: &String| {
        (0..STARTS_MAX)
            .rev()
            .find(|start| has_begun(directory, *start))
            .unwrap_or(0)
    };
    directories
        .iter()
        .map(|directory| (directory.clone(), newest(directory)))
        .collect()
}

impl<'w> Nemesis<'w> {
    /// Starts the broker; nothing befalls it until `run`.
    pub fn new(world: &'w World, party: &Shared, setup: Setup, seed: u64, client_hosts: usize) -> Self {
        let dice = Dice::new(seed);
        let broker = start(world, &setup, 1 + dice.below(3) as usize);
        Self {
            network: Network::new(client_hosts, Dice::new(seed ^ 1)),
            world,
            party: party.clone(),
            setup,
            broker,
            phase: Phase::Serving,
            next_ns: u64::MAX,
            broken: false,
            own_ends: 0,
            clock: None,
            resting: false,
            counts: BTreeMap::new(),
            dice,
        }
    }

    pub fn directories(&self) -> &[String] {
        &self.setup.directories
    }

    fn count(&mut self, kind: Kind) {
        tracing::info!(at_ms = self.now() / MS, ?kind, "NEMESIS");
        *self.counts.entry(kind).or_default() += 1;
    }

    fn now(&self) -> u64 {
        self.world.now()
    }

    fn find(&self, what: String) {
        let found = format!("at {} ns: {what}", self.now());
        self.party.findings.borrow_mut().push(found);
    }

    /// Faults for so long.
    pub fn run(&mut self, ms: u64) {
        let until = self.now() + ms * MS;
        self.next_ns = self.now() + self.dice.within(1_000, 8_000) * MS;
        while self.now() < until {
            self.step();
        }
    }

    /// Lifts everything and waits until the broker serves again.
    pub fn heal(&mut self) {
        self.resting = true;
        self.next_ns = u64::MAX;
        self.network.lift_all(self.world);
        self.turn_clock_back();
        match &mut self.phase {
            Phase::Down { until_ns } | Phase::Paused { until_ns } | Phase::Faulty { until_ns, .. } => *until_ns = 0,
            Phase::Starting { crash, .. } => *crash = None,
            Phase::Serving | Phase::Stopping { .. } => {}
        }
        while !matches!(self.phase, Phase::Serving) {
            self.step();
        }
    }

    /// A clean stop and a start, as an operator does.
    pub fn restart(&mut self) {
        self.stop();
        while !matches!(self.phase, Phase::Serving) {
            self.step();
        }
    }

    /// The last stop.
    pub fn end(&mut self) {
        self.stop();
        while matches!(self.phase, Phase::Stopping { .. }) {
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now();
        if !self.resting {
            self.network.step(self.world, now, &mut self.counts);
        }
        if self.clock.is_some_and(|(_, back_ns)| now >= back_ns) {
            self.turn_clock_back();
        }
        self.look();
        if now >= self.next_ns && matches!(self.phase, Phase::Serving) {
            self.begin();
            self.next_ns = now + self.dice.within(4_000, 20_000) * MS;
        }
        self.world.run_for(match &self.phase {
            Phase::Starting { crash: Some(_), .. } => 1,
            Phase::Starting { .. } | Phase::Stopping { .. } => 10,
            _ => 50,
        });
    }

    /// Goes on from one phase to the next.
    fn look(&mut self) {
        let now = self.now();
        if self.broker.is_over() && !matches!(self.phase, Phase::Down { .. } | Phase::Stopping { .. }) {
            return self.on_end();
        }
        match &self.phase {
            Phase::Down { until_ns } if now >= *until_ns => self.start(),
            Phase::Starting {
                since_ns,
                served,
                crash,
                asker,
            } => {
                let (since_ns, asker, crash) = (*since_ns, *asker, *crash);
                if served.get() {
                    // What is new since it serves is not.
                    self.party.recorder.borrow_mut().settled(since_ns);
                    self.phase = Phase::Serving;
                } else if let Some((kind, at_ns)) = crash
                    && now >= at_ns
                {
                    self.world.kill(asker);
                    self.count(kind);
                    self.crash(if kind == Kind::KillInStart {
                        Kind::Kill
                    } else {
                        Kind::CutRandom
                    });
                } else if now - since_ns > START_MS_MAX * MS {
                    panic!("the broker does not start");
                }
            }
            Phase::Stopping { since_ns } => {
                let since_ns = *since_ns;
                if self.broker.is_over() {
                    self.stopped();
                } else if now - since_ns > STOP_MS_MAX * MS {
                    panic!("the broker does not stop");
                }
            }
            Phase::Paused { until_ns } if now >= *until_ns => match self.resting {
                false if self.dice.below(4) == 0 => {
                    let kind = self.dice.of(&[Kind::Kill, Kind::CutRandom, Kind::CutTorn512]);
                    self.count(kind);
                    self.crash(kind);
                }
                _ => {
                    self.world.resume(self.broker.id);
                    self.party.recorder.borrow_mut().calm(now, 0);
                    self.phase = Phase::Serving;
                }
            },
            Phase::Faulty {
                kind,
                until_ns,
                tail_ns,
            } if now >= *until_ns => {
                let (kind, tail_ns) = (*kind, *tail_ns);
                self.lift(kind, tail_ns);
            }
            _ => {}
        }
    }

    fn lift(&mut self, kind: Kind, tail_ns: u64) {
        // A crash amid the fault meets what it left under way.
        let crash = !self.resting && self.dice.below(3) == 0;
        let crash = crash.then(|| {
            self.dice
                .of(&[Kind::Kill, Kind::CutRandom, Kind::CutTorn4096, Kind::CutLosingAll])
        });
        if let Some(kind) = crash {
            self.count(kind);
            self.crash(kind);
        }
        tracing::info!(at_ms = self.now() / MS, ?kind, "NEMESIS: lifted");
        self.world.clear_faults(BROKER);
        self.world.set_capacity(BROKER, CAPACITY_BYTES);
        if crash.is_some() {
            return;
        }
        match kind {
            Kind::Stall | Kind::Full => {
                self.party.recorder.borrow_mut().calm(self.now(), tail_ns);
                self.phase = Phase::Serving;
            }
            // What the device failed stays out of service until a restart.
            _ if self.dice.below(2) == 0 => self.stop(),
            _ => self.crash(Kind::Kill),
        }
    }

    /// The broker ended by itself.
    fn on_end(&mut self) {
        let now = self.now();
        if !self.broken {
            let why = format!("{:?}", self.broker.ended.borrow());
            self.find(format!("the broker ended by itself: {why}"));
            self.own_ends += 1;
            assert!(
                self.own_ends < OWN_ENDS_MAX,
                "the broker does not start any more: {why}"
            );
        }
        let until_ns = match self.phase {
            Phase::Faulty { until_ns, .. } => until_ns,
            _ => now,
        };
        if let Phase::Starting { asker, .. } = self.phase {
            self.world.kill(asker);
        }
        self.world.clear_faults(BROKER);
        self.world.set_capacity(BROKER, CAPACITY_BYTES);
        self.phase = Phase::Down { until_ns };
    }

    fn start(&mut self) {
        let shards = 1 + self.dice.below(3) as usize;
        tracing::info!(at_ms = self.now() / MS, shards, "NEMESIS: start");
        self.broker = start(self.world, &self.setup, shards);
        self.broken = false;
        let (asker, served) = interrogate(self.world, &self.party);
        let now = self.now();
        let crash = (!self.resting && self.dice.below(4) == 0).then(|| {
            let kind = self.dice.of(&[Kind::KillInStart, Kind::CutInStart]);
            (kind, now + self.dice.within(1, 60) * MS)
        });
        self.phase = Phase::Starting {
            since_ns: now,
            asker,
            served,
            crash,
        };
    }

    fn stop(&mut self) {
        self.party.recorder.borrow_mut().disturb(self.now());
        self.broker.stop.raise();
        self.phase = Phase::Stopping { since_ns: self.now() };
    }

    fn stopped(&mut self) {
        let now = self.now();
        if !self.broken {
            let ended = format!("{:?}", self.broker.ended.borrow());
            match self.broker.ended.borrow().iter().all(Result::is_ok) {
                true => self.party.recorder.borrow_mut().settled(now),
                false => self.find(format!("the broker stopped so: {ended}")),
            }
        }
        let until_ns = now + self.dice.within(0, 4_000) * MS;
        self.phase = Phase::Down { until_ns };
    }

    /// The process ends at once; `kind` says how.
    fn crash(&mut self, kind: Kind) {
        let now = self.now();
        tracing::info!(at_ms = now / MS, ?kind, "NEMESIS: crash");
        let mode = match kind {
            Kind::CutLosingAll => Some(LossMode::LoseAll),
            Kind::CutKeepingAll => Some(LossMode::KeepAll),
            Kind::CutRandom => Some(LossMode::Random),
            Kind::CutTorn512 => Some(LossMode::Torn { sector_bytes: 512 }),
            Kind::CutTorn4096 => Some(LossMode::Torn { sector_bytes: 4096 }),
            _ => None,
        };
        match mode {
            Some(mode) => {
                self.world.power_cut(BROKER, mode);
                let left = self.world.disk_image(BROKER);
                let epochs = epochs_of(&left, &self.setup.directories);
                let epoch_of = |known: &Known| {
                    let file = format!("{}-{}/partition.metadata", known.topic, known.index);
                    let lies_in = |directory: &str| left.content(format!("{directory}/{file}")).is_some();
                    let found = epochs.iter().find(|(directory, _)| lies_in(directory));
                    found.map_or(0, |(_, epoch)| *epoch)
                };
                self.party.recorder.borrow_mut().power_cut(now, epoch_of);
            }
            None => self.world.kill(self.broker.id),
        }
        self.party.recorder.borrow_mut().disturb(now);
        let until_ns = now + self.dice.within(0, 5_000) * MS;
        self.phase = Phase::Down { until_ns };
    }

    fn turn_clock_back(&mut self) {
        if let Some((by_ms, _)) = self.clock.take() {
            self.world.jump_wall_clock(BROKER, -by_ms);
        }
    }

    /// A fault of process or disk.
    fn begin(&mut self) {
        let now = self.now();
        let kind = self.dice.of(&[
            Kind::Kill,
            Kind::Kill,
            Kind::CutLosingAll,
            Kind::CutKeepingAll,
            Kind::CutRandom,
            Kind::CutTorn512,
            Kind::CutTorn4096,
            Kind::Stop,
            Kind::Pause,
            Kind::ClockForward,
            Kind::ClockBack,
            Kind::Stall,
            Kind::WriteError,
            Kind::FlushError,
            Kind::ReadError,
            Kind::Full,
        ]);
        if matches!(kind, Kind::ClockForward | Kind::ClockBack) && self.clock.is_some() {
            return;
        }
        self.count(kind);
        match kind {
            Kind::Stop => self.stop(),
            Kind::Pause => {
                self.world.pause(self.broker.id);
                self.party.recorder.borrow_mut().disturb(now);
                let ms = self.dice.of(&[200, 3_000, 12_000]);
                self.phase = Phase::Paused {
                    until_ns: now + self.dice.within(1, ms) * MS,
                };
            }
            Kind::ClockForward | Kind::ClockBack => {
                let ms = self.dice.of(&[5_000, 1_200_000, 30_000_000]);
                let ms = self.dice.within(1, ms) as i64;
                let by_ms = if kind == Kind::ClockBack { -ms } else { ms };
                self.world.jump_wall_clock(BROKER, by_ms);
                self.clock = Some((by_ms, now + self.dice.within(1_000, 15_000) * MS));
            }
            Kind::Stall | Kind::WriteError | Kind::FlushError | Kind::ReadError | Kind::Full => self.plant(kind),
            _ => {
                self.aim();
                self.crash(kind);
                self.world.clear_faults(BROKER);
            }
        }
    }

    /// Half of the crashes come right behind an acknowledgement: what it promised has had no time to come true by itself, and where the
    /// device holds writes back it cannot.
    fn aim(&self) {
        if self.dice.below(2) == 0 {
            if self.dice.below(2) == 0 {
                self.party.recorder.borrow_mut().disturb(self.now());
                let held = FaultEffect::Stall { ns: 900 * MS };
                self.world
                    .plant(BROKER, Fault::always(DiskOperation::Write, "/data", held));
            }
            let acks = || self.party.recorder.borrow().acks;
            let (before, deadline_ns) = (acks(), self.now() + 3_000 * MS);
            self.world
                .run_until(|| acks() > before || self.world.now() >= deadline_ns);
        }
    }

    /// A fault of the disk.
    fn plant(&mut self, kind: Kind) {
        let now = self.now();
        let directory = self.dice.below(self.setup.directories.len() as u64) as usize;
        let path = format!("{}/", self.setup.directories[directory]);
        let mut tail_ns = 0;
        self.party.recorder.borrow_mut().disturb(now);
        let error = |operation| Fault::always(operation, &path, FaultEffect::Error(EIO));
        let fault = match kind {
            Kind::Stall => {
                let ns = self.dice.within(50, self.dice.of(&[300, 2_000, 6_000])) * MS;
                // What was stalled last ends so much later, and a round of settling is a row of such.
                tail_ns = 10 * ns;
                let operation = self
                    .dice
                    .of(&[DiskOperation::Write, DiskOperation::Flush, DiskOperation::Any]);
                Some(Fault {
                    ppm: self.dice.of(&[20_000, 300_000, 1_000_000]),
                    ..Fault::always(operation, &path, FaultEffect::Stall { ns })
                })
            }
            Kind::WriteError => Some(error(DiskOperation::Write)),
            Kind::FlushError => Some(error(DiskOperation::Flush)),
            Kind::ReadError => Some(error(DiskOperation::Read)),
            _ => None,
        };
        match fault {
            Some(mut fault) => {
                if kind != Kind::Stall {
                    self.broken = true;
                    fault.skip = self.dice.below(20);
                }
                self.world.plant(BROKER, fault);
            }
            None => {
                let used = CAPACITY_BYTES - self.free_bytes();
                self.world.set_capacity(BROKER, used + self.dice.below(8 << 20));
            }
        }
        let until_ns = now + self.dice.within(1_000, 12_000) * MS;
        self.phase = Phase::Faulty {
            kind,
            until_ns,
            tail_ns,
        };
    }

    fn free_bytes(&self) -> u64 {
        let path = self.setup.directories[0].clone();
        self.world.block_on(BROKER, |env| async move {
            let free = env.free_bytes(std::path::Path::new(&path)).await;
            free.expect("a disk without faults tells")
        })
    }
}
