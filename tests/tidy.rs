//! The rules of the tree that a compiler does not check, as tests over the source files themselves.
//!
//! Every rule is a row of data plus a small check, and every check has a test that plants a violation. Checks look at
//! code only: comments, string contents and (where a rule is about shipped code) `#[cfg(test)]` items are blanked first.

use std::path::Path;
use std::process::Command;

#[path = "tidy/bugs.rs"]
mod bugs;
#[path = "tidy/faults.rs"]
mod faults;
#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/purity.rs"]
mod purity;

use lexer::{code_only, functions, paths, without_test_items};
use purity::{PURITY, Purity, check_purity};

/// The modules of the crate in import order: each may use itself and those before it.
const MODULES: &[&str] = &[
    "base",
    "io",
    "wire",
    "config",
    "metrics",
    "security",
    "storage",
    "replication",
    "cluster",
    "coordinator",
    "client",
    "broker",
    "admin",
    "shard",
    "cli",
];

/// Modules that are functions of what they are given: they know the environment by no name.
const PURE: &[&str] = &["base", "wire", "config", "metrics"];
/// Tokens that shipped code does not hold.
const BANNED_TOKENS: &[&str] = &[".unwrap()", "todo!", "unimplemented!", "dbg!"];
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
/// A test may carry its table of cases.
const TEST_FUNCTION_LINES_MAX: usize = 100;
/// How far above an `unsafe` its reason may stand: an attribute and a few lines of comment.
const SAFETY_LINES_MAX: usize = 6;
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// A file of the tree: its path from the root, its text, and the text without comments and string contents.
struct Source {
    path: String,
    text: String,
    code: String,
    /// `code` without the items that exist only in tests.
    shipped: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = code_only(text);
        let shipped = if is_test_file(path) {
            String::new()
        } else {
            without_test_items(&code)
        };
        Self {
            path: path.into(),
            text: text.into(),
            code,
            shipped,
        }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn within(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| {
            self.path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with(['/', '.']))
        })
    }
}

/// Files that are compiled for tests only: the integration tests, and `tests` modules with a file or folder of their own.
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// What is wrong, one line each: `path:line: message`.
type Problems = Vec<String>;

fn module_of(path: &str) -> Option<&str> {
    let module = path.strip_prefix("src/")?.split('/').next()?;
    match module.strip_suffix(".rs") {
        Some("main" | "lib") => None,
        Some(file) => Some(file),
        None => Some(module),
    }
}

/// The top-level module that `path`, as written in the file at `file`, reaches; `None` when it stays inside or leaves the crate.
fn reached_module<'p>(file: &str, path: &'p str) -> Option<&'p str> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return rest.split("::").next();
    }
    let supers = path.split("::").take_while(|part| *part == "super").count();
    let inside = file
        .strip_prefix("src/")?
        .trim_end_matches("/mod.rs")
        .trim_end_matches(".rs");
    let depth = inside.split('/').count();
    (supers >= depth).then(|| path.split("::").nth(supers)).flatten()
}

fn check_imports(source: &Source) -> Problems {
    let Some(own) = module_of(&source.path) else {
        return Vec::new();
    };
    let Some(rank) = MODULES.iter().position(|module| *module == own) else {
        return vec![format!("{}: module `{own}` is not in the import table", source.path)];
    };
    let reached = paths(&source.shipped).into_iter().filter_map(|(line, path)| {
        let module = reached_module(&source.path, &path)?;
        let above = MODULES.iter().position(|row| *row == module)? > rank;
        let impure = module == "io" && PURE.contains(&own);
        (above || impure).then(|| format!("{}:{line}: `{own}` may not use `{module}` ({path})", source.path))
    });
    reached.collect()
}

/// Every `unsafe` says why it is sound. (Where it may stand at all is a row of `purity`.)
fn check_safety(source: &Source) -> Problems {
    let lines: Vec<&str> = source.text.lines().collect();
    let has_reason = |index: usize| {
        let near = &lines[index.saturating_sub(SAFETY_LINES_MAX)..=index];
        near.iter()
            .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
    };
    let words = paths(&source.code).into_iter();
    words
        .filter(|(line, word)| word == "unsafe" && !has_reason(line - 1))
        .map(|(line, _)| format!("{}:{line}: `unsafe` without a `SAFETY:` comment", source.path))
        .collect()
}

fn check_sizes(source: &Source) -> Problems {
    let lines = source.text.lines().count();
    let mut problems = Vec::new();
    if lines > FILE_LINES_MAX {
        problems.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
    }
    for (line, length) in functions(&source.code) {
        let shipped = functions(&source.shipped).contains(&(line, length));
        let max = if shipped {
            FUNCTION_LINES_MAX
        } else {
            TEST_FUNCTION_LINES_MAX
        };
        if length > max {
            problems.push(format!(
                "{}:{line}: a function of {length} lines, at most {max}",
                source.path
            ));
        }
    }
    problems
}

fn check_tokens(source: &Source) -> Problems {
    let mut problems = Vec::new();
    for (index, line) in source.shipped.lines().enumerate() {
        for token in BANNED_TOKENS.iter().filter(|token| line.contains(**token)) {
            problems.push(format!("{}:{}: `{token}` in shipped code", source.path, index + 1));
        }
    }
    for (index, line) in source.code.lines().enumerate() {
        if line.contains("#[ignore") {
            problems.push(format!("{}:{}: a test that is never run", source.path, index + 1));
        }
    }
    problems
}

fn check_machine_paths(source: &Source) -> Problems {
    let mut problems = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for machine_path in MACHINE_PATHS {
            let named = line.match_indices(machine_path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
            });
            if named {
                problems.push(format!(
                    "{}:{}: a path of one machine (`{machine_path}`)",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    problems
}

fn check_module_docs(source: &Source) -> Problems {
    let wants = source.path.ends_with("/mod.rs") && source.path.starts_with("src/") || source.path == "src/lib.rs";
    let has = source.text.starts_with("//! ");
    if wants && !has {
        vec![format!(
            "{}: does not open with what the module is for (`//! …`)",
            source.path
        )]
    } else {
        Vec::new()
    }
}

/// All text files of the tree that git tracks or would track.
fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git lists the files of the tree");
    assert!(
        list.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&list.stderr)
    );
    let names = String::from_utf8(list.stdout).expect("file names are UTF-8");
    let read = |name: &str| Some(Source::new(name, &std::fs::read_to_string(root.join(name)).ok()?));
    let sources: Vec<Source> = names.split_terminator('\0').filter_map(read).collect();
    assert!(
        sources.iter().any(|source| source.path == "src/lib.rs"),
        "the tree was not found"
    );
    sources
}

fn holds(check: fn(&Source) -> Problems, rust_only: bool) {
    let tree = tree();
    // What flatc writes is checked at its schema; its `unsafe` stands behind the verifier.
    let is_generated = |source: &Source| source.path.ends_with("_generated.rs");
    let checked = tree
        .iter()
        .filter(|source| (source.is_rust() || !rust_only) && !is_generated(source));
    let problems: Vec<String> = checked.flat_map(check).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn imports_go_one_way() {
    holds(check_imports, true);
}

#[test]
fn what_is_reserved_is_named_in_its_folders_only() {
    holds(check_purity, true);
}

/// A permission that nobody uses would let something in unseen.
#[test]
fn every_folder_uses_what_it_is_permitted() {
    let tree = tree();
    for row in PURITY {
        for folder in row.folders {
            let everywhere = Purity { folders: &[], ..*row };
            let mut within = tree
                .iter()
                .filter(|source| source.is_rust() && source.within(&[folder]));
            assert!(
                within.any(|source| !everywhere.check(source).is_empty()),
                "{folder} names nothing of {:?} {:?}: it needs no permission",
                row.modules,
                row.names
            );
        }
    }
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    holds(check_safety, true);
}

#[test]
fn files_and_functions_can_be_read_in_one_sitting() {
    holds(check_sizes, true);
}

#[test]
fn shipped_code_has_no_loose_ends() {
    holds(check_tokens, true);
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    holds(check_machine_paths, false);
}

#[test]
fn every_module_says_what_it_is_for() {
    holds(check_module_docs, true);
}

#[test]
fn every_row_of_the_table_of_faults_names_tests_that_are_there() {
    let tree = tree();
    let page = tree.iter().find(|source| source.path == faults::PAGE);
    let problems = faults::check_rows(page.expect("the page is there"), &faults::tests_in(&tree));
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
