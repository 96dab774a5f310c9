"""How are two things timed on a machine that others use too? Interleaved, in CPU seconds, medians.

Each round runs every task once, so a busy spell falls on all of them alike. Only ratios of numbers
from one call mean anything.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3

Task = Callable[[], object]
"""What is timed."""

Prepare = Callable[[], Task]
"""What sets one run up and is not timed: keys that serve once, a fresh vector."""


def interleaved(tasks: Mapping[str, Prepare], repeats: int) -> dict[str, float]:
    """Give the median CPU seconds (user and system, this process) of each task.

    Args:
        tasks: by name; all run once untimed before anything counts.
        repeats: rounds, at least one.
    """
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for round_ in range(repeats + 1):
        for name, prepare in tasks.items():
            task = prepare()
            start = time.process_time()
            task()
            if round_:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def keep_freed_memory() -> None:
    """Let this process reuse memory that was freed, up to 32 MiB at a time, where libc is glibc.

    By default glibc hands it back, and whichever task allocates next pays the kernel for fresh
    pages: luck that can cost more than the task, and that a long-running process does not have.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)


@dataclass(frozen=True, slots=True)
class Goal:
    """One number that was promised: measured, wanted, and whether it is reached."""

    name: str
    measured: float
    wanted: float
    at_least: bool

    @property
    def is_met(self) -> bool:
        """Whether the measured number is on the right side."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def line(self) -> str:
        """One line for a terminal."""
        sign = ">=" if self.at_least else "<="
        verdict = "met   " if self.is_met else "MISSED"
        return f"{verdict} {self.name}: {self.measured:.4g} ({sign} {self.wanted:.4g})"

    def document(self) -> dict[str, Any]:
        """The same for a JSON file."""
        return {
            "name": self.name,
            "measured": self.measured,
            "at_least" if self.at_least else "at_most": self.wanted,
            "met": self.is_met,
        }


def write_json(path: Path, content: object) -> None:
    """Write one document, readable by people too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
