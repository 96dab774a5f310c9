"""Which constants of the inputs follow from the noised sum before training?

Every site, the coordinator and whoever uses the model derive them from the same integers, by
correctly rounded IEEE-754 operations in a fixed order, and obtain the same bits (PRIVACY-11). What
the sum says is taken with care, because noise may make a count negative or a variance impossible;
what is done about it looks at nothing but the sum and the plan, and so costs nothing:

| constant | from | never |
| --- | --- | --- |
| mean | sum / count, count at least 1 | outside the plan's range |
| standard deviation | root of mean square − mean² | below 1 % of the range, above half of it |
| edges | the histogram, negative cells taken as empty, linear inside a cell | out of order |
| positive weight | negatives / positives, each at least 1 | below 1/100, above 100 |

A variance that is smaller than its own noise, sigma·clip / count, is taken to be as large: inputs
divided by a deviation that is far too small would be far too large. Which sums these are,
`schemas.governance.preparation` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from schemas.canonical import Document, HexBytes32
from schemas.errors import ErrorCode, ProtocolError
from schemas.governance.study import Feature, StudyPlan

LEAST_SCALE: Final = 0.02
"""Smallest standard deviation on the range −1 … 1, of length 2: 1 % of the range."""
LARGEST_WEIGHT: Final = 100.0
"""Largest weight of a positive patient; its inverse is the smallest."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Constants of the inputs that are not in the plan, each in its column's own unit.

    Attributes:
        positive_weight: weight of the loss of a positive patient.
        means: by column.
        scales: standard deviations by column.
        bin_edges: ascending inner edges by column, one fewer than bins.
    """

    positive_weight: float
    means: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    scales: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    bin_edges: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def none(cls, plan: StudyPlan) -> Prepared:
        """Give the constants of a plan that holds them all itself.

        Raises:
            ProtocolError: PREPARATION_MISSING, the plan does not hold them all.
        """
        if plan.preparation is not None:
            raise _missing()
        return cls(plan.training.positive_weight)

    def mean(self, column: str) -> float:
        """Give the mean of a column; KeyError if the plan did not ask for it."""
        return self.means[column]

    def scale(self, column: str) -> float:
        """Give the standard deviation of a column; KeyError if the plan did not ask for it."""
        return self.scales[column]

    def edges(self, column: str) -> tuple[float, ...]:
        """Give the edges of a column's bins; KeyError if the plan did not ask for them."""
        return self.bin_edges[column]

    def document(self, plan: StudyPlan) -> PreparedDocument:
        """Write the constants down for whoever applies the model."""
        return PreparedDocument(
            plan_digest=plan.digest(),
            means=dict(self.means),
            standard_deviations=dict(self.scales),
            bin_edges=dict(self.bin_edges),
            positive_weight=self.positive_weight,
        )


class PreparedDocument(Document):
    """The constants as they lie beside a model file; derived, so never signed by itself."""

    version: Literal[1] = 1
    plan_digest: HexBytes32
    means: dict[str, float]
    standard_deviations: dict[str, float]
    bin_edges: dict[str, tuple[float, ...]]
    positive_weight: float


def prepare(plan: StudyPlan, prepared: NDArray[np.int64]) -> Prepared:
    """Derive the constants from the verified sum of the preparation.

    Args:
        plan: the approved plan.
        prepared: (words,) int64 in grid units, noise included; (0,) if the plan has none.

    Raises:
        ProtocolError: PREPARATION_MISSING before the sum is there; SUM_MALFORMED if it does not
            fit the plan.
    """
    if plan.preparation is None and not prepared.size:
        return Prepared.none(plan)
    if plan.preparation is not None and not prepared.size:
        raise _missing()
    terms = plan.sum_terms(0)
    if plan.preparation is None or prepared.dtype != np.int64 or prepared.shape != (terms.words,):
        raise ProtocolError(ErrorCode.SUM_MALFORMED, "The sum does not fit the preparation.")
    unit = terms.clip / terms.integer_clip
    features = {feature.column: feature for feature in plan.model.features}
    means: dict[str, float] = {}
    scales: dict[str, float] = {}
    edges: dict[str, tuple[float, ...]] = {}
    weight = plan.training.positive_weight
    start = 0
    for group in plan.preparation_groups:
        words = [int(word) for word in prepared[start : start + group.words]]
        start += group.words
        match group.use:
            case "standardise" | "mean":
                feature = features[group.column]
                count, *sums = (word * unit for word in words)
                moments = [value / max(count, 1.0) for value in sums]
                centre = _cut(moments[0], -1.0, 1.0)
                means[group.column] = _in_unit(centre, feature)
                if group.use == "standardise":
                    noise = terms.noise_multiplier * terms.clip / max(count, 1.0)
                    spread = math.sqrt(max(moments[1] - centre * centre, noise))
                    half = (feature.maximum - feature.minimum) / 2.0
                    scales[group.column] = _cut(spread, LEAST_SCALE, 1.0) * half
            case "quantiles":
                edges[group.column] = _quantiles(words, features[group.column])
            case "class-weights":
                positives, negatives = (max(word * unit, 1.0) for word in words)
                weight = _cut(negatives / positives, 1.0 / LARGEST_WEIGHT, LARGEST_WEIGHT)
            case _ as never:
                assert_never(never)
    return Prepared(
        weight, MappingProxyType(means), MappingProxyType(scales), MappingProxyType(edges)
    )


def _quantiles(words: Sequence[int], feature: Feature) -> tuple[float, ...]:
    """Cut the histogram into bins of equal weight, with exact integers until the last division.

    A histogram that is empty after all gives bins of equal width.
    """
    counts = [max(word, 0) for word in words]
    if not any(counts):
        counts = [1] * len(counts)
    total, bins = sum(counts), feature.bins
    found: list[float] = []
    cell = below = 0
    for number in range(1, bins):
        # The edge has number/bins of the weight below it; everything times bins.
        while bins * (below + counts[cell]) < number * total:
            below += counts[cell]
            cell += 1
        inside = (number * total - bins * below) / (bins * counts[cell])
        place = (cell + inside) / len(counts)
        found.append(_in_unit(2.0 * place - 1.0, feature))
    return tuple(found)


def _in_unit(u: float, feature: Feature) -> float:
    """Give the value in the column's unit of a place on −1 … 1, cut to the plan's range."""
    value = feature.minimum + (u + 1.0) / 2.0 * (feature.maximum - feature.minimum)
    return _cut(value, feature.minimum, feature.maximum)


def _cut(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _missing() -> ProtocolError:
    return ProtocolError(
        ErrorCode.PREPARATION_MISSING,
        "The study's preparation has not been summed yet.",
        hint="Its sum comes before the first training step.",
    )
