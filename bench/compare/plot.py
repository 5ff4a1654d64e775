"""Plots as SVG: points with spreads on a logarithmic scale. Text in, text out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Sequence

from figures import Spread

WIDTH = 900
LABEL_WIDTH = 330
VALUE_WIDTH = 90
ROW_HEIGHT = 22
TOP = 54
COLOURS = {"win": "#1b7f4b", "even": "#777777", "loss": "#b3261e", "own": "#1f5fa8", "peer": "#d17a00"}


@dataclass(frozen=True)
class Row:
    """A line of a plot: points, each with its colour's name, and the bar to reach where there is one."""

    label: str
    points: tuple[tuple[Spread, str], ...]
    bar: float | None = None
    note: str = ""


def ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    return [step * 10.0**power for power in range(first, last + 1) for step in steps if low <= step * 10.0**power <= high]


def _bounds(rows: Sequence[Row]) -> tuple[float, float]:
    found = [value for row in rows for spread, _ in row.points for value in (spread.low, spread.high)]
    found += [row.bar for row in rows if row.bar is not None]
    positive = [value for value in found if value > 0]
    if not positive:
        return 0.1, 10.0
    low, high = min(positive) / 1.3, max(positive) * 1.3
    return (low, high) if high / low >= 4 else (low / 2, high * 2)


def log_plot(title: str, axis: str, rows: Sequence[Row], line_at: float | None = None, legend: Sequence[tuple[str, str]] = ()) -> str:
    """A row per item; `line_at` is drawn through all of them."""
    low, high = _bounds(rows)
    if line_at is not None:
        low, high = min(low, line_at / 1.3), max(high, line_at * 1.3)
    plot_width = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    height = TOP + ROW_HEIGHT * len(rows) + 16

    def x(value: float) -> float:
        place = (math.log10(max(value, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return LABEL_WIDTH + place * plot_width

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="18" font-size="14" font-weight="bold">{escape(title)}</text>',
        f'<text x="8" y="36" fill="#555555">{escape(axis)}</text>',
    ]
    at = WIDTH - 8
    for name, colour in reversed(legend):
        at -= 7 * len(name) + 18
        out.append(f'<circle cx="{at}" cy="32" r="4" fill="{COLOURS[colour]}"/><text x="{at + 8}" y="36">{escape(name)}</text>')
    bottom = TOP + ROW_HEIGHT * len(rows)
    for tick in ticks(low, high):
        out.append(f'<line x1="{x(tick):.1f}" y1="{TOP - 4}" x2="{x(tick):.1f}" y2="{bottom}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{x(tick):.1f}" y="{bottom + 13}" fill="#555555" text-anchor="middle" font-size="10">{tick:g}</text>')
    if line_at is not None:
        out.append(f'<line x1="{x(line_at):.1f}" y1="{TOP - 4}" x2="{x(line_at):.1f}" y2="{bottom}" stroke="#333333"/>')
    for index, row in enumerate(rows):
        y = TOP + ROW_HEIGHT * index + ROW_HEIGHT / 2
        out.append(f'<text x="{LABEL_WIDTH - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(row.label)}</text>')
        if row.bar is not None and row.bar > 0:
            out.append(f'<path d="M{x(row.bar):.1f} {y - 9:.1f}v18" stroke="#000000" stroke-width="2" stroke-dasharray="3 2"/>')
        for spread, colour in row.points:
            paint = COLOURS[colour]
            out.append(f'<line x1="{x(spread.low):.1f}" y1="{y:.1f}" x2="{x(spread.high):.1f}" y2="{y:.1f}" stroke="{paint}" stroke-width="2"/>')
            out.append(f'<circle cx="{x(spread.median):.1f}" cy="{y:.1f}" r="4" fill="{paint}"/>')
        out.append(f'<text x="{WIDTH - VALUE_WIDTH + 8}" y="{y + 4:.1f}">{escape(row.note)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
