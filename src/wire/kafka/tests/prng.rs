//! A seeded source of values: xorshift64*, so that a failing seed fails again.

pub struct Prng {
    state: u64,
    /// Array elements that may still be made, so that nesting stays finite and frames stay small.
    elements_left: usize,
}

impl Prng {
    pub fn new(seed: u64) -> Prng {
        let mut prng = Prng {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            elements_left: 400,
        };
        // Near seeds begin alike.
        for _ in 0..4 {
            prng.next();
        }
        prng
    }

    pub fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Bits for a scalar: edges often, anything otherwise.
    pub fn scalar(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => self.next() & 0x7f,
            3 => u64::MAX >> (1 + self.below(63)),
            _ => self.next(),
        }
    }

    pub fn uuid(&mut self) -> [u8; 16] {
        let halves = (u128::from(self.next()) << 64) | u128::from(self.next());
        halves.to_be_bytes()
    }

    /// How many elements the next array has: mostly few, often none, now and then many.
    pub fn count(&mut self) -> usize {
        let wanted = match self.below(16) {
            0..4 => 0,
            15 => 130 + self.below(70),
            _ => 1 + self.below(3),
        };
        let count = wanted.min(self.elements_left);
        self.elements_left -= count;
        count
    }

    fn length(&mut self) -> usize {
        match self.below(16) {
            0..3 => 0,
            15 => 126 + self.below(200),
            _ => 1 + self.below(12),
        }
    }

    pub fn string(&mut self) -> String {
        let alphabet = ['a', 'Z', '0', '.', '_', '-', ' ', 'é', '卡', '🦀'];
        (0..self.length())
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        (0..self.length()).map(|_| self.next() as u8).collect()
    }
}
