#!/usr/bin/env bash
# A broker that does nothing: its resident memory with two shards, and the time from exec to its first answer (ApiVersions), on an
# empty directory and on one that was stopped cleanly.
#
#   perf/small.sh [ROUNDS]   starts of each kind (10)
#
# Bars: less than 64 MiB; the median of either kind of start less than 100 ms.
set -euo pipefail
[[ "$*" =~ ^[0-9]*$ ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
source "$(dirname "$0")/common.sh"
rounds=${1:-10}
resident_max=64
answer_max_ms=100
fresh=() again=() resident=()
for round in $(seq "$rounds"); do
    rm -rf "$data/broker"
    broker -- ringtail.shards=2
    fresh+=("$(field answered_ms <<<"$started")")
    sleep 1
    resident+=("$(awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$broker_pid/status")")
    end "$broker_pid"
    broker -- ringtail.shards=2
    again+=("$(field answered_ms <<<"$started")")
    end "$broker_pid"
    say "round $round: first answer after ${fresh[-1]} ms on an empty directory, ${again[-1]} ms after a stop; resident ${resident[-1]} MiB"
done
join() { (IFS=, && echo "[$*]"); }
fresh_median=$(calculate "round(median($(join "${fresh[@]}")), 1)")
again_median=$(calculate "round(median($(join "${again[@]}")), 1)")
resident_worst=$(calculate "max($(join "${resident[@]}"))")
record "{\"resident_mib\": $(join "${resident[@]}"), \"answered_ms_empty\": $(join "${fresh[@]}"), \"answered_ms_again\": $(join "${again[@]}")}"
verdict "$(calculate "$resident_worst < $resident_max and max($fresh_median, $again_median) < $answer_max_ms")" \
    "resident at most $resident_worst MiB (bar $resident_max), first answer after $fresh_median ms empty, $again_median ms again (bar $answer_max_ms)"
