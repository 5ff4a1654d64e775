//! The `ringtail` binary.

fn main() -> std::process::ExitCode {
    ringtail::cli::run()
}
