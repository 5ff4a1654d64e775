//! The syntax of Java's properties files, as `server.properties` is written in.
//!
//! Logical lines: a line whose first character is `#` or `!` is a comment; a `\` at the end of a line continues it on the
//! next (whose leading blanks do not count). The key ends at the first `=`, `:` or blank that is not escaped.
//! Escapes: `\t \n \r \f \uXXXX`, any other character stands for itself.

use std::fmt;

/// One key with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// 1-based, of the line the key begins on.
    pub number: usize,
    pub key: String,
    pub value: String,
}

/// A line that is not properties syntax.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    pub number: usize,
    pub problem: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.number, self.problem)
    }
}

/// Reads all lines of `text`, in order; a key may come more than once.
pub fn parse_properties(text: &str) -> Result<Vec<Line>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let mut natural = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .zip(1..);
    while let Some((line, number)) = natural.next() {
        let first = trim_blanks(line);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match natural.next() {
                Some((next, _)) => logical.push_str(trim_blanks(next)),
                None => break,
            }
        }
        let (key, value) = split_key(&logical);
        let unescape = |raw: &str| {
            unescape(raw).ok_or(SyntaxError {
                number,
                problem: "\\u needs four hexadecimal digits",
            })
        };
        lines.push(Line {
            number,
            key: unescape(key)?,
            value: unescape(value)?,
        });
    }
    Ok(lines)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

fn trim_blanks(line: &str) -> &str {
    line.trim_start_matches(is_blank)
}

/// An odd number of backslashes at the end.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The raw key and the raw value of a logical line.
fn split_key(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (is_blank(*c) || matches!(c, '=' | ':'));
        escaped = !escaped && *c == '\\';
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let rest = trim_blanks(&line[end..]);
    let rest = rest.strip_prefix(['=', ':']).map_or(rest, trim_blanks);
    (&line[..end], rest)
}

fn unescape(raw: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    if digits.len() != 4 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    units.push(u16::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            plain => plain,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        let lines = parse_properties(text).unwrap();
        lines
            .into_iter()
            .map(|line| (line.number, line.key, line.value))
            .collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{text:?}");
        let (_, key, value) = all.remove(0);
        (key, value)
    }

    #[test]
    fn separators_comments_and_blank_lines() {
        let text = "# a comment \\\n\n  ! another\na=1\n b : 2\r\n\tc 3\nd\ne = x = y # kept\n";
        let expected = [
            (4, "a", "1"),
            (5, "b", "2"),
            (6, "c", "3"),
            (7, "d", ""),
            (8, "e", "x = y # kept"),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(n, k, v)| (n, k.to_owned(), v.to_owned()))
            .collect();
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn a_backslash_continues_a_line() {
        assert_eq!(
            one("listeners=A://:1,\\\n   B://:2"),
            ("listeners".into(), "A://:1,B://:2".into())
        );
        assert_eq!(one("path=c:\\\\"), ("path".into(), "c:\\".into()));
        assert_eq!(one("a=b\\"), ("a".into(), "b".into()));
        assert_eq!(pairs("a=1\\\n2\nb=3").last().unwrap().0, 3);
    }

    #[test]
    fn escapes_in_keys_and_values() {
        assert_eq!(
            one("a\\=b\\ c=\\u00e9\\t\\ud83d\\ude00\\q"),
            ("a=b c".into(), "é\t😀q".into())
        );
        let refused = parse_properties("ok=1\nbad=\\u12g4").unwrap_err();
        assert_eq!(refused.to_string(), "line 2: \\u needs four hexadecimal digits");
        assert!(parse_properties("bad=\\u12").is_err());
    }
}
