"""Which Arrow table do checked rows become?

Columns: `patient` (pseudonym), `split`, `label` (0 or 1), one for each contract column except the
label, and for images `pixels` (rows x columns bytes, uint8, row by row).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from schemas.governance.study import DataTerms
from schemas.tables.contract import CheckedRow

_TYPES = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "category": pa.string(),
    "boolean": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class StudyRow:
    """Hold one row on its way to the store.

    Attributes:
        patient: pseudonym.
        order: sorts a patient's rows (a line number, or a new SOP Instance UID).
        pointer: where the raw record is, for quarantine.
        checked: the typed cells.
        pixels: rows x columns bytes, or None for a table.
    """

    patient: str
    order: str
    pointer: int
    checked: CheckedRow
    pixels: bytes | None = None


def build_table(data: DataTerms, rows: Sequence[StudyRow]) -> pa.Table:
    """Build the study's table; one row a checked row, in the order given."""
    columns = [column for column in data.columns if column.name != data.label]
    fields = [
        pa.field("patient", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        *(pa.field(c.name, _TYPES[c.kind], nullable=not c.required) for c in columns),
    ]
    arrays = [
        pa.array([row.patient for row in rows], pa.string()),
        pa.array([row.checked.split for row in rows], pa.string()),
        pa.array([row.checked.label for row in rows], pa.int8()),
        *(
            pa.array([row.checked.cells[at] for row in rows], _TYPES[column.kind])
            for at, column in enumerate(columns)
        ),
    ]
    if data.source == "dicom":
        fields.append(pa.field("pixels", pa.binary(), nullable=False))
        arrays.append(pa.array([row.pixels for row in rows], pa.binary()))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
