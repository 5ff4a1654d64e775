# What the measurements share. Sourced, not run.
#
# The environment may say (all optional):
#   PERF_DIR        where the data goes, on the disk to be measured (target/perf)
#   PERF_PORT       the first of a few ports on 127.0.0.1 (28192)
#   PERF_BIN        the folder of ringtail and ringtail-bench (target/release, which is built when it is the default)
#   PERF_UNRECORDED=1   leave perf/results as it is
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
port=${PERF_PORT:-28192}
bin=${PERF_BIN:-$root/target/release}
data=${PERF_DIR:-$root/target/perf}/$(basename "$0" .sh)
address=127.0.0.1:$port
# Where brokers that are killed leave their tail memory.
arena=/dev/shm/ringtail-perf-$$
begin=$SECONDS
children=()

say() { printf '%4d s  %s\n' $((SECONDS - begin)) "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# True while the process runs (a zombie does not).
runs() { [ -r "/proc/$1/stat" ] && ! grep -q ') Z ' "/proc/$1/stat"; }

# end PID [SIGNAL]: ends a process that this script started, and waits for it.
end() {
    kill "-${2:-TERM}" "$1" 2>/dev/null || true
    for _ in $(seq 3000); do
        runs "$1" || return 0
        sleep 0.01
    done
    kill -KILL "$1" 2>/dev/null || true
}

clean_up() {
    local child
    for child in "${children[@]}"; do end "$child" KILL; done
    rm -rf "$data" "$arena"
}

# field NAME: of the JSON object on stdin; `latency_ms.p50` goes into objects.
field() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[name]
print(value)' "$1"
}

# calculate EXPRESSION: Python's, with median() and the numbers as they are.
calculate() { python3 -c "from statistics import median; print($1)"; }

# broker COMMAND-PREFIX… -- SETTING…: starts a broker on $data/broker (kept if it is there) and waits for its first answer.
# Sets `broker_pid` and `started` (what the probe printed); the probe gets `probe_arguments`, too.
probe_arguments=()
broker() {
    local prefix=() settings=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do prefix+=("$1") && shift; done
    [ $# -eq 0 ] || shift
    local setting
    for setting in "listeners=PLAINTEXT://$address" "log.dirs=$data/broker" "ringtail.arena.dir=$arena" "$@"; do settings+=(--set "$setting"); done
    mkdir -p "$data"
    started=$("$bin/ringtail-bench" probe -b "$address" --log "$data/broker.log" "${probe_arguments[@]}" \
        -- "${prefix[@]}" "$bin/ringtail" start "${settings[@]}") || { tail -n 20 "$data/broker.log" >&2; die "the broker does not start"; }
    broker_pid=$(field pid <<<"$started")
    children+=("$broker_pid")
}

# forget: takes the logs of the broker out of the page cache.
forget() {
    python3 - "$data/broker" <<'PYTHON'
import os, pathlib, sys
for log in pathlib.Path(sys.argv[1]).glob("*/*.log"):
    descriptor = os.open(log, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
PYTHON
}

# record JSON [NAME]: what was measured, with when and where, into perf/results.
record() {
    local name=${2:-$(basename "$0" .sh)}
    [ -z "${PERF_UNRECORDED:-}" ] || return 0
    mkdir -p "$root/perf/results"
    python3 - "$1" "$data" "$(git -C "$root" log -1 --format=%h 2>/dev/null)" >"$root/perf/results/$name.json" <<'PYTHON'
import datetime, json, os, platform, subprocess, sys

def first(path, key):
    with open(path) as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")

folder = sys.argv[2]
while not os.path.exists(folder):
    folder = os.path.dirname(folder)
file_system = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
print(json.dumps({
    "figures": json.loads(sys.argv[1]),
    "date": datetime.date.today().isoformat(),
    "commit": sys.argv[3],
    "machine": {
        "cpu": first("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(first("/proc/meminfo", "MemTotal").split()[0]) / 2**20),
        "kernel": platform.release(),
        "file_system": file_system,
        "load_average": os.getloadavg()[0],
    },
}, indent=2))
PYTHON
}

# verdict OK TEXT: the last line, and the end.
verdict() {
    if [ "$1" = True ] || [ "$1" = 1 ]; then
        printf 'PASSED %s: %s\n' "$(basename "$0" .sh)" "$2"
        exit 0
    fi
    printf 'MISSED %s: %s\n' "$(basename "$0" .sh)" "$2"
    exit 1
}

if [ -z "${PERF_BIN:-}" ]; then
    (cd "$root" && cargo build --release --quiet --bins)
fi
[ -x "$bin/ringtail" ] && [ -x "$bin/ringtail-bench" ] || die "no ringtail and ringtail-bench in $bin"
trap clean_up EXIT
trap 'exit 130' INT TERM
rm -rf "$data"
mkdir -p "$data" "$arena"
