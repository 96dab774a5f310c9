from __future__ import annotations

import pytest

from deid import DeidRefusal, DeidReport, Pseudonymiser, shipped_profile
from deid.tabular import TableDeidentifier
from schemas.errors import ErrorCode
from tests.support.forge import SECRET

ROW = {
    "name": "홍길동",
    "rrn": "630412-1234567",
    "chart_no": "K10482213",
    "phone": "010-2345-6789",
    "visit_date": "2024-03-15",
    "note": "홍길동 환자 내원",
    "age": "61",
    "split": "train",
}


def _cleaner(report: DeidReport) -> TableDeidentifier:
    names = Pseudonymiser(SECRET, "heart")
    return TableDeidentifier(shipped_profile("ehr-table"), names, "chart_no", report)


def test_only_listed_columns_pass() -> None:
    report = DeidReport()
    clean = _cleaner(report).clean(ROW)
    assert set(clean) == {"chart_no", "visit_date", "age", "split"}
    assert clean["age"] == "61" and clean["chart_no"].startswith("P")
    assert not any(ROW[c] in repr(clean) for c in ("name", "rrn", "chart_no", "phone", "note"))
    assert report.actions == {"remove": 4, "patient": 1, "shift-date": 1, "keep": 2}
    assert report.records == 1


def test_dates_are_moved_or_dropped_and_never_passed() -> None:
    cleaner = _cleaner(DeidReport())
    assert cleaner.clean(ROW)["visit_date"] not in ("", ROW["visit_date"])
    same = cleaner.clean({**ROW, "visit_date": "2024/03/15"})["visit_date"]
    assert same == cleaner.clean(ROW)["visit_date"]
    assert cleaner.clean({**ROW, "visit_date": "홍길동"})["visit_date"] == ""


def test_a_row_without_patient_is_refused() -> None:
    report = DeidReport()
    with pytest.raises(DeidRefusal) as caught:
        _cleaner(report).clean({**ROW, "chart_no": " "})
    assert caught.value.code is ErrorCode.PATIENT_MISSING
    assert report.refused == {ErrorCode.PATIENT_MISSING: 1}


def test_a_removed_value_in_a_kept_cell_is_refused_without_being_quoted() -> None:
    with pytest.raises(DeidRefusal) as caught:
        _cleaner(DeidReport()).clean({**ROW, "age": "61 010-2345-6789"})
    assert caught.value.code is ErrorCode.IDENTIFIER_LEFT
    assert "2345" not in str(caught.value) and "2345" not in repr(caught.value)


def test_table_and_image_of_one_patient_share_the_pseudonym() -> None:
    names = Pseudonymiser(SECRET, "heart")
    assert _cleaner(DeidReport()).clean(ROW)["chart_no"] == names.patient("K10482213")
