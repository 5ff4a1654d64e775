//! Which requests fail, and how long each takes.

use std::ops::Range;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Read,
    Write,
    Flush,
}

/// Requests of one kind that fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub kind: Kind,
    /// Only those that touch these bytes. (A flush touches all.)
    pub range: Option<Range<u64>>,
    /// Only the one with this number, counted from 1 over those that match; else all.
    pub nth: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Pass,
    Fail,
}

#[derive(Default)]
pub struct Faults {
    rules: Vec<(Rule, u64)>,
    delay: Duration,
    is_off: bool,
}

impl Faults {
    pub fn add(&mut self, rule: Rule) {
        self.rules.push((rule, 0));
    }

    /// No rule, no delay. A device that is off stays so.
    pub fn heal(&mut self) {
        self.rules.clear();
        self.delay = Duration::ZERO;
    }

    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// How long a request that comes now takes besides.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    pub fn switch(&mut self, is_off: bool) {
        self.is_off = is_off;
    }

    /// The device has vanished: every request fails.
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// Judges a request; it counts for the rules that it matches.
    pub fn judge(&mut self, kind: Kind, touched: Range<u64>) -> Verdict {
        let mut fails = self.is_off;
        for (rule, count) in &mut self.rules {
            let within = rule
                .range
                .as_ref()
                .is_none_or(|range| kind == Kind::Flush || touched.start < range.end && range.start < touched.end);
            if rule.kind == kind && within {
                *count += 1;
                fails |= rule.nth.is_none_or(|nth| nth == *count);
            }
        }
        if fails { Verdict::Fail } else { Verdict::Pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: Kind, range: Option<Range<u64>>, nth: Option<u64>) -> Faults {
        let mut faults = Faults::default();
        faults.add(Rule { kind, range, nth });
        faults
    }

    #[test]
    fn a_rule_is_for_its_kind_and_its_bytes() {
        let mut faults = rule(Kind::Read, Some(4096..8192), None);
        assert_eq!(faults.judge(Kind::Read, 0..4096), Verdict::Pass);
        assert_eq!(faults.judge(Kind::Read, 8192..9000), Verdict::Pass);
        assert_eq!(faults.judge(Kind::Write, 4096..8192), Verdict::Pass);
        assert_eq!(faults.judge(Kind::Read, 0..4097), Verdict::Fail);
        assert_eq!(faults.judge(Kind::Read, 8191..9000), Verdict::Fail);
        faults.heal();
        assert_eq!(faults.judge(Kind::Read, 8191..9000), Verdict::Pass);
    }

    #[test]
    fn the_nth_alone_fails() {
        let mut faults = rule(Kind::Flush, None, Some(2));
        let verdicts: Vec<Verdict> = (0..4).map(|_| faults.judge(Kind::Flush, 0..0)).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Fail, Verdict::Pass, Verdict::Pass]);
    }

    #[test]
    fn off_fails_everything_until_on() {
        let mut faults = Faults::default();
        faults.switch(true);
        faults.heal();
        for kind in [Kind::Read, Kind::Write, Kind::Flush] {
            assert_eq!(faults.judge(kind, 0..512), Verdict::Fail);
        }
        faults.switch(false);
        assert_eq!(faults.judge(Kind::Write, 0..512), Verdict::Pass);
    }
}
