//! The answers that a connection owes, in the order of their requests.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::buffer::Piece;
use crate::base::planted::{Bug, planted};
use crate::base::soon::Soon;
use crate::base::sync::{Notify, Permit, Permits};

/// What a request comes to.
pub enum Reply {
    /// A whole response frame, with what it holds of the shard's memory until it is sent.
    Frame { pieces: Vec<Piece>, held: Permits },
    /// Nothing is owed (acks=0).
    Nothing,
    /// The connection is to be closed once all earlier answers are sent.
    Close,
}

struct Owed {
    /// Polled only by the connection's writer.
    reply: Soon<Reply>,
    /// The request's bytes count as in flight until the answer is known.
    _request: Option<Permit>,
    bytes: usize,
    alone: bool,
}

/// Answers are known out of order and leave in order. Bounded in number and request bytes by `room`.
pub struct Replies {
    queue: RefCell<VecDeque<Owed>>,
    bytes: Cell<usize>,
    alone: Cell<usize>,
    bounds: Bounds,
    pushed: Notify,
    popped: Notify,
}

/// How much one connection may have in flight.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub requests_max: usize,
    pub request_bytes_max: usize,
}

/// Answers that go out in one send.
#[derive(Default)]
pub struct Batch {
    pub pieces: Vec<Piece>,
    pub bytes: usize,
    pub held: Permits,
    pub close: bool,
}

/// A send is not made larger than this by adding further answers to it.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_PIECES: usize = 256;

impl Replies {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            queue: RefCell::default(),
            bytes: Cell::new(0),
            alone: Cell::new(0),
            bounds,
            pushed: Notify::default(),
            popped: Notify::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one is owed behind which no later request begins.
    pub fn is_alone(&self) -> bool {
        self.alone.get() > 0
    }

    /// Waits until a request of `bytes` may be dispatched: within the bounds, and behind every request that runs alone.
    pub async fn room(&self, bytes: usize) {
        self.popped
            .until(|| {
                let count = self.len();
                let fits = self.bytes.get().saturating_add(bytes) <= self.bounds.request_bytes_max || count == 0;
                !self.is_alone() && count < self.bounds.requests_max && fits
            })
            .await;
    }

    /// Adds the answer of the latest request. With `alone` no later request is dispatched before this answer is known.
    pub fn push(&self, reply: Soon<Reply>, request: Option<Permit>, bytes: usize, alone: bool) {
        let request = request.filter(|_| !matches!(reply, Soon::Known(_)));
        self.bytes.set(self.bytes.get() + bytes);
        self.alone.set(self.alone.get() + usize::from(alone));
        self.queue.borrow_mut().push_back(Owed {
            reply,
            _request: request,
            bytes,
            alone,
        });
        self.pushed.notify();
    }

    /// Waits for the next answers in order: at least one, and with it those behind that are known already.
    pub async fn next(&self) -> Batch {
        loop {
            let pushed = self.pushed.notified();
            if !self.is_empty() {
                let mut batch = Batch::default();
                poll_fn(|cx| self.poll_batch(cx, &mut batch)).await;
                return batch;
            }
            pushed.await;
        }
    }

    fn poll_batch(&self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
        let mut known = false;
        while batch.bytes < BATCH_BYTES && batch.pieces.len() < BATCH_PIECES && !batch.close {
            // The future is polled outside of the queue's borrow: it may run any code.
            let Some(mut owed) = self.queue.borrow_mut().pop_front() else {
                break;
            };
            match Pin::new(&mut owed.reply).poll(cx) {
                Poll::Pending => {
                    self.queue.borrow_mut().push_front(owed);
                    if planted(Bug::AnswersOutOfOrder) {
                        self.queue.borrow_mut().rotate_left(1);
                    }
                    break;
                }
                Poll::Ready(reply) => {
                    known = true;
                    self.settle(&owed);
                    batch.add(reply);
                }
            }
        }
        if known {
            self.popped.notify();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn settle(&self, owed: &Owed) {
        self.bytes.set(self.bytes.get() - owed.bytes);
        self.alone.set(self.alone.get() - usize::from(owed.alone));
    }
}

impl Batch {
    fn add(&mut self, reply: Reply) {
        match reply {
            Reply::Frame { pieces, held } => {
                self.bytes += pieces.iter().map(Piece::len).sum::<usize>();
                self.pieces.extend(pieces);
                self.held.extend(held);
            }
            Reply::Nothing => {}
            Reply::Close => self.close = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::{OneshotSender, oneshot};
    use bytes::Bytes;
    use std::pin::pin;
    use std::task::Waker;

    const BOUNDS: Bounds = Bounds {
        requests_max: 3,
        request_bytes_max: 100,
    };

    fn owe(replies: &Replies, bytes: usize, alone: bool) -> OneshotSender<Reply> {
        let (sender, receiver) = oneshot();
        replies.push(
            Soon::later(async move { receiver.await.unwrap_or(Reply::Close) }),
            None,
            bytes,
            alone,
        );
        sender
    }

    fn frame(text: &'static str) -> Reply {
        Reply::Frame {
            pieces: vec![Bytes::from_static(text.as_bytes()).into()],
            held: Permits::new(),
        }
    }

    fn text_of(batch: &Batch) -> Vec<u8> {
        let bytes = batch.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => &bytes[..],
            Piece::Pinned(_) => panic!("nothing is pinned here"),
        });
        bytes.collect::<Vec<_>>().concat()
    }

    fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let replies = Replies::new(BOUNDS);
        let (first, second, third) = (
            owe(&replies, 1, false),
            owe(&replies, 1, false),
            owe(&replies, 1, false),
        );
        third.send(frame("c"));
        second.send(frame("b"));
        assert!(poll(replies.next()).is_none());
        first.send(frame("a"));
        let batch = poll(replies.next()).expect("the first answer is known");
        assert_eq!(text_of(&batch), b"abc");
        assert!(replies.is_empty());
    }

    #[test]
    fn a_close_is_behind_the_answers_before_it() {
        let replies = Replies::new(BOUNDS);
        let (first, second, third) = (
            owe(&replies, 1, false),
            owe(&replies, 1, false),
            owe(&replies, 1, false),
        );
        second.send(Reply::Close);
        third.send(frame("never"));
        assert!(poll(replies.next()).is_none());
        first.send(frame("a"));
        let batch = poll(replies.next()).expect("known");
        assert_eq!((text_of(&batch), batch.close), (b"a".to_vec(), true));
    }

    #[test]
    fn requests_wait_at_the_bounds_and_behind_one_that_runs_alone() {
        let replies = Replies::new(BOUNDS);
        let first = owe(&replies, 60, false);
        assert!(poll(replies.room(40)).is_some());
        assert!(poll(replies.room(41)).is_none());
        first.send(Reply::Nothing);
        assert!(poll(replies.next()).is_some());
        assert!(poll(replies.room(1000)).is_some(), "one large request alone is served");

        let fetch = owe(&replies, 1, true);
        assert!(poll(replies.room(1)).is_none());
        fetch.send(Reply::Nothing);
        assert!(poll(replies.next()).is_some());
        let _three = [
            owe(&replies, 1, false),
            owe(&replies, 1, false),
            owe(&replies, 1, false),
        ];
        assert!(poll(replies.room(1)).is_none());
    }
}
