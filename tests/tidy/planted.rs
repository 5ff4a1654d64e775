//! A planted violation of every rule must be found, and its innocent neighbour must not.

use super::*;

/// Asserts that `check` finds `expected` problems in a file of this text.
fn finds(check: fn(&Source) -> Problems, path: &str, text: &str, expected: usize) {
    let problems = check(&Source::new(path, text));
    assert_eq!(problems.len(), expected, "{path}: {text:?}: {problems:?}");
}

#[test]
fn a_planted_upward_import_is_found() {
    finds(check_imports, "src/wire/kafka/x.rs", "use crate::storage::Ends;", 1);
    finds(
        check_imports,
        "src/wire/kafka/x.rs",
        "use crate::{base::ids, broker, cli::{start}};",
        2,
    );
    finds(
        check_imports,
        "src/wire/mod.rs",
        "fn f() { super::client::connect() }",
        1,
    );
    finds(
        check_imports,
        "src/wire/kafka/x.rs",
        "use super::super::super::shard;",
        1,
    );
    finds(check_imports, "src/nowhere/mod.rs", "", 1);
    for pure in PURE {
        finds(check_imports, &format!("src/{pure}/x.rs"), "use crate::io::Env;", 1);
        finds(
            check_imports,
            &format!("src/{pure}/x.rs"),
            "super::super::io::read_file()",
            1,
        );
    }
    finds(check_imports, "src/storage/x.rs", "use crate::io::Env;", 0);
    finds(
        check_imports,
        "src/storage/mod.rs",
        "use crate::wire::batch; // never crate::broker\nconst A: &str = \"crate::cli\";",
        0,
    );
    finds(
        check_imports,
        "src/wire/mod.rs",
        "#[cfg(test)]\nmod tests {\n use crate::cli;\n}",
        0,
    );
    finds(check_imports, "src/main.rs", "use ringtail::cli;", 0);
}

/// Each name of each row, planted in each form that code takes, outside of the row's folders and inside.
#[test]
fn every_name_of_every_row_is_found_where_it_does_not_belong() {
    for row in PURITY {
        let inside = |module: &&str| format!("{module}::planted");
        let listed = row.names.iter().chain(row.modules).map(|name| name.to_string());
        let names: Vec<String> = listed.chain(row.modules.iter().map(inside)).collect();
        assert!(!names.is_empty() && !row.why.is_empty());
        for name in names {
            let mut forms = vec![format!("use {name};"), format!("fn f() {{\n    {name} {{ x }}\n}}")];
            if let Some((parent, own)) = name.rsplit_once("::") {
                forms.push(format!("use {{zzz, {parent}::{{{own}}}}};"));
            }
            for form in forms {
                let found = |path: &str| row.check(&Source::new(path, &form)).len();
                assert_eq!(found("src/client/planted.rs"), 1, "{form:?} breaks: {}", row.why);
                assert_eq!(found("tests/planted.rs"), usize::from(row.in_tests), "{form:?}");
                for folder in row.folders {
                    assert_eq!(found(&format!("{folder}/planted.rs")), 0, "{form:?} in {folder}");
                    assert_eq!(found(&format!("{folder}.rs")), 0, "{form:?} in {folder}");
                    assert_eq!(found(&format!("{folder}_not.rs")), 1, "{form:?} beside {folder}");
                }
                let in_text = format!("// {name}\nconst A: &str = \"{name}\";\n#[cfg(test)]\nmod tests {{\n{form}\n}}");
                let of_tests = usize::from(row.in_tests);
                assert_eq!(
                    row.check(&Source::new("src/client/planted.rs", &in_text)).len(),
                    of_tests,
                    "{in_text:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_reserved_is_free() {
    for text in [
        "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;",
        "use std::sync::Arc; use std::process::ExitCode; use std::collections::{BTreeMap, VecDeque};",
        "let unsafely = random.between(1, 2); writeln!(out, \"x\")",
        "if std::thread::panicking() {}",
    ] {
        finds(check_purity, "src/client/a.rs", text, 0);
    }
}

#[test]
fn a_planted_unsafe_without_its_reason_is_found() {
    finds(check_safety, "src/io/uring/a.rs", "fn g() {\n    unsafe { f() }\n}", 1);
    finds(
        check_safety,
        "src/io/uring/a.rs",
        "// SAFETY: f is sound.\nunsafe { f() }",
        0,
    );
    finds(
        check_safety,
        "src/storage/a.rs",
        "//! no unsafe here\nlet unsafely = \"unsafe\";",
        0,
    );
}

#[test]
fn a_planted_long_file_or_function_is_found() {
    finds(check_sizes, "src/a.rs", &"\n".repeat(FILE_LINES_MAX + 1), 1);
    let body = "    f();\n".repeat(FUNCTION_LINES_MAX);
    let cases = "    f();\n".repeat(TEST_FUNCTION_LINES_MAX);
    finds(
        check_sizes,
        "tests/a.rs",
        &format!("fn long() {{\n{body}}}\nfn longer() {{\n{cases}}}\n"),
        1,
    );
    finds(
        check_sizes,
        "src/a.rs",
        &format!("fn long(a: [u8; 3]) {{\n{body}}}\n"),
        1,
    );
    finds(
        check_sizes,
        "src/a.rs",
        &format!("trait T {{\n    fn short(&self);\n}}\nmod m {{\n{body}}}\n"),
        0,
    );
}

#[test]
fn a_planted_loose_end_is_found() {
    finds(check_tokens, "src/a.rs", "let a = b.unwrap();\ntodo!();\ndbg!(a);", 3);
    finds(check_tokens, "src/a.rs", "#[test]\n#[ignore]\nfn t() {}", 1);
    finds(
        check_tokens,
        "src/a.rs",
        "#[cfg(test)]\nmod tests {\n fn f() { a.unwrap() }\n}\n// todo!\nlet a = b.unwrap_or(1);",
        0,
    );
    finds(check_tokens, "src/a/tests/b.rs", "a.unwrap();", 0);
    finds(
        check_tokens,
        "src/a.rs",
        "let c = '\"'; let l: &'static str = r#\"dbg!\"#; a.unwrap();",
        1,
    );
}

#[test]
fn a_planted_machine_path_is_found() {
    finds(
        check_machine_paths,
        "README.md",
        &format!("run {}x", MACHINE_PATHS[0]),
        1,
    );
    finds(
        check_machine_paths,
        "README.md",
        &format!("see frame{}x", MACHINE_PATHS[0]),
        0,
    );
}

#[test]
fn a_planted_silent_module_is_found() {
    finds(check_module_docs, "src/a/mod.rs", "mod b;\n", 1);
    finds(
        check_module_docs,
        "src/a/mod.rs",
        "//! What a is for, and what not.\n",
        0,
    );
    finds(check_module_docs, "src/a/b.rs", "mod c;\n", 0);
}

#[test]
fn a_planted_row_without_its_test_is_found() {
    let tree = [
        Source::new("src/a/b/tests.rs", "#[test]\nfn one() {}\nfn helper() {}"),
        Source::new(
            "tests/c/d.rs",
            "#[test]\n#[should_panic]\nfn two() {}\n// #[test] fn three() {}",
        ),
        Source::new("tests/c/mod.rs", "#[test]\nfn four() {}"),
    ];
    let known = faults::tests_in(&tree);
    let found = |text: &str| faults::check_rows(&Source::new(faults::PAGE, text), &known).len();
    let row = |tests: &str| format!("| fault | seen | told | kept | {tests} |");
    for tests in ["`tests::one`", "`b::tests::one`", "`d::two`, `c::d::two`", "`c::four`"] {
        assert_eq!(found(&row(tests)), 0, "{tests}");
    }
    for tests in [
        "`tests::helper`",
        "`d::one`",
        "`d::three`",
        "`one`",
        "`sts::one`",
        "d::two",
        "`d::two` and more",
    ] {
        assert_eq!(found(&row(tests)), 1, "{tests}");
    }
    assert_eq!(found(&row("`d::gone`, `d::two`, `d::lost`")), 2);
    assert_eq!(found("| fault | seen | told | kept |"), 1);
    assert_eq!(found("| fault | seen |  | kept | `d::two` |"), 1);
    assert_eq!(
        found("| fault | a | b | c | test |\n|---|---|---|---|---|\ntext | with a bar"),
        0
    );
}
