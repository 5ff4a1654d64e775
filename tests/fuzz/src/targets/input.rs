//! Small values off the front of an input: what a target builds a whole file from, so that few bytes say much.

/// What is left of an input. Beyond its end stand zeros.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    /// The next `bytes`, or as many as there are.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// `N` bytes, filled up with zeros.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    /// Bytes behind a length of two bytes.
    pub fn sized(&mut self) -> &'a [u8] {
        let bytes = self.u16();
        self.take(usize::from(bytes))
    }

    /// A number that is mostly small, and now and then at the end of its type.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..0xf0 => u64::from(byte),
            0xff => u64::from_le_bytes(self.array()),
            byte => u64::MAX - u64::from(byte - 0xf0),
        }
    }
}

/// Damage: pairs of a position (two bytes) and what is flipped there.
pub fn damage(bytes: &mut [u8], mut flips: Input<'_>) {
    while !flips.is_empty() && !bytes.is_empty() {
        let position = usize::from(flips.u16()) % bytes.len();
        bytes[position] ^= flips.byte();
    }
}

/// Writes `value` at `position`, where there is room for it.
pub fn put(bytes: &mut [u8], position: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(position..position + value.len()) {
        place.copy_from_slice(value);
    }
}
