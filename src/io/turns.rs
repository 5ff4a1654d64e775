//! Turns for work that keeps the core for long: one piece of it, then everybody else, then the next piece.
//!
//! A task runs until it waits, so a hundred connections that each ask for something that takes ten milliseconds would keep a
//! small request behind them for a second, at every step on its way. Whoever has such a piece of work waits for a turn first:
//! there is one turn for each time that all other tasks of the shard have run, and addresses take turns at the turns.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::{Env, Queue};
use crate::base::sync::{Holder, OneshotSender, oneshot};

/// The turns of one shard.
#[derive(Default)]
pub struct Turns {
    /// Somebody has had one since the other tasks ran.
    is_taken: Cell<bool>,
    line: RefCell<Line>,
}

/// Who waits, by address; each address stands in `order` once.
#[derive(Default)]
struct Line {
    waiting: BTreeMap<Holder, VecDeque<OneshotSender<()>>>,
    order: VecDeque<Holder>,
}

impl Line {
    fn push(&mut self, holder: Holder, waiter: OneshotSender<()>) {
        let own = self.waiting.entry(holder).or_default();
        if own.is_empty() {
            self.order.push_back(holder);
        }
        own.push_back(waiter);
    }

    fn pop(&mut self) -> Option<OneshotSender<()>> {
        let holder = self.order.pop_front()?;
        let own = self.waiting.get_mut(&holder)?;
        let next = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&holder);
        } else {
            self.order.push_back(holder);
        }
        next
    }
}

impl Turns {
    /// Completes when it is the turn of `holder`; the piece of work goes to the caller's next wait.
    pub async fn turn<E: Env>(self: &Rc<Self>, env: &E, holder: Holder) {
        if self.is_taken.get() {
            let (waiter, granted) = oneshot();
            self.line.borrow_mut().push(holder, waiter);
            granted.await;
            return;
        }
        self.is_taken.set(true);
        let (turns, task) = (self.clone(), env.clone());
        env.spawn(Queue::Foreground, async move {
            loop {
                task.yield_now().await;
                let Some(next) = turns.line.borrow_mut().pop() else {
                    break;
                };
                // One that has left loses its turn.
                next.send(());
            }
            turns.is_taken.set(false);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{Options, Schedule, World};

    /// A small request waits for one piece of long work at each step, however many do long work.
    #[test]
    fn everybody_else_runs_between_two_turns() {
        let options = Options {
            schedule: Schedule::Fifo,
            ..Options::default()
        };
        World::new(1, options).block_on(0, |env| async move {
            let (turns, pieces) = (Rc::new(Turns::default()), Rc::new(Cell::new(0)));
            for holder in 0..50 {
                let (task, turns, pieces) = (env.clone(), turns.clone(), pieces.clone());
                env.spawn(Queue::Foreground, async move {
                    for _ in 0..4 {
                        turns.turn(&task, Holder(holder % 3)).await;
                        pieces.set(pieces.get() + 1);
                    }
                });
            }
            let mut seen = 0;
            while pieces.get() < 200 {
                env.yield_now().await;
                assert!(pieces.get() <= seen + 1, "{} after {seen}", pieces.get());
                seen = pieces.get();
            }
        });
    }

    #[test]
    fn addresses_take_turns_whoever_waits_more_often() {
        let mut line = Line::default();
        let push = |line: &mut Line, holder| {
            let (waiter, granted) = oneshot();
            line.push(Holder(holder), waiter);
            granted
        };
        let mut granted: Vec<_> = (0..3).map(|_| push(&mut line, 1)).collect();
        granted.push(push(&mut line, 2));
        let mut order = Vec::new();
        while let Some(next) = line.pop() {
            next.send(());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let served = granted.iter_mut().enumerate().find_map(|(index, granted)| {
                let polled = std::pin::Pin::new(granted).poll(&mut cx);
                matches!(polled, std::task::Poll::Ready(Some(()))).then_some(index)
            });
            order.push(served.expect("somebody was served"));
        }
        assert_eq!(order, [0, 3, 1, 2]);
        assert!(line.waiting.is_empty());
    }
}
