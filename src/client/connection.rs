//! One connection to one broker: requests go out as they come, answers are matched in order.
//!
//! Two tasks run it: one sends what gathers in the outbox, one takes frames and hands each to who waits for it. When
//! anything goes wrong on it the connection is over, and all who wait get the same error.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::base::sync::{Budget, Notify, OneshotSender, Permit, oneshot, race};
use crate::io::{Env, Queue, send_all};
use crate::wire::kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::kafka::{Decoder, ErrorCode, Message, RequestHeader, ResponseHeader, Str, encode_request};
use crate::wire::native::{Malformed, Parts, read_answer};
use crate::wire::{Framing, LENGTH_BYTES, Protocol};

use super::api_ranges::ApiRanges;
use super::error::ClientError;

/// What a receive has room for at least.
const RECEIVE_BYTES_MIN: usize = 64 << 10;
const RECEIVE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// What the listener speaks.
    pub protocol: Protocol,
    pub client_id: String,
    /// An unanswered request closes the connection after this time.
    pub request_timeout_ms: u64,
    /// Requests sent and not yet answered.
    pub in_flight_max: u64,
    pub answer_bytes_max: usize,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::Kafka,
            client_id: "ringtail".into(),
            request_timeout_ms: 30_000,
            in_flight_max: 16,
            answer_bytes_max: 128 << 20,
        }
    }
}

struct Waiting {
    id: u64,
    reply: OneshotSender<Result<Bytes, ClientError>>,
    _slot: Permit,
}

struct Link<E: Env> {
    env: E,
    stream: E::Stream,
    address: String,
    options: ConnectionOptions,
    ranges: RefCell<ApiRanges>,
    next_id: Cell<u64>,
    waiting: RefCell<VecDeque<Waiting>>,
    outbox: RefCell<Vec<Bytes>>,
    outbox_changed: Notify,
    /// Requests put into the outbox, and those of them that are handed to the socket.
    enqueued: Cell<u64>,
    sent: Cell<u64>,
    slots: Rc<Budget>,
    fault: RefCell<Option<ClientError>>,
}

impl<E: Env> Link<E> {
    /// Ends the connection; the first reason counts.
    fn close(&self, reason: ClientError) {
        if self.fault.borrow().is_some() {
            return;
        }
        *self.fault.borrow_mut() = Some(reason.clone());
        self.env.shutdown(&self.stream);
        self.outbox.borrow_mut().clear();
        for waiting in self.waiting.take() {
            waiting.reply.send(Err(reason.clone()));
        }
        self.outbox_changed.notify();
    }

    fn disconnected(&self, cause: impl ToString) -> ClientError {
        ClientError::Disconnected {
            address: self.address.clone(),
            cause: cause.to_string(),
        }
    }

    fn malformed(&self, cause: impl ToString) -> ClientError {
        ClientError::Malformed {
            address: self.address.clone(),
            cause: cause.to_string(),
        }
    }

    /// Hands `frame` (without its length) to the oldest request.
    fn take_answer(&self, frame: Bytes) -> Result<(), ClientError> {
        let id = match self.options.protocol {
            Protocol::Kafka => frame.first_chunk().map(|id| u64::from(u32::from_be_bytes(*id))),
            Protocol::Native => Some(native_id(&frame).map_err(|error| self.malformed(error))?),
        };
        let oldest = self.waiting.borrow_mut().pop_front();
        match oldest {
            Some(waiting) if Some(waiting.id) == id => {
                waiting.reply.send(Ok(frame));
                Ok(())
            }
            Some(waiting) => {
                let error = self.malformed(format!("correlation id {id:?}, expected {}", waiting.id));
                waiting.reply.send(Err(error.clone()));
                Err(error)
            }
            None => Err(self.malformed(format!("an answer ({id:?}) to no request"))),
        }
    }

    async fn send_outbox(self: Rc<Self>) {
        loop {
            self.outbox_changed
                .until(|| !self.outbox.borrow().is_empty() || self.fault.borrow().is_some())
                .await;
            if self.fault.borrow().is_some() {
                return;
            }
            let pieces = self.outbox.take();
            let taken = self.enqueued.get();
            if let Err(error) = send_all(&self.env, &self.stream, pieces).await {
                return self.close(self.disconnected(error));
            }
            self.sent.set(taken);
            self.outbox_changed.notify();
        }
    }

    async fn receive_answers(self: Rc<Self>) {
        let mut buffer = BytesMut::new();
        loop {
            let missing = match self.options.protocol.next_frame(&buffer, self.options.answer_bytes_max) {
                Ok(Framing::Frame { end }) => {
                    let frame = buffer.split_to(end).freeze().slice(LENGTH_BYTES..);
                    if let Err(error) = self.take_answer(frame) {
                        return self.close(error);
                    }
                    continue;
                }
                Ok(Framing::NeedsMore(missing)) => missing,
                Err(error) => return self.close(self.malformed(error)),
            };
            // Room grows with what has arrived, never with what is declared.
            let room = missing.min(buffer.len().clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES_MAX));
            buffer.reserve(room.max(RECEIVE_BYTES_MIN));
            let (received, back) = self.env.receive(&self.stream, buffer).await;
            buffer = back;
            match received {
                Ok(0) => return self.close(self.disconnected("closed by the broker")),
                Ok(_) => {}
                Err(error) => return self.close(self.disconnected(error)),
            }
        }
    }
}

/// Closes the link when the last handle is gone.
struct Handle<E: Env>(Rc<Link<E>>);

impl<E: Env> Drop for Handle<E> {
    fn drop(&mut self) {
        self.0.close(ClientError::Closed);
    }
}

/// A connected, negotiated connection; a clone is another handle.
pub struct Connection<E: Env>(Rc<Handle<E>>);

impl<E: Env> Clone for Connection<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A received answer: decode it as the response type of what was asked.
pub struct Answer {
    frame: Bytes,
    version: i16,
    address: String,
}

impl Answer {
    /// The message, borrowing from this answer.
    pub fn decode<'a, R: Message<'a>>(&'a self) -> Result<R, ClientError> {
        let failed = |error| ClientError::decode(&self.address, R::NAME, error);
        let mut decoder = Decoder::new(&self.frame);
        ResponseHeader::decode::<R>(&mut decoder, self.version).map_err(failed)?;
        R::decode_from(&mut decoder, self.version).map_err(failed)
    }

    /// The version in which the broker answered.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// A part of a decoded message as shared bytes, without a copy.
    pub fn share(&self, part: &[u8]) -> Bytes {
        if part.is_empty() {
            Bytes::new()
        } else {
            self.frame.slice_ref(part)
        }
    }
}

impl<E: Env> Connection<E> {
    /// Connects to `host:port` and asks which versions the broker serves.
    pub async fn open(env: &E, address: &str, options: ConnectionOptions) -> Result<Self, ClientError> {
        let deadline = env.now().plus_ms(options.request_timeout_ms);
        let connecting = async {
            connect(env, address, options.protocol)
                .await
                .map_err(|cause| (address, cause))
        };
        let late = async {
            env.sleep_until(deadline).await;
            Err((
                address,
                format!("no connection after {} ms", options.request_timeout_ms),
            ))
        };
        let stream = race(connecting, late)
            .await
            .map_err(|(address, cause)| ClientError::Connect {
                address: address.to_owned(),
                cause,
            })?;
        let link = Rc::new(Link {
            env: env.clone(),
            stream,
            address: address.to_owned(),
            ranges: RefCell::default(),
            next_id: Cell::new(0),
            waiting: RefCell::default(),
            outbox: RefCell::default(),
            outbox_changed: Notify::default(),
            enqueued: Cell::new(0),
            sent: Cell::new(0),
            slots: Budget::new(options.in_flight_max),
            fault: RefCell::default(),
            options,
        });
        env.spawn(Queue::Foreground, link.clone().send_outbox());
        env.spawn(Queue::Foreground, link.clone().receive_answers());
        let connection = Self(Rc::new(Handle(link)));
        if connection.protocol() == Protocol::Kafka {
            connection.negotiate().await?;
        }
        Ok(connection)
    }

    async fn negotiate(&self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::Borrowed("ringtail"),
            client_software_version: Str::Borrowed(env!("CARGO_PKG_VERSION")),
        };
        let mut answer = self
            .ask(&request, <ApiVersionsRequest<'_> as Message>::VERSION_MAX)
            .await?;
        // An unknown version is answered in version 0, whatever was asked: the code stands first in all of them.
        let code = answer
            .frame
            .get(4..6)
            .map(|code| i16::from_be_bytes([code[0], code[1]]));
        if code == Some(ErrorCode::UnsupportedVersion.code()) {
            answer.version = 0;
            let version = ApiRanges::of(&answer.decode()?).second_question();
            answer = self.ask(&request, version).await?;
        }
        let versions: ApiVersionsResponse<'_> = answer.decode()?;
        ClientError::check(
            versions.error_code,
            || format!("ask {} for its versions", self.address()),
            None,
        )?;
        *self.0.0.ranges.borrow_mut() = ApiRanges::of(&versions);
        Ok(())
    }

    pub fn protocol(&self) -> Protocol {
        self.0.0.options.protocol
    }

    pub fn address(&self) -> &str {
        &self.0.0.address
    }

    pub fn is_closed(&self) -> bool {
        self.0.0.fault.borrow().is_some()
    }

    /// Ends the connection: whoever waits for an answer gets `Closed`.
    pub fn close(&self) {
        self.0.0.close(ClientError::Closed);
    }

    /// The version that `call` would use for `M` under this cap.
    pub fn version<'m, M: Message<'m>>(&self, version_cap: i16) -> Result<i16, ClientError> {
        match self.protocol() {
            Protocol::Kafka => self.0.0.ranges.borrow().choose::<M>(version_cap),
            Protocol::Native => Err(ClientError::NotNative { api: M::NAME }),
        }
    }

    /// Sends `request` in the newest version both have, and waits for the answer.
    pub async fn call<'m, M: Message<'m>>(&self, request: &M) -> Result<Answer, ClientError> {
        self.ask(request, self.version::<M>(i16::MAX)?).await
    }

    /// Sends `request` in exactly `version`, and waits for the answer.
    pub async fn ask<'m, M: Message<'m>>(&self, request: &M, version: i16) -> Result<Answer, ClientError> {
        let frame = self.exchange(M::NAME, |id| self.frame(request, version, id)).await?;
        Ok(Answer {
            frame,
            version,
            address: self.address().to_owned(),
        })
    }

    /// Sends the frame that `build` makes for an id, and waits for the answer: its frame without the length.
    pub(super) async fn exchange(
        &self,
        what: &'static str,
        build: impl FnOnce(u64) -> Result<Vec<Bytes>, ClientError>,
    ) -> Result<Bytes, ClientError> {
        let link = &self.0.0;
        let slot = link.slots.acquire(1).await;
        let id = self.enqueue(build)?;
        let (reply, answer) = oneshot();
        link.waiting.borrow_mut().push_back(Waiting { id, reply, _slot: slot });
        let answered = async { answer.await.unwrap_or(Err(ClientError::Closed)) };
        race(answered, self.late(what)).await
    }

    /// Ends the connection when the time for a request is over.
    async fn late<T>(&self, what: &'static str) -> Result<T, ClientError> {
        let link = &self.0.0;
        let after_ms = link.options.request_timeout_ms;
        link.env.sleep_until(link.env.now().plus_ms(after_ms)).await;
        let reason = ClientError::Timeout { what, after_ms };
        link.close(reason.clone());
        Err(reason)
    }

    /// Sends a request that has no answer (Produce with acks=0), and waits until the socket took it: no longer than for an answer.
    pub async fn tell<'m, M: Message<'m>>(&self, request: &M, version: i16) -> Result<(), ClientError> {
        self.exchange_nothing(M::NAME, |id| self.frame(request, version, id))
            .await
    }

    /// The same of any frame.
    pub(super) async fn exchange_nothing(
        &self,
        what: &'static str,
        build: impl FnOnce(u64) -> Result<Vec<Bytes>, ClientError>,
    ) -> Result<(), ClientError> {
        let link = &self.0.0;
        let _slot = link.slots.acquire(1).await;
        self.enqueue(build)?;
        let own = link.enqueued.get();
        let sent = async {
            link.outbox_changed
                .until(|| link.sent.get() >= own || link.fault.borrow().is_some())
                .await;
            match &*link.fault.borrow() {
                Some(fault) if link.sent.get() < own => Err(fault.clone()),
                _ => Ok(()),
            }
        };
        race(sent, self.late(what)).await
    }

    fn enqueue(&self, build: impl FnOnce(u64) -> Result<Vec<Bytes>, ClientError>) -> Result<u64, ClientError> {
        let link = &self.0.0;
        if let Some(fault) = &*link.fault.borrow() {
            return Err(fault.clone());
        }
        let id = link.next_id.get();
        // Kafka's are positive numbers of 32 bits.
        link.next_id.set((id + 1) & i32::MAX as u64);
        let pieces = build(id)?;
        link.outbox.borrow_mut().extend(pieces);
        link.enqueued.set(link.enqueued.get() + 1);
        link.outbox_changed.notify();
        Ok(id)
    }

    /// The frame of a Kafka request.
    fn frame<'m, M: Message<'m>>(&self, request: &M, version: i16, id: u64) -> Result<Vec<Bytes>, ClientError> {
        if self.protocol() == Protocol::Native {
            return Err(ClientError::NotNative { api: M::NAME });
        }
        let header = RequestHeader {
            api_key: M::API_KEY,
            api_version: version,
            correlation_id: id as i32,
            client_id: Some(Str::Borrowed(&self.0.0.options.client_id)),
        };
        encode_request(&header, request).map_err(|error| ClientError::encode(M::NAME, error))
    }
}

/// Which request a native answer is to.
fn native_id(frame: &Bytes) -> Result<u64, Malformed> {
    let parts = Parts::of(frame.clone())?;
    Ok(read_answer(&parts.header)?.id())
}

/// Tries each address that `host:port` means, in order.
async fn connect<E: Env>(env: &E, address: &str, protocol: Protocol) -> Result<E::Stream, String> {
    let port = match protocol {
        Protocol::Kafka => 9092,
        Protocol::Native => 9094,
    };
    let (host, port) = split_address(address, port)?;
    let targets = env.resolve(host, port).await.map_err(|error| error.to_string())?;
    let mut last = "the name has no address".to_owned();
    for target in targets {
        match env.connect(target).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{target}: {error}"),
        }
    }
    Err(last)
}

/// `host:port` or `[v6]:port`; the port may be left out, and then is `port_default`.
fn split_address(address: &str, port_default: u16) -> Result<(&str, u16), String> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or("an address begins with `[` and has no `]`")?;
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => Ok((host, port_default)),
            None => Err(format!("`{address}` is not host:port")),
            Some(port) => Ok((host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)),
        };
    }
    match address.rsplit_once(':') {
        None => Ok((address, port_default)),
        Some((host, _)) if host.contains(':') => Ok((address, port_default)),
        Some((host, port)) => Ok((host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(address: &str) -> Result<(&str, u16), String> {
        split_address(address, 9092)
    }

    #[test]
    fn addresses_are_split_with_kafkas_port_as_default() {
        assert_eq!(split("localhost:1"), Ok(("localhost", 1)));
        assert_eq!(split("a.b"), Ok(("a.b", 9092)));
        assert_eq!(split("[::1]:7"), Ok(("::1", 7)));
        assert_eq!(split("[::1]"), Ok(("::1", 9092)));
        assert_eq!(split("::1"), Ok(("::1", 9092)));
        assert!(split("a:b").is_err());
        assert!(split("a:70000").is_err());
        assert!(split("[::1").is_err());
    }
}
