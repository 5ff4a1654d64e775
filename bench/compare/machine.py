"""What the kernel tells about processes, files and the machine (Linux only)."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Iterator

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.5
# File names in one call of fincore.
NAMES_MAX = 500
SYNC_SECONDS_MAX = 180
READ_BYTES = 1 << 20


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, those that ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def disk_read_bytes(pid: int) -> int:
    """What the process had read from devices: page cache hits do not count."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    return 0


def resident(pid: int) -> dict[str, int]:
    """Bytes of resident memory: private, of files, and shared (where tail memory is)."""
    names = {"RssAnon:": "anon", "RssFile:": "file", "RssShmem:": "shared"}
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        word, _, rest = line.partition("\t")
        if word in names:
            found[names[word]] = int(rest.split()[0]) * 1024
    return found


def mapped_bytes(pid: int, folder: Path) -> int:
    """Resident bytes of a folder's files that the process maps: they are in the page cache, too."""
    total, within = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024 if within else 0
        elif not line.partition(" ")[0].endswith(":"):
            within = f" {folder}/" in line
    return total


def files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)


def disk_bytes(folder: Path) -> int:
    """Allocated bytes; files that go meanwhile do not count."""
    total = 0
    for file in files(folder):
        try:
            total += file.stat().st_blocks * 512
        except OSError:
            pass
    return total


def page_cache_bytes(folder: Path) -> int:
    """What of a folder's files is in the page cache."""
    names = [str(file) for file in files(folder)]
    total = 0
    for start in range(0, len(names), NAMES_MAX):
        command = ["fincore", "--bytes", "--noheadings", "--output", "RES", *names[start : start + NAMES_MAX]]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        total += sum(int(word) for word in printed.split())
    return total


def sync(folder: Path) -> None:
    """All that was written to the file system of `folder` is on the device."""
    subprocess.run(["sync", "-f", str(folder)], timeout=SYNC_SECONDS_MAX, check=True)


def drop_page_cache(folder: Path) -> None:
    """Takes a folder's files out of the page cache, and everything else too where that is allowed."""
    sync(folder)
    for file in files(folder):
        try:
            number = os.open(file, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(number)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        pass


class MemoryPeak:
    """The largest resident memory while the block runs."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self.parts: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryPeak:
        if self.pid is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self.pid is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                parts = resident(self.pid or 0)
            except OSError:
                return
            if sum(parts.values()) > sum(self.parts.values()):
                self.parts = parts
            if self._over.wait(SAMPLE_SECONDS):
                return


class MemoryLimit:
    """A control group (version 1 or 2) that bounds the memory of the processes in it, their page cache included."""

    # Where groups of memory are, and what the file of the bound is called there.
    PLACES = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"))

    def __init__(self, name: str, limit: int) -> None:
        """Raises OSError where groups cannot be made."""
        parent, bound = next((place for place in self.PLACES if (Path(place[0]) / "cgroup.procs").exists()), self.PLACES[-1])
        self.folder = Path(parent) / name
        self.folder.mkdir(exist_ok=True)
        (self.folder / bound).write_text(str(limit))

    def take(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Once its processes have ended; pages that are left go to the parent."""
        try:
            self.folder.rmdir()
        except OSError:
            pass


def read_ceiling(folder: Path, bytes_max: int, threads: int = 4) -> float:
    """Bytes per second of direct reads of the log's own files, so of its own extents; 1 MiB each, `threads` in flight."""
    names = sorted(file for file in files(folder) if file.suffix == ".log")
    sizes = [(name, min(name.stat().st_size, name.stat().st_blocks * 512)) for name in names]
    work = [(name, at) for name, size in sizes for at in range(0, size - size % 4096, READ_BYTES)][: bytes_max // READ_BYTES]
    lock, read = threading.Lock(), [0]
    places = iter(work)

    def reader() -> None:
        buffer = mmap.mmap(-1, READ_BYTES)
        number, opened = -1, None
        while True:
            with lock:
                name, at = next(places, (None, 0))
            if name is None:
                break
            if name != opened:
                if number >= 0:
                    os.close(number)
                number, opened = os.open(name, os.O_RDONLY | os.O_DIRECT), name
            got = os.preadv(number, [buffer], at)
            with lock:
                read[0] += got
        if number >= 0:
            os.close(number)

    began = time.monotonic()
    running = [threading.Thread(target=reader) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return read[0] / (time.monotonic() - began)


def _first(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "unknown")


def _printed(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (done.stdout or done.stderr).strip() or "unknown"


def fingerprint(folder: Path) -> dict[str, str]:
    """What of the machine changes figures."""
    java = _printed("java", "-version").splitlines()
    return {
        "CPU": _first("/proc/cpuinfo", "model name"),
        "CPUs": str(len(os.sched_getaffinity(0))),
        "hypervisor": "yes" if " hypervisor" in _first("/proc/cpuinfo", "flags") else "no",
        "memory": f"{int(_first('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "file system": _printed("stat", "-f", "-c", "%T", str(folder)),
        "disk": f"{shutil.disk_usage(folder).total / 1e9:.0f} GB, {shutil.disk_usage(folder).free / 1e9:.0f} GB free",
        "dirty_ratio": _printed("cat", "/proc/sys/vm/dirty_ratio"),
        "Java": java[0] if java else "unknown",
        "load average before": f"{os.getloadavg()[0]:.2f}",
    }


def is_busy() -> bool:
    """Whether others use the machine, by what is running now: the load average looks back over a minute."""
    return os.getloadavg()[0] > 0.5 * len(os.sched_getaffinity(0))
