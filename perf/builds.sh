#!/usr/bin/env bash
# Two builds of the broker under the same loads, in turns: what a change is worth.
#
#   perf/builds.sh OLD NEW [ROUNDS]   two `ringtail` binaries, and turns of each (3); the load generator is this tree's
#
# No bar: it prints, per load, the medians of both and the ratio of each round, new to old.
set -euo pipefail
[ $# -ge 2 ] && [ -f "$1" ] && [ -x "$1" ] && [ -f "$2" ] && [ -x "$2" ] && [[ "${3:-3}" =~ ^[1-9][0-9]*$ ]] \
    || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
# Copies: what follows may build this tree's binary anew.
copies=$(mktemp -d)
trap 'rm -rf "$copies"' EXIT
for build in old new; do
    mkdir "$copies/$build"
    cp "$1" "$copies/$build/ringtail"
    shift
done
rounds=${1:-3}
source "$(dirname "$0")/common.sh"
trap 'clean_up; rm -rf "$copies"' EXIT
tools=$bin

# name|listeners|class|partitions|arguments of the load
loads=(
    "16 KB x 20, written|per-shard|written|16|--record-bytes 1024 --records-per-batch 16 -c 4 --in-flight 5"
    "the same, one listener|shared|written|16|--record-bytes 1024 --records-per-batch 16 -c 4 --in-flight 5"
    "16 KB x 80, flushed|per-shard|flushed|16|--record-bytes 1024 --records-per-batch 16 -c 16 --in-flight 5"
    "5000 x 16 KB a second|per-shard|written|16|--record-bytes 1024 --records-per-batch 16 -c 4 --rate 5000"
    "100 B x 80, written|per-shard|written|16|--record-bytes 100 --records-per-batch 1 -c 16 --in-flight 5"
    "100 B x 1, written|per-shard|written|1|--record-bytes 100 --records-per-batch 1 -c 1 --in-flight 1"
)

# turn BUILD LISTENERS CLASS PARTITIONS LOAD…: sets `told` to MB/s, requests/s, microseconds of the broker's CPU a request, p99 in ms.
turn() {
    local build=$1 listeners=$2 class=$3 partitions=$4
    shift 4
    bin=$copies/$build
    broker -- "ringtail.shard.listeners=$listeners"
    sync -f "$data"
    "$tools/ringtail-bench" produce -b "$address" --topic builds --partitions "$partitions" --topic-config "ringtail.durability=$class" \
        --acks=-1 --seconds 3 --warmup-seconds 1 --broker-pid "$broker_pid" --json "$@" >"$data/told.json"
    end "$broker_pid"
    rm -rf "$data/broker"
    told=$(python3 -c '
import json, sys
told = json.load(sys.stdin)
print(told["megabytes_per_second"], told["requests_per_second"], told["broker_cpu_seconds"] * 1e6 / told["requests"], told["latency_ms"]["p99"])' \
        <"$data/told.json")
}

for build in old new; do cp "$tools/ringtail-bench" "$copies/$build/"; done
figures=()
for load in "${loads[@]}"; do
    IFS='|' read -r name listeners class partitions arguments <<<"$load"
    turns=""
    for round in $(seq "$rounds"); do
        # Who is first in one round is second in the next.
        order=(old new)
        [ $((round % 2)) -eq 1 ] || order=(new old)
        for build in "${order[@]}"; do
            # shellcheck disable=SC2086
            turn "$build" "$listeners" "$class" "$partitions" $arguments
            turns+="$build $told"$'\n'
        done
    done
    told=$(python3 - "$name" "$turns" <<'PYTHON'
import json, sys
from statistics import median

name, turns = sys.argv[1:]
runs = {"old": [], "new": []}
for line in turns.split("\n"):
    if line:
        build, *values = line.split()
        runs[build].append([round(float(value), 3) for value in values])
metrics = ["megabytes_per_second", "requests_per_second", "cpu_us_per_request", "p99_ms"]
print(json.dumps({"load": name, **{build: dict(zip(metrics, map(list, zip(*values)))) for build, values in runs.items()}}))
parts = []
for index, metric in enumerate(metrics):
    ratios = [new[index] / old[index] for old, new in zip(runs["old"], runs["new"]) if old[index]]
    middle = {build: median(run[index] for run in values) for build, values in runs.items()}
    parts.append(f"{metric} {middle['old']:,.4g} -> {middle['new']:,.4g} (x {median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f})")
print(f"{name}: " + ", ".join(parts))
PYTHON
)
    figures+=("$(head -n 1 <<<"$told")")
    say "$(tail -n 1 <<<"$told")"
done
told=$(cd "$copies" && sha256sum old/ringtail new/ringtail | awk '{ printf "%s\"%s\": \"%s\"", separator, substr($2, 1, 3), substr($1, 1, 16); separator = ", " }')
record "{\"binaries\": {$told}, \"loads\": [$(IFS=, && echo "${figures[*]}")]}"
