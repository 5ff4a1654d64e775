//! What many seeds came to.

use std::collections::BTreeMap;
use std::time::Instant;

use super::nemesis::{KINDS, Kind};
use super::run::Verdict;

pub struct Tally {
    began: Instant,
    pub virtual_ms: u64,
    seeds: u64,
    operations: u64,
    acked: u64,
    read: u64,
    faults: BTreeMap<Kind, u64>,
    errors: BTreeMap<i16, u64>,
    failed: Vec<u64>,
    /// Too few operations or faults.
    idle: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            virtual_ms: 0,
            seeds: 0,
            operations: 0,
            acked: 0,
            read: 0,
            faults: BTreeMap::new(),
            errors: BTreeMap::new(),
            failed: Vec::new(),
            idle: Vec::new(),
        }
    }
}

impl Tally {
    pub fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        self.virtual_ms += verdict.virtual_ms;
        self.operations += verdict.operations;
        self.acked += verdict.acked;
        self.read += verdict.read;
        for (kind, count) in &verdict.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        for (code, count) in &verdict.errors {
            *self.errors.entry(*code).or_default() += count;
        }
        if !verdict.anomalies.is_empty() {
            self.failed.push(verdict.seed);
        } else if verdict.operations * 60_000 < 50 * verdict.virtual_ms
            || verdict.faults.values().sum::<u64>() * 60_000 < verdict.virtual_ms
        {
            self.idle.push(verdict.seed);
        }
    }

    fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }

    pub fn progress(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let minutes = (self.virtual_ms as f64 / 60_000.0).max(0.001);
        format!(
            "{:.2} simulated hours, {} seeds ({:.1} a minute), {:.0} virtual seconds a second, {:.0} operations and {:.1} faults a simulated \
             minute, {} acknowledged, {} read, {} seeds with anomalies\n  errors: {:?}",
            minutes / 60.0,
            self.seeds,
            self.seeds as f64 * 60.0 / seconds,
            minutes * 60.0 / seconds,
            self.operations as f64 / minutes,
            self.fault_count() as f64 / minutes,
            self.acked,
            self.read,
            self.failed.len(),
            self.errors,
        )
    }

    /// One line of `name=value`, for the sum over processes.
    pub fn sum(&self) -> String {
        let mut line = format!(
            "sum: virtual_ms={} seeds={} operations={} acknowledged={} read={} failed={} wall_ms={}",
            self.virtual_ms,
            self.seeds,
            self.operations,
            self.acked,
            self.read,
            self.failed.len(),
            self.began.elapsed().as_millis(),
        );
        for kind in KINDS {
            line.push_str(&format!(" fault.{kind:?}={}", self.faults.get(&kind).unwrap_or(&0)));
        }
        line
    }

    pub fn assert_clean(&self) {
        assert!(self.failed.is_empty(), "anomalies with seeds {:?}", self.failed);
        assert!(self.idle.is_empty(), "too little went on with seeds {:?}", self.idle);
    }
}
