"""What must a hospital's table hold, and how is a breach of it named? (public API)"""

from __future__ import annotations

from schemas.tables.contract import (
    CheckedRow,
    Finding,
    RowRefused,
    Severity,
    check_header,
    check_row,
)
from schemas.tables.values import Cell, ValueRefused, read_value

__all__ = [
    "Cell",
    "CheckedRow",
    "Finding",
    "RowRefused",
    "Severity",
    "ValueRefused",
    "check_header",
    "check_row",
    "read_value",
]
