//! Randomness from a printed seed (SplitMix64).

pub struct Random(u64);

impl Random {
    /// The seed is `RINGTAIL_TEST_SEED`, or made of the clock; it is printed, and cargo shows it when the test fails.
    pub fn seeded(test: &str) -> Random {
        let seed = match std::env::var("RINGTAIL_TEST_SEED") {
            Ok(seed) => seed.parse().expect("RINGTAIL_TEST_SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH
                .elapsed()
                .expect("the clock is past 1970")
                .as_nanos() as u64,
        };
        println!("{test}: RINGTAIL_TEST_SEED={seed}");
        Random(seed)
    }

    pub fn fixed(seed: u64) -> Random {
        Random(seed)
    }

    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `[start, end)`.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.u64() % (end - start)
    }
}
