from __future__ import annotations

import pytest

from schemas.errors import ErrorCode
from schemas.governance.study import Column
from schemas.tables import RowRefused, check_header, check_row
from tests.support.forge import table_terms

ROW = {"age": "63.0", "sex": "1", "chol": "233", "ca": "?", "num": "2", "split": "train"}
HEADER = ("chart_no", *ROW)


def test_a_good_row_becomes_typed_cells_without_the_label() -> None:
    checked = check_row(table_terms(), ROW)
    assert checked.cells == (63, "1", 233.0, None)
    assert (checked.split, checked.label, checked.suspicious) == ("train", 1, ())


def test_labels_outside_the_positive_codes_are_zero() -> None:
    assert check_row(table_terms(), {**ROW, "num": "0"}).label == 0


def test_numeric_and_boolean_labels_compare_as_the_plan_writes_them() -> None:
    for kind, text, label in (("integer", "2.0", 1), ("integer", "3", 0), ("boolean", "true", 1)):
        columns = (Column(name="num", kind=kind),)
        positive = ("1",) if kind == "boolean" else ("2",)
        terms = table_terms(columns=columns, label_positive=positive)
        assert check_row(terms, {"num": text, "split": "test"}).label == label


def test_suspicious_values_are_kept_and_named() -> None:
    assert check_row(table_terms(), {**ROW, "chol": "0"}).suspicious == ("chol",)


@pytest.mark.parametrize(
    ("change", "code", "column"),
    [
        ({"chol": ""}, ErrorCode.ROW_INCOMPLETE, "chol"),
        ({"split": ""}, ErrorCode.ROW_INCOMPLETE, "split"),
        ({"chol": "?", "age": "x"}, ErrorCode.ROW_INCOMPLETE, "chol"),
        ({"age": "old"}, ErrorCode.VALUE_TYPE, "age"),
        ({"age": "130"}, ErrorCode.VALUE_RANGE, "age"),
        ({"sex": "2"}, ErrorCode.VALUE_CODE_UNKNOWN, "sex"),
        ({"num": "5"}, ErrorCode.VALUE_CODE_UNKNOWN, "num"),
        ({"split": "val"}, ErrorCode.SPLIT_UNKNOWN, "split"),
    ],
)
def test_a_breach_is_named_by_code_and_column(
    change: dict[str, str], code: ErrorCode, column: str
) -> None:
    with pytest.raises(RowRefused) as caught:
        check_row(table_terms(), {**ROW, **change})
    assert (caught.value.code, caught.value.column) == (code, column)


def test_an_absent_cell_is_a_missing_value() -> None:
    row = {name: text for name, text in ROW.items() if name != "age"}
    with pytest.raises(RowRefused) as caught:
        check_row(table_terms(), row)
    assert caught.value.code is ErrorCode.ROW_INCOMPLETE


def test_a_fitting_header_has_no_finding_and_order_does_not_matter() -> None:
    assert check_header(table_terms(), HEADER) == ()
    assert check_header(table_terms(), (*reversed(HEADER), "note", "note")) == ()


def test_missing_and_repeated_columns_are_found() -> None:
    assert check_header(table_terms(), tuple(c for c in HEADER if c != "ca")) == ()
    for name in ("chart_no", "split", "age", "num"):
        (finding,) = check_header(table_terms(), tuple(c for c in HEADER if c != name))
        assert (finding.code, finding.column) == (ErrorCode.COLUMN_MISSING, name)
        (finding,) = check_header(table_terms(), (*HEADER, name))
        assert (finding.code, finding.column) == (ErrorCode.COLUMN_DUPLICATE, name)
