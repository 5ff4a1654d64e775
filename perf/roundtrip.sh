#!/usr/bin/env bash
# One connection, one record of 100 bytes at a time, class `written`, against Apache Kafka with its own defaults, both running, in turns.
#
#   perf/roundtrip.sh [ROUNDS [SECONDS]]   5 rounds of 5 s for each broker
#
# Ringtail has one shard; Kafka may use every CPU (KAFKA_CPUS to change that). Bar: the median of the p50 is at most 0.7 of Kafka's.
set -euo pipefail
[[ "$*" =~ ^[0-9\ ]*$ ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
"$(dirname "$0")/../tests/setup.sh" --kafka
source "$(dirname "$0")/common.sh"
rounds=${1:-5}
seconds=${2:-5}
ratio_max=0.7
kafka_port=$((port + 10))
load=(produce --topic roundtrip --partitions 1 -c 1 --in-flight 1 --record-bytes 100 --records-per-batch 1 --json)
mkdir -p "$data"
say "$("$root/bench/compare/kafka.sh" start "$data/kafka" "$kafka_port")"
children+=("$(cat "$data/kafka/pid")")
broker -- ringtail.shards=1
say "15 s for Kafka to warm up"
"$bin/ringtail-bench" "${load[@]}" -b "127.0.0.1:$kafka_port" --seconds 15 --warmup-seconds 0 >/dev/null || die "no load on Kafka"
own=() theirs=() own_tail=() theirs_tail=()
for round in $(seq "$rounds"); do
    loaded=$("$bin/ringtail-bench" "${load[@]}" -b "$address" --topic-config ringtail.durability=written --seconds "$seconds" \
        --warmup-seconds 1) || die "the load on Ringtail failed"
    own+=("$(field latency_ms.p50 <<<"$loaded")") own_tail+=("$(field latency_ms.p99 <<<"$loaded")")
    loaded=$("$bin/ringtail-bench" "${load[@]}" -b "127.0.0.1:$kafka_port" --seconds "$seconds" --warmup-seconds 1) ||
        die "the load on Kafka failed"
    theirs+=("$(field latency_ms.p50 <<<"$loaded")") theirs_tail+=("$(field latency_ms.p99 <<<"$loaded")")
    say "round $round: p50 ${own[-1]} ms (p99 ${own_tail[-1]}), Kafka ${theirs[-1]} ms (p99 ${theirs_tail[-1]})"
done
join() { (IFS=, && echo "[$*]"); }
own_median=$(calculate "median($(join "${own[@]}"))")
their_median=$(calculate "median($(join "${theirs[@]}"))")
ratio=$(calculate "round($own_median / $their_median, 3)")
record "{\"ratio\": $ratio, \"ringtail_p50_ms\": $(join "${own[@]}"), \"kafka_p50_ms\": $(join "${theirs[@]}"), \"ringtail_p99_ms\": $(join "${own_tail[@]}"), \"kafka_p99_ms\": $(join "${theirs_tail[@]}")}"
verdict "$(calculate "$ratio <= $ratio_max")" "$ratio of Kafka's p50 (bar $ratio_max): $own_median ms against $their_median ms"
