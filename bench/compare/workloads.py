"""What a cell does to one broker: prepare once, then measure, round by round. Nothing here knows which broker it is."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Callable, Mapping

from brokers import Broker, BrokerError, Managed, wait_until_smaller
from figures import Run
from loads import GRACE_SECONDS, Background, LoadError, Loads, bench_metrics, java_consumer_metrics, java_producer_metrics
from machine import MemoryPeak, disk_bytes, disk_read_bytes, drop_page_cache, mapped_bytes, page_cache_bytes, resident, sync

# So many take some seconds until each has its first record.
MANY_PARTITIONS = 64
# A topic that is kept over the rounds is made anew when a broker holds more than this.
KEPT_BYTES_MAX = 16 << 30
DELETE_SECONDS_MAX = 60
# What a broker's directory may hold beside topics: metadata, and a journal for each CPU.
LEFTOVER_BYTES = (1 << 30) + (os.cpu_count() or 1) * (512 << 20)
FILL_SECONDS_MAX = 400
IDLE_SECONDS = 5.0
# librdkafka asks for nothing for so long once 64 MiB wait in its queue (its default is 1000): else the faster broker is the one that waits.
QUEUE_BACKOFF_MS = 10
# What a turn takes beside its measured time: the topic made and deleted, the disk settled.
TURN_SECONDS = 3.0
MIB = 1 << 20
GIB = 1 << 30


@dataclass
class Site:
    """One broker, as one cell sees it."""

    broker: Broker
    loads: Loads
    # Topic options of the cell's class.
    configs: Mapping[str, str]
    seconds: float
    warm_seconds: float
    # Of the time a broker is warmed, and of data sets.
    scale: float
    data_scale: float
    say: Callable[[str], None]
    topics: int = 0
    topic: str = ""
    # Memory of the broker before any load.
    idle_bytes: float | None = None

    def new_topic(self, partitions: int, extra: Mapping[str, str] | None = None) -> None:
        """A topic in each of whose partitions a record was taken: the first one is slow, and may be refused before leaders are known."""
        self.topics += 1
        self.topic = f"compare-{self.topics}"
        self.loads.create_topic(self.broker, self.topic, partitions, {**self.configs, **(extra or {})})
        if partitions >= MANY_PARTITIONS:
            self.say(f"{self.broker.name}: a first record in each of {partitions} partitions")
        self.loads.warm_partitions(self.broker, self.topic, partitions)

    def drop_topic(self) -> None:
        if self.topic:
            self.loads.delete_topic(self.broker, self.topic)
            self.topic = ""
            wait_until_smaller(self.broker, LEFTOVER_BYTES, DELETE_SECONDS_MAX)

    def bench(self, workload: str, *arguments: object, seconds: float, warm: float = 0.0) -> Mapping[str, object]:
        timing = ["--seconds", round(seconds, 2), "--warmup-seconds", round(warm, 2)]
        return self.loads.bench(self.broker, workload, self.topic, [*timing, *arguments], seconds + warm)

    def settle(self) -> None:
        """What others wrote is on the device before this broker is measured."""
        if self.broker.data is not None:
            sync(self.broker.data.parent)

    def scaled(self, size: int) -> int:
        return max(int(size * self.data_scale), 8 * MIB)

    def jit_seconds(self) -> float:
        return max(self.broker.warm_seconds * min(1.0, self.scale), 1.0)

    def fill(self, size: int) -> None:
        """Produces `size` bytes in batches of 64 KB."""
        self.say(f"{self.broker.name}: writing {size / 1e9:.1f} GB")
        result = self.bench("produce", "--record-bytes", 1024, "--records-per-batch", 64, "--bytes-max", size,
                            seconds=FILL_SECONDS_MAX)
        taken = int(str(result["bytes"]))
        if taken < size * 0.98:
            raise LoadError(f"{taken} of {size} bytes were taken in {result['seconds']} s, {result['errors']} requests refused")
        self.settle()

    def memory(self, peak: Mapping[str, int]) -> dict[str, float]:
        """Resident memory, tail memory in files included, and the page cache of the log."""
        if not peak or self.broker.data is None:
            return {}
        shared = peak["shared"]
        if self.broker.arena is not None:
            shared = max(shared, disk_bytes(self.broker.arena))
        held = peak["anon"] + peak["file"] + shared
        cached = page_cache_bytes(self.broker.data)
        mapped = mapped_bytes(self.broker.pid or 0, self.broker.data)
        return {
            "resident_bytes": float(held),
            "anonymous_bytes": float(peak["anon"]),
            "shared_bytes": float(shared),
            "page_cache_bytes": float(cached),
            # What is mapped of the log counts once.
            "memory_bytes": float(held + cached - min(mapped, cached, peak["file"])),
        }


class Workload:
    """One kind of load with its sizes."""

    def prepare(self, site: Site) -> None:
        raise NotImplementedError

    def measure(self, site: Site) -> Run:
        raise NotImplementedError

    def estimate(self, seconds: float, warm: float, rounds: int, scale: float) -> float:
        """About how long both brokers take, beside their start and warming."""
        return 2 * rounds * (seconds + warm + TURN_SECONDS)

    def layout(self) -> tuple[int, int]:
        """For the device's ceiling: files side by side, and bytes of a write."""
        return 16, 256 << 10


@dataclass(frozen=True)
class Produce(Workload):
    """Pre-encoded batches by ringtail-bench: in a closed loop, or at `rate` requests per second, timed from when each was meant to go out."""

    record_bytes: int = 1024
    records: int = 16
    partitions: int = 16
    connections: int = 4
    in_flight: int = 5
    acks: int = -1
    rate: float = 0
    # Connections that read at the end of the log meanwhile.
    followers: int = 0
    retention_bytes: int = 0
    # Over the rounds: where making it anew takes long.
    keep_topic: bool = False

    def layout(self) -> tuple[int, int]:
        return self.partitions, max(256 << 10, self.record_bytes * self.records)

    def arguments(self) -> list[object]:
        pace = ["--rate", self.rate] if self.rate else ["--in-flight", self.in_flight]
        return ["--record-bytes", self.record_bytes, "--records-per-batch", self.records, "-c", self.connections, "--acks", self.acks, *pace]

    def topic_configs(self) -> dict[str, str]:
        if not self.retention_bytes:
            return {}
        return {"retention.bytes": str(self.retention_bytes), "segment.bytes": str(max(self.retention_bytes // 4, MIB))}

    def prepare(self, site: Site) -> None:
        site.new_topic(self.partitions, self.topic_configs())
        site.say(f"{site.broker.name}: warming up")
        site.bench("produce", *self.arguments(), seconds=site.jit_seconds())
        if not self.keep_topic:
            site.drop_topic()

    def measure(self, site: Site) -> Run:
        held = disk_bytes(site.broker.data) if site.broker.data is not None else 0
        if self.keep_topic and held > KEPT_BYTES_MAX:
            site.drop_topic()
        if not site.topic:
            site.new_topic(self.partitions, self.topic_configs())
        site.settle()
        followers = self._follow(site)
        try:
            with MemoryPeak(site.broker.pid) as peak:
                metrics = bench_metrics(site.bench("produce", *self.arguments(), seconds=site.seconds, warm=site.warm_seconds))
            if followers:
                fetched = followers.result(GRACE_SECONDS)
                metrics["fetched_bytes_per_second"] = float(fetched["bytes"]) / float(fetched["seconds"])
        finally:
            if followers:
                followers.end()
        if site.broker.data is not None:
            metrics["disk_bytes"] = float(disk_bytes(site.broker.data))
        metrics.update(site.memory(peak.parts))
        if not self.keep_topic:
            site.drop_topic()
        return metrics

    def _follow(self, site: Site) -> Background | None:
        if not self.followers:
            return None
        arguments = ["-c", self.followers, "--follow", "--seconds", site.seconds, "--warmup-seconds", site.warm_seconds]
        command = site.loads.bench_command(site.broker, "fetch", site.topic, arguments)
        site.loads.commands.add(command)
        return Background(command)

    def estimate(self, seconds: float, warm: float, rounds: int, scale: float) -> float:
        many = 100 if self.partitions >= 1000 else 12 * rounds if self.partitions >= MANY_PARTITIONS else 0
        return super().estimate(seconds, warm, rounds, scale) + many


@dataclass(frozen=True)
class Fetch(Workload):
    """A data set that was written before is read: again and again from memory, or once from the disk."""

    partitions: int = 16
    connections: int = 4
    data_bytes: int = 2 * GIB
    cold: bool = False
    by: str = "bench"

    def prepare(self, site: Site) -> None:
        site.new_topic(self.partitions)
        site.fill(site.scaled(self.data_bytes))
        site.bench("fetch", "--once", "-c", self.connections, seconds=FILL_SECONDS_MAX)
        site.say(f"{site.broker.name}: warming up")
        site.bench("fetch", "-c", self.connections, seconds=site.jit_seconds())

    def measure(self, site: Site) -> Run:
        if self.by == "librdkafka":
            return site.loads.librdkafka(site.broker, "consume", site.topic, [
                "--partitions", self.partitions, "--seconds", FILL_SECONDS_MAX, "--warmup-seconds", 0,
                "--set", f"fetch.queue.backoff.ms={QUEUE_BACKOFF_MS}"], FILL_SECONDS_MAX)
        site.settle()
        if not self.cold:
            with MemoryPeak(site.broker.pid) as peak:
                metrics = bench_metrics(site.bench("fetch", "-c", self.connections, seconds=site.seconds, warm=min(site.warm_seconds, 1)))
            metrics.update(site.memory(peak.parts))
            return metrics
        if site.broker.data is None:
            raise BrokerError("the files of a broker that was not started here cannot be taken out of the page cache")
        drop_page_cache(site.broker.data)
        before = disk_read_bytes(site.broker.pid or 0)
        result = site.bench("fetch", "--once", "-c", self.connections, seconds=FILL_SECONDS_MAX)
        metrics = bench_metrics(result)
        # How much of what was fetched came from the device: the proof that it was cold.
        metrics["disk_read_share"] = (disk_read_bytes(site.broker.pid or 0) - before) / float(str(result["bytes"]))
        return metrics

    def estimate(self, seconds: float, warm: float, rounds: int, scale: float) -> float:
        gigabytes = self.data_bytes / 1e9 * scale
        each = gigabytes * 1.5 + 4 if self.cold or self.by != "bench" else seconds + warm + TURN_SECONDS
        return 2 * rounds * each + gigabytes * 8 + (100 if self.partitions >= 1000 else 0)


@dataclass(frozen=True)
class Librdkafka(Workload):
    """Producers of librdkafka, each a client of its own."""

    batch_bytes: int = 16 << 10
    record_bytes: int = 1024
    producers: int = 1
    partitions: int = 16
    codec: str = "none"
    acks: str = "all"

    def run(self, site: Site, seconds: float, warm: float) -> Run:
        settings = (f"acks={self.acks}", f"batch.size={self.batch_bytes}", f"compression.type={self.codec}", "linger.ms=5")
        arguments = ["--producers", self.producers, "--record-bytes", self.record_bytes, "--seconds", seconds, "--warmup-seconds", warm,
                     *(word for setting in settings for word in ("--set", setting))]
        return site.loads.librdkafka(site.broker, "produce", site.topic, arguments, seconds + warm)

    def prepare(self, site: Site) -> None:
        site.new_topic(self.partitions)
        site.say(f"{site.broker.name}: warming up")
        self.run(site, site.jit_seconds(), 0)
        site.drop_topic()

    def measure(self, site: Site) -> Run:
        site.new_topic(self.partitions)
        site.settle()
        with MemoryPeak(site.broker.pid) as peak:
            metrics = dict(self.run(site, site.seconds, site.warm_seconds))
        metrics.update(site.memory(peak.parts))
        site.drop_topic()
        return metrics


@dataclass(frozen=True)
class JavaProducer(Workload):
    """Kafka's own kafka-producer-perf-test."""

    record_bytes: int = 1024
    batch_bytes: int = 16 << 10
    acks: str = "all"
    codec: str = "none"
    partitions: int = 16
    # About what one client does: how many records make a run of the wanted length.
    records_per_second: int = 100_000

    def run(self, site: Site, records: int) -> Run:
        warm = records // 5
        arguments = ["--topic", site.topic, "--num-records", records, "--record-size", self.record_bytes, "--throughput", -1,
                     "--warmup-records", warm, "--command-property", f"acks={self.acks}", f"batch.size={self.batch_bytes}",
                     f"compression.type={self.codec}", "linger.ms=5"]
        printed, cpu = site.loads.java(site.broker, "ProducerPerformance", arguments, 20 * site.seconds)
        return java_producer_metrics(printed, self.record_bytes, cpu, records)

    def records(self, seconds: float) -> int:
        return max(int(seconds * self.records_per_second), 5_000)

    def prepare(self, site: Site) -> None:
        site.new_topic(self.partitions)
        site.say(f"{site.broker.name}: warming up")
        self.run(site, self.records(site.jit_seconds()))
        site.drop_topic()

    def measure(self, site: Site) -> Run:
        site.new_topic(self.partitions)
        site.settle()
        with MemoryPeak(site.broker.pid) as peak:
            metrics = dict(self.run(site, self.records(site.seconds)))
        metrics.update(site.memory(peak.parts))
        site.drop_topic()
        return metrics


@dataclass(frozen=True)
class JavaConsumer(Workload):
    """Kafka's own kafka-consumer-perf-test, which reads as a member of a group."""

    partitions: int = 16
    data_bytes: int = GIB

    def prepare(self, site: Site) -> None:
        site.new_topic(self.partitions)
        site.fill(site.scaled(self.data_bytes))
        self.measure(site)

    def measure(self, site: Site) -> Run:
        # Within the data set, whose batches are a little larger than their values.
        records = site.scaled(self.data_bytes) // 1024 * 9 // 10
        arguments = ["--topic", site.topic, "--num-records", records, "--timeout", 20_000]
        printed, cpu = site.loads.java(site.broker, "ConsumerPerformance", arguments, 120)
        return java_consumer_metrics(printed, cpu)


@dataclass(frozen=True)
class Replay(Workload):
    """Producers at a fixed rate, alone, then with a consumer that reads all of the log from the disk."""

    rate: float = 1000
    data_bytes: int = 4 * GIB

    def prepare(self, site: Site) -> None:
        site.new_topic(16)
        site.fill(site.scaled(self.data_bytes))
        site.say(f"{site.broker.name}: warming up")
        self._produce(site, site.jit_seconds())

    def _produce(self, site: Site, seconds: float) -> dict[str, float]:
        arguments = ["--record-bytes", 1024, "--records-per-batch", 16, "-c", 4, "--rate", self.rate]
        return bench_metrics(site.bench("produce", *arguments, seconds=seconds, warm=1))

    def measure(self, site: Site) -> Run:
        site.settle()
        quiet = self._produce(site, site.seconds)
        if site.broker.data is not None:
            drop_page_cache(site.broker.data)
        arguments = ["-c", 1, "--seconds", site.seconds + 1, "--warmup-seconds", 0]
        command = site.loads.bench_command(site.broker, "fetch", site.topic, arguments)
        site.loads.commands.add(command)
        reader = Background(command)
        try:
            metrics = self._produce(site, site.seconds)
            replayed = reader.result(GRACE_SECONDS)
        finally:
            reader.end()
        metrics["quiet_p99_ms"] = quiet["p99_ms"]
        metrics["slowdown"] = metrics["p99_ms"] / max(quiet["p99_ms"], 1e-3)
        metrics["fetched_bytes_per_second"] = float(replayed["bytes"]) / float(replayed["seconds"])
        return metrics

    def estimate(self, seconds: float, warm: float, rounds: int, scale: float) -> float:
        return 2 * rounds * 2 * (seconds + 4) + self.data_bytes / 1e9 * scale * 8


@dataclass(frozen=True)
class PartitionCount(Workload):
    """The same load on 1 and on 2000 partitions. One batch per connection is unanswered, so that a commit holds at most
    64 KB and one partition's part stays below what goes past the journal: commits are of equal sizes."""

    partitions: int = 2000

    def prepare(self, site: Site) -> None:
        pass

    def measure(self, site: Site) -> Run:
        rates = []
        load = Produce(in_flight=1)
        for partitions in (1, self.partitions):
            site.new_topic(partitions)
            site.settle()
            result = site.bench("produce", *load.arguments(), seconds=site.seconds, warm=site.warm_seconds)
            rates.append(bench_metrics(result))
            site.drop_topic()
        return {**rates[1], "one_partition_bytes_per_second": rates[0]["bytes_per_second"],
                "share": rates[1]["bytes_per_second"] / rates[0]["bytes_per_second"]}


# What `ringtail-bench probe` says of a broker that does not come.
NOT_THERE = "not there after"


@dataclass(frozen=True)
class Restart(Workload):
    """Killed with SIGKILL under load, then from exec to acknowledgements."""

    partitions: int = 2000
    data_bytes: int = 20_000_000_000
    seconds_max: float = 240

    def _partitions(self, site: Site) -> int:
        return max(int(self.partitions * min(1.0, site.data_scale * 2)), 16)

    def prepare(self, site: Site) -> None:
        if not isinstance(site.broker, Managed):
            raise BrokerError("a broker that was not started here cannot be killed")
        site.new_topic(self._partitions(site))
        site.fill(site.scaled(self.data_bytes))

    def measure(self, site: Site) -> Run:
        broker = site.broker
        assert isinstance(broker, Managed)
        partitions = self._partitions(site)
        command = site.loads.bench_command(broker, "produce", site.topic, ["--seconds", 120, "--rate", 2000])
        load = Background(command)
        try:
            time.sleep(4)
            if load.process.poll() is not None:
                load.result(1)
                raise LoadError("the load ended before the kill")
            broker.kill()
        finally:
            load.end()
        try:
            result = site.loads.probe(broker, site.topic, partitions, self.seconds_max)
        except LoadError as error:
            if NOT_THERE not in str(error):
                raise
            # That long at least until every partition answered; when it first did is not known. The probe has ended it.
            site.say(f"{broker.name}: not there within {self.seconds_max:.0f} s")
            broker.start()
            return {"last_acknowledged_ms": self.seconds_max * 1e3}
        return {name: float(result[name]) for name in ("answered_ms", "first_acknowledged_ms", "last_acknowledged_ms", "refused")}

    def estimate(self, seconds: float, warm: float, rounds: int, scale: float) -> float:
        return self.data_bytes / 1e9 * scale * 8 + rounds * (15 + 40 * min(scale, 1)) + 60


@dataclass(frozen=True)
class Idle(Workload):
    """What a broker holds when it has just started and when `load` runs."""

    load: Produce = field(default_factory=Produce)

    def layout(self) -> tuple[int, int]:
        return self.load.layout()

    def prepare(self, site: Site) -> None:
        site.idle_bytes = self._idle(site)
        self.load.prepare(site)

    def _idle(self, site: Site) -> float | None:
        if site.broker.pid is None:
            return None
        time.sleep(IDLE_SECONDS)
        return site.memory(resident(site.broker.pid)).get("memory_bytes")

    def measure(self, site: Site) -> Run:
        metrics = dict(self.load.measure(site))
        if site.idle_bytes is not None:
            metrics["idle_bytes"] = site.idle_bytes
        return metrics
