"""Which stored rows of which patients take part, and what number stands in a column of theirs?

One answer for the preparation and for training: whoever is in one sum is in the others, with the
same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import DataRejected, ErrorCode
from schemas.governance.study import Feature, StudyPlan


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one split, grouped by patient.

    Attributes:
        table: n rows, a patient's together in stored order.
        label: (n,) int64, 1 for the positive class; one value a patient.
        patient: (n,) int64, ascending index 0 to patients - 1.
        patients: number of patients.
    """

    table: pa.Table
    label: NDArray[np.int64]
    patient: NDArray[np.int64]
    patients: int


def select_rows(table: pa.Table, plan: StudyPlan, split: Literal["train", "test"]) -> Rows:
    """Choose the rows of one split.

    Of a patient with more training rows than the plan's cap, the first in stored order are kept:
    the cap is public, and which rows it keeps does not change the privacy guarantee, whose unit
    is the patient. All test rows are kept.

    Args:
        table: the store's rows: patient, split, label and the plan's columns or `pixels`.
        plan: the approved plan.
        split: which hold-out group to read.

    Raises:
        DataRejected: a column is absent, a label is neither 0 nor 1, one patient has two labels,
            or more patients train than the plan has room for in a sum.
    """
    need(table, "split", "patient", "label")
    rows = table.filter(pc.equal(table["split"], split))
    names, patient = np.unique(
        np.array(rows["patient"].to_pylist(), dtype=object).astype(str), return_inverse=True
    )
    order = np.argsort(patient, kind="stable")
    if split == "train":
        if len(names) > plan.training.maximum_patients:
            # A sum could leave its 32 bits, and whether it does would tell of the patients.
            raise invalid("there are more training patients than the plan allows")
        order = _cap_rows(order, patient, plan.training.max_images_per_patient)
    rows, patient = rows.take(pa.array(order)), patient[order].astype(np.int64)
    labels = _labels(rows)
    _check_one_label(labels, patient, len(names))
    return Rows(rows, labels, patient, len(names))


def numbers(rows: pa.Table, column: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read a column of numbers: values (n,), and where there is one (n,); 0 where there is none.

    Raises:
        DataRejected: the column is absent, or holds what is not a finite number.
    """
    need(rows, column)
    cells = rows[column].to_pylist()
    present = np.array([cell is not None for cell in cells], dtype=np.bool_)
    try:
        values = np.array([0.0 if cell is None else cell for cell in cells], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise invalid("a feature is not a number") from error
    if not np.isfinite(values).all():
        raise invalid("a feature is not finite")
    return values, present


def on_range(values: NDArray[np.float64], feature: Feature) -> NDArray[np.float64]:
    """Give 2 (v - minimum) / (maximum - minimum) - 1, cut to [-1, 1], of values (n,).

    A value near 1e308 is cut as any other beyond the range, without a warning: a log would show it.
    """
    span = feature.maximum - feature.minimum
    with np.errstate(over="ignore"):
        return np.clip(2.0 * (values - feature.minimum) / span - 1.0, -1.0, 1.0)


def check_complete(present: NDArray[np.bool_], feature: Feature) -> None:
    """Refuse a missing value where the plan says so.

    Raises:
        DataRejected: FEATURES_INVALID.
    """
    if feature.missing == "refuse" and not present.all():
        raise invalid("a feature has a missing value")


def need(table: pa.Table, *names: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        DataRejected: FEATURES_INVALID.
    """
    if any(name not in table.column_names for name in names):
        raise invalid("a column is absent")


def invalid(reason: str) -> DataRejected:
    """Say what is wrong with the stored rows, without a value of theirs."""
    return DataRejected(
        ErrorCode.FEATURES_INVALID,
        f"The stored rows do not give the study's features: {reason}.",
        hint="Ingest the extract again and read its report.",
    )


def _cap_rows(order: NDArray[np.int64], patient: NDArray[np.int64], cap: int) -> NDArray[np.int64]:
    grouped = patient[order]
    first = np.searchsorted(grouped, grouped, side="left")
    return order[np.arange(len(order)) - first < cap]


def _labels(rows: pa.Table) -> NDArray[np.int64]:
    values = np.array(rows["label"].to_pylist(), dtype=object)
    if not np.isin(values, (0, 1)).all():
        raise invalid("a label is neither 0 nor 1")
    return values.astype(np.int64)


def _check_one_label(labels: NDArray[np.int64], patient: NDArray[np.int64], patients: int) -> None:
    positives = np.bincount(patient, weights=labels, minlength=patients)
    counts = np.bincount(patient, minlength=patients)
    if not np.logical_or(positives == 0, positives == counts).all():
        raise invalid("one patient has two labels")
