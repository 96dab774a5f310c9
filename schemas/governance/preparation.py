"""How does a plan say that constants of the inputs are taken from a noised sum over patients?

Scaling, imputation, bin edges and class weights are either numbers of the plan, or they come from
one differentially private sum before training, the preparation, that is charged to the ledger as
any other (PRIVACY-11). There is no third way.

Every patient adds one vector, the mean over the patient's rows; its groups are

| group of | words | of one row | squared norm, at most |
| --- | --- | --- | --- |
| a standardised feature | 3 | 1, u, u² with u in [−1, 1] | 3 |
| an imputed feature | 2 | 1, u | 2 |
| a feature in quantile bins | cells | one 1 in a fine histogram | 1 |
| class weights | 2 | one 1: positive, negative | 1 |

u is the value on the plan's range, cut to it: 2 (v − minimum) / (maximum − minimum) − 1. A missing
value adds zeros to its group. So a patient's norm is bounded without clipping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from schemas import limits
from schemas.canonical import Document
from schemas.governance.training import GridUnits

if TYPE_CHECKING:
    from schemas.governance.terms import Feature
    from schemas.governance.training import TrainingTerms


class PreparationTerms(Document):
    """The one sum before training."""

    epsilon: Annotated[float, Field(gt=0, le=limits.MAX_EPSILON)]  # of the preparation alone
    noise_multiplier: Annotated[float, Field(gt=0, le=10_000)]  # in units of a patient's norm
    retry_cap: Annotated[int, Field(ge=0, le=1_000)]  # attempts beyond the first
    integer_clip: GridUnits  # a patient's norm in grid units

    @property
    def attempts(self) -> int:
        """Attempts the plan may open: every one is paid for."""
        return 1 + self.retry_cap


@dataclass(frozen=True, slots=True)
class Group:
    """Some words of the preparation's vector that belong together.

    Attributes:
        use: what they are for.
        column: the feature's column; "" for class weights.
        words: how many.
        squared_norm: largest squared norm one patient can have in them.
    """

    use: Literal["standardise", "mean", "quantiles", "class-weights"]
    column: str
    words: int
    squared_norm: int


def preparation_groups(features: Iterable[Feature], training: TrainingTerms) -> tuple[Group, ...]:
    """List what the plan wants to know before training; empty if everything is in the plan.

    A feature that is standardised and imputed by its mean has one group for both.
    """
    found: list[Group] = []
    for feature in features:
        if feature.encoding == "standardise":
            found.append(Group("standardise", feature.column, 3, 3))
        elif feature.missing == "mean":
            found.append(Group("mean", feature.column, 2, 2))
        if feature.encoding == "quantile-bins":
            found.append(Group("quantiles", feature.column, limits.QUANTILE_CELLS, 1))
    if training.class_weights == "preparation":
        found.append(Group("class-weights", "", 2, 1))
    return tuple(found)


def preparation_norm(groups: Iterable[Group]) -> float:
    """Give the largest L2 norm of one patient's vector."""
    return math.sqrt(sum(group.squared_norm for group in groups))
