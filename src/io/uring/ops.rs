//! Operations in flight: a slab whose entries own all that the kernel may touch until the completion was reaped.

use std::future::Future;
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::driver::Core;
use super::files::File;
use super::sockets::{Message, Peer, Socket};
use crate::base::buffer::AlignedBuf;

/// What the kernel reads, writes or refers to during an operation.
pub(super) enum Keep {
    Nothing,
    Write {
        _file: File,
        _data: Bytes,
    },
    Read {
        _file: File,
        into: AlignedBuf,
    },
    Accept {
        _listener: Rc<Socket>,
        peer: Box<Peer>,
    },
    Connect {
        stream: Rc<Socket>,
        _peer: Box<Peer>,
    },
    Receive {
        stream: Rc<Socket>,
        into: BytesMut,
    },
    Send {
        _stream: Rc<Socket>,
        pieces: Vec<Bytes>,
        message: Option<Box<Message>>,
    },
    Poll {
        _stream: Rc<Socket>,
    },
}

impl Keep {
    /// Whether cutting the operation short loses nothing but its result, which nobody waits for.
    fn is_cancelled_on_drop(&self) -> bool {
        matches!(
            self,
            Keep::Accept { .. } | Keep::Connect { .. } | Keep::Receive { .. } | Keep::Read { .. } | Keep::Poll { .. }
        )
    }

    /// Whether the operation has to end by itself even when the shard stops.
    fn is_write(&self) -> bool {
        matches!(self, Keep::Write { .. })
    }

    /// Takes back what a completion without a waiter brought along.
    fn discard(self, result: i32) {
        if let (Keep::Accept { .. }, true) = (&self, result >= 0) {
            // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
    }
}

/// The end of an operation: the kernel's result (negative: an errno), its flags, and what was kept.
pub(super) struct Outcome {
    pub result: i32,
    pub flags: u32,
    pub keep: Keep,
}

impl Outcome {
    pub(super) fn count(&self) -> std::io::Result<usize> {
        usize::try_from(self.result).map_err(|_| std::io::Error::from_raw_os_error(-self.result))
    }
}

enum State {
    Vacant { next: u32 },
    Waiting(Option<Waker>),
    Abandoned,
    Done { result: i32, flags: u32 },
}

struct Slot {
    generation: u32,
    state: State,
    keep: Keep,
}

/// Names a slot; the generation catches a completion that comes twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(super) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_user_data(user_data: u64) -> Self {
        Self {
            index: user_data as u32,
            generation: (user_data >> 32) as u32,
        }
    }
}

const NO_SLOT: u32 = u32::MAX;

/// What is left to do, outside of any borrow, after a completion was booked.
pub(super) enum After {
    Wake(Option<Waker>),
    Discard(Keep, i32),
}

impl After {
    pub(super) fn run(self) {
        match self {
            After::Wake(waker) => waker.into_iter().for_each(Waker::wake),
            After::Discard(keep, result) => keep.discard(result),
        }
    }
}

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Option<u32>,
    in_flight: usize,
}

impl Slots {
    /// Operations that the kernel has not completed.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn insert(&mut self, keep: Keep) -> Key {
        self.in_flight += 1;
        let index = self.free.unwrap_or(NO_SLOT);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            let State::Vacant { next } = slot.state else {
                unreachable!("the free list holds vacant slots only")
            };
            self.free = (next != NO_SLOT).then_some(next);
            slot.state = State::Waiting(None);
            slot.keep = keep;
            let generation = slot.generation;
            return Key { index, generation };
        }
        let index = u32::try_from(self.slots.len()).expect("memory ends before four billion operations");
        self.slots.push(Slot {
            generation: 0,
            state: State::Waiting(None),
            keep,
        });
        Key { index, generation: 0 }
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
        let slot = &mut self.slots[key.index as usize];
        assert_eq!(slot.generation, key.generation, "an operation completed twice");
        slot
    }

    fn vacate(&mut self, key: Key) -> Keep {
        let next = self.free.unwrap_or(NO_SLOT);
        let slot = self.slot(key);
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = State::Vacant { next };
        let keep = std::mem::replace(&mut slot.keep, Keep::Nothing);
        self.free = Some(key.index);
        keep
    }

    /// Books the kernel's completion.
    pub(super) fn complete(&mut self, user_data: u64, result: i32, flags: u32) -> After {
        let key = Key::from_user_data(user_data);
        self.in_flight -= 1;
        let slot = self.slot(key);
        match std::mem::replace(&mut slot.state, State::Done { result, flags }) {
            State::Waiting(waker) => After::Wake(waker),
            State::Abandoned => After::Discard(self.vacate(key), result),
            State::Vacant { .. } | State::Done { .. } => unreachable!("completions belong to operations in flight"),
        }
    }

    fn poll(&mut self, key: Key, cx: &Context<'_>) -> Poll<Outcome> {
        let slot = self.slot(key);
        match &mut slot.state {
            State::Done { result, flags } => {
                let (result, flags) = (*result, *flags);
                let keep = self.vacate(key);
                Poll::Ready(Outcome { result, flags, keep })
            }
            State::Waiting(waker) => {
                if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            State::Vacant { .. } | State::Abandoned => unreachable!("polled by the future that owns the slot"),
        }
    }

    /// The future is gone: its slot lives on until the completion. Says what to drop, and whether to cancel.
    fn abandon(&mut self, key: Key) -> (After, bool) {
        let slot = self.slot(key);
        match &mut slot.state {
            State::Waiting(waker) => {
                let waker = waker.take();
                let cancel = slot.keep.is_cancelled_on_drop();
                slot.state = State::Abandoned;
                // Only dropped: nobody is to be woken.
                drop(waker);
                (After::Wake(None), cancel)
            }
            State::Done { result, .. } => {
                let result = *result;
                (After::Discard(self.vacate(key), result), false)
            }
            State::Vacant { .. } | State::Abandoned => unreachable!("abandoned once, by the future that owns the slot"),
        }
    }

    /// All operations in flight that do not write to a file.
    pub(super) fn cancellable(&self) -> Vec<Key> {
        let in_flight = |slot: &Slot| matches!(slot.state, State::Waiting(_) | State::Abandoned);
        let slots = self.slots.iter().enumerate();
        let cancelled = slots.filter(|(_, slot)| in_flight(slot) && !slot.keep.is_write());
        cancelled
            .map(|(index, slot)| Key {
                index: index as u32,
                generation: slot.generation,
            })
            .collect()
    }
}

/// The future of one submitted operation. Dropping it never frees what the kernel still uses.
pub(super) struct Operation {
    core: Rc<Core>,
    key: Key,
    done: bool,
}

impl Operation {
    pub(super) fn new(core: Rc<Core>, key: Key) -> Self {
        Self { core, key, done: false }
    }
}

impl Future for Operation {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        assert!(!self.done, "polled after the end");
        let polled = self.core.with_slots(|slots| slots.poll(self.key, cx));
        self.done = polled.is_ready();
        polled
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let (after, cancel) = self.core.with_slots(|slots| slots.abandon(self.key));
        after.run();
        if cancel {
            self.core.cancel(self.key);
        }
    }
}
