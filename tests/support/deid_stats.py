"""What share passed, and how sure is that? Checks, rates and Wilson bounds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.support.deid_ledger import MIDI_B, OURS, PRIVACY, UTILITY

_Z = 1.959964  # 95 %, two sides


def wilson(passed: int, of: int) -> tuple[float, float]:
    """Give the 95 % score interval of a share (Wilson 1927); (0, 1) for no trial."""
    if of == 0:
        return 0.0, 1.0
    share = passed / of
    centre = share + _Z**2 / (2 * of)
    half = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    scale = 1 + _Z**2 / of
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


@dataclass(frozen=True, slots=True)
class Check:
    """One question about one file."""

    category: str
    place: str
    file: str
    passed: bool
    tier: str = "basic"


@dataclass(frozen=True, slots=True)
class Rate:
    """Passed of how many."""

    passed: int
    of: int

    @property
    def share(self) -> float:
        """The share that passed; 1 where nothing was asked."""
        return self.passed / self.of if self.of else 1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Wilson's 95 % bounds."""
        return wilson(self.passed, self.of)


@dataclass(slots=True)
class Score:
    """All checks of one run."""

    checks: list[Check] = field(default_factory=list)
    files: int = 0  # valid ones
    quarantined: list[str] = field(default_factory=list)  # valid files that were not released
    malformed: int = 0
    malformed_released: list[str] = field(default_factory=list)
    native_text_files: int = 0
    area_outside: list[tuple[float, bool, str]] = field(default_factory=list)

    def add(self, category: str, place: str, file: str, passed: bool, tier: str = "basic") -> None:
        """Note one answer."""
        self.checks.append(Check(category, place, file, bool(passed), tier))

    def rate(self, *categories: str, where: Callable[[Check], bool] = lambda _: True) -> Rate:
        """Give the rate over categories."""
        found = [c.passed for c in self.checks if c.category in categories and where(c)]
        return Rate(sum(found), len(found))

    def header_text(self) -> Rate:
        """Identity removed from text attributes."""
        return self.rate("text_removed")

    def lines(self, *scripts: str) -> Rate:
        """Burned-in lines hidden, of these scripts."""
        places = {f"line/{script}" for script in scripts}
        return self.rate("pixels_hidden", where=lambda c: c.place in places)

    def rates(self) -> Iterator[tuple[str, Rate]]:
        """Every category, then the sums."""
        for category in (*MIDI_B, *OURS):
            yield category, self.rate(category)
        yield "MIDI-B, basic tier", self.rate(*MIDI_B, where=lambda c: c.tier == "basic")
        yield "MIDI-B, all", self.rate(*MIDI_B)
        yield "privacy", self.rate(*PRIVACY)
        yield "utility", self.rate(*UTILITY)

    def table(self) -> str:
        """For a terminal: checks, percentage, lower bound."""
        rows = [f"{'category':<22}{'checks':>8}{'failed':>8}{'%':>9}{'95 % from':>11}"]
        for name, rate in self.rates():
            if rate.of:
                low = 100 * rate.bounds[0]
                failed = rate.of - rate.passed
                rows.append(
                    f"{name:<22}{rate.of:>8}{failed:>8}{100 * rate.share:>9.3f}{low:>11.3f}"
                )
        share = len(self.quarantined) / max(1, self.files)
        rows.append(
            f"valid files {self.files}, quarantined {len(self.quarantined)} ({100 * share:.1f} %); "
            f"malformed {self.malformed}, released {len(self.malformed_released)}"
        )
        return "\n".join(rows)

    def failures(self, limit: int = 3) -> str:
        """Failures by category and place, with a few files each."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for check in self.checks:
            if not check.passed and check.file not in self.quarantined:
                found[check.category, check.place].append(check.file)
        lines = []
        for (category, place), files in sorted(found.items(), key=lambda x: -len(x[1])):
            some = ", ".join(dict.fromkeys(files[: limit * 4]).keys())
            names = some.split(", ")[:limit]
            lines.append(f"{len(files):>5}  {category:<16} {place:<44} {', '.join(names)}")
        return "\n".join(lines)


def merge(scores: Iterable[Score]) -> Score:
    """Put several runs together."""
    total = Score()
    for each in scores:
        total.checks += each.checks
        total.files += each.files
        total.quarantined += each.quarantined
        total.malformed += each.malformed
        total.malformed_released += each.malformed_released
        total.area_outside += each.area_outside
        total.native_text_files += each.native_text_files
    return total
