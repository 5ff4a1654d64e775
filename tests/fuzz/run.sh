#!/usr/bin/env bash
# Fuzzes every target: tests/fuzz/run.sh 60s (seconds for each) or tests/fuzz/run.sh 1000000 (runs of each).
# A crash ends the script with an error and leaves its input in tests/fuzz/artifacts. Needs a nightly toolchain.
set -euo pipefail

case "${1:-}" in
    *[!0-9s]* | '' | s) echo "usage: $0 <seconds>s | <runs>" >&2; exit 2 ;;
    *s) bound="-max_total_time=${1%s}" ;;
    *) bound="-runs=$1" ;;
esac

cd "$(dirname "$0")"
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

for target in frame_decoder batch_validator; do
    mkdir -p "corpus/$target"
    echo "== $target"
    # No sanitizer: our code is safe Rust with debug assertions, and the C of zstd would not be instrumented anyway.
    cargo +nightly fuzz run --fuzz-dir . --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
        "$bound" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0
done
