#!/usr/bin/env bash
# The restart after kill -9 under full load, with 1, 5 and 20 GB in 1000 partitions, for each class of durability.
#
#   perf/restart.sh [GB…]    other amounts; needs twice the largest on the disk; about 15 minutes with the amounts as they are
#
# Bars: from exec to the first acknowledged batch at most 1 s, to one acknowledged batch in every partition at most 3 s.
set -euo pipefail
[[ "$*" =~ ^[0-9\ .]*$ ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
source "$(dirname "$0")/common.sh"
amounts=("$@")
[ $# -gt 0 ] || amounts=(1 5 20)
partitions=1000
first_max_ms=1000
last_max_ms=3000
load=(produce -b "$address" --topic restart --partitions "$partitions" --json --warmup-seconds 0)

# fill GB: produces until so much is there.
filled=0
fill() {
    while [ "$(calculate "$filled < $1 * 1e9")" = True ]; do
        local bytes
        bytes=$("$bin/ringtail-bench" "${load[@]}" --topic-config "ringtail.durability=$class" --records-per-batch 64 \
            --batches-per-request 4 --seconds 5 | field bytes) || die "the load failed while filling"
        [ "$bytes" -gt 0 ] || die "nothing was taken for 5 s"
        filled=$((filled + bytes))
        say "$class: $(calculate "round($filled / 1e9, 2)") of $1 GB"
    done
}

rows=()
worst_first=0
worst_last=0
for class in written flushed; do
    rm -rf "$data/broker" "$arena"/* && filled=0
    broker
    for gigabytes in "${amounts[@]}"; do
        fill "$gigabytes"
        "$bin/ringtail-bench" "${load[@]}" --seconds 30 >/dev/null 2>&1 &
        loader=$!
        children+=("$loader")
        sleep 4
        runs "$loader" || die "the load ended before the kill"
        end "$broker_pid" KILL
        wait "$loader" || true
        probe_arguments=(--topic restart --partitions "$partitions" --record-bytes 100 --records-per-batch 1)
        broker
        probe_arguments=()
        first=$(field first_acknowledged_ms <<<"$started")
        last=$(field last_acknowledged_ms <<<"$started")
        say "$class, $gigabytes GB: first acknowledgement after $first ms, of all $partitions partitions after $last ms"
        rows+=("{\"class\": \"$class\", \"gigabytes\": $gigabytes, \"first_acknowledged_ms\": $first, \"last_acknowledged_ms\": $last}")
        worst_first=$(calculate "max($worst_first, $first)")
        worst_last=$(calculate "max($worst_last, $last)")
    done
    end "$broker_pid"
done
record "[$(IFS=, && echo "${rows[*]}")]"
verdict "$(calculate "$worst_first <= $first_max_ms and $worst_last <= $last_max_ms")" \
    "first acknowledgement at worst $worst_first ms (bar $first_max_ms), of all partitions $worst_last ms (bar $last_max_ms)"
