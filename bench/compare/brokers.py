"""Brokers that are compared: how each is started, stopped, killed, and told what an acknowledgement means."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Mapping

from machine import MemoryLimit, disk_bytes, is_running

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 60


class BrokerError(Exception):
    """A broker did not do what was asked; the text is for people."""


class Broker:
    """A broker at an address. One that runs already is all of it: nothing is known of its process and its files."""

    name = "broker"
    # How long it must be under load before it is measured.
    warm_seconds = 5.0
    pid: int | None = None
    # Its log, and its memory in files that outlive it.
    data: Path | None = None
    arena: Path | None = None

    def __init__(self, address: str) -> None:
        self.address = address

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def remove(self) -> None:
        """Ends it and removes all that it wrote."""

    def version(self) -> str:
        return f"at {self.address}"


class Managed(Broker):
    """A broker that is started here, in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(f"127.0.0.1:{port}")
        self.folder, self.port = folder, port
        self.log = folder / "broker.log"
        # Bytes of memory, page cache included, that it may use; the machine's without it.
        self.memory_limit: int | None = None
        self._group: MemoryLimit | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What becomes the broker's process."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment()}, start_new_session=True
            )
        self.pid = self._child.pid
        self._bound()
        end = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > end:
                raise BrokerError(f"{self.name} does not start:\n{self.last_words()}")
            time.sleep(0.05)

    def _bound(self) -> None:
        if self.memory_limit is None or self.pid is None:
            return
        try:
            self._group = MemoryLimit(f"ringtail-compare-{os.getpid()}-{self.port}", self.memory_limit)
            self._group.take(self.pid)
        except OSError as error:
            raise BrokerError(f"no control group bounds the memory of {self.name}: {error}") from error

    def adopt(self, pid: int) -> None:
        """It was started by another process, with `command`."""
        self.pid, self._child = pid, None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def last_words(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        except OSError:
            return ""

    def _end(self, number: int) -> None:
        if self.pid is None:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass
        end = time.monotonic() + STOP_SECONDS_MAX
        while is_running(self.pid):
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        if self._child is not None:
            self._child.wait()
        self.pid, self._child = None, None

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        self.kill()
        if self._group is not None:
            self._group.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.arena is not None:
            shutil.rmtree(self.arena, ignore_errors=True)


class Ringtail(Managed):
    name = "Ringtail"
    warm_seconds = 2.0

    def __init__(self, folder: Path, port: int, binary: Path, settings: tuple[str, ...] = ()) -> None:
        super().__init__(folder, port)
        self.binary, self.settings = binary, settings
        self.data = folder / "data"
        self.arena = Path(f"/dev/shm/ringtail-compare-{os.getpid()}-{port}")

    def start(self) -> None:
        assert self.arena is not None
        self.arena.mkdir(exist_ok=True)
        super().start()

    def command(self) -> list[str]:
        settings = (
            f"listeners=PLAINTEXT://{self.address}",
            # Every Kafka client follows the leaders that it is told, so requests reach the core that owns the partition.
            "ringtail.shard.listeners=per-shard",
            f"log.dirs={self.data}",
            f"ringtail.arena.dir={self.arena}",
            *self.settings,
        )
        return [str(self.binary), "start", *(word for setting in settings for word in ("--set", setting))]

    def version(self) -> str:
        return subprocess.run([str(self.binary), "--version"], capture_output=True, text=True, timeout=30).stdout.strip()


class Kafka(Managed):
    name = "Apache Kafka"
    # Java compiles what is hot.
    warm_seconds = 15.0
    script = ROOT / "bench/compare/kafka.sh"

    def __init__(self, folder: Path, port: int, heap: str, settings: tuple[str, ...] = ()) -> None:
        super().__init__(folder, port)
        self.heap = heap
        # Deleted topics go at once, or the rounds would fill the disk.
        self.settings = ("log.segment.delete.delay.ms=1000", *settings)
        self.data = folder / "data"

    def command(self) -> list[str]:
        return [str(self.script), "run", str(self.folder), str(self.port)]

    def environment(self) -> Mapping[str, str]:
        return {"KAFKA_HEAP": self.heap, "KAFKA_SETTINGS": "\n".join(self.settings)}

    def version(self) -> str:
        jars = sorted((ROOT / "tests/.deps/kafka/libs").glob("kafka_2.13-*.jar"))
        return f"Apache Kafka {jars[0].stem.rpartition('-')[2]}, heap {self.heap}" if jars else "Apache Kafka"


def kafka_is_there() -> bool:
    return any((ROOT / "tests/.deps/kafka/libs").glob("kafka_2.13-*.jar"))


def wait_until_smaller(broker: Broker, bytes_max: int, seconds_max: float) -> bool:
    """Whether the files of deleted topics are gone."""
    end = time.monotonic() + seconds_max
    while broker.data is not None and disk_bytes(broker.data) > bytes_max:
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
