//! The test's side of a world: hosts, processes, time, crashes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use super::core::{Core, Event};
use super::disk::{Disk, DiskCounters, DiskImage, Fault, LossMode};
use super::env::SimEnv;
use super::executor::{Executor, Ran};
use super::network::{Closed, ClosedQueue, Network};
use super::options::Options;
use super::random::mix;

/// How long (virtual) `run_until` tries.
const LIMIT_MS: u64 = 3_600_000;

/// A process of a world; never used again after its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProcessId(usize);

#[derive(Clone, Copy)]
struct Process {
    host: usize,
    alive: bool,
    paused: bool,
    /// Root tasks that still run.
    roots: usize,
}

pub(super) struct Shared {
    pub(super) core: Core,
    pub(super) executor: Executor,
    pub(super) disks: RefCell<Vec<Disk>>,
    pub(super) network: RefCell<Network>,
    pub(super) closed: ClosedQueue,
    pub(super) host_names: RefCell<BTreeMap<String, usize>>,
    wall_offsets_ms: RefCell<Vec<i64>>,
    processes: RefCell<Vec<Process>>,
}

impl Shared {
    pub(super) fn is_alive(&self, process: usize) -> bool {
        self.processes.borrow()[process].alive
    }

    pub(super) fn wall_ms(&self, host: usize) -> i64 {
        let elapsed_ms = (self.core.now() / 1_000_000) as i64;
        self.core.options.wall_start_ms + elapsed_ms + self.wall_offsets_ms.borrow()[host]
    }
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its roots returned: destructors run while its memory and sockets are still its own.
    Exit,
    Kill,
    Power,
}

type OnceHook = Box<dyn FnOnce(&World)>;
type EachHook = Box<dyn FnMut(&World, u64)>;

/// A cluster in a bottle. See the module.
pub struct World {
    shared: Rc<Shared>,
    hooks: RefCell<BTreeMap<u64, Vec<OnceHook>>>,
    each: RefCell<Option<EachHook>>,
}

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        assert!(options.poll_ns > 0, "time must pass when tasks run");
        let core = Core::new(seed, options);
        let hosts = core.options.hosts;
        let disks = (0..hosts).map(|host| Disk::new(&core, host)).collect();
        let network = Network::default();
        let shared = Shared {
            closed: network.closed.clone(),
            disks: RefCell::new(disks),
            network: RefCell::new(network),
            executor: Executor::default(),
            host_names: RefCell::default(),
            wall_offsets_ms: RefCell::new(vec![0; hosts]),
            processes: RefCell::default(),
            core,
        };
        Self {
            shared: Rc::new(shared),
            hooks: RefCell::default(),
            each: RefCell::default(),
        }
    }

    /// Begins with `image` as the disk of `host`: one that a crash left, or of an idle world.
    pub fn with_disk(self, host: usize, image: &DiskImage) -> Self {
        assert_eq!(
            image.in_flight(),
            0,
            "what is in flight ends with `after_kill` or `after_power_cut`"
        );
        self.shared.disks.borrow_mut()[host].restore(image);
        self
    }

    // Processes.

    /// Starts a process: one root task per shard. It ends when all its roots have returned (its other tasks are then
    /// dropped), or when it is killed.
    pub fn spawn_process<F>(&self, host: usize, shards: usize, mut root: impl FnMut(SimEnv, usize) -> F) -> ProcessId
    where
        F: Future<Output = ()> + 'static,
    {
        assert!(shards > 0);
        let process = {
            let mut processes = self.shared.processes.borrow_mut();
            processes.push(Process {
                host,
                alive: true,
                paused: false,
                roots: shards,
            });
            processes.len() - 1
        };
        self.shared.network.borrow_mut().set_dark(host, false);
        for shard in 0..shards {
            let shared = self.shared.clone();
            let env = SimEnv {
                shared,
                host,
                process,
                shard,
            };
            self.shared.executor.spawn(process, true, root(env, shard));
        }
        ProcessId(process)
    }

    /// Runs one future as a process of one shard to its end; panics if it cannot end.
    pub fn block_on<F>(&self, host: usize, root: impl FnOnce(SimEnv) -> F) -> F::Output
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let output = Rc::new(RefCell::new(None));
        let mut root = Some(root);
        let process = self.spawn_process(host, 1, |env, _| {
            let future = (root.take().expect("one shard"))(env);
            let output = output.clone();
            async move {
                let value = future.await;
                *output.borrow_mut() = Some(value);
            }
        });
        let ended = self.run_until(|| !self.is_alive(process));
        assert!(ended, "the future never ends ({})", self.shared.core.place());
        let value = output.take();
        value.expect("the process ended because its only root returned")
    }

    pub fn is_alive(&self, process: ProcessId) -> bool {
        self.shared.is_alive(process.0)
    }

    /// kill -9: the tasks are dropped, sockets end or reset, writes in flight land later or never, mapped memory stays.
    pub fn kill(&self, process: ProcessId) {
        self.end(process.0, End::Kill);
    }

    /// The power of a host goes: all its processes end at once, peers hear nothing, and of the disk stays what
    /// `DiskImage::after_power_cut` says.
    pub fn power_cut(&self, host: usize, mode: LossMode) {
        // The image is taken first: tasks' destructors must not touch it.
        let image = self.disk_image(host);
        let processes: Vec<usize> = {
            let all = self.shared.processes.borrow();
            (0..all.len())
                .filter(|process| all[*process].host == host && all[*process].alive)
                .collect()
        };
        self.shared.network.borrow_mut().set_dark(host, true);
        for process in processes {
            self.end(process, End::Power);
        }
        let image = image.after_power_cut(mode, self.shared.core.disk.next());
        self.shared.disks.borrow_mut()[host].restore(&image);
    }

    fn end(&self, process: usize, how: End) {
        let host = {
            let mut processes = self.shared.processes.borrow_mut();
            let entry = &mut processes[process];
            if !std::mem::replace(&mut entry.alive, false) {
                return;
            }
            entry.host
        };
        let core = &self.shared.core;
        core.trace(5, process as u64);
        if how == End::Exit {
            self.drop_tasks(process);
        }
        // Mapped memory is copied before the tasks go: their destructors would clear it, which a kill does not.
        self.shared.disks.borrow_mut()[host].orphan(core, process);
        let silent = how == End::Power;
        self.shared.network.borrow_mut().remove_process(core, process, silent);
        self.drop_tasks(process);
    }

    fn drop_tasks(&self, process: usize) {
        let tasks = self.shared.executor.take_tasks(process);
        drop(tasks);
        self.drain_closed();
    }

    /// The process stops to run while the world goes on: its operations complete, its tasks wait.
    pub fn pause(&self, process: ProcessId) {
        self.shared.processes.borrow_mut()[process.0].paused = true;
    }

    pub fn resume(&self, process: ProcessId) {
        self.shared.processes.borrow_mut()[process.0].paused = false;
        self.shared.executor.unpark();
    }

    // Time.

    /// Nanoseconds since the world began (it begins at one second).
    pub fn now(&self) -> u64 {
        self.shared.core.now()
    }

    /// Steps a host's wall clock; its monotonic clock goes on as before.
    pub fn jump_wall_clock(&self, host: usize, by_ms: i64) {
        self.shared.wall_offsets_ms.borrow_mut()[host] += by_ms;
    }

    /// Steps until `condition` holds; false if it cannot come to hold any more, or not within `LIMIT_MS`.
    pub fn run_until(&self, mut condition: impl FnMut() -> bool) -> bool {
        let until = self.now() + LIMIT_MS * 1_000_000;
        loop {
            if condition() {
                return true;
            }
            if self.now() >= until || !self.step(until) {
                return condition();
            }
        }
    }

    /// Lets `ms` of virtual time pass.
    pub fn run_for(&self, ms: u64) {
        let until = self.now() + ms * 1_000_000;
        while self.now() < until && self.step(until) {}
        let now = self.now();
        self.shared.core.pass(until.saturating_sub(now));
    }

    /// Steps until no task is ready and no disk or network operation is under way; timers may still wait. False when
    /// that did not come within the limit.
    pub fn run_until_idle(&self) -> bool {
        let shared = self.shared.clone();
        self.run_until(|| !shared.executor.has_ready() && shared.core.io_pending() == 0)
    }

    fn step(&self, until: u64) -> bool {
        self.drain_closed();
        let core = &self.shared.core;
        if let Some(event) = core.pop(core.now()) {
            self.fire(event);
            return true;
        }
        let paused = |process: usize| self.shared.processes.borrow()[process].paused;
        match self.shared.executor.run_one(core, paused) {
            Ran::Polled => true,
            Ran::RootEnded { process } => {
                self.root_ended(process);
                true
            }
            Ran::Nothing => match core.pop(until) {
                Some(event) => {
                    self.fire(event);
                    true
                }
                None => false,
            },
        }
    }

    fn root_ended(&self, process: usize) {
        let left = {
            let mut processes = self.shared.processes.borrow_mut();
            processes[process].roots -= 1;
            processes[process].roots
        };
        if left == 0 {
            self.end(process, End::Exit);
        }
    }

    fn drain_closed(&self) {
        for closed in self.shared.closed.take() {
            let core = &self.shared.core;
            match closed {
                Closed::File { host, inode } => self.shared.disks.borrow_mut()[host].closed(inode),
                Closed::Stream(id) => self.shared.network.borrow_mut().close_stream(core, id),
                Closed::Listener(id) => self.shared.network.borrow_mut().close_listener(id),
            }
        }
    }

    fn fire(&self, event: Event) {
        match event {
            Event::Timer(done) => done.set(()),
            Event::Network(event) => self.shared.network.borrow_mut().on_event(&self.shared.core, event),
            Event::Disk {
                host,
                operation,
                attempt,
            } => self.complete(host, operation, attempt),
        }
    }

    fn complete(&self, host: usize, operation: u64, attempt: u32) {
        let expected = || self.shared.disks.borrow()[host].expects(operation, attempt);
        if !expected() {
            return;
        }
        self.call_hooks();
        // A hook may have crashed the process, and the operation with it.
        if !expected() {
            return;
        }
        let core = &self.shared.core;
        core.completions.set(core.completions.get() + 1);
        let alive = |process: usize| self.shared.is_alive(process);
        let done = self.shared.disks.borrow_mut()[host].complete(core, operation, alive);
        if let Some((done, reply)) = done {
            done.set(reply);
        }
    }

    fn call_hooks(&self) {
        let index = self.completions();
        let due = self.hooks.borrow_mut().remove(&index);
        for hook in due.into_iter().flatten() {
            hook(self);
        }
        let each = self.each.take();
        if let Some(mut each) = each {
            each(self, index);
            self.each.borrow_mut().get_or_insert(each);
        }
    }

    // Crash points.

    /// Disk operations completed so far: the index of the next one.
    pub fn completions(&self) -> u64 {
        self.shared.core.completions.get()
    }

    /// Calls `action` when completion `index` is about to take effect: that operation and all submitted are in flight, all
    /// that earlier completions made the tasks do (acknowledge, above all) is done.
    pub fn on_completion_index(&self, index: u64, action: impl FnOnce(&World) + 'static) {
        self.hooks.borrow_mut().entry(index).or_default().push(Box::new(action));
    }

    /// The same before every completion.
    pub fn on_each_completion(&self, action: impl FnMut(&World, u64) + 'static) {
        *self.each.borrow_mut() = Some(Box::new(action));
    }

    // Disks.

    /// The disk of a host as it is now, volatile, in-flight and mapped state included.
    pub fn disk_image(&self, host: usize) -> DiskImage {
        self.shared.disks.borrow_mut()[host].image(&self.shared.core)
    }

    pub fn disk_counters(&self, host: usize) -> DiskCounters {
        self.shared.disks.borrow()[host].counters
    }

    pub fn plant(&self, host: usize, fault: Fault) {
        self.shared.disks.borrow_mut()[host].plant(fault);
    }

    pub fn clear_faults(&self, host: usize) {
        self.shared.disks.borrow_mut()[host].clear_faults();
    }

    pub fn set_capacity(&self, host: usize, bytes: u64) {
        self.shared.disks.borrow_mut()[host].set_capacity(bytes);
    }

    /// Makes a directory and its parents, durably.
    pub fn make_directory(&self, host: usize, path: impl AsRef<Path>) {
        self.shared.disks.borrow_mut()[host].make_directory(path.as_ref());
    }

    /// Flips the bits of `mask` in one byte of a file, as bit rot does.
    pub fn corrupt(&self, host: usize, path: impl AsRef<Path>, position: u64, mask: u8) -> io::Result<()> {
        self.shared.disks.borrow_mut()[host].corrupt(path.as_ref(), position, mask)
    }

    // Network.

    /// Gives a host a name that `resolve` knows.
    pub fn name_host(&self, host: usize, name: &str) {
        self.shared.host_names.borrow_mut().insert(name.to_owned(), host);
    }

    /// Nothing passes between the two any more.
    pub fn partition(&self, a: usize, b: usize) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Nothing passes from `from` to `to` any more.
    pub fn partition_one_way(&self, from: usize, to: usize) {
        self.shared.network.borrow_mut().block(from, to);
    }

    /// Lifts what stands between the two, in both directions.
    pub fn heal(&self, a: usize, b: usize) {
        let mut network = self.shared.network.borrow_mut();
        network.heal(&self.shared.core, |from, to| {
            (from, to) == (a, b) || (from, to) == (b, a)
        });
    }

    /// Breaks all connections from `a` to `b`, on both sides; returns how many.
    pub fn reset_connections(&self, a: usize, b: usize) -> usize {
        let mut network = self.shared.network.borrow_mut();
        network.drop_connections(&self.shared.core, a, b, false)
    }

    /// Makes `a` forget its connections to `b`, which is not told until it sends; returns how many.
    pub fn half_open(&self, a: usize, b: usize) -> usize {
        let mut network = self.shared.network.borrow_mut();
        network.drop_connections(&self.shared.core, a, b, true)
    }

    /// Everything between the two takes so many nanoseconds longer, both ways; an empty range is the end of it.
    pub fn delay(&self, a: usize, b: usize, by: Range<u64>) {
        self.shared.network.borrow_mut().set_delay(a, b, by);
    }

    /// Whether connections to `host` are refused.
    pub fn refuse_connects(&self, host: usize, refuses: bool) {
        self.shared.network.borrow_mut().set_refusing(host, refuses);
    }

    /// A hash of everything that happened: equal for two runs exactly if they were the same.
    pub fn trace_hash(&self) -> u64 {
        mix(self.shared.core.trace_hash(), self.completions())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("simulation: {}", self.shared.core.place());
            // Destructors of half-run tasks could panic again; the test is over anyway.
            std::mem::forget(self.shared.clone());
            return;
        }
        self.hooks.take();
        self.each.take();
        // Nobody will ask what its memory held.
        self.shared.disks.borrow_mut().iter_mut().for_each(Disk::forget_memory);
        let processes = self.shared.processes.borrow().len();
        (0..processes).for_each(|process| self.end(process, End::Kill));
    }
}
