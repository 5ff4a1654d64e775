//! How much of a shard's memory requests and answers may take.

use std::rc::Rc;

use crate::base::sync::{Budget, Permit, race};

/// The budgets of one shard. What does not fit waits, and with it the socket it came from.
pub struct Memory {
    requests: Rc<Budget>,
    /// One request at a time may go over the budget: otherwise a few large frames, each half arrived, would wait for each
    /// other until their time is over.
    overdraft: Rc<Budget>,
    responses: Rc<Budget>,
}

/// What memory is short for: then peers that hold some of it without getting on lose it sooner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pressure {
    pub requests: bool,
    pub responses: bool,
}

impl Memory {
    /// A frame up to this size is counted when it is whole; a larger one while it arrives.
    pub const UNCOUNTED_BYTES: usize = 64 << 10;

    /// `bytes` for requests, and as much for answers.
    pub fn new(bytes: u64) -> Self {
        Self {
            requests: Budget::new(bytes),
            overdraft: Budget::new(1),
            responses: Budget::new(bytes),
        }
    }

    /// Room for `bytes` of a request, or the one overdraft.
    pub async fn request(&self, bytes: u64) -> Permit {
        if let Some(permit) = self.requests.try_acquire(bytes) {
            return permit;
        }
        race(self.requests.acquire(bytes), self.overdraft.acquire(1)).await
    }

    /// Room for what a fetch reads, until it is sent.
    pub async fn response(&self, bytes: u64) -> Permit {
        self.responses.acquire(bytes).await
    }

    /// The budget of answers, for the shard's reads.
    pub fn responses(&self) -> &Rc<Budget> {
        &self.responses
    }

    /// Which of the budgets were short since the last call.
    pub fn pressure(&self) -> Pressure {
        Pressure {
            requests: self.requests.was_short(),
            responses: self.responses.was_short(),
        }
    }

    /// What requests may take.
    pub fn request_bytes(&self) -> u64 {
        self.requests.limit()
    }

    /// Whether requests wait for memory.
    pub fn is_awaited(&self) -> bool {
        self.requests.is_awaited()
    }

    pub fn used_bytes(&self) -> u64 {
        self.requests.used() + self.responses.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn one_request_at_a_time_goes_over_the_budget() {
        let memory = Memory::new(100);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(_all) = pin!(memory.request(100)).poll(&mut cx) else {
            panic!("there is room")
        };
        let Poll::Ready(over) = pin!(memory.request(50)).poll(&mut cx) else {
            panic!("the overdraft is free")
        };
        let mut third = pin!(memory.request(1));
        assert!(third.as_mut().poll(&mut cx).is_pending());
        drop(over);
        assert!(third.as_mut().poll(&mut cx).is_ready());
    }
}
