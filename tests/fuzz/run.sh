#!/usr/bin/env bash
# Fuzzes the targets that Cargo.toml names, and prints what each has done.
#
#   tests/fuzz/run.sh 60s                 every target for so many seconds
#   tests/fuzz/run.sh 2000000             every target for so many runs
#   tests/fuzz/run.sh --jobs 2 … [NAME…]  so many targets at once; these targets only
#
# Fails when a target crashes, hangs or breaks a bound; its input is then in tests/fuzz/artifacts. Needs a nightly toolchain.
set -euo pipefail

usage() { sed -n '4,6s/^# *//p' "$0" >&2; exit 2; }

jobs=1
if [ "${1:-}" = --jobs ]; then
    jobs=${2:-}
    shift 2 || usage
fi
case "$jobs" in *[!0-9]* | '' | 0) usage ;; esac
case "${1:-}" in
    *[!0-9s]* | '' | s) usage ;;
    *s) bound="-max_total_time=${1%s}" ;;
    *) bound="-runs=$1" ;;
esac
shift

cd "$(dirname "$0")"
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
targets=$(awk '/^\[\[/ { bin = /bin/ } bin && /^name/ { gsub(/"/, ""); print $3 }' Cargo.toml)
if [ $# -gt 0 ]; then
    for target; do
        grep -qx "$target" <<<"$targets" || { echo "no such target: $target" >&2; exit 2; }
    done
    targets=$(printf '%s\n' "$@")
fi

# No sanitizer: our code is safe Rust with debug assertions, and the C of zstd would not be instrumented anyway.
flags=(--fuzz-dir . --sanitizer none)
cargo +nightly fuzz build "${flags[@]}"
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# one TARGET: its whole output in $logs/TARGET, its exit status in $logs/TARGET.status.
one() {
    local target=$1 status=0
    mkdir -p "corpus/$target"
    cargo +nightly fuzz run "${flags[@]}" "$target" "corpus/$target" "seeds/$target" -- \
        "$bound" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
        >"$logs/$target" 2>&1 || status=$?
    echo "$status" >"$logs/$target.status"
    echo "== $target: $([ "$status" = 0 ] && echo done || echo FAILED)"
}

running=0
for target in $targets; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n
        running=$((running - 1))
    fi
    one "$target" &
    running=$((running + 1))
done
wait

# field TARGET NAME: a number of libFuzzer's statistics, 0 when it did not come to print them.
field() { awk -v name="stat::$2:" '$1 == name { number = $2 } END { print number + 0 }' "$logs/$1"; }

runs_all=0 failed=0
printf '\n%-18s %14s %10s %10s\n' target executions per_second findings
for target in $targets; do
    runs=$(field "$target" number_of_executed_units)
    findings=0
    if [ "$(cat "$logs/$target.status")" != 0 ]; then
        findings=1 failed=$((failed + 1))
    fi
    runs_all=$((runs_all + runs))
    printf '%-18s %14d %10d %10d\n' "$target" "$runs" "$(field "$target" average_exec_per_sec)" "$findings"
done
printf '%-18s %14d %10s %10d\n' total "$runs_all" '' "$failed"
for target in $targets; do
    if [ "$(cat "$logs/$target.status")" != 0 ]; then
        printf '\n== %s failed; the end of its output:\n' "$target"
        tail -n 40 "$logs/$target"
    fi
done
[ "$failed" = 0 ]
