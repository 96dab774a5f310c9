"""What do the runs of the comparison of utility add up to, and which goals do they reach?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from scripts.bench_timing import Goal

Scores = dict[str, dict[float, dict[str, list[float]]]]
"""{data set: {epsilon: {method: test AUROC of each seed}}}"""

FEWEST_SEEDS: Final = 10
MOST_BELOW_CENTRAL: Final = 0.003
_ABOVE: Final = 1e-6  # "above" is more than equal; a mean of AUROCs comes in steps of this order
FLOORS: Final[Mapping[str, Mapping[float, float]]] = {
    "heart": {0.5: 0.86, 1.0: 0.875},
    "cxr": {2.0: 0.93, 8.0: 0.945},
}


def mean(values: Sequence[float]) -> float:
    """Give the mean over seeds."""
    return math.fsum(values) / len(values)


def sd(values: Sequence[float]) -> float:
    """Give the standard deviation over seeds; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def entry(by_epsilon: Mapping[float, Mapping[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Give one data set's part of utility.json: means over seeds, and the sd of ours."""
    return {
        f"{epsilon:g}": {
            **{each: round(mean(by_method[each]), 6) for each in _METHODS},
            "sd": round(sd(by_method["ours"]), 6),
        }
        for epsilon, by_method in by_epsilon.items()
    }


_METHODS: Final = ("pooled", "central", "ours", "fedavg")


def gap_to_central(by_method: Mapping[str, list[float]]) -> dict[str, Any]:
    """Give the mean of ours less central, seed by seed, with a 95 % interval (normal)."""
    gaps = [a - b for a, b in zip(by_method["ours"], by_method["central"], strict=True)]
    half = 1.96 * sd(gaps) / math.sqrt(len(gaps))
    middle = mean(gaps)
    return {
        "mean": round(middle, 6),
        "interval_95": [round(middle - half, 6), round(middle + half, 6)],
        "seeds": len(gaps),
    }


def goals(scores: Scores, exact: Mapping[str, bool]) -> list[Goal]:
    """Judge what was measured."""
    found = []
    for name, by_epsilon in scores.items():
        found.append(Goal(f"{name}: secure sum identical", float(exact[name]), 1, True))
        for epsilon, by_method in by_epsilon.items():
            where = f"{name}, epsilon {epsilon:g}: "
            ours, central = mean(by_method["ours"]), mean(by_method["central"])
            above = ours - mean(by_method["fedavg"])
            found += [
                Goal(where + "noise seeds", len(by_method["ours"]), FEWEST_SEEDS, True),
                Goal(where + "ours - central", ours - central, -MOST_BELOW_CENTRAL, True),
                Goal(where + "ours - fedavg", above, _ABOVE, True),
            ]
            if epsilon in FLOORS[name]:
                found.append(Goal(where + "AUC of ours", ours, FLOORS[name][epsilon], True))
    return found
