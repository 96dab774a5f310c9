"""Which numbers does a stored row give the model?

Nothing here is learned from the rows: ranges, levels, edges and image size come from the plan, or
from the noised sum of the plan's preparation, which every hospital holds and which was paid for.
So a row's features depend on that row and on constants that all hospitals share, and the same row
gives the same features at each of them (PRIVACY-19).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.governance.study import Architecture, Feature, StudyPlan
from schemas.models.scattering import scatter
from schemas.preparation import Prepared
from site_node.cohort.rows import (
    Rows,
    check_complete,
    invalid,
    need,
    numbers,
    on_range,
    select_rows,
)


@dataclass(frozen=True, slots=True)
class Features:
    """Rows of one split, grouped by patient.

    Attributes:
        x: float32, (n, features) for tables and fixed transforms, (n, 1, rows, columns) for images.
        y: (n,) int64, 1 for the positive class.
        patient: (n,) int64, ascending index 0 to patients - 1; a patient's rows lie together.
        patients: number of patients.
        time: (n,) float32, follow-up in the time column's unit; None without a time column.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    patient: NDArray[np.int64]
    patients: int
    time: NDArray[np.float32] | None = None

    def sha256(self) -> str:
        """Hash rows, labels, times and grouping; two different sets of patients differ."""
        digest = hashlib.sha256()
        for part in (self.x, self.y, self.patient, self.time):
            if part is not None:
                digest.update(f"{part.shape}{part.dtype.str}".encode("ascii"))
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def load_features(
    table: pa.Table,
    plan: StudyPlan,
    split: Literal["train", "test"],
    prepared: Prepared | None = None,
) -> Features:
    """Turn the stored rows of one split into features.

    Args:
        table: the store's rows, as `select_rows` takes them.
        plan: the approved plan.
        split: which hold-out group to read.
        prepared: constants from the plan's preparation; needed exactly if it has one.

    Raises:
        DataRejected: as from `select_rows`; or a value is missing where the plan refuses that,
            is not finite, a level is unknown, or an image has another size.
        ProtocolError: PREPARATION_MISSING, the plan has a preparation and none is given.
    """
    if prepared is None:
        prepared = Prepared.none(plan)
    rows = select_rows(table, plan, split)
    if plan.data.source == "dicom":
        images = _images(rows.table, plan.model.image_rows, plan.model.image_columns)
        if plan.model.architecture is Architecture.SCATTERING_LOGISTIC:
            x = scatter(images)
        else:
            x = images[:, None, :, :]
    else:
        x = _tabular(rows.table, plan, prepared)
    return Features(
        x=x,
        y=rows.label,
        patient=rows.patient,
        patients=rows.patients,
        time=_time(rows, plan),
    )


def _time(rows: Rows, plan: StudyPlan) -> NDArray[np.float32] | None:
    if plan.data.time_column is None:
        return None
    values, present = numbers(rows.table, plan.data.time_column)
    if not present.all() or (values < 0).any():
        raise invalid("a time of follow-up is missing or negative")
    of_one_patient = rows.patient[1:] == rows.patient[:-1]
    if (values[1:] != values[:-1])[of_one_patient].any():
        raise invalid("one patient has two times of follow-up")
    return _single(values)


def _tabular(rows: pa.Table, plan: StudyPlan, prepared: Prepared) -> NDArray[np.float32]:
    codes = {column.name: column.codes for column in plan.data.columns}
    x = np.empty((rows.num_rows, plan.model.input_width), dtype=np.float32)
    start = 0
    for feature in plan.model.features:
        place = slice(start, start + feature.width)
        start += feature.width
        if feature.encoding == "one-hot":
            x[:, place] = _one_hot(rows, feature, codes[feature.column])
            continue
        values, present = numbers(rows, feature.column)
        check_complete(present, feature)
        if feature.encoding in ("bins", "quantile-bins"):
            x[:, place] = _binned(values, present, feature, prepared)
        else:
            filler = feature.missing_value
            if feature.missing == "mean":
                filler = prepared.mean(feature.column)
            number = _number(np.where(present, values, filler), feature, prepared)
            x[:, start - 1] = _single(number)
    return x


def _single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32, beyond 3.4e38 to infinity: the patient then adds zeros to a sum.

    No warning, because a log would show it.
    """
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _number(
    values: NDArray[np.float64], feature: Feature, prepared: Prepared
) -> NDArray[np.float64]:
    """Give one model input of each value (n,)."""
    match feature.encoding:
        case "identity":
            return values
        case "scale":
            return on_range(values, feature)
        case "standardise":
            cut = np.clip(values, feature.minimum, feature.maximum)
            centred = cut - prepared.mean(feature.column)
            scaled: NDArray[np.float64] = centred / prepared.scale(feature.column)
            return scaled
        case "bins" | "quantile-bins" | "one-hot":
            raise AssertionError("these give more than one input")
        case _ as never:
            assert_never(never)


def _binned(
    values: NDArray[np.float64],
    present: NDArray[np.bool_],
    feature: Feature,
    prepared: Prepared,
) -> NDArray[np.float64]:
    """Give one column a bin; a value on an edge is in the bin above, a missing one in none."""
    edges = feature.edges
    if feature.encoding == "quantile-bins":
        edges = prepared.edges(feature.column)
    found = np.searchsorted(np.array(edges), values, side="right")
    return _indicators(np.where(present, found, feature.width), feature.width)


def _one_hot(rows: pa.Table, feature: Feature, codes: tuple[str, ...]) -> NDArray[np.float64]:
    """Give one column a level; a code that is no level, and a missing one, is all zeros."""
    need(rows, feature.column)
    cells = rows[feature.column].to_pylist()
    check_complete(np.array([cell is not None for cell in cells], dtype=np.bool_), feature)
    width = feature.width
    place = dict.fromkeys(codes, width) | {level: n for n, level in enumerate(feature.levels)}
    try:
        found = [width if cell is None else place[_code(cell)] for cell in cells]
    except KeyError as error:
        raise invalid("a feature has a level that is not in the plan") from error
    return _indicators(np.array(found, dtype=np.int64), width)


def _indicators(found: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Give a 1 in the column that each row names (n,); the column after the last is none."""
    return np.eye(width + 1)[found][:, :width]


def _code(value: object) -> str:
    """Write a stored code as the plan writes it: 3.0 and 3 are both "3"."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value)


def _images(rows: pa.Table, height: int, width: int) -> NDArray[np.float32]:
    need(rows, "pixels")
    blobs = rows["pixels"].to_pylist()
    if any(blob is None or len(blob) != height * width for blob in blobs):
        raise invalid("an image has another size than the plan says")
    raw = np.frombuffer(b"".join(blobs), dtype=np.uint8).reshape(-1, height, width)
    return (raw / np.float32(255)).astype(np.float32)
