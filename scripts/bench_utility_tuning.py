"""Which constants do the training rows choose for each method of the comparison of utility?

    python -m scripts.bench utility_tuning [--data heart,cxr]

Cross-validation within the training rows; the test rows are never read. Every method goes through
the same grid by the same rule:

1. for every combination of steps, clip, averaging (and local steps of the peer), the mean over
   epsilon of the AUC that the best learning rate reaches at that epsilon;
2. the combination with the highest mean; at each epsilon, its best learning rate.

Training is simulated in floating point, many noise seeds side by side: both models are linear, so
a row's gradient is a multiple of the row, and clipping changes the multiple. With fewer rows the
noise would weigh more than in the study, so it is scaled by the fold's share of the rows. Both
methods may take the same numbers of private steps; the peer may put four of them between two
averages. Ours pays for the shipped templates' share of retries, the peer for none. Writes
build/bench/utility-tuning.json, and fails where the choice is not what is written down in
`bench_utility_studies.CONSTANTS`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from schemas.privacy import calibrate_noise
from scripts.bench_timing import write_json
from scripts.bench_utility_studies import (
    CONSTANTS,
    DATA_SETS,
    DELTA,
    EPSILONS,
    Constants,
    load_study,
)

OUT: Final = Path("build/bench/utility-tuning.json")
METHODS: Final = ("ours", "fedavg")

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grid:
    """What is tried on one data set.

    ``steps`` are all private steps, rounds times local steps; learning rates are in units of
    1 / (clip * local steps).
    """

    steps: tuple[int, ...]
    clips: tuple[float, ...]
    rates: tuple[float, ...]
    local_steps: tuple[int, ...]
    momentum: float
    retry_share: float
    folds: int
    repeats: int
    seeds: int


GRIDS: Final[Mapping[str, Grid]] = {
    "heart": Grid((4, 12), (0.5, 1.0, 2.0), (0.125, 0.25, 0.5, 1.0), (1, 4), 0.0, 3 / 12, 5, 5, 50),
    "cxr": Grid((40, 80), (0.1, 0.25), (1.25, 2.5, 5.0, 10.0, 20.0), (1, 4), 0.9, 5 / 40, 3, 1, 2),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of the grid, learning rates apart; the fields are those of `Constants`."""

    steps: int
    retry_cap: int
    local_steps: int
    clip: float
    momentum: float

    def noise(self, hospitals: int, is_peer: bool) -> NDArray[np.float64]:
        """Give for each epsilon the standard deviation of one release's noise, in clips.

        The sum of our shares holds |U| / (|U| - t) times the variance, with t = 1.
        """
        single = [
            calibrate_noise(epsilon=e, delta=DELTA, sampling_rate=1.0, steps=1) for e in EPSILONS
        ]
        releases = (self.steps + self.retry_cap) * self.local_steps
        inflation = 1.0 if is_peer else math.sqrt(hospitals / (hospitals - 1))
        return np.array(single) * math.sqrt(releases) * inflation


@dataclass(frozen=True, slots=True)
class Rows:
    """Training rows of all hospitals: inputs with a constant one, outcomes, hospital."""

    x: Matrix
    y: NDArray[np.int64]
    site: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_]) -> Rows:
        """Give some of the rows."""
        return Rows(self.x[chosen], self.y[chosen], self.site[chosen])


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune every method; 1 where the outcome is not what is written down."""
    parser = argparse.ArgumentParser(
        prog="bench utility_tuning", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", default=",".join(DATA_SETS))
    names = parser.parse_args(arguments).data.split(",")
    report: dict[str, Any] = {}
    agrees = True
    for name in names:
        rows = training_rows(name)
        report[name] = {"grid": asdict(GRIDS[name])}
        for method in METHODS:
            scores = search(rows, GRIDS[name], is_peer=method == "fedavg")
            chosen = choose(scores)
            agrees &= CONSTANTS.get(name, {}).get(method) == chosen
            report[name][method] = {"chosen": asdict(chosen), "auc": listed(scores)}
            print(f"{name} {method}: {chosen}")
    write_json(OUT, report)
    print(f"{OUT} written; the constants {'are' if agrees else 'ARE NOT'} those written down")
    return 0 if agrees else 1


def training_rows(name: str) -> Rows:
    """Give the training rows of a data set; its test rows stay where they are."""
    train = load_study(name).train
    x = np.concatenate([part.x for part in train.values()])
    return Rows(
        x=np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1),
        y=np.concatenate([part.y for part in train.values()]),
        site=np.concatenate([np.full(len(p.y), n) for n, p in enumerate(train.values())]),
    )


Scores = dict[tuple[Setting, int], dict[float, NDArray[np.float64]]]
"""Setting and first averaged step, then learning rate: the mean AUC at each epsilon, (5,)."""


def search(rows: Rows, grid: Grid, *, is_peer: bool) -> Scores:
    """Cross-validate the whole grid of one method."""
    scores: Scores = {}
    folds = [f for repeat in range(grid.repeats) for f in _folds(rows, grid.folds, repeat)]
    for private, clip, local in product(
        grid.steps, grid.clips, grid.local_steps if is_peer else (1,)
    ):
        retries = 0 if is_peer else math.ceil(private * grid.retry_share)
        setting = Setting(private // local, retries, local, clip, grid.momentum)
        for unit in grid.rates:
            rate = unit / clip / local
            found = _cross_validate(rows, folds, setting, rate, grid.seeds, is_peer=is_peer)
            for average_from, auc in found.items():
                scores.setdefault((setting, average_from), {})[rate] = auc
    return scores


def choose(scores: Scores) -> Constants:
    """Apply the rule; of equals, the first of the grid."""
    (setting, average_from), by_rate = max(
        scores.items(), key=lambda item: float(np.max(list(item[1].values()), axis=0).mean())
    )
    best = {
        epsilon: max(by_rate, key=lambda rate: float(by_rate[rate][place]))
        for place, epsilon in enumerate(EPSILONS)
    }
    return Constants(
        steps=setting.steps,
        retry_cap=setting.retry_cap,
        local_steps=setting.local_steps,
        clip=setting.clip,
        learning_rates=best,
        momentum=setting.momentum,
        average_from_step=average_from,
    )


def listed(scores: Scores) -> list[dict[str, Any]]:
    """Write every point of the grid down, best mean first."""
    entries = [
        {**asdict(setting), "average_from_step": start, "learning_rate": rate}
        | {f"{epsilon:g}": round(float(v), 5) for epsilon, v in zip(EPSILONS, auc, strict=True)}
        for (setting, start), by_rate in scores.items()
        for rate, auc in by_rate.items()
    ]
    return sorted(entries, key=lambda each: -sum(each[f"{epsilon:g}"] for epsilon in EPSILONS))


def _folds(rows: Rows, count: int, repeat: int) -> Iterator[NDArray[np.bool_]]:
    """Give the training part of each fold; hospitals and outcomes are spread evenly."""
    generator = np.random.default_rng(repeat)
    fold = np.empty(len(rows.y), dtype=np.int64)
    for site, label in product(np.unique(rows.site), (0, 1)):
        places = generator.permutation(np.flatnonzero((rows.site == site) & (rows.y == label)))
        fold[places] = (np.arange(len(places)) + generator.integers(count)) % count
    for number in range(count):
        yield fold != number


def _cross_validate(
    rows: Rows,
    folds: Sequence[NDArray[np.bool_]],
    setting: Setting,
    rate: float,
    seeds: int,
    *,
    is_peer: bool,
) -> dict[int, NDArray[np.float64]]:
    """Give, for either start of averaging, the mean AUC at each epsilon over folds and seeds."""
    hospitals = len(np.unique(rows.site))
    noise = setting.noise(hospitals, is_peer)
    generator = np.random.default_rng(0)
    found: dict[int, list[NDArray[np.float64]]] = {}
    for chosen in folds:
        scale = np.repeat(noise * float(chosen.mean()), seeds).astype(np.float32)
        models = simulate(rows.take(chosen), setting, rate, scale, generator, is_peer=is_peer)
        for start, model in models.items():
            auc = _auc(rows.x[~chosen] @ model, rows.y[~chosen])
            found.setdefault(start, []).append(auc.reshape(len(EPSILONS), seeds).mean(axis=1))
    return {start: np.mean(values, axis=0) for start, values in found.items()}


def simulate(
    rows: Rows,
    setting: Setting,
    rate: float,
    noise: Matrix,
    generator: np.random.Generator,
    *,
    is_peer: bool,
) -> dict[int, Matrix]:
    """Train once for each column of noise, (d, columns), with averaging from half way and without.

    Args:
        rows: training rows.
        setting: steps, clip, momentum and local steps.
        rate: learning rate.
        noise: (columns,) standard deviation of one release's noise, in clips.
        generator: of the noise.
        is_peer: every hospital adds the whole noise to its own sum.
    """
    sites = [rows.take(rows.site == s) for s in np.unique(rows.site)] if is_peer else [rows]
    model = np.zeros((rows.x.shape[1], len(noise)), np.float32)
    velocity, average = np.zeros_like(model), np.zeros_like(model)
    half = setting.steps // 2
    for step in range(setting.steps):
        change = np.zeros_like(model)
        for part in sites:
            local = model.copy()
            for _ in range(setting.local_steps):
                total = _clipped_sum(part, local, setting.clip)
                drawn = generator.standard_normal(model.shape, dtype=np.float32)
                total += drawn * (noise * np.float32(setting.clip))
                local -= np.float32(rate / len(part.y)) * total
            change += (model - local) * np.float32(len(part.y) / len(rows.y))
        velocity = np.float32(setting.momentum) * velocity + change
        model = model - velocity
        if step >= half:
            average += (model - average) / np.float32(step - half + 1)
    return {setting.steps: model, half: average}


def _clipped_sum(rows: Rows, model: Matrix, clip: float) -> Matrix:
    """Sum the clipped gradients of all rows, (d, columns): (p - y) x, cut to the clip."""
    slope = 0.5 * (1.0 + np.tanh(0.5 * (rows.x @ model))) - rows.y[:, None].astype(np.float32)
    length = np.abs(slope) * np.linalg.norm(rows.x, axis=1)[:, None]
    slope *= np.minimum(1.0, np.float32(clip) / np.maximum(length, np.float32(1e-12)))
    total: Matrix = rows.x.T @ slope
    return total


def _auc(scores: Matrix, y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the AUC of every column (Mann-Whitney)."""
    ranks = rankdata(scores, axis=0)
    sick = int(y.sum())
    auc: NDArray[np.float64] = ranks[y == 1].sum(axis=0) - sick * (sick + 1) / 2
    return auc / (sick * (len(y) - sick))
