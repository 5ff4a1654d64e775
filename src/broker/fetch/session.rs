//! Incremental fetch sessions (KIP-227): the broker keeps what a client fetches, the client sends what changed, the answer
//! tells what changed. Pure; `now_ms` comes from the caller.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::ids::TopicId;
use crate::cluster::TOPIC_NAME_BYTES_MAX;

/// The epoch of a request that opens a session.
pub const EPOCH_INITIAL: i32 = 0;
/// The epoch of a request outside of any session, or that ends one.
pub const EPOCH_FINAL: i32 = -1;

/// How the client named a topic: by name up to version 12, by id since.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    pub topic: TopicKey,
    pub partition: i32,
}

impl Key {
    /// No topic has a longer name: a session does not keep one.
    fn is_small(&self) -> bool {
        match &self.topic {
            TopicKey::Name(name) => name.len() <= TOPIC_NAME_BYTES_MAX,
            TopicKey::Id(_) => true,
        }
    }
}

/// What a client wants of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    pub offset: i64,
    pub bytes_max: i32,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
}

/// What the client was told last of one partition; an answer without news leaves the partition out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    pub high_watermark: i64,
    pub log_start: i64,
}

/// Never what a partition has: the next answer carries it.
const NOTHING_TOLD: Told = Told {
    high_watermark: -1,
    log_start: -1,
};

struct Entry {
    key: Key,
    want: Want,
    told: Told,
}

struct Session {
    /// Of the next request.
    epoch: i32,
    by_id: bool,
    used_ms: u64,
    /// By turn: a partition that gave data goes behind the others, so that a small limit starves none.
    turns: BTreeMap<u64, Entry>,
    places: BTreeMap<Key, u64>,
    next_turn: u64,
}

impl Session {
    fn put(&mut self, key: Key, want: Want) {
        if let Some(turn) = self.places.get(&key) {
            if let Some(entry) = self.turns.get_mut(turn) {
                entry.want = want;
            }
            return;
        }
        self.insert(Entry {
            key,
            want,
            told: NOTHING_TOLD,
        });
    }

    fn insert(&mut self, entry: Entry) {
        self.places.insert(entry.key.clone(), self.next_turn);
        self.turns.insert(self.next_turn, entry);
        self.next_turn += 1;
    }

    fn remove(&mut self, key: &Key) {
        if let Some(turn) = self.places.remove(key) {
            self.turns.remove(&turn);
        }
    }

    fn wants(&self) -> Vec<(Key, Want)> {
        self.turns
            .values()
            .map(|entry| (entry.key.clone(), entry.want))
            .collect()
    }
}

/// What a request says about sessions.
pub struct Opening {
    pub session_id: i32,
    pub epoch: i32,
    pub by_id: bool,
    pub wants: Vec<(Key, Want)>,
    pub forgotten: Vec<Key>,
}

/// What is to be read and how to answer.
#[derive(PartialEq, Eq, Debug)]
pub struct Plan {
    pub wants: Vec<(Key, Want)>,
    pub answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Everything, outside of any session.
    Sessionless,
    /// Everything, and a new session if there is room (`open`).
    Opens { by_id: bool },
    /// What changed, in this session.
    Incremental { session_id: i32 },
}

/// Why a request does not fit its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionError {
    NotFound,
    WrongEpoch,
    TopicIdMismatch,
}

/// How much the cache may hold.
#[derive(Clone, Copy, Debug)]
pub struct CacheBounds {
    /// `max.incremental.fetch.session.cache.slots`
    pub sessions_max: usize,
    /// In all sessions together.
    pub partitions_max: usize,
    /// In one session.
    pub session_partitions_max: usize,
    /// A session unused for so long gives way to a new one.
    pub idle_ms: u64,
}

/// The sessions of one shard. A client whose connection moved to another shard is told NotFound and opens a new one.
pub struct Sessions {
    bounds: CacheBounds,
    partition_count: usize,
    sessions: BTreeMap<i32, Session>,
}

impl Sessions {
    pub fn new(bounds: CacheBounds) -> Self {
        Self {
            bounds,
            partition_count: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// The partitions that a session has, and the bytes of their topics' names.
    pub fn size_of(&self, session_id: i32) -> (usize, usize) {
        let Some(session) = self.sessions.get(&session_id) else {
            return (0, 0);
        };
        let name_bytes = |entry: &Entry| match &entry.key.topic {
            TopicKey::Name(name) => name.len(),
            TopicKey::Id(_) => 0,
        };
        let name_bytes = match session.by_id {
            true => 0,
            false => session.turns.values().map(name_bytes).sum(),
        };
        (session.turns.len(), name_bytes)
    }

    /// What a request is to read; an incremental one changes its session first. A session that outgrows the cache ends, and its
    /// client is answered as one that gets none.
    pub fn plan(&mut self, opening: Opening, now_ms: u64) -> Result<Plan, SessionError> {
        let is_small = opening.wants.iter().all(|(key, _)| key.is_small());
        if opening.epoch == EPOCH_INITIAL || opening.epoch == EPOCH_FINAL {
            self.close(opening.session_id);
            let answer = match opening.epoch {
                EPOCH_INITIAL if is_small => Answer::Opens { by_id: opening.by_id },
                _ => Answer::Sessionless,
            };
            return Ok(Plan {
                wants: opening.wants,
                answer,
            });
        }
        let session_id = opening.session_id;
        let session = self.sessions.get_mut(&session_id).ok_or(SessionError::NotFound)?;
        if session.epoch != opening.epoch {
            return Err(SessionError::WrongEpoch);
        }
        if session.by_id != opening.by_id {
            return Err(SessionError::TopicIdMismatch);
        }
        let before = session.turns.len();
        opening.forgotten.iter().for_each(|key| session.remove(key));
        opening.wants.into_iter().for_each(|(key, want)| session.put(key, want));
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.used_ms = now_ms;
        let wants = session.wants();
        self.partition_count = self.partition_count - before + wants.len();
        let has_room = is_small
            && wants.len() <= self.bounds.session_partitions_max
            && self.partition_count <= self.bounds.partitions_max;
        if wants.is_empty() || !has_room {
            self.close(session_id);
            return Ok(Plan {
                wants,
                answer: Answer::Sessionless,
            });
        }
        Ok(Plan {
            wants,
            answer: Answer::Incremental { session_id },
        })
    }

    /// Opens a session over what a full answer told; its id, or 0 where there is no room.
    pub fn open(
        &mut self,
        by_id: bool,
        told: Vec<(Key, Want, Told)>,
        now_ms: u64,
        mut random: impl FnMut() -> u64,
    ) -> i32 {
        if told.is_empty() || self.bounds.sessions_max == 0 {
            return 0;
        }
        if self.sessions.len() >= self.bounds.sessions_max && !self.evict(now_ms) {
            return 0;
        }
        if self.partition_count + told.len() > self.bounds.partitions_max {
            return 0;
        }
        let mut session = Session {
            epoch: EPOCH_INITIAL + 1,
            by_id,
            used_ms: now_ms,
            turns: BTreeMap::new(),
            places: BTreeMap::new(),
            next_turn: 0,
        };
        for (key, want, told) in told {
            session.remove(&key);
            session.insert(Entry { key, want, told });
        }
        // Few tries: ids are sparse among 2^31.
        let id = (0..8)
            .map(|_| (random() & 0x7fff_ffff) as i32)
            .find(|id| *id != 0 && !self.sessions.contains_key(id));
        let Some(id) = id else { return 0 };
        self.partition_count += session.turns.len();
        self.sessions.insert(id, session);
        id
    }

    /// Notes what an incremental answer found; whether the answer is to carry the partition.
    pub fn tell(&mut self, session_id: i32, key: &Key, told: Told, has_data: bool, failed: bool) -> bool {
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return true;
        };
        let Some(turn) = session.places.get(key).copied() else {
            return true;
        };
        let Some(mut entry) = session.turns.remove(&turn) else {
            return true;
        };
        let changed = has_data || failed || entry.told != told;
        entry.told = if failed { NOTHING_TOLD } else { told };
        if has_data {
            session.insert(entry);
        } else {
            session.turns.insert(turn, entry);
        }
        changed
    }

    fn close(&mut self, session_id: i32) {
        if let Some(session) = self.sessions.remove(&session_id) {
            self.partition_count -= session.turns.len();
        }
    }

    /// Removes the session that was unused longest, if that is long enough.
    fn evict(&mut self, now_ms: u64) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used_ms);
        let Some((id, session)) = oldest else { return false };
        if now_ms.saturating_sub(session.used_ms) < self.bounds.idle_ms {
            return false;
        }
        let id = *id;
        self.close(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> Key {
        Key {
            topic: TopicKey::Name("t".into()),
            partition,
        }
    }

    fn want(offset: i64) -> Want {
        Want {
            offset,
            bytes_max: 100,
            leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn told(high_watermark: i64) -> Told {
        Told {
            high_watermark,
            log_start: 0,
        }
    }

    fn request(session_id: i32, epoch: i32, wants: Vec<(Key, Want)>, forgotten: Vec<Key>) -> Opening {
        Opening {
            session_id,
            epoch,
            by_id: false,
            wants,
            forgotten,
        }
    }

    fn sessions(sessions_max: usize) -> Sessions {
        Sessions::new(CacheBounds {
            sessions_max,
            partitions_max: 10,
            session_partitions_max: 8,
            idle_ms: 1000,
        })
    }

    fn open(cache: &mut Sessions, partitions: std::ops::Range<i32>, id: u64, now_ms: u64) -> i32 {
        let all = partitions.map(|p| (key(p), want(0), told(5))).collect();
        cache.open(false, all, now_ms, || id)
    }

    fn places(plan: &Plan) -> Vec<i32> {
        plan.wants.iter().map(|(key, _)| key.partition).collect()
    }

    #[test]
    fn a_session_remembers_adds_updates_and_forgets() {
        let mut cache = sessions(5);
        assert_eq!(open(&mut cache, 0..3, 7, 0), 7);
        let plan = cache
            .plan(request(7, 1, vec![], vec![]), 1)
            .expect("the session is there");
        assert_eq!(places(&plan), [0, 1, 2]);
        let plan = cache
            .plan(
                request(7, 2, vec![(key(1), want(9)), (key(4), want(0))], vec![key(0)]),
                2,
            )
            .expect("the session is there");
        assert_eq!(plan.wants, [(key(1), want(9)), (key(2), want(0)), (key(4), want(0))]);
        assert_eq!(plan.answer, Answer::Incremental { session_id: 7 });
    }

    #[test]
    fn wrong_ids_epochs_and_kinds_of_name_are_told_apart() {
        let mut cache = sessions(5);
        open(&mut cache, 0..1, 7, 0);
        assert_eq!(
            cache.plan(request(8, 1, vec![], vec![]), 0),
            Err(SessionError::NotFound)
        );
        assert_eq!(
            cache.plan(request(7, 2, vec![], vec![]), 0),
            Err(SessionError::WrongEpoch)
        );
        let by_id = Opening {
            by_id: true,
            ..request(7, 1, vec![], vec![])
        };
        assert_eq!(cache.plan(by_id, 0), Err(SessionError::TopicIdMismatch));
        assert!(cache.plan(request(7, 1, vec![], vec![]), 0).is_ok());
        assert_eq!(
            cache.plan(request(7, 1, vec![], vec![]), 0),
            Err(SessionError::WrongEpoch)
        );
    }

    #[test]
    fn only_news_is_told_and_an_error_is_told_until_it_is_gone() {
        let mut cache = sessions(5);
        open(&mut cache, 0..2, 7, 0);
        assert!(!cache.tell(7, &key(0), told(5), false, false));
        assert!(cache.tell(7, &key(0), told(6), false, false));
        assert!(!cache.tell(7, &key(0), told(6), false, false));
        assert!(cache.tell(7, &key(0), told(6), false, true));
        assert!(
            cache.tell(7, &key(0), told(6), false, false),
            "the end of an error is news"
        );
        assert!(!cache.tell(7, &key(0), told(6), false, false));
    }

    #[test]
    fn a_partition_that_gave_data_goes_last() {
        let mut cache = sessions(5);
        open(&mut cache, 0..3, 7, 0);
        assert!(cache.tell(7, &key(0), told(6), true, false));
        let plan = cache.plan(request(7, 1, vec![], vec![]), 1).expect("there");
        assert_eq!(places(&plan), [1, 2, 0]);
    }

    #[test]
    fn the_cache_is_bounded_and_gives_way_to_new_sessions_only_when_old_ones_rest() {
        let mut cache = sessions(2);
        assert_eq!(open(&mut cache, 0..1, 1, 0), 1);
        assert_eq!(open(&mut cache, 0..1, 2, 10), 2);
        assert_eq!(open(&mut cache, 0..1, 3, 999), 0);
        assert_eq!(open(&mut cache, 0..1, 3, 1000), 3);
        assert_eq!(
            cache.plan(request(1, 1, vec![], vec![]), 1000),
            Err(SessionError::NotFound)
        );
        assert_eq!(open(&mut cache, 0..10, 4, 5000), 0, "too many partitions in all");
    }

    #[test]
    fn a_session_that_outgrows_its_bounds_ends_with_a_full_answer() {
        let mut cache = sessions(5);
        let adding = |from: i32, count| (from..from + count).map(|p| (key(p), want(0))).collect();
        for (others, grows_by) in [(0, 6), (6, 2)] {
            open(&mut cache, 0..others, 8, 0);
            assert_eq!(open(&mut cache, 0..3, 7, 0), 7);
            let plan = cache.plan(request(7, 1, adding(3, 1), vec![]), 1).expect("there");
            assert_eq!(plan.answer, Answer::Incremental { session_id: 7 });
            let plan = cache
                .plan(request(7, 2, adding(4, grows_by), vec![]), 1)
                .expect("there");
            assert_eq!(
                (plan.wants.len(), plan.answer),
                (4 + grows_by as usize, Answer::Sessionless)
            );
            assert_eq!(cache.partition_count, others as usize);
            let gone = cache.plan(request(7, 3, vec![], vec![]), 1);
            assert_eq!(gone, Err(SessionError::NotFound));
        }
    }

    #[test]
    fn a_session_keeps_no_name_that_is_no_topics() {
        let mut cache = sessions(5);
        let long = Key {
            topic: TopicKey::Name("t".repeat(250).into()),
            partition: 0,
        };
        let wants = vec![(long, want(0))];
        let plan = cache.plan(request(0, EPOCH_INITIAL, wants.clone(), vec![]), 0);
        assert_eq!(plan.map(|plan| plan.answer), Ok(Answer::Sessionless));
        open(&mut cache, 0..1, 7, 0);
        let plan = cache.plan(request(7, 1, wants, vec![]), 0);
        assert_eq!(plan.map(|plan| plan.answer), Ok(Answer::Sessionless));
        assert!(cache.sessions.is_empty());
    }

    #[test]
    fn full_requests_end_the_session_they_name_and_an_emptied_one_ends_itself() {
        let mut cache = sessions(5);
        open(&mut cache, 0..2, 7, 0);
        let plan = cache.plan(request(7, EPOCH_FINAL, vec![(key(0), want(1))], vec![]), 1);
        assert_eq!(plan.map(|plan| plan.answer), Ok(Answer::Sessionless));
        assert!(cache.sessions.is_empty());
        open(&mut cache, 0..1, 8, 0);
        let plan = cache.plan(request(8, 1, vec![], vec![key(0)]), 1);
        assert_eq!(plan.map(|plan| plan.answer), Ok(Answer::Sessionless));
        assert_eq!((cache.sessions.len(), cache.partition_count), (0, 0));
    }
}
