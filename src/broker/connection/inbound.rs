//! What arrived on a connection and is not yet a request. Pure: the connection's task does the receiving.

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::{FrameError, Framing, LENGTH_BYTES, Protocol};

/// Spare room offered to a receive on a quiet connection.
pub const STEP_BYTES_MIN: usize = 4 << 10;
/// Spare room offered to a receive on a busy connection, however long the frame it announced.
pub const STEP_BYTES_MAX: usize = 256 << 10;

/// The largest buffer that a connection keeps between frames: a step, behind the beginning of a frame.
const KEPT_BYTES_MAX: usize = STEP_BYTES_MAX / 4 * 5;

/// The largest buffer that is made at once for a frame because the one before was as large.
const WHOLE_BYTES_MAX: usize = 4 << 20;

/// A frame that is smaller than this, and than an eighth of the buffer, is copied: a request that waits keeps its own bytes, not
/// the buffer.
const COPIED_BYTES_MAX: usize = 16 << 10;
const COPIED_PART: usize = 8;

/// The receive buffer of one connection: grows with the bytes that arrived, or to the size of a frame that came whole, never with the
/// length a frame declares, and gives whole frames off, large ones without copying them.
pub struct Inbound {
    protocol: Protocol,
    buffer: BytesMut,
    /// What was allocated for it; its front may be given off already.
    allocated_bytes: usize,
    /// A frame was given off from it.
    is_used: bool,
    payload_bytes_max: usize,
    step_bytes: usize,
    /// Of the last frame that came whole: one as large may have its buffer at once, where memory is plentiful.
    last_frame_bytes: usize,
}

/// What the buffer holds now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The payload of a whole frame.
    Frame(Bytes),
    /// So many bytes more until there is a frame, at least.
    Needs(usize),
}

/// How large the buffer is to be for a receive.
#[derive(Debug, PartialEq, Eq)]
pub struct Wants {
    /// What it takes to go on; 0: it can as it is.
    pub least_bytes: usize,
    /// What saves receives.
    pub wished_bytes: usize,
}

impl Inbound {
    /// `payload_bytes_max` is `socket.request.max.bytes`.
    pub fn new(protocol: Protocol, payload_bytes_max: usize) -> Self {
        Self {
            protocol,
            buffer: BytesMut::new(),
            allocated_bytes: 0,
            is_used: false,
            payload_bytes_max,
            step_bytes: STEP_BYTES_MIN,
            last_frame_bytes: 0,
        }
    }

    pub fn next(&mut self) -> Result<Next, FrameError> {
        let framing = self.protocol.next_frame(&self.buffer, self.payload_bytes_max)?;
        if let Framing::Frame { end } = framing {
            self.last_frame_bytes = end.min(WHOLE_BYTES_MAX);
            self.is_used = true;
        }
        Ok(match framing {
            Framing::NeedsMore(bytes) => {
                if self.allocated_bytes > KEPT_BYTES_MAX && self.is_used {
                    // It was made for a frame that is given off: nobody keeps so much for the few bytes behind that.
                    let rest = BytesMut::from(&self.buffer[..]);
                    self.replace(rest);
                } else if self.buffer.is_empty() {
                    // Once nobody has what was given off it begins anew, with memory that the caches know.
                    let _ = self.buffer.try_reclaim(self.allocated_bytes);
                }
                Next::Needs(bytes)
            }
            Framing::Frame { end } if end < COPIED_BYTES_MAX.min(self.allocated_bytes / COPIED_PART) => {
                let frame = Bytes::copy_from_slice(&self.buffer[LENGTH_BYTES..end]);
                self.buffer.advance(end);
                Next::Frame(frame)
            }
            Framing::Frame { end } => {
                let mut frame = self.buffer.split_to(end);
                Next::Frame(frame.split_off(LENGTH_BYTES).freeze())
            }
        })
    }

    /// Bytes of the frame that is still arriving.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The buffer that a receive of `needs` bytes asks for; `None` when the one there is will do.
    pub fn wants(&self, needs: usize) -> Option<Wants> {
        let buffered = self.buffer.len();
        // At most one step or as much again as has arrived.
        let growth = |step_bytes: usize| needs.clamp(step_bytes, step_bytes.max(buffered));
        let spare = self.buffer.capacity() - buffered;
        let least = growth(STEP_BYTES_MIN);
        // Growing step by step copies what has arrived each time.
        let wished = match buffered + needs <= self.last_frame_bytes {
            true => needs.max(self.step_bytes),
            false => growth(self.step_bytes),
        };
        // What fits into the buffer that comes with a connection waits for no memory.
        let larger = match buffered + needs <= STEP_BYTES_MIN {
            true => STEP_BYTES_MIN,
            false => buffered + least,
        };
        (spare < needs.min(wished)).then_some(Wants {
            least_bytes: if spare >= needs.min(least) { 0 } else { larger },
            wished_bytes: buffered + wished,
        })
    }

    /// Lends the buffer to a receive, with room for `bytes` in all; 0: as it is.
    pub fn lend(&mut self, bytes: usize) -> BytesMut {
        let mut buffer = std::mem::take(&mut self.buffer);
        let growth = bytes.saturating_sub(buffer.len());
        if bytes > buffer.capacity() && !buffer.try_reclaim(growth) {
            // `reserve` would double the capacity on its own account.
            let mut larger = BytesMut::with_capacity(bytes);
            larger.extend_from_slice(&buffer);
            buffer = larger;
            (self.allocated_bytes, self.is_used) = (0, false);
        }
        // The front of it may be given off: there is no more to be seen of it than its end.
        self.allocated_bytes = self.allocated_bytes.max(buffer.capacity());
        buffer
    }

    /// What is allocated for it, as far as it can be seen.
    pub fn allocated_bytes(&self) -> usize {
        self.allocated_bytes
    }

    /// Gives an empty buffer back.
    pub fn give_back(&mut self) {
        if self.buffer.is_empty() {
            self.replace(BytesMut::new());
        }
    }

    fn replace(&mut self, buffer: BytesMut) {
        (self.allocated_bytes, self.is_used) = (buffer.capacity(), false);
        self.buffer = buffer;
    }

    /// Takes the buffer back from a receive of `received_bytes`.
    pub fn restore(&mut self, buffer: BytesMut, received_bytes: usize) {
        if buffer.len() == buffer.capacity() {
            self.step_bytes = (self.step_bytes * 2).min(STEP_BYTES_MAX);
        } else if received_bytes < self.step_bytes / 4 {
            self.step_bytes = (self.step_bytes / 2).max(STEP_BYTES_MIN);
        }
        self.buffer = buffer;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn arrive(inbound: &mut Inbound, bytes: &[u8]) -> usize {
        let Next::Needs(needs) = inbound.next().expect("the length is allowed") else {
            panic!("a frame is waiting");
        };
        let wished = inbound.wants(needs).map_or(0, |wants| wants.wished_bytes);
        let mut buffer = inbound.lend(wished);
        let taken = bytes.len().min(buffer.capacity() - buffer.len());
        buffer.put_slice(&bytes[..taken]);
        inbound.restore(buffer, taken);
        taken
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut stream = Vec::new();
        let payloads: Vec<Vec<u8>> = (0..40usize).map(|i| vec![i as u8; i * i * 37]).collect();
        for payload in &payloads {
            stream.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            stream.extend_from_slice(payload);
        }
        for cut in [1usize, 3, 1000, 70_000] {
            let mut inbound = Inbound::new(Protocol::Kafka, 1 << 20);
            let mut position = 0;
            let mut seen = 0;
            while seen < payloads.len() {
                match inbound.next().expect("all lengths are allowed") {
                    Next::Frame(frame) => {
                        assert_eq!(frame, payloads[seen]);
                        seen += 1;
                    }
                    Next::Needs(_) => {
                        let end = stream.len().min(position + cut);
                        position += arrive(&mut inbound, &stream[position..end]);
                    }
                }
            }
            assert_eq!(inbound.buffered_bytes(), 0);
        }
    }

    #[test]
    fn a_small_frame_holds_no_large_buffer() {
        let mut stream = Vec::new();
        for bytes in [100_000usize, 300, 40_000, 10] {
            stream.extend_from_slice(&(bytes as u32).to_be_bytes());
            stream.resize(stream.len() + bytes, 7);
        }
        let mut inbound = Inbound::new(Protocol::Kafka, 1 << 20);
        let (mut position, mut shares) = (0, Vec::new());
        while shares.len() < 4 {
            match inbound.next().expect("all lengths are allowed") {
                Next::Frame(frame) => shares.push(!frame.is_unique()),
                Next::Needs(_) => position += arrive(&mut inbound, &stream[position..]),
            }
        }
        assert_eq!(shares, [true, false, true, false]);
    }

    #[test]
    fn a_buffer_that_nobody_keeps_takes_the_next_frames() {
        let stream = [&20_000u32.to_be_bytes()[..], &[7; 20_000]].concat();
        let mut inbound = Inbound::new(Protocol::Kafka, 1 << 20);
        let (mut places, mut kept) = (Vec::new(), Vec::new());
        for turn in 0..40 {
            let mut position = 0;
            while position < stream.len() {
                position += arrive(&mut inbound, &stream[position..]);
            }
            let Ok(Next::Frame(frame)) = inbound.next() else {
                panic!("it is whole")
            };
            places.push(frame.as_ptr().addr());
            if turn >= 30 {
                kept.push(frame);
            }
        }
        assert!(places[20..31].iter().all(|place| *place == places[20]), "{places:?}");
        assert!(!places[31..].contains(&places[30]), "what is kept is not written over");
        assert!(kept.iter().all(|frame| frame.iter().all(|byte| *byte == 7)));
    }

    #[test]
    fn a_buffer_that_was_made_for_a_large_frame_goes_with_it() {
        let mut inbound = Inbound::new(Protocol::Kafka, 4 << 20);
        // The second time with the beginning of another one behind it, which comes to its end.
        let frame = |bytes: u32| [&bytes.to_be_bytes()[..], &vec![7; bytes as usize]].concat();
        for (bytes, behind) in [(3u32 << 20, 0), (3 << 20, 100), (20_000, 0), (3 << 20, 0)] {
            let (stream, next) = ([frame(bytes), frame(1000)].concat(), bytes as usize + LENGTH_BYTES);
            let mut buffer = inbound.lend(stream.len());
            buffer.put_slice(&stream[..next + behind]);
            inbound.restore(buffer, next + behind);
            assert!(matches!(inbound.next(), Ok(Next::Frame(frame)) if frame.len() == bytes as usize));
            assert!(matches!(inbound.next(), Ok(Next::Needs(_))));
            assert_eq!(inbound.buffered_bytes(), behind);
            assert!(
                inbound.allocated_bytes() <= KEPT_BYTES_MAX,
                "{}",
                inbound.allocated_bytes()
            );
            assert!(inbound.buffer.capacity() <= KEPT_BYTES_MAX);
            if behind > 0 {
                let mut position = next + behind;
                while position < stream.len() {
                    position += arrive(&mut inbound, &stream[position..]);
                }
                assert_eq!(inbound.next(), Ok(Next::Frame(Bytes::from(vec![7; 1000]))));
            }
        }
    }

    #[test]
    fn a_declared_length_allocates_nothing_until_its_bytes_arrive() {
        let mut inbound = Inbound::new(Protocol::Kafka, 100 << 20);
        arrive(&mut inbound, &(90u32 << 20).to_be_bytes());
        let mut arrived = 4;
        while arrived < 8 << 20 {
            let Ok(Next::Needs(needs)) = inbound.next() else {
                panic!("not whole yet")
            };
            let wants = inbound.wants(needs);
            let (least, wished) = wants.map_or((0, 0), |wants| (wants.least_bytes, wants.wished_bytes));
            assert!(least <= 2 * arrived + STEP_BYTES_MIN, "{least} for {arrived}");
            let buffer = inbound.lend(wished);
            assert!(
                buffer.capacity() <= 2 * arrived + STEP_BYTES_MAX,
                "{} for {arrived}",
                buffer.capacity()
            );
            inbound.restore(buffer, 0);
            arrived += arrive(&mut inbound, &[7; 50_000]);
        }
    }

    #[test]
    fn a_frame_as_large_as_the_one_before_has_its_buffer_at_once() {
        let frame = |bytes: usize| [&(bytes as u32).to_be_bytes()[..], &vec![7; bytes]].concat();
        let mut inbound = Inbound::new(Protocol::Kafka, 4 << 20);
        // A frame that is being served keeps its buffer.
        let (mut receives, mut frames) = ([0; 4], Vec::new());
        for (receives, bytes) in receives.iter_mut().zip([1 << 20, 1 << 20, 3 << 20, 100]) {
            let stream = frame(bytes);
            let mut position = 0;
            while position < stream.len() {
                *receives += 1;
                position += arrive(&mut inbound, &stream[position..]);
            }
            let Ok(Next::Frame(frame)) = inbound.next() else {
                panic!("it is whole")
            };
            frames.push(frame);
        }
        let [first, same, larger, _] = receives;
        assert!(first > 4 && larger > 3, "{receives:?}");
        assert!(same <= 2, "its length, and the rest of it: {receives:?}");
        arrive(&mut inbound, &(3u32 << 20).to_be_bytes());
        let Ok(Next::Needs(needs)) = inbound.next() else {
            panic!("not whole yet")
        };
        let wished = inbound.wants(needs).map_or(0, |wants| wants.wished_bytes);
        assert!(wished <= 2 * STEP_BYTES_MAX, "a small one came in between");
    }

    /// Otherwise a client of small requests would wait for memory that others fill.
    #[test]
    fn frames_that_fit_the_first_buffer_never_need_a_larger_one() {
        let mut stream = Vec::new();
        for bytes in (0..400usize).map(|i| i * 37 % 900) {
            stream.extend_from_slice(&(bytes as u32).to_be_bytes());
            stream.resize(stream.len() + bytes, 7);
        }
        let mut inbound = Inbound::new(Protocol::Kafka, 1 << 20);
        let (mut position, mut seen) = (0, 0);
        while seen < 400 {
            match inbound.next().expect("all lengths are allowed") {
                Next::Frame(_) => seen += 1,
                Next::Needs(needs) => {
                    let least = inbound.wants(needs).map_or(0, |wants| wants.least_bytes);
                    assert!(least <= STEP_BYTES_MIN, "{least}");
                    let mut buffer = inbound.lend(least);
                    let taken = (buffer.capacity() - buffer.len()).min(stream.len() - position);
                    assert!(taken > 0);
                    buffer.put_slice(&stream[position..position + taken]);
                    position += taken;
                    inbound.restore(buffer, taken);
                    assert!(inbound.allocated_bytes() <= STEP_BYTES_MIN);
                }
            }
        }
    }

    #[test]
    fn a_frame_above_the_limit_or_of_negative_length_is_refused() {
        for (limit, length) in [(1000usize, 1001i32), (1000, -1), (1000, i32::MAX), (1000, i32::MIN)] {
            let mut inbound = Inbound::new(Protocol::Kafka, limit);
            arrive(&mut inbound, &length.to_be_bytes());
            assert!(inbound.next().is_err(), "{length}");
        }
    }
}
