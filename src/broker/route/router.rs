//! Splits work by owning shard and brings the answers together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::local::SHORT_READ_BYTES;
use super::*;
use crate::base::mailbox::{SendError, Sender};
use crate::base::soon::Soon;
use crate::base::sync::{Holder, OneshotReceiver, OneshotSender, Permit, Permits, Signal, join_all, oneshot};
use crate::cluster::shard_of;
use crate::io::Queue;

/// One shard's view of all shards.
pub struct Router<E: Env> {
    shard: usize,
    /// The inbox of every shard, its own included.
    inboxes: Vec<Sender<Envelope<E>>>,
    local: Local<E>,
    next_id: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, OneshotSender<Reply>>>,
}

/// The shard that runs the metadata controller.
pub const CONTROLLER_SHARD: usize = 0;

/// Items of one owning shard, and where they stood in the whole list.
struct Part<T> {
    shard: usize,
    places: Vec<usize>,
    items: Vec<T>,
}

/// A call to another shard. Dropping it takes it back.
struct Call<E: Env> {
    router: Rc<Router<E>>,
    shard: usize,
    id: u64,
    reply: OneshotReceiver<Reply>,
    done: bool,
}

impl<E: Env> Future for Call<E> {
    type Output = Option<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        let polled = Pin::new(&mut self.reply).poll(cx);
        self.done |= polled.is_ready();
        polled
    }
}

impl<E: Env> Call<E> {
    /// Asks the shard to end its wait. A full inbox gets it when there is room.
    fn cancel(&self) {
        let cancel = Envelope::Cancel {
            from: self.router.shard,
            id: self.id,
        };
        let inbox = &self.router.inboxes[self.shard];
        if let Err(SendError::Full(cancel)) = inbox.try_send(cancel) {
            let inbox = inbox.clone();
            self.router.local.env().spawn(Queue::Foreground, async move {
                let _ = inbox.send(cancel).await;
            });
        }
    }
}

impl<E: Env> Drop for Call<E> {
    fn drop(&mut self) {
        if !self.done {
            self.router.waiting.borrow_mut().remove(&self.id);
            // What waits there holds buffers: it must hear of it.
            self.cancel();
        }
    }
}

/// The parts of one read that are under way, and what came of the others.
struct Gathering<E: Env> {
    router: Rc<Router<E>>,
    reader: Reader,
    cancel: Rc<Signal>,
    hurried: bool,
    local: Option<(Vec<usize>, LocalRead)>,
    foreign: Vec<ForeignRead<E>>,
    /// With their places.
    outcomes: Vec<(usize, ReadOutcome)>,
    held: Permits,
    /// What another shard has read and there was no room for: the first of it by place.
    given_up: Option<GivenUp>,
}

/// The part of another shard.
struct ForeignRead<E: Env> {
    places: Vec<usize>,
    items: Vec<ReadItem>,
    call: Call<E>,
}

struct GivenUp {
    place: usize,
    shard: usize,
    item: ReadItem,
}

type LocalRead = Pin<Box<dyn Future<Output = (Vec<ReadOutcome>, Permit)>>>;

impl<E: Env> Gathering<E> {
    /// Ready when every part has its outcome. The first one ends the wait of the others.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let before = self.open_count();
            self.poll_parts(cx);
            let open = self.open_count();
            if open == 0 {
                return Poll::Ready(());
            }
            if open == before {
                return Poll::Pending;
            }
            if !std::mem::replace(&mut self.hurried, true) {
                self.cancel.raise();
                self.foreign.iter().for_each(|read| read.call.cancel());
            }
        }
    }

    fn open_count(&self) -> usize {
        self.foreign.len() + usize::from(self.local.is_some())
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>) {
        if let Some((places, read)) = &mut self.local
            && let Poll::Ready((found, permit)) = read.as_mut().poll(cx)
        {
            self.held.push(permit);
            self.outcomes.extend(places.iter().copied().zip(found));
            self.local = None;
        }
        let mut index = 0;
        while index < self.foreign.len() {
            match Pin::new(&mut self.foreign[index].call).poll(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(reply) => {
                    let read = self.foreign.swap_remove(index);
                    if let Some(Reply::Read(found)) = reply {
                        self.take(&read, found);
                    }
                }
            }
        }
    }

    /// From here on what another shard has read is this one's to count.
    fn take(&mut self, read: &ForeignRead<E>, mut found: Vec<ReadOutcome>) {
        if let Some(index) = self.router.local.keep(self.reader, &mut found, &mut self.held)
            && let (Some(&place), Some(&item)) = (read.places.get(index), read.items.get(index))
            && self.given_up.as_ref().is_none_or(|first| place < first.place)
        {
            self.given_up = Some(GivenUp {
                place,
                shard: read.call.shard,
                item,
            });
        }
        self.outcomes.extend(read.places.iter().copied().zip(found));
    }

    /// The one read to be done again: the first that has anything, if there was no room for that. A client that asks for what it
    /// got nothing of before the rest so gets on everywhere, however large the batches.
    fn first_missed(&mut self) -> Option<GivenUp> {
        let with_bytes = self.outcomes.iter().filter(|(_, outcome)| outcome.bytes() > 0);
        let first = with_bytes.map(|(place, _)| *place).min();
        self.given_up
            .take()
            .filter(|given_up| first.is_none_or(|first| given_up.place < first))
    }
}

impl<E: Env> Router<E> {
    pub fn new(shard: usize, inboxes: Vec<Sender<Envelope<E>>>, local: Local<E>) -> Rc<Self> {
        Rc::new(Self {
            shard,
            inboxes,
            local,
            next_id: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    pub fn shard(&self) -> usize {
        self.shard
    }

    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    pub fn local(&self) -> &Local<E> {
        &self.local
    }

    pub fn inbox(&self, shard: usize) -> &Sender<Envelope<E>> {
        &self.inboxes[shard]
    }

    /// Gives a reply that arrived in the inbox to whoever waits for it still.
    pub fn replied(&self, id: u64, reply: Reply) {
        let waiting = self.waiting.borrow_mut().remove(&id);
        if let Some(waiting) = waiting {
            waiting.send(reply);
        }
    }

    /// Hands `request` over to `shard`; completes when it lies in the inbox.
    async fn call(self: &Rc<Self>, shard: usize, request: Request) -> Call<E> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let (sender, reply) = oneshot();
        self.waiting.borrow_mut().insert(id, sender);
        let call = Call {
            router: self.clone(),
            shard,
            id,
            reply,
            done: false,
        };
        let envelope = Envelope::Request {
            from: self.shard,
            id,
            request,
        };
        if self.inboxes[shard].send(envelope).await.is_err() {
            // The shard is gone: dropping the sender answers the call with `None`.
            self.waiting.borrow_mut().remove(&id);
        }
        call
    }

    /// The shard that all items are of, if it is one: most requests need no sorting out.
    fn only_shard<T>(&self, items: &[T], id: impl Fn(&T) -> PartitionId) -> Option<usize> {
        let shard_of = |item: &T| shard_of(id(item), self.shards());
        let only = shard_of(items.first()?);
        items[1..].iter().all(|item| shard_of(item) == only).then_some(only)
    }

    fn split<T>(&self, items: impl IntoIterator<Item = T>, id: impl Fn(&T) -> PartitionId) -> Vec<Part<T>> {
        let mut parts: Vec<Part<T>> = Vec::new();
        for (place, item) in items.into_iter().enumerate() {
            let shard = shard_of(id(&item), self.shards());
            let index = parts.iter().position(|part| part.shard == shard).unwrap_or_else(|| {
                parts.push(Part {
                    shard,
                    places: Vec::new(),
                    items: Vec::new(),
                });
                parts.len() - 1
            });
            parts[index].places.push(place);
            parts[index].items.push(item);
        }
        parts
    }

    /// Appends. The future completes when every batch has its place behind the earlier ones of this connection, what it gives brings the
    /// acknowledgements, in the order of `items`; those not known soon after `deadline` are given up.
    pub async fn append(self: &Rc<Self>, items: Appends, deadline: Monotonic) -> Soon<Outcomes> {
        let count = items.len();
        if let Some(shard) = self.only_shard(&items, |item| item.id) {
            return self.append_at(shard, items, deadline).await;
        }
        let mut answers = Vec::new();
        for part in self.split(items, |item| item.id) {
            let appended = self.append_at(part.shard, part.items.into(), deadline).await;
            answers.push((part.places, appended));
        }
        Soon::later(async move { in_order(count, answers, || Err(PartitionError::NotHere)).await.into() })
    }

    /// Appends of one shard.
    async fn append_at(self: &Rc<Self>, shard: usize, items: Appends, deadline: Monotonic) -> Soon<Outcomes> {
        if shard == self.shard {
            return self.local.append(items, deadline);
        }
        let count = items.len();
        let call = self.call(shard, Request::Append(items, deadline)).await;
        Soon::later(async move {
            match call.await {
                Some(Reply::Append(outcomes)) => outcomes,
                _ => not_here(count).into(),
            }
        })
    }

    /// Looks offsets up in the name of `holder`.
    pub async fn offsets(
        self: &Rc<Self>,
        queries: Vec<OffsetQuery>,
        holder: Holder,
    ) -> Vec<Result<TimedOffset, PartitionError>> {
        let count = queries.len();
        let answers = self.split(queries, |query| query.id).into_iter().map(|part| {
            let router = self.clone();
            let answer = async move {
                if part.shard == router.shard {
                    return router.local.offsets(part.items, holder).await;
                }
                let expected = part.items.len();
                let request = Request::Offsets(part.items, holder);
                match router.call(part.shard, request).await.await {
                    Some(Reply::Offsets(results)) => results,
                    _ => not_here(expected),
                }
            };
            (part.places, answer)
        });
        in_order(count, answers.collect(), || Err(PartitionError::NotHere)).await
    }

    pub async fn epochs(self: &Rc<Self>, queries: Vec<EpochQuery>) -> Vec<Result<EpochEnd, PartitionError>> {
        let count = queries.len();
        let answers = self.split(queries, |query| query.id).into_iter().map(|part| {
            let router = self.clone();
            let answer = async move {
                if part.shard == router.shard {
                    return router.local.epochs(part.items);
                }
                let expected = part.items.len();
                match router.call(part.shard, Request::Epochs(part.items)).await.await {
                    Some(Reply::Epochs(results)) => results,
                    _ => not_here(expected),
                }
            };
            (part.places, answer)
        });
        in_order(count, answers.collect(), || Err(PartitionError::NotHere)).await
    }

    /// Reads. The first shard that finds that there is enough, over all parts, or that has an error, ends the others' wait. Also
    /// what the outcomes hold of this shard's memory.
    pub async fn read(self: &Rc<Self>, request: ReadRequest) -> (Vec<ReadOutcome>, Permits) {
        let count = request.items.len();
        let mut gathering = self.scatter_read(request).await;
        poll_fn(|cx| gathering.poll(cx)).await;
        if let Some(given_up) = gathering.first_missed() {
            self.read_again(given_up, &mut gathering).await;
        }
        let Gathering { mut outcomes, held, .. } = gathering;
        outcomes.sort_unstable_by_key(|(place, _)| *place);
        let mut found = outcomes.into_iter().peekable();
        let in_order = (0..count).map(|place| match found.next_if(|(at, _)| *at == place) {
            Some((_, outcome)) => outcome,
            None => ReadOutcome::failed(PartitionError::NotHere),
        });
        (in_order.collect(), held)
    }

    async fn scatter_read(self: &Rc<Self>, request: ReadRequest) -> Gathering<E> {
        let (reader, count) = (request.reader, request.items.len());
        let shares = request.shares();
        let parts = self.split(request.items, |item| item.id);
        let room_bytes = self.local.room_bytes(reader);
        let shared = (parts.len() > 1).then(|| Parts::new(parts.len()));
        let mut gathering = Gathering {
            router: self.clone(),
            reader,
            cancel: Rc::default(),
            hurried: parts.len() <= 1,
            local: None,
            foreign: Vec::new(),
            outcomes: Vec::new(),
            held: Permits::new(),
            given_up: None,
        };
        for Part { shard, places, items } in parts {
            let share = shares.of(items.len(), count);
            let part = |items| ReadRequest {
                items,
                bytes_max: if shard == self.shard {
                    share
                } else {
                    share.min(room_bytes)
                },
                bytes_min: request.bytes_min,
                wait_ms: request.wait_ms,
                reader,
                parts: shared.clone(),
            };
            if shard == self.shard {
                let read = self.local.read(part(items), gathering.cancel.clone());
                gathering.local = Some((places, Box::pin(read)));
            } else {
                let call = self.call(shard, Request::Read(part(items.clone()))).await;
                gathering.foreign.push(ForeignRead { places, items, call });
            }
        }
        gathering
    }

    /// Reads a little of one partition, so that a client gets on while memory is short. One at a time does, as it is counted only
    /// when it is here.
    async fn read_again(self: &Rc<Self>, given_up: GivenUp, gathering: &mut Gathering<E>) {
        let _turn = self.local.foreign_turn(gathering.reader).await;
        let GivenUp { place, shard, item } = given_up;
        let request = ReadRequest {
            items: vec![item],
            bytes_max: SHORT_READ_BYTES,
            bytes_min: 0,
            wait_ms: 0,
            reader: gathering.reader,
            parts: None,
        };
        let Some(Reply::Read(found)) = self.call(shard, Request::Read(request)).await.await else {
            return;
        };
        for outcome in found.into_iter().take(1) {
            if outcome.bytes() > 0 {
                gathering
                    .held
                    .push(self.local.hold(gathering.reader, outcome.bytes() as u64).await);
            }
            gathering.outcomes.retain(|(at, _)| *at != place);
            gathering.outcomes.push((place, outcome));
        }
    }

    /// Has the controller carry out `command`; when it succeeds every shard knows the outcome already.
    pub async fn command(self: &Rc<Self>, command: Command) -> Result<Response, ClusterError> {
        match self.call(CONTROLLER_SHARD, Request::Command(command)).await.await {
            Some(Reply::Command(result)) => result,
            _ => Err(ClusterError::Closed),
        }
    }

    /// Brings `records` to every shard but the controller's own; completes when all have applied them.
    pub async fn broadcast(self: &Rc<Self>, records: Arc<[Record]>) {
        let mut calls = Vec::new();
        for shard in (0..self.shards()).filter(|shard| *shard != self.shard) {
            calls.push(self.call(shard, Request::Apply(records.clone())).await);
        }
        join_all(calls).await;
    }
}

fn not_here<T>(count: usize) -> Vec<Result<T, PartitionError>> {
    (0..count).map(|_| Err(PartitionError::NotHere)).collect()
}

/// Awaits the parts side by side and puts their outcomes in the order of the whole list.
async fn in_order<T, F: Future<Output: IntoIterator<Item = T>>>(
    count: usize,
    answers: Vec<(Vec<usize>, F)>,
    missing: impl Fn() -> T,
) -> Vec<T> {
    let (places, futures): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let mut outcomes: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for (places, found) in places.into_iter().zip(join_all(futures).await) {
        for (place, outcome) in places.into_iter().zip(found) {
            outcomes[place] = Some(outcome);
        }
    }
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(&missing))
        .collect()
}
