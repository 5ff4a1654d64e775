#!/usr/bin/env bash
# An honest producer (records of 100 bytes, acks=all, 8 partitions, `flushed`) beside clients that mean no good: its latency, and what
# each attack makes the broker's memory grow by. All from one address, the worst case: nothing is kept free for the honest one.
#
#   perf/hostile.sh [SECONDS [ATTACK…]]   15 s for each of alone, busy, half-frames, trickle, never-reads, connects, small, heavy, bombs, all,
#                                         and on a native listener native-half-frames, native-never-reads, native-heavy
#
# `busy` is a well-behaved load in a closed loop, for comparison: it takes all the CPU it gets, as the floods do. Memory: what the broker has resident over what it had
# before the attack, the largest of samples every quarter of a second; tail memory (the mapped arena, which any load fills up to its configured
# size) is shown by itself and not counted. HOSTILE_SETTINGS="key=value …" goes to the broker.
#
# Bars: growth under 256 MiB; the honest client's worst produce under 1 s.
set -euo pipefail
[[ "$*" =~ ^[0-9]*(\ ?[a-z-]+)*$ ]] || { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; }
source "$(dirname "$0")/common.sh"
seconds=${1:-15}
shift || true
growth_max=256
worst_max=1000
settle=4
rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(alone busy half-frames trickle never-reads connects small heavy bombs all native-half-frames native-never-reads native-heavy)
native=127.0.0.1:$((port + 1))
[ "$(ulimit -n)" -ge 20000 ] || ulimit -n 20000 || die "20,000 open files are needed: ulimit -n"

# kib FIELD…: of the broker's memory, in sum.
kib() {
    local pattern
    pattern=$(IFS='|' && echo "$*")
    awk -v pattern="^($pattern):" '$0 ~ pattern { sum += $2 } END { print sum + 0 }' "/proc/$broker_pid/status"
}

own_kib() { kib RssAnon RssFile; }

# start_attack NAME: in the background; adds to `attackers`.
start_attack() {
    local connections=2000 what=${1#native-} where=()
    [ "$what" = "$1" ] || where=(--native "$native")
    case $what in
        busy)
            "$bin/ringtail-bench" produce -b "$address" --topic busy --partitions 8 -c 64 --in-flight 5 --record-bytes 100 \
                --records-per-batch 1 --seconds $((seconds + settle + 2)) --json >"$data/busy.json" 2>"$data/busy.log" &
            attackers+=($!) && children+=($!)
            return
            ;;
        connects) connections=16 ;;
        small) connections=500 ;;
        heavy | bombs) connections=64 ;;
    esac
    "$bin/ringtail-bench" hostile "$what" -b "$address" "${where[@]}" --topic large --partitions 8 -c "$connections" --seconds $((seconds + settle + 2)) --json \
        >"$data/$1.json" 2>"$data/$1.log" &
    attackers+=($!) && children+=($!)
}

cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$broker_pid/stat"; }

# measure NAME: the honest load beside the attack. One row of the table, and of the JSON.
results=()
worst=0 grown=0
measure() {
    local name=$1 attackers=() attack honest load sample before peak=0 ticks tail
    rm -rf "$data/broker"
    broker -- ringtail.shards=2 "ringtail.native.listeners=$native" ${HOSTILE_SETTINGS:-}
    # Something to read for those who ask for much, more than tail memory keeps in one place; then some quiet.
    "$bin/ringtail-bench" produce -b "$address" --topic large --partitions 8 -c 2 --record-bytes 16384 --records-per-batch 32 --rate 400 \
        --seconds 4 --warmup-seconds 0 >/dev/null
    "$bin/ringtail-bench" produce -b "$address" --topic honest --partitions 8 -c 4 --record-bytes 100 --records-per-batch 1 --rate 400 \
        --seconds 2 --warmup-seconds 0 >/dev/null
    sleep 1
    before=$(own_kib)
    case $name in
        alone) ;;
        all) for attack in half-frames trickle never-reads connects small heavy bombs; do start_attack "$attack"; done ;;
        *) start_attack "$name" ;;
    esac
    ticks=$(cpu_ticks)
    "$bin/ringtail-bench" produce -b "$address" --topic honest --partitions 8 -c 4 --record-bytes 100 --records-per-batch 1 --rate 400 \
        --seconds "$seconds" --warmup-seconds "$settle" --json >"$data/honest.json" 2>"$data/honest.log" &
    load=$! && children+=("$load")
    while runs "$load"; do
        sample=$(own_kib)
        [ "$sample" -le "$peak" ] || peak=$sample
        sleep 0.25
    done
    wait "$load" || { cat "$data/honest.log" >&2; die "$name: the honest client was let down"; }
    ticks=$(($(cpu_ticks) - ticks))
    tail=$(($(kib RssShmem) / 1024))
    for attack in "${attackers[@]}"; do wait "$attack" || { cat "$data"/*.log >&2; die "$name: the attack itself failed"; }; done
    runs "$broker_pid" || die "$name: the broker is gone"
    end "$broker_pid"
    honest=$(<"$data/honest.json")
    local growth=$(((peak - before) / 1024)) max
    max=$(field latency_ms.max <<<"$honest")
    worst=$(calculate "max($worst, $max)") grown=$(calculate "max($grown, $growth)")
    printf '%-18s %9s %9s %9s %9s %8s MiB %8s MiB %6s %%\n' "$name" "$(field latency_ms.p50 <<<"$honest")" "$(field latency_ms.p99 <<<"$honest")" \
        "$(field latency_ms.p999 <<<"${honest//p99.9/p999}")" "$max" \
        "$growth" "$tail" "$(calculate "round($ticks / ($seconds + $settle))")"
    results+=("{\"beside\": \"$name\", \"honest\": $honest, \"growth_mib\": $growth, \"tail_mib\": $tail, \"broker_cpu_percent\": $(calculate "round($ticks / ($seconds + $settle))")}")
    [ "$(field errors <<<"$honest")" = 0 ] || die "$name: honest requests were refused"
}

printf '%-18s %9s %9s %9s %9s %12s %12s %8s\n' beside 'p50 ms' p99 p99.9 max grown tail 'broker CPU'
for row in "${rows[@]}"; do measure "$row"; done
record "[$(IFS=, && echo "${results[*]}")]"
verdict "$(calculate "$grown < $growth_max and $worst < $worst_max")" \
    "the honest client's worst produce $worst ms (bar $worst_max), memory grown by at most $grown MiB (bar $growth_max)"
