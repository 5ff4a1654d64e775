#!/usr/bin/env bash
# Runs the whole broker in the simulator: clients, faults of process, disk, network and clock, fresh seeds, the history checker's word on each.
#
#   tests/simulate.sh [HOURS]   so many simulated hours (1), over a process per core; progress on the way, the figures at the end
#
# A seed that fails prints the command that replays it. The exit status is 0 only if no seed failed and every kind of fault happened.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/sim/allocator.env
hours=${1:-1}
if ! [[ $hours =~ ^[0-9]+$ ]] || [ "$hours" -eq 0 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 2
fi
cores=$(nproc)
export RINGTAIL_SIM_TOTAL_MINUTES=$(((hours * 60 + cores - 1) / cores))
run=(cargo test --profile explore --quiet --test sim)
"${run[@]}" --no-run
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
parts=()
for part in $(seq "$cores"); do
    "${run[@]}" -- broker::clients --nocapture 2> >(tee "$results/$part" >&2) &
    parts+=($!)
done
failed=0
for part in "${parts[@]}"; do wait "$part" || failed=1; done
# Lines of name=value, one of each process that came to its end.
cat "$results"/* | awk -v cores="$cores" '
    $1 == "sum:" {
        parts++
        for (i = 2; i <= NF; i++) { split($i, pair, "="); total[pair[1]] += pair[2] }
    }
    END {
        if (parts < cores) { printf "%d of %d processes did not come to their end\n", cores - parts, cores; exit 1 }
        minutes = total["virtual_ms"] / 60000
        wall = total["wall_ms"] / 60000
        printf "%.1f simulated hours, %d seeds, %.1f seeds a minute, %.0f virtual seconds a second and core\n",
            minutes / 60, total["seeds"], total["seeds"] / (wall / parts), minutes / wall
        for (name in total) if (name ~ /^fault\./) {
            faults += total[name]
            sub(/^fault\./, "", name)
            line = line sprintf("  %s %d", name, total["fault." name])
            if (total["fault." name] == 0) missing = missing " " name
        }
        printf "%.0f operations and %.1f faults a simulated minute, %d records acknowledged, %d read\n",
            total["operations"] / minutes, faults / minutes, total["acknowledged"], total["read"]
        print "faults:" line
        printf "seeds with anomalies: %d\n", total["failed"]
        if (missing != "") { print "never happened:" missing; exit 1 }
        exit total["failed"] > 0
    }' || failed=1
exit "$failed"
