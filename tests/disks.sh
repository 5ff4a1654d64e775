#!/usr/bin/env bash
# The release build of the broker on disks that lose power, fail, stall and vanish. Needs root, /dev/fuse and /dev/loop-control; without
# them it says so and fails.
#
#   tests/disks.sh            every fault, and a few power cuts of each kind
#   tests/disks.sh cuts [N]   a soak of N power cuts (200) under load: prints cuts, acknowledged, lost, time
#
# Variables (seed, acknowledgements per cut …): tests/integration/main.rs. The last line is cargo's result, and the exit status says the same.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() {
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 2
}
filter=disks::
output=()
case "${1:-}" in
"") ;;
cuts)
    [[ "${2:-1}" =~ ^[1-9][0-9]*$ ]] || usage
    export RINGTAIL_TEST_CUTS=${2:-200} RINGTAIL_TEST_ACKS_PER_CUT=${RINGTAIL_TEST_ACKS_PER_CUT:-11000}
    filter=disks::power::nothing_flushed_is_lost_by_a_power_cut
    output=(--nocapture)
    ;;
*) usage ;;
esac
missing=()
[ "$(id -u)" = 0 ] || missing+=("root (this is $(id -un))")
for device in /dev/fuse /dev/loop-control; do
    [ -e "$device" ] || missing+=("$device")
done
for program in mount losetup mkfs.ext4 e2fsck filefrag; do
    type -P "$program" >/dev/null || missing+=("$program (tests/setup.sh)")
done
if [ ${#missing[@]} -gt 0 ]; then
    printf 'tests/disks.sh: NOT RUN, not passed. Missing:\n' >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi
cargo build --release --bin ringtail
cargo build --release -p ringtail-faulty-disk
export RINGTAIL_TEST_BIN=$PWD/target/release/ringtail RINGTAIL_TEST_DISK=$PWD/target/release/ringtail-faulty-disk
exec cargo test --test integration -- "$filter" --test-threads=2 "${output[@]}"
