#!/usr/bin/env bash
# Runs the tests, and installs what they need first.
#
#   tests/run.sh           everything: format, lints, unit and simulator tests, real clients, a minute and a half of fuzzing
#   tests/run.sh --quick   the pure cores with fixed seeds and one kcat round trip
#
# Stops at the first failure. The last line is `N passed, N failed`, and what was not run for want of root.
set -uo pipefail
cd "$(dirname "$0")/.."
begin=$SECONDS
results=$(mktemp)
trap 'rm -f "$results"' EXIT

say() { printf '== %s (%d s)\n' "$*" $((SECONDS - begin)); }

# What could not run here: never counted as passed, and said in the last line.
not_run=

# The sum of cargo's own result lines.
total() {
    awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed", passed, failed }' "$results"
    printf '%s\n' "$not_run"
}

# Far beyond any step: what takes longer hangs, and is said to.
hangs=20m

# step WHAT COMMAND…: runs it in the open; the end of everything when it fails.
step() {
    local what=$1
    shift
    say "$what"
    if ! timeout --foreground "$hangs" "$@" 2>&1 | tee -a "$results"; then
        say "FAILED: $what"
        printf 'to see it alone: %s\n' "$*"
        # A failure outside the test runner counts as one, too.
        grep -q '^test result: FAILED' "$results" || echo 'test result: FAILED. 0 passed; 1 failed' >>"$results"
        total
        exit 1
    fi
}

case "${1:-}" in
--quick)
    step "what the tests need" tests/setup.sh --quick
    # What runs on the real ring belongs to the whole form.
    step "pure cores" cargo test --workspace --lib --quiet -- --skip io::uring
    step "the comparison's arithmetic" python3 -m unittest discover -s bench/compare
    step "one kcat round trip" cargo test --test integration --quiet kcat::first_record
    ;;
"")
    step "what the tests need" tests/setup.sh
    step "format" cargo fmt --all --check
    step "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
    step "the comparison's arithmetic" python3 -m unittest discover -s bench/compare
    # Every test target that Cargo.toml declares, the one with real clients apart.
    targets=$(awk '/^\[\[test\]\]/ { test = 1; next } /^\[/ { test = 0 } test && /^name/ { print $3 }' Cargo.toml | tr -d '"')
    step "unit tests" cargo test --workspace --lib --bins
    for target in $targets; do
        [ "$target" = integration ] || step "tests/$target" cargo test --test "$target"
    done
    step "crashes explored: one fixed pass, one fresh seed" tests/explore.sh ci
    # Real clients meet what is shipped: the release build of the broker, under the tests' own (faster to build) profile.
    step "release build" cargo build --release --bin ringtail
    step "no planted bug in it" bash -c '! grep -q -e AcknowledgeBeforeFlush -e RINGTAIL_PLANTED target/release/ringtail'
    export RINGTAIL_TEST_BIN=$PWD/target/release/ringtail
    step "real clients" cargo test --test integration -- --test-threads=2 --skip disks::
    if [ "$(id -u)" = 0 ]; then
        step "real disks that fail" tests/disks.sh
    else
        not_run="; NOT RUN: tests of disks that fail, which need root (tests/disks.sh)"
    fi
    if [ -x tests/fuzz/run.sh ]; then
        step "a minute and a half of fuzzing" tests/fuzz/run.sh 7s
    fi
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
say "done"
total
