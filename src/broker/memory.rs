//! How much of a shard's memory requests and answers may take.
//!
//! | bytes | counted in | from | until |
//! |---|---|---|---|
//! | of a receive buffer, beyond its first 4 KiB | `arriving` | the buffer is made | it is given back or made smaller |
//! | of a whole request | `requests` | its last byte is here | its answer is known |
//! | of batches that a fetch reads | `answers` | before they are read | they are sent |
//! | of any other answer, by estimate | `answers` | before it is made | it is sent |
//!
//! What does not fit waits, and with it the socket it came from. All of it is taken in the name of the peer's address, which
//! gets no more than what is left beside it (`Budget`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::base::sync::{Budget, Holder, Permit, race};

/// The budgets of one shard.
pub struct Memory {
    requests: Rc<Budget>,
    /// Receive buffers, which a peer fills for nothing until its request is whole.
    arriving: Rc<Budget>,
    /// One request at a time may go over the budgets: otherwise a few large frames, each half arrived, would wait for each
    /// other until their time is over.
    overdraft: Rc<Budget>,
    answers: Rc<Budget>,
    /// The part of the answers that peers may hold that have read little so far: whoever asks for much and reads nothing
    /// never gets at more.
    unproven: Rc<Budget>,
}

/// What memory is short for: then peers that hold much of it without getting on lose it sooner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    pub requests: bool,
    pub responses: bool,
}

/// Which budget of answers a peer's are counted in, and in whose name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reader {
    pub holder: Holder,
    pub is_proven: bool,
}

/// What the receive buffer of one connection takes.
#[derive(Default)]
pub struct Room {
    counted: Option<Permit>,
    overdraft: Option<Permit>,
}

/// Receive buffers of a shard take no more in sum, but for the overdraft.
const ARRIVING_BYTES_MAX: u64 = 64 << 20;
/// Nor do the answers to unproven peers.
const UNPROVEN_BYTES_MAX: u64 = 48 << 20;
/// An answer up to this size waits for nothing: a connection has one of them, or as many as it has produce requests in flight.
const SMALL_ANSWER_BYTES: u64 = 4 << 10;

/// The bits of an IPv6 address that a peer does not choose: whoever has a network has 2^64 addresses.
const NETWORK_BITS: u128 = u128::MAX << 64;

/// The network that an address counts with: its own for IPv4, also for one of a dual-stack listener; the /64 for IPv6.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK_BITS).into(),
        v4 => v4,
    }
}

/// In whose name a peer's memory is taken.
pub fn holder_of(address: &SocketAddr) -> Holder {
    Holder(match network_of(address.ip()) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    })
}

impl Memory {
    /// `bytes` for requests, and as much for answers.
    pub fn new(bytes: u64) -> Self {
        let answers = Budget::new(bytes);
        Self {
            requests: Budget::new(bytes),
            arriving: Budget::new((bytes / 2).min(ARRIVING_BYTES_MAX)),
            overdraft: Budget::new(1),
            unproven: Budget::part_of(&answers, (bytes / 2).min(UNPROVEN_BYTES_MAX)),
            answers,
        }
    }

    /// Whether receive buffers may be larger than they have to be.
    pub fn is_plentiful(&self) -> bool {
        self.arriving.used() < self.arriving.limit() / 2
    }

    /// `try_grow` for what need not be: it is no sign of a shortage that there is no room.
    pub fn try_widen(&self, holder: Holder, room: &mut Room, bytes: u64) -> bool {
        let more = bytes.saturating_sub(room.counted_bytes());
        self.is_plentiful() && self.arriving.has_room(holder, more) && self.try_grow(holder, room, bytes)
    }

    /// Makes `room` that of a buffer of `bytes`, if that is free now.
    pub fn try_grow(&self, holder: Holder, room: &mut Room, bytes: u64) -> bool {
        let Some(more) = bytes.checked_sub(room.counted_bytes()).filter(|more| *more > 0) else {
            return true;
        };
        let permit = self.arriving.try_acquire_for(holder, more);
        permit.map(|permit| room.put(permit)).is_some()
    }

    /// The same, for as long as it takes: or the overdraft, which is enough for the whole request.
    pub async fn grow(&self, holder: Holder, room: &mut Room, bytes: u64) {
        if room.overdraft.is_some() || self.try_grow(holder, room, bytes) {
            return;
        }
        let more = bytes.saturating_sub(room.counted_bytes());
        let within = async { Ok(self.arriving.acquire_for(holder, more).await) };
        match race(within, async { Err(self.overdraft.acquire_for(holder, 1).await) }).await {
            Ok(permit) => room.put(permit),
            Err(overdraft) => room.overdraft = Some(overdraft),
        }
    }

    /// Room for a whole request of `bytes`, or the one overdraft; the buffer it came in may have that already.
    pub async fn request(&self, holder: Holder, room: &mut Room, bytes: u64) -> Permit {
        if let Some(overdraft) = room.overdraft.take() {
            return overdraft;
        }
        if let Some(permit) = self.requests.try_acquire_for(holder, bytes) {
            return permit;
        }
        race(
            self.requests.acquire_for(holder, bytes),
            self.overdraft.acquire_for(holder, 1),
        )
        .await
    }

    /// Room for an answer of `bytes`, if it is there now or the answer is small.
    pub fn try_answer(&self, reader: Reader, bytes: u64) -> Option<Permit> {
        let budget = self.answers_for(reader);
        let permit = budget.try_acquire_for(reader.holder, bytes);
        permit.or_else(|| (bytes <= SMALL_ANSWER_BYTES).then(|| budget.overdraw(reader.holder, bytes)))
    }

    /// Room for an answer of `bytes` that is not made yet, for as long as it takes. None: it is small, and counts when it is made.
    pub async fn answer(&self, reader: Reader, bytes: u64) -> Option<Permit> {
        match bytes {
            ..=SMALL_ANSWER_BYTES => None,
            _ => Some(self.answers_for(reader).acquire_for(reader.holder, bytes).await),
        }
    }

    /// Counts an answer of `bytes` that is made, in the `room` that was taken for it.
    pub fn made(&self, reader: Reader, room: Option<Permit>, bytes: u64) -> Permit {
        let expected_bytes = room.as_ref().map_or(SMALL_ANSWER_BYTES, Permit::units);
        debug_assert!(bytes <= expected_bytes, "{bytes} bytes, {expected_bytes} expected");
        match room {
            Some(mut room) => {
                room.resize(bytes);
                room
            }
            None => self.answers_for(reader).overdraw(reader.holder, bytes),
        }
    }

    /// The `room` for an answer of `bytes` that is made, or as much if there is that now; none: make it again when there is.
    pub fn made_or_now(&self, reader: Reader, room: Option<Permit>, bytes: u64) -> Option<Permit> {
        match room {
            Some(room) if room.units() >= bytes => Some(self.made(reader, Some(room), bytes)),
            room => {
                drop(room);
                self.try_answer(reader, bytes)
            }
        }
    }

    fn answers_for(&self, reader: Reader) -> &Rc<Budget> {
        match reader.is_proven {
            true => &self.answers,
            false => &self.unproven,
        }
    }

    /// The budgets of answers, for the shard's reads: all, and the part of unproven peers.
    pub fn reads(&self) -> (Rc<Budget>, Rc<Budget>) {
        (self.answers.clone(), self.unproven.clone())
    }

    /// Which of the budgets were short since the last call.
    pub fn pressure(&self) -> Pressure {
        let arriving = self.arriving.was_short();
        let unproven = self.unproven.was_short();
        Pressure {
            requests: self.requests.was_short() || arriving,
            responses: self.answers.was_short() || unproven,
        }
    }

    /// What of `pressure` a holder is to feel: those who have little leave the others nothing to wait for.
    pub fn pressure_on(&self, holder: Holder, pressure: Pressure) -> Pressure {
        Pressure {
            requests: pressure.requests && (self.requests.is_greedy(holder) || self.arriving.is_greedy(holder)),
            responses: pressure.responses && (self.answers.is_greedy(holder) || self.unproven.is_greedy(holder)),
        }
    }

    /// What requests may take.
    pub fn request_bytes(&self) -> u64 {
        self.requests.limit()
    }

    /// Whether requests wait for memory.
    pub fn is_awaited(&self) -> bool {
        self.requests.is_awaited() || self.arriving.is_awaited()
    }

    pub fn used_bytes(&self) -> u64 {
        self.requests.used() + self.arriving.used() + self.answers.used()
    }
}

impl Room {
    pub fn counted_bytes(&self) -> u64 {
        self.counted.as_ref().map_or(0, Permit::units)
    }

    fn put(&mut self, permit: Permit) {
        match &mut self.counted {
            Some(counted) => counted.absorb(permit),
            empty => *empty = Some(permit),
        }
    }

    /// The buffer is made: it has so many bytes.
    pub fn settle(&mut self, bytes: u64) {
        match &mut self.counted {
            Some(counted) if bytes < counted.units() => match bytes {
                0 => self.counted = None,
                bytes => counted.resize(bytes),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const ONE: Holder = Holder(1);
    const OTHER: Holder = Holder(2);

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn reader(holder: Holder, is_proven: bool) -> Reader {
        Reader { holder, is_proven }
    }

    #[test]
    fn one_request_at_a_time_goes_over_the_budget() {
        let memory = Memory::new(100);
        let mut room = Room::default();
        let _all = now(memory.request(ONE, &mut room, 100)).expect("there is room");
        let over = now(memory.request(ONE, &mut room, 50)).expect("the overdraft is free");
        let mut cx = Context::from_waker(Waker::noop());
        let mut third = pin!(memory.request(ONE, &mut room, 1));
        assert!(third.as_mut().poll(&mut cx).is_pending());
        drop(over);
        assert!(third.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_large_frame_goes_over_the_budget_once_and_to_its_end() {
        let memory = Memory::new(100);
        let mut other = Room::default();
        assert!(memory.try_grow(OTHER, &mut other, 10));
        let mut room = Room::default();
        // Each step of its buffer, then the request itself.
        for bytes in [10, 20, 40, 80, 160] {
            assert!(now(memory.grow(ONE, &mut room, bytes)).is_some(), "{bytes}");
        }
        let request = now(memory.request(ONE, &mut room, 160)).expect("it has what it needs");
        let mut third = Room::default();
        assert!(now(memory.grow(OTHER, &mut third, 50)).is_none(), "one at a time");
        drop(request);
        assert!(now(memory.grow(OTHER, &mut third, 50)).is_some());
    }

    #[test]
    fn a_buffer_that_is_made_smaller_gives_back() {
        let memory = Memory::new(100);
        let mut room = Room::default();
        assert!(memory.try_grow(ONE, &mut room, 20));
        room.settle(5);
        assert_eq!(memory.used_bytes(), 5);
        assert!(memory.is_plentiful());
        assert!(!memory.try_widen(ONE, &mut room, 50) && !memory.pressure().requests);
        assert!(memory.try_widen(ONE, &mut room, 10));
        room.settle(0);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[test]
    fn unproven_peers_share_a_part_of_the_answers_and_small_answers_never_wait() {
        let memory = Memory::new(100 << 10);
        let unproven = memory.try_answer(reader(ONE, false), 50 << 10);
        assert!(unproven.is_some());
        assert!(
            memory.try_answer(reader(OTHER, false), 5 << 10).is_none(),
            "their part is used up"
        );
        let small = now(memory.answer(reader(OTHER, false), SMALL_ANSWER_BYTES)).expect("it is small");
        let small = memory.made(reader(OTHER, false), small, SMALL_ANSWER_BYTES);
        assert_eq!(memory.used_bytes(), 54 << 10, "and counted all the same");
        assert!(
            memory.try_answer(reader(OTHER, true), 5 << 10).is_some(),
            "proven ones have the rest"
        );
        let pressure = memory.pressure();
        assert!(pressure.responses && memory.pressure_on(ONE, pressure).responses);
        drop((unproven, small));
        assert_eq!(memory.used_bytes(), 0);
    }

    #[test]
    fn an_answer_beyond_its_room_has_to_find_as_much_or_is_made_again() {
        let memory = Memory::new(100 << 10);
        let who = reader(ONE, true);
        let room = || now(memory.answer(who, 30 << 10)).expect("there is room");
        let within = memory.made_or_now(who, room(), 10 << 10).expect("it has room");
        assert_eq!(memory.used_bytes(), 10 << 10);
        let beyond = memory.made_or_now(who, room(), 40 << 10);
        assert_eq!(
            beyond.map(|permit| permit.units()),
            Some(40 << 10),
            "its own room is given back first"
        );
        assert!(memory.made_or_now(who, room(), 90 << 10).is_none());
        assert_eq!(memory.used_bytes(), 10 << 10, "who waits holds nothing");
        drop(within);
    }

    #[test]
    fn who_has_an_ipv6_network_is_one_holder() {
        let of = |address: &str| holder_of(&SocketAddr::new(address.parse().expect("an address"), 9092));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::77"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
