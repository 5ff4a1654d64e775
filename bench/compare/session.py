"""One cell from its brokers' start to its result, and the results kept from run to run."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from brokers import ROOT, Broker, BrokerError, Kafka, Managed, Ringtail
from cells import DURABILITIES, Cell
from figures import Run, rounded, written_twice
from loads import LoadError, Loads
from machine import drop_page_cache, read_ceiling, sync
from workloads import Site

# Seconds measured in a round, seconds before them, rounds, and what of the data sets' sizes.
LONG = (10.0, 2.0, 5, 1.0)
SHORT = (3.0, 0.5, 5, 0.5)
DEVICE_BYTES = 2 << 30
DEVICE_WRITES_MIN = 4
# What may be there in files and data sets at one time, with room for the rest.
FREE_BYTES_MIN = 60 << 30
# A cell that takes so many times its estimate is given up.
PATIENCE = 3.0
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Options:
    folder: Path
    binaries: Path
    rounds: int
    seconds: float
    warm_seconds: float
    # Of times and data sets; and of data sets besides.
    scale: float
    data_scale: float
    port: int
    kafka_heap: str
    # The address of a broker that runs already and is compared instead of Apache Kafka.
    peer_address: str | None

    def estimate(self, cell: Cell) -> float:
        brokers = 8 + 17 * min(self.scale, 1)
        device = 2 * self.rounds * min(self.scale, 1) if cell.ceiling else 0
        work = cell.workload.estimate(self.seconds, self.warm_seconds, self.rounds, self.scale * self.data_scale)
        total = work + brokers + device
        return total / 2 if cell.own_only else total


class Kept:
    """Results of cells in a folder, each with what it depends on: another binary or other sizes are another result."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        binary = options.binaries / "ringtail"
        digest = hashlib.sha256(binary.read_bytes()).hexdigest() if binary.exists() else ""
        self._common = (digest, options.rounds, options.seconds, options.scale, options.data_scale, options.kafka_heap, options.peer_address)

    def key(self, cell: Cell) -> str:
        return hashlib.sha256(repr((self._common, cell)).encode()).hexdigest()[:16]

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"

    def load(self, cell: Cell) -> dict[str, Any] | None:
        """The cell's result; None when there is none, or not for these settings, or a side of it failed."""
        found = self.load_any(cell)
        return found if found and found["key"] == self.key(cell) and not found["errors"] else None

    def load_any(self, cell: Cell) -> dict[str, Any] | None:
        try:
            found = json.loads(self._path(cell).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def save(self, cell: Cell, result: dict[str, Any]) -> None:
        part = self._path(cell).with_suffix(".part")
        part.write_text(json.dumps({**result, "key": self.key(cell)}))
        part.rename(self._path(cell))

    def forget(self, cell: Cell) -> None:
        self._path(cell).unlink(missing_ok=True)


class Session:
    """The brokers and the state of one cell."""

    def __init__(self, cell: Cell, options: Options, say: Callable[[str], None]) -> None:
        self.cell, self.options, self.say = cell, options, say
        self.folder = options.folder / "work"
        self.loads = Loads(options.binaries)
        own_options, peer_options, _ = DURABILITIES[cell.durability]
        own = Ringtail(self.folder / "own", options.port, options.binaries / "ringtail", (*cell.settings, *cell.own_settings))
        self.sites = {"own": self._site(own, own_options)}
        if not cell.own_only:
            self.sites["peer"] = self._site(self._peer(), peer_options)
        self.runs: dict[str, list[Run]] = {side: [] for side in self.sites}
        self.errors: dict[str, str] = {}
        self.ceilings: list[float] = []
        self.end = time.monotonic() + options.estimate(cell) * PATIENCE + PATIENCE_SECONDS

    def _peer(self) -> Broker:
        if self.options.peer_address is not None:
            return Broker(self.options.peer_address)
        return Kafka(self.folder / "peer", self.options.port + 100, self.options.kafka_heap, self.cell.settings)

    def _site(self, broker: Broker, configs: dict[str, str]) -> Site:
        options = self.options
        if isinstance(broker, Managed) and self.cell.memory_limit:
            broker.memory_limit = self.cell.memory_limit
        scale, data_scale = options.scale, options.scale * options.data_scale
        return Site(broker, self.loads, configs, options.seconds, options.warm_seconds, scale, data_scale, self.say)

    def room(self) -> str | None:
        """What is wrong with the disk's free space."""
        free = shutil.disk_usage(self.options.folder).free
        wanted = FREE_BYTES_MIN * min(1.0, max(self.options.scale * self.options.data_scale, 0.1))
        return None if free >= wanted else f"{free / 1e9:.0f} GB are free on the disk, {wanted / 1e9:.0f} are needed"

    def run(self) -> dict[str, Any]:
        began = time.time()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self._guarded(self._prepare)
            for round_number in range(self.options.rounds):
                self._round(round_number)
            commands = [*(self._start_line(site.broker) for site in self.sites.values()), *self.loads.commands.lines]
        finally:
            for site in self.sites.values():
                site.broker.remove()
            shutil.rmtree(self.folder, ignore_errors=True)
        return {
            "name": self.cell.name,
            "began": round(began),
            "seconds": round(time.time() - began, 1),
            "brokers": {side: site.broker.version() for side, site in self.sites.items()},
            "runs": {side: [{name: rounded(value) for name, value in run.items()} for run in runs] for side, runs in self.runs.items()},
            "ceilings": [rounded(value) for value in self.ceilings],
            "errors": self.errors,
            "commands": commands,
        }

    def _start_line(self, broker: Broker) -> str:
        if not isinstance(broker, Managed):
            return f"# {broker.name} {broker.version()}, which ran already"
        variables = [f"{name}='{value}'" for name, value in broker.environment().items()]
        lines = type(self.loads.commands)()
        lines.add([*variables, *broker.command()])
        return lines.lines[0]

    def _guarded(self, step: Callable[[Site], Any]) -> None:
        """Does `step` at each side that has not failed; a failure ends its side and nothing else."""
        for side, site in self.sites.items():
            self._try(side, lambda site=site: step(site))  # type: ignore[misc]

    def _try(self, side: str, step: Callable[[], Any]) -> None:
        if side in self.errors:
            return
        try:
            if time.monotonic() > self.end:
                raise LoadError("the cell takes too long")
            step()
        except (BrokerError, LoadError, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
            self.errors[side] = self._without_places(f"{type(error).__name__}: {error}")
            self.say(f"{self.sites[side].broker.name} FAILED: {self.errors[side].splitlines()[0][:200]}")

    def _without_places(self, text: str) -> str:
        return text.replace(str(self.options.folder), "DIR").replace(f"{ROOT}/", "").replace(str(Path.home()), "~")

    def _prepare(self, site: Site) -> None:
        self.say(f"{site.broker.name}: starting")
        site.broker.start()
        self.cell.workload.prepare(site)

    def _round(self, number: int) -> None:
        """Both sides in turns, the other one first each time; then the device alone."""
        order = list(self.sites)
        if number % 2:
            order.reverse()
        for side in order:
            self._try(side, lambda side=side: self._measure(side, number))  # type: ignore[misc]
        if self.cell.ceiling and "own" not in self.errors:
            self._try("own", self._take_ceiling)

    def _measure(self, side: str, number: int) -> None:
        site = self.sites[side]
        self.say(f"round {number + 1} of {self.options.rounds}: {site.broker.name}")
        self.runs[side].append(self.cell.workload.measure(site))

    def _take_ceiling(self) -> None:
        self.say("the bare device")
        total = max(int(DEVICE_BYTES * min(1.0, self.options.scale)), 64 << 20)
        sync(self.folder)
        own = self.sites["own"].broker
        if self.cell.ceiling == "read":
            assert own.data is not None
            drop_page_cache(own.data)
            self.ceilings.append(read_ceiling(own.data, total))
            return
        files, write_bytes = self.cell.workload.layout()
        # Some writes to each file, however many there are.
        segment = self.loads.device(self.folder, write_bytes, files, max(total, files * write_bytes * DEVICE_WRITES_MIN))
        if self.cell.ceiling == "double":
            # A commit is one write at a time, and on the device before it counts.
            journal = self.loads.device(self.folder, 512 << 10, 1, total, durable=True, in_flight=1)
            self.ceilings.append(written_twice(journal, segment))
        else:
            self.ceilings.append(segment)
