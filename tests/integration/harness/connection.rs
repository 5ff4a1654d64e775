//! One socket to a broker: typed requests through the crate `kafka-protocol`, or any bytes at all.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use super::HANGS;

/// What came back on a raw connection.
#[derive(PartialEq, Eq, Debug)]
pub enum Answer {
    /// One whole frame, without its length.
    Frame(Bytes),
    Closed,
    /// Nothing within the time given.
    Silence,
}

pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    pub fn open(address: &str) -> Connection {
        Connection::try_open(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    pub fn try_open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANGS))?;
        stream.set_write_timeout(Some(HANGS))?;
        Ok(Connection {
            stream,
            correlation_id: 0,
        })
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Panics
    /// If the connection is closed, or the answer is not one to this request.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.correlation_id += 1;
        let frame = frame(self.correlation_id, version, request);
        self.stream.write_all(&frame).expect("the broker takes requests");
        let Answer::Frame(mut answer) = self.answer() else {
            panic!("key {} version {version}: no answer", R::KEY)
        };
        assert_eq!(answer.get_i32(), self.correlation_id, "the answer to another request");
        // A response header from version 1 on ends in tagged fields.
        if R::Response::header_version(version) > 0 {
            assert_eq!(answer.get_u8(), 0, "no tagged fields are known here");
        }
        let response = R::Response::decode(&mut answer, version).expect("the answer can be decoded");
        assert!(
            !answer.has_remaining(),
            "key {} version {version}: {} bytes too many",
            R::KEY,
            answer.remaining()
        );
        response
    }

    /// Sends any bytes; false if the broker has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Waits for a frame or for the end.
    pub fn answer(&mut self) -> Answer {
        let mut length = [0; 4];
        match read_whole(&mut self.stream, &mut length) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Answer::Silence;
            }
            Err(_) => return Answer::Closed,
        }
        let length = usize::try_from(i32::from_be_bytes(length)).expect("an answer's length is positive");
        let mut frame = vec![0; length];
        match read_whole(&mut self.stream, &mut frame) {
            Ok(()) => Answer::Frame(frame.into()),
            Err(_) => Answer::Closed,
        }
    }

    /// The same, but only for so long.
    pub fn answer_within(&mut self, time: Duration) -> Answer {
        self.stream
            .set_read_timeout(Some(time))
            .expect("a time-out above zero is allowed");
        let answer = self.answer();
        self.stream
            .set_read_timeout(Some(HANGS))
            .expect("a time-out above zero is allowed");
        answer
    }

    /// Makes the socket's writes fail after this time instead of waiting for the broker to read.
    pub fn write_within(&mut self, time: Duration) {
        self.stream
            .set_write_timeout(Some(time))
            .expect("a time-out above zero is allowed");
    }
}

fn read_whole(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.read_exact(buffer)
}

/// A whole request frame, its length included.
pub fn frame<R: Request>(correlation_id: i32, version: i16, request: &R) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let key = ApiKey::try_from(R::KEY).expect("kafka-protocol knows its own keys");
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("ringtail-tests")));
    header
        .encode(&mut frame, key.request_header_version(version))
        .expect("the header can be encoded");
    request.encode(&mut frame, version).expect("the request can be encoded");
    set_length(&mut frame);
    frame
}

/// Makes a frame's length true again.
pub fn set_length(frame: &mut [u8]) {
    let length = u32::try_from(frame.len() - 4).expect("frames of tests are small");
    frame[..4].copy_from_slice(&length.to_be_bytes());
}

/// True if somebody answers ApiVersions (version 0, written by hand: this is the first thing a broker is asked) without an error.
pub fn answers(address: &str) -> bool {
    let Ok(mut connection) = Connection::try_open(address) else {
        return false;
    };
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    connection.send(&request)
        && matches!(connection.answer(), Answer::Frame(answer) if answer[..6] == [0, 0, 0, 7, 0, 0])
}
