//! A bounded queue between shards: many senders, one receiver, plain `std` locking so that it runs under any executor.
//!
//! The lock is held for a push or a swap only; the receiver takes all that waits at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

struct State<T> {
    queue: VecDeque<T>,
    receiver: Option<Waker>,
    senders_waiting: Vec<Waker>,
    senders: usize,
    closed: bool,
}

struct Shared<T> {
    bound: usize,
    state: Mutex<State<T>>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a message was not taken; it comes back to the caller.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    Full(T),
    Closed(T),
}

pub struct Sender<T>(Arc<Shared<T>>);
pub struct Receiver<T>(Arc<Shared<T>>);

/// A queue of at most `bound` messages.
pub fn mailbox<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    assert!(bound > 0);
    let state = State {
        queue: VecDeque::new(),
        receiver: None,
        senders_waiting: Vec::new(),
        senders: 1,
        closed: false,
    };
    let shared = Arc::new(Shared {
        bound,
        state: Mutex::new(state),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        let waker = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(SendError::Closed(message));
            }
            if state.queue.len() >= self.0.bound {
                return Err(SendError::Full(message));
            }
            state.queue.push_back(message);
            state.receiver.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Waits for room. Gives the message back when the receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), T> {
        let mut message = Some(message);
        poll_fn(|cx| {
            let Some(taken) = message.take() else {
                return Poll::Ready(Ok(()));
            };
            match self.try_send(taken) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(SendError::Closed(back)) => Poll::Ready(Err(back)),
                Err(SendError::Full(back)) => {
                    let mut state = self.0.lock();
                    if state.queue.len() < self.0.bound {
                        // Room appeared between the two locks: come again at once.
                        cx.waker().wake_by_ref();
                    } else {
                        state.senders_waiting.push(cx.waker().clone());
                    }
                    message = Some(back);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.lock();
            state.senders -= 1;
            if state.senders == 0 {
                state.receiver.take()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// Moves all that waits into `into`; completes when there is at least one message (`true`) or when all senders are
    /// gone and nothing is left (`false`).
    pub async fn receive_all(&mut self, into: &mut VecDeque<T>) -> bool {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.queue.is_empty() {
                if state.senders == 0 {
                    return Poll::Ready(false);
                }
                state.receiver = Some(cx.waker().clone());
                return Poll::Pending;
            }
            into.append(&mut state.queue);
            let waiting = std::mem::take(&mut state.senders_waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            Poll::Ready(true)
        })
        .await
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let (messages, waiting) = {
            let mut state = self.0.lock();
            state.closed = true;
            (
                std::mem::take(&mut state.queue),
                std::mem::take(&mut state.senders_waiting),
            )
        };
        drop(messages);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (sender, receiver) = mailbox(1);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(SendError::Full(2)));
        drop(receiver);
        assert_eq!(sender.try_send(3), Err(SendError::Closed(3)));
    }
}
