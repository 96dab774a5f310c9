"""Which numbers does a stored row give the model?

Nothing here is learned from the rows: ranges, levels and image size come from the plan, so that
scaling spends no privacy budget and is the same at every hospital.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import DataRejected, ErrorCode
from schemas.governance.study import Architecture, Feature, StudyPlan
from schemas.models.scattering import scatter


@dataclass(frozen=True, slots=True)
class Features:
    """Rows of one split, grouped by patient.

    Attributes:
        x: float32, (n, features) for tables and fixed transforms, (n, 1, rows, columns) for images.
        y: (n,) int64, 1 for the positive class.
        patient: (n,) int64, ascending index 0 to patients - 1; a patient's rows lie together.
        patients: number of patients.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    patient: NDArray[np.int64]
    patients: int

    def sha256(self) -> str:
        """Hash rows, labels and grouping; two different sets of patients differ."""
        digest = hashlib.sha256()
        for part in (self.x, self.y, self.patient):
            digest.update(f"{part.shape}{part.dtype.str}".encode("ascii"))
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def load_features(table: pa.Table, plan: StudyPlan, split: Literal["train", "test"]) -> Features:
    """Turn the stored rows of one split into features.

    Of a patient with more training images than the plan's cap, the first in stored order are
    kept: the cap is public, and which images it keeps does not change the privacy guarantee,
    whose unit is the patient. All test rows are kept.

    Args:
        table: the store's rows: patient, split, label and the plan's columns or `pixels`.
        plan: the approved plan.
        split: which hold-out group to read.

    Raises:
        DataRejected: a column is absent, a value is missing or not finite, a level is unknown, an
            image has another size, one patient has two labels, or more patients train than the
            plan has room for in a sum.
    """
    _need(table, "split", "patient", "label")
    rows = table.filter(pc.equal(table["split"], split))
    names, patient = np.unique(
        np.array(rows["patient"].to_pylist(), dtype=object).astype(str), return_inverse=True
    )
    order = np.argsort(patient, kind="stable")
    if split == "train":
        if len(names) > plan.training.maximum_patients:
            # A sum could leave its 32 bits, and whether it does would tell of the patients.
            raise _invalid("there are more training patients than the plan allows")
        order = _cap_rows(order, patient, plan.training.max_images_per_patient)
    rows, patient = rows.take(pa.array(order)), patient[order].astype(np.int64)
    labels = _labels(rows)
    _check_one_label(labels, patient, len(names))
    if plan.data.source == "dicom":
        images = _images(rows, plan.model.image_rows, plan.model.image_columns)
        if plan.model.architecture is Architecture.SCATTERING_LOGISTIC:
            x = scatter(images)
        else:
            x = images[:, None, :, :]
    else:
        x = _tabular(rows, plan)
    return Features(x=x, y=labels, patient=patient, patients=len(names))


def _cap_rows(order: NDArray[np.int64], patient: NDArray[np.int64], cap: int) -> NDArray[np.int64]:
    grouped = patient[order]
    first = np.searchsorted(grouped, grouped, side="left")
    return order[np.arange(len(order)) - first < cap]


def _labels(rows: pa.Table) -> NDArray[np.int64]:
    values = np.array(rows["label"].to_pylist(), dtype=object)
    if not np.isin(values, (0, 1)).all():
        raise _invalid("a label is neither 0 nor 1")
    return values.astype(np.int64)


def _check_one_label(labels: NDArray[np.int64], patient: NDArray[np.int64], patients: int) -> None:
    positives = np.bincount(patient, weights=labels, minlength=patients)
    counts = np.bincount(patient, minlength=patients)
    if not np.logical_or(positives == 0, positives == counts).all():
        raise _invalid("one patient has two labels")


def _tabular(rows: pa.Table, plan: StudyPlan) -> NDArray[np.float32]:
    codes = {column.name: column.codes for column in plan.data.columns}
    x = np.empty((rows.num_rows, plan.model.input_width), dtype=np.float32)
    start = 0
    for feature in plan.model.features:
        _need(rows, feature.column)
        column = rows[feature.column]
        if column.null_count:
            raise _invalid("a feature has a missing value")
        values = column.to_pylist()
        if feature.encoding == "one-hot":
            x[:, start : start + feature.width] = _one_hot(values, feature, codes[feature.column])
        else:
            x[:, start] = _number(values, feature)
        start += feature.width
    return x


def _number(values: list[object], feature: Feature) -> NDArray[np.float64]:
    """Give the number itself, or for "scale" 2 (v - min) / (max - min) - 1 cut to [-1, 1]."""
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _invalid("a feature is not a number") from error
    if not np.isfinite(numbers).all():
        raise _invalid("a feature is not finite")
    if feature.encoding == "identity":
        return numbers
    span = feature.maximum - feature.minimum
    return np.clip(2.0 * (numbers - feature.minimum) / span - 1.0, -1.0, 1.0)


def _one_hot(values: list[object], feature: Feature, codes: tuple[str, ...]) -> NDArray[np.float64]:
    """Give one column per level; a code of the contract that is no level is all zeros."""
    width = feature.width
    place = dict.fromkeys(codes, width) | {level: n for n, level in enumerate(feature.levels)}
    try:
        found = np.array([place[_code(value)] for value in values], dtype=np.int64)
    except KeyError as error:
        raise _invalid("a feature has a level that is not in the plan") from error
    return np.eye(width + 1)[found][:, :width]


def _code(value: object) -> str:
    """Write a stored code as the plan writes it: 3.0 and 3 are both "3"."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value)


def _images(rows: pa.Table, height: int, width: int) -> NDArray[np.float32]:
    _need(rows, "pixels")
    blobs = rows["pixels"].to_pylist()
    if any(blob is None or len(blob) != height * width for blob in blobs):
        raise _invalid("an image has another size than the plan says")
    raw = np.frombuffer(b"".join(blobs), dtype=np.uint8).reshape(-1, height, width)
    return (raw / np.float32(255)).astype(np.float32)


def _need(table: pa.Table, *names: str) -> None:
    if any(name not in table.column_names for name in names):
        raise _invalid("a column is absent")


def _invalid(reason: str) -> DataRejected:
    return DataRejected(
        ErrorCode.FEATURES_INVALID,
        f"The stored rows do not give the study's features: {reason}.",
        hint="Ingest the extract again and read its report.",
    )
