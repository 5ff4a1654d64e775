//! Every planted bug of `base::planted` has its hook in the code and its row in `docs/planted.md`.

use super::{Problems, Source, tree};

const LIST: &str = "src/base/planted.rs";
const PAGE: &str = "docs/planted.md";

/// The variants of the enum, as the macro that makes it is given them.
fn listed(tree: &[Source]) -> Vec<String> {
    let list = tree.iter().find(|source| source.path == LIST);
    let lines = list.iter().flat_map(|list| list.code.lines());
    let names = lines.skip_while(|line| !line.starts_with("bugs! {")).skip(1);
    names
        .take_while(|line| !line.starts_with('}'))
        .filter_map(|line| line.trim().strip_suffix(','))
        .map(str::to_owned)
        .collect()
}

/// The names in the first column of the page's table.
fn told(tree: &[Source]) -> Vec<String> {
    let page = tree.iter().find(|source| source.path == PAGE);
    let lines = page.iter().flat_map(|page| page.text.lines());
    lines
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn check_bugs(tree: &[Source]) -> Problems {
    let (listed, told) = (listed(tree), told(tree));
    let is_hooked = |name: &String| {
        let word = format!("Bug::{name}");
        let code = tree
            .iter()
            .filter(|source| source.path.starts_with("src/") && source.path != LIST);
        code.flat_map(|source| source.shipped.match_indices(&word).map(|(at, _)| &source.shipped[at..]))
            .any(|from| !from[word.len()..].starts_with(|c: char| c.is_alphanumeric()))
    };
    let hookless = listed.iter().filter(|name| !is_hooked(name));
    let mut problems: Problems = hookless.map(|name| format!("{LIST}: {name} has no hook")).collect();
    if listed != told {
        problems.push(format!(
            "{PAGE} has a row for each bug, in the order of {LIST}: {listed:?}, not {told:?}"
        ));
    }
    problems
}

#[test]
fn every_planted_bug_has_a_hook_and_is_told() {
    let tree = tree();
    assert!(listed(&tree).len() > 20, "the list is not found: {:?}", listed(&tree));
    let problems = check_bugs(&tree);
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn a_bug_without_hook_or_row_is_found() {
    let list = "bugs! {\n    /// What.\n    One,\n    /// What.\n    OneMore,\n}\n";
    let found = |hooks: &str, page: &str| {
        let tree = [(LIST, list), ("src/a.rs", hooks), (PAGE, page)].map(|(path, text)| Source::new(path, text));
        check_bugs(&tree).len()
    };
    let (hooks, page) = (
        "f(Bug::One); f(Bug::OneMore)",
        "| bug |\n| `One` | x |\n| `OneMore` | x |\n",
    );
    assert_eq!(found(hooks, page), 0);
    assert_eq!(found("f(Bug::OneMore)", page), 1);
    assert_eq!(found("f(Bug::One) // Bug::OneMore", page), 1);
    assert_eq!(found(hooks, "| `One` | x |\n"), 1);
    assert_eq!(found(hooks, "| `One` | x |\n| `OneMore` | x |\n| `Gone` | x |\n"), 1);
}
