#!/usr/bin/env bash
# Starts Apache Kafka as the peer of a comparison: one node, combined broker and controller, on loopback.
#
#   bench/compare/kafka.sh start DIR [PORT]   formats DIR when it is new, starts, returns when it answers (default port 19092)
#   bench/compare/kafka.sh stop DIR
#   bench/compare/kafka.sh run DIR [PORT]     as start, but in the foreground: this process becomes the broker
#   bench/compare/kafka.sh tool CLASS ARG…    one of Kafka's tools, e.g. org.apache.kafka.tools.TopicCommand
#   bench/compare/kafka.sh load CLASS ARG…    the same with all of Java's optimizer, for the tools that make load
#
# What the comparison must say, because it changes the figures:
#   KAFKA_HEAP   6g: with the 1 GB of Kafka's own script, 1 MB batches are humongous objects and cost twice; 16 MB regions avoid it.
#                1g: that of Kafka's own script, with the regions that Java chooses
#   KAFKA_FLUSH  1: flush.messages=1, which compares with Ringtail's class `flushed`; unset: nothing is flushed before it is acknowledged
#   KAFKA_CPUS   a list as taskset takes it
#   KAFKA_SETTINGS   more lines of server.properties, for a new DIR
# Warm it up for 15 s, and every partition with some records, before measuring. Do not pause it (SIGSTOP): it loses its controller.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
libs=$root/tests/.deps/kafka/libs
[ -d "$libs" ] || { echo "kafka.sh: Apache Kafka is not there: run tests/setup.sh" >&2; exit 1; }
heap=${KAFKA_HEAP:-6g}

usage() { sed -n '4,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# java_kafka JVM-OPTION… CLASS ARG…: becomes the process.
java_kafka() {
    exec java "-Dlog4j2.configurationFile=$root/tests/compat/java/log4j2.properties" -cp "$libs/*" "$@"
}

format() {
    local dir=$1 port=$2
    [ ! -e "$dir/server.properties" ] || return 0
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$((port + 1))
log.dirs=$dir/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
${KAFKA_FLUSH:+log.flush.interval.messages=$KAFKA_FLUSH}
${KAFKA_SETTINGS:-}
PROPERTIES
    (java_kafka -Xmx256m kafka.tools.StorageTool format -t hqZ0r0mCTp6bMUzpXcVLsQ -c "$dir/server.properties") >"$dir/format.log" 2>&1 ||
        { cat "$dir/format.log" >&2; rm "$dir/server.properties"; exit 1; }
}

run() {
    local regions=(-XX:G1HeapRegionSize=16M)
    [ "$heap" != 1g ] || regions=()
    local pin=()
    [ -z "${KAFKA_CPUS:-}" ] || pin=(taskset -c "$KAFKA_CPUS")
    # The collector's settings are those of Kafka's own script.
    exec "${pin[@]}" java "-Dlog4j2.configurationFile=$root/tests/compat/java/log4j2.properties" -server "-Xms$heap" "-Xmx$heap" \
        -XX:+UseG1GC "${regions[@]}" -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent \
        -Djava.awt.headless=true -cp "$libs/*" kafka.Kafka "$1/server.properties"
}

start() {
    local dir=$1 port=$2
    format "$dir" "$port"
    (run "$dir") >>"$dir/broker.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    for _ in $(seq 1200); do
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || { tail -n 20 "$dir/broker.log" >&2; exit 1; }
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "Apache Kafka at 127.0.0.1:$port, pid $(cat "$dir/pid"), heap $heap, flush.messages ${KAFKA_FLUSH:-unset}"
            return
        fi
        sleep 0.1
    done
    echo "kafka.sh: no answer at port $port" >&2
    exit 1
}

stop() {
    local pid
    pid=$(cat "$1/pid")
    kill -TERM "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    rm "$1/pid"
}

# folder DIR: made, and named from the root.
folder() { mkdir -p "$1" && cd "$1" && pwd; }

[ $# -ge 2 ] || usage
case $1 in
start) start "$(folder "$2")" "${3:-19092}" ;;
stop) stop "$2" ;;
run)
    dir=$(folder "$2")
    format "$dir" "${3:-19092}"
    run "$dir"
    ;;
tool)
    shift
    java_kafka -Xmx512m -XX:TieredStopAtLevel=1 "$@"
    ;;
load)
    shift
    java_kafka -Xmx512m "$@"
    ;;
*) usage ;;
esac
