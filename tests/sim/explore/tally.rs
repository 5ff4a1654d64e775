//! What the explorer counts, on one thread or on all cores.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringtail::base::coverage::{MARKS, Mark, count};

const SAY_AFTER: Duration = Duration::from_secs(20);

/// Marks that the test itself sets.
#[derive(Default)]
pub struct Tally {
    pub cases: Cell<u64>,
    pub recovery_crashes: Cell<u64>,
    pub duplicates_after_restart: Cell<u64>,
    pub unknown_resent: Cell<u64>,
    pub zombie_writes: Cell<u64>,
    /// When a line of progress was printed.
    said: Cell<Option<Instant>>,
    /// Surviving images that were tried, of all threads.
    states: Arc<Mutex<States>>,
    /// (state, what was acknowledged) that was tried.
    pub tried: RefCell<BTreeSet<u64>>,
}

/// Distinct states by their hashes; in a file as well, if they are to count in later runs.
#[derive(Default)]
pub struct States {
    hashes: HashSet<u64>,
    file: Option<BufWriter<File>>,
}

impl States {
    /// With what earlier runs left in `path`, where those of this one go, too.
    pub fn kept_in(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut kept = Vec::new();
        file.read_to_end(&mut kept)?;
        let (hashes, cut) = kept.as_chunks::<8>();
        if !cut.is_empty() {
            file.set_len((kept.len() - cut.len()) as u64)?;
        }
        Ok(Self {
            hashes: hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect(),
            file: Some(BufWriter::new(file)),
        })
    }

    fn insert(&mut self, hash: u64) {
        if self.hashes.insert(hash)
            && let Some(file) = &mut self.file
        {
            file.write_all(&hash.to_le_bytes())
                .expect("the file of states takes more");
        }
    }
}

impl Tally {
    pub fn note_state(&self, hash: u64) {
        self.states.lock().expect("no thread panics with the lock").insert(hash);
    }

    /// Progress, every now and then.
    pub fn say(&self, what: impl FnOnce() -> String) {
        let due = self.said.get().is_none_or(|said| said.elapsed() >= SAY_AFTER);
        if due {
            self.said.set(Some(Instant::now()));
            eprintln!(
                "{}, {} cases, {} states in all",
                what(),
                self.cases.get(),
                self.state_count()
            );
        }
    }

    pub fn state_count(&self) -> usize {
        self.states.lock().expect("no thread panics with the lock").hashes.len()
    }
}

pub fn bump(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// How often this thread was at each named place.
pub fn counts(tally: &Tally) -> Vec<(String, u64)> {
    // These need faults, or more logs than memory: `faults` and `pressure` have them.
    let elsewhere = [
        Mark::Fenced,
        Mark::Full,
        Mark::SpaceBack,
        Mark::TailShrunk,
        Mark::StoringAwaited,
    ];
    let mut counts: Vec<(String, u64)> = MARKS
        .iter()
        .filter(|mark| !elsewhere.contains(mark))
        .map(|mark| (format!("{mark:?}"), count(*mark)))
        .collect();
    counts.push(("crash in recovery".into(), tally.recovery_crashes.get()));
    counts.push(("duplicate after restart".into(), tally.duplicates_after_restart.get()));
    counts.push(("batch of unknown fate sent again".into(), tally.unknown_resent.get()));
    counts.push(("zombie writes after kill".into(), tally.zombie_writes.get()));
    counts.push(("cases".into(), tally.cases.get()));
    counts
}

/// Prints all counts; the names of those that are zero.
pub fn report(counts: &[(String, u64)]) -> Vec<String> {
    for (name, count) in counts {
        eprintln!("{count:>9}  {name}");
    }
    let zero = counts.iter().filter(|(_, count)| *count == 0);
    zero.map(|(name, _)| name.clone()).collect()
}

/// Runs `explore` on a thread per core, each with a number of its own; the summed counts. `states` are those of earlier runs.
pub fn on_each_core(states: States, explore: impl Fn(u64, &Rc<Tally>) + Sync) -> Vec<(String, u64)> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let states = Arc::new(Mutex::new(states));
    let one = |number: u64| {
        let tally = Rc::new(Tally {
            states: Arc::clone(&states),
            ..Tally::default()
        });
        explore(number, &tally);
        counts(&tally)
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|number| scope.spawn(move || one(number))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("nothing was found"))
            .collect()
    });
    let mut parts = parts.into_iter();
    let mut sum = parts.next().expect("a core at least");
    for part in parts {
        for ((_, sum), (_, count)) in sum.iter_mut().zip(part) {
            *sum += count;
        }
    }
    sum
}

#[test]
fn states_of_earlier_runs_count_and_a_cut_file_is_mended() {
    let path = std::env::temp_dir().join(format!("ringtail-states-{}", std::process::id()));
    let run = |hashes: &[u64]| {
        let mut states = States::kept_in(&path).expect("a file");
        hashes.iter().for_each(|hash| states.insert(*hash));
        states.hashes.len()
    };
    assert_eq!((run(&[1, 2, 2]), run(&[2, 3])), (2, 3));
    let bytes = std::fs::read(&path).expect("it is there");
    assert_eq!(bytes.len(), 24, "each once");
    std::fs::write(&path, &bytes[..21]).expect("cut");
    assert_eq!((run(&[4]), run(&[])), (3, 3));
    std::fs::remove_file(&path).expect("removed");
}
