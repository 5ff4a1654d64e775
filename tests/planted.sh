#!/usr/bin/env bash
# Plants one fault after the other in a build made for it, and shows which tests find it, in how long.
#
#   tests/planted.sh [--json] [BUG…]   the bugs of src/base/planted.rs, or these
#
# First every tool runs without a bug and has to pass. Each bug then goes through the tools of a part in the order of their cost until
# one finds it; where the bug is about acknowledged records, through those of the whole as well. The exit status is 1 when a tool fails
# without a bug, when nothing finds a bug, or when no tool of the whole finds one about acknowledged records. What the tools printed is
# under target/planted/logs. RINGTAIL_PLANTED_BUILD=no uses what the last call built.
set -euo pipefail
cd "$(dirname "$0")/.."

# The tools: name | of a part or the whole | seconds at most | test binary | its arguments and, as NAME=VALUE, its environment.
# What takes longer hangs, which is a way to be found: without a bug none may.
tools='
units     | part  | 300 | lib         | --skip io::uring --skip shard:: --skip cluster::driver
broker    | part  | 300 | lib         | shard:: cluster::driver
simulator | part  | 400 | sim         | --skip explore:: --skip faults:: --skip verify::
damage    | whole | 300 | sim         | verify::
faults    | whole | 300 | sim         | faults::
explorer  | whole | 300 | sim         | explore::nothing_acknowledged
further   | whole | 600 | sim         | explore::nothing_acknowledged RINGTAIL_SIM_FORM=ci
kills     | whole | 300 | integration | killed:: RINGTAIL_TEST_KILLS=5
clients   | part  | 400 | integration | retention:: lifecycle:: bad_input::
'
# On a faulty disk, under ext4 and the real binary.
power='power     | whole | 400 | integration | disks::power::nothing_flushed RINGTAIL_TEST_CUTS=5'
if [ "$(id -u)" = 0 ] && [ -e /dev/fuse ] && [ -e /dev/loop-control ]; then
    tools+=$power$'\n'
else
    printf 'NOT RUN, which needs root, /dev/fuse and /dev/loop-control: the tool `power`\n' >&2
fi

# The longest: damages of every kind.
tools+='rot       | whole | 600 | sim         | corrupt:: RINGTAIL_CORRUPT_CASES=1500'$'\n'

# Bugs that can take, double, move or hide acknowledged records: a tool has to find them that knows nothing of the code.
acknowledged='JournalHeaderUnchecked TimeLookupOverGap MisnamedFolderTaken AcknowledgeBeforeFlush FlushWrongFile CommitUnflushed SettleUnflushed SkipJournalBlock ConfirmUnwrittenCommit
DurableOffByOne RetryFailedFlush CommitFailureIgnored CorruptionIsTornTail TornCommitIsWhole ReplayRecycledJournal RecycleTooEarly
RemoveBeforeBase DeleteBeforeLogStart WindowOfFour ForgetProducersAtRoll ForgetProducersAtCheckpoint ForgetProducersInReplay
DuplicateAtWrongOffset FetchAboveHighWatermark'

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
}

json=no
chosen=()
for argument in "$@"; do
    case "$argument" in
    --json) json=yes ;;
    -*) usage ;;
    *) chosen+=("$argument") ;;
    esac
done

say() { printf '%s\n' "$*" >&2; }

export CARGO_TARGET_DIR=$PWD/target/planted
logs=$CARGO_TARGET_DIR/logs
mkdir -p "$logs"
if [ "${RINGTAIL_PLANTED_BUILD:-yes}" = yes ]; then
    say "building with faults (once)"
    RUSTFLAGS="--cfg ringtail_planted" cargo test --profile explore --no-run --lib --bin ringtail --test sim --test integration \
        2>&1 | tee "$logs/build" >&2
    # A tool of the tests, without faults of its own.
    cargo build --profile explore -p ringtail-faulty-disk
fi
export RINGTAIL_TEST_DISK=$CARGO_TARGET_DIR/explore/ringtail-faulty-disk

# binary SOURCE: the test executable that was built of it.
binary() {
    local found
    found=$(sed -n "s|.*Executable.* $1 (\(.*\))|\1|p" "$logs/build")
    [ -x "$found" ] || { say "no test binary of $1: see $logs/build"; exit 1; }
    printf '%s' "$found"
}
declare -A binaries=(
    [lib]=$(binary src/lib.rs)
    [sim]=$(binary tests/sim/main.rs)
    [integration]=$(binary tests/integration/main.rs)
)

# The list is what the binary says of a bug that there is not, before it ends badly.
names=$({ RINGTAIL_PLANTED=none-such "$CARGO_TARGET_DIR/explore/ringtail" --version 2>&1 || true; } | sed -n 's/^\([A-Z][A-Za-z]*\)$/\1/p')
[ -n "$names" ] || { say "the build has no faults"; exit 1; }
for bug in "${chosen[@]}"; do
    grep -qx "$bug" <<<"$names" || { say "$bug is none of"; say "$names"; exit 2; }
done
[ ${#chosen[@]} -gt 0 ] || mapfile -t chosen <<<"$names"

now() { date +%s.%N; }

# run TOOL BUG: 0 when all passed. `seconds` is how long it took, `finder` the test that failed first.
run() {
    local name kind limit target words begin log status=0 arguments=() variables=()
    IFS='|' read -r name kind limit target words < <(grep "^$1 *|" <<<"$tools")
    for word in $words; do
        case "$word" in *=*) variables+=("$word") ;; *) arguments+=("$word") ;; esac
    done
    target=$(tr -d ' ' <<<"$target")
    log=$logs/${2:-none}-$1
    begin=$(now)
    env RINGTAIL_PLANTED="$2" "${variables[@]}" timeout --kill-after=10 "$(tr -d ' ' <<<"$limit")" \
        "${binaries[$target]}" "${arguments[@]}" >"$log" 2>&1 </dev/null || status=$?
    seconds=$(awk "BEGIN { printf \"%.1f\", $(now) - $begin }")
    finder=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | head -n 1)
    [ -n "$finder" ] || finder=$(sed -n 's/^test \(.*\) has been running for over .*/\1/p' "$log" | tail -n 1)
    case "$status" in
    0) return 0 ;;
    124 | 137) finder="${finder:-a test} hangs" ;;
    101) ;;
    *) finder="${finder:-a test} (status $status)" ;;
    esac
    return 1
}

tools_of() { awk -F'|' -v kind="$1" '{ gsub(/ /, "", $1); gsub(/ /, "", $2) } $2 == kind { print $1 }' <<<"$tools"; }

for tool in $(tools_of part) $(tools_of whole); do
    if ! run "$tool" ""; then
        say "$tool fails without a bug: $finder (after $seconds s; $logs/none-$tool)"
        exit 1
    fi
    say "$tool passes without a bug in $seconds s"
done

# hunt KIND BUG: the first tool of that kind that finds the bug: `tool`, `finder`, `seconds`.
hunt() {
    for tool in $(tools_of "$1"); do
        run "$tool" "$2" || return 0
    done
    tool='' finder='' seconds=''
    return 1
}

result=0
rows=()
for bug in "${chosen[@]}"; do
    part='nothing' whole='' is_found=no
    hunt part "$bug" && part="$tool: $finder ($seconds s)" is_found=yes
    parts=("$tool" "$finder" "$seconds")
    tool='' finder='' seconds=''
    if grep -qw "$bug" <<<"$acknowledged" || [ $is_found = no ]; then
        whole='nothing'
        hunt whole "$bug" && whole="$tool: $finder ($seconds s)" is_found=yes
        ! grep -qw "$bug" <<<"$acknowledged" || [ "$whole" != nothing ] || result=1
    fi
    [ $is_found = yes ] || result=1
    say "$bug | $part | $whole"
    rows+=("$bug|${parts[0]}|${parts[1]}|${parts[2]}|$tool|$finder|$seconds")
done

text() { [ -n "$1" ] && printf '%s' "$1: \`$2\`, $3 s" || printf '–'; }
if [ $json = yes ]; then
    printf '%s\n' "${rows[@]}" | awk -F'|' '
        function found(tool, test, seconds) {
            return tool == "" ? "null" : sprintf("{\"tool\":\"%s\",\"test\":\"%s\",\"seconds\":%s}", tool, test, seconds)
        }
        BEGIN { print "[" }
        { printf "%s{\"bug\":\"%s\",\"part\":%s,\"whole\":%s}", (NR > 1 ? ",\n" : ""), $1, found($2, $3, $4), found($5, $6, $7) }
        END { print "\n]" }'
else
    printf '| bug | found in a part by | found in the whole by |\n|---|---|---|\n'
    for row in "${rows[@]}"; do
        IFS='|' read -r bug a b c d e f <<<"$row"
        printf '| `%s` | %s | %s |\n' "$bug" "$(text "$a" "$b" "$c")" "$(text "$d" "$e" "$f")"
    done
fi
found=$(printf '%s\n' "${rows[@]}" | awk -F'|' '$2 != "" || $5 != "" { found++ } END { print found + 0 }')
say "$found of ${#rows[@]} bugs found"
exit $result
