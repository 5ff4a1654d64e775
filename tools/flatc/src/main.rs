//! Makes the committed Rust code of a FlatBuffers schema, beside the schema.
//!
//! `cargo run --manifest-path tools/flatc/Cargo.toml -- src/cluster/metadata.fbs`

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let schemas: Vec<String> = std::env::args().skip(1).collect();
    if schemas.is_empty() {
        eprintln!("usage: ringtail-flatc SCHEMA.fbs …");
        return ExitCode::from(2);
    }
    for schema in &schemas {
        let beside = Path::new(schema).parent().unwrap_or(Path::new("."));
        let done = Command::new(flatc_fork::flatc()).args(["--rust", "-o"]).arg(beside).arg(schema).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("flatc failed on {schema}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
