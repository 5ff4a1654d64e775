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

#[test]
fn a_planted_clock_socket_or_file_is_found() {
    finds(
        check_reserved,
        "src/storage/a.rs",
        "use std::time::{Duration, Instant};",
        1,
    );
    finds(check_reserved, "src/storage/a.rs", "use std::time;", 1);
    finds(check_reserved, "src/storage/a.rs", "let f = std::fs::File::open(p);", 1);
    finds(
        check_reserved,
        "src/broker/a.rs",
        "use std::net::{SocketAddr, TcpStream};",
        1,
    );
    finds(
        check_reserved,
        "src/broker/a.rs",
        "std::thread::spawn(f);\nlibc::getpid();",
        2,
    );
    finds(
        check_reserved,
        "src/io/sim/a.rs",
        "use std::time::Instant; use glommio::Task;",
        1,
    );
    finds(
        check_reserved,
        "src/io/uring/a.rs",
        "use glommio::Task; use std::fs;",
        0,
    );
    finds(
        check_reserved,
        "src/broker/a.rs",
        "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;",
        0,
    );
    finds(check_reserved, "tests/a.rs", "use std::fs;", 0);
}

#[test]
fn a_planted_unsafe_is_found() {
    finds(check_unsafe, "src/storage/a.rs", "// SAFETY: none\nunsafe { f() }", 1);
    finds(check_unsafe, "src/io/uring/a.rs", "fn g() {\n    unsafe { f() }\n}", 1);
    finds(
        check_unsafe,
        "src/io/uring/a.rs",
        "// SAFETY: f is sound.\nunsafe { f() }",
        0,
    );
    finds(
        check_unsafe,
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
