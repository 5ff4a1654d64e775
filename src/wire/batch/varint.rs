//! Zigzag varints, as the records use them (protobuf's sint32 and sint64).

/// Longest varint of 64 bits.
pub(super) const VARINT_BYTES_MAX: usize = 10;

/// Why no number could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VarintError {
    Truncated,
    Overflow,
}

/// A number and the bytes it took.
pub(super) type Read<N> = Result<(N, usize), VarintError>;

/// A 64-bit number and the bytes it took. Encodings with set bits beyond the 64th are refused.
pub(super) fn read_i64(bytes: &[u8]) -> Read<i64> {
    let mut raw = 0u64;
    for (index, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        if index == VARINT_BYTES_MAX - 1 && byte > 1 {
            return Err(VarintError::Overflow);
        }
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(((raw >> 1) as i64 ^ -((raw & 1) as i64), index + 1));
        }
    }
    if bytes.len() >= VARINT_BYTES_MAX {
        Err(VarintError::Overflow)
    } else {
        Err(VarintError::Truncated)
    }
}

/// A 32-bit number and the bytes it took. A value that does not fit, or more than five bytes, is refused.
pub(super) fn read_i32(bytes: &[u8]) -> Read<i32> {
    const BYTES_MAX: usize = 5;
    match read_i64(&bytes[..bytes.len().min(BYTES_MAX)]) {
        Ok((value, length)) => Ok((i32::try_from(value).map_err(|_| VarintError::Overflow)?, length)),
        Err(VarintError::Truncated) if bytes.len() >= BYTES_MAX => Err(VarintError::Overflow),
        Err(error) => Err(error),
    }
}

/// Appends `value`; 32-bit numbers have the same encoding.
pub(super) fn write(out: &mut Vec<u8>, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Bytes that [`write`] appends.
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_return_from_their_encoding() {
        let numbers = [
            0,
            1,
            -1,
            63,
            -64,
            64,
            -65,
            8191,
            8192,
            1 << 31,
            -(1 << 31),
            i64::MAX,
            i64::MIN,
        ];
        for number in numbers {
            let mut out = Vec::new();
            write(&mut out, number);
            assert_eq!(out.len(), size(number), "{number}");
            assert_eq!(read_i64(&out), Ok((number, out.len())));
            for end in 0..out.len() {
                assert_eq!(read_i64(&out[..end]), Err(VarintError::Truncated));
            }
        }
    }

    #[test]
    fn overlong_and_oversized_numbers_are_refused() {
        assert_eq!(read_i64(&[0xff; 10]), Err(VarintError::Overflow));
        assert_eq!(read_i64(&[0xff; 11]), Err(VarintError::Overflow));
        assert_eq!(read_i32(&[0xff; 5]), Err(VarintError::Overflow));
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(VarintError::Overflow));
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok((i32::MIN, 5)));
        assert_eq!(read_i32(&[0xff; 4]), Err(VarintError::Truncated));
    }
}
