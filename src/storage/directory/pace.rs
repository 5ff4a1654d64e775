//! How fast what is to be stored goes to the segments.

use std::rc::Rc;

use crate::base::sync::{Budget, Notify, Permit, race};

/// Bytes of hurried writes in flight, of one shard and directory.
const HURRIED_BYTES_MAX: u64 = 8 << 20;
/// The same of calm ones.
const CALM_BYTES_MAX: u64 = 256 << 10;

/// How large the writes of a partition are, and how many go side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Nobody waits for it. A flush of the device, every commit's, waits for all writes before it: of calm ones it finds 256 KiB, at most.
    Calm,
    /// Somebody waits for the memory it takes, for a commit that it is part of, or for an end.
    Hurried,
}

impl Pace {
    pub fn writes_max(self) -> usize {
        match self {
            Self::Calm => 1,
            Self::Hurried => 4,
        }
    }

    pub fn write_bytes_max(self) -> u64 {
        match self {
            Self::Calm => CALM_BYTES_MAX,
            Self::Hurried => 1 << 20,
        }
    }
}

/// The turns of the segments of one shard and directory.
pub struct Writes {
    hurried: Rc<Budget>,
    calm: Rc<Budget>,
    hurry: Notify,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            hurried: Budget::new(HURRIED_BYTES_MAX),
            calm: Budget::in_order(CALM_BYTES_MAX),
            hurry: Notify::default(),
        }
    }
}

impl Writes {
    /// Waits until so many bytes may be written.
    pub async fn turn(&self, bytes: u64, pace: Pace) -> Permit {
        if pace == Pace::Calm {
            let calm = async { Some(self.calm.acquire(bytes).await) };
            let hurried = async {
                self.hurry.notified().await;
                None
            };
            if let Some(turn) = race(calm, hurried).await {
                return turn;
            }
        }
        self.hurried.acquire(bytes).await
    }

    /// Somebody waits for one of those who wait for a calm turn: they wait no more for that.
    pub fn hurry(&self) {
        self.hurry.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::{join_all, race};
    use crate::io::Env;
    use crate::io::sim::{Options, World};

    #[test]
    fn a_calm_write_waits_for_the_one_before_and_a_hurried_one_does_not() {
        World::new(1, Options::default()).block_on(0, |env| async move {
            let writes = Writes::default();
            let part = Pace::Calm.write_bytes_max();
            let first = writes.turn(part, Pace::Calm).await;
            let _hurried = writes.turn(Pace::Hurried.write_bytes_max(), Pace::Hurried).await;
            let second = async {
                let _turn = writes.turn(part, Pace::Calm).await;
                true
            };
            let time_over = async {
                env.sleep_until(env.now().plus_ms(10)).await;
                false
            };
            assert!(!race(second, time_over).await);
            let hurries = async {
                env.sleep_until(env.now().plus_ms(10)).await;
                writes.hurry();
                std::future::pending().await
            };
            drop(race(writes.turn(part, Pace::Calm), hurries).await);
            drop(first);
            // Small ones of many logs go side by side.
            let turns = (0..8).map(|_| writes.turn(part / 8, Pace::Calm));
            assert_eq!(join_all(turns.collect()).await.len(), 8);
        });
    }
}
