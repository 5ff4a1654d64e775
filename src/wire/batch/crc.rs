//! CRC-32C as a linear map: the CRC of `A ‖ Z` changes with `A` alone by a factor that depends on the length of `Z` only.
//!
//! crc(A' ‖ Z) = crc(A ‖ Z) ⊕ (crc(A) ⊕ crc(A'))·x^(8·|Z|) mod P, for A and A' of one length. The crate's `crc32c_combine` squares
//! 32×32 matrices on every call, which costs more than checksumming 64 KiB again; polynomial powers from a table cost well under 1 µs.

/// Castagnoli's polynomial, bit-reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `POWERS[k]` is x^(2^k) mod P: enough for any length below 2^37 bytes.
const POWERS: [u32; 40] = {
    let mut powers = [0; 40];
    let mut power = 1 << 30;
    let mut k = 0;
    while k < powers.len() {
        powers[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    powers
};

/// Product of two polynomials modulo P, both bit-reflected (bit 31 is x^0).
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut mask = 1u32 << 31;
    while mask != 0 {
        if a & mask != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        mask >>= 1;
    }
    product
}

/// The CRC of a byte string whose part before the last `bytes_after` bytes changed; `before` and `after` are the CRCs of that part alone,
/// or of a stretch of it that ends where the unchanged bytes begin and covers every change.
pub(super) fn replace_prefix(crc: u32, before: u32, after: u32, bytes_after: usize) -> u32 {
    let mut power = 1 << 31;
    let mut bytes = bytes_after as u64 & ((1 << 37) - 1);
    let mut k = 3; // x^8: one byte
    while bytes != 0 {
        if bytes & 1 == 1 {
            power = multiply(POWERS[k], power);
        }
        bytes >>= 1;
        k += 1;
    }
    crc ^ multiply(power, before ^ after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_a_prefix_equals_recomputing() {
        for length in [0, 1, 2, 3, 7, 8, 255, 256, 4095, 65_536, 1_000_003] {
            let mut data: Vec<u8> = (0..22 + length).map(|i| (i * 131 % 251) as u8).collect();
            let whole = crc32c::crc32c(&data);
            let before = crc32c::crc32c(&data[..22]);
            data[0] ^= 8;
            data[14..22].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
            let after = crc32c::crc32c(&data[..22]);
            assert_eq!(
                replace_prefix(whole, before, after, length),
                crc32c::crc32c(&data),
                "{length} bytes behind"
            );
        }
    }

    #[test]
    fn agrees_with_combine_for_the_longest_batches() {
        for length in [1 << 20, (1 << 31) - 1 - 43, (1usize << 32) + 5] {
            let (before, after) = (0x1234_5678, 0x9abc_def0);
            let combined = crc32c::crc32c_combine(before ^ after, 0, length);
            assert_eq!(replace_prefix(0, before, after, length), combined);
        }
    }
}
