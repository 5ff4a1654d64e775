//! Where a frame ends: both protocols begin one with its length, four bytes that do not count themselves.

use std::fmt;

/// Bytes of the length in front of every frame.
pub const LENGTH_BYTES: usize = 4;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Kafka,
    Native,
}

/// What the first bytes of a stream hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// At least so many more bytes are needed before there is anything to do.
    NeedsMore(usize),
    /// A whole frame: its payload is `[LENGTH_BYTES..end]` of the bytes, and the next frame begins at `end`.
    Frame { end: usize },
}

/// A declared frame length that must not be waited for: the connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    Negative(i32),
    TooLong { bytes: usize, bytes_max: usize },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Negative(length) => write!(f, "a frame declares the negative length {length}"),
            FrameError::TooLong { bytes, bytes_max } => {
                write!(f, "a frame declares {bytes} bytes, the limit is {bytes_max}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

impl Protocol {
    /// Looks for a frame at the start of `bytes`. `payload_bytes_max` bounds the declared length.
    pub fn next_frame(self, bytes: &[u8], payload_bytes_max: usize) -> Result<Framing, FrameError> {
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(Framing::NeedsMore(LENGTH_BYTES - bytes.len()));
        };
        // Kafka's is a signed number in network order, ours an unsigned one in that of FlatBuffers.
        let payload_bytes = match self {
            Self::Kafka => {
                let length = i32::from_be_bytes(*length);
                usize::try_from(length).map_err(|_| FrameError::Negative(length))?
            }
            Self::Native => u32::from_le_bytes(*length) as usize,
        };
        if payload_bytes > payload_bytes_max {
            return Err(FrameError::TooLong {
                bytes: payload_bytes,
                bytes_max: payload_bytes_max,
            });
        }
        let end = LENGTH_BYTES + payload_bytes;
        Ok(match end.checked_sub(bytes.len()) {
            None | Some(0) => Framing::Frame { end },
            Some(missing) => Framing::NeedsMore(missing),
        })
    }
}
