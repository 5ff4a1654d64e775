#!/usr/bin/env bash
# Fuzzes the targets that Cargo.toml names, and prints what each has done.
#
#   tests/fuzz/run.sh 60s                 every target for so many seconds
#   tests/fuzz/run.sh 2000000             every target for so many runs
#   tests/fuzz/run.sh total 100000000     every target for 2,000,000 runs, then the quicker ones until there are so many together
#   tests/fuzz/run.sh --jobs 2 … [NAME…]  so many targets at once; these targets only
#
# Fails when a target crashes, hangs or breaks a bound; its input is then in tests/fuzz/artifacts. Needs a nightly toolchain.
set -euo pipefail

usage() { sed -n '4,7s/^# *//p' "$0" >&2; exit 2; }

jobs=1
if [ "${1:-}" = --jobs ]; then
    jobs=${2:-}
    shift 2 || usage
fi
case "$jobs" in *[!0-9]* | '' | 0) usage ;; esac
total=
if [ "${1:-}" = total ]; then
    total=${2:-}
    case "$total" in *[!0-9]* | '') usage ;; esac
    shift
    set -- 2000000 "${@:2}"
fi
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

# one TARGET BOUND: its whole output in $logs/TARGET, its exit status in $logs/TARGET.status, its runs in $logs/TARGET.runs.
one() {
    local target=$1 status=0
    mkdir -p "corpus/$target"
    cargo +nightly fuzz run "${flags[@]}" "$target" "corpus/$target" "seeds/$target" -- \
        "$2" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
        >"$logs/$target" 2>&1 || status=$?
    [ "$status" = 0 ] && [ "$(cat "$logs/$target.status" 2>/dev/null || echo 0)" = 0 ] || status=1
    echo "$status" >"$logs/$target.status"
    field "$target" number_of_executed_units >>"$logs/$target.runs"
    echo "== $target: $([ "$status" = 0 ] && echo done || echo FAILED), $(field "$target" number_of_executed_units) runs"
}

# field TARGET NAME: a number of libFuzzer's statistics, 0 when it did not come to print them.
field() { awk -v name="stat::$2:" '$1 == name { number = $2 } END { print number + 0 }' "$logs/$1"; }

# runs TARGET: in all rounds.
runs() { awk '{ sum += $1 } END { print sum + 0 }' "$logs/$1.runs"; }

# round: every `TARGET BOUND` of the lines on stdin, some at once.
round() {
    local running=0 target bound
    while read -r target bound; do
        if [ "$running" -ge "$jobs" ]; then
            wait -n
            running=$((running - 1))
        fi
        one "$target" "$bound" </dev/null &
        running=$((running + 1))
    done
    wait
}

round < <(for target in $targets; do echo "$target $bound"; done)

if [ -n "$total" ]; then
    # What is missing, each of the quicker targets for the same time.
    round < <(for target in $targets; do echo "$(runs "$target") $(field "$target" average_exec_per_sec) $target"; done |
        awk -v total="$total" '
            { sum += $1; if ($2 >= 10000) { rate[$3] = $2; rates += $2 } }
            END { if (sum < total) for (name in rate) printf "%s -runs=%d\n", name, (total - sum) * rate[name] / rates + 1 }')
fi

runs_all=0 failed=0
printf '\n%-18s %14s %10s %10s\n' target executions per_second findings
for target in $targets; do
    runs=$(runs "$target")
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
[ "$runs_all" -ge "${total:-0}" ] || echo "fewer than $total in all: no target is quick enough" >&2
[ "$failed" = 0 ] && [ "$runs_all" -ge "${total:-0}" ]
