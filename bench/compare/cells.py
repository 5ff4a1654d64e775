"""What is compared: one row per cell. The order is the order of the report; the names are for `--cell`."""

from __future__ import annotations

from dataclasses import dataclass

from figures import Bar
from workloads import Fetch, Idle, JavaConsumer, JavaProducer, Librdkafka, PartitionCount, Produce, Replay, Restart, Workload

CELLS_MAX = 30
SHORT_CELLS = 8

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# What may stand side by side: topic options of Ringtail, of the peer, and how the report names the pair.
DURABILITIES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "written": ({"ringtail.durability": "written"}, {}, "`written` : default"),
    "flushed": ({"ringtail.durability": "flushed"}, {"flush.messages": "1"}, "`flushed` : `flush.messages=1`"),
    "apart": ({"ringtail.durability": "flushed"}, {}, "`flushed` : default, not durable"),
}


@dataclass(frozen=True)
class Cell:
    name: str
    title: str
    durability: str
    workload: Workload
    bars: tuple[Bar, ...] = ()
    # How the device's ceiling is taken: `single` each byte written once, `double` journal and segment, `read`; none without it.
    ceiling: str = ""
    short: bool = False
    # Options of Ringtail's broker.
    own_settings: tuple[str, ...] = ()
    # Options of both brokers.
    settings: tuple[str, ...] = ()
    # Bytes that each broker may use, page cache included; 0: what the machine has.
    memory_limit: int = 0
    # Ringtail against itself.
    own_only: bool = False


SMALL_MEMORY = ("ringtail.memory.bytes=512m",)


def at_least(metric: str, target: float, ceiling: bool = False) -> Bar:
    return Bar(metric, ">=", target, ceiling=ceiling)


def at_most(metric: str, target: float, absolute: bool = False) -> Bar:
    return Bar(metric, "<=", target, absolute=absolute)


# Records of 1 KB in a batch, for batches of 128 KB and 1 MB; 16 KB is what Produce does by default.
B128 = 125
B1M = 1000

CELLS: tuple[Cell, ...] = (
    # Pre-encoded batches: the broker is what is measured.
    Cell("produce-16k", "16 KB batches, one per request, 4 connections x 5", "written", Produce(),
         (at_least("bytes_per_second", 8, ceiling=True), at_most("cpu_s_per_gb", 0.1)), ceiling="single", short=True),
    Cell("produce-128k", "128 KB batches, 256 partitions, 4 connections x 5", "written", Produce(records=B128, partitions=256), ceiling="single"),
    Cell("produce-1m", "1 MB batches, 4 connections x 5", "written", Produce(records=B1M),
         (at_least("bytes_per_second", 1.8, ceiling=True), at_most("cpu_s_per_gb", 0.3)), ceiling="single"),
    Cell("produce-2000p", "16 KB batches over 2000 partitions, 4 connections x 5", "written", Produce(partitions=2000, keep_topic=True),
         (at_least("bytes_per_second", 5, ceiling=True),), ceiling="single"),
    Cell("produce-100b", "one 100 B record per request, 16 connections x 5", "written", Produce(record_bytes=100, records=1, connections=16),
         (at_least("requests_per_second", 4), at_most("cpu_s_per_million_requests", 0.2)), short=True),
    Cell("produce-100b-64", "one 100 B record per request, acks=1, 64 connections x 1", "written",
         Produce(record_bytes=100, records=1, connections=64, in_flight=1, acks=1)),
    Cell("roundtrip", "one connection, one 100 B record at a time, 1 partition", "written",
         Produce(record_bytes=100, records=1, partitions=1, connections=1, in_flight=1), (at_most("p50_ms", 0.7),), short=True),
    Cell("flushed-16k", "16 KB batches, 16 connections x 5", "flushed", Produce(connections=16),
         (at_least("bytes_per_second", 8, ceiling=True), at_most("cpu_s_per_gb", 0.08)), ceiling="double", short=True),
    Cell("flushed-100b", "one 100 B record per request, 16 connections x 1", "flushed",
         Produce(record_bytes=100, records=1, connections=16, in_flight=1), (at_least("requests_per_second", 6),)),
    Cell("apart-16k", "16 KB batches, 4 connections x 5", "apart", Produce(), (at_least("bytes_per_second", 3, ceiling=True),),
         ceiling="double"),
    Cell("apart-rate", "5000 batches of 16 KB per second, 4 connections", "apart", Produce(rate=5000), (at_most("p99_ms", 1),)),
    Cell("rate-16k", "5000 batches of 16 KB per second, 4 connections", "written", Produce(rate=5000),
         (at_most("p99_ms", 0.25), at_most("p999_ms", 0.125)), short=True),
    Cell("rate-flushed", "2500 batches of 16 KB per second, 4 connections", "flushed", Produce(rate=2500), (at_most("p99_ms", 0.25),)),
    # Clients that people run.
    Cell("librdkafka-16k", "librdkafka, batches of 16 KB", "written", Librdkafka(batch_bytes=16 * KIB),
         (at_least("bytes_per_second", 1.5), at_most("cpu_s_per_gb", 0.2)), short=True),
    Cell("librdkafka-128k", "librdkafka, batches of 128 KB", "written", Librdkafka(batch_bytes=128 * KIB),
         (at_least("bytes_per_second", 1.5), at_most("cpu_s_per_gb", 0.2))),
    Cell("librdkafka-lz4", "librdkafka, 16 producers, lz4, batches of 128 KB", "written",
         Librdkafka(batch_bytes=128 * KIB, producers=16, codec="lz4")),
    Cell("java-1k", "kafka-producer-perf-test, 1 KB records, batches of 16 KB", "written", JavaProducer()),
    Cell("java-10k", "kafka-producer-perf-test, 10 KB records, acks=1, lz4, batches of 128 KB, 1 partition", "written",
         JavaProducer(record_bytes=10 * KIB, batch_bytes=128 * KIB, acks="1", codec="lz4", partitions=1, records_per_second=20_000)),
    Cell("java-consumer", "kafka-consumer-perf-test, 1 GiB read before", "written", JavaConsumer()),
    Cell("librdkafka-consumer", "librdkafka consumer, partitions assigned, 1 GiB read before", "written", Fetch(by="librdkafka", data_bytes=GIB)),
    # Fetching pre-encoded batches.
    Cell("tail-fetch", "16 KB batches, 4 connections x 5, and 4 connections that read at the end of the log", "written",
         Produce(followers=4), (at_least("fetched_bytes_per_second", 1), at_most("cpu_s_per_gb", 1))),
    Cell("warm-fetch", "2 GiB read before, 4 connections", "written", Fetch(),
         (at_least("bytes_per_second", 1), at_most("cpu_s_per_gb", 1)), short=True),
    Cell("cold-fetch", "4 GiB from the disk, 1 connection", "written", Fetch(cold=True, connections=1, data_bytes=4 * GIB),
         (at_least("bytes_per_second", 1.3, ceiling=True), at_most("cpu_s_per_gb", 1)), ceiling="read", short=True, own_settings=SMALL_MEMORY),
    Cell("cold-fetch-4c", "4 GiB from the disk, 4 connections", "written", Fetch(cold=True, data_bytes=4 * GIB),
         (at_least("bytes_per_second", 1, ceiling=True),), ceiling="read", own_settings=SMALL_MEMORY),
    Cell("cold-fetch-2000p", "4 GiB in 2000 partitions from the disk, 1 connection", "written",
         Fetch(cold=True, connections=1, partitions=2000, data_bytes=4 * GIB),
         (at_least("bytes_per_second", 3, ceiling=True),), ceiling="read", own_settings=SMALL_MEMORY),
    # Several things at once, and what is left of a broker.
    Cell("replay", "1000 batches of 16 KB per second while a consumer reads 4 GiB from offset 0 off the disk", "written", Replay(),
         (at_most("slowdown", 2, absolute=True),), own_settings=SMALL_MEMORY),
    Cell("retention", "16 KB batches with one consumer, retention deletes what is over 256 MB of a partition", "written",
         Produce(followers=1, retention_bytes=256 * MIB), settings=("log.retention.check.interval.ms=1000",)),
    Cell("partitions", "16 KB batches, 4 connections x 1: 2000 partitions against 1", "flushed", PartitionCount(),
         (Bar("share", ">=", 0.9, absolute=True),), own_only=True),
    Cell("restart", "20 GB in 2000 partitions, killed under load", "written", Restart(), (at_most("first_acknowledged_ms", 1000, absolute=True),)),
    Cell("memory", "idle, then 16 KB batches, 4 connections x 5; ringtail.memory.bytes=512m, both within 8 GiB", "written", Idle(Produce()),
         (at_most("idle_bytes", 0.15), at_most("memory_bytes", 0.5), at_least("bytes_per_second", 8, ceiling=True)),
         ceiling="single", own_settings=SMALL_MEMORY, memory_limit=8 * GIB),
)


def by_name(name: str) -> Cell:
    return next(cell for cell in CELLS if cell.name == name)
