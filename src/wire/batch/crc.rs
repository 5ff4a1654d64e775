//! CRC-32C as a linear map: the CRC of `A ‖ Z` changes with `A` alone by a factor that depends on the length of `Z` only.
//!
//! crc(A' ‖ Z) = crc(A ‖ Z) ⊕ (crc(A) ⊕ crc(A'))·x^(8·|Z|) mod P, for A and A' of one length, and crc(A ‖ B) = crc(A)·x^(8·|B|) ⊕ crc(B).
//! The crate's `crc32c_combine` squares 32×32 matrices on every call, which costs more than checksumming 64 KiB again; polynomial powers
//! from a table cost about 0.1 µs.

/// Castagnoli's polynomial, bit-reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Digits of a length, in base 256: enough for any below 2^40 bytes.
const DIGITS: usize = 5;

/// `POWERS[k][d]` is x^(8·d·256^k) mod P.
static POWERS: [[u32; 256]; DIGITS] = {
    let mut powers = [[ONE; 256]; DIGITS];
    let mut step = 1 << 23; // x^8: one byte
    let mut k = 0;
    while k < DIGITS {
        let mut digit = 1;
        while digit < 256 {
            powers[k][digit] = multiply(powers[k][digit - 1], step);
            digit += 1;
        }
        step = multiply(powers[k][255], step);
        k += 1;
    }
    powers
};

/// x^0.
const ONE: u32 = 1 << 31;

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

/// `crc` · x^(8·`bytes`) mod P: what a CRC contributes in front of so many bytes.
fn shift(crc: u32, bytes: usize) -> u32 {
    let digits = (bytes as u64).to_le_bytes();
    POWERS
        .iter()
        .zip(digits)
        .filter(|(_, digit)| *digit != 0)
        .fold(crc, |crc, (powers, digit)| multiply(powers[usize::from(digit)], crc))
}

/// The CRC of `A ‖ B`, from the CRCs of both and the length of `B` (below 2^40).
pub(super) fn concatenate(a: u32, b: u32, bytes_of_b: usize) -> u32 {
    shift(a, bytes_of_b) ^ b
}

/// The CRC of a byte string whose part before the last `bytes_after` bytes changed; `before` and `after` are the CRCs of that part alone,
/// or of a stretch of it that ends where the unchanged bytes begin and covers every change.
pub(super) fn replace_prefix(crc: u32, before: u32, after: u32, bytes_after: usize) -> u32 {
    crc ^ shift(before ^ after, bytes_after)
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
            assert_eq!(
                concatenate(before, after, length),
                crc32c::crc32c_combine(before, after, length)
            );
        }
    }
}
