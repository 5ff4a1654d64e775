#!/usr/bin/env bash
# Explores crashes of the log store in the simulator and prints how many distinct surviving states were tried.
#
#   tests/explore.sh [SECONDS]   fresh seeds for that long (600 unless said), progress after each
#   tests/explore.sh ci          one fixed pass and one fresh seed
#
# A failure prints RINGTAIL_SIM_SEED and RINGTAIL_SIM_INDEX: with them in the environment, `cargo test --test sim explore`
# replays that crash in every way. RINGTAIL_SIM_STRIDE (7 in the long form) is the distance between crash points: 1 crashes at each.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-600}" in
ci) export RINGTAIL_SIM_FORM=ci ;;
*[!0-9]*)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
*) export RINGTAIL_SIM_FORM=long RINGTAIL_SIM_SECONDS=${1:-600} ;;
esac
exec cargo test --test sim -- explore --nocapture
