"""What is going on and how long it takes yet, on the terminal."""

from __future__ import annotations

import sys
import time


def clock(seconds: float) -> str:
    whole = max(int(seconds), 0)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Progress:
    """Cells with their estimates; the time left follows how well the estimates did so far."""

    def __init__(self, estimates: dict[str, float]) -> None:
        self.estimates = estimates
        self.began = time.monotonic()
        self.done: list[str] = []
        self.cell = ""
        self.cell_began = self.began

    def left(self) -> float:
        spent = time.monotonic() - self.began
        known = sum(self.estimates[name] for name in self.done)
        finished = spent - (time.monotonic() - self.cell_began)
        factor = finished / known if known else 1.0
        current = max(self.estimates.get(self.cell, 0) * factor - (time.monotonic() - self.cell_began), 0)
        later = sum(seconds for name, seconds in self.estimates.items() if name not in self.done and name != self.cell)
        return current + later * factor

    def start(self, name: str) -> None:
        self.cell, self.cell_began = name, time.monotonic()

    def finish(self) -> None:
        self.done.append(self.cell)
        self.cell, self.cell_began = "", time.monotonic()

    def say(self, text: str) -> None:
        place = f"[{min(len(self.done) + 1, len(self.estimates))}/{len(self.estimates)}] {self.cell}"
        line = f"{clock(time.monotonic() - self.began)}, about {clock(self.left())} left  {place}: {text}"
        print(line, file=sys.stderr, flush=True)
