//! The rows of docs/faults.md: every one names tests, and those are in the tree.

use std::collections::BTreeSet;

use super::{Problems, Source};

pub const PAGE: &str = "docs/faults.md";
const COLUMNS: usize = 5;

/// What precedes a test's name, but for attributes between.
const TEST: &str = "#[test]";

/// The tests of a file, as `module::function` with all of its modules: those of its path from `src` or `tests` on.
fn tests_of(source: &Source) -> Vec<String> {
    let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let modules = path.replace('/', "::");
    let after = source.code.split(TEST).skip(1);
    after
        .filter_map(|rest| {
            let name = rest.split_once("fn ")?.1;
            let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
            Some(format!("{modules}::{name}"))
        })
        .collect()
}

/// All tests of the tree.
pub fn tests_in(tree: &[Source]) -> BTreeSet<String> {
    tree.iter()
        .filter(|source| source.is_rust())
        .flat_map(tests_of)
        .collect()
}

/// The cells of a table's line; `None` for a heading, its rule, and any other text.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let is_rule = cells.iter().all(|cell| cell.chars().all(|c| c == '-'));
    (!is_rule && cells.last() != Some(&"test")).then_some(cells)
}

/// Every row of the page has all its cells, and in the last one nothing but tests of `known`.
pub fn check_rows(page: &Source, known: &BTreeSet<String>) -> Problems {
    let mut problems = Vec::new();
    for (index, line) in page.text.lines().enumerate() {
        let Some(cells) = cells(line) else { continue };
        let at = format!("{}:{}", page.path, index + 1);
        if cells.len() != COLUMNS || cells.iter().any(|cell| cell.is_empty()) {
            problems.push(format!("{at}: a row of other than {COLUMNS} cells, or an empty one"));
            continue;
        }
        for named in cells[COLUMNS - 1].split(',').map(str::trim) {
            let name = named.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            let name = name.filter(|name| name.contains("::"));
            let is_there = |name: &str| known.iter().any(|test| test.ends_with(&format!("::{name}")));
            if !name.is_some_and(is_there) {
                problems.push(format!("{at}: no test of the tree: {named}"));
            }
        }
    }
    problems
}
