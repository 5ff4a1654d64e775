//! How fast what is to be stored goes to the segments.

use std::rc::Rc;

use crate::base::sync::{Budget, Notify, Permit, race};

/// Bytes of hurried writes in flight, of one shard and directory.
const HURRIED_BYTES_MAX: u64 = 8 << 20;
/// The same of calm ones.
const CALM_BYTES_MAX: u64 = 256 << 10;

/// What is stored calmly while it is no more than this part of what may wait, and no more than so much.
const CALM_PART: u64 = 4;
const CALM_QUEUED_BYTES_MAX: u64 = 32 << 20;

/// How large the writes of a partition are, and how many go side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Nobody waits for it. A flush of the device, every commit's, waits for all writes before it: of calm ones it finds 256 KiB, at most.
    Calm,
    /// Somebody waits for the memory it takes, for a commit that it is part of, or for an end.
    Hurried,
}

impl Pace {
    /// While `queued` bytes wait for the disk, of `queued_max` at which appends wait for it, and with somebody who waits or without.
    pub fn of(queued: u64, queued_max: u64, is_awaited: bool) -> Self {
        let calm_max = (queued_max / CALM_PART).min(CALM_QUEUED_BYTES_MAX);
        match queued > calm_max || is_awaited {
            true => Self::Hurried,
            false => Self::Calm,
        }
    }

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
    /// Waits until so many bytes may be written. Whoever waits for a calm turn waits for a hurried one once all are to hurry, or this one.
    pub async fn turn(&self, bytes: u64, pace: Pace, hurry: &Notify) -> Permit {
        if pace == Pace::Calm {
            let calm = async { Some(self.calm.acquire(bytes).await) };
            let hurried = async {
                race(self.hurry.notified(), hurry.notified()).await;
                None
            };
            if let Some(turn) = race(calm, hurried).await {
                return turn;
            }
        }
        self.hurried.acquire(bytes).await
    }

    /// Somebody waits for all that is to be stored.
    pub fn hurry(&self) {
        self.hurry.notify();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::base::sync::{join_all, race};
    use crate::io::Env;
    use crate::io::sim::{Options, World};

    #[test]
    fn what_waits_is_stored_in_a_hurry_long_before_appends_wait_for_it() {
        for queued_max in [1 << 20, 8 << 20, 64 << 20, 512 << 20] {
            assert_eq!(Pace::of(0, queued_max, false), Pace::Calm);
            assert_eq!(Pace::of(0, queued_max, true), Pace::Hurried);
            let calm = (1..).take_while(|mib| Pace::of(mib << 20, queued_max, false) == Pace::Calm);
            let calm_max = (calm.count() as u64) << 20;
            assert!(
                calm_max * 2 < queued_max && calm_max <= 32 << 20,
                "{calm_max} of {queued_max}"
            );
        }
    }

    #[test]
    fn calm_writes_wait_for_those_before_until_somebody_hurries_them() {
        World::new(1, Options::default()).block_on(0, |env| async move {
            let (writes, none) = (Writes::default(), Notify::default());
            let part = Pace::Calm.write_bytes_max();
            let first = writes.turn(part, Pace::Calm, &none).await;
            let _hurried = writes.turn(Pace::Hurried.write_bytes_max(), Pace::Hurried, &none).await;
            let later = || env.sleep_until(env.now().plus_ms(10));
            let (own, mut told) = (Notify::default(), Vec::new());
            let hurries: [fn(&Writes, &Notify); 3] = [|_, _| {}, |all, _| all.hurry(), |_, own| own.notify()];
            for hurry in hurries {
                let is_hurried = Cell::new(false);
                let second = async {
                    drop(writes.turn(part, Pace::Calm, &own).await);
                    is_hurried.get()
                };
                let time_over = async {
                    later().await;
                    is_hurried.set(true);
                    hurry(&writes, &own);
                    later().await;
                    false
                };
                told.push(race(second, time_over).await);
            }
            assert_eq!(told, [false, true, true]);
            drop(first);
            // Small ones of many logs go side by side.
            let turns = (0..8).map(|_| writes.turn(part / 8, Pace::Calm, &none));
            assert_eq!(join_all(turns.collect()).await.len(), 8);
        });
    }
}
