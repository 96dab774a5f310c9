"""Which value does a cell's text stand for under the contract, or why is it refused?

Reading is exact and small: a text is a value of its column or it is refused with a code. Hospitals
write the same number as ``63`` and ``63.0``; both are the integer 63 and the code "63".

| text | integer | number | category with code "1" | boolean |
| --- | --- | --- | --- | --- |
| "", "?" | missing | missing | missing | missing |
| "1", "1.0", "+1" | 1 | 1.0 | "1" | true |
| "1.5" | refused | 1.5 | refused | refused |
| "nan", "inf", "1e999", "1_0" | refused | refused | refused | refused |
"""

from __future__ import annotations

import math
import re

from schemas.errors import ErrorCode
from schemas.governance.terms import Column

Cell = int | float | str | bool | None
MISSING = frozenset({"", "?"})  # the empty cell, and UCI's mark
MAX_CELL_CHARACTERS = 64  # no number or code is longer; free text cannot be read as a value
MAX_INTEGER = 2**53 - 1  # beyond it JSON and float64 lose integers
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_BOOLEANS = {"0": False, "false": False, "1": True, "true": True}


class ValueRefused(ValueError):
    """A cell's text is not a value of its column; holds the code, never the text."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.value)
        self.code = code


def read_value(column: Column, text: str) -> Cell:
    """Read one cell.

    Args:
        column: the contract's column.
        text: the cell as it stands in the extract.

    Returns:
        The typed value, or None where the cell is empty and the column optional.

    Raises:
        ValueRefused: missing though required (ROW_INCOMPLETE), not of the type (VALUE_TYPE), not a
            code of the column (VALUE_CODE_UNKNOWN), or outside its range (VALUE_RANGE).
    """
    text = text.strip()
    if text in MISSING:
        if column.required:
            raise ValueRefused(ErrorCode.ROW_INCOMPLETE)
        return None
    if len(text) > MAX_CELL_CHARACTERS:
        raise ValueRefused(ErrorCode.VALUE_TYPE)
    match column.kind:
        case "category":
            return _code(column, text)
        case "boolean":
            truth = _BOOLEANS.get((_integral(text) or text).lower())
            if truth is None:
                raise ValueRefused(ErrorCode.VALUE_TYPE)
            return truth
        case "integer":
            integral = _integral(text)
            if integral is None or abs(int(integral)) > MAX_INTEGER:
                raise ValueRefused(ErrorCode.VALUE_TYPE)
            _check_range(column, int(integral))
            return int(integral)
        case "number":
            number = _number(text)
            _check_range(column, number)
            return number


def is_suspicious(column: Column, value: Cell) -> bool:
    """Tell whether a value is one the contract calls a likely stand-in for "missing"."""
    return isinstance(value, (int, float)) and float(value) in column.suspicious


def _code(column: Column, text: str) -> str:
    if text in column.codes:
        return text
    integral = _integral(text)
    if integral is not None and integral in column.codes:
        return integral
    raise ValueRefused(ErrorCode.VALUE_CODE_UNKNOWN)


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise ValueRefused(ErrorCode.VALUE_TYPE)
    number = float(text)
    if not math.isfinite(number):
        raise ValueRefused(ErrorCode.VALUE_TYPE)
    return number


def _integral(text: str) -> str | None:
    """Give the plain decimal of an integral number ("63.0" gives "63"), or None."""
    if _NUMBER.fullmatch(text) is None:
        return None
    if text.lstrip("+-").isdigit():
        return str(int(text))
    number = float(text)
    if not number.is_integer() or abs(number) > MAX_INTEGER:
        return None
    return str(int(number))


def _check_range(column: Column, number: float) -> None:
    if (column.minimum is not None and number < column.minimum) or (
        column.maximum is not None and number > column.maximum
    ):
        raise ValueRefused(ErrorCode.VALUE_RANGE)
