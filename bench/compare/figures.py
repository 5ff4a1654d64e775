"""Medians, ratios and verdicts: functions of numbers alone."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Iterable, Mapping, Sequence

# Of one run: the metric's name and its value.
Run = Mapping[str, float]

# A row is also met at this part of the ceiling that was taken in the same run.
CEILING_SHARE = 0.85
# Medians closer than this are neither a win nor a loss.
EVEN = 0.05


@dataclass(frozen=True)
class Metric:
    """How a figure is shown, and which way is better."""

    title: str
    unit: str
    scale: float
    higher_is_better: bool


METRICS: dict[str, Metric] = {
    "bytes_per_second": Metric("throughput", "MB/s", 1e-6, True),
    "fetched_bytes_per_second": Metric("fetched", "MB/s", 1e-6, True),
    "records_per_second": Metric("records", "records/s", 1, True),
    "requests_per_second": Metric("requests", "requests/s", 1, True),
    "cpu_s_per_gb": Metric("broker CPU", "CPU-s/GB", 1, False),
    "cpu_s_per_million_requests": Metric("broker CPU", "CPU-s/million requests", 1, False),
    "p50_ms": Metric("p50", "ms", 1, False),
    "p99_ms": Metric("p99", "ms", 1, False),
    "p999_ms": Metric("p99.9", "ms", 1, False),
    "max_ms": Metric("max", "ms", 1, False),
    "slowdown": Metric("p99 beside a replay : p99 alone", "x", 1, False),
    "share": Metric("throughput of 2000 partitions : of 1", "x", 1, True),
    "first_acknowledged_ms": Metric("restart to first acknowledgement", "ms", 1, False),
    "last_acknowledged_ms": Metric("restart to every partition's one", "ms", 1, False),
    "idle_bytes": Metric("idle: resident memory and page cache", "MB", 1e-6, False),
    "resident_bytes": Metric("resident memory, tail memory included", "MB", 1e-6, False),
    "memory_bytes": Metric("resident memory and page cache", "MB", 1e-6, False),
}


@dataclass(frozen=True)
class Bar:
    """What a cell must reach: the median of the rounds' ratios own : peer, or (`absolute`) the own median itself."""

    metric: str
    relation: str
    target: float
    absolute: bool = False
    # Met at CEILING_SHARE of the bare device, too.
    ceiling: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.target if self.relation == ">=" else value <= self.target

    def text(self) -> str:
        metric = METRICS[self.metric]
        sign = "≥" if self.relation == ">=" else "≤"
        what = f"{self.target:g} {metric.unit}" if self.absolute else f"{self.target:g}"
        return f"{metric.title}, {metric.unit}: {sign} {what}" if not self.absolute else f"{metric.title}: {sign} {what}"


@dataclass(frozen=True)
class Spread:
    """A median with the smallest and the largest."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread | None:
        present = list(values)
        return Spread(median(present), min(present), max(present)) if present else None


@dataclass(frozen=True)
class Verdict:
    bar: Bar
    # None: it was not measured.
    value: Spread | None
    met: bool
    # Which part of the ceiling the own median is, where the row has one.
    ceiling_share: float | None = None

    def word(self) -> str:
        if self.value is None:
            return "not measured"
        if not self.met:
            return "missed"
        return "met" if self.bar.holds(self.value.median) else "met at the ceiling"


def values(runs: Sequence[Run], metric: str) -> list[float]:
    return [run[metric] for run in runs if metric in run]


def ratios(own: Sequence[Run], peer: Sequence[Run], metric: str) -> Spread | None:
    """Own : peer of each round, since both of a round saw the same machine."""
    pairs = [(a[metric], b[metric]) for a, b in zip(own, peer) if metric in a and metric in b]
    return Spread.of(a / b for a, b in pairs if b > 0)


def judge(bar: Bar, own: Sequence[Run], peer: Sequence[Run], ceilings: Sequence[float]) -> Verdict:
    value = Spread.of(values(own, bar.metric)) if bar.absolute else ratios(own, peer, bar.metric)
    if value is None:
        return Verdict(bar, None, False)
    share = None
    if bar.ceiling and ceilings and median(ceilings) > 0:
        share = median(values(own, bar.metric)) / median(ceilings)
    met = bar.holds(value.median) or (share is not None and share >= CEILING_SHARE)
    return Verdict(bar, value, met, share)


def standing(metric: str, ratio: Spread | None) -> str:
    """`win`, `even` or `loss` of the own side, by the median ratio alone, whatever the bar is."""
    if ratio is None:
        return "not measured"
    gain = ratio.median if METRICS[metric].higher_is_better else 1 / max(ratio.median, 1e-9)
    if gain < 1 - EVEN:
        return "loss"
    return "win" if gain > 1 + EVEN else "even"


def written_twice(journal: float, segment: float) -> float:
    """The ceiling of bytes that go to the journal first and to the segment after it, on one device."""
    return 1 / (1 / journal + 1 / segment)


def rounded(value: float) -> float:
    """Four digits: more than a repetition reproduces."""
    return float(f"{value:.4g}")
