#!/usr/bin/env bash
# Which lines of every decoder the seeds and the corpus reach: a table, and a failure below 90 %.
#
#   tests/fuzz/coverage.sh            the table
#   tests/fuzz/coverage.sh --missed   and every line that nothing reached
#
# Needs the nightly toolchain with its llvm-tools. `src/coverage.rs` says what counts as a decoder's line.
set -euo pipefail
cd "$(dirname "$0")"
rustup component add llvm-tools --toolchain nightly 2>/dev/null
tools=$(rustc +nightly --print target-libdir)/../bin
out=target/coverage
mkdir -p "$out/raw"
rm -f "$out"/raw/*

# With debug assertions, so that code which only they reach is reached here too.
RUSTFLAGS="-C instrument-coverage" LLVM_PROFILE_FILE="$PWD/$out/raw/build-%m.profraw" \
    cargo +nightly build --release --target-dir "$out" --example replay
rm -f "$out"/raw/*
# Alone: it needs nothing of the broker, which would be built once more for it.
rustc +nightly --edition 2024 -O src/coverage.rs -o "$out/table"
for target in $(awk '/^\[\[/ { bin = /bin/ } bin && /^name/ { gsub(/"/, ""); print $3 }' Cargo.toml); do
    LLVM_PROFILE_FILE="$PWD/$out/raw/$target.profraw" \
        "$out/release/examples/replay" "$target" "seeds/$target" "corpus/$target"
done
"$tools/llvm-profdata" merge -sparse "$out"/raw/*.profraw -o "$out/all.profdata"
sources=$(cd ../../src && pwd)
"$tools/llvm-cov" export --format=lcov --instr-profile="$out/all.profdata" "$out/release/examples/replay" \
    --sources "$sources" >"$out/lcov"
"$out/table" "$sources" "$out/lcov" "$@"
