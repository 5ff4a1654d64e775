//! What a pass decides, without doing it. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::io::Monotonic;
use crate::storage::verify::Problem;

/// Places remembered as told.
const KNOWN_MAX: usize = 10_000;
/// Nobody is asked to wait for less.
const WAIT_NS_MIN: u64 = 10_000_000;
/// What was not read in time is not made up for beyond this.
const ARREARS_NS_MAX: u64 = 1_000_000_000;

/// How fast bytes may be read.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: u64,
    /// When all that was read so far may have been read.
    due: Monotonic,
}

impl Throttle {
    pub fn new(bytes_per_second: u64, now: Monotonic) -> Self {
        assert!(bytes_per_second > 0, "a scrub that is off has no throttle");
        Self {
            bytes_per_second,
            due: now,
        }
    }

    /// `bytes` were read: until when to wait before the next.
    pub fn read(&mut self, bytes: u64, now: Monotonic) -> Option<Monotonic> {
        let took = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let begin = self.due.0.max(now.0.saturating_sub(ARREARS_NS_MAX));
        self.due = Monotonic(begin.saturating_add(u64::try_from(took).unwrap_or(u64::MAX)));
        (self.due.0 > now.0 + WAIT_NS_MIN).then_some(self.due)
    }
}

/// Damage that was told before.
#[derive(Debug, Default)]
pub struct Known(BTreeSet<(PathBuf, Option<u64>)>);

impl Known {
    /// Whether the problem is new; it counts as told from now on. When too many are known all of them are forgotten.
    pub fn is_news(&mut self, problem: &Problem) -> bool {
        if self.0.len() == KNOWN_MAX {
            self.0.clear();
        }
        self.0.insert((problem.file.clone(), problem.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spread_over_their_time_and_idle_time_is_not_saved_up() {
        let at = |ms: u64| Monotonic(ms * 1_000_000);
        let mut throttle = Throttle::new(1000, at(5000));
        assert_eq!(throttle.read(5, at(5000)), None, "too short a wait");
        assert_eq!(throttle.read(495, at(5000)), Some(at(5500)));
        assert_eq!(throttle.read(1000, at(5600)), Some(at(6500)));
        assert_eq!(throttle.read(1500, at(60_000)), Some(at(60_500)), "a second of arrears");
    }

    #[test]
    fn a_place_is_news_once() {
        let problem = |file: &str, position| Problem {
            file: file.into(),
            position,
            what: "rot".into(),
        };
        let mut known = Known::default();
        assert!(known.is_news(&problem("a", Some(1))));
        assert!(!known.is_news(&problem("a", Some(1))));
        assert!(known.is_news(&problem("a", Some(2))) && known.is_news(&problem("b", Some(1))));
        (0..KNOWN_MAX as u64).for_each(|at| assert!(known.is_news(&problem("c", Some(at)))));
        assert!(known.0.len() <= KNOWN_MAX);
    }
}
