#!/usr/bin/env bash
# A log that is read from its beginning again and again by a broker that began with nothing in memory: the first time from the
# device, the second through the page cache, then out of it without a copy.
#
#   perf/again.sh [GIGABYTES] [ROUNDS]   of the log (4), and starts of the broker with four passes each (3)
#
# Bar: a third pass takes at most half of the broker's CPU of a first one.
set -euo pipefail
[[ "$*" =~ ^[0-9\ ]*$ ]] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
source "$(dirname "$0")/common.sh"
gigabytes=${1:-4} rounds=${2:-3}
ratio_max=0.5
settings=(ringtail.memory.bytes=512m)

# pass: reads everything once; prints MB/s and CPU-seconds per GB.
pass() {
    local told
    told=$("$bin/ringtail-bench" fetch -b "$address" --topic again -c 4 --once --warmup-seconds 0 --broker-pid "$broker_pid" --json)
    echo "$(field megabytes_per_second <<<"$told") $(field broker_cpu_seconds_per_gigabyte <<<"$told")"
}

broker -- "${settings[@]}"
"$bin/ringtail-bench" produce -b "$address" --topic again --partitions 16 --topic-config ringtail.durability=written \
    --bytes-max "$((gigabytes << 30))" --seconds 300 --warmup-seconds 0 --record-bytes 1024 --records-per-batch 16 >/dev/null
end "$broker_pid"
speeds=([1]= [2]= [3]= [4]=) costs=([1]= [2]= [3]= [4]=)
for round in $(seq "$rounds"); do
    forget
    broker -- "${settings[@]}"
    for number in 1 2 3 4; do
        read -r speed cost < <(pass)
        speeds[number]+="$speed," costs[number]+="$cost,"
        say "round $round, pass $number: $speed MB/s, $cost CPU-s/GB"
    done
    end "$broker_pid"
done
figures=() told=()
for number in 1 2 3 4; do
    figures+=("\"pass_$number\": {\"megabytes_per_second\": [${speeds[number]%,}], \"cpu_seconds_per_gigabyte\": [${costs[number]%,}]}")
    told+=("$(calculate "f'{median([${speeds[number]}]):.0f} MB/s at {median([${costs[number]}]):.2f}'")")
done
record "{$(IFS=, && echo "${figures[*]}")}"
ratio=$(calculate "round(median([${costs[3]}]) / median([${costs[1]}]), 2)")
verdict "$(calculate "$ratio <= $ratio_max")" \
    "first pass ${told[0]} CPU-s/GB, second ${told[1]}, third ${told[2]}, fourth ${told[3]}: a third one takes $ratio of the CPU of a first (bar $ratio_max)"
