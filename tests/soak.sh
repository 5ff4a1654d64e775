#!/usr/bin/env bash
# What takes too long for tests/run.sh, against the release build of the broker.
#
#   tests/soak.sh kills [COUNT]   kill -9 under load so often in each durability class (100), and the checker's word on the whole history
#   tests/soak.sh input [LINES]   a text file of so many lines of about 1 KB (1,000,000) through kcat into 16 partitions and back, every codec
#
# Progress on the way; the last line is cargo's result, and the exit status says the same.
set -euo pipefail
cd "$(dirname "$0")/.."
usage() {
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
}
[[ "${2:-1}" =~ ^[0-9]+$ ]] || usage
case "${1:-}" in
kills)
    export RINGTAIL_TEST_KILLS=${2:-100}
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
