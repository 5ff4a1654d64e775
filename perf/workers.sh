#!/usr/bin/env bash
# Does any operation of the broker's rings go to a kernel worker? Counts the tracepoint io_uring_queue_async_work, by opcode, over at
# least 10,000 appends to 200 partitions in each class, across rolls (segments of 1 MiB) and journal files used again (a journal of 8 MiB).
#
#   perf/workers.sh [SECONDS]   under load in each class (20); needs root (tracefs)
#
# Bar: no write. A control, writes that each grow a file, shows that the count would see them.
set -euo pipefail
[[ "$*" =~ ^[0-9]*$ ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
source "$(dirname "$0")/common.sh"
seconds=${1:-20}
appends_min=10000
partitions=200
tracing=/sys/kernel/tracing
[ -d "$tracing/events" ] || mount -t tracefs tracefs "$tracing" || die "there is no tracefs: root is needed"
[ -d "$tracing/events/io_uring" ] || die "this kernel has no tracepoints of io_uring"
instance=$tracing/instances/ringtail-workers-$$
mkdir "$instance" || die "no instance of tracefs can be made: root is needed"
enabled=$instance/events/io_uring/io_uring_queue_async_work/enable
clean_up_all() {
    echo 0 >"$enabled"
    clean_up
    rmdir "$instance"
}
trap clean_up_all EXIT
echo 32768 >"$instance/buffer_size_kb"
echo 1 >"$enabled"

# events PID: what the threads of the process sent to workers since the last call, `{"OPCODE": count}`; those of others are left out.
events() {
    ls "/proc/$1/task" | python3 -c '
import collections, json, re, sys

threads = set(sys.stdin.read().split())
count = collections.Counter()
with open(sys.argv[1]) as trace:
    for line in trace:
        event = re.match(r"\s*.+-(\d+)\s+\[\d+\].*io_uring_queue_async_work:.*opcode (\w+),", line)
        if event and event[1] in threads:
            count[event[2]] += 1
print(json.dumps(count))' "$instance/trace"
    : >"$instance/trace"
}

say "control: 100 writes that each grow the file, on the same ring"
(cd "$root" && cargo build --release --quiet --example io_probe) || die "the control cannot be built"
"$root/target/release/examples/io_probe" write "$data" 20 >"$data/control.log" &
control=$!
children+=("$control")
wait "$control" || die "the control failed"
# Its threads are gone: the events of its name are its.
controlled=$(grep -c 'io_probe-.*io_uring_queue_async_work.*opcode WRITE' "$instance/trace" || true)
: >"$instance/trace"
say "control: $controlled events for 200 writes that grow a file"
[ "$controlled" -ge 100 ] || die "the tracepoint shows no writes that are known to go to workers"

figures=("\"control\": {\"growing_writes\": 200, \"events\": $controlled}")
passed=True
for class in written flushed; do
    rm -rf "$data/broker"
    broker -- ringtail.journal.bytes=8m
    "$bin/ringtail" topic create workers --bootstrap-server "$address" --partitions "$partitions" \
        --config "ringtail.durability=$class" --config segment.bytes=1048576 >/dev/null
    events "$broker_pid" >/dev/null
    loaded=$("$bin/ringtail-bench" produce -b "$address" --topic workers --partitions "$partitions" \
        --records-per-batch 16 -c 8 --seconds "$seconds" --warmup-seconds 0 --json) || die "the load failed"
    appends=$(field requests <<<"$loaded")
    count=$(events "$broker_pid")
    rolls=$(find "$data/broker" -name '*.log' -path '*workers-*' | grep -vc '/00000000000000000000.log' || true)
    journal=$(find "$data/broker" -name 'ringtail-journal-*' | sed 's/.*-//' | sort -n | tail -n 1)
    end "$broker_pid"
    writes=$(calculate "sum(n for opcode, n in $count.items() if 'WRITE' in opcode)")
    say "$class: $appends appends, $rolls rolls, journal file number $journal; to workers: $count"
    [ "$appends" -ge "$appends_min" ] || die "$appends appends are too few: run it longer"
    [ "$rolls" -ge 1 ] || die "no segment rolled: run it longer"
    [ "$class" = written ] || [ "$journal" -ge 16 ] || die "no journal file was used again: run it longer"
    figures+=("\"$class\": {\"appends\": $appends, \"rolls\": $rolls, \"journal_file\": $journal, \"to_workers\": $count, \"writes\": $writes}")
    [ "$writes" = 0 ] || passed=False
done
record "{$(IFS=, && echo "${figures[*]}")}"
verdict "$passed" "writes that went to a kernel worker: none is the bar; ${figures[*]:1}"
