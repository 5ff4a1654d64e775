#!/usr/bin/env bash
# Where the broker's CPU goes under a load: shares by kind of work, in CPU-seconds per GB and microseconds a request. The functions that
# take most stand in perf/results/profile.json.
#
#   perf/profile.sh [LOAD…]   produce-16k produce-128k produce-1m flushed-16k flushed-100b cold-fetch: what bench/compare calls so, in 16
#                             partitions; all of them unless said, and only then kept in perf/results. Needs `perf` (linux-perf) and
#                             the right to use it (root, or kernel.perf_event_paranoid).
#
# No bar: it says what a figure is made of. The samples of the last load stay in $PERF_DIR/profile.data for `perf report`.
set -euo pipefail
all=(produce-16k produce-128k produce-1m flushed-16k flushed-100b cold-fetch)
for load in "$@"; do
    [[ " ${all[*]} " == *" $load "* ]] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
done
source "$(dirname "$0")/common.sh"
command -v perf >/dev/null || die "there is no perf: install linux-perf"
loads=("$@")
[ ${#loads[@]} -gt 0 ] || loads=("${all[@]}")
samples=$(dirname "$data")/profile.data
seconds=5

# sampled COMMAND…: the load, with the broker sampled meanwhile; what it printed stands in $data/told.json.
sampled() {
    perf record --quiet -F 1999 --call-graph fp -p "$broker_pid" -o "$samples" -- "$@" --broker-pid "$broker_pid" --json >"$data/told.json"
}

produce() {
    sampled "$bin/ringtail-bench" produce -b "$address" --topic profile --partitions 16 --topic-config "ringtail.durability=$1" \
        --acks=-1 --seconds "$seconds" --warmup-seconds 1 "${@:2}"
}

# run LOAD
run() {
    rm -rf "$data/broker"
    case $1 in
    produce-16k) with_broker && produce written -c 4 --in-flight 5 --record-bytes 1024 --records-per-batch 16 ;;
    produce-128k) with_broker && produce written -c 4 --in-flight 5 --record-bytes 1024 --records-per-batch 125 ;;
    produce-1m) with_broker && produce written -c 4 --in-flight 5 --record-bytes 1024 --records-per-batch 1000 ;;
    flushed-16k) with_broker && produce flushed -c 16 --in-flight 5 --record-bytes 1024 --records-per-batch 16 ;;
    flushed-100b) with_broker && produce flushed -c 16 --in-flight 1 --record-bytes 100 --records-per-batch 1 ;;
    cold-fetch)
        with_broker
        "$bin/ringtail-bench" produce -b "$address" --topic profile --partitions 16 --topic-config ringtail.durability=written \
            --bytes-max 4294967296 --seconds 300 --warmup-seconds 0 --record-bytes 1024 --records-per-batch 16 >/dev/null
        end "$broker_pid"
        forget
        with_broker ringtail.memory.bytes=512m
        sampled "$bin/ringtail-bench" fetch -b "$address" --topic profile -c 1 --once --warmup-seconds 0
        ;;
    esac
    end "$broker_pid"
}

with_broker() { broker -- ringtail.shard.listeners=per-shard "$@"; }

# kinds: shares of the samples by kind of work and by function, of `perf script` on stdin; with what the load told, in its units.
kinds() {
    perf script --no-inline -i "$samples" -F comm,ip,sym 2>"$data/script.log" | python3 -c '
import collections, json, re, sys

told = json.load(open(sys.argv[1]))
# The first that matches counts: (kind, of the function that runs, of any function of the kernel on the stack). Stacks of the broker itself are
# not to be relied on, as nothing is built with frame pointers: there the function that runs tells.
RULES = [
    ("check sums (crc32c)", r"crc", None),
    ("socket: copies out", r"_copy_from_iter|copy_from_user|rep_movs", r"tcp_sendmsg"),
    ("socket: sending", None, r"tcp_sendmsg|io_send|splice_to_socket"),
    ("socket: copies in", r"_copy_to_iter|copy_to_user", r"tcp_recvmsg|skb_copy_datagram"),
    ("socket: receiving", None, r"tcp_recvmsg|io_recv\b"),
    ("files: writes", None, r"ext4_file_write|xfs_file_write|io_write"),
    ("files: reads", None, r"ext4_file_read|xfs_file_read|io_read"),
    ("kernel: interrupts and what they end", None, r"handle_softirqs|common_interrupt|sysvec|blk_mq_end|blk_done|wq_worker|worker_thread"),
    ("kernel: sleeping and waking", None, r"\bschedule|io_cqring_wait|try_to_wake_up|futex"),
    ("kernel: the rest of the ring", None, r"io_uring|io_submit|io_issue"),
    ("kernel: the rest", None, r"."),
    ("copies between buffers", r"memmove|memcpy", None),
    ("memory allocation", r"malloc|\bfree|cfree|realloc|_int_free|consolidate|unlink_chunk", None),
    ("executor (glommio)", r"glommio|alloc::task|RawTask", None),
    ("broker: wire and connections", r"::wire::|::broker::", None),
    ("broker: storage", r"::storage::", None),
    ("broker: ring and tasks", r"::io::|::base::", None),
]
kinds, functions, total = collections.Counter(), collections.Counter(), 0

def count(stack):
    global total
    if not stack:
        return
    leaf, whole = stack[0], " | ".join(name for name in stack if name.endswith(" [k]"))
    total += 1
    functions[leaf] += 1
    for kind, function, anywhere in RULES:
        if (function is None or re.search(function, leaf)) and (anywhere is None or re.search(anywhere, whole)):
            kinds[kind] += 1
            return
    kinds["rest"] += 1

stack = []
for line in sys.stdin:
    if not line.strip():
        count(stack)
        stack = []
    elif line[0].isspace():
        address, _, name = line.strip().partition(" ")
        stack.append(name.strip() + (" [k]" if address.startswith("ffff") else ""))
count(stack)
if not total:
    sys.exit("there are no samples")
if told["errors"]:
    sys.exit("the load had errors: %s" % told["errors"])
per_gb, per_request = told["broker_cpu_seconds_per_gigabyte"], told["broker_cpu_seconds"] * 1e6 / told["requests"]
share = lambda number: number / total
print(json.dumps({
    "megabytes_per_second": told["megabytes_per_second"], "requests_per_second": told["requests_per_second"], "samples": total,
    "cpu_s_per_gb": round(per_gb, 4), "cpu_us_per_request": round(per_request, 2),
    "kinds": {kind: round(share(number), 4) for kind, number in kinds.most_common()},
    "functions": {name[:100]: round(share(number), 4) for name, number in functions.most_common(12)},
}))' "$data/told.json"
}

figures=()
for load in "${loads[@]}"; do
    run "$load"
    figures+=("\"$load\": $(kinds)")
    python3 - "$load" "{${figures[-1]}}" <<'PYTHON'
import json, sys
load, told = sys.argv[1], json.loads(sys.argv[2])[sys.argv[1]]
print(f"{load}: {told['megabytes_per_second']:,.0f} MB/s, {told['cpu_s_per_gb']:.3f} CPU-s/GB, {told['cpu_us_per_request']:.1f} us of CPU a request, {told['samples']:,} samples")
for kind, share in told["kinds"].items():
    print(f"  {share:6.1%}  {share * told['cpu_s_per_gb']:7.3f} s/GB  {share * told['cpu_us_per_request']:8.2f} us  {kind}")
PYTHON
done
rm -rf "$data/broker"
[ ${#loads[@]} = ${#all[@]} ] || exit 0
record "{$(IFS=, && echo "${figures[*]}")}"
