//! One connection under load: frames that were encoded before go out, answers come back in order.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use ringtail::io::Env;
use ringtail::wire::{Framing, LENGTH_BYTES, Protocol};

/// The largest answer taken.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const RECEIVE_BYTES: usize = 256 << 10;
/// Where the correlation id stands in a request frame: behind length, key and version.
const CORRELATION_POSITION: usize = 8;

/// A whole request, encoded once: only its correlation id differs from sending to sending.
#[derive(Clone)]
pub struct Frame {
    pieces: Vec<Bytes>,
    /// Whether requests are told apart by their ids.
    has_id: bool,
    /// Payload bytes and records that it carries.
    pub bytes: u64,
    pub records: u64,
}

impl Frame {
    pub fn new(pieces: Vec<Bytes>, bytes: u64, records: u64) -> Self {
        assert!(pieces[0].len() >= CORRELATION_POSITION + 4, "the header is one piece");
        Self {
            pieces,
            has_id: true,
            bytes,
            records,
        }
    }

    /// A frame that goes out as it is.
    pub fn fixed(pieces: Vec<Bytes>, bytes: u64, records: u64) -> Self {
        Self {
            pieces,
            has_id: false,
            bytes,
            records,
        }
    }

    /// Appends the frame under this correlation id to `out`; the payload is shared.
    pub fn stamp(&self, correlation_id: i32, out: &mut Vec<Bytes>) {
        if !self.has_id {
            out.extend(self.pieces.iter().cloned());
            return;
        }
        let mut head = BytesMut::from(&self.pieces[0][..]);
        head[CORRELATION_POSITION..CORRELATION_POSITION + 4].copy_from_slice(&correlation_id.to_be_bytes());
        out.push(head.freeze());
        out.extend(self.pieces[1..].iter().cloned());
    }
}

/// Connects to the first address that `host:port` means and that answers.
pub async fn connect<E: Env>(env: &E, address: &str) -> io::Result<E::Stream> {
    let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut last = io::ErrorKind::NotFound.into();
    let targets: Vec<SocketAddr> = env.resolve(host.trim_matches(['[', ']']), port).await?;
    for target in targets {
        match env.connect(target).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Takes answers off a connection.
pub struct Answers<E: Env> {
    env: E,
    stream: E::Stream,
    protocol: Protocol,
    buffer: BytesMut,
}

impl<E: Env> Answers<E> {
    pub fn new(env: E, stream: E::Stream, protocol: Protocol) -> Self {
        Self {
            env,
            protocol,
            stream,
            buffer: BytesMut::with_capacity(RECEIVE_BYTES),
        }
    }

    /// The next answer without its length, if it is here already.
    pub fn buffered(&mut self) -> io::Result<Option<Bytes>> {
        match self.protocol.next_frame(&self.buffer, ANSWER_BYTES_MAX) {
            Ok(Framing::Frame { end }) => Ok(Some(self.buffer.split_to(end).freeze().slice(LENGTH_BYTES..))),
            Ok(Framing::NeedsMore(missing)) => {
                self.buffer.reserve(missing.max(RECEIVE_BYTES));
                Ok(None)
            }
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    /// The next answer.
    pub async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(answer) = self.buffered()? {
                return Ok(answer);
            }
            let (received, back) = self.env.receive(&self.stream, std::mem::take(&mut self.buffer)).await;
            self.buffer = back;
            if received? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
