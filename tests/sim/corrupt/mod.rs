//! Corruption is not a torn tail: every kind of damage to every kind of file of a data directory, one at a time. Nothing wrong may be
//! served, nothing durable may be missing without a word, `log verify`, the start, the reads or the scrub name the file, and nobody
//! changes it.
//!
//! `tests/corrupt.sh` runs many; a failure prints how to see it again.

mod bases;
mod broker;
mod damage;
mod journal;
mod judge;
mod online;
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bases::{Base, End, base};
use damage::{Draw, KINDS, Kind, Touched, draw};
use judge::{Seen, Verdict, judge};
use ringtail::storage::verify::Report;
use rules::type_of;

/// Counts by file type and kind of damage.
#[derive(Default)]
struct Tally {
    cases: u64,
    detected: u64,
    harmless: BTreeMap<&'static str, u64>,
    by: BTreeMap<(&'static str, Kind), u64>,
    undetected: Vec<String>,
    wrong: Vec<String>,
}

fn alike(one: &Path, other: &Path) -> bool {
    let kind = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let top: String = name.chars().take_while(|c| !c.is_ascii_digit()).collect();
        (top, path.extension().map(|kind| kind.to_owned()))
    };
    kind(one) == kind(other)
}

/// The files of a base that hold something, by type.
fn by_type(base: &Base) -> BTreeMap<&'static str, Vec<PathBuf>> {
    let mut all: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for (path, _) in base.files.iter().filter(|(_, content)| !content.is_empty()) {
        all.entry(type_of(path, &base.files)).or_default().push(path.clone());
    }
    all.remove("other");
    // The large one is slow, and there for what the others have not.
    all.retain(|name, _| !base.is_large || name.starts_with("active ."));
    all
}

/// The damage number `case` of a base.
fn damage_of(base: &Base, case: u64) -> (&'static str, Kind, Vec<Touched>) {
    let types = by_type(base);
    let names: Vec<&&str> = types.keys().collect();
    let name = *names[(case + case / 16) as usize % names.len()];
    let mut random = Draw(case.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1);
    loop {
        // Flips are what happens.
        let kind = match random.below(10) {
            7.. => Kind::Flip,
            number => KINDS[number],
        };
        let paths = &types[name];
        let path = &paths[random.below(paths.len())];
        let touched = draw(&mut random, kind, path, &base.files, &base.past, alike);
        if !touched.is_empty() {
            return (name, kind, touched);
        }
    }
}

/// How a damage to a base is judged.
type Judge<'a> = &'a dyn Fn(&[Touched], u64) -> (Seen, Report, Verdict);

fn run(base: &Rc<Base>, judge: Judge<'_>, case: u64, tally: &mut Tally, tells: bool) {
    let (name, kind, touched) = damage_of(base, case);
    let (seen, report, verdict) = judge(&touched, case);
    tally.cases += 1;
    *tally.by.entry((name, kind)).or_default() += 1;
    let list: Vec<String> = touched.iter().map(Touched::to_string).collect();
    let place = format!("RINGTAIL_CORRUPT={}/{case} {kind:?} {}", base.name, list.join(", "));
    if tells {
        let (served, corrupt) = (seen.served, seen.corrupt);
        eprintln!(
            "{place}\n{}\nserved {served}, corrupt {corrupt}\n{:#?}\n{verdict:?}",
            seen.told, report.problems
        );
    }
    match verdict {
        Verdict::Detected => tally.detected += 1,
        Verdict::Harmless(rule) => *tally.harmless.entry(rule).or_default() += 1,
        Verdict::Undetected(what) => tally.undetected.push(format!("{place}: {what}")),
        Verdict::Wrong(what) => tally.wrong.push(format!("{place}: {what}")),
    }
    tally.say();
}

fn bases() -> Vec<(&'static str, u64, End, bool)> {
    vec![
        ("stop", 11, End::Stop, false),
        ("kill", 12, End::Kill, false),
        ("cut", 13, End::PowerCut, false),
        ("large", 14, End::PowerCut, true),
    ]
}

/// A line of progress after so many mutations.
const SAY_EVERY: u64 = 250;

impl Tally {
    fn say(&self) {
        if self.cases.is_multiple_of(SAY_EVERY) {
            let (undetected, wrong) = (self.undetected.len(), self.wrong.len());
            eprintln!(
                "{} mutations, {undetected} undetected, {wrong} served wrong",
                self.cases
            );
            self.undetected
                .last()
                .into_iter()
                .chain(self.wrong.last())
                .for_each(|what| eprintln!("  {what}"));
        }
    }

    fn print(&self) {
        let mut types: Vec<&str> = self.by.keys().map(|(name, _)| *name).collect();
        types.dedup();
        eprint!("{:<26}", "mutations");
        KINDS.iter().for_each(|kind| eprint!("{:>11}", format!("{kind:?}")));
        eprintln!("{:>9}", "all");
        for name in types {
            eprint!("{name:<26}");
            let counts = KINDS.map(|kind| self.by.get(&(name, kind)).copied().unwrap_or(0));
            counts.iter().for_each(|count| eprint!("{count:>11}"));
            eprintln!("{:>9}", counts.iter().sum::<u64>());
        }
        self.harmless
            .iter()
            .for_each(|(rule, count)| eprintln!("{count:>9}  harmless: {rule}"));
        let harmless: u64 = self.harmless.values().sum();
        eprintln!(
            "{} mutations: {} detected, {harmless} harmless by rule, {} undetected, {} served wrong",
            self.cases,
            self.detected,
            self.undetected.len(),
            self.wrong.len()
        );
        let failed = self.undetected.iter().map(|what| ("undetected", what));
        let wrong = self.wrong.iter().map(|what| ("served wrong", what));
        failed.chain(wrong).for_each(|(how, what)| eprintln!("{how}: {what}"));
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn damage_is_found_and_never_served() {
    let mut tally = Tally::default();
    if let Ok(one) = std::env::var("RINGTAIL_CORRUPT") {
        let (name, case) = one.split_once('/').expect("BASE/CASE");
        let case = case.parse().expect("a number");
        if let Some((name, seed, end, large)) = bases().into_iter().find(|b| b.0 == name) {
            let base = Rc::new(base(name, seed, end, large));
            run(
                &base,
                &|touched, seed| judge(&base, touched, seed),
                case,
                &mut tally,
                true,
            );
        } else {
            let cluster = broker::cluster();
            let base = cluster.base.clone();
            run(
                &base,
                &|touched, seed| broker::judge(&cluster, touched, seed),
                case,
                &mut tally,
                true,
            );
        }
        return tally.print();
    }
    let count = variable("RINGTAIL_CORRUPT_CASES").unwrap_or(600);
    let (part, parts) = (
        variable("RINGTAIL_CORRUPT_PART").unwrap_or(0),
        variable("RINGTAIL_CORRUPT_PARTS").unwrap_or(1),
    );
    let mut expected = std::collections::BTreeSet::new();
    for (index, (name, seed, end, large)) in bases().into_iter().enumerate() {
        let base = Rc::new(base(name, seed, end, large));
        expected.extend(by_type(&base).into_keys());
        let share = if large { count / 20 } else { count / 4 };
        let cases = (0..share).filter(|case| (case + index as u64) % parts == part);
        cases.for_each(|case| {
            run(
                &base,
                &|touched, seed| judge(&base, touched, seed),
                case,
                &mut tally,
                false,
            )
        });
    }
    let cluster = broker::cluster();
    let base = cluster.base.clone();
    expected.extend(by_type(&base).into_keys());
    let cases = (0..count / 5).filter(|case| case % parts == part);
    cases.for_each(|case| {
        run(
            &base,
            &|touched, seed| broker::judge(&cluster, touched, seed),
            case,
            &mut tally,
            false,
        )
    });
    tally.print();
    for name in expected {
        assert!(
            tally.by.keys().any(|(tried, _)| *tried == name),
            "no damage to a {name}"
        );
    }
    assert!(tally.undetected.is_empty() && tally.wrong.is_empty());
}
