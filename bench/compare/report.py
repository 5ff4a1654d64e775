"""The report of kept results: Markdown, JSON and plots. Functions from results to text."""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

from cells import DURABILITIES, Cell
from figures import METRICS, Bar, Spread, Verdict, judge, ratios, standing, values
from plot import Row, log_plot

# Looked at for losses in every cell, whatever it is about; a single maximum says little, and records go with bytes.
JUDGED = [name for name in METRICS if name not in ("max_ms", "records_per_second", "requests_per_second", "resident_bytes", "share")]
# A fixed rate sets its own throughput.
SET_BY_RATE = ("bytes_per_second", "records_per_second", "requests_per_second")
LATENCIES = ("p50_ms", "p99_ms", "p999_ms", "max_ms")
COSTS = ("cpu_s_per_gb", "cpu_s_per_million_requests", "resident_bytes", "page_cache_bytes")
Result = Mapping[str, Any]


def shown(metric: str, value: float) -> str:
    scaled = value * (METRICS[metric].scale if metric in METRICS else 1e-6)
    if abs(scaled) >= 100:
        return f"{scaled:,.0f}"
    return f"{scaled:.3g}"


def shown_spread(metric: str, spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{shown(metric, spread.median)} ({shown(metric, spread.low)}..{shown(metric, spread.high)})"


def shown_ratio(spread: Spread | None) -> str:
    return "–" if spread is None else f"**{spread.median:.3g}** ({spread.low:.3g}..{spread.high:.3g})"


def side(result: Result, name: str) -> list[dict[str, float]]:
    return list(result["runs"].get(name, []))


def headline(cell: Cell, result: Result) -> list[str]:
    """The metrics that a cell is there for: those of its bars, or else throughput and CPU time."""
    if cell.bars:
        return [bar.metric for bar in cell.bars]
    return [name for name in ("bytes_per_second", "cpu_s_per_gb") if values(side(result, "own") or side(result, "peer"), name)]


def verdicts(cell: Cell, result: Result) -> list[Verdict]:
    return [judge(bar, side(result, "own"), side(result, "peer"), result["ceilings"]) for bar in cell.bars]


def lost_metrics(cell: Cell, result: Result) -> list[tuple[str, Spread]]:
    """Where the own side is worse than the peer, whether the cell is about that or not."""
    lost = []
    for metric in JUDGED:
        if getattr(cell.workload, "rate", 0) and metric in SET_BY_RATE:
            continue
        ratio = ratios(side(result, "own"), side(result, "peer"), metric)
        if ratio is not None and standing(metric, ratio) == "loss":
            lost.append((metric, ratio))
    return lost


def losses(cells: Sequence[tuple[Cell, Result]], peer: str) -> list[str]:
    lines = []
    for cell, result in cells:
        for name, error in result["errors"].items():
            lines.append(f"- **{cell.name}** ({cell.title}): {who(result, name)} did not run it: `{error.splitlines()[0][:160]}`")
        for verdict in verdicts(cell, result):
            if verdict.value is not None and not verdict.met:
                lines.append(f"- **{cell.name}** ({cell.title}): bar missed: {bar_text(verdict)}")
        for metric, ratio in lost_metrics(cell, result):
            title = METRICS[metric]
            lines.append(f"- **{cell.name}** ({cell.title}): worse than {peer} in {title.title}: {shown_ratio(ratio)} times its {title.unit}")
    return lines


def who(result: Result, name: str) -> str:
    return str(result["brokers"].get(name, name)).split(",")[0]


def bar_text(verdict: Verdict) -> str:
    bar, value = verdict.bar, verdict.value
    assert value is not None
    reached = shown_spread(bar.metric, value) if bar.absolute else f"ratio {value.median:.3g} ({value.low:.3g}..{value.high:.3g})"
    ceiling = f", {verdict.ceiling_share:.0%} of the bare device" if verdict.ceiling_share is not None else ""
    return f"{bar.text()}; reached {reached}{ceiling}"


def comparison_table(cells: Sequence[tuple[Cell, Result]], peer: str) -> list[str]:
    lines = [f"| cell | class | metric | Ringtail | {peer} | ratio | bare device | bar | |", "|---|---|---|---|---|---|---|---|---|"]
    for cell, result in cells:
        first = True
        found = {verdict.bar.metric: verdict for verdict in verdicts(cell, result)}
        for metric in headline(cell, result):
            own, other = side(result, "own"), side(result, "peer")
            verdict = found.get(metric)
            unit = METRICS[metric]
            lines.append("| " + " | ".join([
                f"**{cell.name}**<br>{cell.title}" if first else "",
                DURABILITIES[cell.durability][2] if first else "",
                f"{unit.title}, {unit.unit}",
                shown_spread(metric, Spread.of(values(own, metric))),
                shown_spread(metric, Spread.of(values(other, metric))),
                shown_ratio(ratios(own, other, metric)),
                f"{verdict.ceiling_share:.0%}" if verdict and verdict.ceiling_share is not None else "",
                target(verdict.bar) if verdict else "",
                mark(verdict, metric, ratios(own, other, metric)),
            ]) + " |")
            first = False
    return lines


def target(bar: Bar) -> str:
    sign = "≥" if bar.relation == ">=" else "≤"
    return f"{sign} {shown(bar.metric, bar.target) + ' ' + METRICS[bar.metric].unit if bar.absolute else f'{bar.target:g}'}"


def mark(verdict: Verdict | None, metric: str, ratio: Spread | None) -> str:
    if verdict is None:
        return standing(metric, ratio)
    return verdict.word() if verdict.met else f"**{verdict.word()}**"


def detail_table(cells: Sequence[tuple[Cell, Result]], metrics: Sequence[str], titles: Sequence[str], peer: str) -> list[str]:
    """Medians of both sides, for cells that have any of the metrics."""
    lines = ["| cell | broker | " + " | ".join(titles) + " |", "|---|---|" + "---|" * len(titles)]
    for cell, result in cells:
        for name, broker in (("own", "Ringtail"), ("peer", peer)):
            medians = [Spread.of(values(side(result, name), metric)) for metric in metrics]
            if any(median is not None for median in medians):
                texts = ["–" if median is None else shown(metric, median.median) for metric, median in zip(metrics, medians)]
                lines.append(f"| {cell.name} | {broker} | " + " | ".join(texts) + " |")
    return lines


def remarks(cells: Sequence[tuple[Cell, Result]]) -> list[str]:
    """What a reader must know before believing a row."""
    lines = []
    for cell, result in cells:
        for name in ("own", "peer"):
            refused = sum(values(side(result, name), "errors"))
            if refused:
                lines.append(f"- {cell.name}: {who(result, name)} refused {refused:.0f} requests, or a fixed rate could not send them")
            shares = values(side(result, name), "disk_read_share")
            if shares and min(shares) < 0.9:
                lines.append(f"- {cell.name}: {who(result, name)} read only {min(shares):.0%} from the disk: not quite cold")
    return lines


def markdown(cells: Sequence[tuple[Cell, Result]], context: Mapping[str, Any]) -> str:
    peer = context["peer"]
    out = [f"# Ringtail and {peer}, side by side", ""]
    out += [f"{context['date']}, commit {context['commit']}, {context['form']}: {len(cells)} of {context['wanted']} cells, "
            f"{context['rounds']} rounds of {context['seconds']:g} s for each broker, in turns.", ""]
    out += [f"> {warning}" for warning in context["warnings"]]
    out += ["", "Ratios are Ringtail : " + peer + ", the median over the rounds with the smallest and the largest. For CPU time, latency and memory "
            "less is better. *Met at the ceiling*: at least 85 % of what bare direct writes (or reads) of the same layout reached in the same run. "
            "Classes of durability are never mixed; `apart` rows hold a durable Ringtail against a peer that is not.", ""]
    out += ["## Losses", ""]
    out += losses(cells, peer) or ["None in these cells."]
    notes = remarks(cells)
    out += ["", "## All rows", "", *comparison_table(cells, peer), ""]
    out += ["![ratios](ratios.svg)", ""]
    out += ["### To be known about them", "", *notes, ""] if notes else []
    out += ["## Latency, ms", "",
            "Medians over the rounds. At a fixed rate counted from the time a request was meant to go out, in a closed loop from its sending.", ""]
    out += [*detail_table(cells, LATENCIES, ("p50", "p99", "p99.9", "max"), peer), "", "![latency](latency.svg)", ""]
    out += ["## Broker CPU and memory", "", "CPU time of all the process's threads; the kernel's write-back of the page cache is not in it. "
            "Memory at its most; Ringtail's tail memory (shared memory) is counted as resident.", ""]
    out += [*detail_table(cells, COSTS, ("CPU-s/GB", "CPU-s/million requests", "resident, MB", "page cache of its files, MB"), peer), ""]
    out += ["![CPU](cpu.svg)", "", "## Machine and versions", "", *(f"- {name}: {value}" for name, value in context["machine"].items())]
    out += [f"- {version}" for version in context["versions"]]
    out += ["", "## Commands", "", f"All of it: `{context['command']}`. Of each cell, once per broker (process ids differ by round):", ""]
    for cell, result in cells:
        out += [f"<details><summary>{cell.name}</summary>", "", "```", *result["commands"], "```", "</details>", ""]
    return "\n".join(out).rstrip() + "\n"


def as_json(cells: Sequence[tuple[Cell, Result]], context: Mapping[str, Any]) -> str:
    rows = []
    for cell, result in cells:
        judged = [{"bar": verdict.bar.text(), "verdict": verdict.word(), "median": verdict.value.median if verdict.value else None,
                   "ceiling_share": verdict.ceiling_share} for verdict in verdicts(cell, result)]
        kept = {name: result[name] for name in ("began", "seconds", "brokers", "runs", "ceilings", "errors")}
        rows.append({"name": cell.name, "title": cell.title, "class": cell.durability, "verdicts": judged, **kept})
    head = json.dumps({name: value for name, value in context.items()}, indent=1, ensure_ascii=False)
    # A line per cell: small, and readable in a diff.
    body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return head[:-2] + ',\n "cells": [\n' + body + "\n]}\n"


def plots(cells: Sequence[tuple[Cell, Result]], peer: str) -> dict[str, str]:
    """File names and their SVG."""
    ratio_rows: list[Row] = []
    cpu_rows: list[Row] = []
    latency_rows: list[Row] = []
    for cell, result in cells:
        own, other = side(result, "own"), side(result, "peer")
        for metric in headline(cell, result):
            ratio = ratios(own, other, metric)
            if ratio is None:
                continue
            bar = next((bar.target for bar in cell.bars if bar.metric == metric and not bar.absolute), None)
            label = f"{cell.name}: {METRICS[metric].title}"
            ratio_rows.append(Row(label, ((ratio, standing(metric, ratio)),), bar, f"{ratio.median:.3g}"))
        for metric, rows in (("cpu_s_per_gb", cpu_rows), ("p99_ms", latency_rows)):
            sides = [(Spread.of(values(runs, metric)), name) for runs, name in ((own, "own"), (other, "peer"))]
            points = tuple((spread, name) for spread, name in sides if spread is not None)
            if points:
                rows.append(Row(cell.name, points, None, " : ".join(shown(metric, spread.median) for spread, _ in points)))
    legend = (("Ringtail", "own"), (peer, "peer"))
    return {
        "ratios.svg": log_plot(f"Ringtail : {peer}", "ratio, median and spread; dashes: the bar", ratio_rows, 1.0,
                               (("better", "win"), ("even", "even"), ("worse", "loss"))),
        "cpu.svg": log_plot("Broker CPU time", "CPU-seconds per GB, median and spread", cpu_rows, None, legend),
        "latency.svg": log_plot("p99", "ms, median and spread", latency_rows, None, legend),
    }
