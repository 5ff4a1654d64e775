//! What of a source file is code, which of it ships, and which paths and functions it names. No parser: just enough of one.

/// `text` with comments and the contents of strings and characters replaced by blanks; line breaks stay.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (blank_from, end) = match literal_at(bytes, at) {
            Some(range) => range,
            None => {
                at += 1;
                continue;
            }
        };
        out[blank_from..end]
            .iter_mut()
            .filter(|byte| **byte != b'\n')
            .for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(out).expect("whole literals were replaced by ASCII blanks")
}

/// The comment, string or character that begins at `at`: from where it is to be blanked, and its end.
fn literal_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &bytes[at..];
    let end_of = |needle: &[u8], from: usize| {
        let found = bytes[from..].windows(needle.len()).position(|window| window == needle);
        found.map_or(bytes.len(), |position| from + position + needle.len())
    };
    let inside_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return Some((at, end_of(b"\n", at)));
    }
    if rest.starts_with(b"/*") {
        return Some((at, block_comment_end(bytes, at)));
    }
    let raw_prefix = if inside_word { 0 } else { raw_string_prefix(rest) };
    if raw_prefix > 0 {
        let hashes = rest[..raw_prefix].iter().filter(|byte| **byte == b'#').count();
        let mut close = vec![b'"'];
        close.resize(1 + hashes, b'#');
        return Some((at + 1, end_of(&close, at + raw_prefix)));
    }
    if rest.starts_with(b"\"") {
        return Some((at + 1, quoted_end(bytes, at + 1, b'"')));
    }
    // A lifetime has no closing quote within two characters; a character literal has one, or begins with a backslash.
    if rest.starts_with(b"'") {
        let character = std::str::from_utf8(&rest[1..rest.len().min(6)])
            .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]));
        let width = character
            .ok()
            .and_then(|text| text.chars().next())
            .map_or(1, char::len_utf8);
        if rest.get(1) == Some(&b'\\') || rest.get(1 + width) == Some(&b'\'') {
            return Some((at + 1, quoted_end(bytes, at + 1, b'\'')));
        }
    }
    None
}

/// Bytes of `r"`, `r#"`, `br##"` … at the start of `rest`, or 0.
fn raw_string_prefix(rest: &[u8]) -> usize {
    let mut length = if rest.starts_with(b"br") {
        2
    } else if rest.starts_with(b"r") {
        1
    } else {
        return 0;
    };
    length += rest[length..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(length) == Some(&b'"') { length + 1 } else { 0 }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// `code` with every item under `#[cfg(test)]` blanked.
pub fn without_test_items(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut out = code.to_string();
    let mut from = 0;
    while let Some(found) = out[from..].find(ATTRIBUTE) {
        let start = from + found;
        let end = item_end(&out, start + ATTRIBUTE.len());
        let blank: String = out[start..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        out.replace_range(start..end, &blank);
        from = start;
    }
    out
}

/// The end of the item, statement or field that begins at `from`: its closing brace, or the `;` or `,` before any brace.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (index, c) in code[from..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' if depth <= 1 => return from + index + usize::from(depth == 1),
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            ';' | ',' if depth == 0 => return from + index + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path in `code` with its line: `a::{b, c::d}` counts as `a::b` and `a::c::d`.
pub fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let starts = is_word(bytes[at]) && !bytes[at].is_ascii_digit();
        if !starts {
            at += 1;
            continue;
        }
        at = path_at(code, at, "", &mut found);
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Reads the path that begins at `at` into `found`, with `prefix` in front; returns where it ends.
fn path_at(code: &str, at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    let mut path = prefix.to_string();
    let mut end = at;
    loop {
        let word_end = end + bytes[end..].iter().take_while(|byte| is_word(**byte)).count();
        path.push_str(&code[end..word_end]);
        end = word_end;
        if bytes.get(end) == Some(&b'*') && path.ends_with("::") {
            path.push('*');
            end += 1;
        }
        let after = end + code[end..].len() - code[end..].trim_start().len();
        if !code[after..].starts_with("::") {
            break;
        }
        let next = after + 2;
        path.push_str("::");
        match bytes.get(next) {
            Some(b'{') => return group_at(code, next + 1, &path, found),
            Some(byte) if is_word(*byte) || *byte == b'*' => end = next,
            _ => break,
        }
    }
    let line = code[..at].matches('\n').count() + 1;
    found.push((line, path.trim_end_matches("::").to_string()));
    end.max(at + 1)
}

/// Reads the members of a `{…}` group up to its closing brace.
fn group_at(code: &str, mut at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let bytes = code.as_bytes();
    while at < bytes.len() && bytes[at] != b'}' {
        at = match bytes[at] {
            byte if is_word(byte) || byte == b'*' => path_at(code, at, prefix, found),
            _ => at + 1,
        };
    }
    at + 1
}

/// The functions of `code`: first line and number of lines.
pub fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if start > 0 && is_word(code.as_bytes()[start - 1]) {
            continue;
        }
        let Some(open) = body_start(code, start) else { continue };
        let end = item_end(code, open);
        let first = code[..start].matches('\n').count() + 1;
        found.push((first, code[start..end].matches('\n').count() + 1));
    }
    found
}

/// The opening brace of the function that begins at `start`, if it has a body.
fn body_start(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0;
    for (index, c) in code[start..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(start + index),
            _ => {}
        }
    }
    None
}
