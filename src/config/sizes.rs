//! Sizes as an operator writes them: `4096`, `512m`, `25%`.

/// Bytes of `text`: a whole number, with `k`, `m`, `g` or `t` (powers of 1024), or with `%` a share of `whole` where
/// there is one. `None` if it is neither.
pub(super) fn parse_size(text: &str, whole: Option<u64>) -> Option<u64> {
    let text = text.trim();
    if let Some(share) = text.strip_suffix('%') {
        let share: u64 = share.trim().parse().ok()?;
        let bytes = whole? as u128 * share as u128 / 100;
        return (share <= 100).then_some(bytes as u64);
    }
    let shift = match text.chars().last()?.to_ascii_lowercase() {
        'k' => 10,
        'm' => 20,
        'g' => 30,
        't' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_suffixes_and_shares() {
        assert_eq!(parse_size("4096", None), Some(4096));
        assert_eq!(parse_size("512m", None), Some(512 << 20));
        assert_eq!(parse_size("2G", None), Some(2 << 30));
        assert_eq!(parse_size("25%", Some(1000)), Some(250));
        assert_eq!(parse_size("100%", Some(u64::MAX)), Some(u64::MAX));
        for bad in ["", "m", "-1", "1.5g", "101%", "17179869184g", "12é"] {
            assert_eq!(parse_size(bad, Some(1000)), None, "{bad}");
        }
        assert_eq!(parse_size("25%", None), None);
    }
}
