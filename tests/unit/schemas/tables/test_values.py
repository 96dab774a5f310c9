from __future__ import annotations

import pytest

from schemas.errors import ErrorCode
from schemas.governance.study import Column
from schemas.tables.values import Cell, ValueRefused, is_suspicious, read_value

INTEGER = Column(name="c", kind="integer", minimum=0.0, maximum=120.0)
NUMBER = Column(name="c", kind="number", suspicious=(0.0,))
CATEGORY = Column(name="c", kind="category", codes=("0", "1", "normal"))
BOOLEAN = Column(name="c", kind="boolean")
OPTIONAL = Column(name="c", kind="number", required=False)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        (INTEGER, "63", 63),
        (INTEGER, " 63.0 ", 63),
        (INTEGER, "+63", 63),
        (NUMBER, ".7", 0.7),
        (NUMBER, "-2.6", -2.6),
        (NUMBER, "1e2", 100.0),
        (CATEGORY, "1.0", "1"),
        (CATEGORY, "normal", "normal"),
        (BOOLEAN, "1.0", True),
        (BOOLEAN, "False", False),
        (OPTIONAL, "?", None),
        (OPTIONAL, "", None),
    ],
)
def test_a_cell_is_read(column: Column, text: str, value: Cell) -> None:
    read = read_value(column, text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("column", "text", "code"),
    [
        (INTEGER, "", ErrorCode.ROW_INCOMPLETE),
        (INTEGER, "?", ErrorCode.ROW_INCOMPLETE),
        (INTEGER, "63.5", ErrorCode.VALUE_TYPE),
        (INTEGER, "6_3", ErrorCode.VALUE_TYPE),
        (INTEGER, "٦٣", ErrorCode.VALUE_TYPE),
        (INTEGER, "홍길동", ErrorCode.VALUE_TYPE),
        (INTEGER, "9" * 70, ErrorCode.VALUE_TYPE),
        (INTEGER, "1e300", ErrorCode.VALUE_TYPE),
        (INTEGER, "9007199254740993", ErrorCode.VALUE_TYPE),
        (INTEGER, "121", ErrorCode.VALUE_RANGE),
        (INTEGER, "-1", ErrorCode.VALUE_RANGE),
        (NUMBER, "nan", ErrorCode.VALUE_TYPE),
        (NUMBER, "inf", ErrorCode.VALUE_TYPE),
        (NUMBER, "1e999", ErrorCode.VALUE_TYPE),
        (CATEGORY, "2", ErrorCode.VALUE_CODE_UNKNOWN),
        (CATEGORY, "Normal", ErrorCode.VALUE_CODE_UNKNOWN),
        (BOOLEAN, "yes", ErrorCode.VALUE_TYPE),
        (BOOLEAN, "2", ErrorCode.VALUE_TYPE),
    ],
)
def test_a_cell_is_refused_with_a_code_and_without_its_text(
    column: Column, text: str, code: ErrorCode
) -> None:
    with pytest.raises(ValueRefused) as caught:
        read_value(column, text)
    assert caught.value.code is code
    assert str(caught.value) == code.value


def test_stand_ins_for_missing_are_recognised() -> None:
    assert is_suspicious(NUMBER, 0.0) and not is_suspicious(NUMBER, 1.0)
    assert not is_suspicious(NUMBER, None) and not is_suspicious(CATEGORY, "0")
