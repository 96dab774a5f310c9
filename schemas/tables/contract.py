"""Does a row of a hospital's extract fulfil the study's data contract, and what is found if not?

Pure: the site counts, this says what counts. A finding is a code, a column of the contract and two
counts, never a value, and stays at the hospital.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from schemas.canonical import Document
from schemas.errors import ErrorCode
from schemas.governance.terms import DataTerms
from schemas.tables.values import MISSING, Cell, ValueRefused, is_suspicious, read_value

Split = Literal["train", "test"]
Count = Annotated[int, Field(ge=0)]


class Severity(StrEnum):
    """Say what a finding did to the records it counts."""

    QUARANTINED = "quarantined"  # the records are not in the store
    WARNING = "warning"  # the records are in the store; a person should look


class Finding(Document):
    """Count one kind of breach in one column; the column is empty where none is meant."""

    code: ErrorCode
    column: str = ""
    severity: Severity
    count: Count
    of: Count  # records looked at


class RowRefused(Exception):
    """A row breaks the contract; holds code and column, never a value."""

    def __init__(self, code: ErrorCode, column: str = "") -> None:
        super().__init__(code.value)
        self.code = code
        self.column = column


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """Hold one row that fulfils the contract.

    Attributes:
        split: "train" or "test".
        label: 1 where the label is one of the plan's positive codes, else 0.
        cells: one typed value for each contract column except the label, in contract order.
        suspicious: columns whose value is on their list of likely stand-ins for "missing".
    """

    split: Split
    label: int
    cells: tuple[Cell, ...]
    suspicious: tuple[str, ...]


def check_header(data: DataTerms, header: Sequence[str]) -> tuple[Finding, ...]:
    """Say which columns the contract needs and the header lacks or repeats; empty if none.

    Optional columns may be absent. A finding here refuses the whole extract.
    """
    optional = {column.name for column in data.columns if not column.required}
    wanted = [data.patient_column, data.split_column, *(column.name for column in data.columns)]
    findings = [
        Finding(
            code=ErrorCode.COLUMN_MISSING if name not in header else ErrorCode.COLUMN_DUPLICATE,
            column=name,
            severity=Severity.QUARANTINED,
            count=1,
            of=1,
        )
        for name in dict.fromkeys(wanted)
        if header.count(name) > 1 or (name not in header and name not in optional)
    ]
    return tuple(findings)


def check_row(data: DataTerms, row: Mapping[str, str]) -> CheckedRow:
    """Read one row under the contract.

    Args:
        data: the plan's data terms.
        row: column name to text.

    Raises:
        RowRefused: the first breach. An incomplete row is named so before anything else, so that
            "missing" and "wrong" are not mixed up.
    """
    for column in data.columns:
        if column.required and row.get(column.name, "").strip() in MISSING:
            raise RowRefused(ErrorCode.ROW_INCOMPLETE, column.name)
    split = row.get(data.split_column, "").strip()
    if split in MISSING:
        raise RowRefused(ErrorCode.ROW_INCOMPLETE, data.split_column)
    cells: list[Cell] = []
    suspicious: list[str] = []
    label = 0
    for column in data.columns:
        try:
            value = read_value(column, row.get(column.name, ""))
        except ValueRefused as refused:
            raise RowRefused(refused.code, column.name) from None
        if column.name == data.label:
            label = int(_as_code(value) in data.label_positive)
            continue
        if is_suspicious(column, value):
            suspicious.append(column.name)
        cells.append(value)
    if split == "train":
        return CheckedRow("train", label, tuple(cells), tuple(suspicious))
    if split == "test":
        return CheckedRow("test", label, tuple(cells), tuple(suspicious))
    raise RowRefused(ErrorCode.SPLIT_UNKNOWN, data.split_column)


def _as_code(value: Cell) -> str:
    """Write a label's value as the plan writes its codes (63 as "63", true as "1")."""
    return str(int(value)) if isinstance(value, bool) else str(value)
