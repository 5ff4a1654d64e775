//! What other shards send: work for this shard's partitions, answers, connections.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::{Shard, listen, topics};
use crate::base::mailbox::{Receiver, SendError};
use crate::base::soon::Soon;
use crate::base::sync::{OneshotReceiver, Signal, oneshot};
use crate::broker::route::{Envelope, Reply, Request};
use crate::io::{Env, Queue};

/// The appends, reads and look-ups that other shards wait for, by asking shard and call.
pub type Awaited = RefCell<BTreeMap<(usize, u64), Rc<Signal>>>;

/// Acts on `messages`, then on what comes, until `Inbox::end` or until all senders are gone.
pub fn start<E: Env>(
    shard: &Rc<Shard<E>>,
    mut receiver: Receiver<Envelope<E>>,
    mut messages: VecDeque<Envelope<E>>,
) -> Inbox {
    let (done, ended) = oneshot();
    let stop = Rc::new(Signal::default());
    let (shard, stopped) = (shard.clone(), stop.clone());
    shard.env.clone().spawn(Queue::Foreground, async move {
        loop {
            for message in messages.drain(..) {
                handle(&shard, message);
            }
            let received = crate::base::sync::race(receiver.receive_all(&mut messages), async {
                stopped.raised().await;
                false
            });
            if !received.await {
                break;
            }
        }
        done.send(());
    });
    Inbox { stop, ended }
}

/// The running inbox of a shard.
pub struct Inbox {
    stop: Rc<Signal>,
    ended: OneshotReceiver<()>,
}

impl Inbox {
    pub async fn end(self) {
        self.stop.raise();
        self.ended.await;
    }
}

/// Acts on one message without waiting: appends take their place here, everything else is a task.
fn handle<E: Env>(shard: &Rc<Shard<E>>, message: Envelope<E>) {
    match message {
        Envelope::Request { from, id, request } => execute(shard, from, id, request),
        Envelope::Reply { id, reply } => shard.broker.router.replied(id, reply),
        Envelope::Cancel { from, id } => {
            if let Some(cancel) = shard.awaited.borrow().get(&(from, id)) {
                cancel.raise();
            }
        }
        Envelope::Adopt { stream, peer, counted } => {
            let stream = shard.env.attach(stream);
            listen::serve_connection(shard, stream, peer, counted);
        }
        Envelope::Serve {
            identity,
            addresses,
            own_addresses,
        } => {
            shard.broker.set_identity(identity);
            shard.addresses.replace(Some(addresses));
            shard.own_addresses.replace(own_addresses);
            shard.serving.raise();
        }
        Envelope::Quiet => {
            shard.quiet.set(shard.quiet.get() + 1);
            shard.quiet_changed.notify();
        }
        // Only the first message of a shard is one, and it was taken before the inbox started.
        Envelope::Begin(_) => {}
    }
}

fn execute<E: Env>(shard: &Rc<Shard<E>>, from: usize, id: u64, request: Request) {
    let cancel = Rc::new(Signal::default());
    let is_work = matches!(&request, Request::Append(..) | Request::Read(_) | Request::Offsets(..));
    let answer = match shard.broker.router.local().execute(request, &cancel) {
        Ok(Soon::Known(reply)) => {
            let inbox = shard.broker.router.inbox(from);
            match inbox.try_send(Envelope::Reply { id, reply }) {
                Err(SendError::Full(Envelope::Reply { reply, .. })) => Ok(Soon::Known(reply)),
                // A shard that is gone needs no answer.
                _ => return,
            }
        }
        answer => answer,
    };
    let waits = is_work && matches!(answer, Ok(Soon::Later(_)));
    if waits {
        shard.awaited.borrow_mut().insert((from, id), cancel);
    }
    let shard = shard.clone();
    let env = shard.env.clone();
    env.spawn(Queue::Foreground, async move {
        let reply = match answer {
            Ok(answer) => answer.await,
            Err(Request::Command(command)) => match shard.controller.get() {
                Some(controller) => Reply::Command(controller.execute(command).await),
                None => return,
            },
            Err(Request::Apply(records)) => {
                topics::apply(&shard, &records).await;
                Reply::Applied
            }
            Err(_) => return,
        };
        if waits {
            shard.awaited.borrow_mut().remove(&(from, id));
        }
        // A shard that is gone needs no answer.
        let _ = shard
            .broker
            .router
            .inbox(from)
            .send(Envelope::Reply { id, reply })
            .await;
    });
}
