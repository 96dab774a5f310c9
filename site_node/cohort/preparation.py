"""What does a patient add to the sum from which the inputs' constants follow?

The vector of `schemas.governance.preparation`: the mean over the patient's training rows, the same
rows that train. It depends on the plan and on that patient alone, and its norm is bounded by the
plan before it is clipped, so nobody weighs more for having more rows or stranger values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.governance.preparation import Group
from schemas.governance.study import StudyPlan
from schemas.limits import QUANTILE_CELLS
from schemas.secagg.quantise import QuantisedUpdate, integer_gradient_sum
from site_node.cohort.rows import Rows, check_complete, numbers, on_range, select_rows

_CHUNK_VALUES: Final = 1 << 21  # of 8 bytes: 16 MiB of rows at a time


def preparation_sum(table: pa.Table, plan: StudyPlan) -> QuantisedUpdate:
    """Sum the vectors of this site's training patients on the integer grid.

    Args:
        table: the store's rows.
        plan: an approved plan with a preparation.

    Returns:
        int64 (words,) whose sensitivity to one patient is at most its integer clip, exactly.

    Raises:
        DataRejected: as from `load_features`.
    """
    terms = plan.sum_terms(0)
    total = np.zeros(terms.words, dtype=np.int64)
    for vectors in patient_vectors(table, plan):
        total += integer_gradient_sum(vectors, terms.clip, terms.integer_clip)
    return QuantisedUpdate(total)


def patient_vectors(table: pa.Table, plan: StudyPlan) -> Iterator[NDArray[np.float64]]:
    """Give the vectors of some training patients after others, float64 (patients, words) each.

    They are not clipped yet, and in order of the patients.

    Raises:
        DataRejected: as from `load_features`.
    """
    rows, columns = _read(table, plan)
    step = max(1, _CHUNK_VALUES // (plan.sum_terms(0).words * plan.training.max_images_per_patient))
    for first in range(0, rows.patients, step):
        yield _vectors(rows, columns, first, min(first + step, rows.patients))


@dataclass(frozen=True, slots=True)
class _Column:
    """What a group needs of each row: u on [-1, 1] or the label, (n,), and where there is one."""

    group: Group
    values: NDArray[np.float64]
    present: NDArray[np.bool_]


def _read(table: pa.Table, plan: StudyPlan) -> tuple[Rows, list[_Column]]:
    rows = select_rows(table, plan, "train")
    features = {feature.column: feature for feature in plan.model.features}
    columns: list[_Column] = []
    for group in plan.preparation_groups:
        if group.use == "class-weights":
            labels = rows.label.astype(np.float64)
            columns.append(_Column(group, labels, np.ones(len(labels), dtype=np.bool_)))
            continue
        feature = features[group.column]
        values, present = numbers(rows.table, group.column)
        check_complete(present, feature)
        columns.append(_Column(group, on_range(values, feature), present))
    return rows, columns


def _vectors(rows: Rows, columns: list[_Column], first: int, behind: int) -> NDArray[np.float64]:
    """Give the vectors of the patients from `first` to before `behind`."""
    bounds = np.searchsorted(rows.patient, np.arange(first, behind + 1))
    part = slice(int(bounds[0]), int(bounds[-1]))
    blocks = [
        _row_words(column.group, column.values[part]) * column.present[part, None]
        for column in columns
    ]
    sums = np.add.reduceat(np.hstack(blocks), bounds[:-1] - bounds[0], axis=0)
    means: NDArray[np.float64] = sums / np.diff(bounds)[:, None]
    return means


def _row_words(group: Group, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give what one row adds to a group, (n, words)."""
    match group.use:
        case "standardise":
            return np.stack([np.ones_like(values), values, values * values], axis=1)
        case "mean":
            return np.stack([np.ones_like(values), values], axis=1)
        case "quantiles":
            cell = np.floor((values + 1.0) / 2.0 * QUANTILE_CELLS).astype(np.int64)
            return np.eye(QUANTILE_CELLS)[np.minimum(cell, QUANTILE_CELLS - 1)]
        case "class-weights":
            return np.stack([values, 1.0 - values], axis=1)
        case _ as never:
            assert_never(never)
