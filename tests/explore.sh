#!/usr/bin/env bash
# Explores crashes of the log store in the simulator and prints how many distinct surviving states were tried.
#
#   tests/explore.sh [SECONDS]   fresh seeds for that long (600 unless said), progress after each
#   tests/explore.sh ci          one fixed pass and one fresh seed
#   tests/explore.sh every       every completion of one workload of 6,000 (RINGTAIL_SIM_COMPLETIONS), every way to crash there,
#                                and every completion of some of the recoveries; a process per core (8 at most), each prints its part
#
# A failure prints RINGTAIL_SIM_SEED and RINGTAIL_SIM_INDEX: with them in the environment, `cargo test --test sim explore`
# replays that crash in every way. RINGTAIL_SIM_STRIDE (7 in the long form) is the distance between crash points: 1 crashes at each.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-600}" in
ci) export RINGTAIL_SIM_FORM=ci ;;
every)
    # Each part has to meet everything that can happen: few are large enough for that.
    cores=$(nproc)
    export RINGTAIL_SIM_FORM=every RINGTAIL_SIM_STRIDE=$((cores > 8 ? 8 : cores))
    cargo test --test sim --no-run
    parts=()
    for part in $(seq 0 $((RINGTAIL_SIM_STRIDE - 1))); do
        RINGTAIL_SIM_PHASE=$part cargo test --quiet --test sim -- explore::nothing_acknowledged --nocapture &
        parts+=($!)
    done
    result=0
    for part in "${parts[@]}"; do wait "$part" || result=1; done
    exit "$result"
    ;;
*[!0-9]*)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
*) export RINGTAIL_SIM_FORM=long RINGTAIL_SIM_SECONDS=${1:-600} ;;
esac
exec cargo test --test sim -- explore --nocapture
