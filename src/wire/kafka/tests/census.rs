//! What the random messages of a test held, so that a test that compares nothing of interest fails.

use std::collections::{BTreeMap, BTreeSet};

/// An array of so many elements needs a length of two bytes in compact form.
const LONG: usize = 128;
const VALUES_KEPT_MAX: usize = 3;

/// What was seen at one field, named by its path (`topics[].partitions[].index`).
#[derive(Default)]
struct Seen {
    /// Different values, as text; for arrays and structs none.
    values: BTreeSet<String>,
    null: bool,
    present: bool,
    is_list: bool,
    empty: bool,
    long: bool,
}

#[derive(Default)]
pub struct Census(BTreeMap<String, Seen>);

impl Census {
    /// Takes in a message, as golden's `normalised` writes it.
    pub fn note(&mut self, text: &str) {
        let rest = self.value(text, "");
        assert_eq!(rest, "", "the whole text was read");
    }

    /// Reads one value at `path`; what follows it.
    fn value<'t>(&mut self, text: &'t str, path: &str) -> &'t str {
        if let Some(fields) = text.strip_prefix('{') {
            return self.fields(fields, path);
        }
        if let Some(elements) = text.strip_prefix('[') {
            return self.elements(elements, path);
        }
        let seen = self.0.entry(path.to_owned()).or_default();
        if let Some(rest) = text.strip_prefix("None") {
            seen.null = true;
            return rest;
        }
        if let Some(inner) = text.strip_prefix("Some(") {
            seen.present = true;
            let rest = self.value(inner, path);
            return rest.strip_prefix(')').expect("Some is closed");
        }
        let end = scalar_end(text);
        if seen.values.len() < VALUES_KEPT_MAX {
            seen.values.insert(text[..end].to_owned());
        }
        &text[end..]
    }

    fn fields<'t>(&mut self, mut text: &'t str, path: &str) -> &'t str {
        loop {
            text = text.trim_start_matches([' ', ',']);
            if let Some(rest) = text.strip_prefix('}') {
                return rest;
            }
            let (name, rest) = text.split_once(": ").expect("a field has a name");
            let own = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            text = self.value(rest, &own);
        }
    }

    fn elements<'t>(&mut self, mut text: &'t str, path: &str) -> &'t str {
        let own = format!("{path}[]");
        let mut count = 0;
        loop {
            text = text.trim_start_matches([' ', ',']);
            if let Some(rest) = text.strip_prefix(']') {
                let seen = self.0.entry(path.to_owned()).or_default();
                seen.is_list = true;
                seen.empty |= count == 0;
                seen.long |= count >= LONG;
                return rest;
            }
            text = self.value(text, &own);
            count += 1;
        }
    }

    /// # Panics
    /// If a field (but for those `apart`, which no compared version carries) never had another value, an optional one was never
    /// null or never there, or an array never empty or never long.
    pub fn assert_rich(&self, name: &str, apart: &[&str]) {
        let mut poor = Vec::new();
        for (path, seen) in self.0.iter().filter(|(path, _)| !apart.contains(&path.as_str())) {
            let mut lacks = |lacking: bool, what: &str| {
                if lacking {
                    poor.push(format!("{path}: {what}"));
                }
            };
            lacks(seen.values.len() == 1, "always the same value");
            lacks(seen.present && !seen.null, "never null");
            lacks(seen.null && !seen.present, "always null");
            lacks(seen.is_list && !seen.empty, "never empty");
            lacks(seen.is_list && !seen.long, "never long");
        }
        assert!(
            poor.is_empty(),
            "{name}: what is compared is poor:\n{}",
            poor.join("\n")
        );
        for path in apart {
            assert!(self.0.contains_key(*path), "{name}: no field {path}");
        }
    }
}

/// Where a number, a word or a quoted text ends (with what is in parentheses behind it).
fn scalar_end(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return index,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => return index,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn a_census_finds_what_was_never_there() {
    let rich = |texts: &[&str]| {
        let mut census = Census::default();
        texts.iter().for_each(|text| census.note(text));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| census.assert_rich("planted", &[]))).is_ok()
    };
    let long = format!("{{a: [{}]}}", vec!["1"; LONG].join(", "));
    assert!(rich(&["{a: 1}", "{a: 2}"]));
    assert!(!rich(&["{a: 1}", "{a: 1}"]), "one value");
    assert!(rich(&["{a: Some(\"x, }\")}", "{a: Some(\"\\\"\")}", "{a: None}"]));
    assert!(!rich(&["{a: Some(1)}", "{a: Some(2)}"]), "no null");
    assert!(!rich(&["{a: None}"]), "null alone");
    assert!(rich(&["{a: []}", "{a: [2]}", &long]));
    assert!(!rich(&["{a: [1, 2]}", &long]), "no empty array");
    assert!(!rich(&["{a: []}", "{a: [1, 2]}"]), "no long array");
    assert!(
        !rich(&["{a: [], b: {c: 1}}", "{a: [2], b: {c: 1}}", &long]),
        "deep in it"
    );
}
