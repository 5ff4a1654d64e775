#!/usr/bin/env bash
# One shard, batches of 16 KiB, class `written`, over the Kafka protocol and over the native one, against the lower of two ceilings taken in
# the same rounds: a server on the same ring that receives and forgets, and bare O_DIRECT writes of that size into files that grow like segments.
#
#   perf/ceilings.sh [ROUNDS [SECONDS]]   5 rounds of 10 s for each of the four
#
# The shard (and the sink) has the first CPU, the load the second. Bars: the medians are at least 60 % (Kafka's) and 80 % (native) of the lower
# median of the ceilings.
set -euo pipefail
[[ "$*" =~ ^[0-9\ ]*$ ]] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
source "$(dirname "$0")/common.sh"
rounds=${1:-5}
seconds=${2:-10}
share_min=0.6
native_min=0.8
partitions=16
connections=4
first=$(python3 -c 'import os; print(sorted(os.sched_getaffinity(0))[0])')
second=$(python3 -c 'import os; print(sorted(os.sched_getaffinity(0))[1])') || die "two CPUs are needed"
native=127.0.0.1:$((port + 1))
broker taskset -c "$first" -- ringtail.shards=1 "ringtail.native.listeners=$native"

# load ARGUMENT…: the JSON of one run over the protocol that the arguments say.
load() {
    taskset -c "$second" "$bin/ringtail-bench" produce -b "$address" "$@" --topic ceilings --fresh --partitions "$partitions" \
        --topic-config ringtail.durability=written -c "$connections" --in-flight "${CEILINGS_IN_FLIGHT:-20}" \
        --seconds "$seconds" --warmup-seconds 1 --broker-pid "$broker_pid" --json || die "the load failed"
}

taken=() taken_natively=() received=() written=()
for round in $(seq "$rounds"); do
    loaded=$(load)
    taken+=("$(field megabytes_per_second <<<"$loaded")")
    cpu=$(field broker_cpu_seconds_per_gigabyte <<<"$loaded")
    loaded=$(load --native "$native")
    taken_natively+=("$(field megabytes_per_second <<<"$loaded")")
    native_cpu=$(field broker_cpu_seconds_per_gigabyte <<<"$loaded")
    received+=("$("$bin/ringtail-bench" sink -c "$connections" --seconds "$seconds" --json |
        field megabytes_per_second)")
    written+=("$(taskset -c "$first" "$bin/ringtail-bench" device --directory "$data" --files "$partitions" --bytes $((2 << 30)) --json |
        field megabytes_per_second)")
    say "round $round: broker ${taken[-1]} MB/s ($cpu CPU-s/GB), natively ${taken_natively[-1]} ($native_cpu), receiving alone ${received[-1]}, writing alone ${written[-1]}"
done
join() { (IFS=, && echo "[$*]"); }
broker_median=$(calculate "median($(join "${taken[@]}"))")
native_median=$(calculate "median($(join "${taken_natively[@]}"))")
sink_median=$(calculate "median($(join "${received[@]}"))")
device_median=$(calculate "median($(join "${written[@]}"))")
share=$(calculate "round($broker_median / min($sink_median, $device_median), 3)")
native_share=$(calculate "round($native_median / min($sink_median, $device_median), 3)")
record "{\"share\": $share, \"native_share\": $native_share, \"broker\": $(join "${taken[@]}"), \"native\": $(join "${taken_natively[@]}"),
    \"sink\": $(join "${received[@]}"), \"device\": $(join "${written[@]}"), \"last_cpu_seconds_per_gigabyte\": $cpu,
    \"native_last_cpu_seconds_per_gigabyte\": $native_cpu}"
verdict "$(calculate "$share >= $share_min and $native_share >= $native_min")" \
    "$share of the lower ceiling (bar $share_min), natively $native_share (bar $native_min): broker $broker_median MB/s, natively $native_median, receiving $sink_median, writing $device_median"
