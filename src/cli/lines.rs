//! Standard input, cut into lines.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes, BytesMut};

use crate::base::mailbox::Receiver;

use super::failure::Failure;

/// Lines without their line ends; the last may lack one. Memory is the longest line, which is bounded.
pub struct Lines {
    input: Receiver<io::Result<Bytes>>,
    chunks: VecDeque<io::Result<Bytes>>,
    rest: BytesMut,
    /// How much of `rest` is known to hold no line end.
    searched: usize,
    line_bytes_max: usize,
    ended: bool,
}

impl Lines {
    pub fn new(input: Receiver<io::Result<Bytes>>, line_bytes_max: usize) -> Self {
        Self {
            input,
            chunks: VecDeque::new(),
            rest: BytesMut::new(),
            searched: 0,
            line_bytes_max,
            ended: false,
        }
    }

    /// The next line that is there already, without waiting.
    pub fn buffered(&mut self) -> Option<Bytes> {
        let found = self.rest[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.searched = self.rest.len();
            return None;
        };
        let line = self.rest.split_to(self.searched + found).freeze();
        self.rest.advance(1);
        self.searched = 0;
        Some(line)
    }

    /// The next line, or `None` at the end of the input.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(Some(line));
            }
            if self.rest.len() > self.line_bytes_max {
                return Err(Failure::failed(format!(
                    "a line of standard input exceeds {} bytes",
                    self.line_bytes_max
                )));
            }
            if self.ended {
                self.searched = 0;
                return Ok((!self.rest.is_empty()).then(|| self.rest.split().freeze()));
            }
            if self.chunks.is_empty() {
                self.ended = !self.input.receive_all(&mut self.chunks).await;
            }
            match self.chunks.pop_front() {
                Some(Ok(chunk)) => self.rest.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(Failure::failed(format!("cannot read standard input: {error}"))),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::mailbox::mailbox;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn lines_are_cut_across_chunks_and_the_last_needs_no_end() {
        let (sender, receiver) = mailbox(8);
        for chunk in ["a\nb", "", "c\n\nd", "e"] {
            sender
                .try_send(Ok(Bytes::from_static(chunk.as_bytes())))
                .expect("room for all");
        }
        drop(sender);
        let mut lines = Lines::new(receiver, 100);
        let all = async {
            let mut found = Vec::new();
            while let Some(line) = lines.next().await.expect("no error was sent") {
                found.push(String::from_utf8(line.to_vec()).expect("ASCII"));
            }
            found
        };
        let mut all = pin!(all);
        let Poll::Ready(found) = all.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("everything was there");
        };
        assert_eq!(found, ["a", "bc", "", "de"]);
    }
}
