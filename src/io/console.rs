//! Standard input for commands: read by a thread of its own, because a pipe or a terminal may block for ever.

use std::io::{self, Read};
use std::thread;

use bytes::{Bytes, BytesMut};

use crate::base::mailbox::{Receiver, SendError, Sender, mailbox};

/// Chunks that wait for the reader at most; the thread then waits too.
const CHUNKS_MAX: usize = 16;
const CHUNK_BYTES: usize = 64 << 10;

/// The content of standard input in chunks; the mailbox ends with the input, or with its first error. The thread ends
/// with the input or with the process.
pub fn standard_input() -> io::Result<Receiver<io::Result<Bytes>>> {
    let (sender, receiver) = mailbox(CHUNKS_MAX);
    thread::Builder::new()
        .name("ringtail-stdin".into())
        .spawn(move || read_all(&sender))?;
    Ok(receiver)
}

fn read_all(sender: &Sender<io::Result<Bytes>>) {
    let mut input = io::stdin().lock();
    let mut buffer = BytesMut::new();
    loop {
        buffer.resize(CHUNK_BYTES, 0);
        let chunk = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => Ok(buffer.split_to(read).freeze()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = chunk.is_err();
        if deliver(sender, chunk).is_err() || last {
            return;
        }
    }
}

/// Waits, blocking this thread, until the mailbox took `chunk` or is closed.
fn deliver(sender: &Sender<io::Result<Bytes>>, mut chunk: io::Result<Bytes>) -> Result<(), ()> {
    loop {
        match sender.try_send(chunk) {
            Ok(()) => return Ok(()),
            Err(SendError::Closed(_)) => return Err(()),
            Err(SendError::Full(back)) => {
                chunk = back;
                thread::sleep(std::time::Duration::from_micros(200));
            }
        }
    }
}
