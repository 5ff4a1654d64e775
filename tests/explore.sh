#!/usr/bin/env bash
# Explores crashes of the log store in the simulator and prints how many distinct surviving states were tried.
#
#   tests/explore.sh [SECONDS]      fresh seeds for that long (600 unless said) on every core, progress after each
#   tests/explore.sh states COUNT [FILE]
#                                   fresh seeds until so many distinct states were tried; with FILE those of earlier calls count, too
#   tests/explore.sh every          every completion of one workload of 6,000 (RINGTAIL_SIM_COMPLETIONS), every way to crash there, and
#                                   every completion of some of the recoveries
#   tests/explore.sh ci             one fixed pass and one fresh seed, as a part of the tests
#
# A failure prints RINGTAIL_SIM_SEED and RINGTAIL_SIM_INDEX: with them in the environment, `cargo test --test sim explore`
# replays that crash in every way. RINGTAIL_SIM_STRIDE (7 in the long forms) is the distance between crash points: 1 crashes at each.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/sim/allocator.env
profile=(--profile explore)
case "${1:-600}" in
ci)
    export RINGTAIL_SIM_FORM=ci
    # The build that the other tests use.
    profile=()
    ;;
every) export RINGTAIL_SIM_FORM=every ;;
states)
    export RINGTAIL_SIM_FORM=long RINGTAIL_SIM_STATES=${2:?how many states}
    if [ -n "${3:-}" ]; then
        RINGTAIL_SIM_STATES_FILE=$(realpath -m "$3") && export RINGTAIL_SIM_STATES_FILE
    fi
    ;;
*[!0-9]*)
    sed -n '2,13s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
*) export RINGTAIL_SIM_FORM=long RINGTAIL_SIM_SECONDS=${1:-600} ;;
esac
exec cargo test "${profile[@]}" --test sim -- explore::nothing_acknowledged --nocapture
