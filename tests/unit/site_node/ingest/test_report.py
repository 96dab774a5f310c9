from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.errors import ErrorCode
from site_node.ingest.report import DeidCounts, IngestReport, SplitCounts
from site_node.report import show_report
from site_node.screen import Screen


def _body(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "study_id": "heart",
        "source": "table",
        "read": 5,
        "stored": 3,
        "quarantined": {"ingest.row_incomplete": 2},
        "data_terms_sha256": "11" * 32,
        "train": SplitCounts(patients=2, rows=2, positive=1, negative=1),
        "test": SplitCounts(patients=1, rows=1, positive=1),
        "findings": (),
        "deid": DeidCounts(records=5, actions={}, refused={}),
        "deid_profile": "ehr-table",
        "deid_profile_sha256": "00" * 32,
        "snapshot": None,
        "seconds": 0.5,
    }
    return {**body, **changes}


def test_a_report_is_canonical_json_and_says_whether_data_were_stored() -> None:
    report = IngestReport(**_body())
    assert json.loads(report.to_json())["read"] == 5 and not report.accepted
    assert IngestReport(**_body(snapshot="ab")).accepted


@pytest.mark.parametrize(
    "change",
    [
        {"read": 6},
        {"quarantined": {}},
        {"label_rows_read": 1},
        {"train": SplitCounts(patients=1, rows=1)},
    ],
)
def test_a_report_whose_counts_do_not_add_up_cannot_be_built(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="add up"):
        IngestReport(**_body(**change))


def test_the_screen_says_what_each_reason_means_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reasons = {"ingest.dicom_face": 1, "ingest.row_malformed": 1}
    show_report(Screen(), IngestReport(**_body(quarantined=reasons)))
    shown = capsys.readouterr().out
    assert ErrorCode.DICOM_FACE_HEAD.meaning in shown and "defacing" in shown
    assert ErrorCode.ROW_MALFORMED.meaning in shown
