#!/usr/bin/env bash
# Installs what the tests use beside Rust: kcat, the Python clients, Apache Kafka's broker and Java tools, and the commands that a
# small Debian lacks (ip, kill, git).
# Safe to run again: what is there is left alone. Nothing but tests/.deps and Debian packages is touched.
#
#   tests/setup.sh           everything
#   tests/setup.sh --quick   what `tests/run.sh --quick` uses (build tools, kcat, Python)
#   tests/setup.sh --kafka   the same and Apache Kafka, for comparisons
set -euo pipefail
cd "$(dirname "$0")/.."
deps=tests/.deps
mkdir -p "$deps"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "FAILED: $1"
    say "to fix: $2"
    exit 1
}

# Runs a command, and shows what it printed only when it fails.
quietly() {
    local out
    if ! out=$("$@" 2>&1); then
        printf '%s\n' "$out" | tail -n 40 >&2
        return 1
    fi
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# debian PROBE PACKAGE: the package is wanted unless the command PROBE succeeds.
missing=()
debian() { eval "$1" >/dev/null 2>&1 || missing+=("$2"); }

debian 'command -v kcat' kcat
debian 'command -v cc && command -v c++ && command -v make' build-essential
debian 'command -v pkg-config' pkg-config
debian 'command -v python3' python3
debian 'installed ca-certificates' ca-certificates
debian 'installed zlib1g-dev' zlib1g-dev
if [ "${1:-}" = "" ]; then
    debian 'python3 -c "import ensurepip, venv"' python3-venv
    # tests/tidy asks git for the tree; the tests stop a broker with kill (not the shell's) and make networks of their own.
    debian 'type -P git' git
    debian 'type -P kill' procps
    debian 'type -P unshare && type -P nsenter' util-linux
    debian 'type -P ip' iproute2
    # File systems on disks that fail.
    debian 'type -P mkfs.ext4 && type -P e2fsck && type -P filefrag' e2fsprogs
    debian 'type -P mount && type -P losetup' mount
fi
if [ "${1:-}" != --quick ]; then
    # Java 17 or newer, which Apache Kafka 4 needs.
    debian 'java -version 2>&1 | grep -E "version \"(1[7-9]|[2-9][0-9])"' default-jre-headless
    debian 'command -v mvn' maven
fi
if [ ${#missing[@]} -gt 0 ]; then
    say "installing Debian packages: ${missing[*]}"
    command -v apt-get >/dev/null || fail "no apt-get here" "install by hand: ${missing[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "not root and no sudo" "as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    quietly "${as_root[@]}" apt-get update || say "apt-get update failed; going on with the package lists that are there"
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" ||
        fail "apt-get could not install: ${missing[*]}" "run 'apt-get install ${missing[*]}' as root and read what it says"
fi
command -v cargo >/dev/null || fail "cargo is not installed" "install Rust (the version in Cargo.toml's rust-version or newer)"
[ "${1:-}" != --quick ] || exit 0
if [ "${1:-}" = "" ]; then
    for component in rustfmt clippy; do
        cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || quietly rustup component add "$component" ||
            fail "$component is not installed" "run 'rustup component add $component' and read what it says"
    done
fi

libs=$deps/kafka/libs
if ! cmp -s tests/compat/java/pom.xml "$libs/pom.xml"; then
    say "Apache Kafka's jars: $libs"
    rm -rf "$libs"
    quietly mvn -q -B -f tests/compat/java/pom.xml dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$PWD/$libs" ||
        fail "maven could not fetch Apache Kafka" "see maven's message above; then run tests/setup.sh again"
    ls "$libs"/kafka_2.13-*.jar "$libs"/kafka-tools-*.jar >/dev/null ||
        fail "no Kafka jars in $libs" "remove $libs and run tests/setup.sh again"
    cp tests/compat/java/pom.xml "$libs/pom.xml"
fi
[ "${1:-}" != --kafka ] || exit 0

if [ -x tests/fuzz/run.sh ]; then
    if ! cargo +nightly --version >/dev/null 2>&1; then
        say "a nightly Rust, for the fuzzer"
        quietly rustup toolchain install nightly --profile minimal ||
            fail "there is no nightly Rust" "run 'rustup toolchain install nightly' and read what it says"
    fi
    if ! cargo fuzz --version >/dev/null 2>&1; then
        say "cargo-fuzz"
        quietly cargo install --locked cargo-fuzz || fail "cargo-fuzz cannot be built" "run 'cargo install cargo-fuzz'"
    fi
fi

# venv NAME IMPORT-CHECK PACKAGE…: an environment of its own under tests/.deps, made once.
venv() {
    local dir=$deps/$1 check=$2
    shift 2
    if [ -x "$dir/bin/python" ] && "$dir/bin/python" -c "$check" 2>/dev/null; then
        return
    fi
    say "Python environment $dir: $*"
    rm -rf "$dir"
    quietly python3 -m venv "$dir" || fail "python3 -m venv $dir" "install python3-venv, remove $dir, run tests/setup.sh again"
    quietly "$dir/bin/python" -m pip install --disable-pip-version-check "$@" ||
        fail "pip could not install: $*" "see pip's message above; then run tests/setup.sh again"
    "$dir/bin/python" -c "$check" || fail "$dir does not import what it should" "remove $dir and run tests/setup.sh again"
}
venv python-current \
    'import kafka, confluent_kafka, lz4, zstandard; assert int(kafka.__version__.split(".")[0]) >= 3' \
    'kafka-python>=3,<4' 'confluent-kafka>=2' lz4 zstandard
venv python-2 \
    'import kafka; assert kafka.__version__.startswith("2.")' \
    'kafka-python>=2,<3'
say "ready"
