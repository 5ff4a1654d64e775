#!/usr/bin/env bash
# Damages data directories in the simulator, one place at a time, and prints what became of it: mutations by file type and kind,
# detected, harmless by rule, undetected, served wrong. The last two have to be 0.
#
#   tests/corrupt.sh [N]     N mutations (10,000 unless said), a process per core
#
# A failure prints RINGTAIL_CORRUPT=…: with it in the environment, `cargo test --test sim corrupt -- --nocapture` shows that one.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/sim/allocator.env
case "${1:-10000}" in
*[!0-9]*)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
export RINGTAIL_CORRUPT_CASES=${1:-10000} RINGTAIL_CORRUPT_PARTS
RINGTAIL_CORRUPT_PARTS=$(nproc)
cargo test --profile explore --test sim --no-run
parts=()
for part in $(seq 0 $((RINGTAIL_CORRUPT_PARTS - 1))); do
    RINGTAIL_CORRUPT_PART=$part cargo test --profile explore --quiet --test sim -- corrupt:: --nocapture --test-threads=1 &
    parts+=($!)
done
result=0
for part in "${parts[@]}"; do wait "$part" || result=1; done
exit "$result"
