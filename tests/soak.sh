#!/usr/bin/env bash
# What takes too long for tests/run.sh, against the release build of the broker.
#
#   tests/soak.sh kills [COUNT [ACKS]]   kill -9 under load so often in each durability class (150), after so many acknowledgements on
#                                        average (35000), and the checker's word on the history of each ten kills
#   tests/soak.sh input [LINES]          a text file of so many lines of about 1 KB (1,000,000) through kcat into 16 partitions and back, every codec
#
# Progress on the way; the last line is cargo's result, and the exit status says the same.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
}
[[ "${2:-1}" =~ ^[0-9]+$ ]] || usage
case "${1:-}" in
kills)
    [[ "${3:-1}" =~ ^[0-9]+$ ]] || usage
    export RINGTAIL_TEST_KILLS=${2:-150} RINGTAIL_TEST_ACKS_PER_KILL=${3:-35000}
    filter=killed::
    ;;
input)
    export RINGTAIL_TEST_LINES=${2:-1000000}
    filter=real_input::
    ;;
*) usage ;;
esac
tests/setup.sh --quick
cargo build --release --bin ringtail
export RINGTAIL_TEST_BIN=$PWD/target/release/ringtail
exec cargo test --test integration -- "$filter" --test-threads=1 --nocapture
