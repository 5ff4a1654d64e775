"""The load generators as commands, and what they print as metrics. The same command goes to every broker but for its address."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

from brokers import ROOT, Broker, Managed
from figures import Run
from machine import cpu_seconds

KAFKA_SCRIPT = ROOT / "bench/compare/kafka.sh"
TOPIC_SECONDS_MAX = 180
# How much longer than its measured time a load may take.
GRACE_SECONDS = 90


class LoadError(Exception):
    """A load generator failed; the text is what it said."""


@dataclass
class Commands:
    """What was run, once each, in order: for the report."""

    lines: list[str] = field(default_factory=list)

    def add(self, command: Sequence[str]) -> None:
        line = " ".join(command).replace(f"{ROOT}/", "").replace(str(Path.home()), "~")
        if line not in self.lines:
            self.lines.append(line)


class Background:
    """A load that runs beside another one."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self, seconds_max: float) -> dict[str, Any]:
        try:
            printed, said = self.process.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            self.end()
            raise LoadError(f"{self.command[0]}: not done after {seconds_max:.0f} s") from None
        if self.process.returncode != 0:
            raise LoadError(said.strip()[-2000:] or f"{self.command[0]} failed")
        return parse_last_json(printed)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def parse_last_json(printed: str) -> dict[str, Any]:
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            parsed = json.loads(line)
            assert isinstance(parsed, dict)
            return parsed
    raise LoadError(f"no result in: {printed[-500:]}")


class Loads:
    """The generators, built in `folder` (release form)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ringtail = folder / "ringtail"
        self.commands = Commands()

    def missing(self) -> list[Path]:
        wanted = (self.ringtail, self.folder / "ringtail-bench", self.folder / "examples/librdkafka_load")
        return [path for path in wanted if not path.exists()]

    def run(self, command: Sequence[str], seconds_max: float, environment: Mapping[str, str] | None = None) -> str:
        self.commands.add(command)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_max, env=environment)
        except subprocess.TimeoutExpired:
            raise LoadError(f"not done after {seconds_max:.0f} s: {' '.join(command)}") from None
        if done.returncode != 0:
            raise LoadError((done.stderr.strip() or done.stdout.strip())[-2000:] + f"\n  in: {' '.join(command)}")
        return done.stdout

    def create_topic(self, broker: Broker, topic: str, partitions: int, configs: Mapping[str, str]) -> None:
        options = [word for key, value in configs.items() for word in ("--config", f"{key}={value}")]
        self.run([str(self.ringtail), "topic", "create", topic, "--partitions", str(partitions), *options,
                  "-b", broker.address, "--timeout-ms", "120000"], TOPIC_SECONDS_MAX)

    def delete_topic(self, broker: Broker, topic: str) -> None:
        self.run([str(self.ringtail), "topic", "delete", topic, "-b", broker.address, "--timeout-ms", "120000"], TOPIC_SECONDS_MAX)

    def bench_command(self, broker: Broker, workload: str, topic: str, arguments: Sequence[object]) -> list[str]:
        pid = ["--broker-pid", str(broker.pid)] if broker.pid is not None and workload != "probe" else []
        json_too = ["--json"] if workload != "probe" else []
        words = [str(argument) for argument in arguments]
        return [str(self.folder / "ringtail-bench"), workload, "-b", broker.address, "--topic", topic, *pid, *json_too, *words]

    def bench(self, broker: Broker, workload: str, topic: str, arguments: Sequence[object], seconds: float) -> dict[str, Any]:
        command = self.bench_command(broker, workload, topic, arguments)
        return parse_last_json(self.run(command, seconds + GRACE_SECONDS))

    def device(self, folder: Path, write_bytes: int, files: int, total: int, durable: bool = False, in_flight: int = 4) -> float:
        """Bytes per second of bare writes into files that grow as segments do."""
        command = [str(self.folder / "ringtail-bench"), "device", "--directory", str(folder), "--json", "--write-bytes", str(write_bytes),
                   "--files", str(files), "--in-flight", str(in_flight), "--bytes", str(total), *(["--durable"] if durable else [])]
        return float(parse_last_json(self.run(command, GRACE_SECONDS * 2))["megabytes_per_second"]) * 1e6

    def probe(self, broker: Managed, topic: str, partitions: int, seconds_max: float) -> dict[str, Any]:
        """Starts the broker again, and gives it back running."""
        arguments = ["--partitions", partitions, "--record-bytes", 100, "--records-per-batch", 1, "--log", broker.log,
                     "--seconds-max", seconds_max, "--", *broker.command()]
        command = self.bench_command(broker, "probe", topic, arguments)
        printed = self.run(command, seconds_max + GRACE_SECONDS, {**os.environ, **broker.environment()})
        result = parse_last_json(printed)
        broker.adopt(int(result["pid"]))
        return result

    def warm_partitions(self, broker: Broker, topic: str, partitions: int) -> None:
        """One batch in every partition: the first one is slow where there are many."""
        self.bench(broker, "probe", topic, ["--partitions", partitions, "--record-bytes", 100, "--records-per-batch", 1,
                                            "--in-flight", 50, "--seconds-max", 300], 300)

    def librdkafka(self, broker: Broker, work: str, topic: str, arguments: Sequence[object], seconds: float) -> Run:
        command = [str(self.folder / "examples/librdkafka_load"), work, "-b", broker.address, "--topic", topic, *map(str, arguments)]
        with Cpu(broker) as cpu:
            result = parse_last_json(self.run(command, seconds + GRACE_SECONDS))
        return librdkafka_metrics(result, cpu.seconds)

    def java(self, broker: Broker, tool: str, arguments: Sequence[object], seconds: float) -> tuple[str, float | None]:
        """What the tool printed, and the broker's CPU time over its whole life."""
        command = [str(KAFKA_SCRIPT), "load", f"org.apache.kafka.tools.{tool}", "--bootstrap-server", broker.address, *map(str, arguments)]
        with Cpu(broker) as cpu:
            printed = self.run(command, seconds + GRACE_SECONDS)
        return printed, cpu.seconds


class Cpu:
    """The CPU time of the broker while the block runs; None when its process is not known."""

    def __init__(self, broker: Broker) -> None:
        self.pid = broker.pid
        self.seconds: float | None = None

    def __enter__(self) -> Cpu:
        self._before = cpu_seconds(self.pid) if self.pid is not None else 0.0
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.pid is not None and kind is None:
            self.seconds = cpu_seconds(self.pid) - self._before


def with_cpu(metrics: dict[str, float], seconds: float | None, total_bytes: float, total_requests: float) -> Run:
    if seconds is not None and total_bytes > 0:
        metrics["cpu_s_per_gb"] = seconds / (total_bytes / 1e9)
    if seconds is not None and total_requests > 0:
        metrics["cpu_s_per_million_requests"] = seconds / (total_requests / 1e6)
    return metrics


def bench_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Of what `ringtail-bench produce` and `fetch` print."""
    seconds = max(float(result["seconds"]), 1e-6)
    if result["requests"] == 0:
        raise LoadError(f"nothing was answered: {result}")
    latency = result["latency_ms"]
    metrics = {
        "bytes_per_second": result["bytes"] / seconds,
        "records_per_second": result["records"] / seconds,
        "requests_per_second": result["requests"] / seconds,
        "p50_ms": latency["p50"],
        "p99_ms": latency["p99"],
        "p999_ms": latency["p99.9"],
        "max_ms": latency["max"],
        "errors": float(result["errors"]),
    }
    with_cpu(metrics, result["broker_cpu_seconds"], result["bytes"], result["requests"])
    return metrics


def librdkafka_metrics(result: Mapping[str, Any], cpu: float | None) -> Run:
    seconds = max(float(result["seconds"]), 1e-6)
    if result["records"] == 0:
        raise LoadError(f"nothing was delivered: {result}")
    metrics = {
        "bytes_per_second": result["bytes"] / seconds,
        "records_per_second": result["records"] / seconds,
        "errors": float(result["errors"]),
    }
    return with_cpu(metrics, cpu, result["total_bytes"], result["total_requests"])


PRODUCER_LINE = re.compile(
    r"(?P<records>\d+)(?: steady state)? records sent, (?P<rate>[\d.]+) records/sec \([\d.]+ MB/sec\), [\d.]+ ms avg latency, "
    r"(?P<max>[\d.]+) ms max latency, "
    r"(?P<p50>\d+) ms 50th, \d+ ms 95th, (?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99\.9th"
)


def java_producer_metrics(printed: str, record_bytes: int, cpu: float | None, records: int) -> Run:
    """Of the last summary of kafka-producer-perf-test; its latencies are from the send() call, not from an intended time."""
    found = list(PRODUCER_LINE.finditer(printed))
    if not found:
        raise LoadError(f"no summary in: {printed[-500:]}")
    last = found[-1]
    rate = float(last["rate"])
    metrics = {
        "bytes_per_second": rate * record_bytes,
        "records_per_second": rate,
        "p50_ms": float(last["p50"]),
        "p99_ms": float(last["p99"]),
        "p999_ms": float(last["p999"]),
        "max_ms": float(last["max"]),
    }
    return with_cpu(metrics, cpu, records * record_bytes, 0)


def java_consumer_metrics(printed: str, cpu: float | None) -> Run:
    """Of the CSV line of kafka-consumer-perf-test: start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s."""
    rows = [line.split(", ") for line in printed.splitlines() if re.match(r"\d{4}-", line)]
    if not rows or len(rows[-1]) < 10 or float(rows[-1][4]) == 0:
        raise LoadError(f"nothing was consumed: {printed[-500:]}")
    row = rows[-1]
    megabytes = 1 << 20
    metrics = {"bytes_per_second": float(row[8]) * megabytes, "records_per_second": float(row[9])}
    return with_cpu(metrics, cpu, float(row[2]) * megabytes, 0)
