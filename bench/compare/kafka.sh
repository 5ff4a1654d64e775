#!/usr/bin/env bash
# Starts Apache Kafka as the peer of a comparison: one node, combined broker and controller, on loopback.
#
#   bench/compare/kafka.sh start DIR [PORT]   formats DIR when it is new, starts, returns when it answers (default port 19092)
#   bench/compare/kafka.sh stop DIR
#   bench/compare/kafka.sh tool CLASS ARG…    one of Kafka's tools, e.g. org.apache.kafka.tools.TopicCommand
#
# What the comparison must say, because it changes the figures:
#   KAFKA_HEAP   6g: with the 1 GB of Kafka's own script, 1 MB batches are humongous objects and cost twice; 16 MB regions avoid it
#   KAFKA_FLUSH  1: flush.messages=1, which compares with Ringtail's class `flushed`; unset: nothing is flushed before it is acknowledged
#   KAFKA_CPUS   a list as taskset takes it
# Warm it up for 15 s, and every partition with some records, before measuring. Do not pause it (SIGSTOP): it loses its controller.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
libs=$root/tests/.deps/kafka/libs
[ -d "$libs" ] || { echo "kafka.sh: Apache Kafka is not there: run tests/setup.sh" >&2; exit 1; }

java_kafka() {
    java "-Dlog4j2.configurationFile=$root/tests/compat/java/log4j2.properties" "${jvm[@]}" -cp "$libs/*" "$@"
}

usage() { sed -n '4,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }

start() {
    local dir=$1 port=${2:-19092} heap=${KAFKA_HEAP:-6g}
    mkdir -p "$dir"
    if [ ! -e "$dir/server.properties" ]; then
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
PROPERTIES
        jvm=(-Xmx256m)
        java_kafka kafka.tools.StorageTool format -t hqZ0r0mCTp6bMUzpXcVLsQ -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
            { cat "$dir/format.log" >&2; exit 1; }
    fi
    jvm=("-Xms$heap" "-Xmx$heap" -XX:+UseG1GC -XX:G1HeapRegionSize=16M)
    local pin=()
    [ -z "${KAFKA_CPUS:-}" ] || pin=(taskset -c "$KAFKA_CPUS")
    "${pin[@]}" java "-Dlog4j2.configurationFile=$root/tests/compat/java/log4j2.properties" "${jvm[@]}" \
        -cp "$libs/*" kafka.Kafka "$dir/server.properties" >>"$dir/broker.log" 2>&1 </dev/null &
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

[ $# -ge 2 ] || usage
case $1 in
start) start "$(mkdir -p "$2" && cd "$2" && pwd)" "${3:-}" ;;
stop) stop "$2" ;;
tool)
    shift
    jvm=(-Xmx512m -XX:TieredStopAtLevel=1)
    java_kafka "$@"
    ;;
*) usage ;;
esac
