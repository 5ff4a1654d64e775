//! Which units of an arena are taken: runs of 1, 2, 4 … 64 units, aligned to their own length.

/// A bitmap of units; a set bit is taken.
pub(super) struct Units {
    words: Vec<u64>,
    free: usize,
    cursor: usize,
}

impl Units {
    pub(super) fn new(count: usize) -> Self {
        let mut words = vec![0u64; count.div_ceil(64)];
        if !count.is_multiple_of(64)
            && let Some(last) = words.last_mut()
        {
            *last = !0 << (count % 64);
        }
        Self {
            words,
            free: count,
            cursor: 0,
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Takes a free run of `run` units (a power of two up to 64) and returns its first.
    pub(super) fn take(&mut self, run: usize) -> Option<usize> {
        assert!(run.is_power_of_two() && run <= 64);
        if self.free < run {
            return None;
        }
        let mask = if run == 64 { !0 } else { (1u64 << run) - 1 };
        for step in 0..self.words.len() {
            let index = (self.cursor + step) % self.words.len();
            let word = self.words[index];
            if word == !0 {
                continue;
            }
            if let Some(shift) = (0..64).step_by(run).find(|shift| word & (mask << shift) == 0) {
                self.words[index] |= mask << shift;
                self.free -= run;
                self.cursor = index;
                return Some(index * 64 + shift);
            }
        }
        None
    }

    pub(super) fn give_back(&mut self, first: usize, run: usize) {
        let mask = if run == 64 { !0 } else { (1u64 << run) - 1 };
        let (index, shift) = (first / 64, first % 64);
        assert_eq!(
            self.words[index] & (mask << shift),
            mask << shift,
            "units given back twice"
        );
        self.words[index] &= !(mask << shift);
        self.free += run;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_disjoint_aligned_and_all_memory_comes_back() {
        let mut units = Units::new(100);
        let mut taken = Vec::new();
        let mut seed = 1u64;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let run = 1usize << ((seed >> 33) % 6);
            match units.take(run) {
                Some(first) if seed >> 60 != 0 => taken.push((first, run)),
                Some(first) => units.give_back(first, run),
                None => {
                    if !taken.is_empty() {
                        let (first, run) = taken.swap_remove(seed as usize % taken.len());
                        units.give_back(first, run);
                    }
                }
            }
            let mut seen = [false; 100];
            for &(first, run) in &taken {
                assert_eq!(first % run, 0);
                for slot in &mut seen[first..first + run] {
                    assert!(!std::mem::replace(slot, true));
                }
            }
        }
        for (first, run) in taken {
            units.give_back(first, run);
        }
        assert_eq!(units.free(), 100);
    }
}
